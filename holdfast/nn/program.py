"""A stack of layers as one program: every kernel, and every copy between them, in one call.

What a pass looks up, checks and allocates on the way to its kernels is done once, for one T and B;
what is left for a call are the addresses of its tensors.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from holdfast.compiler import threads
from holdfast.compiler.build import runner
from holdfast.compiler.cell import Cell
from holdfast.compiler.emit.llvm_forward import STRIDE
from holdfast.compiler.emit.llvm_program import (
    CHECK,
    COPY,
    HEAD,
    LOAD,
    PART,
    PLACE,
    SET,
    SPREAD,
    WHOLE,
    WIDTH,
    ZERO,
)
from holdfast.compiler.emit.llvm_team import COUNTER
from holdfast.compiler.noise import Noise
from holdfast.errors import UnpreparedError
from holdfast.nn import passes
from holdfast.nn.kept import Weights
from holdfast.nn.layout import Layout
from holdfast.nn.packing import pack_forward
from holdfast.nn.untie import untie

if TYPE_CHECKING:
    from holdfast.nn.recurrent import Recurrent

X, OUT, LAST = range(3)
"""Bases of a program: the input, the output, then the last states one by one; behind them, where
initial states are given, those, and at the end memory of `scratch` bytes, where it is not 0."""

_LINE = 64
"""Bytes that memory begins at a multiple of."""

Source = int | tuple[int, int]
"""A number, or a base and a distance from it in bytes."""


@dataclass(frozen=True, eq=False)
class Part:
    """One layer and direction: its cell, the parameters by the cell's names, and whether it reads
    from the last step to the first; `width` is that of h."""

    cell: Cell
    parameters: Mapping[str, Tensor]
    features: int
    width: int
    backward: bool = False
    table: Tensor | None = None
    """Of masks that are numbers and not random, as those of zoneout in evaluation."""
    narrow: str = ""
    """How W and R are stored: as `passes.Call.narrow`."""

    def call(self, steps: int, batch: int) -> passes.Call:
        """A pass of it over tensors that have no memory."""
        weight = next(iter(self.parameters.values()))
        nothing = weight.detach().new_zeros(())
        hidden = self.cell.measure(self.parameters)[1]
        states = [nothing.expand(batch, hidden) for _ in self.cell.states]
        layout = Layout(steps, batch, steps * batch, descending=self.backward)
        x = nothing.expand(steps, batch, self.features)
        h = nothing.expand(batch, self.width)
        noise = None
        if self.table is not None:
            noise = Noise(torch.zeros(batch, dtype=torch.int64, device="cpu"), self.table)
        arguments = (self.cell, x, h, states, self.parameters, layout)
        return passes.Call(*arguments, noise=noise, narrow=self.narrow)


class Packed:
    """Packed weights, and the array in which programs find them."""

    def __init__(self, held: object, array: ctypes.Array[ctypes.c_int64]) -> None:
        self._held = (held, array)
        self.address = ctypes.addressof(array)


def parts(layer: Recurrent, training: bool, narrow: str = "") -> list[Part]:
    """What a layer runs in evaluation or in training.

    Arguments:
        narrow: how W and R are stored, as `passes.Call.narrow`.

    Errors: `UnpreparedError` with the reason why it cannot be one program.
    """
    mode, sizes, options = layer._modes[training], layer._sizes, layer.options
    for obstacle, name in (
        (mode.random, "random masks"),
        (training and layer.dropout and layer.num_layers > 1, "dropout between layers"),
        (mode.cell.inputs, "what steps are given unit by unit"),
        (mode.cell.operand, "a mask on the previous h"),
        (options.residual or options.highway, "residual and highway ways"),
        (sizes.summed, "directions that are added"),
        (not sizes.equal, "layers of different sizes"),
    ):
        if obstacle:
            raise UnpreparedError(f"{name} are not a part of programs")
    found = []
    for index in range(len(layer._described.cells)):
        number, side = divmod(index, sizes.directions)
        own = untie(mode.cell, layer._parameters_at(index), sizes.hidden[number])
        features, width = sizes.features(number), sizes.width(number)
        found.append(Part(mode.cell, own, features, width, side == 1, mode.table, narrow))
    return found


class Program:
    """A stack over T steps of B rows, ready to run.

    >>> import torch
    >>> from holdfast.cells import rnn
    >>> weights = {name: torch.rand(shape) for name, shape in rnn.shapes(3, 5).items()}
    >>> program = Program([Part(rnn, weights, features=3, width=5)], 1, steps=7, batch=4)
    >>> x, out, h = torch.rand(7, 4, 3), torch.empty(7, 4, 5), torch.empty(1, 4, 5)
    >>> packed = program.pack()
    >>> program(packed, x.data_ptr(), out.data_ptr(), h.data_ptr()), bool((out[-1] == h[0]).all())
    (True, True)

    Many threads can run it at the same time.

    Arguments:
        parts: every layer, and within it every direction.
        directions: 1 or 2.
        given: initial states are bases, too; else they are zeros.
        weights: what must have the digest that it had when `pack` was called.

    Errors: `UnpreparedError` for cells whose kernels need more than a program knows.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        directions: int,
        steps: int,
        batch: int,
        given: bool = False,
        weights: Weights | None = None,
    ) -> None:
        self._parts = parts
        self._two = directions == 2
        self._steps, self._batch = steps, batch
        self._states = parts[0].cell.states
        self._first = LAST + 1 + len(self._states)
        self._memory = self._first + (1 + len(self._states) if given else 0)
        self._given = given
        self._weights = weights
        self._program: list[int] = []
        self._places = 0
        self.scratch = 0
        self.threads = 1
        self._held: list[object] = []
        self._packs: list[tuple[passes.Call, passes.Chosen]] = []
        self._loaded = 1
        if weights is not None:
            self._step(CHECK, 0, *weights.check)
        self._write()
        count = len(self._program)
        self._code = (ctypes.c_int64 * count)(*self._program)
        self._address = ctypes.addressof(self._code)
        self._count = count // WIDTH
        self._bases = self._memory + bool(self.scratch)
        self._form = struct.Struct(f"{len(HEAD) + self._bases}q").pack
        self._run = runner()

    def pack(self) -> Packed:
        """The weights as they are now, in the order in which the kernels read them."""
        digest = 0 if self._weights is None else self._weights.digest()
        found = [passes.packed(call, chosen, pack_forward) for call, chosen in self._packs]
        values = [digest, *(one.data_ptr() for part in found for one in part.values())]
        return Packed(found, (ctypes.c_int64 * len(values))(*values))

    def __call__(self, packed: Packed, *bases: int) -> bool:
        """Run on tensors at these addresses, see `X`, `OUT` and `LAST`; False where the weights are
        not those that were packed."""
        places = self._places
        return not self._run(self._form(self._address, self._count, packed.address, places, *bases))

    def bind(self, packed: Packed, *bases: int) -> ctypes.Array[ctypes.c_int64]:
        """A call that can be made many times, by `runner` with the address of this array; from
        element `len(HEAD)` on it holds the bases, and may be written to."""
        head = (self._address, self._count, packed.address, self._places)
        return (ctypes.c_int64 * (len(head) + self._bases))(*head, *bases)

    def _write(self) -> None:
        """Every layer, the outputs between two of them in either of two places."""
        count = 2 if self._two else 1
        layers = [self._parts[n : n + count] for n in range(0, len(self._parts), count)]
        item = next(iter(self._parts[0].parameters.values())).element_size()
        rows = self._steps * self._batch
        between = [rows * item * sum(part.width for part in layer) for layer in layers[:-1]]
        places = [self._room(max(between[n::2], default=0)) for n in (0, 1)]
        widest = max(part.width for part in self._parts) if self._two else 0
        sides = [self._room(rows * item * widest) for _ in (0, 1)]
        before: tuple[int, int] = (X, 0)
        for number, layer in enumerate(layers):
            final = number == len(layers) - 1
            after = (OUT, 0) if final else (self._memory, places[number % 2])
            for side, part in enumerate(layer):
                out = (self._memory, sides[side]) if self._two else after
                self._pass(number * count + side, part, before, out, item)
                if self._two:
                    start = (after[0], after[1] + side * part.width * item)
                    size = part.width * item
                    self._step(SPREAD, self._at(start), self._at(out), size, rows, 2 * size)
            before = after

    def _pass(
        self, index: int, part: Part, x: tuple[int, int], out: tuple[int, int], item: int
    ) -> None:
        """One layer and direction, with its states."""
        call = part.call(self._steps, self._batch)
        mode = "step" if self._steps == 1 else "infer"
        chosen = passes.prepare(mode, call)
        size = self._batch * item
        states = size * chosen.sizes.hidden
        values: dict[str, Source] = {"x": x, "out": out, STRIDE: part.width}
        values["h_first"] = self._h_first(index, size * part.width)
        for n, name in enumerate(self._states, 1):
            values[f"state {name}"] = mine = (LAST + n, index * states)
            place = self._at(mine)
            if self._given:
                self._step(COPY, place, self._at((self._first + n, index * states)), states)
            else:
                self._step(ZERO, place, states)
        self._kernel(call, chosen, values, item)
        final = 0 if part.backward else (self._steps - 1) * size * part.width
        last = self._at((LAST, index * size * part.width))
        self._step(COPY, last, self._at((out[0], out[1] + final)), size * part.width)

    def _h_first(self, index: int, size: int) -> Source:
        if self._given:
            return self._first, index * size
        zeros = torch.zeros(size, dtype=torch.uint8, device="cpu")
        self._held.append(zeros)
        return zeros.data_ptr()

    def _kernel(
        self, call: passes.Call, chosen: passes.Chosen, values: dict[str, Source], item: int
    ) -> None:
        """The slots of one kernel, and the call of it."""
        buffers = passes.noise_buffers(call)
        self._held.append(buffers)
        for name, one in buffers.items():
            values[name] = one if isinstance(one, int) else one.data_ptr()
        packed = list(passes.packed(call, chosen, pack_forward))
        loaded = {name: self._loaded + number for number, name in enumerate(packed)}
        self._packs.append((call, chosen))
        self._loaded += len(packed)
        team = passes.forward_team(call, chosen)
        if team.count > 1 and threads.pool() != "openmp":
            team = threads.Team(1)
        for name, count in passes.working_memory(chosen, self._batch, team.count).items():
            values[name] = (self._memory, self._room(count * item))
        self.threads = max(self.threads, team.count)
        values |= call.layout.sizes(team, None)
        if team.by_block:
            values["arrived"] = counter = (self._memory, self._room(8 * COUNTER))
            self._step(ZERO, self._at(counter), 8 * COUNTER)
        values["threads"] = team.count
        missing = [name for name in chosen.kernel.slots if name not in (values | loaded)]
        if missing:
            cell = call.cell.name
            raise UnpreparedError(f"a program has no {', '.join(missing)} for the cell {cell}")
        start = self._places
        for name in chosen.kernel.slots:
            if name in loaded:
                self._step(LOAD, self._place(), loaded[name])
            else:
                self._at(values[name])
        part, whole = chosen.kernel.addresses
        alone = team.count == 1
        self._step(PART if alone else WHOLE, start, part if alone else whole)

    def _at(self, source: Source) -> int:
        """A new place of the frame with that value."""
        place = self._place()
        if isinstance(source, int):
            self._step(SET, place, source)
        else:
            self._step(PLACE, place, *source)
        return place

    def _place(self) -> int:
        self._places += 1
        return self._places - 1

    def _step(self, *numbers: int) -> None:
        self._program += [*numbers, *(0 for _ in range(WIDTH - len(numbers)))]

    def _room(self, size: int) -> int:
        """Where `size` bytes of the call's own memory begin."""
        start = self.scratch
        self.scratch += -(-size // _LINE) * _LINE
        return start

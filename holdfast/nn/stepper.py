"""A layer run step by step, its states carried along: for streams, outside of autograd."""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from holdfast.compiler.build import runner
from holdfast.compiler.emit.llvm_program import HEAD
from holdfast.errors import UnpreparedError
from holdfast.nn import checks, operators
from holdfast.nn.program import OUT, Part, Program, X, parts
from holdfast.nn.sizes import each

if TYPE_CHECKING:
    from holdfast.nn.recurrent import Recurrent

NARROW = {"bf16": "bfloat16", "int8": "int8"}
"""Precisions that weights can be stored in, and the formats of kernels."""

_MOST = 16
"""Lengths of chunks for which programs are kept."""
_POOL = 64
"""Outputs for NumPy that are made at a time, where they are small."""
_POOL_BYTES = 1 << 16
_INPUT, _OUTPUT = len(HEAD) + X, len(HEAD) + OUT


class Stepper:
    """Streams through a layer: give it an input, get the output; the states stay inside.

    >>> from holdfast.nn import LSTM
    >>> stepper = LSTM(3, 5).stepper(batch=2)
    >>> out = stepper(torch.randn(2, 3))  # [B, I]
    >>> out = stepper(torch.randn(2, 3))
    >>> h, c = stepper.state
    >>> tuple(out.shape), tuple(h.shape), bool((h[-1] == out).all())
    ((2, 5), (1, 2, 5), True)

    The layer runs as in evaluation, with the weights that it had when the stepper was made or last
    refreshed; nothing is recorded for gradients. Outputs are those of the layer fed step by step,
    bit for bit. A stepper is for one thread at a time; `copy()` makes another.

    Where few streams wait for their weights, these can be kept in fewer bits: see `accuracy`.

    Arguments:
        layer: a `Recurrent` that is not bidirectional.
        batch: B, the number of streams; None for a single one without that dimension.
        precision: None for the layer's own, or how W and R are stored: `bf16` (2 bytes a number) or
            `int8` (1 byte, and a scale for each unit and gate); the sums are float32.

    Errors: `ValueError` for a bidirectional layer, a batch below 1, another precision, and one for
    a layer that is not float32 or not compiled.
    """

    def __init__(
        self, layer: Recurrent, batch: int | None = 1, precision: str | None = None
    ) -> None:
        if layer.bidirectional:
            raise ValueError(
                "stepper: a bidirectional layer has no output before its last step, because its "
                "backward direction begins there; run it over whole sequences, or take "
                "bidirectional=False"
            )
        if batch is not None:
            checks.check_size("batch", batch)
        if precision is not None and precision not in NARROW:
            raise ValueError(
                f"stepper: expected a precision of None, {' or '.join(NARROW)}, got {precision!r}"
            )
        self.precision = precision
        self.layer = layer
        self.batch = batch
        self._rows = 1 if batch is None else batch
        self._run = runner()
        self._turn = 0
        self._chunks: dict[int, Program] = {}
        self._pool: list[tuple[np.ndarray[Any, Any], int]] = []
        self._states: list[tuple[Any, ...]] = []
        self.refresh()

    def refresh(self) -> None:
        """Take over the weights that the layer has now, also changed ones; the states stay."""
        layer = self.layer
        weight = next(layer.parameters()).detach()
        self.dtype = weight.dtype
        lead = () if self.batch is None else (self.batch,)
        self._shape = torch.Size((*lead, layer.input_size))
        out = (*lead, layer._sizes.out(layer.num_layers - 1))
        with torch.inference_mode(False), torch.no_grad():
            self._like = torch.empty(out, dtype=self.dtype, device=weight.device)
            self._starts = _starts(layer, self._rows)
            carried = self._carried() if self._states else self._starts
            self._states = [
                each(carried, lambda state: state.to(weight, copy=True)) for _ in (0, 1)
            ]
            self._pack()

    def _pack(self) -> None:
        """Make the weights ready: packed for a program, or as a layer of their own."""
        self._chunks.clear()
        self._pool.clear()
        self._whole: Recurrent | None = None
        try:
            narrow = NARROW[self.precision] if self.precision else ""
            self._parts, self.backend_reason = _parts(self.layer, narrow)
            if self._parts is not None:
                self._program = self._chunk(1)
                self._packed = self._program.pack()
                self._bind()
                return
        except UnpreparedError as error:
            self._parts, self.backend_reason = None, str(error)
        if self.precision:
            raise ValueError(
                f"stepper: weights of {self.precision} need a compiled program, and there is none: "
                f"{self.backend_reason}"
            )
        self._whole = copy.deepcopy(self.layer).eval().requires_grad_(False)

    @property
    def backend(self) -> str:
        """`llvm` where one compiled program runs all layers, `layer` where a copy of it runs."""
        return "layer" if self._parts is None else "llvm"

    def __call__(self, x: Any, extra: Mapping[str, Tensor] | None = None) -> Any:
        """The output of the last layer, `[B, H]` (`[H]` for a batch of None), for the next input.

        Arguments:
            x: `[B, I]` (`[I]` for a batch of None), a tensor or an array of NumPy; the output is of
                the same kind.
            extra: the sequences that the cell declares as `inputs`, by name: `[B]`, `[B, 1]` or
                `[B, H]`.

        Errors: `TypeError` for another kind, `ValueError` for another dtype, `RuntimeError` for
        another shape or device.
        """
        turn = self._turn
        if type(x) is Tensor and self._whole is None and extra is None:
            if x.shape != self._shape or x.dtype is not self.dtype or not x.is_cpu or x.is_neg():
                x = self._admit(x, self._shape)
            out = torch.empty_like(self._like)
            call, place = self._calls[turn]
            x = x.contiguous()
            call[_INPUT] = x.data_ptr()
            call[_OUTPUT] = out.data_ptr()
            self._run(place)
            self._turn = 1 - turn
            return out
        if type(x) is np.ndarray and self._whole is None and extra is None:
            if x.shape != self._shape or x.dtype != self._array.dtype:
                self._admit(torch.as_tensor(x), self._shape)
            self._array[...] = x
            array, target = self._pool.pop() if self._pool else self._more()
            call, place = self._calls[turn]
            call[_INPUT] = self._array_place
            call[_OUTPUT] = target
            self._run(place)
            self._turn = 1 - turn
            return array
        return self._step(x, extra)

    def run(self, x: Any) -> Any:
        """The outputs of the steps of a chunk, whose states go on.

        >>> from holdfast.nn import GRU
        >>> stepper = GRU(3, 5).stepper(batch=2)
        >>> tuple(stepper.run(torch.randn(7, 2, 3)).shape)
        (7, 2, 5)

        Arguments:
            x: as the layer's input: `[T, B, I]`, `[B, T, I]` with `batch_first`, `[T, I]` for a
                batch of None; a tensor or an array of NumPy.
        """
        given, x = x, torch.as_tensor(x)
        turned = self.layer.batch_first and self.batch is not None
        if x.dim() != len(self._shape) + 1:
            raise RuntimeError(f"run: expected {len(self._shape) + 1} dimensions, got {x.dim()}")
        steps = x.shape[turned]
        wanted = [steps, *self._shape]
        if turned:
            wanted[:2] = wanted[1::-1]
        x = self._admit(x, torch.Size(wanted))
        if steps == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        if self._whole is not None:
            out = self._through(x, None)
        else:
            out = self._through_program(x.transpose(0, 1) if turned else x)
            out = out.transpose(0, 1) if turned else out
        return out.numpy() if isinstance(given, np.ndarray) else out

    def accuracy(self, x: Any) -> dict[str, float]:
        """How far the outputs are from those of the layer's own weights, on a sequence.

        >>> from holdfast.nn import LSTM
        >>> found = LSTM(3, 5).stepper(precision="bf16").accuracy(torch.randn(50, 1, 3))
        >>> sorted(found), found["largest"] < 0.01
        (['largest', 'mean', 'relative'], True)

        Both begin anew, so the present states matter neither here nor later. The largest distance,
        the mean one, and the root of the mean square of the distances over that of the outputs.

        Arguments:
            x: as for `run`; take what the layer will see.
        """
        exact = type(self)(self.layer, self.batch)
        mine = self.copy()
        mine.reset()
        wanted, found = (torch.as_tensor(one.run(x)).double() for one in (exact, mine))
        distance = (found - wanted).abs()
        size = wanted.square().mean().sqrt().clamp(min=torch.finfo(torch.float64).tiny)
        return {
            "largest": float(distance.max()),
            "mean": float(distance.mean()),
            "relative": float(distance.square().mean().sqrt() / size),
        }

    @property
    def state(self) -> Any:
        """The states in the form in which the layer takes and returns them, as copies.

        What is assigned is copied in.
        """
        found = each(self._carried(), Tensor.clone)
        if self.batch is None:
            found = each(found, lambda state: state.squeeze(1))
        return found if self.layer.cell.states else found[0]

    @state.setter
    def state(self, hx: Any) -> None:
        layer, batched = self.layer, self.batch is not None
        layers = 0 if layer._sizes.equal else layer.num_layers
        given = checks.as_states("Stepper", hx, layer.cell.states, layers)
        checks.check_state_dims(given, batched=batched)
        if not batched:
            given = each(given, lambda state: state.unsqueeze(1))
        shapes = layer._sizes.states(len(layer.cell.states), self._rows)
        checks.check_states(given, shapes, self._like, casts=False)
        self._put(given)

    def reset(self, rows: int | Sequence[int] | Tensor | None = None) -> None:
        """Begin anew: zeros, or the learned start.

        Arguments:
            rows: which streams, as numbers or as a mask `[B]` of bool; None for all.
        """
        if rows is None:
            self._put(self._starts)
            return
        index = torch.as_tensor(rows)
        pairs = zip(_flat(self._carried()), _flat(self._starts), strict=True)
        with torch.inference_mode(False), torch.no_grad():
            for state, start in pairs:
                state[:, index] = start[:, index]

    def copy(self) -> Stepper:
        """Another stepper that goes on from the same states; the packed weights are shared."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._pool = []
        with torch.inference_mode(False), torch.no_grad():
            twin._states = [each(states, Tensor.clone) for states in self._states]
            if twin._parts is not None:
                twin._bind()
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Stepper:
        return self.copy()

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError(
            "a Stepper holds addresses and is not pickled; keep its layer and its state"
        )

    def _carried(self) -> tuple[Any, ...]:
        """The present states, `[L, B, H]` each, or a tuple of `[1, B, H]` for each layer."""
        return self._states[self._turn]

    def _put(self, values: tuple[Any, ...]) -> None:
        with torch.inference_mode(False), torch.no_grad():
            for mine, given in zip(_flat(self._carried()), _flat(values), strict=True):
                mine.copy_(given)

    def _bind(self) -> None:
        """The two calls that steps alternate between: from the first states to the second, and
        back."""
        self._scratch = self._like.new_empty(self._program.scratch, dtype=torch.uint8)
        self._input = self._like.new_empty(self._shape)
        self._array = self._input.numpy()
        self._array_place = self._input.data_ptr()
        self._calls: list[tuple[ctypes.Array[ctypes.c_int64], int]] = []
        for turn in (0, 1):
            call = self._program.bind(self._packed, *self._bases(0, 0, turn, self._scratch))
            self._calls.append((call, ctypes.addressof(call)))

    def _bases(self, x: int, out: int, turn: int, scratch: Tensor) -> list[int]:
        found = [x, out]
        for states in (self._states[1 - turn], self._states[turn]):
            found += [state.data_ptr() for state in states]
        return [*found, scratch.data_ptr()] if scratch.numel() else found

    def _chunk(self, steps: int) -> Program:
        """The program of a chunk; all of them read the same packed weights."""
        found = self._chunks.get(steps)
        if found is None:
            if len(self._chunks) >= _MOST:
                self._chunks.clear()
            found = Program(self._parts or [], 1, steps, self._rows, given=True)
            self._chunks[steps] = found
        return found

    def _through_program(self, x: Tensor) -> Tensor:
        program = self._chunk(x.shape[0])
        x = x.contiguous()
        out = x.new_empty((x.shape[0], *self._like.shape))
        scratch = x.new_empty(program.scratch, dtype=torch.uint8)
        program(self._packed, *self._bases(x.data_ptr(), out.data_ptr(), self._turn, scratch))
        self._turn = 1 - self._turn
        return out

    def _more(self) -> tuple[np.ndarray[Any, Any], int]:
        """An array for an output, and others for later ones, with their addresses."""
        shape, like = tuple(self._like.shape), self._array
        size = self._like.numel() * like.itemsize
        block = np.empty((max(1, min(_POOL, _POOL_BYTES // size)), *shape), like.dtype)
        place = block.ctypes.data
        self._pool = [(array, place + n * size) for n, array in enumerate(block)]
        return self._pool.pop()

    def _admit(self, x: Tensor, wanted: torch.Size) -> Tensor:
        """A checked input as plain memory."""
        if x.dtype is not self.dtype:
            raise ValueError(
                f"stepper: the input is {x.dtype}, but the weights are {self.dtype}; convert it"
            )
        if x.shape != wanted:
            raise RuntimeError(
                f"stepper: expected an input of shape {list(wanted)}, got {list(x.shape)}"
            )
        if x.device != self._like.device:
            raise RuntimeError(
                f"stepper: the input is on {x.device}, but the weights are on {self._like.device}"
            )
        return x.detach().resolve_neg()

    def _step(self, x: Any, extra: Mapping[str, Tensor] | None) -> Any:
        """A step of other kinds of input, and of layers without a program."""
        if not isinstance(x, (Tensor, np.ndarray)):
            raise TypeError(
                f"stepper: expected a tensor or an array of NumPy, got {type(x).__name__}"
            )
        tensor = self._admit(torch.as_tensor(x), self._shape)
        if self._whole is None:
            if extra:
                raise ValueError(f"extra: the cell {self.layer.cell.name} takes no sequences")
            out = self(tensor.as_subclass(Tensor))
        else:
            time = 1 if self.layer.batch_first and self.batch is not None else 0
            given = {k: v.unsqueeze(time) for k, v in (extra or {}).items()}
            out = self._through(tensor.unsqueeze(time), given).squeeze(time)
        return out.numpy() if isinstance(x, np.ndarray) else out

    def _through(self, x: Tensor, extra: Mapping[str, Tensor] | None) -> Tensor:
        """The output of the copied layer for a chunk."""
        assert self._whole is not None
        state = self.state
        with torch.no_grad():
            out, last = self._whole(x, state, extra=extra or None)
        self.state = last
        return out


def _parts(layer: Recurrent, narrow: str) -> tuple[list[Part] | None, str]:
    """What a program runs, or None, and the reason.

    Errors: `UnpreparedError` with the reason where a program lacks something.
    """
    found = parts(layer, training=False, narrow=narrow)
    dtype = next(layer.parameters()).dtype
    if narrow and dtype is not torch.float32:
        raise UnpreparedError(f"narrow weights are made of float32, these are {dtype}")
    reason = ""
    for part in found:
        x = next(iter(part.parameters.values())).detach().new_zeros(1, 1, part.features)
        backend, reason = operators.select(part.cell, x, part.parameters)
        if backend != "llvm":
            return None, reason
    return found, reason


def _starts(layer: Recurrent, rows: int) -> tuple[Any, ...]:
    """What streams begin with, in the form of the layer's states."""
    sizes, like = layer._sizes, next(layer.parameters()).detach()
    found: list[Any] = []
    for n in range(1 + len(layer.cell.states)):
        values = []
        for index, names in enumerate(layer._described.starts):
            width = sizes.hidden[index] if n else sizes.width(index)
            start = getattr(layer, names[n]).detach() if names else like.new_zeros(width)
            values.append(start.expand(rows, -1).clone())
        stacked = torch.stack(values) if sizes.equal else None
        found.append(tuple(one.unsqueeze(0) for one in values) if stacked is None else stacked)
    return tuple(found)


def _flat(states: tuple[Any, ...]) -> list[Tensor]:
    """Every tensor of states that are one tensor each, or one for each layer."""
    parts = ((state,) if isinstance(state, Tensor) else state for state in states)
    return [tensor for part in parts for tensor in part]

"""The backward pass: from the last chunk of steps to the first, the kernel, then its products.

Gradients of the weights grow from chunk to chunk. What the kernel carries from a step to the one
before it, and the gradients of the gates of the step after a chunk, wait in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from holdfast.compiler.emit import llvm_pairs
from holdfast.compiler.emit.llvm_backward import gates_stride
from holdfast.compiler.emit.llvm_pairs import PAIRS
from holdfast.compiler.emit.llvm_sweeps import kept_width
from holdfast.compiler.graph import Node
from holdfast.compiler.plan import Plan
from holdfast.nn import passes
from holdfast.nn.chunks import Chunk
from holdfast.nn.layout import Layout
from holdfast.nn.memory import borrow
from holdfast.nn.packing import bias_count, pack_backward, runs, summed
from holdfast.nn.passes import Buffers, Call
from holdfast.nn.products import gradient_product
from holdfast.nn.recompute import Training, chunks_of
from holdfast.nn.weights import Matrices


@dataclass(frozen=True, eq=False)
class Kept:
    """What a training pass keeps: `out` and the states' sequences as the user sees them.

    saved: the plan's saved values, `[T * B, saved_width]`, the live rows first; None where they are
    computed again. starts: in the place of sequences, the states at the beginning of each chunk.
    """

    out: Tensor
    sequences: Sequence[Tensor]
    saved: Tensor | None
    starts: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Incoming:
    """Gradients of `out`, and of each state's sequence or last value; None where nothing flows."""

    out: Tensor | None
    sequences: Sequence[Tensor | None] = ()
    finals: Sequence[Tensor | None] = ()


@dataclass(frozen=True)
class Wanted:
    """Which gradients are asked for, beside those of first states and fresh starts."""

    x: bool
    h: bool
    parameters: frozenset[str]


@dataclass(frozen=True, eq=False)
class Gradients:
    """Gradients of x, h and each first state, of the fresh starts, and of the parameters; those of
    x, h and parameters are missing where nobody asked for them."""

    x: Tensor | None
    h: Tensor | None
    states: list[Tensor]
    starts: list[Tensor | None]
    parameters: dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class _Rows:
    """What the kernel reads of a chunk; its tensors are as `Chunk.take` gives them."""

    chunk: Chunk
    out: Tensor
    sequences: list[Tensor]
    saved: Tensor
    """`[rows, saved_width]` of the chunk."""
    first: Tensor
    """h before the chunk."""
    states: list[Tensor]
    """The states before the chunk."""


def backward(
    call: Call, kept: Kept, incoming: Incoming, wanted: Wanted, *, checked: bool = False
) -> Gradients:
    """Every gradient of a training pass that is wanted.

    Arguments:
        checked: whether the shapes of the call are known to be right.
    """
    return _Backward(call, kept, incoming, wanted, checked).run()


@cache
def called_operands(plan: Plan) -> dict[str, Node]:
    """The operands of the gates that are called, by the gates' names."""
    return {node.name: node.inputs[0] for node in plan.forward.nodes() if node.op == "affine"}


class _Backward:
    """A pass under way."""

    def __init__(
        self, call: Call, kept: Kept, incoming: Incoming, wanted: Wanted, checked: bool
    ) -> None:
        self.call, self.kept, self.wanted = call, kept, wanted
        self.chosen = chosen = passes.prepare("backward", call, checked=checked)
        sizes, x, layout = chosen.sizes, call.x, call.layout
        self.team = passes.team_for(call, chosen, 2 * len(call.cell.accumulators) * sizes.hidden**2)
        self.x = x.reshape(-1, x.shape[-1])
        self.out = _flat(kept.out)
        self.sequences = [_flat(one) for one in kept.sequences]
        self.chunks = chunks_of(call, chosen, again=kept.saved is None)
        most = max(chunk.rows for chunk in self.chunks)
        self.spare = layout.batch if len(self.chunks) > 1 else 0
        stride = gates_stride(chosen.plan, sizes)
        needed = [(most + self.spare) * stride]
        needed += Training.memory_for(call, chosen, most) if kept.saved is None else []
        gates, *rest = borrow(x, *needed)
        self.gates = gates.view(-1, stride)
        self.training = Training(call, rest) if kept.saved is None else None
        self.noise = passes.noise_buffers(call)
        self.arriving = _every(incoming, len(call.states))
        finals = incoming.finals or [None] * len(call.states)
        self.d_states = [_last(layout, one, x, sizes.hidden) for one in finals]
        self.common = self._common()

    def _common(self) -> Buffers:
        """What the kernel gets in every chunk."""
        call, chosen, cell = self.call, self.chosen, self.call.cell
        x, sizes, batch = call.x, chosen.sizes, call.layout.batch
        padded, count = chosen.tile.padded, self.team.count
        self.d_h = x.new_zeros(batch, sizes.hidden)
        self.d_bias = x.new_zeros(count, bias_count(cell), padded)
        self.d_units = x.new_zeros(count, len(cell.weights), padded)
        self.zeros = x.new_zeros(1, max(padded, sizes.output))
        buffers: Buffers = dict(passes.packed(call, chosen, pack_backward))
        sweeps = chosen.plan.backward_sweeps
        if not sweeps.single:
            buffers["kept"] = x.new_empty(batch, kept_width(sweeps, chosen.tile))
            buffers["d_operand"] = x.new_empty(batch, padded)
        if sizes.narrow == PAIRS:
            depths = [(end - start) * sizes.hidden for start, end, _ in runs(cell, "h")]
            width = sum(llvm_pairs.padded(depth, chosen.tile.lanes) for depth in depths)
            buffers[llvm_pairs.SLOT] = x.new_empty(count * batch, width)
        buffers |= {"d_h": self.d_h, "d_bias": self.d_bias, "d_units": self.d_units}
        names = (f"d_state {name}" for name in cell.states)
        return buffers | dict(zip(names, self.d_states, strict=True))

    def run(self) -> Gradients:
        """All chunks, from the last to the first."""
        call, wanted, found = self.call, self.wanted, {}
        for name in ("weight_ih", "weight_hh", "weight_hr"):
            if name in wanted.parameters:
                found[name] = torch.empty_like(call.parameters[name])
        x = call.x
        d_x = call.layout.make(x, x.shape[-1]) if wanted.x else None
        flat = None if d_x is None else d_x.view(self.x.shape)
        d_first = None
        for n, chunk in reversed(list(enumerate(self.chunks))):
            rows = self._rows(n)
            offset = self.spare if chunk.whole.descending else 0
            sums = len(call.cell.accumulators) * self.chosen.sizes.hidden
            d_gates = self.gates[offset : offset + chunk.rows, :sums]
            given, projected = self._kernel(rows, d_gates)
            if self.chosen.sizes.narrow == PAIRS:
                d_gates = d_gates.bfloat16()
            self._products(rows, d_gates, projected, found, add=n + 1 < len(self.chunks))
            if flat is not None:
                self._input_gradient(chunk, d_gates, given, flat)
            if n:
                self._hand_on(chunk, self.chunks[n - 1])
            elif wanted.h:
                d_first = self._first_gradient(rows, d_gates)
        small = {name: one for name, one in call.parameters.items() if name in wanted.parameters}
        found |= summed(call.cell, small, self.d_bias, self.d_units, self.chosen.sizes.hidden)
        return self._collect(d_x, d_first, found)

    def _rows(self, n: int) -> _Rows:
        """What the kernel reads of a chunk: kept, or computed again."""
        chunk, kept, call = self.chunks[n], self.kept, self.call
        if n:
            first = chunk.before(self.out)
            states = [chunk.before(one) for one in self.sequences]
            if kept.starts is not None:
                before = sum(one.alive for one in self.chunks[1:n])
                starts = kept.starts[before : before + chunk.alive]
                width = self.chosen.sizes.hidden
                columns = (slice(m * width, (m + 1) * width) for m in range(len(call.states)))
                states = [starts[:, one].contiguous() for one in columns]
        else:
            first, *states = call.sorted()
        if kept.saved is not None:
            sequences = [chunk.take(one) for one in self.sequences]
            saved = kept.saved[chunk.live]
            return _Rows(chunk, chunk.take(self.out), sequences, saved, first, states)
        assert self.training is not None
        local = chunk.local()
        saved, out, *sequences = self.training.run(local, first, states)
        return _Rows(local, out, sequences, saved, first, states)

    def _kernel(self, rows: _Rows, d_gates: Tensor) -> tuple[list[Tensor], Tensor]:
        """Run the kernel; gradients of what the steps are given, and of a projected output."""
        call, chunk, sizes = self.call, rows.chunk, self.chosen.sizes
        cell, x = call.cell, call.x
        buffers = self.common | passes.noise_at(self.noise, chunk.start)
        buffers |= {"out": rows.out, "h_first": rows.first, "saved": rows.saved}
        buffers |= {"d_gates": d_gates, "following": chunk.following}
        names = ["out", *(f"sequence {name}" for name in cell.states)]
        for name, gradient in zip(names, self.arriving, strict=True):
            given = self.zeros if gradient is None else chunk.take(gradient)
            buffers[f"d_{name}"] = given
            buffers[f"ld d_{name}"] = 0 if gradient is None else given.stride(0)
        for name, sequence, state in zip(cell.states, rows.sequences, rows.states, strict=True):
            buffers |= {f"sequence {name}": sequence, f"first {name}": state}
        d_given = [x.new_empty(chunk.rows, sizes.hidden) for _ in cell.inputs]
        if cell.inputs:
            buffers["x"] = chunk.take(self.x)
            buffers |= {f"d_input {n}": one for n, one in zip(cell.inputs, d_given, strict=True)}
        projected = x.new_empty(chunk.rows if sizes.projection else 0, sizes.projection)
        buffers["d_projected"] = projected
        passes.launch(self.chosen.kernel, buffers, chunk.layout, self.team)
        return d_given, projected

    def _products(
        self,
        rows: _Rows,
        d_gates: Tensor,
        projected: Tensor,
        found: dict[str, Tensor],
        *,
        add: bool,
    ) -> None:
        """Gradients of the matrices: written, or added to what later chunks gave."""
        matrices = self._matrices(d_gates)
        if "weight_ih" in found:
            x = rows.chunk.gather(self.x)[:, : self.chosen.sizes.input]
            matrices.add_input(found["weight_ih"], x, add=add)
        if "weight_hh" in found:
            called = called_operands(self.chosen.plan).items()
            operands = {name: self._saved(rows.saved, node) for name, node in called}
            pairs = self._recurrent(rows, d_gates)
            matrices.add_recurrent(found["weight_hh"], pairs, operands, add=add)
        if "weight_hr" in found:
            hidden = self._saved(rows.saved, self.chosen.plan.forward.outputs["h"])
            gradient_product(projected, hidden, found["weight_hr"], add=add)

    def _matrices(self, d_gates: Tensor) -> Matrices:
        sizes, weight = self.chosen.sizes, self.call.parameters.get("weight_hh")
        heads = 1 if weight is None else sizes.output // weight.shape[1]
        sizes = sizes if heads == sizes.heads else replace(sizes, heads=heads)
        return Matrices(self.call.cell, sizes, d_gates)

    def _saved(self, saved: Tensor, node: Node) -> Tensor:
        """A value of the steps that the training pass saved, `[rows, H]`."""
        hidden = self.chosen.sizes.hidden
        start = self.chosen.plan.saved_column(node) * hidden
        return saved[:, start : start + hidden]

    def _recurrent(self, rows: _Rows, d_gates: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Rows of `d_gates` beside what R multiplied in their step."""
        chunk, first = rows.chunk, rows.first[: rows.chunk.alive]
        if self.call.cell.operand:
            masked = self._saved(rows.saved, self.chosen.plan.forward.outputs["operand"])
            earlier = chunk.previous_inside(masked)
            first = passes.operand_first(self.call, first)
        elif chunk.start:
            return [(d_gates, chunk.previous(self.out))]
        else:
            earlier = chunk.previous(self.out)
        pairs = [(chunk.later(d_gates), earlier), (chunk.first(d_gates), first)]
        return pairs if earlier.shape[0] else pairs[1:]

    def _input_gradient(
        self, chunk: Chunk, d_gates: Tensor, given: list[Tensor], target: Tensor
    ) -> None:
        """The gradient of x: through W, and of what the steps are given."""
        weight = self.call.parameters.get("weight_ih")
        straight = chunk.index is None and not given
        width = 0 if weight is None else weight.shape[1]
        through = target[chunk.live] if straight else target.new_empty(chunk.rows, width)
        if weight is not None:
            self._matrices(d_gates).input_gradient(weight, through)
        if straight:
            return
        if given and target.shape[1] != width + sum(one.shape[1] for one in given):
            through, given = through + given[0], given[1:]
        chunk.put(torch.cat([through, *given], 1) if given else through, target)

    def _hand_on(self, chunk: Chunk, earlier: Chunk) -> None:
        """Put the gradients of the first step's gates where the kernel looks for those of the step
        that follows the chunk before."""
        alive, source = chunk.alive, chunk.first(self.gates[: chunk.rows])
        target = earlier.rows
        if chunk.whole.descending:
            source, target = self.gates[chunk.rows : chunk.rows + alive], 0
        self.gates[target : target + alive] = source

    def _first_gradient(self, rows: _Rows, d_gates: Tensor) -> Tensor:
        """The gradient of the first h: through R at the first step, and what passed no matrix."""
        recurrent = self.call.parameters.get("weight_hh")
        if recurrent is None:
            return self.d_h
        through = rows.first.new_zeros(rows.first.shape)
        alive = rows.chunk.alive
        self._matrices(d_gates).first_gradient(
            recurrent, rows.chunk.first(d_gates), through[:alive]
        )
        if self.call.cell.operand:
            through = through * passes.operand_mask(self.call, rows.first)
        return through if self.d_h.shape != through.shape else through + self.d_h

    def _collect(
        self, d_x: Tensor | None, d_first: Tensor | None, parameters: dict[str, Tensor]
    ) -> Gradients:
        """Gradients in the user's order of rows."""
        layout, batch = self.call.layout, self.call.h.shape[0]
        if layout.order is None and not self.call.starts:
            return Gradients(d_x, d_first, self.d_states, [], parameters)
        pairs = [layout.collect(one, batch) for one in self.d_states]
        states, starts = ([pair[side] for pair in pairs] for side in (0, 1))
        d_h, start = (None, None) if d_first is None else layout.collect(d_first, batch)
        fresh = [start, *starts] if self.call.starts else []
        return Gradients(d_x, d_h, states, fresh, parameters)


def _flat(values: Tensor) -> Tensor:
    """`[T * B, ...]` of `[T, B, ...]`, contiguous."""
    return values.contiguous().view(-1, values.shape[-1])


def _every(incoming: Incoming, states: int) -> list[Tensor | None]:
    """Gradients of out and of every sequence, as rows."""
    given = [incoming.out, *(incoming.sequences or [None] * states)]
    return [None if one is None else in_rows(one) for one in given]


def in_rows(gradient: Tensor) -> Tensor:
    """The gradient `[T, B, H]` or `[N, H]` as equally distant rows: half of a wider one, as joined
    directions give it, is not copied."""
    strides, shape = gradient.stride(), gradient.shape
    even = gradient.dim() == 2 or strides[0] == shape[1] * strides[1]
    inside = strides[-1] == 1 and strides[-2] >= shape[-1]
    if not (even and inside):
        return _flat(gradient)
    return gradient.as_strided((shape[:-1].numel(), shape[-1]), (strides[-2], 1))


def _last(layout: Layout, gradient: Tensor | None, like: Tensor, hidden_size: int) -> Tensor:
    """The gradient of the last values of a state in the kernel's rows, `[B, H]`."""
    rows = like.new_zeros(layout.batch, hidden_size)
    if gradient is None:
        return rows
    return (
        rows.copy_(gradient) if layout.back is None else rows.index_copy_(0, layout.back, gradient)
    )

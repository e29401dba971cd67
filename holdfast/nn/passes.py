"""Run compiled kernels on tensors: rows in order, weights packed, buffers made, large products.

Rows of a sequence lie one after the other, time-major. A `Layout` says how many are alive at each
step; where lengths differ the rows are sorted by falling length for the kernel and put back after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from holdfast.compiler import threads
from holdfast.compiler.build import kernel, packer, planned
from holdfast.compiler.cell import Cell
from holdfast.compiler.emit.llvm_loops import Tile
from holdfast.compiler.plan import Plan
from holdfast.nn.products import gradient_product, rows_product


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the rows of a sequence lie: T, B, rows in memory, rows alive at each step."""

    steps: int
    batch: int
    rows: int
    stride: int = 0
    """Rows of memory between steps; 0 where only live rows are stored."""
    counts: Tensor | None = None
    """Rows alive at each step, `[T]` int64, never growing; None where all are."""
    order: Tensor | None = None
    """Row r of the kernel is row `order[r]` of the user; None where that is the same."""
    back: Tensor | None = None

    @property
    def ragged(self) -> bool:
        """Whether some rows of memory belong to no step."""
        return self.stride != 0

    def sizes(self) -> list[int]:
        """The kernel's slots for the sizes."""
        counts = 0 if self.counts is None else self.counts.data_ptr()
        return [counts, self.steps, self.batch, self.stride]

    def sort(self, tensor: Tensor, dim: int) -> Tensor:
        """Rows in the kernel's order, contiguous."""
        ordered = tensor if self.order is None else tensor.index_select(dim, self.order)
        return ordered.contiguous()

    def restore(self, tensor: Tensor, dim: int) -> Tensor:
        """Rows in the user's order."""
        return tensor if self.back is None else tensor.index_select(dim, self.back)


@dataclass(frozen=True, eq=False)
class Kept:
    """What the training pass keeps: `out` and the states' sequences as the user sees them, and
    the plan's saved values `[rows, count * H]` in the kernel's order."""

    out: Tensor
    sequences: tuple[Tensor, ...]
    saved: Tensor


@dataclass(frozen=True, eq=False)
class Incoming:
    """Gradients of `out` and of each state's sequence; None where nothing flows."""

    out: Tensor | None
    sequences: tuple[Tensor | None, ...]


@dataclass(frozen=True, eq=False)
class Gradients:
    """Gradients of x, h and each first state, then of the parameters by name."""

    first: tuple[Tensor, ...]
    parameters: dict[str, Tensor]


def lay_out(x: Tensor, h: Tensor, lengths: Tensor | None, batch_sizes: Tensor | None) -> Layout:
    """The layout of `x`, `[T, B, I]` or packed `[N, I]`."""
    batch = h.shape[0]
    if batch_sizes is not None:
        counts = batch_sizes.to("cpu", torch.int64).contiguous()
        return Layout(counts.shape[0], batch, x.shape[0], counts=counts)
    steps = x.shape[0]
    if lengths is None:
        return Layout(steps, batch, steps * batch)
    ends = lengths.detach().to("cpu", torch.int64).numpy()
    order = np.argsort(-ends, kind="stable")
    counts = torch.from_numpy((ends[None, :] > np.arange(steps)[:, None]).sum(1))
    if np.array_equal(order, np.arange(batch)):
        return Layout(steps, batch, steps * batch, batch, counts)
    back = torch.from_numpy(np.argsort(order, kind="stable"))
    return Layout(steps, batch, steps * batch, batch, counts, torch.from_numpy(order), back)


def last_rows(batch_sizes: Tensor) -> Tensor:
    """The packed row of each sequence's last step, `[B]`."""
    counts = batch_sizes.detach().cpu().numpy()
    starts = np.cumsum(counts) - counts
    ends = (counts[None, :] > np.arange(counts[0])[:, None]).sum(1)
    return torch.from_numpy(starts[ends - 1] + np.arange(counts[0]))


def saved_count(cell: Cell) -> int:
    """Values the plan keeps per row and unit."""
    return len(planned(cell).saved)


def infer(
    cell: Cell,
    x: Tensor,
    h: Tensor,
    states: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
    layout: Layout,
) -> list[Tensor]:
    """Outputs and last states, nothing kept."""
    mode = "step" if layout.steps == 1 and layout.counts is None else "infer"
    out, finals, _, _ = _forward(mode, cell, x, h, states, parameters, layout)
    return [out, *finals]


def train(
    cell: Cell,
    x: Tensor,
    h: Tensor,
    states: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
    layout: Layout,
) -> list[Tensor]:
    """Outputs, the sequences of the states and what the plan keeps."""
    out, _, sequences, saved = _forward("train", cell, x, h, states, parameters, layout)
    return [out, *sequences, saved]


def _forward(
    mode: str,
    cell: Cell,
    x: Tensor,
    h: Tensor,
    states: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
    layout: Layout,
) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    input_size, hidden_size = x.shape[-1], h.shape[1]
    chosen = kernel(cell, mode, x.dtype, input_size, hidden_size)
    dim = x.dim() - 2
    rows = layout.sort(x, dim) if layout.ragged else x.contiguous()
    first = layout.sort(h, 0)
    carried = [_copy(layout.sort(state, 0), state) for state in states]
    make = x.new_zeros if layout.ragged else x.new_empty
    shape = (*x.shape[:-1], hidden_size)
    out = make(shape)
    packed = _pack(cell, parameters, x, hidden_size, chosen.tile)
    buffers = [rows, first, out, *packed, *carried]
    sequences: list[Tensor] = []
    saved = x.new_empty(0)
    if mode == "train":
        sequences = [make(shape) for _ in states]
        saved = make((layout.rows, saved_count(cell) * hidden_size))
        buffers += [saved, *sequences]
    values = [buffer.data_ptr() for buffer in buffers] + layout.sizes()
    depth = input_size + hidden_size
    operations = 2 * layout.rows * len(cell.accumulators) * hidden_size * depth
    chosen(values, threads.count(layout.batch, operations))
    restored = [layout.restore(value, dim) for value in (out, *sequences)]
    return restored[0], [layout.restore(state, 0) for state in carried], restored[1:], saved


def _copy(tensor: Tensor, original: Tensor) -> Tensor:
    return tensor.clone() if tensor.data_ptr() == original.data_ptr() else tensor


def _pack(
    cell: Cell, parameters: Mapping[str, Tensor], x: Tensor, hidden_size: int, cut: Tile
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Packed W, R, biases and per-unit weights."""
    pack = packer(x.dtype)
    sums = cell.accumulators
    w = pack.gates(parameters["weight_ih"], sum(acc.x for acc in sums), cut)
    r = w
    if "weight_hh" in parameters:
        r = pack.gates(parameters["weight_hh"], sum(acc.h for acc in sums), cut)
    bias = pack.gates(_bias(cell, parameters, x, hidden_size), len(sums), cut)
    return w, r, bias, _pack_units(cell, parameters, x, cut)


def _pack_units(cell: Cell, parameters: Mapping[str, Tensor], x: Tensor, cut: Tile) -> Tensor:
    """Per-unit weights `[count, padded]`; anything at all where a cell has none."""
    if not cell.weights:
        return x
    weights = torch.stack([parameters[name] for name in cell.weights])
    return packer(x.dtype).rows(weights, Tile(cut.lanes, cut.padded // cut.lanes, 1, 1))


def _bias(cell: Cell, parameters: Mapping[str, Tensor], x: Tensor, hidden_size: int) -> Tensor:
    """One bias for each affine sum, `[sums * H, 1]`."""
    sums = cell.accumulators
    if "bias_ih" in parameters and all(acc.bias_ih and acc.bias_hh for acc in sums):
        return (parameters["bias_ih"] + parameters["bias_hh"]).view(-1, 1)
    total = x.new_zeros(len(sums), hidden_size)
    for name in ("bias_ih", "bias_hh"):
        members = [n for n, acc in enumerate(sums) if getattr(acc, name)]
        if members and name in parameters:
            total[members] += parameters[name].view(len(members), hidden_size)
    return total.view(-1, 1)


def backward(
    cell: Cell,
    x: Tensor,
    h: Tensor,
    states: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
    layout: Layout,
    kept: Kept,
    incoming: Incoming,
    *,
    need_x: bool,
) -> Gradients:
    """Every gradient of a training pass."""
    layout_plan = planned(cell)
    hidden_size = h.shape[1]
    sums = len(cell.accumulators)
    dim = x.dim() - 2
    chosen = kernel(cell, "backward", x.dtype, x.shape[-1], hidden_size)
    cut = chosen.tile
    out = layout.sort(kept.out, dim) if layout.ragged else kept.out.contiguous()
    first = layout.sort(h, 0)
    make = x.new_zeros if layout.ragged else x.new_empty
    d_gates = make((layout.rows, sums * hidden_size))
    d_h = x.new_zeros(layout.batch, hidden_size)
    operations = 2 * layout.rows * sums * hidden_size * hidden_size
    count = threads.count(layout.batch, operations)
    d_bias = x.new_zeros(count, sums, cut.padded)
    d_units = x.new_zeros(count, max(1, len(cell.weights)), cut.padded)
    zeros = x.new_zeros(cut.padded)
    recurrent = parameters.get("weight_hh")
    packed = zeros if recurrent is None else packer(x.dtype).rows(recurrent, cut)
    units = _pack_units(cell, parameters, x, cut)
    d_out = _sorted_gradient(incoming.out, layout, dim, zeros)
    buffers = [out, first, kept.saved, packed, units, d_out, d_gates, d_h, d_bias, d_units]
    strides = [0 if incoming.out is None else hidden_size]
    d_states = []
    for n, state in enumerate(states):
        d_sequence = _sorted_gradient(incoming.sequences[n], layout, dim, zeros)
        d_states.append(x.new_zeros(layout.batch, hidden_size))
        sequence = layout.sort(kept.sequences[n], dim) if layout.ragged else kept.sequences[n]
        buffers += [sequence.contiguous(), layout.sort(state, 0), d_sequence, d_states[-1]]
        strides.append(0 if incoming.sequences[n] is None else hidden_size)
    chosen([buffer.data_ptr() for buffer in buffers] + layout.sizes() + strides, count)
    rows = layout.sort(x, dim) if layout.ragged else x.contiguous()
    weights = _Weights(layout_plan, layout, rows.view(layout.rows, -1), out, first, d_gates)
    found = weights.gradients(parameters)
    found |= _summed(cell, parameters, d_bias.sum(0), d_units.sum(0), hidden_size)
    d_x = x.new_empty(0)
    if need_x:
        d_x = layout.restore(weights.input_gradient(parameters).view(rows.shape), dim)
    last = d_h if recurrent is None else weights.first_gradient(recurrent, d_h)
    restored = [layout.restore(value, 0) for value in (last, *d_states)]
    return Gradients((d_x, *restored), found)


def _sorted_gradient(gradient: Tensor | None, layout: Layout, dim: int, zeros: Tensor) -> Tensor:
    if gradient is None:
        return zeros
    return layout.sort(gradient, dim) if layout.ragged else gradient.contiguous()


def _summed(
    cell: Cell,
    parameters: Mapping[str, Tensor],
    d_bias: Tensor,
    d_units: Tensor,
    hidden_size: int,
) -> dict[str, Tensor]:
    """Gradients of the biases and per-unit weights from the kernel's sums."""
    found: dict[str, Tensor] = {}
    for name in ("bias_ih", "bias_hh"):
        if name in parameters:
            members = [n for n, acc in enumerate(cell.accumulators) if getattr(acc, name)]
            found[name] = d_bias[members, :hidden_size].reshape(-1)
    for n, name in enumerate(cell.weights):
        found[name] = d_units[n, :hidden_size].clone()
    return found


@dataclass(frozen=True, eq=False)
class _Weights:
    """The products after the loop: gradients of W and R, of x and of the first h."""

    plan: Plan
    layout: Layout
    x: Tensor
    """`[rows, I]`"""
    out: Tensor
    first: Tensor
    d_gates: Tensor
    """`[rows, sums * H]`"""

    def columns(self, part: str) -> list[tuple[int, int]]:
        """Runs of columns of `d_gates` for the sums that have `W x` or `R h`: start and end."""
        hidden_size = self.first.shape[1]
        runs: list[tuple[int, int]] = []
        for n, acc in enumerate(self.plan.accumulators):
            if getattr(acc, part):
                start, end = n * hidden_size, (n + 1) * hidden_size
                if runs and runs[-1][1] == start:
                    runs[-1] = (runs[-1][0], end)
                else:
                    runs.append((start, end))
        return runs

    def gradients(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gradients of the matrices by name."""
        found = {"weight_ih": torch.empty_like(parameters["weight_ih"])}
        self._fill(found["weight_ih"], "x", [(self.d_gates, self.x)])
        if "weight_hh" in parameters:
            found["weight_hh"] = torch.empty_like(parameters["weight_hh"])
            self._fill(found["weight_hh"], "h", self._previous())
        return found

    def _fill(self, result: Tensor, part: str, pairs: list[tuple[Tensor, Tensor]]) -> None:
        row = 0
        for start, end in self.columns(part):
            target = result[row : row + end - start]
            row += end - start
            for n, (left, right) in enumerate(pairs):
                gradient_product(left[:, start:end], right, target, add=n > 0)

    def _previous(self) -> list[tuple[Tensor, Tensor]]:
        """Rows of `d_gates` beside the h that their step read."""
        batch, hidden_size = self.first.shape
        counts = self.layout.counts
        if counts is None or self.layout.ragged:
            flat = self.out.view(-1, hidden_size)
            later = (self.d_gates[batch:], flat[: self.layout.rows - batch])
            return [later, (self.d_gates[:batch], self.first)]
        alive = counts.numpy()
        starts = np.cumsum(alive) - alive
        offsets = np.repeat(starts[:-1] + batch, alive[1:])
        within = np.concatenate([np.arange(n) for n in alive[1:]]) if len(alive) > 1 else offsets
        index = torch.from_numpy(np.concatenate([np.arange(batch), offsets + within]))
        return [(self.d_gates, torch.cat([self.first, self.out]).index_select(0, index))]

    def input_gradient(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """The gradient of x, `[rows, I]`."""
        return self._through(self.d_gates, parameters["weight_ih"], "x")

    def first_gradient(self, recurrent: Tensor, direct: Tensor) -> Tensor:
        """The gradient of the first h: through R at the first step, and what passed no matrix."""
        alive = self.first.shape[0] if self.layout.counts is None else int(self.layout.counts[0])
        direct[:alive] += self._through(self.d_gates[:alive], recurrent, "h")
        return direct

    def _through(self, gradients: Tensor, weight: Tensor, part: str) -> Tensor:
        row = 0
        total: Tensor | None = None
        for start, end in self.columns(part):
            term = rows_product(gradients[:, start:end], weight[row : row + end - start])
            row += end - start
            total = term if total is None else total.add_(term)
        return gradients.new_zeros(gradients.shape[0], weight.shape[1]) if total is None else total

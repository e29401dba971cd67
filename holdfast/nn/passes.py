"""Run compiled kernels on tensors: live rows in order, weights packed, buffers made, products.

Kernels see only the rows that are alive: one step after the other, within a step by falling length.
Where lengths differ, the rows of the input are gathered in that order before and scattered after,
so that steps beyond a row's end cost nothing and whatever stands there is never read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from holdfast.compiler import threads
from holdfast.compiler.build import Kernel, kernel, packer, planned
from holdfast.compiler.cell import Cell
from holdfast.compiler.emit.llvm_loops import Tile
from holdfast.nn.products import gradient_product, rows_product


@dataclass(frozen=True, eq=False)
class Layout:
    """Which rows of a sequence are alive, and where they lie in the user's tensors."""

    steps: int
    batch: int
    rows: int
    """Live rows of all steps together."""
    counts: Tensor | None = None
    """Rows alive at each step, `[T]` int64, never growing; None where all are."""
    index: Tensor | None = None
    """Where each live row lies among the user's T * B; None where they are the same."""
    order: Tensor | None = None
    """Row r of the batch, for the kernel, is row `order[r]` of the user; None where the same."""
    back: Tensor | None = None

    def sizes(self, team: threads.Team, arrived: Tensor | None) -> list[int]:
        """The kernel's slots for the sizes."""
        pointers = [0 if given is None else given.data_ptr() for given in (self.counts, arrived)]
        return [*pointers, self.steps, self.batch, int(team.by_block)]

    def gather(self, sequence: Tensor) -> Tensor:
        """The live rows `[rows, ...]` of `[T, B, ...]`, or of what is packed already."""
        flat = sequence.reshape(-1, sequence.shape[-1])
        return flat.contiguous() if self.index is None else flat.index_select(0, self.index)

    def scatter(self, rows: Tensor, like: Tensor) -> Tensor:
        """Live rows back to where they lie in `like`; zeros elsewhere."""
        shape = (*like.shape[:-1], rows.shape[1])
        if self.index is None:
            return rows.view(shape)
        whole = rows.new_zeros(self.steps * self.batch, rows.shape[1])
        return whole.index_copy_(0, self.index, rows).view(shape)

    def sort(self, states: Tensor) -> Tensor:
        """Rows of the batch `[B, H]` in the kernel's order, contiguous."""
        return states.contiguous() if self.order is None else states.index_select(0, self.order)

    def restore(self, states: Tensor) -> Tensor:
        """Rows of the batch `[B, H]` in the user's order."""
        return states if self.back is None else states.index_select(0, self.back)


@dataclass(frozen=True, eq=False)
class Call:
    """What a pass works on: a cell, its input `[T, B, I]` or `[N, I]`, where it starts, and with
    which parameters by name; `layout` says which rows are alive."""

    cell: Cell
    x: Tensor
    h: Tensor
    states: Sequence[Tensor]
    parameters: Mapping[str, Tensor]
    layout: Layout


@dataclass(frozen=True, eq=False)
class Kept:
    """What the training pass keeps.

    `out` and the states' sequences are as the user sees them; the plan's saved values are
    `[T * B, count * H]`: the live rows first, then zeros.
    """

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
        falling = bool((counts[1:] <= counts[:-1]).all())
        if int(counts.sum()) != x.shape[0] or not falling or int(counts[0]) > batch:
            raise RuntimeError(
                f"batch_sizes must never grow, start at no more than {batch} rows and add up to "
                f"the {x.shape[0]} rows of the input, got {counts.tolist()}"
            )
        return Layout(counts.shape[0], batch, x.shape[0], counts)
    steps = x.shape[0]
    if lengths is None:
        return Layout(steps, batch, steps * batch)
    ends = lengths.detach().to("cpu", torch.int64).numpy()
    order = np.argsort(-ends, kind="stable")
    alive = np.arange(steps)[:, None] < ends[order][None, :]
    index = torch.from_numpy((np.arange(steps)[:, None] * batch + order[None, :])[alive])
    counts = torch.from_numpy(alive.sum(1))
    if np.array_equal(order, np.arange(batch)):
        return Layout(steps, batch, len(index), counts, index)
    back = torch.from_numpy(np.argsort(order, kind="stable"))
    return Layout(steps, batch, len(index), counts, index, torch.from_numpy(order), back)


def last_rows(batch_sizes: Tensor) -> Tensor:
    """The packed row of each sequence's last step, `[B]`."""
    counts = batch_sizes.detach().cpu().numpy()
    starts = np.cumsum(counts) - counts
    ends = (counts[None, :] > np.arange(counts[0])[:, None]).sum(1)
    return torch.from_numpy(starts[ends - 1] + np.arange(counts[0]))


def saved_count(cell: Cell) -> int:
    """Values the plan keeps per row and unit."""
    return len(planned(cell).saved)


def infer(call: Call) -> list[Tensor]:
    """Outputs and last states, nothing kept."""
    layout = call.layout
    mode = "step" if layout.steps == 1 and layout.counts is None else "infer"
    out, finals = _forward(mode, call, [])
    return [layout.scatter(out, call.x), *(layout.restore(state) for state in finals)]


def train(call: Call) -> list[Tensor]:
    """Outputs, the sequences of the states and what the plan keeps."""
    x, layout = call.x, call.layout
    hidden_size = call.h.shape[1]
    rows = x.shape[:-1].numel()
    make = x.new_empty if layout.rows == rows else x.new_zeros
    saved = make(rows, saved_count(call.cell) * hidden_size)
    sequences = [x.new_empty(layout.rows, hidden_size) for _ in call.states]
    kept = [saved, *sequences]
    out, _ = _forward("train", call, kept)
    return [layout.scatter(value, x) for value in (out, *sequences)] + [saved]


@cache
def _shapes(cell: Cell, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
    return cell.shapes(input_size, hidden_size)


def _check(call: Call) -> None:
    """Refuse what would make a kernel read beyond a tensor's end."""
    cell, x, h = call.cell, call.x, call.h
    shapes = _shapes(cell, x.shape[-1], h.shape[-1])
    wanted = [(name, tensor, shapes[name]) for name, tensor in call.parameters.items()]
    rows = (h.shape[0] if x.dim() == 2 else x.shape[1], h.shape[-1])
    pairs = zip(("h", *cell.states), (h, *call.states), strict=True)
    wanted += [(name, tensor, rows) for name, tensor in pairs]
    for name, tensor, shape in wanted:
        if tensor.shape != shape:
            raise RuntimeError(f"{name} has the shape {tuple(tensor.shape)}, expected {shape}")
        if tensor.dtype is not x.dtype or tensor.device != x.device:
            got = f"{tensor.dtype} on {tensor.device}"
            raise RuntimeError(f"{name} is {got}, but the input is {x.dtype} on {x.device}")


def _forward(mode: str, call: Call, kept: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Live rows of the output and the last states, in the kernel's order."""
    _check(call)
    cell, x, h, layout = call.cell, call.x, call.h, call.layout
    input_size, hidden_size = x.shape[-1], h.shape[1]
    chosen = kernel(cell, mode, x.dtype, input_size, hidden_size)
    rows = layout.gather(x)
    first = layout.sort(h)
    carried = [layout.sort(state) for state in call.states]
    carried = [
        mine.clone() if mine.data_ptr() == state.data_ptr() else mine
        for mine, state in zip(carried, call.states, strict=True)
    ]
    out = x.new_empty(layout.rows, hidden_size)
    packed = _pack(cell, call.parameters, x, hidden_size, chosen.tile)
    buffers = [rows, first, out, *packed, *carried, *kept]
    depth = input_size + hidden_size
    operations = 2 * len(cell.accumulators) * hidden_size * depth
    team = _team(layout, chosen.tile, operations)
    _call(chosen, buffers, layout, team, [])
    return out, carried


def _team(layout: Layout, cut: Tile, row_operations: int) -> threads.Team:
    """The threads for a pass; `row_operations` are those of one row in one step."""
    mean = row_operations * layout.rows // max(1, layout.steps)
    return threads.team(layout.batch, cut.blocks, layout.steps, mean)


def _call(
    chosen: Kernel, buffers: list[Tensor], layout: Layout, team: threads.Team, strides: list[int]
) -> None:
    arrived = torch.zeros(1, dtype=torch.int64) if team.by_block else None
    pointers = [buffer.data_ptr() for buffer in buffers]
    chosen([*pointers, *layout.sizes(team, arrived), *strides], team.count)


def _pack(
    cell: Cell, parameters: Mapping[str, Tensor], x: Tensor, hidden_size: int, cut: Tile
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Packed W, R, biases and per-unit weights."""
    pack = packer(x.dtype)
    from_x, from_h, sums = _counts(cell)
    w = pack.gates(parameters["weight_ih"], from_x, cut)
    r = pack.gates(parameters["weight_hh"], from_h, cut) if from_h else w
    bias = pack.gates(_bias(cell, parameters, x, hidden_size), sums, cut)
    return w, r, bias, _pack_units(cell, parameters, x, cut)


@cache
def _counts(cell: Cell) -> tuple[int, int, int]:
    """How many affine sums have `W x`, how many have `R h`, and how many there are."""
    sums = cell.accumulators
    return sum(acc.x for acc in sums), sum(acc.h for acc in sums), len(sums)


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
        if name in parameters:
            rows = parameters[name].view(-1, hidden_size)
            for start, end, first in _runs(cell, name):
                total[start:end] += rows[first : first + end - start]
    return total.view(-1, 1)


@cache
def _runs(cell: Cell, part: str) -> tuple[tuple[int, int, int], ...]:
    """Neighbors among the affine sums that have a part (`x`, `h`, `bias_ih`, `bias_hh`).

    Each run is its first sum, the one after its last, and how many sums with the part come before:
    where its rows begin in the parameter.
    """
    runs: list[tuple[int, int, int]] = []
    count = 0
    for n, acc in enumerate(cell.accumulators):
        if getattr(acc, part):
            if runs and runs[-1][1] == n:
                runs[-1] = (runs[-1][0], n + 1, runs[-1][2])
            else:
                runs.append((n, n + 1, count))
            count += 1
    return tuple(runs)


def backward(
    call: Call, kept: Kept, incoming: Incoming, *, need_x: bool, need_h: bool
) -> Gradients:
    """Every gradient of a training pass; those of x and h are empty where nobody asks for them."""
    _check(call)
    cell, x, h, layout, parameters = call.cell, call.x, call.h, call.layout, call.parameters
    hidden_size = h.shape[1]
    sums = len(cell.accumulators)
    chosen = kernel(cell, "backward", x.dtype, x.shape[-1], hidden_size)
    cut = chosen.tile
    out, first = layout.gather(kept.out), layout.sort(h)
    d_gates = x.new_empty(layout.rows, sums * hidden_size)
    d_h = x.new_zeros(layout.batch, hidden_size)
    team = _team(layout, cut, 2 * sums * hidden_size * hidden_size)
    d_bias = x.new_zeros(team.count, sums, cut.padded)
    d_units = x.new_zeros(team.count, len(cell.weights), cut.padded)
    zeros = x.new_zeros(cut.padded)
    recurrent = parameters.get("weight_hh")
    packed = zeros if recurrent is None else packer(x.dtype).rows(recurrent, cut)
    units = _pack_units(cell, parameters, x, cut)
    arriving = [
        zeros if g is None else layout.gather(g) for g in (incoming.out, *incoming.sequences)
    ]
    buffers = [out, first, kept.saved, packed, units, arriving[0], d_gates, d_h, d_bias, d_units]
    d_states = [torch.zeros_like(d_h) for _ in call.states]
    for n, state in enumerate(call.states):
        sequence = layout.gather(kept.sequences[n])
        buffers += [sequence, layout.sort(state), arriving[n + 1], d_states[n]]
    strides = [0 if gradient is zeros else hidden_size for gradient in arriving]
    _call(chosen, buffers, layout, team, strides)
    weights = _Weights(cell, layout, layout.gather(x), out, first, d_gates)
    found = weights.gradients(parameters)
    found |= _summed(cell, parameters, d_bias, d_units, hidden_size)
    d_x, d_first = x.new_empty(0), x.new_empty(0)
    if need_x:
        d_x = layout.scatter(weights.input_gradient(parameters), x)
    if need_h:
        last = d_h if recurrent is None else weights.first_gradient(recurrent, d_h)
        d_first = layout.restore(last)
    return Gradients((d_x, d_first, *(layout.restore(value) for value in d_states)), found)


def _summed(
    cell: Cell,
    parameters: Mapping[str, Tensor],
    d_bias: Tensor,
    d_units: Tensor,
    hidden_size: int,
) -> dict[str, Tensor]:
    """Gradients of the biases and per-unit weights from the sums of each thread."""
    biases = (d_bias.sum(0) if d_bias.shape[0] > 1 else d_bias[0])[:, :hidden_size]
    units = (d_units.sum(0) if d_units.shape[0] > 1 else d_units[0])[:, :hidden_size]
    found: dict[str, Tensor] = {}
    for name in ("bias_ih", "bias_hh"):
        if name in parameters:
            parts = [biases[start:end] for start, end, _ in _runs(cell, name)]
            found[name] = torch.cat(parts).view(-1)
    for n, name in enumerate(cell.weights):
        found[name] = units[n].clone()
    return found


@dataclass(frozen=True, eq=False)
class _Weights:
    """The products after the loop: gradients of W and R, of x and of the first h."""

    cell: Cell
    layout: Layout
    x: Tensor
    """`[rows, I]`"""
    out: Tensor
    first: Tensor
    d_gates: Tensor
    """`[rows, sums * H]`"""

    def gradients(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gradients of the matrices by name."""
        found = {"weight_ih": torch.empty_like(parameters["weight_ih"])}
        self._fill(found["weight_ih"], "x", [(self.d_gates, self.x)])
        if "weight_hh" in parameters:
            found["weight_hh"] = torch.empty_like(parameters["weight_hh"])
            self._fill(found["weight_hh"], "h", self._previous())
        return found

    def _fill(self, result: Tensor, part: str, pairs: list[tuple[Tensor, Tensor]]) -> None:
        hidden_size = self.first.shape[1]
        for start, end, first in _runs(self.cell, part):
            columns = slice(start * hidden_size, end * hidden_size)
            target = result[first * hidden_size : (first + end - start) * hidden_size]
            for n, (left, right) in enumerate(pairs):
                gradient_product(left[:, columns], right, target, add=n > 0)

    def _previous(self) -> list[tuple[Tensor, Tensor]]:
        """Rows of `d_gates` beside the h that their step read."""
        batch = self.first.shape[0]
        counts = self.layout.counts
        if self.layout.rows == batch and counts is None:
            return [(self.d_gates, self.first)]
        if counts is None:
            later = (self.d_gates[batch:], self.out[: self.layout.rows - batch])
            return [later, (self.d_gates[:batch], self.first)]
        alive = counts.numpy()
        starts = np.cumsum(alive) - alive
        inside = np.arange(batch)[None, :] < alive[1:, None]
        before = (batch + starts[:-1, None] + np.arange(batch)[None, :])[inside]
        index = torch.from_numpy(np.concatenate([np.arange(alive[0]), before]))
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
        hidden_size = self.first.shape[1]
        total: Tensor | None = None
        for start, end, first in _runs(self.cell, part):
            columns = slice(start * hidden_size, end * hidden_size)
            rows = slice(first * hidden_size, (first + end - start) * hidden_size)
            term = rows_product(gradients[:, columns], weight[rows])
            total = term if total is None else total.add_(term)
        return gradients.new_zeros(gradients.shape[0], weight.shape[1]) if total is None else total

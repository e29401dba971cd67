"""Run compiled kernels on tensors: rows laid out, buffers made and named, products after."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from holdfast.compiler import threads
from holdfast.compiler.build import Kernel, kernel, planned
from holdfast.compiler.cell import Cell
from holdfast.compiler.emit.llvm_ahead import AHEAD
from holdfast.compiler.emit.llvm_backward import gates_stride
from holdfast.compiler.emit.llvm_dots import DOTS, padded
from holdfast.compiler.emit.llvm_forward import STORING
from holdfast.compiler.emit.llvm_loops import Sizes, Tile
from holdfast.compiler.emit.llvm_sweeps import kept_width
from holdfast.compiler.emit.llvm_team import COUNTER
from holdfast.compiler.emit.target import host
from holdfast.compiler.noise import Noise, limits
from holdfast.compiler.plan import Plan
from holdfast.compiler.schedule import Schedule
from holdfast.nn.drawing import draw
from holdfast.nn.kept import keep
from holdfast.nn.layout import Layout
from holdfast.nn.memory import borrow
from holdfast.nn.narrow import levels
from holdfast.nn.packing import bias_count, dense, pack_backward, pack_forward, shapes, summed
from holdfast.nn.weights import Matrices

_FEW = 2
"""Rows up to which weights are waited for."""

_LONG = 4
"""Steps from which multiplying x for many of them at once pays."""

Buffers = dict[str, "Tensor | int"]
"""What a kernel gets, by the names of its slots."""
Pack = Callable[[Cell, Mapping[str, Tensor], Tensor, Sizes, Tile], dict[str, Tensor]]


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
    starts: Sequence[Tensor] = ()
    """What rows that begin anew within the sequence begin with, `[H]` for h and each state."""
    noise: Noise | None = None
    narrow: str = ""
    """How W and R are stored: one of `llvm_products.BITS`, or as the input."""

    def sorted(self) -> list[Tensor]:
        """The first h and the first states in the kernel's order."""
        states = (self.h, *self.states)
        starts = self.starts or (None,) * len(states)
        pairs = zip(states, starts, strict=True)
        return [self.layout.sort(state, start) for state, start in pairs]


@dataclass(frozen=True, eq=False)
class Kept:
    """What the training pass keeps.

    `out` and the states' sequences are as the user sees them; the plan's saved values are
    `[T * B, saved_width]`: the live rows first.
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
    """Gradients of x, h and each first state, of the fresh starts, and of the parameters."""

    first: tuple[Tensor, ...]
    starts: tuple[Tensor, ...]
    parameters: dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Chosen:
    """A kernel for a call, and what it is specialized for."""

    plan: Plan
    sizes: Sizes
    kernel: Kernel

    @property
    def tile(self) -> Tile:
        """How the kernel cuts its product."""
        return self.kernel.tile


def saved_width(cell: Cell, hidden_size: int, projected: bool) -> int:
    """Numbers that the plan keeps per row and step."""
    return planned(cell, projected).saved_width(hidden_size)


def infer(call: Call, *, sequences: bool = False) -> list[Tensor]:
    """Outputs and last states, nothing kept; `sequences`: every value of the states, too."""
    layout = call.layout
    if sequences:
        kept = _sequences(call)
        out, _ = _forward("collect", call, kept)
        return [out, *kept.values()]
    mode = "step" if layout.steps == 1 and layout.counts is None else "infer"
    out, finals = _forward(mode, call, {})
    return [out, *(layout.restore(state) for state in finals)]


def train(call: Call, *, blank: bool = True) -> list[Tensor]:
    """Outputs, the sequences of the states and what the plan keeps.

    Arguments:
        blank: whether what is kept is zero where nothing is written, beyond the live rows and the
            numbers of each, or anything.
    """
    x, layout, hidden_size = call.x, call.layout, _hidden_size(call)
    rows = x.shape[:-1].numel()
    projected = "weight_hr" in call.parameters
    saved = x.new_empty(rows, saved_width(call.cell, hidden_size, projected))
    if blank:
        plan = planned(call.cell, projected)
        saved[layout.rows :] = 0.0
        saved[:, len(plan.saved) * hidden_size + len(plan.shared) :] = 0.0
    sequences = _sequences(call)
    out, _ = _forward("train", call, sequences | {"saved": saved})
    return [out, *sequences.values(), saved]


def _sequences(call: Call) -> dict[str, Tensor]:
    width = _hidden_size(call)
    return {f"sequence {name}": call.layout.make(call.x, width) for name in call.cell.states}


def _hidden_size(call: Call) -> int:
    return call.cell.measure(call.parameters)[1]


def _sizes(call: Call) -> Sizes:
    """I, H, heads and P of a call."""
    recurrent, projection = (call.parameters.get(f"weight_h{end}") for end in "hr")
    (inputs, hidden_size), output = call.cell.measure(call.parameters), call.h.shape[-1]
    width = 0 if projection is None else projection.shape[0]
    columns = output if recurrent is None else max(1, recurrent.shape[1])
    given = call.x.shape[-1] - inputs
    heads = max(1, output // columns)
    return Sizes(inputs, hidden_size, heads, width, given, narrow=_stored(call, heads))


def _stored(call: Call, heads: int) -> str:
    """How narrow weights are stored on this processor."""
    dots = call.narrow == "int8" and heads == 1 and "weight_hh" in call.parameters
    return DOTS if dots and host().dots else call.narrow


def _check(call: Call, sizes: Sizes) -> None:
    """Refuse what would make a kernel read beyond a tensor's end."""
    cell, x, h = call.cell, call.x, call.h
    if sizes.projection and sizes.heads > 1:
        raise RuntimeError("heads and a projection of h exclude each other")
    widths = cell.widths(sizes.input, sizes.hidden)
    if call.x.shape[-1] not in widths:
        expected = " or ".join(map(str, widths))
        raise RuntimeError(f"the input has {call.x.shape[-1]} features, expected {expected}")
    expected = shapes(cell, sizes)
    wanted = [(name, tensor, expected[name]) for name, tensor in call.parameters.items()]
    batch = h.shape[0] if x.dim() == 2 else x.shape[1]
    pairs = zip(("h", *cell.states), (h, *call.states), strict=True)
    widths = (sizes.output, *(sizes.hidden for _ in cell.states))
    wanted += [
        (name, tensor, (batch, width)) for (name, tensor), width in zip(pairs, widths, strict=True)
    ]
    if call.starts:
        names = [f"the start of {name}" for name in ("h", *cell.states)]
        pairs = zip(names, call.starts, strict=True)
        wanted += [(n, t, (w,)) for (n, t), w in zip(pairs, widths, strict=True)]
    for name, tensor, shape in wanted:
        if tensor.shape != shape:
            raise RuntimeError(f"{name} has the shape {tuple(tensor.shape)}, expected {shape}")
        if tensor.dtype is not x.dtype or tensor.device != x.device:
            got = f"{tensor.dtype} on {tensor.device}"
            raise RuntimeError(f"{name} is {got}, but the input is {x.dtype} on {x.device}")
    _check_noise(call, batch)


def _check_noise(call: Call, batch: int) -> None:
    if not call.cell.masks:
        return
    if call.noise is None:
        raise RuntimeError(f"the cell {call.cell.name} draws masks; seeds and a table are missing")
    noise, count = call.noise, len(call.cell.masks)
    for name, tensor, shape, dtype in (
        ("seeds", noise.seeds, (batch,), torch.int64),
        ("first_steps", noise.steps, (batch,), torch.int64),
        ("table", noise.table, (count, 3), torch.float64),
    ):
        if tensor is not None and (tensor.shape != shape or tensor.dtype is not dtype):
            got = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise RuntimeError(f"{name} is {got}, expected {dtype} {shape}")


def prepare(mode: str, call: Call) -> Chosen:
    """The kernel for a call that fits its tensors."""
    sizes = _sizes(call)
    _check(call, sizes)
    if sizes.heads > 1 and sizes.depth % _lanes(call.x.dtype):
        # Blocks of units would straddle heads: the zeros are multiplied, too.
        sizes = replace(sizes, heads=1)
    if mode in ("infer", *STORING) and _few(call, sizes):
        sizes = replace(sizes, few=_FEW)
    found = kernel(call.cell, mode, call.x.dtype, sizes)
    return Chosen(planned(call.cell, bool(sizes.projection)), sizes, found)


def packed(call: Call, chosen: Chosen, pack: Pack) -> dict[str, Tensor]:
    """The parameters by the names of the kernel's slots; packed only where they have changed."""
    cell, dtype, sizes, cut = call.cell, call.x.dtype, chosen.sizes, chosen.tile
    # One or two rows read the same weights in the same order.
    how = (pack, cell.key, dtype, replace(sizes, few=0), cut)
    names = list(call.parameters)
    return keep(
        (how, *names),
        list(call.parameters.values()),
        lambda: pack(cell, _whole(call, sizes), call.x, sizes, cut),
    )


def _whole(call: Call, sizes: Sizes) -> Mapping[str, Tensor]:
    """The parameters; a block-diagonal R that the kernel cannot cut is made dense."""
    recurrent = call.parameters.get("weight_hh")
    if recurrent is None or recurrent.shape[1] == sizes.depth:
        return call.parameters
    return {**call.parameters, "weight_hh": dense(recurrent, sizes.hidden)}


def _few(call: Call, sizes: Sizes) -> bool:
    """Whether rows are so few that W of each step would be waited for."""
    layout = call.layout
    some = layout.batch <= _FEW and layout.counts is None and layout.index is None
    return some and layout.steps >= _LONG and sizes.input > 0


@cache
def _lanes(dtype: torch.dtype) -> int:
    return host().lanes(dtype.itemsize)


def _forward(mode: str, call: Call, kept: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The output as the user sees it, and the last states in the kernel's order."""
    chosen = prepare(mode, call)
    cell, x, layout, sizes = call.cell, call.x, call.layout, chosen.sizes
    first, *carried = call.sorted()
    carried = [
        mine.clone() if mine.data_ptr() == state.data_ptr() else mine
        for mine, state in zip(carried, call.states, strict=True)
    ]
    out = layout.make(x, sizes.output)
    buffers: Buffers = {"x": x.contiguous(), "h_first": first, "out": out}
    buffers |= packed(call, chosen, pack_forward)
    names = (f"state {name}" for name in cell.states)
    buffers |= dict(zip(names, carried, strict=True)) | kept
    buffers |= noise_buffers(call)
    if cell.operand:
        buffers["operand_first"] = _operand_first(call, first)
        buffers["operand"] = out if mode == "train" else x.new_empty(layout.rows, sizes.hidden)
    needed = working_memory(chosen, layout.batch)
    buffers |= {name: x.new_empty(count) for name, count in needed.items()}
    team = forward_team(call, chosen)
    if sizes.narrow == DOTS:
        buffers |= levels(x, team.count * layout.batch, padded(sizes.depth, chosen.tile.lanes))
    _run(chosen.kernel, buffers, layout, team)
    return out, carried


def working_memory(chosen: Chosen, batch: int) -> dict[str, int]:
    """How many numbers a forward kernel writes for itself alone, by the names of its slots."""
    sizes, sweeps = chosen.sizes, chosen.plan.sweeps
    found = {} if sweeps.single else {"kept": batch * kept_width(sweeps, chosen.tile)}
    if sizes.projection:
        found["hidden"] = batch * sizes.hidden
    if sizes.few:
        found["ahead"] = AHEAD * len(chosen.plan.accumulators) * chosen.tile.padded
    return found


def forward_team(call: Call, chosen: Chosen) -> threads.Team:
    """The threads for a forward pass."""
    sizes = chosen.sizes
    depth = sizes.input + sizes.depth
    return _team(call, chosen, 2 * len(call.cell.accumulators) * sizes.hidden * depth)


def noise_buffers(call: Call) -> dict[str, Tensor]:
    """What masks are drawn from, in the kernel's order of rows."""
    if call.noise is None or not call.cell.masks:
        return {}
    noise = _noise(call)
    table, dtype = limits(noise.table), call.x.dtype
    return {
        "seeds": noise.seeds,
        "first_steps": torch.zeros_like(noise.seeds) if noise.steps is None else noise.steps,
        "largest": torch.tensor([row[0] for row in table], dtype=torch.int64),
        "mask_values": torch.tensor([row[1:] for row in table], dtype=dtype),
    }


def _noise(call: Call) -> Noise:
    """The noise of the kernel's rows; a row that is cut out of another counts its steps on."""
    layout, noise = call.layout, call.noise
    if noise is None:
        raise RuntimeError("there is no noise")
    if layout.order is not None:
        noise = noise.rows(layout.order)
    seeds, steps = noise.seeds.contiguous(), noise.steps
    if layout.begins is not None:
        steps = layout.begins if steps is None else steps + layout.begins
    return Noise(seeds, noise.table, None if steps is None else steps.contiguous())


def _operand_first(call: Call, first: Tensor) -> Tensor:
    """What R multiplies in the first step."""
    return first * _operand_mask(call, first)


def _operand_mask(call: Call, first: Tensor) -> Tensor:
    number = [mask.name for mask in call.cell.masks].index(call.cell.operand)
    return draw(_noise(call), number, first.shape[1], first.dtype)


def _working_memory(call: Call, chosen: Chosen, sweeps: Schedule) -> Buffers:
    """The rows' memory between sweeps."""
    if sweeps.single:
        return {}
    batch = call.layout.batch
    return {"kept": call.x.new_empty(batch, kept_width(sweeps, chosen.tile))}


def _team(call: Call, chosen: Chosen, row_operations: int) -> threads.Team:
    """The threads for a pass; `row_operations` are those of one row in one step."""
    layout, plan = call.layout, chosen.plan
    mean = row_operations * layout.rows // max(1, layout.steps)
    apart = plan.sweeps.single and plan.backward_sweeps.single and not chosen.sizes.projection
    blocks = chosen.tile.blocks if apart else 0
    return threads.team(layout.batch, blocks, layout.steps, mean)


def _run(chosen: Kernel, buffers: Buffers, layout: Layout, team: threads.Team) -> None:
    arrived = torch.zeros(COUNTER, dtype=torch.int64) if team.by_block else None
    buffers |= layout.sizes(team, arrived)
    given = [buffers[name] for name in chosen.slots[:-1]]
    chosen([one if isinstance(one, int) else one.data_ptr() for one in given], team.count)


def backward(
    call: Call, kept: Kept, incoming: Incoming, *, need_x: bool, need_h: bool
) -> Gradients:
    """Every gradient of a training pass; those of x and h are empty where nobody asks for them."""
    chosen = prepare("backward", call)
    cell, x, layout, sizes = call.cell, call.x, call.layout, chosen.sizes
    sums, hidden, batch = len(cell.accumulators), sizes.hidden, layout.batch
    first, *states = call.sorted()
    stride = gates_stride(chosen.plan, sizes)
    d_gates = borrow(layout.rows * stride, x).view(layout.rows, stride)[:, : sums * hidden]
    d_h = x.new_zeros(batch, hidden)
    team = _team(call, chosen, 2 * sums * hidden * hidden)
    padded = chosen.tile.padded
    d_bias = x.new_zeros(team.count, bias_count(cell), padded)
    d_units = x.new_zeros(team.count, len(cell.weights), padded)
    out = kept.out.contiguous()
    buffers: Buffers = {"out": out, "h_first": first, "saved": kept.saved, "d_gates": d_gates}
    buffers |= {"d_h": d_h, "d_bias": d_bias, "d_units": d_units}
    buffers |= packed(call, chosen, pack_backward)
    d_states = [torch.zeros_like(d_h) for _ in call.states]
    buffers |= _incoming(call, incoming, max(padded, sizes.output))
    for n, name in enumerate(cell.states):
        buffers[f"sequence {name}"] = kept.sequences[n].contiguous()
        buffers[f"first {name}"] = states[n]
        buffers[f"d_state {name}"] = d_states[n]
    buffers |= noise_buffers(call) | _working_memory(call, chosen, chosen.plan.backward_sweeps)
    buffers["x"] = x.contiguous()
    d_given = [x.new_empty(layout.rows, hidden) for _ in cell.inputs]
    buffers |= {f"d_input {n}": value for n, value in zip(cell.inputs, d_given, strict=True)}
    buffers["d_operand"] = x.new_empty(batch, padded)
    d_projected = buffers["d_projected"] = x.new_empty(layout.rows, sizes.projection)
    _run(chosen.kernel, buffers, layout, team)
    matrices = _matrices(call, chosen, kept, first, d_gates, out)
    found = matrices.gradients(call.parameters)
    found |= summed(cell, call.parameters, d_bias, d_units, hidden)
    if sizes.projection:
        whole = _saved(chosen, kept, layout, "h")
        found["weight_hr"] = torch.mm(d_projected.t(), whole)
    d_x = x.new_empty(0)
    if need_x:
        d_x = layout.scatter(_input_gradient(call, matrices, d_given), x)
    d_first = _first_gradient(call, matrices, d_h, first) if need_h else None
    return _collect(call, d_x, d_first, d_states, found)


def _incoming(call: Call, incoming: Incoming, width: int) -> Buffers:
    """Gradients that arrive, with the distance between their rows."""
    zeros = call.x.new_zeros(width)
    buffers: Buffers = {}
    names = ("d_out", *(f"d_sequence {name}" for name in call.cell.states))
    for name, gradient in zip(names, (incoming.out, *incoming.sequences), strict=True):
        given = zeros if gradient is None else _in_rows(gradient)
        buffers[name] = given
        buffers[f"ld {name}"] = 0 if gradient is None else given.stride(-2)
    return buffers


def _in_rows(gradient: Tensor) -> Tensor:
    """The gradient with its rows, `[T, B, H]` or `[N, H]`, equally far apart: half of a wider one,
    as joined directions give it, is not copied."""
    strides = gradient.stride()
    even = gradient.dim() == 2 or strides[0] == gradient.shape[1] * strides[1]
    inside = strides[-1] == 1 and strides[-2] >= gradient.shape[-1]
    return gradient if even and inside else gradient.contiguous()


def _saved(chosen: Chosen, kept: Kept, layout: Layout, output: str) -> Tensor:
    """A result of the steps that the training pass saved, `[rows, H]`."""
    node = chosen.plan.forward.outputs[output]
    start = chosen.plan.saved_column(node) * chosen.sizes.hidden
    return kept.saved[: layout.rows, start : start + chosen.sizes.hidden]


def _matrices(
    call: Call, chosen: Chosen, kept: Kept, first: Tensor, d_gates: Tensor, out: Tensor
) -> Matrices:
    """What the products after the loop multiply."""
    cell, layout, hidden = call.cell, call.layout, chosen.sizes.hidden
    recurrent = out.view(-1, out.shape[-1])
    if cell.operand:
        recurrent = _saved(chosen, kept, layout, "operand")
        first = _operand_first(call, first)
    operands: dict[str, Tensor] = {}
    for node in chosen.plan.forward.nodes():
        if node.op == "affine":
            start = chosen.plan.saved_column(node.inputs[0]) * hidden
            operands[node.name] = kept.saved[: layout.rows, start : start + hidden]
    sizes = chosen.sizes
    if "weight_hh" in call.parameters:
        columns = call.parameters["weight_hh"].shape[1]
        sizes = replace(sizes, heads=sizes.output // columns)
    x = layout.gather(call.x)[:, : sizes.input]
    return Matrices(cell, sizes, layout, x, recurrent, first, d_gates, operands)


def _input_gradient(call: Call, matrices: Matrices, given: Sequence[Tensor]) -> Tensor:
    """The gradient of the live rows of x: through W, and of what the steps are given."""
    through = matrices.input_gradient(call.parameters)
    if not given:
        return through
    if call.x.shape[-1] == through.shape[1] + sum(one.shape[1] for one in given):
        return torch.cat([through, *given], 1)
    return torch.cat([through + given[0], *given[1:]], 1)


def _first_gradient(call: Call, matrices: Matrices, d_h: Tensor, first: Tensor) -> Tensor:
    """The gradient of the first h: through R at the first step, and what passed no matrix."""
    recurrent = call.parameters.get("weight_hh")
    if recurrent is None:
        return d_h
    through = matrices.first_gradient(recurrent)
    if call.cell.operand:
        through = through * _operand_mask(call, first)
    return through if d_h.shape != through.shape else through + d_h


def _collect(
    call: Call,
    d_x: Tensor,
    d_first: Tensor | None,
    d_states: list[Tensor],
    parameters: dict[str, Tensor],
) -> Gradients:
    """Gradients in the user's order of rows."""
    layout, batch = call.layout, call.h.shape[0]
    # Two of them: an operator's results must not share memory.
    none = (call.h.new_empty(0), call.h.new_empty(0))
    pairs = [none if d_first is None else layout.collect(d_first, batch)]
    pairs += [layout.collect(value, batch) for value in d_states]
    given, starts = (tuple(side) for side in zip(*pairs, strict=True))
    return Gradients((d_x, *given), starts if call.starts else (), parameters)

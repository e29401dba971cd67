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
from holdfast.compiler.emit import llvm_pairs
from holdfast.compiler.emit.llvm_ahead import AHEAD
from holdfast.compiler.emit.llvm_dots import DOTS, padded
from holdfast.compiler.emit.llvm_forward import STORING, STRIDE
from holdfast.compiler.emit.llvm_loops import Sizes, Tile
from holdfast.compiler.emit.llvm_pairs import PAIRS
from holdfast.compiler.emit.llvm_sweeps import kept_width
from holdfast.compiler.emit.llvm_team import COUNTER
from holdfast.compiler.emit.target import host
from holdfast.compiler.noise import Noise, limits
from holdfast.compiler.plan import Plan
from holdfast.nn.drawing import draw
from holdfast.nn.kept import keep
from holdfast.nn.layout import Layout
from holdfast.nn.memory import in_huge_pages
from holdfast.nn.packing import dense, pack_forward, runs, shapes

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
    """How W and R are stored: one of `llvm_products.IN_A_LANE`, or as the input."""

    def sorted(self) -> list[Tensor]:
        """The first h and the first states in the kernel's order."""
        states = (self.h, *self.states)
        starts = self.starts or (None,) * len(states)
        pairs = zip(states, starts, strict=True)
        return [self.layout.sort(state, start) for state, start in pairs]


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


def infer_both(calls: Sequence[Call]) -> tuple[Tensor, list[list[Tensor]]]:
    """`infer` for both directions: their outputs side by side, and the last states of each."""
    layout, width = calls[0].layout, calls[0].h.shape[-1]
    mode = "step" if layout.steps == 1 and layout.counts is None else "infer"
    out = layout.make(calls[0].x, 2 * width)
    finals = []
    for n, call in enumerate(calls):
        _, carried = _forward(mode, call, {}, out.narrow(-1, n * width, width))
        finals.append([call.layout.restore(state) for state in carried])
    return out, finals


def train(call: Call, *, blank: bool = True) -> list[Tensor]:
    """Outputs, the sequences of the states and what the plan keeps.

    Arguments:
        blank: whether what is kept is zero where nothing is written, beyond the live rows and the
            numbers of each, or anything.
    """
    x, layout, hidden_size = call.x, call.layout, _hidden_size(call)
    rows = x.shape[:-1].numel()
    projected = "weight_hr" in call.parameters
    saved = in_huge_pages(x.new_empty(rows, saved_width(call.cell, hidden_size, projected)))
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
    if call.narrow == PAIRS:
        return PAIRS if heads == 1 and pairs_wanted(call) else ""
    dots = call.narrow == "int8" and heads == 1 and "weight_hh" in call.parameters
    return DOTS if dots and host().dots else call.narrow


def pairs_wanted(call: Call) -> bool:
    """Whether products of bfloat16 are possible here, and faster.

    With few rows a step waits for its weights. No pair may belong to two gates that are not
    neighbors.
    """
    count, width = len(runs(call.cell, "h")), call.cell.measure(call.parameters)[1]
    apart = count == 1 or (count > 1 and width % 2 == 0)
    return host().pairs and call.x.dtype is torch.float32 and call.layout.batch > _FEW and apart


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


def prepare(mode: str, call: Call, *, checked: bool = False) -> Chosen:
    """The kernel of a mode for a call, which is checked unless it has been."""
    sizes = _sizes(call)
    if not checked:
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


def _forward(
    mode: str, call: Call, kept: dict[str, Tensor], out: Tensor | None = None
) -> tuple[Tensor, list[Tensor]]:
    """The output as the user sees it, and the last states in the kernel's order.

    Arguments:
        out: where the output goes; its rows lie equally far apart.
    """
    chosen = prepare(mode, call)
    cell, x, layout, sizes = call.cell, call.x, call.layout, chosen.sizes
    first, *carried = call.sorted()
    carried = [
        mine.clone() if mine.data_ptr() == state.data_ptr() else mine
        for mine, state in zip(carried, call.states, strict=True)
    ]
    out = layout.make(x, sizes.output) if out is None else out
    buffers: Buffers = {"x": x.contiguous(), "h_first": first, "out": out}
    buffers[STRIDE] = out.stride(-2)
    buffers |= packed(call, chosen, pack_forward)
    names = (f"state {name}" for name in cell.states)
    buffers |= dict(zip(names, carried, strict=True)) | kept
    buffers |= noise_buffers(call)
    if cell.operand:
        buffers["operand_first"] = operand_first(call, first)
        buffers["operand"] = out if mode == "train" else x.new_empty(layout.rows, sizes.hidden)
    team = forward_team(call, chosen)
    needed = working_memory(chosen, layout.batch, team.count)
    buffers |= {name: x.new_empty(count) for name, count in needed.items()}
    launch(chosen.kernel, buffers, layout, team)
    return out, carried


def noise_buffers(call: Call) -> Buffers:
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


def noise_at(buffers: Buffers, start: int) -> Buffers:
    """The buffers of noise for steps that begin later."""
    if not start or not buffers:
        return buffers
    return buffers | {"first_steps": buffers["first_steps"] + start}


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


def operand_first(call: Call, first: Tensor) -> Tensor:
    """What R multiplies in the first step, of the first rows or all."""
    return first * operand_mask(call, first)[: first.shape[0]]


def operand_mask(call: Call, first: Tensor) -> Tensor:
    """The mask on what R multiplies, of all rows."""
    number = [mask.name for mask in call.cell.masks].index(call.cell.operand)
    return draw(_noise(call), number, first.shape[1], first.dtype)


def working_memory(chosen: Chosen, batch: int, count: int) -> dict[str, int]:
    """How many numbers a forward kernel writes for itself alone, by the names of its slots.

    Arguments:
        count: threads.
    """
    sizes, sweeps = chosen.sizes, chosen.plan.sweeps
    found = {} if sweeps.single else {"kept": batch * kept_width(sweeps, chosen.tile)}
    if sizes.projection:
        found["hidden"] = batch * sizes.hidden
    if sizes.few:
        found["ahead"] = AHEAD * len(chosen.plan.accumulators) * chosen.tile.padded
    if sizes.narrow == DOTS:
        # Two bytes for each h, where numbers have four.
        found["levels"] = count * batch * padded(sizes.depth, chosen.tile.lanes) // 2
        found["level_steps"] = count * batch
    if sizes.narrow == PAIRS:
        lanes = chosen.tile.lanes
        row = llvm_pairs.padded(sizes.input, lanes) + llvm_pairs.padded(sizes.depth, lanes)
        found[llvm_pairs.SLOT] = count * batch * row
    return found


def forward_team(call: Call, chosen: Chosen) -> threads.Team:
    """The threads for a forward pass."""
    sizes = chosen.sizes
    depth = sizes.input + sizes.depth
    return team_for(call, chosen, 2 * len(call.cell.accumulators) * sizes.hidden * depth)


def team_for(call: Call, chosen: Chosen, row_operations: int) -> threads.Team:
    """The threads for a pass; `row_operations` are those of one row in one step."""
    layout, plan = call.layout, chosen.plan
    mean = row_operations * layout.rows // max(1, layout.steps)
    apart = plan.sweeps.single and plan.backward_sweeps.single and not chosen.sizes.projection
    blocks = chosen.tile.blocks if apart else 0
    return threads.team(layout.batch, blocks, layout.steps, mean)


def launch(chosen: Kernel, buffers: Buffers, layout: Layout, team: threads.Team) -> None:
    """Run a kernel on named buffers over the rows of a layout."""
    arrived = torch.zeros(COUNTER, dtype=torch.int64) if team.by_block else None
    buffers |= layout.sizes(team, arrived)
    given = [buffers[name] for name in chosen.slots[:-1]]
    chosen([one if isinstance(one, int) else one.data_ptr() for one in given], team.count)

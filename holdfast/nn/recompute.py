"""The training pass chunk by chunk, and one whose backward pass computes its values again.

What such a pass keeps is its output and the states at the beginning of each chunk.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from holdfast.compiler.cell import Cell
from holdfast.compiler.emit.llvm_backward import gates_stride
from holdfast.compiler.emit.llvm_forward import STRIDE
from holdfast.nn import chunks, passes
from holdfast.nn.chunks import Chunk
from holdfast.nn.memory import borrow
from holdfast.nn.packing import pack_forward
from holdfast.nn.passes import Buffers, Call, Chosen

if TYPE_CHECKING:
    from holdfast.nn.recurrent import Recurrent

SHARE = 32
"""With `auto`, the part of the memory that one layer and direction may keep for its gradients."""

_ASSUMED = 8 * 2**30
"""Bytes of memory, where the system does not tell."""

_CGROUP = Path("/sys/fs/cgroup/memory.max")


@cache
def kept_bytes(cell: Cell, hidden_size: int, projected: bool, itemsize: int) -> int:
    """What a training pass keeps for each row and step, beside its output."""
    states = len(cell.states) * hidden_size
    return (passes.saved_width(cell, hidden_size, projected) + states) * itemsize


@cache
def memory() -> int:
    """Bytes of memory that this process may have."""
    try:
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        found = _ASSUMED
    limit = _CGROUP.read_text().strip() if _CGROUP.is_file() else ""
    return min(found, int(limit)) if limit.isdecimal() else found


def limit(row_bytes: int) -> int:
    """With `auto`, the live rows of all steps from which their values are computed again."""
    return memory() // (SHARE * max(1, row_bytes))


def wanted(
    option: str, cell: Cell, rows: int, hidden_size: int, projected: bool, item: int
) -> bool:
    """Whether the values of that many rows and steps are computed again.

    Inside `torch.compile` numbers of rows are symbols, and `auto` is `none`.
    """
    if option != "auto" or torch.compiler.is_compiling():
        return option == "full"
    return rows > limit(kept_bytes(cell, hidden_size, projected, item))


def reason(layer: Recurrent) -> str:
    """What the first layer of a stack keeps for its backward pass, and why."""
    option, backend = layer.options.recompute, layer.backend
    if backend != "llvm":
        return f"none: {backend} runs PyTorch's operations, which keep what they need"
    weight, given = next(layer.parameters()), layer.hidden_size
    hidden_size = given if isinstance(given, int) else given[0]
    row = kept_bytes(layer.varied, hidden_size, layer.proj_size > 0, weight.element_size())
    if option == "none":
        return f"none, as asked for: {row} bytes are kept for a row and step"
    if option == "full":
        return f"full, as asked for: otherwise {row} bytes would be kept for a row and step"
    return (
        f"none up to {limit(row)} rows and steps (T * B) of {row} bytes each, one part in {SHARE} "
        f"of {memory() / 2**30:.1f} GiB of memory; full beyond, but none inside torch.compile"
    )


def chunks_of(call: Call, chosen: Chosen, *, again: bool) -> list[Chunk]:
    """The chunks of a call, the same in every pass over it.

    Arguments:
        again: whether values are computed again.
    """
    plan, sizes = chosen.plan, chosen.sizes
    numbers = plan.saved_width(sizes.hidden) + gates_stride(plan, sizes)
    size = chunks.AGAIN if again else chunks.BYTES
    return chunks.cut(call.layout, numbers * call.x.element_size(), size)


def starts_shape(rows: int, width: int) -> tuple[int, int]:
    """The shape of what holds the states at the beginning of each chunk but the first.

    Rows never grow in number from step to step, and a chunk has at least `STEPS` of them.
    """
    return rows // chunks.STEPS, width


class Training:
    """The training kernel on one chunk after the other, in memory that is used again."""

    def __init__(self, call: Call, memory: list[Tensor]) -> None:
        """`memory` is as `memory_for` says: saved values, output, one sequence a state."""
        self.call = call
        self.chosen = chosen = passes.prepare("train", call)
        self.memory = memory
        cell, x, sizes, batch = call.cell, call.x, chosen.sizes, call.layout.batch
        self.x = x.reshape(-1, x.shape[-1])
        self.buffers: Buffers = dict(passes.packed(call, chosen, pack_forward))
        needed = passes.working_memory(chosen, batch, 1)
        self.buffers |= {name: x.new_empty(count) for name, count in needed.items()}
        self.noise = passes.noise_buffers(call)
        self.states = [x.new_empty(batch, sizes.hidden) for _ in cell.states]
        self.team = passes.forward_team(call, chosen)

    @staticmethod
    def memory_for(call: Call, chosen: Chosen, rows: int) -> list[int]:
        """How many numbers chunks of so many rows need, piece by piece."""
        hidden = chosen.sizes.hidden
        widths = [chosen.plan.saved_width(hidden), chosen.sizes.output]
        return [rows * width for width in (*widths, *(hidden for _ in call.cell.states))]

    def run(
        self, chunk: Chunk, h: Tensor, states: list[Tensor], target: Tensor | None = None
    ) -> list[Tensor]:
        """Saved values, output and sequences of the states, of the rows of a local chunk.

        `self.states` are the last states of rows that end within the chunk, and those after it.

        Arguments:
            h, states: those before the chunk, of the rows alive. target: memory for the output.
        """
        call, chosen, rows = self.call, self.chosen, chunk.rows
        hidden = chosen.sizes.hidden
        widths = [chosen.plan.saved_width(hidden), chosen.sizes.output, *(hidden for _ in states)]
        pairs = zip(self.memory, widths, strict=True)
        found = [piece[: rows * width].view(rows, width) for piece, width in pairs]
        found[1] = found[1] if target is None else target
        saved, out, *sequences = found
        buffers = self.buffers | passes.noise_at(self.noise, chunk.start)
        buffers |= {"x": chunk.take(self.x).contiguous(), "h_first": h, "out": out, "saved": saved}
        buffers[STRIDE] = out.stride(-2)
        given = zip(call.cell.states, self.states, states, sequences, strict=True)
        for name, mine, state, sequence in given:
            mine[: state.shape[0]] = state
            buffers |= {f"state {name}": mine, f"sequence {name}": sequence}
        if call.cell.operand:
            buffers["operand_first"] = passes.operand_first(call, h)
        passes.launch(chosen.kernel, buffers, chunk.layout, self.team)
        return found


def train(call: Call, *, sequences: bool, blank: bool = True) -> list[Tensor]:
    """Outputs, last states, and the states at the beginning of each chunk but the first.

    Arguments:
        sequences: instead of the last states, every value of the states.
        blank: whether what is kept is zero where nothing is written, or anything.
    """
    x, layout, names = call.x, call.layout, call.cell.states
    chosen = passes.prepare("train", call)
    hidden = chosen.sizes.hidden
    parts = chunks_of(call, chosen, again=True)
    most = max(chunk.rows for chunk in parts)
    training = Training(call, borrow(x, *Training.memory_for(call, chosen, most)))
    out = layout.make(x, chosen.sizes.output)
    courses = [layout.make(x, hidden) for _ in names] if sequences else []
    shape = (0, 0) if sequences else starts_shape(x.shape[:-1].numel(), len(names) * hidden)
    starts = x.new_zeros(shape) if blank else x.new_empty(shape)
    first, *states = call.sorted()
    used = 0
    for chunk in parts:
        if chunk.start:
            first = chunk.before(out.view(-1, out.shape[-1])).contiguous()
            states = [state[: chunk.alive] for state in training.states]
            if not sequences:
                torch.cat(states, 1, out=starts[used : used + chunk.alive]) if states else None
                used += chunk.alive
        flat = out.view(-1, out.shape[-1])
        target = flat[chunk.live] if chunk.index is None else None
        _, *found = training.run(chunk.local(), first, states, target)
        for rows, course in zip(found, (out, *courses), strict=False):
            chunk.put(rows, course.view(-1, course.shape[-1]))
    if sequences:
        return [out, *courses, starts]
    return [out, *(layout.restore(state) for state in training.states), starts]

"""The LLVM target: from a plan to the IR of one kernel."""

from __future__ import annotations

import torch

from holdfast.compiler.emit.llvm_backward import BackwardEmitter, backward_slots
from holdfast.compiler.emit.llvm_forward import ForwardEmitter, forward_slots, groups
from holdfast.compiler.emit.llvm_loops import (
    Sizes,
    Tile,
    new_module,
    register_budget,
    tile,
)
from holdfast.compiler.emit.llvm_math import FLOAT32, FLOAT64, Format
from holdfast.compiler.emit.llvm_team import add_entries
from holdfast.compiler.emit.target import Target
from holdfast.compiler.plan import Plan

MODES = ("infer", "step", "collect", "train", "backward")
"""Forward that keeps nothing, a single step of it, forward that keeps the states' sequences,
forward for training, backward."""

FORMATS: dict[torch.dtype, Format] = {torch.float32: FLOAT32, torch.float64: FLOAT64}
"""Formats this target computes in."""


def emit(
    plan: Plan,
    mode: str,
    form: Format,
    sizes: Sizes,
    target: Target,
    chosen: Tile | None = None,
) -> str:
    """The IR of one kernel as text.

    >>> from holdfast.cells import rnn
    >>> from holdfast.compiler.emit.target import TARGETS
    >>> from holdfast.compiler.plan import plan
    >>> text = emit(plan(rnn.traced, (), ()), "infer", FLOAT32, Sizes(3, 5), TARGETS["avx2"])
    >>> 'define void' in text
    True

    Arguments:
        chosen: how the product is cut; by default as `kernel_tile` says.
    """
    module = new_module(target)
    chosen = chosen or kernel_tile(plan, mode, form, sizes, target)
    if mode == "backward":
        emitter = BackwardEmitter(module, plan, form, sizes, chosen)
    else:
        emitter = ForwardEmitter(module, plan, form, sizes, chosen, mode)
    emitter.emit()
    add_entries(module, emitter.function, emitter.kinds)
    return str(module)


def slots(plan: Plan, mode: str, sizes: Sizes) -> list[str]:
    """Names of a kernel's slots in order; the number of threads comes last."""
    backward = mode == "backward"
    named = backward_slots(plan, sizes) if backward else forward_slots(plan, mode, sizes)
    return [*named, "threads"]


def kernel_tile(plan: Plan, mode: str, form: Format, sizes: Sizes, target: Target) -> Tile:
    """How a kernel cuts its product, where nothing was measured."""
    sums = accumulated(plan, mode)
    width = sizes.depth if sizes.heads > 1 else 0
    lanes = target.lanes(form.itemsize)
    return tile(sizes.hidden, sums, lanes, register_budget(target), width)


def accumulated(plan: Plan, mode: str) -> int:
    """Sums that a kernel accumulates together for each row and vector of units."""
    return 1 if mode == "backward" else max(map(len, groups(plan)), default=1)


def output_tile(cut: Tile, sizes: Sizes) -> Tile:
    """How a kernel with that tile cuts the product of a projection."""
    return tile(sizes.projection, 1, cut.lanes, cut.budget)

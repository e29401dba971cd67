"""The LLVM target: from a plan to the IR of one kernel."""

from __future__ import annotations

import torch

from holdfast.compiler.emit.llvm_backward import BackwardEmitter, backward_slots
from holdfast.compiler.emit.llvm_forward import ForwardEmitter, forward_slots
from holdfast.compiler.emit.llvm_loops import Tile, add_entries, new_module, tile
from holdfast.compiler.emit.llvm_math import FLOAT32, FLOAT64, Format
from holdfast.compiler.emit.target import Target
from holdfast.compiler.plan import Plan

MODES = ("infer", "step", "train", "backward")
"""Forward that saves nothing, a single step of it, forward for training, backward."""

FORMATS: dict[torch.dtype, Format] = {torch.float32: FLOAT32, torch.float64: FLOAT64}
"""Formats this target computes in."""


def emit(
    plan: Plan, mode: str, form: Format, input_size: int, hidden_size: int, target: Target
) -> str:
    """The IR of one kernel as text.

    >>> from holdfast.cells import rnn
    >>> from holdfast.compiler.emit.target import TARGETS
    >>> from holdfast.compiler.plan import plan
    >>> text = emit(plan(rnn.traced, (), ()), "infer", FLOAT32, 3, 5, TARGETS["avx2"])
    >>> "define void @\\"whole\\"" in text
    True
    """
    module = new_module(target)
    chosen = kernel_tile(plan, mode, form, hidden_size, target)
    if mode == "backward":
        emitter = BackwardEmitter(module, plan, form, hidden_size, chosen)
    else:
        emitter = ForwardEmitter(module, plan, form, input_size, hidden_size, chosen, mode)
    emitter.emit()
    add_entries(module, emitter.function, emitter.kinds)
    return str(module)


def slots(plan: Plan, mode: str) -> list[str]:
    """Names of a kernel's slots in order; the number of threads comes last."""
    named = backward_slots(plan) if mode == "backward" else forward_slots(plan, mode)
    return [*named, "threads"]


def kernel_tile(plan: Plan, mode: str, form: Format, hidden_size: int, target: Target) -> Tile:
    """How a kernel cuts its product."""
    sums = 1 if mode == "backward" else len(plan.accumulators)
    return tile(hidden_size, sums, target, form.itemsize)

"""The LLVM target: from a plan to the IR of one kernel, and the packing its weights need."""

from __future__ import annotations

import torch
from torch import Tensor

from holdfast.compiler.emit.llvm_backward import BackwardEmitter, backward_slots
from holdfast.compiler.emit.llvm_forward import ForwardEmitter, forward_slots
from holdfast.compiler.emit.llvm_loops import Tile, add_entries, new_module, tile
from holdfast.compiler.emit.llvm_math import FLOAT32, FLOAT64, Format
from holdfast.compiler.emit.target import Target
from holdfast.compiler.plan import Plan

MODES = ("infer", "train", "backward")
"""Forward that saves nothing, forward for training, backward."""

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
        backward = BackwardEmitter(module, plan, form, hidden_size, chosen)
        backward.emit()
        add_entries(module, backward.function, backward.kinds)
    else:
        training = mode == "train"
        forward = ForwardEmitter(
            module, plan, form, input_size, hidden_size, chosen, training=training
        )
        forward.emit()
        add_entries(module, forward.function, forward.kinds)
    return str(module)


def slots(plan: Plan, mode: str) -> list[str]:
    """Names of a kernel's slots in order; the number of threads comes last."""
    named = (
        backward_slots(plan)
        if mode == "backward"
        else forward_slots(plan, training=mode == "train")
    )
    return [*named, "threads"]


def kernel_tile(plan: Plan, mode: str, form: Format, hidden_size: int, target: Target) -> Tile:
    """How a kernel cuts its product."""
    sums = 1 if mode == "backward" else len(plan.accumulators)
    return tile(hidden_size, sums, target, form.itemsize)


def pack_forward(weight: Tensor, sums: int, chosen: Tile) -> Tensor:
    """A weight `[sums * H, K]` as `[blocks, K, sums * vectors * lanes]`, zero beyond H."""
    hidden_size = weight.shape[0] // sums
    cut = weight.reshape(sums, hidden_size, -1)
    if chosen.padded != hidden_size:
        cut = torch.nn.functional.pad(cut, (0, 0, 0, chosen.padded - hidden_size))
    cut = cut.reshape(sums, chosen.blocks, chosen.units, -1)
    return cut.permute(1, 3, 0, 2).contiguous()


def pack_backward(weight: Tensor, chosen: Tile) -> Tensor:
    """A weight `[K, H]` as `[blocks, K, vectors * lanes]`, zero beyond H."""
    depth, hidden_size = weight.shape
    if chosen.padded != hidden_size:
        weight = torch.nn.functional.pad(weight, (0, chosen.padded - hidden_size))
    return weight.reshape(depth, chosen.blocks, chosen.units).permute(1, 0, 2).contiguous()


def pack_units(weights: list[Tensor], like: Tensor, chosen: Tile) -> Tensor:
    """Per-unit weights `[H]` each as `[count, padded]`, zero beyond H."""
    packed = like.new_zeros(max(1, len(weights)), chosen.padded)
    for row, weight in zip(packed, weights, strict=False):
        row[: weight.shape[0]] = weight
    return packed

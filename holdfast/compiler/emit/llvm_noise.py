"""Random masks in LLVM IR: the hash of `compiler.noise`, bit for bit, on vectors of units."""

from __future__ import annotations

import llvmlite.ir as ir

from holdfast.compiler import noise
from holdfast.compiler.emit.llvm_loops import I32, I64, Emitter, number
from holdfast.compiler.emit.llvm_math import Value
from holdfast.compiler.trace import Mask

SLOTS = ("seeds", "first_steps", "largest", "mask_values")
"""Seeds `[B]` and numbers of the first steps `[B]`; of each mask the largest bits that take the
second value `[M]`, and the two values `[M, 2]`. The first three are int64."""


def noise_kinds(scalar: ir.Type) -> dict[str, ir.Type]:
    """Types of the slots for masks."""
    return {name: (scalar if name == SLOTS[3] else I64).as_pointer() for name in SLOTS}


def emit_mask(
    e: Emitter, masks: tuple[Mask, ...], name: str, row: Value, step: Value, unit: Value
) -> Value:
    """The values of a mask for the vector of units that starts at `unit`.

    Arguments:
        row: row of the batch. step: number of the step within this pass.
    """
    b = e.builder
    position = [mask.name for mask in masks].index(name)
    start = b.add(b.load(e.at(e["seeds"], row)), _constant((position + 1) * noise.GOLDEN))
    if masks[position].per_step:
        count = b.add(b.add(step, b.load(e.at(e["first_steps"], row))), number(1))
        start = b.add(start, b.mul(count, _constant(noise.STEP)))
    key = _mix(b, start)
    largest = b.trunc(b.load(e.at(e["largest"], position)), I32)
    second_wins = b.icmp_unsigned("<=", _bits(e, key, unit), e.spread(largest))
    first, second = (
        e.broadcast(b.load(e.at(e["mask_values"], 2 * position + n))) for n in range(2)
    )
    return b.select(second_wins, second, first)


def _bits(e: Emitter, key: Value, unit: Value) -> Value:
    """32 random bits in every lane."""
    b, lanes = e.builder, e.lanes
    kind = ir.VectorType(I32, lanes)
    low = b.add(b.trunc(key, I32), b.mul(b.trunc(unit, I32), ir.Constant(I32, noise.UNIT)))
    distances = [(lane * noise.UNIT) % 2**32 for lane in range(lanes)]
    x = b.add(e.spread(low), ir.Constant(kind, distances))
    high = e.spread(b.trunc(b.lshr(key, number(32)), I32))

    def every(value: int) -> Value:
        return ir.Constant(kind, [value] * lanes)

    x = b.mul(b.xor(x, b.lshr(x, every(16))), every(noise.MIX32[0]))
    x = b.xor(x, high)
    x = b.mul(b.xor(x, b.lshr(x, every(15))), every(noise.MIX32[1]))
    return b.xor(x, b.lshr(x, every(15)))


def _mix(b: ir.IRBuilder, x: Value) -> Value:
    """The 64-bit finalizer."""
    for shift, multiplier in zip((30, 27), noise.MIX, strict=True):
        x = b.mul(b.xor(x, b.lshr(x, number(shift))), _constant(multiplier))
    return b.xor(x, b.lshr(x, number(31)))


def _constant(value: int) -> Value:
    return number(value % 2**64)

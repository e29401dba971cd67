"""Random masks in LLVM IR: the hash of `compiler.noise`, bit for bit, on vectors of units."""

from __future__ import annotations

import llvmlite.ir as ir

from holdfast.compiler import noise
from holdfast.compiler.emit.llvm_loops import I32, I64, Emitter, new_module, number
from holdfast.compiler.emit.llvm_math import Format, Value
from holdfast.compiler.emit.target import Target
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
        count = b.add(step, b.load(e.at(e["first_steps"], row)))
        start = _at_step(b, start, count)
    values = e.at(e["mask_values"], 2 * position)
    return _choose(e, _mix(b, start), e.at(e["largest"], position), values, unit)


def _at_step(b: ir.IRBuilder, start: Value, step: Value) -> Value:
    return b.add(start, b.mul(b.add(step, number(1)), _constant(noise.STEP)))


def _choose(e: Emitter, key: Value, largest: Value, values: Value, unit: Value) -> Value:
    """One of two values in every lane; `largest` and `values` are pointers."""
    b = e.builder
    limit = e.spread(b.trunc(b.load(largest), I32))
    second_wins = b.icmp_unsigned("<=", _bits(e, key, unit), limit)
    first, second = (e.broadcast(b.load(e.at(values, n))) for n in range(2))
    return b.select(second_wins, second, first)


DRAW = ("seeds", "counters", "largest", "values", "out", "number", "rows", "units")
"""Arguments of the function `draw`; `counters` may be null."""


def emit_draw(form: Format, target: Target) -> str:
    """The IR of `draw` as text: a mask for every row and unit, `[rows, units]`."""
    module = new_module(target)
    scalar = ir.FloatType() if form.bits == 32 else ir.DoubleType()
    pointers = {"seeds": I64, "counters": I64, "largest": I64, "values": scalar, "out": scalar}
    kinds = [pointers[name].as_pointer() if name in pointers else I64 for name in DRAW]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), "draw")
    lanes = target.lanes(form.itemsize)
    e = Emitter(module, function, DRAW, form, lanes, lanes)
    b = e.builder
    offset = b.mul(b.add(e["number"], number(1)), _constant(noise.GOLDEN))
    steady = b.icmp_signed("==", b.ptrtoint(e["counters"], I64), number(0))
    with e.loop(number(0), e["rows"], number(1), name="row") as row:
        seed = b.add(b.load(e.at(e["seeds"], row.index)), offset)
        before = b.block
        with b.if_then(b.not_(steady)):
            later, inside = _at_step(b, seed, b.load(e.at(e["counters"], row.index))), b.block
        start = b.phi(I64)
        start.add_incoming(seed, before)
        start.add_incoming(later, inside)
        key = _mix(b, start)
        with e.loop(number(0), e["units"], number(lanes), name="unit") as unit:
            value = _choose(e, key, e["largest"], e["values"], unit.index)
            place = e.at(e["out"], b.mul(row.index, e["units"]), unit.index)
            e.store_units(value, place, e.units_below(unit.index, e["units"]))
    b.ret_void()
    return str(module)


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

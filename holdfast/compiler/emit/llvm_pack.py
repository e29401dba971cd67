"""Packing weights in LLVM IR: one module a format, for every shape.

`pack_gates` turns a weight `[sums * H, K]` into `[blocks, K, sums, vectors, lanes]`: squares of
`lanes` units by `lanes` columns are transposed in registers. `pack_rows` turns `[K, H]` into
`[blocks, K, vectors, lanes]`. Both write zeros for units beyond H.
"""

from __future__ import annotations

import llvmlite.ir as ir

from holdfast.compiler.emit.llvm_loops import I32, I64, Emitter, new_module, number
from holdfast.compiler.emit.llvm_math import Format, Value
from holdfast.compiler.emit.target import Target

PACKERS = {
    "pack_gates": ("source", "packed", "sums", "hidden", "depth", "blocks", "vectors"),
    "pack_rows": ("source", "packed", "depth", "hidden", "blocks", "vectors"),
}
"""Each function with its arguments: two pointers, then sizes."""


def emit_packers(form: Format, target: Target) -> str:
    """The IR of both functions as text."""
    module = new_module(target)
    for name in PACKERS:
        emitter = _function(module, name, form, target.lanes(form.itemsize))
        _emit_gates(emitter) if name == "pack_gates" else _emit_rows(emitter)
        emitter.builder.ret_void()
    return str(module)


def _function(module: ir.Module, name: str, form: Format, lanes: int) -> Emitter:
    scalar = ir.FloatType() if form.bits == 32 else ir.DoubleType()
    arguments = PACKERS[name]
    kinds = [scalar.as_pointer()] * 2 + [I64] * (len(arguments) - 2)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    for pointer in function.args[:2]:
        pointer.add_attribute("noalias")
    return Emitter(module, function, arguments, form, lanes, lanes)


def _emit_gates(e: Emitter) -> None:
    b, lanes = e.builder, e.lanes
    width = b.mul(e["sums"], e["vectors"])
    whole = b.mul(b.sdiv(e["depth"], number(lanes)), number(lanes))
    with (
        e.loop(number(0), e["blocks"], number(1), name="block") as block,
        e.loop(number(0), e["sums"], number(1), name="sum") as total,
        e.loop(number(0), e["vectors"], number(1), name="vector") as vector,
    ):
        unit = b.mul(b.add(b.mul(block.index, e["vectors"]), vector.index), number(lanes))
        column = b.add(b.mul(total.index, e["vectors"]), vector.index)
        rows = _Rows(e, b.mul(total.index, e["hidden"]), unit)

        def place(k: Value) -> Value:
            row = b.add(b.mul(block.index, e["depth"]), k)
            return e.at(e["packed"], e.times(b.add(b.mul(row, width), column), lanes))

        with e.loop(number(0), whole, number(lanes), name="k") as inner:
            for n, column_vector in enumerate(_transpose(e, rows.square(inner.index))):
                e.put_vector(column_vector, place(b.add(inner.index, number(n))))
        with e.loop(whole, e["depth"], number(1), name="tail") as inner:
            e.put_vector(rows.column(inner.index), place(inner.index))


class _Rows:
    """Rows of one vector of units: where they start, and which of them exist."""

    def __init__(self, e: Emitter, base: Value, unit: Value) -> None:
        self.e = e
        b = e.builder
        self.starts = []
        self.inside = []
        for lane in range(e.lanes):
            row = b.add(unit, number(lane))
            inside = b.icmp_signed("<", row, e["hidden"])
            safe = b.select(inside, b.add(base, row), number(0))
            self.starts.append(e.at(e["source"], b.mul(safe, e["depth"])))
            self.inside.append(inside)

    def square(self, k: Value) -> list[Value]:
        """`lanes` columns of each row, from column k."""
        e = self.e
        zero = e.math.const(0.0)
        loaded = [e.vector_at(e.at(start, k)) for start in self.starts]
        pairs = zip(self.inside, loaded, strict=True)
        return [e.builder.select(inside, vector, zero) for inside, vector in pairs]

    def column(self, k: Value) -> Value:
        """Column k of all rows."""
        e, b = self.e, self.e.builder
        vector = e.math.const(0.0)
        zero = ir.Constant(e.math.scalar, 0.0)
        for lane, (start, inside) in enumerate(zip(self.starts, self.inside, strict=True)):
            value = b.select(inside, b.load(e.at(start, k)), zero)
            vector = b.insert_element(vector, value, ir.Constant(I32, lane))
        return vector


def _transpose(e: Emitter, rows: list[Value]) -> list[Value]:
    """A square of vectors, transposed by exchanging halves, quarters ... of pairs of rows."""
    lanes = e.lanes
    distance = lanes // 2
    while distance:
        following = list(rows)
        for first in range(lanes):
            if first & distance:
                continue
            second = first + distance
            low = [n if not n & distance else lanes + n - distance for n in range(lanes)]
            high = [n + distance if not n & distance else lanes + n for n in range(lanes)]
            following[first] = _shuffle(e, rows[first], rows[second], low)
            following[second] = _shuffle(e, rows[first], rows[second], high)
        rows = following
        distance //= 2
    return rows


def _shuffle(e: Emitter, first: Value, second: Value, lanes: list[int]) -> Value:
    mask = ir.Constant(ir.VectorType(I32, e.lanes), lanes)
    return e.builder.shuffle_vector(first, second, mask)


def _emit_rows(e: Emitter) -> None:
    b, lanes = e.builder, e.lanes
    with (
        e.loop(number(0), e["blocks"], number(1), name="block") as block,
        e.loop(number(0), e["depth"], number(1), name="k") as inner,
        e.loop(number(0), e["vectors"], number(1), name="vector") as vector,
    ):
        unit = b.mul(b.add(b.mul(block.index, e["vectors"]), vector.index), number(lanes))
        source = e.at(e["source"], b.mul(inner.index, e["hidden"]), unit)
        row = b.add(b.mul(block.index, e["depth"]), inner.index)
        row = b.add(b.mul(row, e["vectors"]), vector.index)
        value = e.load_units(source, e.units_below(unit, e["hidden"]))
        e.put_vector(value, e.at(e["packed"], e.times(row, lanes)))

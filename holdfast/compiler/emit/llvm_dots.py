"""Products of R in int8 with a processor's own dot products of bytes, in LLVM IR.

Before a step each row of h becomes numbers of 16 bits, `h = step * (n - 32768)` with a step for
each row, and those become an upper and a lower byte. One instruction then multiplies four bytes
of a row with the four int8 of each lane and adds the products; upper and lower bytes are summed
apart. What every h has too much, 128 times the sum of the weights, is taken off before the sum
becomes a float.
"""

from __future__ import annotations

from collections.abc import Sequence

import llvmlite.ir as ir

from holdfast.compiler.emit.llvm_loops import I32, Emitter, Sizes, number
from holdfast.compiler.emit.llvm_math import Value

DOTS = "dot8"
"""The format of weights for this product: int8, four to a lane, in the order of what they multiply.
W is stored as in `int8`."""

ROWS = 2
"""Rows that are multiplied together: each has two sums."""

SLOTS = ("levels", "level_steps", "offsets_h")
"""The rows' bytes `[threads, B, 2, padded]`, their steps `[threads, B]`, and what is taken off,
`[blocks][sums][units]`."""

LARGEST = 32767.0
"""The largest number that an h becomes, from the middle."""

_MIDDLE = 32768
_DOT = "llvm.x86.avx512.vpdpbusd.512"
_BYTE = ir.IntType(8)


def padded(depth: int, lanes: int) -> int:
    """Bytes of one half of a row."""
    return -(-depth // lanes) * lanes


def kinds() -> dict[str, ir.Type]:
    """Types of the slots that are not the kernel's own numbers."""
    return {"levels": _BYTE.as_pointer(), "offsets_h": I32.as_pointer()}


class Dots:
    """Emits the bytes of rows, and products with them."""

    def __init__(self, e: Emitter, sizes: Sizes) -> None:
        self.e = e
        self.depth = sizes.depth
        self.width = padded(sizes.depth, e.lanes)

    def _place(self, row: Value) -> Value:
        """Which of all rows' bytes are those of a row of this thread."""
        b, e = self.e.builder, self.e
        return b.add(b.mul(e["thread"], e["batch"]), row)

    def prepare(self, row: Value, start: Value) -> None:
        """The bytes of a row.

        Arguments:
            row: of the batch. start: where its h is.
        """
        e, b = self.e, self.e.builder
        place = self._place(row)
        upper = b.gep(e["levels"], [e.times(place, 2 * self.width)])
        lower = b.gep(upper, [number(self.width)])
        zero = e.math.const(0.0)
        with e.loop(number(0), number(self.depth), number(e.lanes), [zero], "most") as loop:
            size = e.math.intrinsic("fabs", self._units(start, loop.index))
            loop.carry(e.math.intrinsic("maximum", loop.values[0], size))
        most = e.total(loop.values[0], self._larger)
        largest = ir.Constant(e.math.scalar, LARGEST)
        b.store(b.fdiv(most, largest), e.at(e["level_steps"], place))
        some = b.fcmp_ordered(">", most, ir.Constant(e.math.scalar, 0.0))
        factor = b.select(some, b.fdiv(largest, most), ir.Constant(e.math.scalar, 0.0))
        factor = e.broadcast(factor)
        with e.loop(number(0), number(self.depth), number(e.lanes), name="level") as loop:
            scaled = b.fmul(self._units(start, loop.index), factor)
            # A row with a number that is none has a step that is none; its bytes may be any.
            size = e.math.intrinsic("fabs", scaled)
            known = b.fcmp_ordered("<", size, e.math.const(LARGEST + 0.5))
            rounded = e.math.intrinsic("rint", b.select(known, scaled, zero))
            integers = b.fptosi(rounded, ir.VectorType(I32, e.lanes))
            levels = b.add(integers, self._spread(_MIDDLE))
            self._store(b.lshr(levels, self._spread(8)), b.gep(upper, [loop.index]))
            self._store(levels, b.gep(lower, [loop.index]))

    def _units(self, start: Value, unit: Value) -> Value:
        e = self.e
        mask = e.units_below(unit, number(self.depth)) if self.depth % e.lanes else None
        return e.load_units(e.at(start, unit), mask)

    def _larger(self, x: Value, y: Value) -> Value:
        return self.e.math.intrinsic("maximum", x, y)

    def _store(self, integers: Value, pointer: Value) -> None:
        """The lowest byte of each lane."""
        b, kind = self.e.builder, ir.VectorType(_BYTE, self.e.lanes)
        b.store(b.trunc(integers, kind), b.bitcast(pointer, kind.as_pointer()), align=1)

    def _spread(self, value: int) -> Value:
        return ir.Constant(ir.VectorType(I32, self.e.lanes), [value] * self.e.lanes)

    def product(
        self, sums: list[list[Value]], block: Value, rows: Sequence[Value], columns: Sequence[int]
    ) -> list[list[Value]]:
        """Add the product with R for one block of units to the sums of rows that are prepared."""
        e, b, width = self.e, self.e.builder, len(columns)
        words = -(-self.depth // 4)
        start = e.at(e["weights_h"], e.times(block, words * width * e.lanes))
        places = [self._place(row) for row in rows]
        pairs = [self._halves(place) for place in places]
        zeros = [self._spread(0)] * (2 * width * len(rows))
        with e.loop(number(0), number(words), number(1), zeros, "k") as loop:
            lanes = e.at(start, e.times(loop.index, width * e.lanes))
            weights = [self._integers(e.at(lanes, n * e.lanes)) for n in range(width)]
            following = []
            for half in (half for pair in pairs for half in pair):
                four = e.spread(b.load(b.gep(half, [loop.index]), align=4))
                for one in weights:
                    following.append(self._dot(loop.values[len(following)], four, one))
            loop.carry(*following)
        offsets = e.at(e["offsets_h"], e.times(block, width * e.lanes))
        scales = e.at(e["scales_h"], e.times(block, width * e.lanes))
        result = [list(row) for row in sums]
        for q, place in enumerate(places):
            step = e.broadcast(b.load(e.at(e["level_steps"], place)))
            for n, column in enumerate(columns):
                upper = loop.values[2 * q * width + n]
                lower = loop.values[(2 * q + 1) * width + n]
                upper = b.sub(upper, self._integers(e.at(offsets, n * e.lanes)))
                total = e.math.fma(
                    b.sitofp(upper, e.math.vector),
                    e.math.const(256.0),
                    b.sitofp(lower, e.math.vector),
                )
                scale = b.fmul(e.vector_at(e.at(scales, n * e.lanes)), step)
                result[q][column] = e.math.fma(total, scale, result[q][column])
        return result

    def _halves(self, place: Value) -> tuple[Value, Value]:
        """A row's upper and lower bytes, by four."""
        e, b = self.e, self.e.builder
        upper = b.gep(e["levels"], [e.times(place, 2 * self.width)])
        lower = b.gep(upper, [number(self.width)])
        return b.bitcast(upper, I32.as_pointer()), b.bitcast(lower, I32.as_pointer())

    def _integers(self, pointer: Value) -> Value:
        kind = ir.VectorType(I32, self.e.lanes)
        return self.e.builder.load(self.e.builder.bitcast(pointer, kind.as_pointer()), align=4)

    def _dot(self, total: Value, four: Value, weights: Value) -> Value:
        """Plus the products of four bytes of a row and four int8 of each lane."""
        e, b = self.e, self.e.builder
        kind, parts = ir.VectorType(I32, e.lanes), ir.VectorType(_BYTE, 4 * e.lanes)
        function = e.module.globals.get(_DOT)
        if function is None:
            function = ir.Function(e.module, ir.FunctionType(kind, [kind, parts, parts]), _DOT)
        return b.call(function, [total, b.bitcast(four, parts), b.bitcast(weights, parts)])

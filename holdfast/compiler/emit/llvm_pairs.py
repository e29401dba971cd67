"""Products of bfloat16 with sums of float32, by a processor's own instruction, in LLVM IR.

Two neighbors along what is multiplied share a lane of 32 bits, in the packed weights and in rows
alike. Weights are rounded when they are packed; rows of a step are rounded before it, by each
thread for itself. One instruction then multiplies a pair of a row with the pairs of all lanes, and
adds both products to the sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import llvmlite.ir as ir

from holdfast.compiler.emit.llvm_loops import I32, Emitter, number, renewed
from holdfast.compiler.emit.llvm_math import Value

PAIRS = "pairs"
"""The format of weights for this product: bfloat16, two to a lane, both rounded to nearest."""

SLOT = "pairs"
"""Where threads put the rows that they round, `[threads, B, padded words]`."""

_MULTIPLY = "llvm.x86.avx512bf16.dpbf16ps.512"
_HALF = ir.IntType(16)


class BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite does not spell."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BFloat)

    def __hash__(self) -> int:
        return hash(BFloat)


def words(depth: int) -> int:
    """Lanes that so many numbers take."""
    return -(-depth // 2)


def padded(depth: int, lanes: int) -> int:
    """Words of a row of so many numbers, which are written a vector at a time."""
    return -(-depth // lanes) * lanes // 2


class Pairs:
    """Emits the rounding of rows, and products with them.

    Arguments:
        depths: of each part of a row, one after the other.
    """

    def __init__(self, e: Emitter, depths: Sequence[int]) -> None:
        self.e = e
        self.depths = tuple(depths)
        widths = [padded(depth, e.lanes) for depth in depths]
        self._starts = [sum(widths[:n]) for n in range(len(widths))]
        self._width = sum(widths)

    def at(self, row: Value, part: int) -> Value:
        """Where a part of a row of this thread lies."""
        b, e = self.e.builder, self.e
        place = b.add(b.mul(e["thread"], e["batch"]), row)
        return e.at(e[SLOT], e.times(place, self._width), self._starts[part])

    def prepare(self, row: Value, part: int, source: Value) -> None:
        """Round a part of a row, with zeros behind its last number.

        Arguments:
            source: where its numbers are.
        """
        e, b, depth = self.e, self.e.builder, self.depths[part]
        half = ir.VectorType(_HALF, e.lanes)
        target = b.bitcast(self.at(row, part), _HALF.as_pointer())
        with e.loop(number(0), number(depth), number(e.lanes), name="round") as loop:
            mask = e.units_below(loop.index, number(depth)) if depth % e.lanes else None
            value = e.load_units(e.at(source, loop.index), mask)
            rounded = b.fptrunc(value, ir.VectorType(BFloat(), e.lanes))
            place = b.bitcast(b.gep(target, [loop.index]), half.as_pointer())
            b.store(b.bitcast(rounded, half), place, align=2)

    def product(
        self,
        sums: list[list[Value]],
        weights: Value,
        rows: Sequence[Value],
        part: int,
        columns: Sequence[int],
    ) -> list[list[Value]]:
        """Add the product of rounded parts of rows with packed weights to the sums.

        Arguments:
            sums: accumulators `[row][column]`. weights: `[words][columns]` vectors of a block.
            rows: of the batch. columns: which accumulator each vector of weights belongs to.
        """
        e, b, width = self.e, self.e.builder, len(columns)
        count = words(self.depths[part])
        if not count or not width:
            return sums
        starts = [self.at(row, part) for row in rows]
        begin = [sums[q][column] for q in range(len(rows)) for column in columns]
        with e.loop(number(0), number(count), number(1), begin, "k") as loop:
            lanes = e.at(weights, e.times(loop.index, width * e.lanes))
            vectors = [self._lanes(e.at(lanes, n * e.lanes)) for n in range(width)]
            following = []
            for start in starts:
                pair = e.spread(b.load(e.at(start, loop.index), align=4))
                for vector in vectors:
                    following.append(self._multiply(loop.values[len(following)], pair, vector))
            loop.carry(*following)
        return renewed(sums, columns, loop.values)

    def _lanes(self, pointer: Value) -> Value:
        kind = ir.VectorType(I32, self.e.lanes)
        return self.e.builder.load(self.e.builder.bitcast(pointer, kind.as_pointer()), align=4)

    def _multiply(self, total: Value, pair: Value, weights: Value) -> Value:
        """Plus both products of each lane."""
        e, b = self.e, self.e.builder
        pairs = ir.VectorType(BFloat(), 2 * e.lanes)
        function = e.module.globals.get(_MULTIPLY)
        if function is None:
            kind = ir.FunctionType(e.math.vector, [e.math.vector, pairs, pairs])
            function = ir.Function(e.module, kind, _MULTIPLY)
        return b.call(function, [total, b.bitcast(pair, pairs), b.bitcast(weights, pairs)])

"""Products of a few rows with packed weights, in LLVM IR.

Weights may be narrow: bfloat16 or int8 in memory, a float in its register, and sums are as wide as
ever. An int8 weight stands for itself times the scale of its unit and gate, `[blocks][sums][units]`
in the order of the sums; the scale is multiplied into the finished sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import llvmlite.ir as ir

from holdfast.compiler.emit.llvm_loops import I32, Emitter, number
from holdfast.compiler.emit.llvm_math import Value

BITS = {"bfloat16": 16, "int8": 8}
"""Formats of narrow weights, with the bits of a number."""

SCALED = ("int8",)
"""Those that have scales."""


def element(narrow: str, scalar: ir.Type) -> ir.Type:
    """The type of a stored weight; of the kernel's own numbers where nothing is narrow."""
    return ir.IntType(BITS[narrow]) if narrow else scalar


def product(
    emitter: Emitter,
    sums: list[list[Value]],
    weights: Value,
    rows: Sequence[Value],
    depth: int,
    columns: Sequence[int],
    width: int,
) -> list[list[Value]]:
    """Add `rows[q][k] * weights[k]` over k to the sums; returns the new sums.

    Arguments:
        sums: accumulators `[row][column]`.
        weights: packed `[depth][width]` vectors, in the kernel's format or narrow.
        rows: pointers to `depth` numbers each.
        columns: which accumulator each of the `width` vectors belongs to.
    """
    if depth == 0 or width == 0:
        return sums
    b, math = emitter.builder, emitter.math
    flat = [sums[q][column] for q in range(len(rows)) for column in columns]

    def turn(k: Value, carried: list[Value]) -> list[Value]:
        start = emitter.times(k, width * emitter.lanes)
        vectors = [
            _weights_at(emitter, emitter.at(weights, start, n * emitter.lanes))
            for n in range(width)
        ]
        following = []
        for q, row in enumerate(rows):
            scalar = emitter.broadcast(b.load(emitter.at(row, k)))
            for n, vector in enumerate(vectors):
                following.append(math.fma(scalar, vector, carried[q * width + n]))
        return following

    with emitter.loop(number(0), number(depth), number(1), flat, "k") as loop:
        loop.carry(*turn(loop.index, loop.values))
    result = [list(row) for row in sums]
    for q in range(len(rows)):
        for n, column in enumerate(columns):
            result[q][column] = loop.values[q * width + n]
    return result


def scaled_product(
    e: Emitter,
    sums: list[list[Value]],
    weights: Value,
    rows: Sequence[Value],
    depth: int,
    columns: Sequence[int],
    scales: Value,
) -> list[list[Value]]:
    """`product` with weights that have scales, one vector for each column."""
    zeros = [[e.math.const(0.0)] * len(columns) for _ in rows]
    order = range(len(columns))
    found = product(e, zeros, weights, rows, depth, order, len(columns))
    result = [list(row) for row in sums]
    for n, column in enumerate(columns):
        scale = e.vector_at(e.at(scales, n * e.lanes))
        for row, total in zip(result, found, strict=True):
            row[column] = e.math.fma(total[n], scale, row[column])
    return result


def _weights_at(e: Emitter, pointer: Value) -> Value:
    """A vector of weights as the kernel's numbers."""
    stored = pointer.type.pointee
    if not isinstance(stored, ir.IntType):
        return e.vector_at(pointer)
    b, lanes = e.builder, e.lanes
    wide = b.bitcast(pointer, ir.VectorType(stored, lanes).as_pointer())
    vector = b.load(wide, align=stored.width // 8)
    integers = ir.VectorType(I32, lanes)
    if stored.width == BITS["int8"]:
        return b.sitofp(b.sext(vector, integers), e.math.vector)
    # A bfloat16 is the upper half of a float.
    upper = ir.Constant(integers, [ir.Constant(I32, 16)] * lanes)
    return b.bitcast(b.shl(b.zext(vector, integers), upper), e.math.vector)

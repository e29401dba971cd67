"""Products of a few rows with packed weights, in LLVM IR.

Weights may be narrow in memory: several of them, one after the other along what is multiplied, lie
in each 32-bit lane, and become floats in their register; sums are as wide as ever.

bfloat16: two in a lane. The first is the lower half, shifted up. The second is the whole lane as it
is: the upper half was rounded with the lower one in mind, so that it costs no instruction and is no
further off. int8: four in a lane, each with 128 added. Their bits are put where a float between 1
and 2 has its largest ones: as 1.5 + w / 256. The sum of what is multiplied, times 1.5, is taken off
at the end, and the scale of each unit and gate multiplied in.
"""

from __future__ import annotations

from collections.abc import Sequence

import llvmlite.ir as ir

from holdfast.compiler.emit.llvm_dots import DOTS
from holdfast.compiler.emit.llvm_loops import I32, Emitter, Sizes, number, renewed
from holdfast.compiler.emit.llvm_math import Value
from holdfast.compiler.emit.llvm_pairs import PAIRS

IN_A_LANE = {"bfloat16": 2, PAIRS: 2, "int8": 4, DOTS: 4}
"""Formats of narrow weights, with how many of them one lane holds."""

SCALED = ("int8", DOTS)
"""Those that have scales."""

MIDDLE = 1.5
"""What a float made of an int8 of zero is."""

STEP = 2.0**-8
"""The distance between such floats."""

SHIFTS = (0, 8, -8, 16)
"""By how many bits a lane is shifted right, left where negative, and turned for the last, so that
each of its int8 lies at the mantissa's upper end."""

_MANTISSA = 255 << 15
_ONE = 127 << 23


def element(narrow: str, scalar: ir.Type) -> ir.Type:
    """The type of stored weights: a lane of narrow ones, or one of the kernel's own numbers."""
    return I32 if narrow else scalar


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
        weights: packed `[depth][width]` vectors.
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
            emitter.vector_at(emitter.at(weights, start, n * emitter.lanes)) for n in range(width)
        ]
        following = []
        for q, row in enumerate(rows):
            scalar = emitter.broadcast(b.load(emitter.at(row, k)))
            for n, vector in enumerate(vectors):
                following.append(math.fma(scalar, vector, carried[q * width + n]))
        return following

    with emitter.loop(number(0), number(depth), number(1), flat, "k") as loop:
        loop.carry(*turn(loop.index, loop.values))
    return renewed(sums, columns, loop.values)


def multiply(
    e: Emitter,
    sizes: Sizes,
    name: str,
    sums: list[list[Value]],
    block: Value,
    rows: Sequence[Value],
    depth: int,
    columns: Sequence[int],
) -> list[list[Value]]:
    """Add the product with W, `x`, or R, `h`, for one block of units, however they are stored."""
    width = len(columns) * e.lanes
    held = IN_A_LANE[sizes.narrow] if sizes.narrow else 1
    packed = e.at(e[f"weights_{name}"], e.times(block, -(-depth // held) * width))
    if not sizes.narrow:
        return product(e, sums, packed, rows, depth, columns, len(columns))
    scales = None
    if sizes.narrow in SCALED:
        scales = e.at(e[f"scales_{name}"], e.times(block, width))
    return narrow_product(e, sums, packed, rows, depth, columns, scales)


def narrow_product(
    e: Emitter,
    sums: list[list[Value]],
    weights: Value,
    rows: Sequence[Value],
    depth: int,
    columns: Sequence[int],
    scales: Value | None,
) -> list[list[Value]]:
    """`product` with narrow weights, `[ceil(depth / in a lane)][columns]` vectors.

    Arguments:
        scales: of int8, one vector for each column; None for bfloat16.
    """
    if depth == 0 or not columns:
        return sums
    b, math, width = e.builder, e.math, len(columns)
    parts = _int8 if scales is not None else _bfloat16
    held = IN_A_LANE["int8" if scales is not None else "bfloat16"]
    zero = math.const(0.0)
    if scales is None:
        begin = [sums[q][column] for q in range(len(rows)) for column in columns]
    else:
        # Behind the sums, the sum of what each row multiplies with.
        begin = [zero] * (len(rows) * (width + 1))

    def turn(k: Value, carried: list[Value], count: int) -> list[Value]:
        lanes = e.at(weights, e.times(k, width * e.lanes))
        words = [_word(e, e.at(lanes, n * e.lanes)) for n in range(width)]
        following = list(carried)
        for part in range(count):
            vectors = [parts(e, word, part) for word in words]
            for q, row in enumerate(rows):
                place = e.at(row, e.times(k, held), part)
                scalar = e.broadcast(b.load(place))
                for n, vector in enumerate(vectors):
                    at = q * width + n
                    following[at] = math.fma(scalar, vector, following[at])
                if scales is not None:
                    at = len(rows) * width + q
                    following[at] = b.fadd(following[at], scalar)
        return following

    whole = depth // held
    with e.loop(number(0), number(whole), number(1), begin, "k") as loop:
        loop.carry(*turn(loop.index, loop.values, held))
    found = loop.values
    if depth % held:
        found = turn(number(whole), found, depth % held)
    return _finish(e, sums, found, columns, scales)


def _finish(
    e: Emitter,
    sums: list[list[Value]],
    found: list[Value],
    columns: Sequence[int],
    scales: Value | None,
) -> list[list[Value]]:
    """The sums, with what was found in place of them or, where there are scales, added."""
    width, count = len(columns), len(sums)
    result = [list(row) for row in sums]
    for n, column in enumerate(columns):
        for q, row in enumerate(result):
            value = found[q * width + n]
            if scales is not None:
                scale = e.vector_at(e.at(scales, n * e.lanes))
                middle = e.math.const(-MIDDLE)
                value = e.math.fma(found[count * width + q], middle, value)
                value = e.math.fma(value, scale, row[column])
            row[column] = value
    return result


def _word(e: Emitter, pointer: Value) -> Value:
    wide = e.builder.bitcast(pointer, ir.VectorType(I32, e.lanes).as_pointer())
    return e.builder.load(wide, align=4)


def _bits(e: Emitter, value: int) -> Value:
    return ir.Constant(ir.VectorType(I32, e.lanes), [ir.Constant(I32, value)] * e.lanes)


def _bfloat16(e: Emitter, word: Value, part: int) -> Value:
    """One of the two of each lane, as floats."""
    word = e.builder.shl(word, _bits(e, 16)) if part == 0 else word
    return e.builder.bitcast(word, e.math.vector)


def _int8(e: Emitter, word: Value, part: int) -> Value:
    """One of the four of each lane, as floats between 1 and 2."""
    b, shift = e.builder, SHIFTS[part]
    if part == len(SHIFTS) - 1:
        lower = b.shl(word, _bits(e, 32 - shift))
        word = b.or_(lower, b.lshr(word, _bits(e, shift)))
    elif shift > 0:
        word = b.lshr(word, _bits(e, shift))
    elif shift < 0:
        word = b.shl(word, _bits(e, -shift))
    word = b.or_(b.and_(word, _bits(e, _MANTISSA)), _bits(e, _ONE))
    return b.bitcast(word, e.math.vector)

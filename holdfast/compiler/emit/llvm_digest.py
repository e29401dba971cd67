"""A digest of numbers in memory in LLVM IR, at about the speed at which memory is read.

Words of 64 bits are taken 32 at a time, into as many lanes. A lane takes its word in by exclusive
or and multiplies both halves of the outcome, with different factors: the sum is its next value. So
a change of either half moves all 64 bits before the next word comes, and two changes cancel about
once in 2**64. What is left after the last 32 words follows, 32 bits at a time. At the end all lanes
are mixed into 64 bits.

Source: the last mix is SplitMix64's (Steele, Lea & Flood 2014).
"""

from __future__ import annotations

import llvmlite.ir as ir

from holdfast.compiler.emit.llvm_loops import BYTE_POINTER, I32, I64, Emitter, new_module, number
from holdfast.compiler.emit.llvm_math import FLOAT32, Value
from holdfast.compiler.emit.target import Target

_LANES = 8
_CHAINS = 4
"""Vectors of lanes that do not wait for each other."""
_WORDS = ir.VectorType(I64, _LANES)
_STRIPE = 8 * _LANES
_TURN = _CHAINS * _STRIPE
_STEP = 0x9E3779B97F4A7C15
_FACTORS = (0xFFFEB81B, 0x85EBCA6B)
"""Odd numbers of 32 bits without a common divisor, for the lower and the upper halves."""
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def emit_digest(target: Target) -> str:
    """The IR of `digest(parts, count)`, as text.

    parts: `count` pairs of an address and a number of bytes, a multiple of 4. The result depends on
    the bytes, on how many each part has, and on the order of the parts.
    """
    module = new_module(target)
    kinds = [I64.as_pointer(), I64]
    function = ir.Function(module, ir.FunctionType(I64, kinds), "digest")
    e = Emitter(module, function, ("parts", "count"), FLOAT32, _LANES, _LANES)
    b = e.builder
    starts = [
        ir.Constant(_WORDS, [_signed(_STEP * (_LANES * chain + n + 1)) for n in range(_LANES)])
        for chain in range(_CHAINS)
    ]
    with e.loop(number(0), e["count"], number(1), (*starts, number(1)), "part") as part:
        pair = e.times(part.index, 2)
        start = b.inttoptr(b.load(e.at(e["parts"], pair)), BYTE_POINTER)
        size = b.load(e.at(e["parts"], pair, 1))
        whole = b.and_(size, number(-_TURN))
        *chains, rest = part.values
        chains = _turns(e, start, whole, chains)
        rest = _rest(e, start, whole, size, rest)
        part.carry(*chains, _mixed(b, b.xor(rest, size)))
    *chains, rest = part.values
    for n in range(_LANES):
        for lanes in chains:
            one = b.extract_element(lanes, ir.Constant(I32, n))
            rest = _mixed(b, b.xor(b.add(rest, number(_signed(_STEP))), one))
    b.ret(rest)
    return str(module)


def _turns(e: Emitter, start: Value, whole: Value, chains: list[Value]) -> list[Value]:
    """The chains after the words from `start` on."""
    b = e.builder
    half = ir.Constant(_WORDS, [32] * _LANES)
    low = ir.Constant(_WORDS, [0xFFFFFFFF] * _LANES)
    lower, upper = (ir.Constant(_WORDS, [factor] * _LANES) for factor in _FACTORS)
    with e.loop(number(0), whole, number(_TURN), chains, "turn") as loop:
        following = []
        for n, chain in enumerate(loop.values):
            place = b.gep(start, [b.add(loop.index, number(n * _STRIPE))])
            words = b.load(b.bitcast(place, _WORDS.as_pointer()), align=4)
            taken = b.xor(chain, words)
            products = (b.mul(b.and_(taken, low), lower), b.mul(b.lshr(taken, half), upper))
            following.append(b.add(*products))
        loop.carry(*following)
    return loop.values


def _rest(e: Emitter, start: Value, whole: Value, size: Value, state: Value) -> Value:
    """The state after the words of 32 bits that fill no turn."""
    b = e.builder
    with e.loop(whole, size, number(4), [state], "rest") as loop:
        word = b.load(b.bitcast(b.gep(start, [loop.index]), I32.as_pointer()), align=4)
        loop.carry(_mixed(b, b.xor(loop.values[0], b.zext(word, I64))))
    return loop.values[0]


def _mixed(b: ir.IRBuilder, value: Value) -> Value:
    """64 bits, each of which changes half of the result's; different for different ones."""
    for shift, factor in zip((30, 27), _MIX, strict=True):
        value = b.mul(b.xor(value, b.lshr(value, number(shift))), number(_signed(factor)))
    return b.xor(value, b.lshr(value, number(31)))


def _signed(word: int) -> int:
    """The signed integer with the lower 64 bits of a word."""
    word &= (1 << 64) - 1
    return word - (1 << 64) if word >> 63 else word

"""A digest of numbers in memory in LLVM IR, at about the speed at which memory is read.

The words of 64 bits are taken eight at a time, each of the eight with a key that moves on at every
turn. A lane adds up its words, and the products of the halves of its words with the key: a change
of one word, of all words alike, or an exchange of words changes the sums. What is left after the
last eight words follows one word of 32 bits at a time. At the end all sums are mixed into 64 bits.

Source: the sums are those of UMAC (Black, Halevi, Krawczyk, Krovetz & Rogaway 1999) and of XXH3;
the last mix is SplitMix64's (Steele, Lea & Flood 2014).
"""

from __future__ import annotations

import llvmlite.ir as ir

from holdfast.compiler.emit.llvm_loops import BYTE_POINTER, I32, I64, Emitter, new_module, number
from holdfast.compiler.emit.llvm_math import FLOAT32, Value
from holdfast.compiler.emit.target import Target

_LANES = 8
_WORDS = ir.VectorType(I64, _LANES)
_STRIPE = 8 * _LANES
_STEP = 0x9E3779B97F4A7C15
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
    zeros = ir.Constant(_WORDS, [0] * _LANES)
    keys = ir.Constant(_WORDS, [_signed(_STEP * (n + 1) ** 3) for n in range(_LANES)])
    with e.loop(number(0), e["count"], number(1), (keys, zeros, zeros, number(1)), "part") as part:
        pair = e.times(part.index, 2)
        start = b.inttoptr(b.load(e.at(e["parts"], pair)), BYTE_POINTER)
        size = b.load(e.at(e["parts"], pair, 1))
        whole = b.and_(size, number(-_STRIPE))
        *sums, rest = part.values
        sums = _stripes(e, start, whole, sums)
        rest = _rest(e, start, whole, size, rest)
        part.carry(*sums, _mixed(b, b.xor(rest, size)))
    _, products, plain, rest = part.values
    for n in range(_LANES):
        for lanes in (products, plain):
            one = b.extract_element(lanes, ir.Constant(I32, n))
            rest = _mixed(b, b.xor(b.add(rest, number(_signed(_STEP))), one))
    b.ret(rest)
    return str(module)


def _stripes(e: Emitter, start: Value, whole: Value, sums: list[Value]) -> list[Value]:
    """Keys, sums of products and plain sums after the words from `start` on."""
    b = e.builder
    half = ir.Constant(_WORDS, [32] * _LANES)
    low = ir.Constant(_WORDS, [0xFFFFFFFF] * _LANES)
    step = ir.Constant(_WORDS, [_signed(_STEP)] * _LANES)
    with e.loop(number(0), whole, number(_STRIPE), sums, "stripe") as loop:
        keys, products, plain = loop.values
        wide = b.bitcast(b.gep(start, [loop.index]), _WORDS.as_pointer())
        words = b.load(wide, align=4)
        hidden = b.xor(words, keys)
        product = b.mul(b.and_(hidden, low), b.lshr(hidden, half))
        loop.carry(b.add(keys, step), b.add(products, product), b.add(plain, words))
    return loop.values


def _rest(e: Emitter, start: Value, whole: Value, size: Value, state: Value) -> Value:
    """The state after the words of 32 bits that fill no stripe."""
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

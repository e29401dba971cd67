"""The operations of the table on vector registers, spelled in LLVM IR.

`exp` reduces its argument to n ln 2 + r and evaluates a polynomial for e^r - 1; `sigmoid` and
`tanh` are one division each on top, `tanh` through exp(x) - 1, so that it stays accurate near zero.
NaN passes through every operation. The polynomials are minimax fits on the reduced interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import llvmlite.ir as ir

from holdfast.errors import BuildError

Value = Any
"""An LLVM value; llvmlite's own classes carry no types a checker could use."""


@dataclass(frozen=True)
class Format:
    """One floating-point format: its layout and the constants that depend on it."""

    name: str
    bits: int
    mantissa: int
    bias: int
    exp_low: float
    """Below, exp is taken as zero."""
    exp_high: float
    """Above, exp overflows."""
    tanh_high: float
    """Above, tanh rounds to one."""
    expm1: tuple[float, ...]
    """(e^r - 1 - r) / r^2 for |r| <= ln(2)/2, highest power first."""
    expm1_short: tuple[float, ...]
    """The same as short as `sigmoid` allows, which adds a one."""
    ln2: tuple[float, ...]
    """ln(2) as a sum; the terms after the first are for large multiples."""
    atanh: tuple[float, ...]
    """(atanh(s) / s - 1) / s^2 as a polynomial in s^2 for s <= 1/3, highest power first."""
    tiny: float
    """Smallest normal number."""
    half_pi: tuple[float, ...]
    """pi / 2 as a sum, the first terms short enough for exact products with small integers."""
    sin: tuple[float, ...]
    """(sin(r) / r - 1) / r^2 as a polynomial in r^2 for |r| <= pi / 4, highest power first."""
    cos: tuple[float, ...]
    """(cos(r) - 1 + r^2 / 2) / r^4, likewise."""

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.bits // 8


FLOAT32 = Format(
    "f32",
    32,
    23,
    127,
    -87.33654,
    88.72284,
    10.0,
    (
        1.3927684616575004e-3,
        8.364380693291069e-3,
        4.1666545421095535e-2,
        1.6666569628115476e-1,
        0.5,
    ),
    (
        8.312525227665901e-3,
        4.1890114545822144e-2,
        0.16667114198207855,
        0.499992311000824,
    ),
    (0.693147182464599609375, -1.904654323148236e-9),
    (0.13425749011418575, 0.1411830990265524, 0.20003780322455603, 0.33333320168349617),
    1.1754943508222875e-38,
    (1.5703125, 4.837512969970703125e-4, 7.549789954891882e-8),
    (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1),
    (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2),
)
FLOAT64 = Format(
    "f64",
    64,
    52,
    1023,
    -708.3964185322641,
    709.782712893384,
    20.0,
    (
        2.51023277236091451e-8,
        2.7622614078619689e-7,
        2.7557264294679126e-6,
        2.4801515879478316e-5,
        1.9841269865789786e-4,
        1.3888888920770122e-3,
        8.3333333333295031e-3,
        4.1666666666616862e-2,
        1.6666666666666668e-1,
        0.5,
    ),
    (
        2.51023277236091451e-8,
        2.7622614078619689e-7,
        2.7557264294679126e-6,
        2.4801515879478316e-5,
        1.9841269865789786e-4,
        1.3888888920770122e-3,
        8.3333333333295031e-3,
        4.1666666666616862e-2,
        1.6666666666666668e-1,
        0.5,
    ),
    (0.6931471805599453, 2.3190468138462996e-17),
    (
        0.08082022805971766,
        0.04400369243072337,
        0.06000536404795356,
        0.06657072104827468,
        0.07692785032479312,
        0.09090894718066429,
        0.11111111358713932,
        0.1428571428355438,
        0.20000000000007292,
        0.3333333333333333,
    ),
    2.2250738585072014e-308,
    (1.57079632673412561417, 6.07710050630396597660e-11, 2.02226624871116645580e-21),
    (
        1.58969099521155010221e-10,
        -2.50507602534068634195e-8,
        2.75573137070700676789e-6,
        -1.98412698298579493134e-4,
        8.33333333332248946124e-3,
        -1.66666666666666324348e-1,
    ),
    (
        -1.13596475577881948265e-11,
        2.08757232129817482790e-9,
        -2.75573143513906633035e-7,
        2.48015872894767294178e-5,
        -1.38888888888741095749e-3,
        4.16666666666666019037e-2,
    ),
)


class VectorMath:
    """Builds operations on vectors of one format at the place where an IRBuilder stands."""

    def __init__(self, module: ir.Module, builder: ir.IRBuilder, form: Format, lanes: int) -> None:
        self.module = module
        self.builder = builder
        self.form = form
        self.lanes = lanes
        self.scalar = ir.FloatType() if form.bits == 32 else ir.DoubleType()
        self.integer = ir.IntType(form.bits)
        self.vector = ir.VectorType(self.scalar, lanes)
        self.integers = ir.VectorType(self.integer, lanes)
        self.suffix = f"v{lanes}{form.name}"

    def const(self, value: float) -> Value:
        """A vector with the same number in every lane."""
        return ir.Constant(self.vector, [ir.Constant(self.scalar, value)] * self.lanes)

    def int_const(self, value: int) -> Value:
        """A vector with the same integer in every lane."""
        return ir.Constant(self.integers, [ir.Constant(self.integer, value)] * self.lanes)

    def intrinsic(self, name: str, *values: Value) -> Value:
        """A call of `llvm.NAME` on vectors."""
        full = f"llvm.{name}.{self.suffix}"
        function = self.module.globals.get(full)
        if function is None:
            kind = ir.FunctionType(self.vector, [self.vector] * len(values))
            function = ir.Function(self.module, kind, full)
        return self.builder.call(function, values)

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        """x y + z, rounded once."""
        return self.intrinsic("fma", x, y, z)

    def polynomial(
        self, coefficients: Sequence[float], x: Value, square: Value | None = None
    ) -> Value:
        """Horner's rule, highest power first; with the square of x on pairs of coefficients, which
        halves the waiting."""
        if square is None:
            total = self.const(coefficients[0])
            for coefficient in coefficients[1:]:
                total = self.fma(total, x, self.const(coefficient))
            return total
        even = len(coefficients) // 2 * 2
        total = None
        for first, second in zip(coefficients[:even:2], coefficients[1:even:2], strict=True):
            pair = self.fma(self.const(first), x, self.const(second))
            total = pair if total is None else self.fma(total, square, pair)
        if even < len(coefficients):
            total = self.fma(total, x, self.const(coefficients[-1]))
        return total

    def less(self, x: Value, y: Value) -> Value:
        """x < y, false for NaN."""
        return self.builder.fcmp_ordered("<", x, y)

    def clamp(self, x: Value, low: float, high: float) -> Value:
        """x between two numbers; NaN stays NaN."""
        bottom, top = self.const(low), self.const(high)
        x = self.builder.select(self.less(x, bottom), bottom, x)
        return self.builder.select(self.less(top, x), top, x)

    def exp_parts(
        self, x: Value, factor: float = 1.0, *, short: bool = False, terms: int = 2, down: int = 0
    ) -> tuple[Value, Value]:
        """p and s with exp(factor x) = (factor s p + s) 2^down, p small, for x in a clamped range.

        Arguments:
            short: use the shorter polynomial. terms: how many terms of ln(2) are subtracted.
        """
        b, form = self.builder, self.form
        magic = self.const(1.5 * 2.0**form.mantissa)
        shifted = self.fma(x, self.const(factor / math.log(2.0)), magic)
        n = b.fsub(shifted, magic)
        r = x
        for part in form.ln2[:terms]:
            r = self.fma(n, self.const(-part / factor), r)
        square = b.fmul(r, r)
        coefficients = form.expm1_short if short else form.expm1
        powers = range(len(coefficients), 0, -1)
        scaled = [c * factor**n for c, n in zip(coefficients, powers, strict=True)]
        p = self.fma(square, self.polynomial(scaled, r, square), r)
        bits = b.bitcast(shifted, self.integers)
        bits = b.shl(bits, self.int_const(form.mantissa))
        bits = b.add(bits, self.int_const((form.bias - down) << form.mantissa))
        return p, b.bitcast(bits, self.vector)

    def sigmoid(self, x: Value) -> Value:
        """1 / (1 + exp(-x))"""
        b, form = self.builder, self.form
        y = self.clamp(x, 1.0 - form.exp_high, -form.exp_low)
        terms = 1 if form.bits == 32 else 2
        p, s = self.exp_parts(y, -1.0, short=True, terms=terms)
        one = self.const(1.0)
        return b.fdiv(one, self.fma(b.fneg(s), p, b.fadd(s, one)))

    def tanh(self, x: Value) -> Value:
        """h / (1 - h) with h = (1 - exp(-2x)) / 2"""
        b = self.builder
        y = self.clamp(x, -self.form.tanh_high, self.form.tanh_high)
        p, s = self.exp_parts(y, -2.0, terms=1)
        h = self.fma(s, p, self.fma(s, self.const(-0.5), self.const(0.5)))
        return b.fdiv(h, b.fsub(self.const(1.0), h))

    def exp(self, x: Value) -> Value:
        """e^x; infinity above the range, zero below it"""
        b, form = self.builder, self.form
        p, s = self.exp_parts(self.clamp(x, form.exp_low, form.exp_high + 0.5), down=1)
        value = b.fmul(self.fma(s, p, s), self.const(2.0))
        return b.select(self.less(x, self.const(form.exp_low)), self.const(0.0), value)

    def atanh_twice(self, s: Value) -> Value:
        """2 atanh(s) for |s| <= 1/3"""
        b = self.builder
        z = b.fmul(s, s)
        tail = b.fmul(b.fmul(z, s), self.polynomial(self.form.atanh, z))
        return b.fmul(b.fadd(tail, s), self.const(2.0))

    def log(self, x: Value) -> Value:
        """The natural logarithm; -inf at zero, NaN below, inf at infinity"""
        b, form = self.builder, self.form
        small = self.less(x, self.const(form.tiny))
        scaled = b.select(small, b.fmul(x, self.const(2.0**form.mantissa)), x)
        bits = b.bitcast(scaled, self.integers)
        exponent = b.ashr(bits, self.int_const(form.mantissa))
        e = b.sitofp(b.sub(exponent, self.int_const(form.bias)), self.vector)
        e = b.fsub(e, b.select(small, self.const(float(form.mantissa)), self.const(0.0)))
        mask = self.int_const((1 << form.mantissa) - 1)
        one_bits = self.int_const(form.bias << form.mantissa)
        m = b.bitcast(b.or_(b.and_(bits, mask), one_bits), self.vector)
        above = self.less(self.const(math.sqrt(2.0)), m)
        m = b.select(above, b.fmul(m, self.const(0.5)), m)
        e = b.select(above, b.fadd(e, self.const(1.0)), e)
        one = self.const(1.0)
        fraction = self.atanh_twice(b.fdiv(b.fsub(m, one), b.fadd(m, one)))
        value = self.fma(e, self.const(math.log(2.0)), fraction)
        infinity = self.const(math.inf)
        value = b.select(b.fcmp_unordered("<", x, infinity), value, x)
        value = b.select(b.fcmp_ordered("==", x, self.const(0.0)), self.const(-math.inf), value)
        value = b.select(self.less(x, self.const(0.0)), self.const(math.nan), value)
        return b.select(b.fcmp_unordered("uno", x, x), x, value)

    def softplus(self, x: Value) -> Value:
        """max(x, 0) + log(1 + exp(-|x|))"""
        b = self.builder
        u = self.exp(b.fneg(self.intrinsic("fabs", x)))
        tail = self.atanh_twice(b.fdiv(u, b.fadd(u, self.const(2.0))))
        return b.fadd(self.relu(x), tail)

    def wave(self, x: Value, quarter: int) -> Value:
        """The sine of x and a number of quarter turns"""
        b, form = self.builder, self.form
        magic = self.const(1.5 * 2.0**form.mantissa)
        shifted = self.fma(x, self.const(2.0 / math.pi), magic)
        n = b.fsub(shifted, magic)
        r = x
        for part in form.half_pi:
            r = self.fma(n, self.const(-part), r)
        z = b.fmul(r, r)
        sine = self.fma(b.fmul(z, r), self.polynomial(form.sin, z), r)
        tail = self.fma(b.fmul(z, z), self.polynomial(form.cos, z), self.const(1.0))
        cosine = self.fma(z, self.const(-0.5), tail)
        quarters = b.add(b.bitcast(shifted, self.integers), self.int_const(quarter))
        zero = self.int_const(0)
        odd = b.icmp_signed("!=", b.and_(quarters, self.int_const(1)), zero)
        value = b.select(odd, cosine, sine)
        below = b.icmp_signed("!=", b.and_(quarters, self.int_const(2)), zero)
        return b.select(below, b.fneg(value), value)

    def pairs(self, x: Value, other: Value, lanes: Callable[[int], int]) -> Value:
        """Lanes of two vectors, in an order that is given by number."""
        kind = ir.VectorType(ir.IntType(32), self.lanes)
        order = ir.Constant(kind, [lanes(n) for n in range(self.lanes)])
        return self.builder.shuffle_vector(x, other, order)

    def turn(self, x: Value) -> Value:
        """(a, b) as (-b, a) in each pair of lanes"""
        minus = self.builder.fneg(x)
        return self.pairs(x, minus, lambda n: n - 1 if n % 2 else self.lanes + n + 1)

    def real(self, x: Value) -> Value:
        """(a, b) as (a, 0) in each pair of lanes"""
        return self.pairs(x, self.const(0.0), lambda n: self.lanes + n if n % 2 else n)

    def relu(self, x: Value) -> Value:
        """max(x, 0)"""
        zero = self.const(0.0)
        return self.builder.select(self.less(x, zero), zero, x)

    def hard_sigmoid(self, x: Value) -> Value:
        """x / 6 + 1/2, clipped to 0 and 1"""
        line = self.fma(x, self.const(1.0 / 6.0), self.const(0.5))
        return self.clamp(line, 0.0, 1.0)

    def compare(self, sign: str, x: Value, y: Value) -> Value:
        """A comparison; with NaN all are false but `!=`."""
        if sign == "!=":
            return self.builder.fcmp_unordered(sign, x, y)
        return self.builder.fcmp_ordered(sign, x, y)


def _swept(math: VectorMath, x: Value) -> Value:
    raise BuildError("this needs a sweep over the units; it has no value on one vector")


SPELLINGS: dict[str, Callable[..., Value]] = {
    "add": lambda m, x, y: m.builder.fadd(x, y, flags=("contract",)),
    "sub": lambda m, x, y: m.builder.fsub(x, y, flags=("contract",)),
    "mul": lambda m, x, y: m.builder.fmul(x, y, flags=("contract",)),
    "div": lambda m, x, y: m.builder.fdiv(x, y),
    "neg": lambda m, x: m.builder.fneg(x),
    "sigmoid": VectorMath.sigmoid,
    "tanh": VectorMath.tanh,
    "exp": VectorMath.exp,
    "log": VectorMath.log,
    "sqrt": lambda m, x: m.intrinsic("sqrt", x),
    "relu": VectorMath.relu,
    "abs": lambda m, x: m.intrinsic("fabs", x),
    "max": lambda m, x, y: m.intrinsic("maximum", x, y),
    "min": lambda m, x, y: m.intrinsic("minimum", x, y),
    "square": lambda m, x: m.builder.fmul(x, x, flags=("contract",)),
    "softplus": VectorMath.softplus,
    "hard_sigmoid": VectorMath.hard_sigmoid,
    "hard_tanh": lambda m, x: m.clamp(x, -1.0, 1.0),
    "where": lambda m, c, x, y: m.builder.select(c, x, y),
    "mean": _swept,
    "peak": _swept,
    "cumulate": _swept,
    "remain": _swept,
    "floor": lambda m, x: m.intrinsic("floor", x),
    "sin": lambda m, x: m.wave(x, 0),
    "cos": lambda m, x: m.wave(x, 1),
    "turn": VectorMath.turn,
    "real": VectorMath.real,
    "lt": lambda m, x, y: m.compare("<", x, y),
    "le": lambda m, x, y: m.compare("<=", x, y),
    "gt": lambda m, x, y: m.compare(">", x, y),
    "ge": lambda m, x, y: m.compare(">=", x, y),
    "eq": lambda m, x, y: m.compare("==", x, y),
    "ne": lambda m, x, y: m.compare("!=", x, y),
}
"""Each operation of the table on vectors; the first argument is the `VectorMath`."""

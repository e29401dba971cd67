"""The one table of operations: arity, cost, constant folding and derivative.

Adding an operation is a row here plus one spelling per target (`emit/eager.py`,
`emit/llvm_math.py`); the tests walk the table and name what was forgotten.

A derivative gets the gradient `d` of the result, the result `y` and the inputs, and returns one
gradient per input (`None` where there is none). It is written with the operations of this table, so
the backward graph is made of the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.compiler.graph import Node

    Value = Node | float


@dataclass(frozen=True)
class Op:
    """One operation: what it is called, how much it costs, how it folds and differentiates."""

    name: str
    arity: int
    cost: int
    """Vector instructions, roughly; an addition is 1. The plan weighs it against saving."""
    fold: Callable[..., Any]
    """The operation on Python numbers, for constants."""
    derivative: Callable[..., tuple[Any, ...]] | None
    infix: str = ""
    boolean: bool = False
    """The result is a condition: it may only be an input of `where`."""
    commutes: bool = False
    pairs: bool = False
    """The result of a unit depends on its neighbor: units 0 and 1, 2 and 3 ... are pairs."""
    scans: bool = False
    """The result of a unit depends on all the units before it, or behind it."""
    reduces: bool = False
    """The result is the same for all units of a row, and depends on all of them."""


def apply(name: str, *values: Value) -> Any:
    """The operation on symbols (a new node) or, when all values are numbers, a number.

    >>> apply("add", 1.0, 2.0)
    3.0
    """
    for value in values:
        builder = getattr(value, "builder", None)
        if builder is not None:
            return builder.apply(name, values)
    return OPS[name].fold(*values)


def sigmoid(x: Value) -> Any:
    """The logistic function 1 / (1 + exp(-x)).

    >>> sigmoid(0.0)
    0.5
    """
    return apply("sigmoid", x)


def tanh(x: Value) -> Any:
    """The hyperbolic tangent.

    >>> tanh(0.0)
    0.0
    """
    return apply("tanh", x)


def exp(x: Value) -> Any:
    """e to the power x.

    >>> exp(0.0)
    1.0
    """
    return apply("exp", x)


def log(x: Value) -> Any:
    """The natural logarithm; -inf at 0, NaN below.

    >>> log(1.0)
    0.0
    """
    return apply("log", x)


def sqrt(x: Value) -> Any:
    """The square root; NaN below 0.

    >>> sqrt(4.0)
    2.0
    """
    return apply("sqrt", x)


def relu(x: Value) -> Any:
    """max(x, 0).

    >>> relu(-2.0)
    0.0
    """
    return apply("relu", x)


def absolute(x: Value) -> Any:
    """The absolute value; the built-in `abs` works too.

    >>> absolute(-2.0)
    2.0
    """
    return apply("abs", x)


def square(x: Value) -> Any:
    """x times x; `x ** 2` is the same.

    >>> square(3.0)
    9.0
    """
    return apply("square", x)


def softplus(x: Value) -> Any:
    """log(1 + exp(x)), without overflow.

    >>> round(softplus(0.0), 6)
    0.693147
    """
    return apply("softplus", x)


def hard_sigmoid(x: Value) -> Any:
    """x / 6 + 1/2, clipped to 0 and 1 (as `torch.nn.functional.hardsigmoid`).

    >>> hard_sigmoid(3.0)
    1.0
    """
    return apply("hard_sigmoid", x)


def hard_tanh(x: Value) -> Any:
    """x clipped to -1 and 1.

    >>> hard_tanh(5.0)
    1.0
    """
    return apply("hard_tanh", x)


def maximum(x: Value, y: Value) -> Any:
    """The larger of two; the gradient is halved between equal ones, as in PyTorch.

    >>> maximum(1.0, 2.0)
    2.0
    """
    return apply("max", x, y)


def minimum(x: Value, y: Value) -> Any:
    """The smaller of two; the gradient is halved between equal ones, as in PyTorch.

    >>> minimum(1.0, 2.0)
    1.0
    """
    return apply("min", x, y)


def where(condition: Any, x: Value, y: Value) -> Any:
    """x where the condition holds, y elsewhere; what to write instead of `if`.

    >>> where(1.0 > 0.5, 1.0, 2.0)
    1.0
    """
    return apply("where", condition, x, y)


def floor(x: Value) -> Any:
    """The largest whole number that is not above x; it has no gradient.

    >>> floor(-1.5)
    -2.0
    """
    return apply("floor", x)


def sin(x: Value) -> Any:
    """The sine of x in radians.

    >>> sin(0.0)
    0.0

    Compiled, it is as accurate as the format for |x| up to 10,000, and loses digits beyond.
    """
    return apply("sin", x)


def cos(x: Value) -> Any:
    """The cosine of x in radians; accurate where `sin` is.

    >>> cos(0.0)
    1.0
    """
    return apply("cos", x)


def turn(x: Value) -> Any:
    """Each pair of units (a, b) as (-b, a): turned by 90 degrees, or multiplied by i.

    With a third and fourth unit (c, d) and so on: H must be even. `cos(u) * x + sin(u) * turn(x)`
    turns every pair by the angle u.
    """
    return apply("turn", x)


def real(x: Value) -> Any:
    """Each pair of units (a, b) as (a, 0): the real part, where pairs are complex numbers.

    H must be even. `real(x) + turn(real(x))` has a in both units.
    """
    return apply("real", x)


def mean(x: Value) -> Any:
    """The mean over the H units of a row: the one operation that looks at other units.

    >>> mean(3.0)
    3.0
    """
    return apply("mean", x)


def peak(x: Value) -> Any:
    """The largest of the units of a row, to shift exponents by; its gradient is taken as zero.

    >>> peak(3.0)
    3.0
    """
    return apply("peak", x)


def cumulate(x: Value) -> Any:
    """The sum of all units up to and including each one.

    `e = exp(x - peak(x))` and `cumulate(e) / total`, with the total over all units, is the
    cumulative softmax.
    """
    return apply("cumulate", x)


def remain(x: Value) -> Any:
    """The sum of all units from each one on, itself included."""
    return apply("remain", x)


def normalize(x: Value, epsilon: float = 1e-5) -> Any:
    """x with mean 0 and variance 1 over the units of a row.

    >>> normalize(3.0)
    0.0

    Arguments:
        epsilon: added to the variance under the root.
    """
    centered = x - mean(x)
    return centered * (1.0 / sqrt(mean(square(centered)) + epsilon))


def normalize_together(values: Sequence[Value], epsilon: float = 1e-5) -> list[Any]:
    """Values with mean 0 and variance 1 over the units of all of them, as one long row.

    >>> normalize_together([1.0, 3.0], epsilon=0.0)
    [-1.0, 1.0]

    Arguments:
        epsilon: added to the variance under the root.

    Source: Ba et al. 2016, who normalize all gates of an LSTM together.
    """
    share = 1.0 / len(values)
    center = mean(sum(values[1:], values[0])) * share
    centered = [value - center for value in values]
    squares = [square(value) for value in centered]
    scale = 1.0 / sqrt(mean(sum(squares[1:], squares[0])) * share + epsilon)
    return [value * scale for value in centered]


def _split(d: Any, first: Any, second: Any) -> tuple[Any, Any]:
    """Gradients of max and min: all to the winner, half to each of two equals."""
    wins = apply("gt", first, second)
    ties = apply("eq", first, second)
    half = 0.5 * d
    return where(wins, d, where(ties, half, 0.0)), where(wins, 0.0, where(ties, half, d))


def _within(d: Any, x: Any, low: float, high: float) -> Any:
    return where(apply("gt", x, low), where(apply("lt", x, high), d, 0.0), 0.0)


def _guard(function: Callable[[float], float], below: float) -> Callable[[float], float]:
    """The function, with NaN outside its domain and infinity where Python would raise."""

    def folded(x: float) -> float:
        if x < below:
            return math.nan
        try:
            return function(x)
        except OverflowError:
            return math.inf

    return folded


def _flat(d: Any, y: Any, x: Any) -> tuple[None]:
    """The derivative of steps: none."""
    return (None,)


def _turning(function: Callable[[float], float]) -> Callable[[float], float]:
    """The function, with NaN at infinity, where Python would raise."""
    return lambda x: math.nan if math.isinf(x) else function(x)


def _fold_div(x: float, y: float) -> float:
    if y != 0.0:
        return x / y
    return (
        math.nan
        if x == 0.0 or math.isnan(x)
        else math.copysign(math.inf, x) * math.copysign(1.0, y)
    )


def _fold_max(x: float, y: float) -> float:
    return math.nan if math.isnan(y) else max(x, y)


def _fold_min(x: float, y: float) -> float:
    return math.nan if math.isnan(y) else min(x, y)


def _fold_log(x: float) -> float:
    return -math.inf if x == 0.0 else _guard(math.log, 0.0)(x)


def _fold_sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0.0 else math.exp(x) / (1.0 + math.exp(x))


def _fold_softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _alone(x: float) -> float:
    raise ValueError("turn, real, cumulate and remain take symbols; a number has no place in a row")


def _compare(name: str, infix: str, fold: Callable[[Any, Any], bool], commutes: bool = False) -> Op:
    return Op(name, 2, 1, fold, None, infix=infix, boolean=True, commutes=commutes)


_TABLE = (
    Op("add", 2, 1, lambda x, y: x + y, lambda d, z, x, y: (d, d), "+", commutes=True),
    Op("sub", 2, 1, lambda x, y: x - y, lambda d, z, x, y: (d, -d), "-"),
    Op("mul", 2, 1, lambda x, y: x * y, lambda d, z, x, y: (d * y, d * x), "*", commutes=True),
    Op("div", 2, 4, _fold_div, lambda d, z, x, y: (d / y, -((d / y) * z)), "/"),
    Op("neg", 1, 1, lambda x: -x, lambda d, y, x: (-d,)),
    Op("sigmoid", 1, 14, _fold_sigmoid, lambda d, y, x: (d * (y * (1.0 - y)),)),
    Op("tanh", 1, 15, math.tanh, lambda d, y, x: (d * (1.0 - square(y)),)),
    Op("exp", 1, 12, _guard(math.exp, -math.inf), lambda d, y, x: (d * y,)),
    Op("log", 1, 16, _fold_log, lambda d, y, x: (d / x,)),
    Op("sqrt", 1, 6, _guard(math.sqrt, 0.0), lambda d, y, x: (d / (2.0 * y),)),
    Op("relu", 1, 1, lambda x: max(x, 0.0), lambda d, y, x: (where(y > 0.0, d, 0.0),)),
    Op(
        "abs",
        1,
        1,
        abs,
        lambda d, y, x: (where(x > 0.0, d, where(apply("lt", x, 0.0), -d, 0.0)),),
    ),
    Op("max", 2, 1, _fold_max, lambda d, z, x, y: _split(d, x, y), commutes=True),
    Op("min", 2, 1, _fold_min, lambda d, z, x, y: _split(d, y, x), commutes=True),
    Op("square", 1, 1, lambda x: x * x, lambda d, y, x: (2.0 * d * x,)),
    Op("softplus", 1, 24, _fold_softplus, lambda d, y, x: (d * sigmoid(x),)),
    Op(
        "hard_sigmoid",
        1,
        3,
        lambda x: min(max(x / 6.0 + 0.5, 0.0), 1.0),
        lambda d, y, x: (_within(d * (1.0 / 6.0), x, -3.0, 3.0),),
    ),
    Op(
        "hard_tanh",
        1,
        2,
        lambda x: min(max(x, -1.0), 1.0),
        lambda d, y, x: (_within(d, x, -1.0, 1.0),),
    ),
    Op(
        "where",
        3,
        1,
        lambda c, x, y: x if c else y,
        lambda d, z, c, x, y: (None, where(c, d, 0.0), where(c, 0.0, d)),
    ),
    Op("mean", 1, 30, lambda x: x, lambda d, y, x: (apply("mean", d),), reduces=True),
    Op("peak", 1, 30, lambda x: x, _flat, reduces=True),
    Op("cumulate", 1, 30, _alone, lambda d, y, x: (remain(d),), scans=True),
    Op("remain", 1, 30, _alone, lambda d, y, x: (cumulate(d),), scans=True),
    Op("floor", 1, 1, lambda x: float(math.floor(x)) if math.isfinite(x) else x, _flat),
    Op("sin", 1, 18, _turning(math.sin), lambda d, y, x: (d * cos(x),)),
    Op("cos", 1, 18, _turning(math.cos), lambda d, y, x: (-(d * sin(x)),)),
    Op("turn", 1, 2, _alone, lambda d, y, x: (-turn(d),), pairs=True),
    Op("real", 1, 1, _alone, lambda d, y, x: (real(d),), pairs=True),
    _compare("lt", "<", lambda x, y: x < y),
    _compare("le", "<=", lambda x, y: x <= y),
    _compare("gt", ">", lambda x, y: x > y),
    _compare("ge", ">=", lambda x, y: x >= y),
    _compare("eq", "==", lambda x, y: x == y, commutes=True),
    _compare("ne", "!=", lambda x, y: x != y, commutes=True),
)

OPS: dict[str, Op] = {op.name: op for op in _TABLE}
"""Every operation by name, in the order of the table."""

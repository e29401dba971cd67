"""Cells that a user might write: together they use every operation, every term and odd results."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import (
    Cell,
    absolute,
    cell,
    exp,
    hard_sigmoid,
    hard_tanh,
    log,
    maximum,
    minimum,
    relu,
    sigmoid,
    softplus,
    sqrt,
    square,
    tanh,
    where,
)
from holdfast.cells import CELLS


@cell(gates="a b", state="s")
def smooth(a, b, s):
    """Every smooth operation."""
    level = sqrt(1.5 + square(tanh(a))) + log(1.0 + exp(-absolute(b)))
    s = 0.5 * tanh(s) + softplus(b) / (2.0 + sigmoid(a) * softplus(a)) - 0.25
    return tanh(s - level / 3.0) * (1 - sigmoid(-b)), s


@cell(gates="a b c", state="s")
def kinked(a, b, c, s):
    """Every operation with a corner, and every comparison."""
    top = maximum(a, b) - minimum(b, c)
    s = hard_tanh(0.9 * s + hard_sigmoid(c)) * where(a > b, 0.5, -0.5) + 0.1 * abs(top)
    chosen = where(a <= c, relu(a), where(s < b, -0.3 * b, tanh(top)))
    other = where(a >= 0.2, where(c == b, a, 0.5 * s), where(b != a, 0.25 * c, a))
    return tanh(chosen + other), s


@cell(
    gates={
        "i": "W x + b",
        "f": "R h + b",
        "g": "W x + u*h + b",
        "o": "W x + R h + b + 1",
        "k": "b",
        "q": "0.5",
        "m": "u*h + b",
        "e": "W x",
    },
    state="c",
)
def terms(i, f, g, o, k, q, m, e, c):
    """Gates with all kinds of changed terms."""
    c = sigmoid(f + k) * c + sigmoid(i) * tanh(g + q * e)
    return sigmoid(o) * tanh(c + m), c


@cell(gates="i f g o", state="c s n", weights="p")
def three_states(i, f, g, o, c, s, n, p):
    """Three states, one of which only remembers the one before."""
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    n = 0.5 * n + sigmoid(i)
    return sigmoid(o) * tanh(c + p * s) / (1 + n), c, tanh(s + 0.5 * c), n


@cell(gates="a z", state="first second", weights="p")
def shifting(a, z, first, second, p):
    """States that are leaves: a pre-activation, and the other state's previous value."""
    return tanh(a * second + p * z) * z, z, first


@cell(gates="a", state="one p_old flat", weights="p")
def restarting(a, one, p_old, flat, p):
    """States that are a constant, a weight and a value without the input."""
    return tanh(a + 0.5 * one * p_old - flat), a * 0 + 1, p + 0, tanh(p * p_old)


@cell(gates="a")
def linear(a):
    """No nonlinearity at all: h is the affine sum."""
    return a


@cell(gates="n z r", weights="w")
def taken_apart(n, z, r, h, w, *, slope=0.75):
    """The first gate taken apart, h in the mathematics, a keyword-only constant."""
    new = tanh(n.input * slope + r * tanh(n.recurrent) + w * h)
    return sigmoid(z) * h + (1 - sigmoid(z)) * new


@cell(gates={"a": "W x", "b": "R h"}, state="c")
def bare(a, b, c, h):
    """No bias anywhere, and the previous h twice."""
    c = tanh(a) + 0.25 * c * h
    return tanh(b + 0.25 * c) + 0.5 * minimum(h, 0.5), c


@cell(gates={"a": "W x + R h + b", "b": "W x"}, state="c", inputs="k")
def given(a, b, c, x, k, h):
    """The input unit by unit, and a sequence beside it."""
    c = sigmoid(a) * c + k * b * (1 - x)
    return tanh(c) * x + 0.25 * k * h, c


@cell(gates="i g", state="c*2", weights="p*2")
def lagging(i, g, c, p, h, x):
    """States and inputs of some steps ago, and series of states and weights."""
    new = sigmoid(i) * tanh(g) + p[0] * c[0] - p[1] * c[0].lag(3) + 0.25 * x.lag(2)
    return tanh(new + 0.5 * h.lag(2)), [new, 0.5 * c[1] + c[0].lag(2)]


@cell(gates={"a": "W x + R h + b", "n": "R h", "m": "R h + b"}, state="s")
def calling(a, n, m, s):
    """Gates without an input, called on a state as it was and on what another one gave."""
    a = tanh(a)
    return tanh(0.5 * n(s) + m(n(s) * a)), 0.5 * s + a


USER_CELLS: dict[str, Cell] = {
    one.name: one
    for one in (
        smooth,
        kinked,
        terms,
        three_states,
        shifting,
        restarting,
        linear,
        taken_apart,
        bare,
        given,
        lagging,
        calling,
    )
}

CORE = ("coupled", "gru", "gru_2014", "lstm", "lstm_1997_plain", "peephole", "rnn", "rnn_relu")
"""Cells of the catalogue that every test runs."""

ALL_CELLS: dict[str, Cell] = {**{name: CELLS[name] for name in CORE}, **USER_CELLS}
"""These, and the cells above: together they hold all that the language can say."""

OTHERS: dict[str, Cell] = {name: one for name, one in CELLS.items() if name not in CORE}
"""The rest of the catalogue: few quick tests (`test_catalogue.py`); all the others are slow."""

EVERY_CELL: list[Any] = [
    *(pytest.param(one, id=name) for name, one in ALL_CELLS.items()),
    *(pytest.param(one, id=name, marks=pytest.mark.slow) for name, one in OTHERS.items()),
]
"""Parameters of a test that takes a cell."""

CATALOGUE: list[Any] = [
    name if name in CORE else pytest.param(name, marks=pytest.mark.slow)
    for name, one in CELLS.items()
    if one.multiple == 1 and not set(one.inputs) - {"x"}
]
"""Parameters of a test that takes the name of a cell: those with any H, and no input but x."""

"""Tracing gives the graph that was written: the user's names and lines, and a key for the rest."""

from __future__ import annotations

import inspect
from pathlib import Path

from holdfast import Cell, cell, sigmoid, tanh, where
from holdfast.cells import CELLS
from tests.emit.user_cells import ALL_CELLS

FILE = Path(__file__).name


def test_the_text_has_the_users_names_and_lines() -> None:
    @cell(gates="i g", state="c")
    def named(i, g, c):
        opened = sigmoid(i)
        c = c + opened * tanh(g)
        return tanh(c), c

    first = inspect.getsourcelines(named.function)[1]
    assert named.graph.text() == (
        f"opened = sigmoid(i)  # {FILE}:{first + 2}\n"
        f"t1 = tanh(g)  # {FILE}:{first + 3}\n"
        f"t2 = opened * t1  # {FILE}:{first + 3}\n"
        f"c = c_prev + t2  # {FILE}:{first + 3}\n"
        f"t3 = tanh(c)  # {FILE}:{first + 4}\n"
        "return h = t3\n"
        "return c = c\n"
    )


def test_a_name_taken_twice_is_numbered() -> None:
    @cell(gates="a")
    def again(a):
        a = tanh(a)
        a = sigmoid(a)
        return a

    lines = [line.partition("  #")[0] for line in again.graph.text().splitlines()]
    assert lines == ["a2 = tanh(a)", "a3 = sigmoid(a2)", "return h = a3"]


def test_names_of_a_tuple_assignment_and_a_line_of_several() -> None:
    @cell(gates="a b")
    def pair(a, b):
        left, right = tanh(a), sigmoid(b)
        return left * right

    assert "left = tanh(a)" in pair.graph.text()
    assert "right = sigmoid(b)" in pair.graph.text()


def test_leaves_of_the_same_text_stay_apart() -> None:
    @cell(gates="a", state="c", weights="c_prev")
    def confusing(a, c, c_prev):
        return tanh(a + c * c_prev), c

    text = confusing.graph.text()
    assert "c_prev * c_prev2" in text


def _first(scale: float) -> Cell:
    @cell(gates="i g", state="c")
    def first(i, g, c):
        c = scale * c + sigmoid(i) * tanh(g)
        return tanh(c), c

    return first


def _second() -> Cell:
    @cell(gates="i g", state="c")
    def another(i, g, c):
        faded = 0.5 * c
        opened = sigmoid(i)
        memory = faded + opened * tanh(g)
        squashed = tanh(memory)
        return squashed, memory

    return another


def test_equal_mathematics_has_an_equal_key() -> None:
    assert _first(0.5).key == _first(0.5).key
    every = {**ALL_CELLS, **CELLS}
    assert len({one.key for one in every.values()}) == len(every)


def test_the_key_does_not_depend_on_names_of_lines() -> None:
    assert _first(0.5).key == _second().key
    assert _first(0.5).graph.text() != _second().graph.text()


def test_a_constant_that_differs_in_the_last_digit_has_another_key() -> None:
    assert _first(0.5).key != _first(0.5 + 2**-53).key
    assert _first(0.0).key != _first(-1.0).key


def test_states_gates_and_weights_are_part_of_the_key() -> None:
    @cell(gates="i g", weights="c")
    def weight(i, g, c):
        return tanh(0.5 * c + sigmoid(i) * tanh(g))

    @cell(gates="i g o")
    def gate(i, g, o):
        return tanh(0.5 * o + sigmoid(i) * tanh(g))

    @cell(gates={"i": "W x + R h + b", "g": "W x + b"}, weights="c")
    def terms(i, g, c):
        return tanh(0.5 * c + sigmoid(i) * tanh(g))

    assert len({weight.key, gate.key, terms.key}) == 3


def test_the_order_of_results_is_part_of_the_key() -> None:
    @cell(gates="a", state="c d")
    def straight(a, c, d):
        return tanh(a), c + d, c - d

    @cell(gates="a", state="c d")
    def crossed(a, c, d):
        plus, minus = c + d, c - d
        return tanh(a), minus, plus

    assert straight.key != crossed.key


def test_a_helper_function_counts_as_the_line_that_calls_it() -> None:
    def squash(x):
        return tanh(x) * sigmoid(x)

    @cell(gates="a")
    def helped(a):
        return squash(a)

    line = inspect.getsourcelines(helped.function)[1] + 2
    steps = [text for text in helped.graph.text().splitlines() if "=" in text and "#" in text]
    assert [text.partition("  # ")[2] for text in steps] == [f"{FILE}:{line}"] * 3


def test_an_expression_over_several_lines_traces() -> None:
    @cell(gates="a b")
    def long(a, b):
        chosen = where(
            a > b,
            tanh(a),
            sigmoid(b),
        )
        return chosen

    assert "chosen = where(" in long.graph.text()


def test_every_step_of_the_catalogue_has_a_line_and_no_path() -> None:
    for name, one in CELLS.items():
        for line in one.graph.text().splitlines():
            if not line.startswith("return "):
                place = line.partition("  # ")[2]
                assert place.partition(":")[2].isdigit(), f"{name}: {line}"
                assert "/" not in place

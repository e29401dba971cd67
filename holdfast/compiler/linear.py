"""Which recurrences are linear, each unit of each state on its own: `new = a * old + b`.

Input: a cell. Output: whether a and b are free of all previous states, so that the states of all
steps come from scans, and the walk that finds a and b.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from holdfast.compiler.cell import Cell
from holdfast.compiler.graph import LEAVES

Apply = Callable[..., Any]


class Affine(NamedTuple):
    """A value `a * state + b`; without a state just b, with "?" something else."""

    state: str
    a: Any
    b: Any


OTHER = Affine("?", None, None)


@cache
def is_linear(cell: Cell) -> bool:
    """Whether every previous state that a step reads comes from a linear recurrence of its own.

    >>> from holdfast.cells import CELLS
    >>> [name for name in ("lstm", "min_lstm", "qrnn") if is_linear(CELLS[name])]
    ['min_lstm', 'qrnn']
    """
    if cell.masks or any(acc.h for acc in cell.accumulators):
        return False
    found = coefficients(cell, lambda *_: None, lambda *_: None)
    return all(new.state in ("", name) for name, new in found.items())


def coefficients(cell: Cell, leaf: Apply, apply: Apply) -> dict[str, Affine]:
    """The new value of every state that a step reads, by name.

    Arguments:
        leaf: the value of a leaf from its kind, name and number. apply: that of an operation, from
            its name and the values that it takes.
    """
    steps, outputs = cell.program
    values: list[Affine] = []
    read = []
    for op, name, number, inputs in steps:
        if op == "state":
            read.append(name)
            values.append(Affine(name, leaf("const", "", 1.0), leaf("const", "", 0.0)))
        elif op in LEAVES:
            values.append(Affine("", None, leaf(op, name, number)))
        else:
            values.append(_combine(op, [values[n] for n in inputs], leaf, apply))
    new: Mapping[str, Affine] = {
        name: values[n] for name, n in zip(("h", *cell.states), outputs, strict=True)
    }
    return {name: new[name] for name in ("h", *cell.states) if name in read}


def _combine(op: str, given: list[Affine], leaf: Apply, apply: Apply) -> Affine:
    """An operation on values of which some may depend on a state."""
    depend = [value.state for value in given if value.state]
    if not depend:
        return Affine("", None, apply(op, *(value.b for value in given)))
    state = depend[0]
    if state == OTHER.state or any(other != state for other in depend):
        return OTHER
    first, last = given[0], given[-1]
    if op == "neg":
        return Affine(state, apply(op, first.a), apply(op, first.b))
    if (op == "mul" and len(depend) == 1) or (op == "div" and not last.state):
        free, whole = (first, last) if last.state else (last, first)
        return Affine(state, apply(op, whole.a, free.b), apply(op, whole.b, free.b))
    if op in ("add", "sub") or (op == "where" and not first.state):
        head = [first.b] if op == "where" else []
        # What is free of the state has the slope 0.
        slopes = [
            value.a if value.state else leaf("const", "", 0.0) for value in given[len(head) :]
        ]
        rests = [value.b for value in given[len(head) :]]
        return Affine(state, apply(op, *head, *slopes), apply(op, *head, *rests))
    return OTHER

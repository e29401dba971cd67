"""Stage 1, define: `@cell` turns ten lines of mathematics into a `Cell`.

Input: the user's function and what it declares (gates, states, per-unit weights). Output: a frozen
`Cell`, traced and checked at definition time, so a wrong definition is refused where it is written.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from holdfast.compiler.graph import Graph, Step
from holdfast.compiler.ops import OPS
from holdfast.compiler.tie import Tie, rows
from holdfast.compiler.trace import (
    Accumulator,
    Gate,
    Mask,
    Trace,
    definition_place,
    given_column,
    trace,
)
from holdfast.errors import CellError, Place

PARTS = {"weight_ih": "x", "weight_hh": "h", "bias_ih": "bias_ih", "bias_hh": "bias_hh"}
"""Parameters that hold the rows of all gates, and the part of a gate that each is."""

FULL = "W x + R h + b"
"""The terms of a gate that declares none."""

MATRICES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "weight_x")
"""Parameter names that a per-unit weight cannot have."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A recurrent cell: its gates, its states, its per-unit weights and its mathematics.

    Made by `@cell`; layers take it, `holdfast show` prints its stages.
    """

    name: str
    gates: tuple[Gate, ...]
    states: tuple[str, ...]
    weights: tuple[str, ...]
    """Per-unit weights, including those that the terms `u*h` and a lone `b` declare."""
    function: Callable[..., Any] = field(repr=False)
    traced: Trace = field(repr=False)
    masks: tuple[Mask, ...] = ()
    """Random multipliers, as `vary` adds them."""
    operand: str = ""
    """The mask on the h that R multiplies; empty where there is none."""
    initial: tuple[tuple[str, float], ...] = ()
    """Per-unit weights that begin with a number, and it."""
    ties: tuple[tuple[str, Tie], ...] = ()
    """Gates whose rows are not all their own, and how those are made."""
    inputs: tuple[str, ...] = ()
    """What a step is given unit by unit: `x`, the layer's input, and further sequences."""
    program: tuple[tuple[Step, ...], tuple[int, ...]] = field(init=False, repr=False)
    """The step graph as plain data, which PyTorch's tracers can look into."""
    names: tuple[str, ...] = field(init=False, repr=False)
    """Names of all parameters, in the order of `shapes`."""
    key: str = field(init=False, repr=False)
    """A name for this exact mathematics: equal for equal gates, states, weights and graph."""

    def __post_init__(self) -> None:
        # Not on first use: that may be under a tracer, which cannot enter a cached property.
        key = self.traced.key(self.gates, self.states, self.weights)
        if self.masks or self.inputs or self.ties:
            given = [one for one in (self.inputs, self.ties) if one]
            content = repr((key, self.masks, self.operand, *given))
            key = hashlib.sha256(content.encode()).hexdigest()[:16]
        found = {"program": self.graph.program(), "names": tuple(self.shapes(1, 1)), "key": key}
        for name, value in found.items():
            object.__setattr__(self, name, value)
        _known[key] = self

    @property
    def graph(self) -> Graph:
        """The step graph: outputs `h` and each state."""
        return self.traced.graph

    @property
    def accumulators(self) -> tuple[Accumulator, ...]:
        """The affine sums of a step, in the order in which every target keeps them."""
        return self.traced.accumulators

    @property
    def carried(self) -> tuple[str, ...]:
        """States that only carry others on, for their lags."""
        return tuple(name for name in self.states if re.search(r"_lag\d+$", name))

    def stored(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what a layer keeps: `shapes` without the rows that ties make.

        >>> from holdfast.cells import lstm
        >>> lstm.stored(3, 5) == lstm.shapes(3, 5)
        True

        Errors: `CellError` for a hidden size that pairs or ties cannot have.
        """
        if hidden_size % self.multiple:
            raise CellError(
                f"the cell {self.name} has units in groups of {self.multiple}, so H must be a "
                f"multiple of {self.multiple}, got {hidden_size}"
            )
        shapes = self.shapes(input_size, hidden_size)
        for name, part in PARTS.items():
            if name in shapes:
                count = sum(kept for _, kept in self.split(part, hidden_size))
                shapes[name] = (count, *shapes[name][1:])
        return shapes

    def measure(self, parameters: Mapping[str, Any]) -> tuple[int, int]:
        """I and H of parameters with these shapes; I is 0 where no matrix multiplies the input."""
        for name in ("weight_ih", "weight_hh"):
            count = sum(getattr(acc, PARTS[name]) for acc in self.accumulators)
            if count:
                shape = parameters[name].shape
                return (shape[1] if name == "weight_ih" else 0), shape[0] // count
        raise CellError(f"the cell {self.name} has no matrix")

    def split(self, part: str, hidden_size: int) -> list[tuple[Accumulator, int]]:
        """The affine sums that have a part (`x`, `h`, `bias_ih`, `bias_hh`), and how many rows of
        the parameter each has for its own."""
        ties = dict(self.ties)
        return [
            (acc, len(set(rows(tie, hidden_size))) if not (tie and tie.source) else 0)
            for acc in self.accumulators
            if getattr(acc, part)
            for tie in (ties.get(acc.gate),)
        ]

    @cached_property
    def multiple(self) -> int:
        """What H must be a multiple of: 2 where units come in pairs, else what ties ask for."""
        paired = any(node.op in OPS and OPS[node.op].pairs for node in self.graph.nodes())
        return math.lcm(1 + paired, *(max(tie.units, tie.width) for _, tie in self.ties))

    def column(self, name: str, width: int, input_size: int, hidden_size: int) -> int:
        """Where what a step is given under a name begins in a row of the input.

        The row holds the I numbers that W multiplies, then H for each of `inputs`. `x` has none of
        its own where the row is that much shorter: then it is those I numbers.
        """
        return given_column(self.inputs, name, width, input_size, hidden_size)

    def widths(self, input_size: int, hidden_size: int) -> tuple[int, ...]:
        """Numbers that a row of the input may hold: with `x` unit by unit of its own, or shared."""
        multiplied = any(acc.x for acc in self.accumulators)
        whole = (input_size if multiplied else 0) + len(self.inputs) * hidden_size
        shared = multiplied and self.inputs[:1] == ("x",) and input_size == hidden_size
        return (whole, whole - hidden_size) if shared else (whole,)

    @property
    def doc(self) -> str:
        """The docstring: what the cell is and where it comes from."""
        return inspect.getdoc(self.function) or ""

    @cached_property
    def source(self) -> str:
        """The definition as the user wrote it, or a note that it is not available."""
        try:
            return inspect.getsource(self.function)
        except (OSError, TypeError):
            return f"# the source of {self.name} is not available\n"

    def shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """Parameter names and shapes, in the order and layout of `torch.nn.LSTM`.

        >>> from holdfast.cells import lstm
        >>> lstm.shapes(3, 5)["weight_ih"]
        (20, 3)
        """
        heights = {
            part: sum(getattr(acc, part) for acc in self.accumulators) * hidden_size
            for part in ("x", "h", "bias_ih", "bias_hh")
        }
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (heights["x"], input_size),
            "weight_hh": (heights["h"], hidden_size),
            "bias_ih": (heights["bias_ih"],),
            "bias_hh": (heights["bias_hh"],),
        }
        shapes = {name: shape for name, shape in shapes.items() if shape[0]}
        return shapes | dict.fromkeys(self.weights, (hidden_size,))

    def count(self, input_size: int, hidden_size: int) -> int:
        """How many parameters the cell's paper counts: PyTorch's two biases of one sum are one, and
        the matrix that `x` unit by unit needs where I is not H is left out.

        >>> from holdfast.cells import lstm
        >>> lstm.count(3, 5) == 4 * (3 * 5 + 5 * 5 + 5)
        True
        """
        numbers = sum(map(math.prod, self.stored(input_size, hidden_size).values()))
        return numbers - sum(n for acc, n in self.split("bias_ih", hidden_size) if acc.bias_hh)


_known: dict[str, Cell] = {}


def find(key: str) -> Cell:
    """The cell with that key; operators name cells by key.

    Errors: `CellError` when this process has not defined it.
    """
    if key not in _known:
        raise CellError(f"no cell with the key {key} is defined here; import its module first")
    return _known[key]


def cell(
    *,
    gates: str | Mapping[str, str],
    state: str = "",
    weights: str | Mapping[str, float | None] = "",
    inputs: str = "",
    ties: Mapping[str, Tie] | None = None,
) -> Callable[[Callable[..., Any]], Cell]:
    """Define a recurrent cell from its mathematics for one unit and one time step.

    >>> from holdfast import cell, sigmoid, tanh
    >>> @cell(gates="i f g o", state="c")
    ... def plain(i, f, g, o, c):
    ...     c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    ...     return sigmoid(o) * tanh(c), c
    >>> plain.states
    ('c',)

    The function's arguments are found by name: gates, states, weights, inputs, `h`, the previous
    output, and `x`, the input unit by unit: itself where I = H, else `weight_x` times it. It
    returns the new `h`, then the new states in the order of `state`. Keyword-only arguments with a
    number as default are constants. A name with a number, `c*3`, stands for that many, as a tuple.
    `c.lag(k)` is the state c of k steps ago (`c.lag(1)` is c), `x.lag(k)` the input of then; before
    the first step both are zero, or what the states that carry them begin with.

    Arguments:
        gates: names of the affine pre-activations, each `W x + R h + b`; or a mapping from names
            to their terms, a sum of `W x`, `R h` (dense), `u*h` (per unit), `b` and numbers.
            `n.input` is the `W x + b_ih` of gate n, `n.recurrent` its `R h + b_hh`; `n(s)` is the
            gate with R on s instead of h, for example `n(sigmoid(r) * h)`.
        state: names of the states besides `h`.
        weights: names of per-unit weights (peepholes); or a mapping from a name to the number that
            a layer begins with, None for random ones.
        inputs: names of further sequences that are given unit by unit, `[T, B, H]` each: the memory
            of the layer below, the time of a step.
        ties: gates whose rows are not all their own, by name: `shared(2)` or `permuted("r", 1)`.

    Errors: `CellError` with the file and line, for what the language cannot say.
    """

    def define(function: Callable[..., Any]) -> Cell:
        place = definition_place(function)
        series: dict[str, tuple[str, ...]] = {}
        declared = _parse_gates(gates, series, place)
        sees_x = "x" in inspect.signature(function).parameters
        if not sees_x and not any(gate.input for gate in declared):
            raise CellError(
                "no gate has the term `W x`, so the cell would not see its input", place
            )
        numbers = dict.fromkeys(weights.split()) if isinstance(weights, str) else weights
        states, units, given = (
            tuple(_expand(names, series)) for names in (state.split(), numbers, inputs.split())
        )
        initial = tuple((name, value) for name, value in numbers.items() if value is not None)
        lowered = tuple(name for gate in declared for name in gate.lowered)
        named = [gate.name for gate in declared]
        _check_names(named, states, units, given, lowered, place)
        members = {member: name for name, several in series.items() for member in several}
        kinds = {"gate": named, "state": states, "weight": units, "input": given}
        _check_arguments(function, kinds, members, place)
        traced = trace(function, declared, states, units, given, series)
        _check_used(declared, given, traced, place)
        return Cell(
            function.__name__,
            declared,
            traced.states,
            units + lowered,
            function,
            traced,
            initial=initial,
            ties=_check_ties(ties or {}, named, place),
            inputs=traced.inputs,
        )

    return define


def _expand(names: Iterable[str], series: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """The names, with `c*3` as `c_0 c_1 c_2`, which `series` then holds."""
    for name in names:
        stem, star, count = name.partition("*")
        if not star or not count.isdigit():
            yield name
            continue
        series[stem] = tuple(f"{stem}_{number}" for number in range(int(count)))
        yield from series[stem]


def _parse_gates(
    gates: str | Mapping[str, str], series: dict[str, tuple[str, ...]], place: Place | None
) -> tuple[Gate, ...]:
    groups = {gates: FULL} if isinstance(gates, str) else gates
    return tuple(
        _parse_gate(name, terms, place)
        for names, terms in groups.items()
        for name in _expand(names.split() or [names], series)
    )


def _parse_gate(name: str, text: str, place: Place | None) -> Gate:
    terms = [re.sub(r"\s*\*\s*|\s+", " ", term.strip()) for term in text.split("+")]
    constant = 0.0
    for term in terms:
        if term in ("W x", "R h", "u h", "b"):
            continue
        try:
            constant += float(term.replace(" ", ""))
        except ValueError:
            raise CellError(
                f"gate {name}: unknown term `{term}`; a gate is a sum of `W x`, `R h`, `u*h`, `b` "
                f'and numbers, for example "{FULL}"',
                place,
            ) from None
    named = [term for term in terms if term in ("W x", "R h", "u h", "b")]
    if len(named) != len(set(named)):
        raise CellError(f"gate {name}: a term stands twice in `{text}`", place)
    if "R h" in named and "u h" in named:
        raise CellError(f"gate {name}: take `R h` (dense) or `u*h` (per unit), not both", place)
    return Gate(name, "W x" in named, "R h" in named, "u h" in named, "b" in named, constant)


def _check_names(
    gates: list[str],
    states: tuple[str, ...],
    weights: tuple[str, ...],
    inputs: tuple[str, ...],
    lowered: tuple[str, ...],
    place: Place | None,
) -> None:
    names = [*gates, *states, *weights, *inputs]
    for name, what in (("h", "output of the previous step"), ("x", "input of the step")):
        if name in names:
            raise CellError(
                f"`{name}` is the {what} and always there; name the gate or state something else "
                f"and take `{name}` as an argument where it is needed",
                place,
            )
    for name in names:
        if not name.isidentifier():
            raise CellError(f"`{name}` is not a name", place)
        if names.count(name) > 1:
            raise CellError(f"`{name}` is declared twice among gates, states and weights", place)
    for name in weights:
        if name in MATRICES or name in lowered:
            taken = "a matrix or bias of the gates" if name in MATRICES else "a term of a gate"
            raise CellError(
                f"the weight `{name}` has the parameter name of {taken}; name it otherwise", place
            )


def _check_arguments(
    function: Callable[..., Any],
    kinds: Mapping[str, Iterable[str]],
    members: Mapping[str, str],
    place: Place | None,
) -> None:
    """The arguments must be what was declared.

    Arguments:
        kinds: names by what they are. members: names that only stand in a series, with its name.
    """
    found = {members.get(name, name): kind for kind, names in kinds.items() for name in names}
    known = [*found, "h", "x"]
    arguments: list[str] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and isinstance(parameter.default, (int, float)):
            continue
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD or name not in known:
            raise CellError(
                f"unknown argument `{name}`; expected some of {', '.join(known)}. Declare it in "
                "@cell(gates=, state=, weights=, inputs=), or give it a number as keyword-only "
                "default",
                place,
            )
        arguments.append(name)
    missing = [name for name in found if name not in arguments]
    if missing:
        raise CellError(
            f"the {found[missing[0]]} `{missing[0]}` is declared but not an argument; add it to "
            f"def {function.__name__}({', '.join([*arguments, missing[0]])})",
            place,
        )


def _check_ties(
    ties: Mapping[str, Tie], gates: list[str], place: Place | None
) -> tuple[tuple[str, Tie], ...]:
    for name, tie in ties.items():
        for gate in (name, tie.source or name):
            if gate not in gates:
                raise CellError(f"ties: there is no gate `{gate}`; declare it in gates=", place)
        if tie.source in ties or tie.source == name:
            raise CellError(f"ties: the gate `{tie.source}` has tied rows itself", place)
    return tuple(ties.items())


def _check_used(
    gates: tuple[Gate, ...], inputs: tuple[str, ...], traced: Trace, place: Place | None
) -> None:
    leaves = {node.name for node in traced.graph.nodes() if node.owned}
    for name in inputs:
        if name not in traced.inputs:
            raise CellError(
                f"the input `{name}` does not reach any result; use it or drop it", place
            )
    used = {accumulator.gate for accumulator in traced.accumulators if accumulator.leaf in leaves}
    for gate in gates:
        if gate.affine and gate.name not in used:
            raise CellError(
                f"the gate `{gate.name}` does not reach any result; use it or drop it", place
            )

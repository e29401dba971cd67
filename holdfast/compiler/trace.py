"""Stage 2, trace: run the ten lines on symbols and get the step graph.

Input: the function of a cell with its gates, states and weights. Output: a `Trace`: the `Graph`
whose outputs are `h` and the states, and the affine sums (accumulators) that feed it.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import linecache
import sys
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.compiler.graph import Builder, Graph, Node, lagged
from holdfast.errors import CellError, Place


@dataclass(frozen=True)
class Gate:
    """An affine pre-activation and its terms."""

    name: str
    input: bool
    """`W x`"""
    recurrent: bool
    """`R h`, dense"""
    diagonal: bool
    """`u*h`, per unit"""
    bias: bool
    constant: float = 0.0

    @property
    def affine(self) -> bool:
        """Whether a matrix takes part; otherwise per-unit weights say it all."""
        return self.input or self.recurrent

    @property
    def lowered(self) -> tuple[str, ...]:
        """The per-unit weights that the terms `u*h` and a lone `b` stand for."""
        diagonal = (f"u_{self.name}",) if self.diagonal else ()
        return diagonal + ((f"b_{self.name}",) if self.bias and not self.affine else ())


@dataclass(frozen=True)
class Accumulator:
    """One affine sum of a step: a gate, or one part of a gate that the cell takes apart."""

    leaf: str
    gate: str
    x: bool
    h: bool
    bias_ih: bool
    bias_hh: bool
    inner: bool = False
    """Whether R multiplies an operand of the step itself; such a gate is called."""


@dataclass(frozen=True)
class Mask:
    """A random multiplier of one unit: one of two values, drawn anew each step or once a row."""

    name: str
    per_step: bool


@dataclass(frozen=True, eq=False)
class Trace:
    """What tracing found: the step graph and the sums that feed it."""

    graph: Graph
    accumulators: tuple[Accumulator, ...]

    @property
    def states(self) -> tuple[str, ...]:
        """The states besides h: those declared, then those that carry others on for lags."""
        return tuple(name for name in self.graph.outputs if name != "h")

    @property
    def inputs(self) -> tuple[str, ...]:
        """What a step is given unit by unit, `x` first."""
        names = [node.name for node in self.graph.leaves("input")]
        return tuple(sorted(names, key=lambda name: name != "x"))

    def key(
        self, gates: tuple[Gate, ...], states: tuple[str, ...], weights: tuple[str, ...]
    ) -> str:
        """A digest of the mathematics, independent of where it was written."""
        nodes = self.graph.nodes()
        numbers = {node: number for number, node in enumerate(nodes)}
        lines = [
            (
                node.op,
                node.name if node.owned else "",
                repr(node.value),
                *(numbers[child] for child in node.inputs),
            )
            for node in nodes
        ]
        results = [(name, numbers[node]) for name, node in self.graph.outputs.items()]
        content = repr((gates, states, weights, self.accumulators, lines, results))
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def given_column(
    inputs: tuple[str, ...], name: str, width: int, input_size: int, hidden_size: int
) -> int:
    """Where what a step is given under a name begins in a row of the input, of `width` numbers."""
    shared = width < input_size + len(inputs) * hidden_size
    place = inputs.index(name) - shared
    return 0 if place < 0 else input_size + place * hidden_size


def definition_place(function: Callable[..., Any]) -> Place | None:
    """Where a cell was defined: its file and the line of its `def`."""
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    line = code.co_firstlineno
    while (
        "def " not in linecache.getline(code.co_filename, line) and line < code.co_firstlineno + 9
    ):
        line += 1
    text = linecache.getline(code.co_filename, line).rstrip("\n")
    return Place(_short(code.co_filename), line if text else code.co_firstlineno, text=text)


def trace(
    function: Callable[..., Any],
    gates: tuple[Gate, ...],
    states: tuple[str, ...],
    weights: tuple[str, ...],
    inputs: tuple[str, ...] = (),
    series: Mapping[str, tuple[str, ...]] | None = None,
) -> Trace:
    """Run a cell's function on symbols.

    The function runs twice where it takes a gate apart (`n.input`): the first run tells which.

    Arguments:
        inputs: what a step is given besides `x`.
        series: names that were declared together, by the name of the tuple that they make.

    Errors: `CellError` at the user's line.
    """
    split: frozenset[str] = frozenset()
    definition = definition_place(function)
    while True:
        builder = _builder(function.__code__)
        arguments = _arguments(builder, gates, states, weights, split)
        for node in builder.nodes:
            # The terms u*h and b stand in the declaration, above the first line that runs.
            node.place = None if node.leaf else definition
        arguments |= {name: builder.leaf("input", name) for name in ("x", *inputs)}
        given: dict[str, Any] = dict(arguments)
        for name, members in (series or {}).items():
            given[name] = tuple(arguments[member] for member in members)
        wanted = inspect.signature(function).parameters
        results = function(**{name: given[name] for name in wanted if name in given})
        if builder.split <= split:
            break
        split = split | builder.split
    outputs = _outputs(results, states, function, builder)
    graph = Graph(outputs | _carried(builder))
    for node in graph.leaves("gate"):
        if node.name in builder.called:
            raise CellError(
                f"the gate {node.name} is called and used as it is, too; declare two gates",
                definition_place(function),
            )
    _name_assigned(builder, function)
    return Trace(graph, _accumulators(gates, split, frozenset(builder.called)))


def _builder(code: types.CodeType) -> Builder:
    def locate() -> Place | None:
        frame = sys._getframe(1)
        while frame is not None and frame.f_code is not code:
            frame = frame.f_back
        return _frame_place(frame) if frame else None

    return Builder(code, locate)


def _frame_place(frame: types.FrameType) -> Place:
    positions = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    line = positions[0] or frame.f_lineno
    text = linecache.getline(frame.f_code.co_filename, line).rstrip("\n")
    same_line = positions[1] == line
    return Place(
        _short(frame.f_code.co_filename),
        line,
        positions[2],
        positions[3] if same_line else None,
        text,
    )


def _short(filename: str) -> str:
    return filename.replace("\\", "/").rsplit("/", 1)[-1]


def _arguments(
    builder: Builder,
    gates: tuple[Gate, ...],
    states: tuple[str, ...],
    weights: tuple[str, ...],
    split: frozenset[str],
) -> dict[str, Node]:
    arguments = {name: builder.leaf("state", name) for name in ("h", *states)}
    arguments |= {name: builder.leaf("weight", name) for name in weights}
    return arguments | {gate.name: _gate(builder, gate, gate.name in split) for gate in gates}


def _carried(builder: Builder) -> dict[str, Node]:
    """States that carry states and inputs on: each becomes what the one before was."""
    found: dict[str, Node] = {}
    for (op, name), longest in builder.lags.items():
        before = builder.leaf(op, name)
        for steps in range(2 if op == "state" else 1, longest + 1):
            found[lagged(name, steps)] = before
            before = builder.leaf("state", lagged(name, steps))
    return found


def _gate(builder: Builder, gate: Gate, split: bool) -> Node:
    """The symbol of a gate; per-unit terms and constants become ordinary mathematics."""
    total = builder.const(gate.constant)
    if split:
        parts = {
            part: builder.leaf("gate", f"{gate.name}.{part}") for part in ("input", "recurrent")
        }
        total = total + parts["input"] + parts["recurrent"]
        builder.parts[total] = parts
        builder.split.add(gate.name)
    elif gate.affine:
        leaf = builder.leaf("gate", gate.name)
        total = total + leaf
        if gate.recurrent and total is leaf:
            builder.parts[leaf] = {"input": leaf, "recurrent": leaf} if gate.input else {}
    elif gate.bias:
        total = total + builder.leaf("weight", f"b_{gate.name}")
    if gate.diagonal:
        total = total + builder.leaf("weight", f"u_{gate.name}") * builder.leaf("state", "h")
    return total


def _accumulators(
    gates: tuple[Gate, ...], split: frozenset[str], called: frozenset[str]
) -> tuple[Accumulator, ...]:
    """Whole gates and input parts in the order of declaration, then the recurrent parts."""
    sums: list[Accumulator] = []
    for gate in gates:
        name = gate.name
        if name in split:
            sums.append(Accumulator(f"{name}.input", name, True, False, gate.bias, False))
        elif gate.affine:
            bias_ih = gate.bias and gate.input
            bias_hh = gate.bias and gate.recurrent
            flags = (gate.input, gate.recurrent, bias_ih, bias_hh)
            sums.append(Accumulator(name, name, *flags, inner=name in called))
    for gate in gates:
        if gate.name in split:
            leaf = f"{gate.name}.recurrent"
            sums.append(Accumulator(leaf, gate.name, False, True, False, gate.bias))
    return tuple(sums)


def _outputs(
    results: Any, states: tuple[str, ...], function: Callable[..., Any], builder: Builder
) -> dict[str, Node]:
    place = definition_place(function)
    names = ("h", *states)
    expected = f"return {', '.join('new_' + name for name in names)}"
    values = tuple(_flat(results if isinstance(results, tuple) else (results,)))
    if results is None:
        raise CellError(f"the cell returns nothing; expected `{expected}`", place)
    if len(values) != len(names):
        raise CellError(
            f"the cell returns {len(values)} values; expected {len(names)} ({', '.join(names)}): "
            f"`{expected}`",
            place,
        )
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, Node) or value.boolean:
            kind = "a condition" if isinstance(value, Node) else f"a {type(value).__name__}"
            raise CellError(f"the new {name} is {kind}; expected a symbol: `{expected}`", place)
        if value.builder is not builder:
            raise CellError(f"the new {name} is a symbol of another definition", place)
    return dict(zip(names, values, strict=True))


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    """The values, with tuples and lists of them taken apart."""
    for value in values:
        yield from value if isinstance(value, (tuple, list)) else (value,)


def _name_assigned(builder: Builder, function: Callable[..., Any]) -> None:
    """Give nodes the names that the user's assignments gave them."""
    try:
        lines, first = inspect.getsourcelines(function)
    except (OSError, TypeError):
        return
    source = textwrap.dedent("".join(lines))
    indent = len(lines[0]) - len(lines[0].lstrip())
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    named: dict[tuple[int, int, int | None], str] = {}
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Assign):
            _collect_names(statement.targets[0], statement.value, named)
    for node in builder.nodes:
        place = node.place
        if place and not node.owned and place.column is not None:
            where = (
                place.line - first + 1,
                place.column - indent,
                _minus(place.end_column, indent),
            )
            node.name = named.get(where, "")


def _minus(column: int | None, indent: int) -> int | None:
    return None if column is None else column - indent


def _collect_names(
    target: ast.expr, value: ast.expr, named: dict[tuple[int, int, int | None], str]
) -> None:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for inner, element in zip(target.elts, value.elts, strict=False):
            _collect_names(inner, element, named)
    elif isinstance(target, ast.Name):
        end = value.end_col_offset if value.end_lineno == value.lineno else None
        named[value.lineno, value.col_offset, end] = target.id

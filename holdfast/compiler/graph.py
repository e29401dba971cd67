"""The immutable expression graph of one time step, shared by every later stage.

A `Node` is one value: a leaf (a gate's pre-activation, a previous state, a per-unit weight, a
random mask, an incoming gradient, a constant) or an operation on other nodes. Nodes are made by a
`Builder`, which gives equal expressions the same node (common subexpressions are shared by
construction), folds constants and keeps the user's source line. A node is also the symbol that a
cell definition computes with, so arithmetic on nodes makes nodes, and what the language cannot say
is refused here.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from holdfast.compiler.naming import describe, name_nodes, spell
from holdfast.compiler.ops import OPS
from holdfast.compiler.simplify import RULES
from holdfast.errors import CellError, Place

LEAVES = ("gate", "state", "input", "weight", "mask", "grad", "const")
"""Kinds of leaves: pre-activation, previous state, what a step is given unit by unit, per-unit
weight, random multiplier, incoming gradient, number."""

PRODUCTS = ("affine", "through")
"""Products inside a step: a gate called with an operand, and the gradient of that operand."""


SCANS = tuple(op.name for op in OPS.values() if op.scans)
PASSES = PRODUCTS + SCANS
"""What goes over a whole row and leaves a value for each unit."""

REDUCTIONS = tuple(op.name for op in OPS.values() if op.reduces)
"""What goes over a whole row and leaves one number."""


class Node:
    """One value of a time step; what a cell definition computes with.

    Arithmetic, comparison, `abs` and the functions of `holdfast.compiler.ops` make further nodes.
    """

    __slots__ = ("builder", "index", "inputs", "name", "op", "place", "uniform", "value")

    def __init__(
        self,
        builder: Builder,
        op: str,
        inputs: tuple[Node, ...] = (),
        name: str = "",
        value: float = 0.0,
        place: Place | None = None,
    ) -> None:
        self.builder = builder
        self.index = len(builder.nodes)
        self.op = op
        self.inputs = inputs
        self.name = name
        self.value = value
        self.place = place
        placed = op in OPS and (OPS[op].pairs or OPS[op].scans)
        alone = op not in PRODUCTS and not placed
        same = bool(inputs) and alone and all(node.uniform for node in inputs)
        self.uniform = op == "const" or op in REDUCTIONS or same
        """Whether all units of a row have the same value."""

    @property
    def boolean(self) -> bool:
        """Whether this is a condition, which only `where` may use."""
        return self.op in OPS and OPS[self.op].boolean

    @property
    def leaf(self) -> bool:
        """Whether this is an input of the step rather than the result of an operation."""
        return self.op in LEAVES

    @property
    def crossing(self) -> bool:
        """Whether this needs its input for every unit of the row, not just for its own."""
        return self.op in REDUCTIONS or self.op in PASSES

    @property
    def owned(self) -> bool:
        """Whether the name says what this is, rather than what a line assigned it to."""
        return self.leaf or self.op in PRODUCTS

    def __call__(self, operand: Any) -> Node:
        """A gate whose R multiplies the operand instead of the previous h."""
        return self.builder.call(self, operand)

    def lag(self, steps: int) -> Node:
        """A state that many steps back, `c.lag(1)` being `c`; an input, `x.lag(0)` being `x`."""
        return self.builder.lag(self, steps)

    @property
    def input(self) -> Node:
        """The part of a gate that comes from the input, `W x + b_ih`."""
        return self.builder.part(self, "input")

    @property
    def recurrent(self) -> Node:
        """The part of a gate that comes from the previous output, `R h + b_hh`."""
        return self.builder.part(self, "recurrent")

    def __repr__(self) -> str:
        return f"<symbol {describe(self)}>"

    __hash__ = object.__hash__

    def __add__(self, other: Any) -> Node:
        return self.builder.apply("add", (self, other))

    def __radd__(self, other: Any) -> Node:
        return self.builder.apply("add", (other, self))

    def __sub__(self, other: Any) -> Node:
        return self.builder.apply("sub", (self, other))

    def __rsub__(self, other: Any) -> Node:
        return self.builder.apply("sub", (other, self))

    def __mul__(self, other: Any) -> Node:
        return self.builder.apply("mul", (self, other))

    def __rmul__(self, other: Any) -> Node:
        return self.builder.apply("mul", (other, self))

    def __truediv__(self, other: Any) -> Node:
        return self.builder.apply("div", (self, other))

    def __rtruediv__(self, other: Any) -> Node:
        return self.builder.apply("div", (other, self))

    def __neg__(self) -> Node:
        return self.builder.apply("neg", (self,))

    def __pos__(self) -> Node:
        return self

    def __abs__(self) -> Node:
        return self.builder.apply("abs", (self,))

    def __pow__(self, power: Any) -> Node:
        if isinstance(power, (int, float)) and power == 2:
            return self.builder.apply("square", (self,))
        self._refuse(f"`** {power}` is not in the language", "use `** 2`, products, sqrt or exp")

    def __rpow__(self, base: Any) -> NoReturn:
        self._refuse(f"`{base} **` is not in the language", "write exp(log(base) * exponent)")

    def __lt__(self, other: Any) -> Node:
        return self.builder.apply("lt", (self, other))

    def __le__(self, other: Any) -> Node:
        return self.builder.apply("le", (self, other))

    def __gt__(self, other: Any) -> Node:
        return self.builder.apply("gt", (self, other))

    def __ge__(self, other: Any) -> Node:
        return self.builder.apply("ge", (self, other))

    def __eq__(self, other: object) -> Any:
        return self.builder.apply("eq", (self, other))

    def __ne__(self, other: object) -> Any:
        return self.builder.apply("ne", (self, other))

    def _refuse(self, problem: str, remedy: str) -> NoReturn:
        raise CellError(f"{problem}; {remedy}", self.builder.locate())

    def __bool__(self) -> NoReturn:
        self._refuse(
            "Python `if`, `and`, `or`, `not`, `min`, `max` and `while` cannot decide on a symbol",
            "write where(condition, value, other), maximum(x, y) or minimum(x, y)",
        )

    def __float__(self) -> NoReturn:
        self._refuse(
            "a symbol has no number yet, so `float` and the functions of `math` do not apply",
            "use sigmoid, tanh, exp, log, sqrt ... from holdfast",
        )

    __int__ = __index__ = __complex__ = __float__

    def _in_place(self, other: Any) -> NoReturn:
        self._refuse(
            "a symbol is never changed in place", "write `c = c + ...` instead of `c += ...`"
        )

    __iadd__ = __isub__ = __imul__ = __itruediv__ = __ipow__ = _in_place

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        self._refuse("a symbol is never changed in place", "bind the new value to a name")

    def __getitem__(self, key: Any) -> NoReturn:
        self._refuse(
            "a symbol stands for every unit at once and cannot be indexed",
            "write the same mathematics for all units",
        )

    def __iter__(self) -> NoReturn:
        self._refuse("a symbol cannot be iterated over", "name each state and gate as an argument")

    def __matmul__(self, other: Any) -> NoReturn:
        self._refuse(
            "`@` is not in the language: products with matrices belong to the gates",
            'declare a gate, for example gates={"i": "W x + R h + b"}',
        )

    __rmatmul__ = __matmul__

    def _no_operator(self, *others: Any) -> NoReturn:
        self._refuse(
            "`//`, `%`, `&`, `|`, `^`, `~`, `<<`, `>>` and rounding are not in the language",
            "use + - * /, nest where(condition, value, other) for several conditions",
        )

    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __divmod__ = __rdivmod__ = _no_operator
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __invert__ = _no_operator
    __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = _no_operator
    __round__ = __floor__ = __ceil__ = __trunc__ = _no_operator

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        self._refuse(
            f"a symbol has no attribute or method `{name}`",
            "write a function of it, such as tanh(x); a gate has `.input` and `.recurrent`",
        )

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("NumPy does not know symbols", "use the functions of holdfast instead")

    def __array_ufunc__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("NumPy does not know symbols", "use the functions of holdfast instead")

    @classmethod
    def __torch_function__(
        cls, function: Any, kinds: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> NoReturn:
        node: Node = _first_node((args, kwargs))
        name = getattr(function, "__name__", str(function))
        node._refuse(f"torch.{name} does not know symbols", f"use holdfast.{name} if there is one")


def _first_node(value: Any) -> Any:
    """The first symbol among nested arguments, or None."""
    if isinstance(value, Node):
        return value
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return next(filter(_is_node, map(_first_node, value)), None)
    return None


def _is_node(value: Any) -> bool:
    return isinstance(value, Node)


class Builder:
    """Makes nodes: equal expressions once, constants folded, each with the user's place."""

    def __init__(self, code: types.CodeType | None = None, locate: Callable[[], Any] | None = None):
        self.nodes: list[Node] = []
        self.parts: dict[Node, Mapping[str, Node]] = {}
        self.split: set[str] = set()
        self.called: dict[str, Node] = {}
        self.lags: dict[tuple[str, str], int] = {}
        """The longest lag of each state and input that has one."""
        self.code = code
        self._locate = locate
        self._known: dict[tuple[Any, ...], Node] = {}

    def locate(self) -> Place | None:
        """The user's place that is being executed, if a definition is being traced."""
        return self._locate() if self._locate else None

    def part(self, node: Node, part: str) -> Node:
        """The input or the recurrent part of a gate that has both."""
        parts = self.parts.get(node)
        if parts is None or part not in parts:
            raise CellError(
                f"`.{part}` belongs to a gate that is `W x + R h + b` or `W x + R h` and no more; "
                f"this is {describe(node)}. Declare such a gate and add further terms in the "
                "mathematics",
                self.locate(),
            )
        if node.leaf:
            self.split.add(node.name)
        return parts[part]

    def call(self, gate: Node, operand: Any) -> Node:
        """The gate with R on an operand."""
        parts = self.parts.get(gate)
        if parts is None or gate.op != "gate":
            raise CellError(
                f"only a gate that has `R h`, and `W x` and `b` at most beside it, can be called; "
                f"this is {describe(gate)}. Its R then multiplies what is given instead of h",
                self.locate(),
            )
        node = self.product("affine", gate.name, self._as_node("a gate", operand))
        if self.called.setdefault(gate.name, node) is not node:
            raise CellError(
                f"the gate {gate.name} is called with two operands; declare two gates",
                self.locate(),
            )
        return node

    def lag(self, node: Node, steps: Any) -> Node:
        """A state or an input some steps back: itself, or a further state that carries it on."""
        if node.op not in ("state", "input"):
            raise CellError(
                f"only a state or an input has a lag; this is {describe(node)}. Return it as a "
                "state and take the lag of that",
                self.locate(),
            )
        own = 1 if node.op == "state" else 0
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < own:
            raise CellError(
                f"{node.name}.lag({steps!r}): expected a whole number of steps, {own} or more",
                self.locate(),
            )
        if steps == own:
            return node
        longest = max(steps, self.lags.get((node.op, node.name), own))
        self.lags[node.op, node.name] = longest
        return self.leaf("state", lagged(node.name, steps))

    def product(self, op: str, name: str, operand: Node) -> Node:
        """A product inside the step, one of `PRODUCTS`, that belongs to the gate `name`."""
        return self._make(op, (operand,), name=name)

    def leaf(self, op: str, name: str) -> Node:
        """What a step begins with, one of `LEAVES`."""
        return self._make(op, (), name=name)

    def const(self, value: float) -> Node:
        """A number."""
        return self._make("const", (), value=float(value))

    def apply(self, op: str, values: Iterable[Any]) -> Node:
        """The operation on nodes and numbers, simplified where that changes no value."""
        inputs = tuple(self._as_node(op, value) for value in _known_condition(op, values))
        self._check_kinds(op, inputs)
        if (OPS[op].pairs or OPS[op].scans) and inputs[0].op == "const":
            raise CellError(f"{op} of a number, which has no place in a row", self.locate())
        if all(node.op == "const" for node in inputs):
            return self.const(OPS[op].fold(*(node.value for node in inputs)))
        if OPS[op].commutes and inputs[0].index > inputs[1].index:
            inputs = inputs[::-1]
        simpler = self._simplify(op, inputs)
        return self._make(op, inputs) if simpler is None else simpler

    def _as_node(self, op: str, value: Any) -> Node:
        if isinstance(value, Node):
            if value.builder is not self:
                raise CellError("a symbol of another definition was used", self.locate())
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return self.const(value)
        got = type(value).__name__
        raise CellError(
            f"{op} got a {got}; expected a symbol or a number. A cell computes with its gates, "
            "states and weights only: declare what it needs in @cell(gates=, state=, weights=)",
            self.locate(),
        )

    def _check_kinds(self, op: str, inputs: tuple[Node, ...]) -> None:
        if len(inputs) != OPS[op].arity:
            raise CellError(f"{op} takes {OPS[op].arity} values, got {len(inputs)}", self.locate())
        for position, node in enumerate(inputs):
            wanted = op == "where" and position == 0
            constant = wanted and node.op == "const"
            if node.boolean != wanted and not constant:
                problem = (
                    "a condition was used as a number"
                    if node.boolean
                    else ("where() needs a comparison first")
                )
                raise CellError(f"{problem}; write where(a > b, value, other)", self.locate())

    def known(self, op: str, inputs: tuple[Node, ...]) -> Node | None:
        """The node of an operation, if it was made before."""
        return self._known.get((op, tuple(node.index for node in inputs), "", 0.0, 1.0))

    def _make(self, op: str, inputs: tuple[Node, ...], name: str = "", value: float = 0.0) -> Node:
        sign = math.copysign(1.0, value)
        shown = "nan" if math.isnan(value) else value
        key = (op, tuple(node.index for node in inputs), name, shown, sign)
        if key not in self._known:
            node = Node(self, op, inputs, name, value, None if op in LEAVES else self.locate())
            self.nodes.append(node)
            self._known[key] = node
        return self._known[key]

    def _simplify(self, op: str, inputs: tuple[Node, ...]) -> Node | None:
        rule = RULES.get(op)
        return rule(self, *inputs) if rule else None


def lagged(name: str, steps: int) -> str:
    """The name of the state that carries a value on for some steps."""
    return f"{name}_lag{steps}"


def _known_condition(op: str, values: Iterable[Any]) -> Iterable[Any]:
    """A condition between constants is a Python bool, which `where` takes as 1 or 0."""
    condition, *others = values
    known = op == "where" and isinstance(condition, bool)
    return (float(condition) if known else condition, *others)


class Step(NamedTuple):
    """One node as plain data: what it is, and which earlier steps it reads."""

    op: str
    name: str
    value: float
    inputs: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Graph:
    """Named results over the nodes of one builder; immutable, printable.

    `outputs` maps a result's name (`h`, `c`, `d_gate i` ...) to its node.
    """

    outputs: Mapping[str, Node]

    def nodes(self) -> tuple[Node, ...]:
        """Every node the outputs need, inputs before users."""
        return reach(self.outputs.values())

    def program(self) -> tuple[tuple[Step, ...], tuple[int, ...]]:
        """The graph without nodes: its steps in order, and which steps are the outputs."""
        nodes = self.nodes()
        position = {node: n for n, node in enumerate(nodes)}
        steps = tuple(
            Step(node.op, node.name, node.value, tuple(position[child] for child in node.inputs))
            for node in nodes
        )
        return steps, tuple(position[node] for node in self.outputs.values())

    def leaves(self, op: str) -> tuple[Node, ...]:
        """The leaves of one kind, in the order they were made."""
        return tuple(node for node in self.nodes() if node.op == op)

    def text(self) -> str:
        """The graph as assignments, one a line, each with the line it came from."""
        names = name_nodes(self.nodes())
        lines = [
            f"{names[node]} = {spell(node, names)}" + (f"  # {node.place}" if node.place else "")
            for node in self.nodes()
            if not node.leaf
        ]
        results = [f"return {name} = {names[node]}" for name, node in self.outputs.items()]
        return "\n".join([*lines, *results]) + "\n"


def reach(roots: Iterable[Node], stop: Iterable[Node] = ()) -> tuple[Node, ...]:
    """The nodes that roots depend on, without going past `stop`, inputs before users."""
    seen: set[Node] = set()
    closed = set(stop)
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node not in closed:
            stack.extend(node.inputs)
    return tuple(sorted(seen, key=lambda node: node.index))

"""The graph shares equal expressions, folds constants, and never changes what is computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.compiler import ops
from holdfast.compiler.emit.eager import SPELLINGS
from holdfast.compiler.graph import Builder, Graph, Node
from holdfast.compiler.naming import name_nodes
from holdfast.compiler.ops import OPS
from tests.graph.walk import evaluate
from tests.helpers import assert_same


def _leaves(count: int) -> tuple[Builder, list[Node]]:
    builder = Builder()
    return builder, [builder.leaf("gate", name) for name in "xyzw"[:count]]


def _same(one: Any, other: Any) -> None:
    assert one is other


def test_equal_expressions_are_one_node() -> None:
    _, (x, y) = _leaves(2)
    _same(ops.tanh(x) * y, ops.tanh(x) * y)
    _same(x + y, y + x)
    _same(x * y, y * x)
    _same(ops.maximum(x, y), ops.maximum(y, x))
    assert (x - y) is not (y - x)
    assert (x / y) is not (y / x)


@pytest.mark.parametrize(
    ("simplified", "expected"),
    [
        (lambda x, y: x + 0.0, lambda x, y: x),
        (lambda x, y: 0 + x, lambda x, y: x),
        (lambda x, y: x - 0.0, lambda x, y: x),
        (lambda x, y: 0 - x, lambda x, y: -x),
        (lambda x, y: x * 1, lambda x, y: x),
        (lambda x, y: -1 * x, lambda x, y: -x),
        (lambda x, y: x / 1.0, lambda x, y: x),
        (lambda x, y: -(0 - x), lambda x, y: x),
        (lambda x, y: x + -y, lambda x, y: x - y),
        (lambda x, y: -x + y, lambda x, y: y - x),
        (lambda x, y: x - -y, lambda x, y: x + y),
        (lambda x, y: -x * -y, lambda x, y: x * y),
        (lambda x, y: x * x, lambda x, y: x**2),
        (lambda x, y: ops.where(x > y, x, x), lambda x, y: x),
        (lambda x, y: +x, lambda x, y: x),
    ],
)
def test_simplified(
    simplified: Callable[[Node, Node], Node], expected: Callable[[Node, Node], Node]
) -> None:
    _, (x, y) = _leaves(2)
    _same(simplified(x, y), expected(x, y))


def test_constants_fold() -> None:
    builder, (x,) = _leaves(1)
    two = builder.const(2.0)
    assert (two * 3 - 1).value == 5.0
    assert ops.tanh(builder.const(0.5)).value == math.tanh(0.5)
    assert (builder.const(1.0) / 0.0).value == math.inf
    _same(ops.where(builder.const(1.0) > 0.0, x, two), x)
    _same(ops.where(builder.const(-1.0) > 0.0, x, two), two)


def test_constants_are_told_apart() -> None:
    builder = Builder()
    assert builder.const(0.0) is not builder.const(-0.0)
    _same(builder.const(math.nan), builder.const(math.nan))
    assert builder.const(0.1) is not builder.const(0.1 + 2**-56)


def test_names_of_constants_are_exact() -> None:
    _, (x,) = _leaves(1)
    for value in (0.1, 1 / 3, 1e-30, -2.5, math.inf, 0.1 + 2**-56):
        text = Graph({"h": ops.maximum(x, value)}).text()
        assert float(text.partition(", ")[2].partition(")")[0]) == value


def test_infix_text() -> None:
    _, (x, y) = _leaves(2)
    lines = Graph({"h": ops.where(x < y, x / y, -x)}).text().splitlines()
    assert lines == [
        "t1 = x < y",
        "t2 = x / y",
        "t3 = -x",
        "t4 = where(t1, t2, t3)",
        "return h = t4",
    ]


def test_names_are_distinct() -> None:
    _, (x, y) = _leaves(2)
    first, second, third = x + y, x * y, x - y
    first.name, second.name, third.name = "t1", "x", "t1"
    names = name_nodes([x, y, first, second, third, ops.tanh(x)])
    assert len(set(names.values())) == len(names)


def test_only_what_is_needed_is_in_a_graph() -> None:
    _, (x, y, z) = _leaves(3)
    kept, dropped = x + y, z * 2.0
    nodes = Graph({"h": kept}).nodes()
    assert [node.index for node in nodes] == [x.index, y.index, kept.index]
    assert dropped.index not in [node.index for node in nodes]
    assert [leaf.name for leaf in Graph({"h": kept}).leaves("gate")] == ["x", "y"]


NUMBERS = st.sampled_from([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
UNARY = [
    op
    for op in OPS.values()
    if op.arity == 1
    and op.name not in ("log", "sqrt", "exp", "peak")
    and not (op.pairs or op.scans)
]
BINARY = [op for op in OPS.values() if op.arity == 2 and not op.boolean and op.name != "div"]
COMPARISONS = [op for op in OPS.values() if op.boolean]

Expression = tuple[Any, ...]


def _extend(children: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    names = {size: [op.name for op in kind] for size, kind in ((1, UNARY), (2, BINARY))}
    return st.one_of(
        st.tuples(st.sampled_from(names[1]), children),
        st.tuples(st.sampled_from(names[2]), children, children),
        st.tuples(
            st.just("where"),
            st.tuples(st.sampled_from([op.name for op in COMPARISONS]), children, children),
            children,
            children,
        ),
    )


EXPRESSIONS = st.recursive(
    st.one_of(
        st.tuples(st.just("leaf"), st.sampled_from("xyz")),
        st.tuples(st.just("const"), NUMBERS),
    ),
    _extend,
    max_leaves=12,
)
"""Random expressions as nested tuples: an operation's name and its inputs."""


def build(expression: Expression, leaf: Any, const: Any, apply: Any) -> Any:
    kind, *inputs = expression
    if kind == "leaf":
        return leaf(inputs[0])
    if kind == "const":
        return const(inputs[0])
    return apply(kind, [build(child, leaf, const, apply) for child in inputs])


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS)
def test_simplifying_changes_no_value(expression: Expression) -> None:
    """Step by step in PyTorch, as written; through the builder, shared, folded and simplified."""
    rows = [(-1.3, 0.4, 2.2), (0.5, 0.5, -0.5), (1.0, -2.0, 1.0), (0.3, 1.7, -0.9)]
    columns = torch.tensor(rows, dtype=torch.float64).unbind(1)
    values = dict(zip("xyz", columns, strict=True))
    plain = build(
        expression,
        values.__getitem__,
        lambda number: torch.tensor(number, dtype=torch.float64),
        lambda op, inputs: SPELLINGS[op](*inputs),
    )
    builder = Builder()
    root = build(expression, lambda name: builder.leaf("gate", name), builder.const, builder.apply)
    leaves = {("gate", name): value for name, value in values.items()}
    found = evaluate([root], leaves)[root]
    shape = torch.Size([len(rows)])
    assert_same(found.expand(shape), plain.expand(shape), str(expression))


@settings(max_examples=100, deadline=None)
@given(EXPRESSIONS)
def test_building_twice_makes_nothing_new(expression: Expression) -> None:
    builder = Builder()
    arguments = (lambda name: builder.leaf("gate", name), builder.const, builder.apply)
    first = build(expression, *arguments)
    count = len(builder.nodes)
    _same(build(expression, *arguments), first)
    assert len(builder.nodes) == count

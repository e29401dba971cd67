"""Rules of simplification: means come apart, shared factors come out, and no value changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from holdfast import mean, normalize, sqrt, square, tanh, where
from holdfast.compiler.differentiate import differentiate
from holdfast.compiler.emit.eager import SPELLINGS
from holdfast.compiler.graph import Builder, Graph, Node, reach
from tests.graph.test_graph import Expression, build
from tests.graph.walk import evaluate
from tests.helpers import assert_same


def _leaves(count: int) -> tuple[Builder, list[Node]]:
    builder = Builder()
    return builder, [builder.leaf("gate", name) for name in "xyzw"[:count]]


def _means(*roots: Node) -> int:
    return sum(node.op == "mean" for node in reach(roots))


RULES: list[tuple[Callable[..., Node], Callable[..., Node]]] = [
    (lambda x, y: mean(x + mean(y)), lambda x, y: mean(x) + mean(y)),
    (lambda x, y: mean(x + y * mean(y)), lambda x, y: mean(x) + mean(y) * mean(y)),
    (lambda x, y: mean(x - 2.0 * y), lambda x, y: mean(x) - 2.0 * mean(y)),
    (lambda x, y: mean(-x), lambda x, y: -mean(x)),
    (lambda x, y: mean(2.0 * x), lambda x, y: 2.0 * mean(x)),
    (lambda x, y: mean(x + 3.0), lambda x, y: mean(x) + 3.0),
    (lambda x, y: mean(x / 4.0), lambda x, y: 0.25 * mean(x)),
    (lambda x, y: mean(mean(x)), lambda x, y: mean(x)),
    (lambda x, y: mean(tanh(mean(x))), lambda x, y: tanh(mean(x))),
    (lambda x, y: mean(mean(x) * y), lambda x, y: mean(x) * mean(y)),
    (lambda x, y: mean(y / mean(x)), lambda x, y: mean(y) / mean(x)),
    (lambda x, y: mean(x * (mean(x) * y)), lambda x, y: mean(x) * mean(x * y)),
    (lambda x, y: mean((mean(x) * y) * x), lambda x, y: mean(x) * mean(y * x)),
    (lambda x, y: mean(x * -y), lambda x, y: -mean(x * y)),
    (lambda x, y: mean(x) - mean(x), lambda x, y: 0.0 * x),
    (lambda x, y: mean(x - mean(x)), lambda x, y: 0.0 * x),
]


@pytest.mark.parametrize("rule", RULES, ids=[str(number) for number in range(len(RULES))])
def test_what_units_share_comes_out_of_a_mean(
    rule: tuple[Callable[..., Node], Callable[..., Node]],
) -> None:
    _, (x, y) = _leaves(2)
    left, right = rule
    wanted = right(x, y)
    assert left(x, y) is wanted


@pytest.mark.parametrize(
    "kept",
    [
        lambda x, y: mean(x * y),
        lambda x, y: mean(square(x)),
        lambda x, y: mean(x / y),
        lambda x, y: mean(tanh(x)),
        lambda x, y: mean(where(x > mean(x), x, y)),
    ],
)
def test_what_is_not_linear_stays_a_mean(kept: Callable[..., Node]) -> None:
    _, (x, y) = _leaves(2)
    assert kept(x, y).op == "mean"


def test_two_shared_factors_come_out() -> None:
    _, (x, y) = _leaves(2)
    product = mean((mean(x) * x) * (y * mean(y)))
    means = [node for node in reach([product]) if node.op == "mean"]
    wanted = [mean(x), mean(y), mean(x * y)]
    assert {node.index for node in means} == {node.index for node in wanted}


def test_which_values_all_units_share() -> None:
    builder, (x, y) = _leaves(2)
    shared = (builder.const(2.0), mean(x), mean(x) * 2.0, sqrt(mean(x)), mean(x) > mean(y))
    assert all(node.uniform for node in shared)
    assert not any(node.uniform for node in (x, mean(x) * y, mean(x) > x, tanh(x + mean(x))))
    leaves = [builder.leaf(kind, "z") for kind in ("state", "weight", "mask", "grad")]
    assert not any(leaf.uniform for leaf in leaves)


@pytest.mark.parametrize("op", ["affine", "through"])
def test_a_product_with_a_matrix_is_not_shared(op: str) -> None:
    builder, (x,) = _leaves(1)
    product = builder.product(op, "n", mean(x))
    assert not product.uniform
    assert mean(product).op == "mean"


def test_normalize_takes_two_means() -> None:
    _, (x, y) = _leaves(2)
    assert _means(normalize(x)) == 2
    assert _means(normalize(normalize(x) * y)) == 4


@pytest.mark.parametrize("gained", [False, True], ids=["bare", "gain"])
def test_the_derivative_of_normalize_takes_two_more_means(gained: bool) -> None:
    builder, (x,) = _leaves(1)
    gain = builder.leaf("weight", "gain") if gained else builder.const(1.0)
    forward = Graph({"h": normalize(x) * gain})
    backward = differentiate(forward, ["x"], (), ["gain"] if gained else ())
    assert _means(*forward.outputs.values()) == 2
    together = [*forward.outputs.values(), *backward.outputs.values()]
    assert _means(*together) == 4


@pytest.mark.parametrize("units", [1, 2, 7, 100])
def test_normalize_is_layer_norm(units: int, generator: torch.Generator) -> None:
    """Also far from zero, where a difference of squares would lose every digit."""
    builder, (x,) = _leaves(1)
    root = normalize(x)
    backward = differentiate(Graph({"h": root}), ["x"], (), ()).outputs["d_gate x"]
    for shift, scale in ((0.0, 1.0), (1e4, 1.0), (-3.0, 1e-3), (0.0, 1e4)):
        draws = torch.rand((3, units), generator=generator, dtype=torch.float64)
        value = (shift + scale * draws).requires_grad_()
        incoming = torch.rand((3, units), generator=generator, dtype=torch.float64)
        leaves = {("gate", "x"): value, ("grad", "d_h"): incoming}
        values = evaluate([root, backward], leaves)
        reference = functional.layer_norm(value, (units,))
        assert_same(values[root], reference, "value")
        (wanted,) = torch.autograd.grad(reference, value, incoming)
        error = (values[backward] - wanted).abs().max()
        assert error <= 1e-9 / max(scale, 1e-5), "gradient"
    assert builder.nodes


UNARY = ("mean", "mean", "neg", "tanh", "sigmoid", "square", "relu", "abs")
BINARY = ("add", "sub", "mul", "max", "min")
"""Without a jump: where two sides round differently, a comparison could take the other branch."""


def _extend(children: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.one_of(
        st.tuples(st.sampled_from(UNARY), children),
        st.tuples(st.sampled_from(BINARY), children, children),
        st.tuples(st.sampled_from(BINARY), children, children),
    )


EXPRESSIONS = st.recursive(
    st.one_of(
        st.tuples(st.just("leaf"), st.sampled_from("xyz")),
        st.tuples(st.just("const"), st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0])),
    ),
    _extend,
    max_leaves=16,
)

SIZES: dict[str, Callable[..., Tensor]] = {
    **dict.fromkeys(BINARY, lambda x, y: x + y),
    **dict.fromkeys(UNARY, lambda x: x),
    "mul": lambda x, y: x * y,
    "square": lambda x: x * x,
    "mean": SPELLINGS["mean"],
}
"""How large the terms of a value may be, from how large its inputs may be."""


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS, st.integers(0, 2**31))
def test_simplifying_means_changes_no_value(expression: Expression, seed: int) -> None:
    """As written, in PyTorch; through the builder, shared and taken apart."""
    source = torch.Generator().manual_seed(seed)
    draws = 2 * torch.rand((3, 2, 5), generator=source, dtype=torch.float64) - 1
    values = dict(zip("xyz", draws, strict=True))

    def number(value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float64)

    def walk(table: Any, leaf: Any, const: Any) -> Tensor:
        found = build(expression, leaf, const, lambda op, inputs: table[op](*inputs))
        return found.expand(2, 5)

    plain = walk(SPELLINGS, values.__getitem__, number)
    size = walk(SIZES, lambda name: values[name].abs() + 1, lambda value: number(abs(value) + 1))
    builder = Builder()
    root = build(expression, lambda name: builder.leaf("gate", name), builder.const, builder.apply)
    found = evaluate([root], {("gate", name): value for name, value in values.items()})[root]
    assert ((found.expand(2, 5) - plain).abs() <= 1e-13 * size.max()).all(), str(expression)
    if root.uniform:
        assert_same(found.expand(2, 5)[:, :1].expand(2, 5), found.expand(2, 5), "all units")

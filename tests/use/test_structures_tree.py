"""Tree-LSTMs level by level, beside a recursion that is written from the paper's equations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from holdfast.nn import LSTM, ChildSumTreeLSTM, Forest, NaryTreeLSTM
from tests.helpers import assert_same, unequal_
from tests.use.layers import drawn
from tests.use.structures import compare

I, H = 3, 4
Children = Sequence[Sequence[int | None]]
FORESTS: dict[str, Children] = {
    "a chain": [[], [0], [1], [2], [3]],
    "a star": [[1, 2, 3], [], [], []],
    "out of order": [[3, 1], [4], [0], [], []],
    "uneven": [[], [], [0, 1], [], [2, 3], [None, 4], [4], []],
    "a graph": [[], [0], [0, 1], [0, 2, 1], [2, 3]],
    "alone": [[], [], [], [1]],
}


class Recursive(nn.Module):
    """The paper's equations, one node at a time, a node with several parents once for each."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def named_parameters(self, *args: Any, **options: Any) -> Any:
        return self.layer.named_parameters(*args, **options)

    def forward(self, x: Tensor, hx: Any = None, *, children: Children) -> Any:
        def visit(node: int) -> tuple[Tensor, Tensor]:
            below = [None if k is None else visit(k) for k in children[node]]
            return self.node(x[node], below)

        states = [visit(node) for node in range(len(children))]
        h, c = map(torch.stack, zip(*states, strict=True))
        named = {child for row in children for child in row}
        roots = [node for node in range(len(children)) if node not in named]
        return h, (h[roots], c[roots])

    def node(self, x: Tensor, below: list[Any]) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class ChildSum(Recursive):
    """Equations 2 to 8."""

    def node(self, x: Tensor, below: list[Any]) -> tuple[Tensor, Tensor]:
        weights = dict(self.layer.named_parameters())
        w_i, w_f, w_g, w_o = weights["weight_ih"].chunk(4)
        r_i, r_f, r_g, r_o = weights["weight_hh"].chunk(4)
        b_i, b_f, b_g, b_o = weights.get("bias_ih", x.new_zeros(4 * H)).chunk(4)
        below = [pair for pair in below if pair is not None]
        total = sum((h for h, _ in below), x.new_zeros(H))
        i = torch.sigmoid(w_i @ x + r_i @ total + b_i)
        g = torch.tanh(w_g @ x + r_g @ total + b_g)
        o = torch.sigmoid(w_o @ x + r_o @ total + b_o)
        c = i * g
        for h_k, c_k in below:
            c = c + torch.sigmoid(w_f @ x + r_f @ h_k + b_f) * c_k
        return o * torch.tanh(c), c


class Nary(Recursive):
    """Equations 9 to 14."""

    def node(self, x: Tensor, below: list[Any]) -> tuple[Tensor, Tensor]:
        weights, places = dict(self.layer.named_parameters()), self.layer.arity
        w_i, w_f, w_g, w_o = weights["weight_ih"].chunk(4)
        b_i, b_f, b_g, b_o = weights.get("bias_ih", x.new_zeros(4 * H)).chunk(4)
        matrices = weights["weight_hh"].view(3 + places, H, places, H)
        none = (x.new_zeros(H), x.new_zeros(H))
        given = [none if pair is None else pair for pair in below]
        given += [none] * (places - len(given))

        def seen(matrix: Tensor) -> Tensor:
            return torch.stack([matrix[:, k] @ h for k, (h, _) in enumerate(given)]).sum(0)

        i = torch.sigmoid(w_i @ x + seen(matrices[0]) + b_i)
        g = torch.tanh(w_g @ x + seen(matrices[1 + places]) + b_g)
        o = torch.sigmoid(w_o @ x + seen(matrices[2 + places]) + b_o)
        c = i * g
        for k, (_, c_k) in enumerate(given):
            c = c + torch.sigmoid(w_f @ x + seen(matrices[1 + k]) + b_f) * c_k
        return o * torch.tanh(c), c


class Bound(nn.Module):
    """A layer together with its forest, called with the features alone."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def named_parameters(self, *args: Any, **options: Any) -> Any:
        return self.layer.named_parameters(*args, **options)

    def forward(self, x: Tensor, hx: Any = None, *, children: Children) -> Any:
        return self.layer(x, Forest(children))


def recursion(bound: Any, x: Tensor, hx: Any, **options: Any) -> Any:
    kind = ChildSum if isinstance(bound.layer, ChildSumTreeLSTM) else Nary
    return kind(bound.layer)(x, **options)


def made(kind: str, generator: torch.Generator, **options: Any) -> Any:
    maker: Any = ChildSumTreeLSTM if kind == "sum" else NaryTreeLSTM
    if kind == "nary":
        options.setdefault("arity", 3)
    return unequal_(maker(I, H, dtype=torch.float64, **options), generator)


@pytest.mark.parametrize("kind", ["sum", "nary"])
@pytest.mark.parametrize("name", FORESTS)
def test_equals_the_recursion(kind: str, name: str, generator: torch.Generator) -> None:
    children = FORESTS[name]
    x = drawn((len(children), I), generator)
    bias = name != "a graph"
    compare(Bound(made(kind, generator, bias=bias)), recursion, x, children=children)


@pytest.mark.parametrize("kind", ["sum", "nary"])
@pytest.mark.parametrize("nodes", [1, 3])
def test_nodes_without_children(kind: str, nodes: int, generator: torch.Generator) -> None:
    layer, x = made(kind, generator), drawn((nodes, I), generator)
    children: Children = [[]] * nodes
    out, last = layer(x, Forest(children))
    assert_same([out, last], list(recursion(Bound(layer), x, None, children=children)))
    assert_same(last[0], out)


@pytest.mark.parametrize("kind", ["sum", "nary"])
def test_a_batch_is_its_trees_one_by_one(kind: str, generator: torch.Generator) -> None:
    layer = made(kind, generator)
    forests = [Forest(children) for children in FORESTS.values()]
    parts = [drawn((len(forest), I), generator) for forest in forests]
    joined = Forest.join(forests)
    out, (h, c) = layer(torch.cat(parts), joined)
    alone = [layer(x, forest) for x, forest in zip(parts, forests, strict=True)]
    assert_same(out, torch.cat([one for one, _ in alone]))
    assert_same([h, c], [torch.cat([s[k] for _, s in alone]) for k in (0, 1)])
    assert joined.sizes == tuple(map(len, forests))
    assert_same(out[joined.roots], h)


def test_a_chain_is_an_lstm(generator: torch.Generator) -> None:
    layer = made("sum", generator)
    lstm: Any = LSTM(I, H, dtype=torch.float64)
    binary = made("nary", generator, arity=1)
    x = drawn((9, I), generator)
    chain = Forest.from_parents([1, 2, 3, 4, 5, 6, 7, 8, -1])
    for tree in (layer, binary):
        with torch.no_grad():
            lstm.weight_ih_l0.copy_(tree.weight_ih)
            lstm.weight_hh_l0.copy_(tree.weight_hh)
            lstm.bias_ih_l0.copy_(tree.bias_ih)
            lstm.bias_hh_l0.zero_()
        out, (h, c) = tree(x, chain)
        expected, last = lstm(x)
        assert_same([out, h, c], [expected, *last])


@pytest.mark.parametrize("kind", ["sum", "nary"])
def test_finite_differences(kind: str, generator: torch.Generator) -> None:
    maker: Any = ChildSumTreeLSTM if kind == "sum" else NaryTreeLSTM
    layer = unequal_(maker(2, 2, dtype=torch.float64), generator)
    forest = Forest([[], [0, 3], [1, 0], []])
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, *weights: Tensor) -> Any:
        given = dict(zip(names, weights, strict=True))
        out, (h, c) = torch.func.functional_call(layer, given, (x, forest))
        return out, h, c

    x = drawn((4, 2), generator).requires_grad_()
    assert torch.autograd.gradcheck(run, (x, *layer.parameters()))


def test_all_ways_to_say_a_tree_are_the_same(generator: torch.Generator) -> None:
    layer, x = made("nary", generator, arity=2), drawn((5, I), generator)
    forests = [
        Forest([[], [], [0, 1], [], [2, 3]]),
        Forest.from_parents([2, 2, 4, 4, -1]),
        Forest.from_parents(torch.tensor([2, 2, 4, 4, -1])),
        Forest.from_edges(5, child=[3, 0, 2, 1], parent=[4, 2, 4, 2], position=[1, 0, 0, 1]),
        Forest.from_edges(5, child=torch.tensor([0, 2, 1, 3]), parent=[2, 4, 2, 4]),
    ]
    outs = [layer(x, forest)[0] for forest in forests]
    for out in outs[1:]:
        assert_same(out, outs[0])
    turned, _ = layer(x, Forest([[], [], [1, 0], [], [2, 3]]))
    assert not torch.allclose(turned, outs[0])
    assert repr(forests[0]) == "Forest(nodes=5, roots=1, height=3)"
    assert (forests[0].height, forests[0].arity, len(forests[0])) == (3, 2, 5)


def test_order_of_children_does_not_matter_to_a_sum(generator: torch.Generator) -> None:
    layer, x = made("sum", generator), drawn((4, I), generator)
    assert_same(
        layer(x, Forest([[1, 2, 3], [], [], []])), layer(x, Forest([[3, 1, 2], [], [], []]))
    )


def test_levels_are_as_many_as_the_tree_is_high() -> None:
    bushy = Forest.join([Forest([[], [], [0, 1], [], [2, 3]])] * 50)
    assert (bushy.height, [level.size for level in bushy.levels]) == (3, [150, 50, 50])
    assert bushy.roots.tolist() == list(range(4, 250, 5))


@pytest.mark.parametrize(
    ("children", "message"),
    [
        ([[1], [0]], "node 0 is its own ancestor, by way of 0 above 1 above 0; a tree has no"),
        ([[], [0, 1]], "node 1 is its own ancestor, by way of 1 above 1"),
        ([[], [0, 3], [1], [2, 0], [3]], "node 1 is its own ancestor, by way of 1 above 3 above 2"),
        ([[], [5]], "no node 5, the child in the edge 5 -> 1; nodes are numbered from 0 to 1"),
        ([[], [-1]], "there is no node -1"),
        ([], "a forest needs at least one node"),
    ],
)
def test_what_is_no_tree_is_refused(children: Children, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Forest(children)


def test_wrong_edges_are_refused() -> None:
    with pytest.raises(ValueError, match="node 2 has two children in position 1"):
        Forest.from_edges(3, [0, 1], [2, 2], [1, 1])
    with pytest.raises(ValueError, match="position should have one number"):
        Forest.from_edges(3, [0, 1], [2, 2], [1])
    with pytest.raises(ValueError, match="one number for each edge, got 2 and 1"):
        Forest.from_edges(3, [0, 1], [2])
    with pytest.raises(TypeError, match="whole numbers in one row, got float64"):
        Forest.from_parents([0.5, -1.0])
    with pytest.raises(ValueError, match="there is no forest to join"):
        Forest.join([])


def test_wrong_calls_are_refused(generator: torch.Generator) -> None:
    layer, forest = NaryTreeLSTM(I, H), Forest([[], [], [0, 1]])
    wide = Forest([[], [], [], [0, 1, 2]])
    with pytest.raises(ValueError, match="node 3 has a child in position 2, but with arity=2"):
        layer(torch.zeros(4, I), wide)
    with pytest.raises(RuntimeError, match=r"Expected input size \[3, 3\], .* got \[4, 3\]"):
        layer(torch.zeros(4, I), forest)
    with pytest.raises(TypeError, match=r"expected forest to be a Forest, got list; make one"):
        layer(torch.zeros(3, I), [[], [], [0, 1]])
    with pytest.raises(TypeError, match="expected input to be a Tensor, got list"):
        layer([[0.0]], forest)
    with pytest.raises(ValueError, match=r"dtype of input \(torch.float64\) does not match"):
        layer(torch.zeros(3, I, dtype=torch.float64), forest)
    with pytest.raises(ValueError, match="arity must be greater than zero, got: 0"):
        NaryTreeLSTM(I, H, 0)


def test_long_chains_need_no_deep_stack(generator: torch.Generator) -> None:
    nodes = 1200  # more than Python lets functions call each other
    layer = made("sum", generator)
    out, (h, _) = layer(drawn((nodes, I), generator), Forest.from_parents([*range(1, nodes), -1]))
    assert_same(out[-1:], h)


def value_of(tree: Any) -> int:
    """The value of a tree of minima and maxima over digits."""
    if isinstance(tree, int):
        return tree
    kind, left, right = tree
    return (min if kind == 0 else max)(value_of(left), value_of(right))


def expression(depth: int, generator: torch.Generator) -> Any:
    def pick(top: int) -> int:
        return int(torch.randint(top, (), generator=generator))

    if depth == 0 or (depth < 3 and pick(4) == 0):
        return pick(2)
    return pick(2), expression(depth - 1, generator), expression(depth - 1, generator)


def laid_out(tree: Any) -> tuple[list[list[int | None]], list[int]]:
    """Children and symbols of the nodes: digits 0 and 1, then 2 for min and 3 for max."""
    children: list[list[int | None]] = []
    symbols: list[int] = []

    def visit(part: Any) -> int:
        below: list[int | None] = []
        if not isinstance(part, int):
            below = [visit(part[1]), visit(part[2])]
        children.append(below)
        symbols.append(part if isinstance(part, int) else 2 + part[0])
        return len(symbols) - 1

    visit(tree)
    return children, symbols


def learned(layer: Any, generator: torch.Generator) -> float:
    """How often a trained layer knows the value of an expression it has not seen, from 0 to 1."""
    head = unequal_(nn.Linear(16, 1), generator)
    trees = [expression(3, generator) for _ in range(400)]
    seen, fresh = trees[:300], [tree for tree in trees[300:] if tree not in trees[:300]]

    def batch(part: list[Any]) -> tuple[Tensor, Forest, Tensor]:
        laid = [laid_out(tree) for tree in part]
        symbols = torch.tensor([symbol for _, row in laid for symbol in row])
        answers = torch.tensor([float(value_of(tree)) for tree in part])
        forest = Forest.join([Forest(children) for children, _ in laid])
        return nn.functional.one_hot(symbols, 4).float(), forest, answers

    x, forest, y = batch(seen)
    weights = [*layer.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(weights, lr=0.02)
    for _ in range(120):
        optimizer.zero_grad()
        logits = head(layer(x, forest)[1][0]).squeeze(1)
        nn.functional.binary_cross_entropy_with_logits(logits, y).backward()
        optimizer.step()
    x, forest, y = batch(fresh)
    with torch.no_grad():
        right = (head(layer(x, forest)[1][0]).squeeze(1) > 0) == (y > 0.5)
    return float(right.float().mean())


@pytest.mark.slow
@pytest.mark.parametrize("maker", [ChildSumTreeLSTM, NaryTreeLSTM])
def test_learns_the_value_of_expressions(maker: Any, generator: torch.Generator) -> None:
    layer = unequal_(maker(4, 16), generator)
    assert learned(layer, generator) > 0.9

"""The backward step is the derivative: of every cell, as graph and through the whole definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from holdfast import Cell
from holdfast.cells import CELLS
from holdfast.compiler.differentiate import differentiate
from holdfast.compiler.emit import eager
from holdfast.compiler.graph import Builder, Graph
from tests.emit.user_cells import ALL_CELLS
from tests.graph.test_graph import EXPRESSIONS, Expression, build
from tests.graph.walk import Leaves, evaluate, random_leaves, results
from tests.helpers import assert_same

EVERY = {**ALL_CELLS, **CELLS}
CELL = pytest.mark.parametrize("cell", EVERY.values(), ids=lambda cell: cell.name)


def _backward(cell: Cell) -> Graph:
    sums = [one.leaf for one in cell.accumulators]
    return differentiate(cell.graph, sums, ("h", *cell.states), cell.weights, cell.inputs)


def _with_incoming(forward: Graph, leaves: Leaves, generator: torch.Generator) -> dict[Any, Tensor]:
    like = next(iter(leaves.values()))
    shape, kind = like.shape, torch.float64
    return {
        **leaves,
        **{
            ("grad", f"d_{name}"): torch.rand(shape, generator=generator, dtype=kind) - 0.4
            for name in forward.outputs
        },
    }


def _autograd(forward: Graph, leaves: Leaves, incoming: dict[Any, Tensor]) -> dict[Any, Tensor]:
    """The gradient of every leaf by PyTorch, for the given gradients of the outputs."""
    like = next(iter(leaves.values()))
    outputs = results(forward, leaves, like)
    total = sum((outputs[name] * incoming["grad", f"d_{name}"]).sum() for name in outputs)
    if not isinstance(total, Tensor) or not total.requires_grad:
        return {key: torch.zeros_like(value) for key, value in leaves.items()}
    found = torch.autograd.grad(
        total, list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    return dict(zip(leaves, found, strict=True))


def _compare(forward: Graph, backward: Graph, generator: torch.Generator) -> None:
    leaves = random_leaves(forward, generator)
    if not leaves:
        return
    incoming = _with_incoming(forward, leaves, generator)
    reference = _autograd(forward, leaves, incoming)
    like = next(iter(leaves.values()))
    found = results(backward, incoming, like)
    for (kind, name), gradient in reference.items():
        assert_same(found[f"d_{kind} {name}"], gradient, f"d_{kind} {name}")
    for name in set(found) - {f"d_{kind} {name}" for kind, name in reference}:
        assert_same(found[name], torch.zeros_like(like), f"{name}, which is not used")


@CELL
def test_the_backward_step_of_a_cell_is_its_derivative(
    cell: Cell, generator: torch.Generator
) -> None:
    _compare(cell.graph, _backward(cell), generator)


@CELL
def test_the_backward_step_names_every_gradient(cell: Cell) -> None:
    names = [f"d_gate {one.leaf}" for one in cell.accumulators]
    names += [f"d_state {name}" for name in ("h", *cell.states)]
    names += [f"d_weight {name}" for name in cell.weights]
    names += [f"d_input {name}" for name in cell.inputs]
    assert list(_backward(cell).outputs) == names


def test_the_backward_step_shares_the_nodes_of_the_forward_step() -> None:
    for cell in CELLS.values():
        nodes = {node.index: node for node in cell.graph.nodes()}
        for node in _backward(cell).nodes():
            assert node.index not in nodes or nodes[node.index] is node


def test_gradients_of_results_that_are_one_value_add_up() -> None:
    builder = Builder()
    a = builder.leaf("gate", "a")
    doubled = 2.0 * a
    backward = differentiate(Graph({"h": doubled, "c": doubled}), ["a"], (), ())
    leaves = {
        ("gate", "a"): torch.tensor(5.0, dtype=torch.float64),
        ("grad", "d_h"): torch.tensor(3.0, dtype=torch.float64),
        ("grad", "d_c"): torch.tensor(4.0, dtype=torch.float64),
    }
    root = backward.outputs["d_gate a"]
    assert evaluate([root], leaves)[root].item() == 14.0


@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS, EXPRESSIONS, st.integers(0, 2**31))
def test_the_backward_step_of_a_random_cell_is_its_derivative(
    first: Expression, second: Expression, seed: int
) -> None:
    """Two results over a gate x, a state y and a weight z, where every operation may stand."""
    builder = Builder()
    kinds = {"x": "gate", "y": "state", "z": "weight"}

    def leaf(name: str) -> Any:
        return builder.leaf(kinds[name], name)

    outputs = {
        name: build(expression, leaf, builder.const, builder.apply)
        for name, expression in (("h", first), ("y", second))
    }
    forward = Graph(outputs)
    backward = differentiate(forward, ["x"], ["y"], ["z"])
    _compare(forward, backward, torch.Generator().manual_seed(seed))


def _problem(cell: Cell, generator: torch.Generator) -> tuple[list[str], list[Tensor]]:
    """A small problem for `gradcheck`: names of parameters; x, h, states, parameters."""
    T, B, I, H = 3, 3, 2, 2
    shapes = cell.shapes(I, H)
    sizes = [(T, B, cell.widths(I, H)[0]), (B, H), *[(B, H) for _ in cell.states], *shapes.values()]
    values = [
        (2 * torch.rand(size, generator=generator, dtype=torch.float64) - 1).requires_grad_()
        for size in sizes
    ]
    return list(shapes), values


def _layouts() -> list[Any]:
    """Every cell with full and ragged rows; with many states only the latter, where one is full."""
    return [
        pytest.param(
            cell,
            ragged,
            id=f"{'ragged' if ragged else 'full'}-{cell.name}",
            marks=pytest.mark.slow if len(cell.states) > 8 and not ragged else (),
        )
        for ragged in (False, True)
        for cell in EVERY.values()
    ]


@pytest.mark.parametrize(("cell", "ragged"), _layouts())
def test_gradcheck_of_the_definition(cell: Cell, ragged: bool, generator: torch.Generator) -> None:
    names, inputs = _problem(cell, generator)
    lengths = torch.tensor([3, 0, 2]) if ragged else None
    count = len(cell.states)

    def run(x: Tensor, h: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        parameters = dict(zip(names, rest[count:], strict=True))
        states = tuple(rest[:count])
        result = eager.run(cell, x, parameters, h, states, lengths=lengths, sequences=True)
        return (result.out, result.h, *result.states, *(result.sequences or ()))

    assert torch.autograd.gradcheck(run, inputs)

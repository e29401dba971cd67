"""Evaluate any graph with the eager spellings, from the values of its leaves or of inner nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from holdfast.compiler.emit.eager import SPELLINGS
from holdfast.compiler.graph import Graph, Node, reach

Leaves = Mapping[tuple[str, str], Tensor]


def evaluate(
    roots: Iterable[Node], leaves: Leaves, known: Mapping[Node, Tensor] | None = None
) -> dict[Node, Tensor]:
    """Every node that `roots` need: leaves by kind and name, `known` nodes without their inputs.

    A leaf that is neither in `leaves` nor in `known` is a KeyError. The R of a gate that is called
    turns the units by one.
    """
    values: dict[Node, Tensor] = {}
    for node in reach(roots, stop=known or ()):
        if known and node in known:
            values[node] = known[node]
        elif node.op == "const":
            values[node] = torch.tensor(node.value, dtype=torch.float64)
        elif node.leaf:
            values[node] = leaves[node.op, node.name]
        elif node.op == "affine":
            values[node] = leaves["gate", node.name] + values[node.inputs[0]].roll(1, -1)
        elif node.op == "through":
            values[node] = values[node.inputs[0]].roll(-1, -1)
        else:
            values[node] = SPELLINGS[node.op](*(values[child] for child in node.inputs))
    return values


def results(graph: Graph, leaves: Leaves, like: Tensor) -> dict[str, Tensor]:
    """The outputs of a graph by name, each with the shape of `like`."""
    values = evaluate(graph.outputs.values(), leaves)
    return {name: values[node].expand_as(like) for name, node in graph.outputs.items()}


def random_leaves(graph: Graph, generator: torch.Generator, size: int = 8) -> Leaves:
    """Random values `[size]` in float64, all different, that ask for gradients."""
    return {
        ("gate" if node.op == "affine" else node.op, node.name): (
            2 * torch.rand(size, generator=generator, dtype=torch.float64) - 1
        ).requires_grad_()
        for node in graph.nodes()
        if (node.leaf and node.op != "const") or node.op == "affine"
    }

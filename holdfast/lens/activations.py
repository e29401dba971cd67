"""Which nodes of a step graph are gates' activations, and how much of a state a step keeps.

Input: any `Cell`. Output: the same cell with the values to be looked at as further states, so the
eager definition computes them beside everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from holdfast.compiler.cell import Cell
from holdfast.compiler.graph import REDUCTIONS, SCANS, Graph, Node
from holdfast.compiler.ops import OPS
from holdfast.compiler.trace import Trace

RANGES: dict[str, tuple[float, float]] = {
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "hard_tanh": (-1.0, 1.0),
    "relu": (0.0, float("inf")),
    "softplus": (0.0, float("inf")),
}
"""Functions that have ends, and where these are; the derivative goes to 0 there."""


@dataclass(frozen=True, eq=False)
class Watched:
    """A cell that shows more of itself: further states that no step reads.

    cell: the cell with them, behind its own states. activations: the range of each gate's
    activation, by name, in the order of the further states. kept: the names of the states whose
    retention follows, `h` for a cell without other states; empty where a step keeps nothing.
    """

    cell: Cell
    activations: Mapping[str, tuple[float, float]]
    kept: tuple[str, ...]


@cache
def watch(cell: Cell) -> Watched:
    """The cell with its gates' activations, and the retention of its states, as further states.

    >>> from holdfast.cells import gru, lstm
    >>> watch(lstm).cell.states
    ('c', 'activation i', 'activation f', 'activation g', 'activation o', 'retention c')
    >>> list(watch(gru).activations), watch(gru).kept
    (['r', 'z', 'n'], ('h',))
    """
    graph = cell.graph
    found = _activations(cell)
    candidates = tuple(name for name in cell.states if name not in cell.carried) or ("h",)
    paths = {name: _retention(graph, name) for name in candidates}
    if not cell.states and paths["h"].op == "const" and paths["h"].value == 0.0:
        paths = {}
    outputs = dict(graph.outputs)
    outputs |= {f"activation {name}": node for name, node in found.items()}
    outputs |= {f"retention {name}": node for name, node in paths.items()}
    watched = Cell(
        cell.name,
        cell.gates,
        tuple(name for name in outputs if name != "h"),
        cell.weights,
        cell.function,
        Trace(Graph(outputs), cell.accumulators),
        cell.masks,
        cell.operand,
        inputs=cell.inputs,
    )
    return Watched(watched, {name: RANGES[node.op] for name, node in found.items()}, tuple(paths))


def _activations(cell: Cell) -> dict[str, Node]:
    """The node of each gate's activation by the gate's name, in the order of the gates.

    A gate's activation is a function with ends whose argument has the gate's affine sum in it. What
    lies behind another gate's activation, a new state or a mean over units belongs to those.
    """
    owners = {("gate", acc.leaf): acc.gate for acc in cell.accumulators}
    owners |= {("affine", acc.leaf): acc.gate for acc in cell.accumulators}
    owners |= {("weight", name): gate.name for gate in cell.gates for name in gate.lowered}
    stops = {cell.graph.outputs[name] for name in cell.states}
    sites: dict[Node, list[str]] = {}
    for node in cell.graph.nodes():
        if node.op in RANGES:
            gates = _gates_in(node.inputs[0], owners, stops | sites.keys())
            if gates:
                sites[node] = gates
    order = [gate.name for gate in cell.gates]
    named: dict[str, Node] = {}
    for node, gates in sorted(sites.items(), key=lambda site: order.index(site[1][0])):
        name = "+".join(gates)
        named[f"{name} ({node.op})" if name in named else name] = node
    return named


def _gates_in(node: Node, owners: Mapping[tuple[str, str], str], stops: set[Node]) -> list[str]:
    """The gates whose sums an expression contains, each once."""
    found: dict[str, None] = {}
    seen: set[Node] = set()
    stack = [node]
    while stack:
        node = stack.pop()
        if node in seen or node in stops or node.op in REDUCTIONS + SCANS:
            continue
        seen.add(node)
        owner = owners.get((node.op, node.name))
        if owner is not None:
            found[owner] = None
        if node.op != "affine":
            stack.extend(reversed(node.inputs))
    return list(found)


def _retention(graph: Graph, name: str) -> Node:
    """The derivative of a state with respect to its value before, unit by unit.

    Affine sums, and means over units, count as given: what passes through R or through other units
    is no memory of the unit's own.
    """
    new = graph.outputs[name]
    builder = new.builder
    gradients: dict[Node, Node] = {new: builder.const(1.0)}
    for node in reversed(graph.nodes()):
        if node not in gradients or node.leaf or node.crossing:
            continue
        derivative = OPS[node.op].derivative
        if derivative is None:
            continue
        for child, part in zip(
            node.inputs, derivative(gradients[node], node, *node.inputs), strict=True
        ):
            if part is not None and child.op != "const":
                gradients[child] = gradients[child] + part if child in gradients else part
    return gradients.get(builder.leaf("state", name), builder.const(0.0))

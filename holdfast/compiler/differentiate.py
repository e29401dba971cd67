"""Stage 3, differentiate: the step graph's reverse mode, itself a step graph.

Input: the forward `Graph`. Output: the backward `Graph` of one step. Its new leaves are the
incoming gradients (`grad` leaves `d_h`, `d_c` ...); its outputs are

* `d_gate NAME`: the gradient of each affine sum,
* `d_state NAME`: what flows to each previous state without passing a matrix (`h` included),
* `d_weight NAME`: the gradient of each per-unit weight, for one row,
* `d_input NAME`: the gradient of what the step is given unit by unit.

Derivatives come from the table in `ops.py`. Both graphs share one builder, so a value the forward
step has already computed is the same node, and the plan decides whether to keep it.
"""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.compiler.graph import Builder, Graph, Node
from holdfast.compiler.ops import OPS


def differentiate(
    forward: Graph,
    gates: Iterable[str],
    states: Iterable[str],
    weights: Iterable[str],
    inputs: Iterable[str] = (),
) -> Graph:
    """The backward step of a forward step.

    >>> from holdfast.cells import rnn
    >>> graph = differentiate(rnn.graph, ["a"], ["h"], [])
    >>> list(graph.outputs)
    ['d_gate a', 'd_state h']

    Arguments:
        forward: outputs `h` and each state.
        gates: leaves of the affine sums.
        states: names of the previous states, `h` included.
        weights: names of the per-unit weights.
        inputs: names of what the step is given unit by unit.
    """
    builder = next(iter(forward.outputs.values())).builder
    nodes = forward.nodes()
    gradients: dict[Node, Node] = {}
    for name, node in forward.outputs.items():
        _accumulate(gradients, node, builder.leaf("grad", f"d_{name}"))
    for node in reversed(nodes):
        if node in gradients and not node.leaf:
            _propagate(builder, gradients, node)
    zero = builder.const(0.0)

    def gradient(op: str, name: str) -> Node:
        return gradients.get(builder.leaf(op, name), zero)

    called = {node.name: node for node in nodes if node.op == "affine"}

    def gate(name: str) -> Node:
        node = called.get(name)
        return gradient("gate", name) if node is None else gradients.get(node, zero)

    outputs = {f"d_gate {name}": gate(name) for name in gates}
    outputs |= {f"d_state {name}": gradient("state", name) for name in states}
    outputs |= {f"d_weight {name}": gradient("weight", name) for name in weights}
    outputs |= {f"d_input {name}": gradient("input", name) for name in inputs}
    return Graph(outputs)


def _propagate(builder: Builder, gradients: dict[Node, Node], node: Node) -> None:
    if node.op == "affine":
        operand = builder.product("through", node.name, gradients[node])
        _accumulate(gradients, node.inputs[0], operand)
        return
    derivative = OPS[node.op].derivative
    if derivative is None:
        return
    parts = derivative(gradients[node], node, *node.inputs)
    for child, part in zip(node.inputs, parts, strict=True):
        if part is not None and child.op != "const":
            _accumulate(gradients, child, part)


def _accumulate(gradients: dict[Node, Node], node: Node, part: Node) -> None:
    gradients[node] = gradients[node] + part if node in gradients else part

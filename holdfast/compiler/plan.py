"""Stage 4, plan: what the forward pass keeps, what the backward pass computes again, and why.

Input: the forward and the backward graph of one step. Output: a `Plan` with a text that gives the
reason for every choice.

Free for the backward pass are the previous states (their sequences are kept anyway), the outputs of
the step (`h` is the layer's output; the states' sequences) and the per-unit weights. A
pre-activation is never kept for free: it lives in registers. Of everything else, the plan keeps the
set of values with the least total cost, where keeping a value costs `SAVE_COST` and computing one
again costs what `ops.py` says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from holdfast.compiler.choose import choose
from holdfast.compiler.differentiate import differentiate
from holdfast.compiler.graph import Graph, Node, reach
from holdfast.compiler.naming import describe, name_nodes, spell
from holdfast.compiler.ops import OPS
from holdfast.compiler.schedule import Schedule, schedule
from holdfast.compiler.trace import Accumulator, Mask, Trace

SAVE_COST = 20
"""Writing and reading one vector through the caches, in vector additions."""

_IMPOSSIBLE = 10**9
_LINE = 16


@dataclass(frozen=True, eq=False)
class Plan:
    """How a cell's time loop is laid out in memory; every target follows it."""

    forward: Graph
    backward: Graph
    accumulators: tuple[Accumulator, ...]
    states: tuple[str, ...]
    """States besides `h`; the sequence of each is kept for the backward pass."""
    weights: tuple[str, ...]
    saved: tuple[Node, ...]
    recomputed: tuple[Node, ...]
    reasons: tuple[str, ...]
    shared: tuple[Node, ...] = ()
    """What else is saved: values that all units of a row share, one number each."""
    masks: tuple[Mask, ...] = ()
    operand: str = ""
    """The mask on the h that R multiplies; the product is the output `operand` of the step."""
    projected: bool = False
    """Whether the output is a projection of h, so that h itself must be saved."""
    inputs: tuple[str, ...] = ()
    """What a step is given unit by unit."""

    @cached_property
    def sweeps(self) -> Schedule:
        """How the forward step is computed."""
        results = [*self.forward.outputs.values(), *self.saved, *self.shared]
        return schedule(results, lambda node: node.leaf and node.op != "gate")

    @cached_property
    def backward_sweeps(self) -> Schedule:
        """How the backward step is computed."""
        known = {*self.saved, *self.shared, *self.available}
        results = self.backward.outputs.values()
        return schedule(results, lambda node: node in known or (node.leaf and node.op != "gate"))

    def results(self, mode: str) -> tuple[Node, ...]:
        """What a forward step computes: its outputs, and in training what is saved."""
        outputs = tuple(self.forward.outputs.values())
        return (*outputs, *self.saved, *self.shared) if mode == "train" else outputs

    def saved_column(self, node: Node) -> int:
        """Which of the saved values a node is."""
        return next(n for n, one in enumerate(self.saved) if one is node)

    def saved_width(self, hidden_size: int) -> int:
        """Numbers that a training pass saves for each row and step; whole lines of a cache."""
        return len(self.saved) * hidden_size + -(-len(self.shared) // _LINE) * _LINE

    @cached_property
    def direct(self) -> bool:
        """Whether some gradient reaches the previous `h` without passing a matrix."""
        node = self.backward.outputs["d_state h"]
        return not (node.op == "const" and node.value == 0.0)

    @cached_property
    def available(self) -> dict[Node, str]:
        """Nodes the backward pass can load, with where from: `h`, `c`, `h_prev`, `c_prev`."""
        outputs = self.forward.outputs.items()
        loaded = ("h", *self.states)
        loaded = self.states if self.projected else loaded
        found = {
            node: name
            for name, node in outputs
            if name in loaded and (not node.leaf or node.op == "gate")
        }
        for leaf in self.forward.leaves("state"):
            found[leaf] = f"{leaf.name}_prev"
        return found

    def text(self) -> str:
        """The choices with their reasons, then the backward step as it runs."""
        forward = dict.fromkeys(self.forward.nodes())
        names = name_nodes(dict.fromkeys((*forward, *self.backward.nodes())))
        kept = {node: names[node] for node in (*self.saved, *self.shared)}
        lines = [*self.reasons, f"store {', '.join(kept.values()) or 'nothing'} per row"]
        for what, sweeps in (("forward", self.sweeps), ("backward", self.backward_sweeps)):
            lines += sweeps.lines(what, names)
        for node in self.recomputed:
            lines.append(f"recompute {names[node]} = {spell(node, names)}")
        for node in self.backward.nodes():
            if not node.leaf and node not in forward:
                lines.append(f"compute {names[node]} = {spell(node, names)}")
        for name, node in self.backward.outputs.items():
            lines.append(f"give {name} = {names[node]}")
        return "\n".join(lines) + "\n"


def plan(
    traced: Trace,
    states: tuple[str, ...],
    weights: tuple[str, ...],
    masks: tuple[Mask, ...] = (),
    operand: str = "",
    projected: bool = False,
) -> Plan:
    """Decide what the training forward keeps for the backward pass.

    >>> from holdfast.cells import rnn
    >>> plan(rnn.traced, rnn.states, rnn.weights).saved
    ()
    """
    forward = _with_operand(traced.graph, operand)
    gates = [accumulator.leaf for accumulator in traced.accumulators]
    backward = differentiate(forward, gates, ("h", *states), weights, traced.inputs)
    wanted = _wanted(forward, backward)
    fixed = _factors(forward, projected)
    free = _free(traced.graph, forward) - fixed
    chosen = _choose(wanted, free | fixed)
    saved = chosen | fixed
    recomputed = _recomputed(wanted, saved | free)
    reasons = _reasons(forward, traced.accumulators, states, free, saved, recomputed, fixed)
    ordered = tuple(sorted(saved, key=lambda node: node.index))
    return Plan(
        forward,
        backward,
        traced.accumulators,
        states,
        weights,
        tuple(node for node in ordered if not node.uniform),
        recomputed,
        reasons,
        tuple(node for node in ordered if node.uniform),
        masks,
        operand,
        projected,
        traced.inputs,
    )


def _factors(forward: Graph, projected: bool) -> frozenset[Node]:
    """Factors of products whose gradients are taken after the loop: saved whatever it costs."""
    called = {node.inputs[0] for node in forward.nodes() if node.op == "affine"}
    outputs = [name for name in ("operand",) if name in forward.outputs]
    outputs += ["h"] if projected else []
    return frozenset(called | {forward.outputs[name] for name in outputs})


def _with_operand(forward: Graph, mask: str) -> Graph:
    """The step with what R multiplies in the next step as a further result."""
    if not mask:
        return forward
    h = forward.outputs["h"]
    product = h.builder.apply("mul", (h, h.builder.leaf("mask", mask)))
    return Graph({**forward.outputs, "operand": product})


def _wanted(forward: Graph, backward: Graph) -> frozenset[Node]:
    """Values of the forward step that the backward step reads."""
    nodes = set(forward.nodes())
    gradients = [node for node in backward.nodes() if node not in nodes]
    read = {child for node in gradients for child in node.inputs if child in nodes}
    return frozenset(read | {node for node in backward.outputs.values() if node in nodes})


def _free(traced: Graph, forward: Graph) -> frozenset[Node]:
    leaves = {node for node in forward.nodes() if node.leaf and node.op != "gate"}
    return frozenset(leaves | set(traced.outputs.values()))


def _recomputed(wanted: Iterable[Node], known: frozenset[Node]) -> tuple[Node, ...]:
    """What is computed again when `known` can be loaded."""
    return tuple(node for node in reach(wanted, stop=known) if node not in known)


def _keeping(node: Node) -> int:
    """The cost of keeping a value; one that all units share is a single number a row."""
    return 1 if node.uniform else SAVE_COST


def _again(node: Node) -> int:
    """The cost of computing a value again from its inputs."""
    return _IMPOSSIBLE if node.op == "gate" or node.crossing else OPS[node.op].cost


def _choose(wanted: frozenset[Node], free: frozenset[Node]) -> frozenset[Node]:
    """The cheapest set to keep."""
    candidates = [node for node in reach(wanted, stop=free) if node not in free]
    return frozenset(
        choose(
            candidates,
            [node for node in candidates if node in wanted],
            lambda node: node.inputs,
            lambda node: _IMPOSSIBLE if node.boolean else _keeping(node),
            _again,
        )
    )


def _reasons(
    forward: Graph,
    accumulators: tuple[Accumulator, ...],
    states: tuple[str, ...],
    free: frozenset[Node],
    saved: frozenset[Node],
    recomputed: tuple[Node, ...],
    fixed: frozenset[Node],
) -> tuple[str, ...]:
    names = name_nodes(forward.nodes())
    inside = [accumulator.leaf for accumulator in accumulators if accumulator.h]
    lines = [f"in the loop: W x + R h for {', '.join(a.leaf for a in accumulators)}, in registers"]
    lines.append(f"in the loop, backward: d_h = d_gate R for {', '.join(inside) or 'no gate'}")
    lines.append("after the loop: d_W, d_R and d_x, one large product each; biases in the loop")
    for name in states:
        lines.append(
            f"keep the sequence of {name}: each step's {name} and {name}_prev come from it"
        )
    for node in sorted(saved, key=lambda node: node.index):
        again = _recomputed([node], frozenset(saved - {node}) | free)
        gates = [describe(leaf) for leaf in again if leaf.op == "gate"]
        crossing = [step for step in again if step.crossing]
        cost = sum(_again(step) for step in again if not step.leaf)
        if node in fixed:
            reason = "a matrix multiplies it, so the gradient of the matrix needs it"
        elif gates:
            reason = f"again, it would need the pre-activation {gates[0]}, which is never stored"
        elif crossing:
            reason = "again, it would need every unit of the row once more"
        else:
            reason = f"again, it would cost {cost}, more than the {_keeping(node)} of keeping it"
        spelled = "" if node.leaf else f" = {spell(node, names)}"
        lines.append(f"save {names[node]}{spelled}: {reason}")
    for node in recomputed:
        cost = _again(node)
        lines.append(f"do not save {names[node]}: computing it again costs {cost}")
    return tuple(lines)

"""Variations of a cell as rewrites of its step graph: every cell gets every one for nothing.

Input: a `Cell` and a `Variation`. Output: another `Cell`, with further leaves (masks), further
per-unit weights (gains, biases, a diagonal recurrence) and other operations. What comes after, from
differentiation to machine code, does not know that the cell was written otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache

from holdfast.compiler import ops
from holdfast.compiler.cell import Cell
from holdfast.compiler.graph import Builder, Graph, Node, reach
from holdfast.compiler.ops import maximum, minimum, normalize, normalize_together
from holdfast.compiler.trace import Accumulator, Mask, Trace
from holdfast.errors import CellError

Function = Callable[[Node], Node]

RECURRENT = "recurrent"
"""The mask on the h that R multiplies; the same at every step."""
CANDIDATE = "candidate"
"""The mask on the candidate; another at every step."""
ZONEOUT = "zoneout_"
"""Masks of zoneout begin so; the state's name follows."""

ACTIVATIONS: dict[str, Function] = {
    "sigmoid": ops.sigmoid,
    "tanh": ops.tanh,
    "relu": ops.relu,
    "hard_sigmoid": ops.hard_sigmoid,
    "hard_tanh": ops.hard_tanh,
    "softplus": ops.softplus,
    "softsign": lambda x: x / (1.0 + abs(x)),
    "elu": lambda x: ops.where(x > 0.0, x, ops.exp(minimum(x, 0.0)) - 1.0),
    "leaky_relu": lambda x: ops.where(x > 0.0, x, 0.01 * x),
    "silu": lambda x: x * ops.sigmoid(x),
    "exp": ops.exp,
    "identity": lambda x: x,
}
"""Activations by name; any function made of Holdfast's operations will do, too."""

SITES = ("gate", "candidate", "output")
"""Where activations stand: on a gate (a sigmoid), on what is taken in, on a new state."""

_SQUASHING = ("sigmoid", "tanh", "relu", "hard_sigmoid", "hard_tanh", "softplus")


@dataclass(frozen=True)
class Variation:
    """How a cell differs from the one that was written; the default changes nothing.

    Arguments:
        recurrent_mask: a mask on the h that R multiplies, one a row (Gal & Ghahramani 2016).
        candidate_mask: a mask on the candidate, another each step (Semeniuta et al. 2016).
        zoneout: states, `h` among them, that keep old values at random (Krueger et al. 2017).
        layer_norm: normalize `W x` and `R h` over all gates, and a new state before it is squashed
            (Ba et al. 2016).
        norm_bias: with `layer_norm`, whether biases follow the normalization.
        clip: bound of the arguments of activations; 0 for none.
        state_clip: bound of every new state besides h; 0 for none.
        activations: pairs of a site, one of `SITES`, and an activation: a name of `ACTIVATIONS` or
            a function on symbols.
        diagonal: `u*h` for each unit in the place of `R h`.
    """

    recurrent_mask: bool = False
    candidate_mask: bool = False
    zoneout: tuple[str, ...] = ()
    layer_norm: bool = False
    norm_bias: bool = True
    clip: float = 0.0
    state_clip: float = 0.0
    activations: tuple[tuple[str, str | Function], ...] = ()
    diagonal: bool = False

    @property
    def named(self) -> dict[str, object]:
        """What differs from the default, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if self._differs(f.name)}

    def _differs(self, name: str) -> bool:
        return getattr(self, name) != getattr(Variation, name)


@cache
def vary(cell: Cell, variation: Variation) -> Cell:
    """The cell with a variation; equal variations give the very same cell.

    >>> from holdfast.cells import lstm
    >>> vary(lstm, Variation(zoneout=("h",))).masks
    (Mask(name='zoneout_h', per_step=True),)

    Errors: `CellError` where the cell has no place for it.
    """
    if variation == Variation():
        return cell
    if cell.masks:
        raise CellError(
            f"the cell {cell.name} is a variation with masks already; vary the cell that was "
            "written, with everything at once"
        )
    for name in ("clip", "state_clip"):
        if not getattr(variation, name) >= 0.0:
            raise CellError(
                f"{name} is {getattr(variation, name)}; expected a bound above 0, or 0 for none"
            )
    return _Rewriter(cell, variation).cell()


class _Rewriter:
    """Copies a step graph into a new builder, changing it on the way."""

    def __init__(self, cell: Cell, variation: Variation) -> None:
        self.base = cell
        self.variation = variation
        self.builder = Builder()
        self.activations = {site: _activation(chosen) for site, chosen in variation.activations}
        self.accumulators: list[Accumulator] = []
        self.weights: list[str] = list(cell.weights)
        self.masks: list[Mask] = []
        self.sites = _sites(cell)
        self.gates = self._gates()

    def cell(self) -> Cell:
        """The new cell."""
        copies: dict[Node, Node] = {}
        for node in self.base.graph.nodes():
            copies[node] = self._copy(node, copies)
        outputs = {name: copies[node] for name, node in self.base.graph.outputs.items()}
        if self.variation.state_clip:
            carried = self.base.carried
            for name in self.base.states:
                if self.base.graph.outputs[name].leaf and name not in carried:
                    outputs[name] = _clip(outputs[name], self.variation.state_clip)
        self._check_sites()
        for name in dict.fromkeys(self.variation.zoneout):
            outputs[name] = self._zone_out(name, outputs)
        traced = Trace(Graph(outputs), tuple(self.accumulators))
        operand = self._mask(RECURRENT, per_step=False) if self.variation.recurrent_mask else None
        return Cell(
            self.base.name,
            self.base.gates,
            self.base.states,
            tuple(self.weights),
            self.base.function,
            traced,
            tuple(self.masks),
            RECURRENT if operand is not None and not self.variation.diagonal else "",
            self.base.initial,
            self.base.ties,
            self.base.inputs,
        )

    def _copy(self, node: Node, copies: Mapping[Node, Node]) -> Node:
        if node.op == "gate":
            return self.gates[node.name]
        if node.op == "const":
            return self.builder.const(node.value)
        if node.leaf:
            return self.builder.leaf(node.op, node.name)
        inputs = [copies[child] for child in node.inputs]
        if node.op == "affine":
            called = self._call(node.name, inputs[0])
            clipped = self.variation.state_clip and self._is_new_state(node)
            return _clip(called, self.variation.state_clip) if clipped else called
        copied = self._activate(node, inputs[0]) if node in self.sites else None
        copied = self.builder.apply(node.op, inputs) if copied is None else copied
        if self.variation.state_clip and self._is_new_state(node):
            copied = _clip(copied, self.variation.state_clip)
        if not copied.leaf and not copied.name:
            copied.name = node.name
        return copied

    def _call(self, name: str, operand: Node) -> Node:
        """A gate that is called, with its operand masked as h is."""
        if self.variation.recurrent_mask:
            operand = operand * self._mask(RECURRENT, per_step=False)
        if self.variation.diagonal:
            return self.gates[name] + self._weight(f"u_{name}") * operand
        return self.builder.product("affine", name, operand)

    def _is_new_state(self, node: Node) -> bool:
        return any(self.base.graph.outputs[name] is node for name in self.base.states)

    def _activate(self, node: Node, argument: Node) -> Node:
        site = self.sites[node]
        if site == "output" and self.variation.layer_norm:
            name = self._state_of(node.inputs[0])
            argument = self._weight(f"gain_{name}") * normalize(argument)
            if self.variation.norm_bias:
                argument = argument + self._weight(f"bias_{name}")
        if self.variation.clip:
            argument = _clip(argument, self.variation.clip)
        function = self.activations.get(site)
        result = function(argument) if function else self.builder.apply(node.op, (argument,))
        if not isinstance(result, Node) or result.boolean:
            raise CellError(f"the activation for {site} gave {result!r}; expected a symbol")
        if site == "candidate" and self.variation.candidate_mask:
            result = result * self._mask(CANDIDATE, per_step=True)
        return result

    def _state_of(self, node: Node) -> str:
        outputs = self.base.graph.outputs
        return next(name for name in self.base.states if outputs[name] is node)

    def _check_sites(self) -> None:
        found = set(self.sites.values())
        wanted = [(site, f"an activation for {site}") for site in self.activations]
        if self.variation.candidate_mask:
            wanted.append(("candidate", "a mask on the candidate"))
        for site, what in wanted:
            if site not in found:
                raise CellError(
                    f"{what} has no place in the cell {self.base.name}; its activations stand on: "
                    f"{', '.join(sorted(found)) or 'nothing'}"
                )
        for name in self.variation.zoneout:
            if name not in ("h", *self.base.states):
                raise CellError(
                    f"the cell {self.base.name} has no state {name} for zoneout; it has "
                    f"{', '.join(('h', *self.base.states))}"
                )

    def _zone_out(self, name: str, outputs: Mapping[str, Node]) -> Node:
        """New where the mask is 1, old where it is 0."""
        old = self.builder.leaf("state", name)
        return old + self._mask(ZONEOUT + name, per_step=True) * (outputs[name] - old)

    def _mask(self, name: str, per_step: bool) -> Node:
        mask = Mask(name, per_step)
        if mask not in self.masks:
            self.masks.append(mask)
        return self.builder.leaf("mask", name)

    def _weight(self, name: str) -> Node:
        if name in self.base.weights:
            raise CellError(
                f"the cell {self.base.name} has a weight {name} of its own; rename it, as the "
                "variation needs one of that name"
            )
        if name not in self.weights:
            self.weights.append(name)
        return self.builder.leaf("weight", name)

    def _gates(self) -> dict[str, Node]:
        """What stands in the place of each affine sum."""
        base = self.base.accumulators
        if self.variation.layer_norm:
            return self._normalized(base)
        if not self.variation.diagonal:
            self.accumulators = list(base)
            return {acc.leaf: self.builder.leaf("gate", acc.leaf) for acc in base}
        return {acc.leaf: self._diagonal(acc) for acc in base}

    def _diagonal(self, acc: Accumulator) -> Node:
        total: Node = self.builder.const(0.0)
        if acc.x:
            self.accumulators.append(
                Accumulator(acc.leaf, acc.gate, True, False, acc.bias_ih, False)
            )
            total = total + self.builder.leaf("gate", acc.leaf)
        if acc.h and not acc.inner:
            previous = self.builder.leaf("state", "h")
            if self.variation.recurrent_mask:
                previous = previous * self._mask(RECURRENT, per_step=False)
            total = total + self._weight(f"u_{acc.gate}") * previous
        if acc.bias_hh and not acc.x:
            total = total + self._weight(f"b_hh_{acc.gate}")
        return total

    def _normalized(self, base: tuple[Accumulator, ...]) -> dict[str, Node]:
        """`gain * normalize(W x) + gain * normalize(R h) + bias` for each affine sum."""
        if self.variation.diagonal:
            raise CellError("layer_norm with a diagonal recurrence is not possible; take one")
        if any(acc.inner for acc in base):
            raise CellError(
                f"layer_norm is not possible with the cell {self.base.name}: one of its gates is "
                "called, so there is no one `R h` to normalize"
            )
        parts: dict[tuple[str, str], Node] = {}
        for side, part in (("x", "input"), ("h", "recurrent")):
            members = [acc for acc in base if getattr(acc, side)]
            for acc in members:
                leaf = f"{acc.gate}.{part}"
                flags = (side == "x", side == "h", False, False)
                self.accumulators.append(Accumulator(leaf, acc.gate, *flags))
            leaves = [self.builder.leaf("gate", f"{acc.gate}.{part}") for acc in members]
            for acc, value in zip(members, normalize_together(leaves), strict=True):
                short = "ih" if side == "x" else "hh"
                parts[acc.leaf, side] = self._weight(f"gain_{short}_{acc.gate}") * value
        whole = {}
        for acc in base:
            terms = [parts[acc.leaf, side] for side in ("x", "h") if getattr(acc, side)]
            total = terms[0] + terms[1] if len(terms) == 2 else terms[0]
            if self.variation.norm_bias and (acc.bias_ih or acc.bias_hh):
                short = f"bias_{acc.gate}" if acc.x else f"bias_hh_{acc.gate}"
                total = total + self._weight(short)
            whole[acc.leaf] = total
        return whole


def _clip(value: Node, bound: float) -> Node:
    return maximum(minimum(value, bound), -bound)


def _activation(chosen: str | Function) -> Function:
    if callable(chosen):
        return chosen
    if chosen not in ACTIVATIONS:
        raise CellError(
            f"there is no activation named {chosen!r}; expected one of {', '.join(ACTIVATIONS)}, "
            "or a function made of Holdfast's operations"
        )
    return ACTIVATIONS[chosen]


def _sites(cell: Cell) -> dict[Node, str]:
    """The activations of a cell: those of affine sums and of new states, not those inside."""
    outputs = cell.graph.outputs
    states = {outputs[name] for name in cell.states}
    sites: dict[Node, str] = {}
    for node in cell.graph.nodes():
        if node.op not in _SQUASHING:
            continue
        argument = node.inputs[0]
        if argument in states:
            sites[node] = "output"
        elif any(below.op in ("gate", "affine") for below in reach([argument])):
            sites[node] = "gate" if "sigmoid" in node.op else "candidate"
    return sites

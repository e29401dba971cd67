"""What to do about what was found, in a sentence or two each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from holdfast.compiler.cell import Cell
from holdfast.lens.measure import EXPLODED, VANISHED, Direction

MANY = 0.5
"""The share of a gate's units from which on their being dead is worth a word."""


def on_gradients(cell: Cell, directions: Sequence[Direction]) -> tuple[str, ...]:
    """Advice on gradients that vanish, explode or do not arrive; nothing where all is well."""
    advice = []
    small = [direction for direction in directions if direction.vanishes]
    none = [direction for direction in directions if direction.unused]
    large = [direction for direction in directions if direction.explodes]
    if small:
        advice.append(_vanishing(cell, small))
    if none:
        advice.append(
            f"no gradient reaches {_names(none)}: the loss does not depend on it, or what stands "
            "above is dead. What helps: a loss that uses its output, smaller weights above."
        )
    if large:
        advice.append(_exploding(large))
    return tuple(advice)


def _vanishing(cell: Cell, found: Sequence[Direction]) -> str:
    shortest = min(found, key=lambda direction: direction.reach)
    steps = len(shortest.decay)
    problem = (
        f"gradients vanish in {_names(found)}: in {shortest.name} less than {VANISHED:g} of the "
        f"gradient is left {shortest.reach} steps before the last, so what happened in the first "
        f"{steps - shortest.reach} of {steps} steps is hardly learned"
    )
    return f"{problem}. What helps: {_longer_memory(cell, shortest)}."


def _longer_memory(cell: Cell, direction: Direction) -> str:
    """How to make a cell of this kind remember for longer."""
    if not direction.half_life:
        return (
            "this cell carries nothing from a unit to itself; take one that does, such as LSTM or "
            "GRU, or start from an orthogonal weight_hh (holdfast.nn.init.orthogonal_) and use "
            "layer_norm=True"
        )
    gates = [gate.name for gate in cell.gates]
    if "f" not in gates:
        return (
            "start the gate that keeps the state further open by its bias, use layer_norm=True, "
            "or take LSTM with forget_bias=1.0"
        )
    remedy = "open the memory with holdfast.nn.init.forget_bias_(layer, 1.0)"
    if "i" in gates:
        longest = len(direction.decay)
        remedy += f", or with holdfast.nn.init.chrono_(layer, {longest}) where it must last long"
    return f"{remedy}; layer_norm=True keeps gates off their ends"


def _exploding(found: Sequence[Direction]) -> str:
    worst = max(found, key=lambda direction: _peak(direction))
    return (
        f"gradients explode in {_names(found)}: in {worst.name} they grow to {_peak(worst):.3g} "
        f"times the gradient at the last step, more than {EXPLODED:g}. What helps: clip them with "
        "torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0), start from a smaller or "
        "orthogonal weight_hh, use layer_norm=True, or train on shorter stretches with truncated "
        "BPTT (tbptt=)."
    )


def _peak(direction: Direction) -> float:
    """The largest growth of a gradient; infinite where one is not finite."""
    peak = float(direction.decay.max())
    return peak if peak < float("inf") else float("inf")


def on_units(directions: Iterable[Direction]) -> tuple[str, ...]:
    """Advice on gates that are stuck, and on units that say nothing."""
    advice = []
    for direction in directions:
        for gate, saturation in direction.saturation.items():
            count, units = len(saturation.dead), len(saturation.low)
            if count and count >= MANY * units:
                advice.append(
                    f"gate {gate} of {direction.name} never leaves a saturated end in {count} of "
                    f"{units} units and learns next to nothing there. Scale the input, or use "
                    "smaller weights or layer_norm=True; a gate that should stay open is fine."
                )
        idle = direction.dead_units["h"]
        if idle:
            advice.append(
                f"the output of {len(idle)} of {direction.features} units of {direction.name} "
                "never changes: they say nothing. Draw their weights anew, or take fewer units."
            )
    return tuple(advice)


def _names(found: Iterable[Direction]) -> str:
    return ", ".join(direction.name for direction in found)

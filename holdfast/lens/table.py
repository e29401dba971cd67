"""What was found, as a table in plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from torch import Tensor

from holdfast.lens.measure import Direction

WIDTH = 100
HEAD = ("", "first/last", "reach", "half-life", "saturated", "dead")
"""Of each line: the gradient at the first step over that at the last, and how far back it reaches;
half-lives as median (least to most); share of the time near an end; units that never move."""


def table(title: str, directions: Sequence[Direction], advice: Sequence[str]) -> str:
    """A line for each layer and direction, then a line for each piece of advice."""
    rows = [HEAD, *(_row(direction) for direction in directions)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    notes = [
        textwrap.fill(text, WIDTH, initial_indent="- ", subsequent_indent="  ") for text in advice
    ]
    return "\n".join([title, *lines, *notes])


def _row(direction: Direction) -> tuple[str, ...]:
    return (
        direction.name,
        f"{float(direction.decay[-1]):.1e}",
        f"{direction.reach} of {len(direction.decay)}",
        _half_lives(direction.half_life),
        " ".join(
            f"{gate} {float(saturation.share.mean()):.0%}"
            for gate, saturation in direction.saturation.items()
        )
        or "no gate has ends",
        _dead(direction),
    )


def _half_lives(half_life: Mapping[str, Tensor]) -> str:
    """Median, least and most over the units of each state."""
    shown = []
    for name, values in half_life.items():
        least, most = float(values.min()), float(values.max())
        middle = float(values.sort().values[len(values) // 2])
        shown.append(f"{name} {middle:.3g} ({least:.3g} to {most:.3g})")
    return ", ".join(shown) or "no direct path"


def _dead(direction: Direction) -> str:
    """How many units of which gate, state or output are dead."""
    gates = {name: saturation.dead for name, saturation in direction.saturation.items()}
    found = [*gates.items(), *direction.dead_units.items()]
    return " ".join(f"{name} {len(units)}" for name, units in found if units) or "none"

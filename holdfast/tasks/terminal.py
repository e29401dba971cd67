"""What a terminal shows: tables with columns under each other, sparklines, colors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BARS = "▁▂▃▄▅▆▇█"
DIM, COLOR, PLAIN = "\x1b[2m", "\x1b[36m", "\x1b[0m"


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text: the first column to the left, the others to the right.

    >>> print(aligned(["method", "MAE"], [["ours", "1.5"], ["naive", "12"]]))
    method  MAE
    ours    1.5
    naive    12
    """
    lines = [head, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    shown = []
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        shown.append("  ".join(cells).rstrip())
    return "\n".join(shown)


def sparkline(values: np.ndarray, low: float, high: float) -> str:
    """Values (n,) as n bars between `low` and `high`; a blank where there is no value.

    >>> sparkline(np.array([0.0, 1.0, np.nan, 7.0]), 0.0, 7.0)
    '▁▂ █'
    """
    span = high - low if high > low else 1.0
    heights = np.clip((values - low) / span * (len(BARS) - 1), 0, len(BARS) - 1)
    return "".join(" " if np.isnan(h) else BARS[round(float(h))] for h in heights)


def can_write(stream: Any) -> bool:
    """Whether the stream's encoding has the bars."""
    try:
        BARS.encode(getattr(stream, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True

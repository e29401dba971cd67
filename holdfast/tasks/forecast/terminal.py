"""What a terminal shows of forecasts: tables with columns under each other, and sparklines."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

BARS = "▁▂▃▄▅▆▇█"
DIM, COLOR, PLAIN = "\x1b[2m", "\x1b[36m", "\x1b[0m"
MOST_LINES = 6


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


def show_sparklines(panel: Any, forecasts: np.ndarray, stream: Any = None) -> None:
    """History and forecast (series, H) of the first series, a line each; on a terminal only."""
    stream = sys.stderr if stream is None else stream
    if not stream.isatty() or not _can_write(stream):
        return
    width = max(40, shutil.get_terminal_size().columns) - 2
    shown = panel.series[:MOST_LINES]
    label = min(20, max(len(series.id) for series in shown))
    for series, forecast in zip(shown, forecasts, strict=False):
        ahead = forecast[: width // 2]
        room = width - label - len(ahead) - 3
        known = np.where(series.observed, series.y, np.nan)[-room:]
        both = np.concatenate([known, ahead])
        low, high = float(np.nanmin(both)), float(np.nanmax(both))
        print(
            f"{series.id[:label]:<{label}} {DIM}{sparkline(known, low, high)}{PLAIN} "
            f"{COLOR}{sparkline(ahead, low, high)}{PLAIN}",
            file=stream,
        )
    left = len(panel.series) - len(shown)
    if left:
        print(f"and {left} more series", file=stream)


def _can_write(stream: Any) -> bool:
    """Whether the stream's encoding has the bars."""
    try:
        BARS.encode(getattr(stream, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True

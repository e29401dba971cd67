"""Forecasts on a terminal, as sparklines."""

from __future__ import annotations

import shutil
import sys
from typing import Any

import numpy as np

from holdfast.tasks.terminal import COLOR, DIM, PLAIN, can_write, sparkline

MOST_LINES = 6


def show_sparklines(panel: Any, forecasts: np.ndarray, stream: Any = None) -> None:
    """History and forecast (series, H) of the first series, a line each; on a terminal only."""
    stream = sys.stderr if stream is None else stream
    if not stream.isatty() or not can_write(stream):
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

"""Pictures: one hand, few colors, readable without a legend hunt."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from holdfast.data.optional import require
from holdfast.data.panel import Panel

INK, QUIET, OURS, WEEK, ETS = "#1f2933", "#9aa5b1", "#0b6e99", "#e08e0b", "#8a5a9e"
COLORS = (OURS, WEEK, "#b8a07e", QUIET, ETS)
MOST_PANELS = 6


def new_figure(width: float, height: float, rows: int = 1) -> tuple[Any, list[Any]]:
    """A figure with `rows` axes below each other; no global state, no window."""
    require("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(rows, 1, row + 1) for row in range(rows)]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(QUIET)
        ax.tick_params(colors=INK, labelsize=8)
        ax.grid(axis="y", color="#e4e7eb", linewidth=0.6)
        ax.set_axisbelow(True)
    return figure, axes


def dates(ax: Any) -> None:
    """Short dates on the time axis, as many as there is room for."""
    from matplotlib import dates as mdates

    locator = mdates.AutoDateLocator(minticks=4, maxticks=9)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))


def ticks(ax: Any, times: np.ndarray, form: str) -> None:
    """These dates on the time axis, written in the form of `strftime`."""
    from matplotlib import dates as mdates

    ax.set_xticks(times)
    ax.xaxis.set_major_formatter(mdates.DateFormatter(form))


def png(figure: Any) -> bytes:
    """The figure as a PNG file's content."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def inline(figure: Any) -> str:
    """The figure as an ``img`` source that needs no file."""
    return "data:image/png;base64," + base64.b64encode(png(figure)).decode("ascii")


def forecast_figure(panel: Panel, forecasts: np.ndarray) -> Any:
    """The end of the first series of `panel` with their forecasts (series, H) behind."""
    shown = panel.series[:MOST_PANELS]
    horizon = forecasts.shape[1]
    figure, axes = new_figure(10, 1.2 + 2.4 * len(shown), len(shown))
    for ax, series, forecast in zip(axes, shown, forecasts, strict=False):
        recent = series[max(0, len(series) - 7 * horizon) :]
        known = np.where(recent.observed, recent.y, np.nan)
        future = panel.frequency.after(series.times[-1], horizon)
        ax.plot(recent.times, known, color=INK, linewidth=1.1, label="measured")
        joined = np.concatenate([[recent.y[-1]], forecast])
        times = np.concatenate([recent.times[-1:], future])
        ax.plot(times, joined, color=OURS, linewidth=1.8, label="forecast")
        ax.axvspan(recent.times[-1], future[-1], color=OURS, alpha=0.06, linewidth=0)
        ax.set_title(series.id or panel.columns.target, loc="left", fontsize=10, color=INK)
        dates(ax)
    axes[0].legend(frameon=False, fontsize=8, loc="upper left", ncols=2)
    if len(panel.series) > len(shown):
        left = len(panel.series) - len(shown)
        axes[-1].set_xlabel(f"{left} more series are in the table", fontsize=8, color=INK)
    return figure

"""Pictures: one hand, few colors, readable without a legend hunt."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from holdfast.data.optional import require

INK, QUIET, OURS, WEEK, ETS = "#1f2933", "#9aa5b1", "#0b6e99", "#e08e0b", "#8a5a9e"
LINE = "#e4e7eb"
COLORS = (OURS, WEEK, "#b8a07e", QUIET, ETS)
MOST_PANELS = 6


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> Any:
    """A figure with `rows` times `columns` axes, row by row; no global state, no window."""
    require("matplotlib", "plots")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(rows, columns, place + 1) for place in range(rows * columns)]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(QUIET)
        ax.tick_params(colors=INK, labelsize=8)
        ax.grid(axis="y", color=LINE, linewidth=0.6)
        ax.set_axisbelow(True)
        ax.yaxis.set_major_formatter(short)
        ax.locator_params(axis="y", nbins=6)
    return figure, axes


def title(ax: Any, text: str, size: float = 10) -> None:
    """A title over the left end of the axes, cut where it is long."""
    ax.set_title(text if len(text) < 90 else text[:88] + "…", loc="left", fontsize=size, color=INK)


def labels(ax: Any, x: str = "", y: str = "") -> None:
    """What the axes mean."""
    ax.set_xlabel(x, fontsize=8, color=INK)
    ax.set_ylabel(y, fontsize=8, color=INK)


def legend(ax: Any, columns: int = 4, size: float = 8) -> None:
    """What the lines are, above the axes at the right, where no line can run behind it."""
    ax.legend(
        frameon=False,
        fontsize=size,
        ncols=columns,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        borderaxespad=0.1,
        handlelength=1.4,
        columnspacing=1.2,
        labelcolor=INK,
    )


def dates(ax: Any) -> None:
    """Short dates on the time axis, as many as there is room for."""
    from matplotlib import dates as mdates

    locator = mdates.AutoDateLocator(minticks=4, maxticks=9)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))
    ax.xaxis.get_offset_text().set(size=8, color=INK)


def ticks(ax: Any, times: np.ndarray, form: str) -> None:
    """These dates on the time axis, written in the form of `strftime`."""
    from matplotlib import dates as mdates

    ax.set_xticks(times)
    ax.xaxis.set_major_formatter(mdates.DateFormatter(form))


def band(ax: Any, x: np.ndarray, low: np.ndarray, high: np.ndarray, level: float) -> None:
    """An interval of `level` percent; wider ones are lighter."""
    alpha = 0.12 if level > 90 else 0.22 if level > 60 else 0.32
    ax.fill_between(
        x, low, high, color=OURS, alpha=alpha, linewidth=0, label=f"{level:g} % interval"
    )


def png(figure: Any) -> bytes:
    """The figure as a PNG file's content."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def inline(figure: Any) -> str:
    """The figure as an ``img`` source that needs no file."""
    return "data:image/png;base64," + base64.b64encode(png(figure)).decode("ascii")


def short(value: float, _: Any = None) -> str:
    """A tick's number with no more digits than it needs: 1,500, 2.5M, 0.04."""
    size = abs(value)
    for limit, unit, name in ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M")):
        if size >= limit:
            return f"{value / unit:.4g}{name}"
    if size >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.6g}".replace("-", "−")

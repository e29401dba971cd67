"""What was found, as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from holdfast.data.optional import require
from holdfast.lens.measure import EXPLODED, SATURATED, VANISHED, Direction

SERIES = ("#0b6e99", "#e08e0b", "#8a5a9e", "#b8a07e")
INK, QUIET = "#1f2933", "#9aa5b1"
LOW, HIGH = SERIES[:2]
BINS = 16
WIDE = 20.0
"""From this ratio of the longest half-life to the shortest on, the axis is logarithmic."""
FAINT = 1e-12
"""What is below this part of the last gradient is not drawn."""


def picture(title: str, directions: Sequence[Direction]) -> Any:
    """A matplotlib figure: gradients through time, half-lives, saturation of each gate.

    Errors: `MissingExtraError` without matplotlib, which the extra `forecast` brings.
    """
    figure, (flow, memory, gates) = _new_figure()
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    _draw_flow(flow, directions)
    _draw_memory(memory, directions)
    _draw_gates(gates, directions)
    return figure


def _new_figure() -> tuple[Any, list[Any]]:
    """A figure with three axes below each other; no global state, no window."""
    require("matplotlib", "plots")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 9), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(3, 1, row + 1) for row in range(3)]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(QUIET)
        ax.tick_params(which="both", colors=INK, labelsize=8)
        ax.grid(axis="y", color="#e4e7eb", linewidth=0.6)
        ax.set_axisbelow(True)
    return figure, axes


def _draw_flow(ax: Any, directions: Sequence[Direction]) -> None:
    ax.set_title("gradient of h, relative to the last step", loc="left", fontsize=9, color=INK)
    for number, direction in enumerate(directions):
        ax.plot(
            range(len(direction.decay)),
            direction.decay.clamp(min=FAINT / 10),
            color=_color(number),
            linestyle=("-", "--", ":")[number // len(SERIES) % 3],
            label=direction.name,
        )
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, FAINT), max(high, 2.0))
    for level, name in ((VANISHED, "vanished"), (EXPLODED, "exploded")):
        if ax.get_ylim()[0] <= level <= ax.get_ylim()[1]:
            ax.axhline(level, color=QUIET, linewidth=0.8, linestyle="--")
            ax.text(
                0.995,
                level,
                name,
                fontsize=7,
                color=QUIET,
                ha="right",
                va="bottom",
                transform=ax.get_yaxis_transform(),
            )
    ax.invert_xaxis()
    ax.set_xlabel("steps before the end of a row", fontsize=8, color=INK)
    ax.legend(frameon=False, fontsize=8)


def _draw_memory(ax: Any, directions: Sequence[Direction]) -> None:
    from matplotlib.ticker import LogFormatter

    ax.set_title("half-life of the memory", loc="left", fontsize=9, color=INK)
    named = [
        (f"{direction.name}, {name}", values)
        for direction in directions
        for name, values in direction.half_life.items()
    ]
    if not named:
        ax.text(
            0.5, 0.5, "this cell carries nothing from a unit to itself", fontsize=9, ha="center"
        )
        ax.set_axis_off()
        return
    edges = _edges(torch.cat([values[values.isfinite()] for _, values in named]))
    ax.hist(
        [values[values.isfinite()].numpy() for _, values in named],
        bins=edges.tolist(),
        color=[_color(number) for number in range(len(named))],
        label=[_with_endless(name, values) for name, values in named],
    )
    if edges[0] > 0:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    ax.set_xlabel("steps", fontsize=8, color=INK)
    ax.set_ylabel("units", fontsize=8, color=INK)
    ax.legend(frameon=False, fontsize=8)


def _with_endless(name: str, values: Tensor) -> str:
    endless = int(values.isinf().sum())
    return f"{name} ({endless} without end)" if endless else name


def _edges(values: Tensor) -> Tensor:
    """The bins' edges; their logarithms are evenly spaced where the values differ very much."""
    if not len(values):
        return torch.linspace(0.0, 1.0, BINS + 1)
    least, most = float(values.min()), float(values.max())
    if 0 < least < most / WIDE:
        edges = torch.logspace(math.log10(least), math.log10(most), BINS + 1)
    else:
        edges = torch.linspace(0.0, max(most, 1.0), BINS + 1)
    edges[-1] = edges[-1] * 1.0001  # the largest value must not fall out by rounding
    return edges


def _color(number: int) -> str:
    return SERIES[number % len(SERIES)]


def _draw_gates(ax: Any, directions: Sequence[Direction]) -> None:
    from matplotlib.ticker import PercentFormatter

    ax.set_title(
        f"share of the time within {SATURATED:.0%} of an end", loc="left", fontsize=9, color=INK
    )
    named = [
        (f"{gate}\n{direction.layer}{'r' if direction.reverse else ''}", saturation)
        for direction in directions
        for gate, saturation in direction.saturation.items()
    ]
    places = range(len(named))
    low = [float(saturation.low.mean()) for _, saturation in named]
    high = [float(saturation.high.mean()) for _, saturation in named]
    ax.bar(places, low, color=LOW, width=0.7, label="low end")
    ax.bar(places, high, bottom=low, color=HIGH, width=0.7, label="high end")
    ax.set_xticks(places, [name for name, _ in named])
    top = max((a + b for a, b in zip(low, high, strict=True)), default=0.0)
    ax.set_ylim(0, min(1.0, max(0.1, 1.3 * top)))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set_xlabel("gate, and its layer (r: reverse)", fontsize=8, color=INK)
    ax.legend(frameon=False, fontsize=8, loc="upper right")

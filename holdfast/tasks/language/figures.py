"""Pictures of language models: how they learned, and where a text surprises them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from holdfast.tasks import plots

COLUMNS, LINES = 76, 14
# Points of the curve over a whole text.
POINTS = 300


def learning_figure(history: Sequence[dict[str, float]], best_epoch: int, level: str) -> Any:
    """Loss by epoch on the text trained on and on the one watched, the kept epoch marked."""
    figure, (ax,) = plots.new_figure(5.6, 3.8)
    epochs = [row["epoch"] for row in history]
    train, valid = ([row[name] for row in history] for name in ("train_loss", "valid_loss"))
    mark = "." if len(history) < 3 else ""
    ax.plot(epochs, train, color=plots.QUIET, label="training", marker=mark)
    ax.plot(epochs, valid, color=plots.OURS, linewidth=2, label="watched")
    best = history[best_epoch - 1]
    ax.plot(best["epoch"], best["valid_loss"], "o", color=plots.OURS)
    right = best["epoch"] > 0.7 * epochs[-1]
    ax.annotate(
        f"kept: epoch {best['epoch']}, {best['valid_loss']:.3f}",
        (best["epoch"], best["valid_loss"]),
        textcoords="offset points",
        xytext=(0, -13),
        ha="right" if right else "left",
        fontsize=8,
        color=plots.OURS,
    )
    every = train + valid
    low, high = min(every), float(np.quantile(every, 0.97))
    room = 0.12 * max(high - low, 0.02 * abs(low), 1e-6)
    ax.set_ylim(low - 1.5 * room, high + room)
    ax.locator_params(axis="x", integer=True)
    plots.labels(ax, "epoch", f"nats per {level}")
    plots.legend(ax)
    return figure


def surprise_figure(pieces: Sequence[str], log_probs: np.ndarray, level: str) -> Any:
    """The beginning of a text, its tokens darker the more they surprise; below, all of it."""
    bits = -log_probs / math.log(2.0)
    cells = _cells(pieces, bits)
    lines = 1 + max(line for line, *_ in cells)
    figure, (text, course) = plots.new_figure(9.6, 2.2 + 0.24 * lines, rows=2)
    grid = text.get_gridspec()
    grid.set_height_ratios([0.24 * lines + 0.3, 1.7])
    most = max(1.0, float(np.quantile(bits, 0.98)))
    shades = np.full((lines, COLUMNS), np.nan)
    for line, column, sign, value in cells:
        shades[line, column] = value
        dark = value > 0.65 * most
        text.text(
            column,
            line,
            sign,
            ha="center",
            va="center",
            fontsize=7.5,
            family="monospace",
            color="white" if dark else plots.INK,
        )
    text.imshow(shades, aspect="auto", cmap=_shade(), vmin=0.0, vmax=most)
    text.set_axis_off()
    plots.title(text, f"The darker, the less expected: white 0 bits, dark {most:.0f} bits or more")
    _course(course, bits, level)
    return figure


def _cells(pieces: Sequence[str], bits: np.ndarray) -> list[tuple[int, int, str, float]]:
    """Line, column, sign and surprise of the first signs of a text; empty lines take none."""
    found: list[tuple[int, int, str, float]] = []
    line = column = 0
    ended = False
    for piece, value in zip(pieces, bits.tolist(), strict=True):
        for sign in piece:
            if column == COLUMNS or (ended and sign != "\n"):
                line, column = line + 1, 0
            if line == LINES:
                return found
            ended = sign == "\n"
            found.append((line, column, "¶" if ended else sign, value))
            column += 1
    return found


def _course(ax: Any, bits: np.ndarray, level: str) -> None:
    """Means over neighboring tokens, from the beginning to the end."""
    parts = np.array_split(bits, min(POINTS, len(bits)))
    ends = np.cumsum([len(part) for part in parts])
    means = [part.mean() for part in parts]
    ax.plot(ends, means, color=plots.OURS, linewidth=1)
    ax.axhline(float(bits.mean()), color=plots.WEEK, linewidth=1)
    ax.set_ylim(0, None)
    each = len(parts[0])
    what = f"Means of {each:,} {level}s" if each > 1 else f"Every {level}"
    plots.title(ax, f"{what}; the line is the mean of all, {bits.mean():.2f} bits")
    plots.labels(ax, f"{level}s from the beginning", f"bits per {level}")


def _shade() -> Any:
    """From white to the color of ours."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("surprise", ["#ffffff", "#8fc1d9", plots.OURS])

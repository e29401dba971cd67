"""Pictures of a translator: where it looked, and how it learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from holdfast.tasks import plots
from holdfast.tasks.translate.alignment import Alignment

if TYPE_CHECKING:
    from holdfast.tasks.translate.estimator import Translator

# Pieces that a picture has room for, on either side.
MOST_PIECES = 48


def attention_figure(alignments: Sequence[Alignment]) -> Any:
    """A map for each alignment: the source below, the target from top to bottom.

    At most `plots.MOST_PANELS`, and of long texts the beginnings.
    """
    shown = [_cut(one) for one in alignments[: plots.MOST_PANELS]]
    columns = 1 if len(shown) == 1 else 2
    rows = -(-len(shown) // columns)
    widest = max(len(one.source) for one in shown)
    tallest = max(len(one.target) for one in shown)
    width, height = 1.6 + 0.24 * max(12, widest), 1.3 + 0.22 * max(6, tallest)
    figure, axes = plots.new_figure(width * columns, height * rows, rows, columns)
    for ax, one in zip(axes, shown, strict=False):
        _map(ax, one)
    for ax in axes[len(shown) :]:
        ax.set_visible(False)
    return figure


def _map(ax: Any, one: Alignment) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    colors = LinearSegmentedColormap.from_list("attention", ["#ffffff", plots.OURS])
    ax.imshow(one.weights, cmap=colors, vmin=0.0, vmax=1.0, aspect="auto")
    ax.grid(visible=False)
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color(plots.LINE)
    ax.set_xticks(range(len(one.source)), [_plain(p) for p in one.source], rotation=60, ha="right")
    ax.set_yticks(range(len(one.target)), [_plain(p) for p in one.target])
    ax.tick_params(length=0, labelsize=8, colors=plots.INK)
    ax.tick_params(axis="x", rotation=60)
    for label in ax.get_xticklabels():
        label.set_rotation_mode("anchor")


def learning_figure(model: Translator) -> Any:
    """Loss by epoch, in training and on the pairs that are watched, the kept epoch marked."""
    history, best = model.history_, model.history_[model.best_epoch_ - 1]
    scored = "valid_bleu" in history[0]
    figure, axes = plots.new_figure(5.6, 3.8 if not scored else 6.4, 2 if scored else 1)
    epochs = [row["epoch"] for row in history]
    mark = "." if len(epochs) < 3 else ""
    ax = axes[0]
    for member in model.members_:
        rows = member["history"]
        ax.plot(
            [row["epoch"] for row in rows],
            [row["valid_loss"] for row in rows],
            color=plots.OURS,
            linewidth=0.8,
            alpha=0.5,
        )
    train = [row["train_loss"] for row in history]
    ax.plot(epochs, train, color=plots.QUIET, marker=mark, label="training, smoothed")
    _kept(ax, history, best, "valid_loss", "watched pairs")
    plots.labels(ax, "epoch", "nats a piece")
    plots.legend(ax)
    if scored:
        _kept(axes[1], history, best, "valid_bleu", "watched pairs, greedily")
        plots.labels(axes[1], "epoch", "BLEU")
        plots.legend(axes[1])
    for one in axes:
        one.locator_params(axis="x", integer=True)
    return figure


def _kept(ax: Any, history: list[dict[str, float]], best: Any, name: str, label: str) -> None:
    """A line of what was measured, with the kept epoch marked."""
    values = [row[name] for row in history]
    epochs = [row["epoch"] for row in history]
    ax.plot(epochs, values, color=plots.OURS, linewidth=2, label=label)
    ax.plot(best["epoch"], best[name], "o", color=plots.OURS)
    right = best["epoch"] > 0.7 * epochs[-1]
    ax.annotate(
        f"kept: epoch {best['epoch']}",
        (best["epoch"], best[name]),
        textcoords="offset points",
        xytext=(0, -14),
        ha="right" if right else "left",
        fontsize=8,
        color=plots.OURS,
    )
    ax.margins(y=0.2)


def _cut(one: Alignment) -> Alignment:
    if len(one.source) <= MOST_PIECES and len(one.target) <= MOST_PIECES:
        return one
    weights = np.asarray(one.weights)[:MOST_PIECES, :MOST_PIECES]
    return Alignment(one.source[:MOST_PIECES], one.target[:MOST_PIECES], weights)


def _plain(piece: str) -> str:
    """A piece as a label: what the font of pictures would read as mathematics is escaped."""
    return piece.replace("$", r"\$")

"""What answers look like: classes confused, whether probabilities hold, how it learned."""

from __future__ import annotations

from typing import Any

import numpy as np

from holdfast.data.optional import require
from holdfast.tasks import plots
from holdfast.tasks.classify.attribution import Explanation
from holdfast.tasks.classify.estimator import SequenceClassifier
from holdfast.tasks.classify.evaluate import Evaluation

MOST = 20
"""Classes that a picture has room for."""
MOST_NUMBERS = 12
"""Classes up to which counts stand in the cells."""
MOST_CHANNELS = 6


def evaluation_figure(evaluation: Evaluation) -> Any:
    """Which classes are confused, or F1 of each label, and the reliability of probabilities."""
    figure, (left, right) = plots.new_figure(11, 4.6, 1, 2)
    if evaluation.labels.several:
        _draw_labels(left, evaluation)
    else:
        _draw_confusion(left, evaluation)
    _draw_reliability(right, evaluation)
    return figure


def confusion_figure(evaluation: Evaluation) -> Any:
    """Of the examples of each class, how many were taken for which; F1 where labels are several."""
    figure, (ax,) = plots.new_figure(5.6, 4.4)
    draw = _draw_labels if evaluation.labels.several else _draw_confusion
    draw(ax, evaluation)
    return figure


def reliability_figure(evaluation: Evaluation) -> Any:
    """How often answers are right, by how sure they are."""
    figure, (ax,) = plots.new_figure(5.6, 4.4)
    _draw_reliability(ax, evaluation)
    return figure


def learning_figure(model: SequenceClassifier) -> Any:
    """Loss by epoch on training and held-out examples, the kept epoch marked; members thin."""
    figure, (ax, right) = plots.new_figure(11, 3.6, 1, 2)
    best = model.history_[model.best_epoch_ - 1]
    for member in model.members_:
        _line(ax, member["history"], "valid_loss", plots.OURS, 0.8, alpha=0.5)
        _line(right, member["history"], "accuracy", plots.OURS, 0.8, alpha=0.5)
    _line(ax, model.history_, "train_loss", plots.QUIET, 1.5, label="training")
    _line(ax, model.history_, "valid_loss", plots.OURS, 2, label="held out")
    _line(right, model.history_, "accuracy", plots.OURS, 2, label="accuracy")
    _line(right, model.history_, "f1", plots.WEEK, 1.5, label="macro F1")
    for axes, name in ((ax, "valid_loss"), (right, "accuracy")):
        axes.plot(best["epoch"], best[name], "o", color=plots.OURS)
        late = best["epoch"] > 0.7 * len(model.history_)
        axes.annotate(
            f"kept: epoch {best['epoch']}",
            (best["epoch"], best[name]),
            textcoords="offset points",
            xytext=(0, -14),
            ha="right" if late else "left",
            fontsize=8,
            color=plots.OURS,
        )
        axes.margins(y=0.15)
        axes.locator_params(axis="x", integer=True)
        plots.legend(axes)
    plots.labels(ax, "epoch", "loss")
    plots.labels(right, "epoch", "share of held-out examples")
    return figure


def attribution_figure(explanation: Explanation, values: np.ndarray) -> Any:
    """The channels of a sequence `[T, I]`; behind each, what speaks for the label or against."""
    count = min(MOST_CHANNELS, len(explanation.channels))
    numbers = explanation.numbers
    assert numbers is not None
    to_rgba = require("matplotlib.colors", "plots").to_rgba
    figure, axes = plots.new_figure(11, 0.8 + 1.3 * count, count)
    reach = float(np.abs(numbers).max()) or 1.0
    order = np.argsort(-np.abs(numbers).sum(0), kind="stable")[:count]
    for ax, at in zip(axes, order.tolist(), strict=True):
        ax.plot(values[:, at], color=plots.INK, linewidth=1.1, marker=_marker(values))
        bottom, top = ax.get_ylim()
        share = numbers[:, at] / reach
        colors = np.where(share[:, None] > 0, to_rgba(plots.OURS), to_rgba(plots.WEEK))
        colors[:, 3] = 0.7 * np.abs(share)
        where = (-0.5, len(values) - 0.5, bottom, top)
        ax.imshow(colors[None], extent=where, aspect="auto", interpolation="nearest", zorder=0)
        plots.title(ax, f"{explanation.channels[at]}: {numbers[:, at].sum():+.3f}", 8)
    plots.labels(axes[-1], "step")
    return figure


def _marker(values: np.ndarray) -> str | None:
    return "." if len(values) < 40 else None


def _line(
    ax: Any, rows: list[dict[str, float]], name: str, color: str, width: float, **more: Any
) -> None:
    marker = "." if len(rows) < 3 else ""
    ax.plot(
        [row["epoch"] for row in rows],
        [row[name] for row in rows],
        color=color,
        linewidth=width,
        marker=marker,
        **more,
    )


def _draw_confusion(ax: Any, evaluation: Evaluation) -> None:
    """Shares of a class by color, counts as numbers."""
    counts = evaluation.confusion
    kept = np.sort(np.argsort(-counts.sum(1), kind="stable")[:MOST])
    counts = counts[np.ix_(kept, kept)]
    names = [_short(evaluation.labels.classes[at]) for at in kept]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    maps = require("matplotlib.colors", "plots").LinearSegmentedColormap
    colors = maps.from_list("ours", ["#ffffff", plots.OURS])
    ax.imshow(shares, cmap=colors, vmin=0, vmax=1, aspect="auto")
    ax.grid(visible=False)
    if len(kept) <= MOST_NUMBERS:
        for row, column in np.ndindex(*counts.shape):
            color = "white" if shares[row, column] > 0.55 else plots.INK
            text = f"{counts[row, column]:,}"
            ax.text(column, row, text, ha="center", va="center", fontsize=8, color=color)
    turned = max(map(len, names)) * len(names) > 40
    ax.set_xticks(
        range(len(names)), names, rotation=60 if turned else 0, ha="right" if turned else "center"
    )
    ax.yaxis.set_major_formatter("{x}")
    ax.set_yticks(range(len(names)), names)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.tick_params(length=0)
    left = len(evaluation.labels.classes) - len(kept)
    more = f" ({left} smaller classes left out)" if left else ""
    plots.title(ax, f"Which class was taken for which{more}")
    plots.labels(ax, "said", "is")


def _draw_labels(ax: Any, evaluation: Evaluation) -> None:
    """F1 of every label, the most frequent ones."""
    rows = [
        (row.f1, row.support, _short(label))
        for label, row in zip(evaluation.labels.classes, evaluation.rows, strict=True)
        if row is not None
    ]
    rows = sorted(rows, key=lambda row: -row[1])[:MOST][::-1]
    ax.barh(range(len(rows)), [row[0] for row in rows], color=plots.OURS, alpha=0.85)
    ax.yaxis.set_major_formatter("{x}")
    ax.set_yticks(range(len(rows)), [f"{name} ({count:,})" for _, count, name in rows])
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", color=plots.LINE, linewidth=0.6)
    ax.set_xlim(0, 1)
    plots.title(ax, "F1 of every label (examples)")


def _draw_reliability(ax: Any, evaluation: Evaluation) -> None:
    """Dots on the diagonal are as sure as they should be; their size is how many there are."""
    bins = evaluation.bins
    sure, right, share = (
        np.array([getattr(one, name) for one in bins])
        for name in ("confidence", "accuracy", "share")
    )
    ax.plot([0, 1], [0, 1], color=plots.QUIET, linewidth=1, linestyle=(0, (3, 3)))
    ax.plot(sure, right, color=plots.OURS, linewidth=1.2)
    ax.scatter(sure, right, s=20 + 500 * share, color=plots.OURS, alpha=0.6, linewidth=0)
    low = 0.0 if evaluation.labels.several else float(min(sure.min(), right.min(), 0.5))
    ax.set_xlim(max(0.0, low - 0.03), 1.03)
    ax.set_ylim(max(0.0, low - 0.03), 1.05)
    ax.xaxis.set_major_formatter(plots.short)
    error = next(iter(evaluation.scores.values()))["calibration error"]
    plots.title(ax, f"How often answers are right (calibration error {error:.3f})")
    plots.labels(ax, "probability that was said", "share that is right")


def _short(label: Any) -> str:
    text = str(label)
    return text if len(text) <= 16 else text[:15] + "…"

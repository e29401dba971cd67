"""How a tagger learned, which tags it confuses, how sure it is of a sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from holdfast.tasks import plots
from holdfast.tasks.tag.estimator import Tagger
from holdfast.tasks.tag.evaluation import TagEvaluation

MOST_TAGS, MOST_TOKENS = 16, 30


def learning_figure(model: Tagger) -> Any:
    """Loss, and F1 or accuracy on held-out sentences, by epoch; the kept epoch is marked."""
    figure, (left, right) = plots.new_figure(9.6, 3.4, 1, 2)
    history, best = model.history_, model.best_epoch_
    epochs = [row["epoch"] for row in history]
    name = "valid_f1" if "valid_f1" in history[-1] else "valid_accuracy"
    score = [100 * row.get(name, 0.0) for row in history]
    held = [row["valid_loss"] for row in history]
    marker = "." if len(epochs) < 3 else ""
    train = [row["train_loss"] for row in history]
    left.plot(epochs, train, color=plots.QUIET, label="training", marker=marker)
    left.plot(epochs, held, color=plots.OURS, linewidth=2, label="held out", marker=marker)
    left.set_ylim(0, 1.15 * max(held + train[1:] or train))
    plots.labels(left, "epoch", "loss per token")
    plots.legend(left)
    right.plot(epochs, score, color=plots.OURS, linewidth=2, marker=marker)
    right.plot(best, score[best - 1], "o", color=plots.OURS)
    right.annotate(
        f"kept: epoch {best}, {score[best - 1]:.2f}",
        (best, score[best - 1]),
        textcoords="offset points",
        xytext=(0, 7),
        ha="right" if best > 0.5 * epochs[-1] else "left",
        fontsize=8,
        color=plots.OURS,
    )
    low = min(score[len(score) // 4 :])
    room = max(score) - low or 1.0
    right.set_ylim(low - 0.25 * room, max(score) + 0.25 * room)
    kind = "F1 of chunks" if name == "valid_f1" else "accuracy of tokens"
    plots.labels(right, "epoch", f"{kind}, held out")
    for ax in (left, right):
        ax.locator_params(axis="x", integer=True)
    return figure


def confusion_figure(evaluation: TagEvaluation) -> Any:
    """For each frequent true tag, the share of its tokens that got each tag."""
    counts = Counter[str]()
    for (wanted, _), count in evaluation.pairs.items():
        counts[wanted] += count
    wrong = Counter[str]()
    for (wanted, given), count in evaluation.pairs.items():
        if wanted != given:
            wrong[wanted] += count
            wrong[given] += count
    # Tags that are confused matter more than tags that are merely frequent.
    chosen = [tag for tag, _ in wrong.most_common(MOST_TAGS)]
    chosen += [tag for tag, _ in counts.most_common() if tag not in chosen]
    shown = sorted(chosen[:MOST_TAGS], key=lambda tag: -counts[tag])
    others = evaluation.by_tag.keys() - set(shown)
    columns = [*shown, *(["others"] if others else [])]
    shares = np.zeros((len(shown), len(columns)))
    for row, wanted in enumerate(shown):
        for (true, given), count in evaluation.pairs.items():
            if true == wanted:
                column = columns.index(given) if given in shown else len(shown)
                shares[row, column] += count / counts[wanted]
    size = 2.2 + 0.42 * len(columns)
    figure, (ax,) = plots.new_figure(size + 1.4, size)
    _grid(ax, np.sqrt(shares), columns, [f"{tag}  ({counts[tag]:,})" for tag in shown])
    for row, column in zip(*np.nonzero(shares >= 0.0005), strict=True):
        share = 100 * shares[row, column]
        shade = "white" if shares[row, column] > 0.3 else plots.INK
        text = f"{share:.0f}" if share >= 9.95 else f"{share:.1f}"
        ax.text(column, row, text, ha="center", va="center", fontsize=6.5, color=shade)
    plots.labels(ax, "predicted", "true (tokens)")
    plots.title(ax, "percent of the tokens of each true tag")
    return figure


def sentence_figure(
    words: Sequence[str], shares: np.ndarray, classes: Sequence[str], tags: Sequence[str]
) -> Any:
    """A sentence with the probability of every tag at every token; the chosen ones are outlined.

    Arguments:
        shares: `[n, C]`, as `Tagger.predict_proba` gives them.
        classes: the C tags.
        tags: the chosen ones.
    """
    words, shares, tags = words[:MOST_TOKENS], shares[:MOST_TOKENS], tags[:MOST_TOKENS]
    there = [c for c, name in enumerate(classes) if shares[:, c].max() > 0.02 or name in tags]
    there.sort(key=lambda c: -float(shares[:, c].sum()))
    names = [classes[c] for c in there]
    picture = shares[:, there].T
    figure, (ax,) = plots.new_figure(1.6 + 0.52 * len(words), 1.5 + 0.32 * len(names))
    _grid(ax, picture, words, names)
    from matplotlib.patches import Rectangle

    for column, tag in enumerate(tags):
        if tag in names:
            corner = column - 0.5, names.index(tag) - 0.5
            ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=plots.WEEK, linewidth=1.6))
    for row, column in zip(*np.nonzero(picture >= 0.02), strict=True):
        shade = "white" if picture[row, column] > 0.55 else plots.INK
        text = f"{100 * picture[row, column]:.0f}"
        ax.text(column, row, text, ha="center", va="center", fontsize=6.5, color=shade)
    plots.title(ax, "probability of each tag in percent; chosen ones are outlined", 9)
    return figure


def _grid(ax: Any, values: np.ndarray, columns: Sequence[str], rows: Sequence[str]) -> None:
    """Shares between 0 and 1 as shades, with names on both axes."""
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("ours", ["#ffffff", plots.OURS])
    ax.imshow(values, cmap=shades, vmin=0, vmax=1, aspect="auto")
    ax.grid(False)
    ax.set_xticks(
        range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor", fontsize=8
    )
    ax.set_yticks(range(len(rows)), rows, fontsize=8)
    for side in ax.spines.values():
        side.set_visible(False)
    ax.tick_params(length=0)

"""The score table: a classifier beside the simplest things, whoever wins."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from holdfast.data.examples import Examples, is_table
from holdfast.errors import BaselineWarning
from holdfast.tasks.classify.baselines import FREQUENT, LinearBaseline, frequent
from holdfast.tasks.classify.calibration import Bin, reliability
from holdfast.tasks.classify.estimator import SequenceClassifier
from holdfast.tasks.classify.labels import Labels
from holdfast.tasks.classify.metrics import SCORES, OfClass, all_scores, by_class, confusion
from holdfast.tasks.terminal import aligned

OURS = "Holdfast"
NO_TRAINING = "give the training data (train=, --train) to have a logistic regression beside it"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores by method, ours first, and what is behind them.

    found: our probabilities `[n, K]`. said, truth: classes `(n,)`, or labels `(n, K)`. rows: the
    scores of each class, None for one that does not occur.
    """

    scores: dict[str, dict[str, float]]
    labels: Labels
    examples: Examples
    found: np.ndarray
    said: np.ndarray
    truth: np.ndarray
    rows: tuple[OfClass | None, ...]
    bins: tuple[Bin, ...]
    notes: tuple[str, ...] = ()

    @property
    def margin(self) -> float:
        """Half the width of the 95 % interval of our accuracy, by the number of examples."""
        share = self.scores[OURS]["accuracy"]
        return 1.96 * float(np.sqrt(share * (1 - share) / len(self.truth)))

    @property
    def confusion(self) -> np.ndarray:
        """How often each class (row) was taken for each (column); of one class each only."""
        return confusion(self.said, self.truth, len(self.labels.classes))

    def table(self) -> str:
        """The scores as a Markdown table."""
        lines = [f"| method | {' | '.join(SCORES)} |", "|---|" + "---:|" * len(SCORES)]
        for method, row in self.scores.items():
            lines.append(f"| {method} | {' | '.join(show(name, row[name]) for name in SCORES)} |")
        return "\n".join(lines)

    def text(self) -> str:
        """The scores, those of each class, and which are confused, as tables for terminals."""
        methods = [[m, *(show(n, row[n]) for n in SCORES)] for m, row in self.scores.items()]
        parts = [aligned(["method", *SCORES], methods)]
        margin = f"accuracy ± {100 * self.margin:.1f} points (95 %, {len(self.truth)} examples)"
        parts.append("\n".join([margin, *(f"{note}" for note in self.notes)]))
        classes = [
            [
                str(label),
                *(f"{100 * v:.1f}" for v in (row.precision, row.recall, row.f1)),
                str(row.support),
            ]
            for label, row in zip(self.labels.classes, self.rows, strict=True)
            if row is not None
        ]
        parts.append(aligned(["class", "precision", "recall", "F1", "examples"], classes))
        if not self.labels.several and len(self.labels.classes) <= 12:
            names = [str(label) for label in self.labels.classes]
            counts = [[n, *map(str, row)] for n, row in zip(names, self.confusion, strict=True)]
            parts.append(aligned(["is \\ said", *names], counts))
        return "\n\n".join(parts)

    @property
    def verdict(self) -> str:
        """The sentence of a warning where a baseline is at least as good, else nothing.

        Compared by accuracy, or by macro F1 where labels are several.
        """
        score = "macro F1" if self.labels.several else "accuracy"
        own, *others = self.scores.items()
        if not others:
            return ""
        name, row = max(others, key=lambda one: one[1][score])
        if row[score] < own[1][score]:
            return ""
        return (
            f"a baseline is at least as good: {name} has {score} {show(score, row[score])} against "
            f"{show(score, own[1][score])} of this model; take it, or give more examples or other "
            "settings"
        )


def show(name: str, value: float) -> str:
    """Shares in percent, losses with four digits.

    >>> show("accuracy", 0.8212), show("log loss", 0.41234)
    ('82.12', '0.4123')
    """
    return f"{100 * value:.2f}" if name in ("accuracy", "macro F1") else f"{value:.4f}"


def evaluate(model: SequenceClassifier, X: Any, y: Any = None, *, train: Any = None) -> Evaluation:
    """Scores of `model` on examples that it was not trained on, beside the simplest things.

    >>> texts, labels = ["good film", "fine", "bad film", "poor"] * 9, ["+", "+", "-", "-"] * 9
    >>> model = SequenceClassifier(hidden_size=4, max_epochs=1).fit(texts, labels)
    >>> list(evaluate(model, texts, labels, train=(texts, labels)).scores)
    ['Holdfast', 'TF-IDF + logistic regression', 'most frequent class']

    `train` are the examples of training, as a table or a pair of X and y: a logistic regression is
    fitted on all of them, on TF-IDF of texts, or on mean, standard deviation, least and largest
    value of numbers. The most frequent class needs nothing but the model. Warns with
    `BaselineWarning` when one of them is at least as good.

    Errors: `DataError` for labels that training has not seen.
    """
    examples, given = model.read_labeled(X, y)
    labels = model.labels_
    truth = labels.encode(given).numpy()
    truth = truth.astype(np.int64)
    found = model.predict_proba(examples)
    said = model.choose(found).astype(np.int64)
    scores = {OURS: all_scores(found, said, truth)}
    count = len(labels.classes)
    if train is not None:
        pair = (train, None) if is_table(train) else train
        theirs, known = model.read_labeled(*pair)
        baseline = LinearBaseline(labels.several).fit(theirs, labels.encode(known))
        chances = baseline.predict_proba(examples, count)
        scores[baseline.name] = all_scores(chances, _said(chances, labels), truth)
    counts = np.array([n for _, n in model.data_["counts"]], dtype=np.float64)
    chances = frequent(counts, model.data_["examples"], len(examples), labels.several)
    scores[FREQUENT] = all_scores(chances, _said(chances, labels), truth)
    result = Evaluation(
        scores=scores,
        labels=labels,
        examples=examples,
        found=found,
        said=said,
        truth=truth,
        rows=tuple(by_class(said, truth, count)),
        bins=tuple(_bins(found, truth)),
        notes=() if train is not None else (NO_TRAINING,),
    )
    if result.verdict:
        warnings.warn(result.verdict, BaselineWarning, stacklevel=2)
    return result


def _said(chances: np.ndarray, labels: Labels) -> np.ndarray:
    return (chances >= 0.5).astype(np.int64) if labels.several else chances.argmax(1)


def _bins(found: np.ndarray, truth: np.ndarray) -> list[Bin]:
    return reliability(torch.from_numpy(found), torch.from_numpy(truth))

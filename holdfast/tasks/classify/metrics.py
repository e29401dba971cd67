"""How good answers are: accuracy, F1 by class, log loss, which class is taken for which."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from holdfast.tasks.classify.calibration import calibration_error

SCORES = ("accuracy", "macro F1", "log loss", "calibration error")
SMALLEST = 1e-15


@dataclass(frozen=True)
class OfClass:
    """One class or label: precision, recall, F1, and how many examples have it."""

    precision: float
    recall: float
    f1: float
    support: int


def all_scores(found: np.ndarray, said: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Every score of probabilities `[n, K]` and answers, beside the truth, by name.

    Answers and truth are classes `(n,)`, or labels `(n, K)` where they are several. Macro F1 is the
    mean over the classes that occur in either.
    """
    several = truth.ndim == 2
    right = (said == truth).all(1) if several else said == truth
    rows = [one for one in by_class(said, truth, found.shape[1]) if one is not None]
    targets = torch.from_numpy(truth.astype(np.float32) if several else truth)
    return {
        "accuracy": float(right.mean()),
        "macro F1": float(np.mean([one.f1 for one in rows])) if rows else 0.0,
        "log loss": log_loss(found, truth),
        "calibration error": calibration_error(torch.from_numpy(found), targets),
    }


def log_loss(found: np.ndarray, truth: np.ndarray) -> float:
    """The mean of minus the logarithm of what the truth was given, natural.

    >>> round(log_loss(np.array([[0.5, 0.5], [0.75, 0.25]]), np.array([0, 1])), 4)
    1.0397
    """
    if truth.ndim == 2:
        given = np.where(truth > 0, found, 1 - found)
    else:
        given = found[np.arange(len(truth)), truth]
    return float(-np.log(np.clip(given, SMALLEST, 1)).mean())


def by_class(said: np.ndarray, truth: np.ndarray, count: int) -> list[OfClass | None]:
    """The scores of each of `count` classes; None for one that occurs in neither."""
    if truth.ndim == 1:
        said, truth = (np.eye(count)[one] for one in (said, truth))
    found: list[OfClass | None] = []
    for given, wanted in zip(said.T, truth.T, strict=True):
        both, yes, there = float((given * wanted).sum()), float(given.sum()), float(wanted.sum())
        if not yes and not there:
            found.append(None)
            continue
        precision = both / yes if yes else 0.0
        recall = both / there if there else 0.0
        found.append(OfClass(precision, recall, 2 * both / (yes + there), int(there)))
    return found


def confusion(said: np.ndarray, truth: np.ndarray, count: int) -> np.ndarray:
    """How often each class (row) was taken for each (column), `(K, K)`.

    >>> confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    found = np.zeros((count, count), dtype=np.int64)
    np.add.at(found, (truth, said), 1)
    return found

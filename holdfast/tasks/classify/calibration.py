"""Probabilities that mean what they say: one temperature, and how far off they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

BINS = 15
FEWEST = 20
"""Held-out examples from which a temperature is measured."""


@dataclass(frozen=True)
class Calibration:
    """The temperature by which scores are divided, and the calibration error before and after.

    The error after it is measured on the half of the held-out examples that the temperature was not
    fitted to, once for each half. NaN where there were too few.
    """

    temperature: float = 1.0
    before: float = float("nan")
    after: float = float("nan")
    examples: int = 0

    def as_json(self) -> dict[str, Any]:
        """For a model's configuration."""
        return {name: None if value != value else value for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Calibration:
        """What `as_json` made."""
        known: dict[str, Any] = {n: float("nan") if v is None else v for n, v in found.items()}
        return cls(**known)


def calibrate(scores: Tensor, targets: Tensor, seed: int = 0) -> Calibration:
    """Fit the temperature on held-out examples: scores `[n, K]`, targets `[n]` or `[n, K]`.

    Source: Guo, Pleiss, Sun & Weinberger 2017, section 4.2.
    """
    count = len(scores)
    if count < FEWEST:
        return Calibration(examples=count)
    before = calibration_error(probabilities(scores, targets.dim() == 2), targets)
    order = torch.from_numpy(np.random.default_rng([seed, 1]).permutation(count))
    halves = order[: count // 2], order[count // 2 :]
    found = torch.zeros_like(scores)
    for fitted, measured in (halves, halves[::-1]):
        warmth = temperature(scores[fitted], targets[fitted])
        found[measured] = scores[measured] / warmth
    after = calibration_error(probabilities(found, targets.dim() == 2), targets)
    return Calibration(temperature(scores, targets), before, after, count)


def temperature(scores: Tensor, targets: Tensor) -> float:
    """The temperature with the least log loss, from 1/20 to 20.

    >>> scores = torch.tensor([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 0.0]])
    >>> round(temperature(scores, torch.tensor([0, 0, 1, 1])), 2)
    8.19
    """
    low, high = np.log(1 / 20), np.log(20)
    wide = scores.double()

    def loss(at: float) -> float:
        divided = wide / float(np.exp(at))
        if targets.dim() == 1:
            return float(functional.cross_entropy(divided, targets))
        return float(functional.binary_cross_entropy_with_logits(divided, targets.double()))

    # The loss is convex in 1 / temperature, so it has one minimum.
    golden = (np.sqrt(5) - 1) / 2
    one, two = high - golden * (high - low), low + golden * (high - low)
    left, right = loss(one), loss(two)
    for _ in range(60):
        if left <= right:
            high, two, right = two, one, left
            one = high - golden * (high - low)
            left = loss(one)
        else:
            low, one, left = one, two, right
            two = low + golden * (high - low)
            right = loss(two)
    return float(np.exp((low + high) / 2))


def probabilities(scores: Tensor, several: bool) -> Tensor:
    """Scores `[n, K]` as probabilities: of one class out of all, or of every label alone."""
    return scores.sigmoid() if several else scores.softmax(1)


def calibration_error(chances: Tensor, targets: Tensor, bins: int = BINS) -> float:
    """The expected calibration error: confidence less accuracy, by bins, weighed by their size.

    Of classes the likeliest one counts, of several labels every one.

    >>> calibration_error(torch.tensor([[0.75, 0.25], [0.75, 0.25]]), torch.tensor([0, 1]))
    0.25
    """
    return round(sum(abs(b.gap) * b.share for b in reliability(chances, targets, bins)), 10)


@dataclass(frozen=True)
class Bin:
    """Answers of like confidence: the share of all, their mean confidence, how many are right."""

    share: float
    confidence: float
    accuracy: float

    @property
    def gap(self) -> float:
        """By how much they are too sure."""
        return self.confidence - self.accuracy


def reliability(chances: Tensor, targets: Tensor, bins: int = BINS) -> list[Bin]:
    """The bins of probabilities `[n, K]`, those without an answer left out."""
    chances = chances.double()
    if targets.dim() == 1:
        sure, chosen = chances.max(1)
        right = (chosen == targets).double()
    else:
        sure, right = chances.flatten(), targets.flatten().double()
    place = (sure * bins).ceil().long().clamp(1, bins) - 1
    found = []
    for number in range(bins):
        inside = place == number
        if inside.any():
            share = float(inside.double().mean())
            found.append(Bin(share, float(sure[inside].mean()), float(right[inside].mean())))
    return found


def best_thresholds(chances: Tensor, targets: Tensor) -> list[float]:
    """For every label the threshold with the best F1 on held-out examples; 0.5 where none helps."""
    found = []
    for column, wanted in zip(chances.double().T, targets.double().T, strict=True):
        order = column.argsort(descending=True, stable=True)
        sure, right = column[order], wanted[order]
        total = float(right.sum())
        count = torch.arange(1, len(sure) + 1, dtype=torch.float64)
        f1 = 2 * right.cumsum(0) / (count + total)
        # A threshold lies between two different probabilities.
        last = torch.cat([sure[:-1] != sure[1:], torch.tensor([True])])
        f1 = torch.where(last, f1, -1.0)
        if total == 0 or float(f1.max()) <= 0:
            found.append(0.5)
            continue
        at = int(f1.argmax())
        below = float(sure[at + 1]) if at + 1 < len(sure) else 0.0
        found.append((float(sure[at]) + below) / 2)
    return found

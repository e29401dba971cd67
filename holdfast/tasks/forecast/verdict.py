"""Whether a simpler forecast is better, and a warning where one is."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

from holdfast.errors import BaselineWarning

# Compared by the first of these that is a number for all.
COMPARED = ("MASE", "MAE")


@dataclass(frozen=True)
class Verdict:
    """The best baseline beside the model, by one score."""

    score: str
    baseline: str
    theirs: float
    ours: float

    @property
    def beaten(self) -> bool:
        """Whether the baseline is at least as good."""
        return self.theirs <= self.ours

    def sentence(self) -> str:
        """What was compared, and what to do about it."""
        numbers = f"{self.score} {self.theirs:.4g} against {self.ours:.4g}"
        if self.beaten:
            return (
                f"a baseline is at least as good: {self.baseline} has {numbers} of this model; "
                'take the baseline, or give more rows, other settings or model="auto"'
            )
        gain = 100 * (1 - self.ours / self.theirs) if self.theirs else 0.0
        return f"{gain:.0f} % below the best baseline, {self.baseline} ({numbers})"


def judge(scores: dict[str, dict[str, float]]) -> Verdict | None:
    """The verdict on `scores` by method, the model's own first; None where nothing compares.

    >>> judge({"ours": {"MAE": 3.0}, "naive": {"MAE": 2.0}}).beaten
    True
    """
    own, *_ = scores.values()
    others = list(scores.items())[1:]
    for score in COMPARED:
        if not math.isfinite(own.get(score, math.nan)):
            continue
        found = [(row.get(score, math.nan), name) for name, row in others]
        found = [(value, name) for value, name in found if math.isfinite(value)]
        if found:
            theirs, name = min(found)
            return Verdict(score, name, theirs, own[score])
    return None


def warn_if_beaten(scores: dict[str, dict[str, float]]) -> None:
    """Warn with `BaselineWarning` where a baseline is at least as good as the model."""
    verdict = judge(scores)
    if verdict is not None and verdict.beaten:
        warnings.warn(verdict.sentence(), BaselineWarning, stacklevel=3)

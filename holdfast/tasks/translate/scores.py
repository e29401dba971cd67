"""BLEU and chrF by sacrebleu, with the signatures that say how they were counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.data.optional import require


@dataclass(frozen=True)
class Score:
    """One score of a corpus: its name, its value, and sacrebleu's signature."""

    name: str
    score: float
    signature: str

    def __str__(self) -> str:
        return f"{self.name} {self.score:.2f}  ({self.signature})"


@dataclass(frozen=True)
class Evaluation:
    """How good translations are.

    bleu, chrf: with their signatures. perplexity: of a piece of the true targets, end marks
    included; comparable only between models with the same pieces. pairs: how many were scored.
    said: the translations, in the order of the sources.
    """

    bleu: Score
    chrf: Score
    perplexity: float
    pairs: int
    said: tuple[str, ...]

    def text(self) -> str:
        """All of it, a line each."""
        return f"{self.bleu}\n{self.chrf}\nperplexity {self.perplexity:.2f} a piece"

    def table(self) -> str:
        """The same as a table in Markdown."""
        rows = [f"| {one.name} | {one.score:.2f} | `{one.signature}` |" for one in self.scores]
        rows.append(f"| perplexity of a piece | {self.perplexity:.2f} | |")
        return "\n".join(["| | | signature |", "|---|---:|---|", *rows])

    @property
    def scores(self) -> tuple[Score, Score]:
        """BLEU and chrF."""
        return self.bleu, self.chrf


def bleu(said: Sequence[str], wanted: Sequence[str], *, lower_case: bool = False) -> Score:
    """BLEU of texts beside one reference each, with the tokens 13a.

    >>> bleu(["the cat sat on the mat"], ["the cat sat on the mat"]).score
    100.0

    Arguments:
        lower_case: count letters as equal that differ in their case alone.

    Errors: `MissingExtraError` without the extra `text`.
    Source: Papineni et al. 2002; Post 2018 for the signature.
    """
    return _score("BLEU", said, wanted, {"lowercase": lower_case})


def chrf(said: Sequence[str], wanted: Sequence[str]) -> Score:
    """chrF of texts beside one reference each: F2 of n-grams of characters (Popović 2015)."""
    return _score("CHRF", said, wanted, {})


def _score(name: str, said: Sequence[str], wanted: Sequence[str], options: dict[str, Any]) -> Score:
    metric = getattr(require("sacrebleu.metrics", "text"), name)(**options)
    found = metric.corpus_score(list(said), [list(wanted)])
    shown = "chrF" if name == "CHRF" else name
    # Rounded, so that what is the same corpus is the same number.
    return Score(shown, round(float(found.score), 9), str(metric.get_signature()))

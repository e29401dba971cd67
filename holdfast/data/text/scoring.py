"""Precision, recall and F1 of chunks, by conlleval's rules or strictly by a scheme."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.data.text.schemes import find_chunks, find_whole_chunks
from holdfast.errors import DataError


@dataclass(frozen=True)
class Score:
    """Counts of chunks, and what follows from them.

    right: chunks found whose tokens and type are right. found: chunks found. there: true chunks.
    """

    right: int
    found: int
    there: int

    @property
    def precision(self) -> float:
        """The share of what was found that is right; 0 where nothing was."""
        return self.right / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """The share of what is there that was found; 0 where nothing is."""
        return self.right / self.there if self.there else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        return 2 * self.right / (self.found + self.there) if self.found + self.there else 0.0


@dataclass(frozen=True)
class ChunkScores:
    """Scores over all types and for each; tokens and how many of them have the right tag.

    Printed, it is the table that conlleval prints.
    """

    overall: Score
    by_type: dict[str, Score]
    tokens: int
    right_tokens: int

    @property
    def accuracy(self) -> float:
        """The share of tokens with the right tag; 0 without tokens."""
        return self.right_tokens / self.tokens if self.tokens else 0.0

    def __str__(self) -> str:
        whole = self.overall
        lines = [
            f"processed {self.tokens} tokens with {whole.there} phrases; found: {whole.found} "
            f"phrases; correct: {whole.right}.",
            f"accuracy: {self.accuracy:7.2%}; {_percentages(whole)}",
        ]
        for kind, score in self.by_type.items():
            lines.append(f"{kind:>17}: {_percentages(score)}  {score.found}")
        return "\n".join(lines)


def score_chunks(
    truth: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    *,
    scheme: str | None = None,
) -> ChunkScores:
    """How well predicted tags find the chunks of the true ones, overall and by type.

    >>> truth = [["B-NP", "I-NP", "O"], ["B-VP", "B-NP"]]
    >>> predicted = [["B-NP", "I-NP", "O"], ["I-VP", "O"]]
    >>> scores = score_chunks(truth, predicted)
    >>> scores.overall.precision, scores.overall.f1
    (1.0, 0.8)
    >>> score_chunks(truth, predicted, scheme="BIO").overall.f1  # I-VP begins no chunk
    0.5

    A chunk is right if its first token, its last and its type are. Overall figures are over all
    chunks, not means over types.

    Arguments:
        truth: tags of each sentence, in any scheme.
        predicted: as many.
        scheme: None for conlleval's rules, by which any tags make chunks. With `"BIO"` or `"BIOES"`
            only chunks count that are written as the scheme wants it, on both sides.

    Errors: `DataError` for unequal numbers of sentences or tokens, and for tags of no chunk;
    `ValueError` for an unknown scheme.
    Source: the rules of conlleval, Tjong Kim Sang & Buchholz 2000.
    """
    if len(truth) != len(predicted):
        raise DataError(f"got {len(predicted)} predicted sentences for {len(truth)} true ones")
    right, found, there = Counter[str](), Counter[str](), Counter[str]()
    tokens = same = 0
    for number, (wanted, given) in enumerate(zip(truth, predicted, strict=True)):
        if len(wanted) != len(given):
            raise DataError(
                f"sentence {number}: got {len(given)} predicted tags for {len(wanted)} true ones"
            )
        tokens += len(wanted)
        same += sum(map(str.__eq__, wanted, given))
        mine, theirs = (
            set(find_chunks(tags) if scheme is None else find_whole_chunks(tags, scheme))
            for tags in (given, wanted)
        )
        found.update(chunk.kind for chunk in mine)
        there.update(chunk.kind for chunk in theirs)
        right.update(chunk.kind for chunk in mine & theirs)
    kinds = sorted(found.keys() | there.keys())
    return ChunkScores(
        overall=Score(right.total(), found.total(), there.total()),
        by_type={kind: Score(right[kind], found[kind], there[kind]) for kind in kinds},
        tokens=tokens,
        right_tokens=same,
    )


def _percentages(score: Score) -> str:
    return (
        f"precision: {score.precision:7.2%}; recall: {score.recall:7.2%}; FB1: "
        f"{100 * score.f1:6.2f}"
    )

"""How good tags are: of chunks and of tokens, by type, of words that training knew or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from holdfast.data.text import ChunkScores, score_chunks
from holdfast.tasks.tag.encoded import UNKNOWN, Lexicon
from holdfast.tasks.tag.labels import Labels, is_chunks
from holdfast.tasks.tag.sentences import Sentences
from holdfast.tasks.terminal import aligned


@dataclass(frozen=True)
class Share:
    """Of some tokens, how many have the right tag."""

    right: int
    tokens: int

    @property
    def accuracy(self) -> float:
        """The share of them; 0 without tokens."""
        return self.right / self.tokens if self.tokens else 0.0


@dataclass(frozen=True)
class TagEvaluation:
    """Scores of predicted tags beside the true ones.

    chunks: by conlleval's rules, None where tags are no chunks. strict: only chunks that are
    written as the `scheme` wants them, None with IOB1, in which all are, and where tags are no
    chunks. known, unknown: of words that training has seen or not. pairs: how often each pair of a
    true and a predicted tag occurs. new: true tags that training has never seen, with counts.
    Tokens whose true tag is not known do not count.
    """

    chunks: ChunkScores | None
    strict: ChunkScores | None
    scheme: str | None
    known: Share
    unknown: Share
    pairs: Counter[tuple[str, str]]
    new: Counter[str]
    truth: list[list[str]]
    predicted: list[list[str]]

    @property
    def tokens(self) -> int:
        """How many tokens were scored."""
        return self.known.tokens + self.unknown.tokens

    @property
    def accuracy(self) -> float:
        """The share of tokens with the right tag."""
        return Share(self.known.right + self.unknown.right, self.tokens).accuracy

    @property
    def score(self) -> float:
        """F1 of chunks by conlleval's rules where tags are chunks, else the accuracy."""
        return self.accuracy if self.chunks is None else self.chunks.overall.f1

    @cached_property
    def by_tag(self) -> dict[str, tuple[int, int, int]]:
        """For each tag how often it was right, predicted, and true."""
        right, found, there = Counter[str](), Counter[str](), Counter[str]()
        for (wanted, given), count in self.pairs.items():
            there[wanted] += count
            found[given] += count
            right[wanted] += count * (wanted == given)
        return {tag: (right[tag], found[tag], there[tag]) for tag in sorted(there | found)}

    def text(self) -> str:
        """The table of conlleval, or one of tags; then what else was seen."""
        parts = [self._by_tag() if self.chunks is None else str(self.chunks)]
        if self.strict is not None:
            whole = self.strict.overall
            parts.append(
                f"strictly by {self.scheme}: precision: {whole.precision:7.2%}; recall: "
                f"{whole.recall:7.2%}; FB1: {100 * whole.f1:6.2f}"
            )
        parts.append(
            f"words seen in training: {self.known.accuracy:.2%} of {self.known.tokens} tokens "
            f"right; others: {self.unknown.accuracy:.2%} of {self.unknown.tokens}"
        )
        if self.new:
            listed = ", ".join(f"{tag} ({count})" for tag, count in self.new.most_common(12))
            parts.append(f"tags that training never saw, all of them missed: {listed}")
        return "\n".join(parts)

    def _by_tag(self) -> str:
        rows = []
        for tag, (right, found, there) in self.by_tag.items():
            shares = (right / found if found else 0.0, right / there if there else 0.0)
            f1 = 2 * right / (found + there)
            rows.append([tag, *(f"{share:.2%}" for share in shares), f"{100 * f1:.2f}", str(there)])
        table = aligned(["tag", "precision", "recall", "F1", "tokens"], rows)
        return f"accuracy: {self.accuracy:.2%} of {self.tokens} tokens\n{table}"


def compare(
    sentences: Sentences, predicted: Sequence[Sequence[str]], lexicon: Lexicon
) -> TagEvaluation:
    """The scores of predicted tags of sentences whose tags are known."""
    truth = sentences.known()
    labels = lexicon.labels
    pairs, new = Counter[tuple[str, str]](), Counter[str]()
    counts = {True: [0, 0], False: [0, 0]}
    ids, normal, outer = lexicon.words.ids, lexicon.normal, _outer(labels)
    for words, row, found in zip(sentences.words, truth, predicted, strict=True):
        for word, wanted, given in zip(words, row, found, strict=True):
            if wanted is None:
                continue
            pairs[wanted, given] += 1
            new[wanted] += wanted not in outer
            count = counts[ids.get(normal(word), UNKNOWN) != UNKNOWN]
            count[0] += wanted == given
            count[1] += 1
    whole = [[tag or "O" for tag in row] for row in truth]
    given = [_where_known(*pair) for pair in zip(predicted, truth, strict=True)]
    chunks = strict = None
    if labels.scheme is not None or (labels.chunked and is_chunks(whole)):
        chunks = score_chunks(whole, given)
    if labels.scheme in ("BIO", "BIOES"):
        strict = score_chunks(whole, given, scheme=labels.scheme)
    return TagEvaluation(
        chunks=chunks,
        strict=strict,
        scheme=labels.scheme,
        known=Share(*counts[True]),
        unknown=Share(*counts[False]),
        pairs=pairs,
        new=+new,
        truth=whole,
        predicted=given,
    )


def _where_known(predicted: Sequence[str], truth: Sequence[str | None]) -> list[str]:
    """Predicted tags, and O where the true one is not known."""
    return [tag if wanted else "O" for tag, wanted in zip(predicted, truth, strict=True)]


def _outer(labels: Labels) -> set[str]:
    """Every tag that may come out."""
    found = set(labels.outer)
    if labels.scheme == "IOB1":
        found |= {f"{prefix}{tag[1:]}" for tag in found if tag != "O" for prefix in "BI"}
    return found

"""Tags for sentences: chunk by chunk, the chunks in batches by length, results in their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.errors import DataError
from holdfast.tasks.tag.encoded import Batch, Encoded, Lexicon
from holdfast.tasks.tag.net import TagNet
from holdfast.tasks.tag.sentences import Layout, Sentences, as_sentences
from holdfast.tasks.tag.training import even_batches

CHUNK = 20_000
"""Tokens that are tagged together; streams hold no more, but for a sentence that is longer."""


@dataclass
class Tagged:
    """A sentence with its tags.

    confidence: the probability of each tag, over all sequences of tags, if it was asked for. best:
    the most likely sequences with their probabilities, the likeliest first, if they were asked for.
    """

    words: list[str]
    tags: list[str]
    confidence: list[float] | None = None
    best: list[tuple[list[str], float]] | None = None


@dataclass(frozen=True)
class Wanted:
    """What is computed of a sentence besides its tags."""

    confidence: bool = False
    marginals: bool = False
    n_best: int = 0


@dataclass(frozen=True, eq=False)
class Decoder:
    """A trained network on texts."""

    net: TagNet
    lexicon: Lexicon

    @torch.no_grad()
    def run(self, sentences: Sentences, wanted: Wanted) -> Iterator[tuple[Tagged, Any]]:
        """Each sentence with its tags, and the marginals of the classes, `[n, C]`, or None."""
        start = 0
        while start < len(sentences):
            end, tokens = start, 0
            while end < len(sentences) and (end == start or tokens < CHUNK):
                tokens += len(sentences.words[end])
                end += 1
            yield from self._chunk(sentences[start:end], wanted)
            start = end

    def stream(self, items: Iterable[Any], layout: Layout, wanted: Wanted) -> Iterator[Tagged]:
        """Sentences that come one by one, a chunk of them at a time."""
        gathered: list[Any] = []
        tokens = 0
        for item in items:
            gathered.append(item)
            tokens += len(item[layout.word]) if isinstance(item, Mapping) else len(item)
            if tokens >= CHUNK:
                yield from (one for one, _ in self.run(gather(gathered, layout), wanted))
                gathered, tokens = [], 0
        yield from (one for one, _ in self.run(gather(gathered, layout), wanted))

    def _chunk(self, sentences: Sentences, wanted: Wanted) -> list[tuple[Tagged, Any]]:
        encoded = self.lexicon.encode(sentences)
        found: list[Any] = [None] * len(sentences)
        spelled = self._spell(encoded)
        for numbers in even_batches(encoded):
            batch = encoded.batch(numbers)
            forms = None
            if spelled is not None and len(encoded.tokens):
                forms = spelled[torch.from_numpy(encoded.forms_of(numbers))]
            for number, result in zip(numbers, self._batch(batch, forms, wanted), strict=True):
                found[number] = result
        return [
            (Tagged(words, *told), marginals)
            for words, (told, marginals) in zip(sentences.words, found, strict=True)
        ]

    def _spell(self, encoded: Encoded) -> Tensor | None:
        """The vectors of all distinct words from their characters, `[F, C]`."""
        if self.net.characters is None or not len(encoded.forms.names):
            return None
        sizes = np.diff(encoded.forms.starts)
        order = np.argsort(-sizes, kind="stable")
        found = torch.empty(len(order), self.net.characters.output_size)
        for part in np.array_split(order, max(1, len(order) // 512)):
            characters, lengths = (torch.from_numpy(a) for a in encoded.forms.spelled(part))
            vectors = self.net.spell(characters, lengths)
            assert vectors is not None
            found[torch.from_numpy(part)] = vectors
        return found

    def _batch(self, batch: Batch, spelled: Tensor | None, wanted: Wanted) -> Iterator[Any]:
        net, labels = self.net, self.lexicon.labels
        scores = net(batch, spelled)
        paths = net.decode(scores, batch.lengths).T.numpy()  # [B, T]
        shares = None
        if wanted.confidence or wanted.marginals:
            shares = net.marginals(scores, batch.lengths).transpose(0, 1).numpy()  # [B, T, K]
        several = self._several(scores, batch, wanted.n_best)
        whole = net.crf is not None
        for row, length in enumerate(batch.lengths.tolist()):
            ids = paths[row, :length]
            tags = labels.outward(ids, whole)
            folded = None if shares is None else labels.fold(shares[row, :length])
            sure = None
            if folded is not None and wanted.confidence:
                sure = folded[np.arange(length), labels.folds[ids]].tolist()
            best = None if several is None else self._best(several, row, length)
            yield (tags, sure, best), folded if wanted.marginals else None

    def _several(self, scores: Tensor, batch: Batch, n: int) -> tuple[Any, Any] | None:
        if not n:
            return None
        if self.net.crf is None:
            raise DataError('n-best sequences need output="crf"; this model was trained without')
        found = self.net.crf.n_best(scores, n, lengths=batch.lengths)
        return found.tags.numpy(), found.log_probs.exp().numpy()

    def _best(self, found: tuple[Any, Any], row: int, length: int) -> list[tuple[list[str], float]]:
        tags, shares = found
        return [
            (self.lexicon.labels.outward(path[:length, row], whole=True), float(share[row]))
            for path, share in zip(tags, shares, strict=True)
            if share[row] > 0 or not length
        ][: None if length else 1]


def gather(items: list[Any], layout: Layout) -> Sentences:
    """Sentences from lists of tokens, or from mappings of columns."""
    if not layout.inputs:
        rows = [item[layout.word] if isinstance(item, Mapping) else item for item in items]
        return as_sentences(rows, layout)
    names = (layout.word, *layout.inputs)
    for item in items:
        if not isinstance(item, Mapping):
            raise DataError(
                f"this tagger reads {', '.join(map(repr, names))}; give each sentence as a mapping "
                "of these"
            )
    return as_sentences({name: [item[name] for item in items] for name in names}, layout)

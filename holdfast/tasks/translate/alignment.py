"""Where a translator looked while it wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from holdfast.tasks.translate.codec import END, SPECIALS, UNK, Codec
from holdfast.tasks.translate.corpus import Corpus
from holdfast.tasks.translate.searching import Found


@dataclass(frozen=True, eq=False)
class Alignment:
    """How much each piece of a target attended to each piece of its source.

    source: S pieces, the end mark the last. target: T pieces, without or with the end mark.
    weights: `(T, S)`, rows that add up to 1.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    weights: np.ndarray

    def most(self) -> list[int]:
        """The place in the source that each piece of the target attended to most."""
        return [int(place) for place in self.weights.argmax(1)]


@dataclass(frozen=True, eq=False)
class Translation:
    """A target that was found for a source.

    text: as it is read. score: what it is ranked by. log_prob: the logarithm of its probability,
    end mark included. alignment: where each piece came from, or None without attention.
    """

    text: str
    score: float
    log_prob: float
    alignment: Alignment | None


def as_translation(
    found: Found, pieces: Sequence[str], target: Codec, copied: bool, attention: bool
) -> Translation:
    """What was found as text; where `copied`, unknown pieces are those of the source attended to.

    Arguments:
        pieces: of the source, without its end mark.
    """
    instead: list[str] = []
    if copied and found.weights is not None and pieces:
        # The end mark of the source is no piece that can be copied.
        best = found.weights[:, : len(pieces)].argmax(1).tolist()
        instead = [pieces[int(place)] for n, place in zip(found.ids, best, strict=True) if n == UNK]
    text = target.decode(found.ids, instead)
    alignment = None
    if attention and found.weights is not None:
        given = iter(instead)
        spelled = target.spelled(found.ids)
        spelled = [
            next(given, p) if n == UNK else p for n, p in zip(found.ids, spelled, strict=True)
        ]
        source = (*pieces, SPECIALS[END])
        alignment = Alignment(source, tuple(spelled), found.weights.numpy().copy())
    return Translation(text, found.score, found.log_prob, alignment)


@torch.no_grad()
def align(
    nets: Sequence[Any],
    corpus: Corpus,
    source_pieces: Sequence[Sequence[str]],
    target_pieces: Sequence[Sequence[str]],
    batch_size: int,
    device: str,
) -> list[Alignment]:
    """Where networks with attention look while they are given the true targets."""
    found: list[Any] = [None] * len(corpus)
    for places in corpus.batches(batch_size, None, 0, False).epoch(0):
        source, lengths, given, _ = (one.to(device) for one in corpus.batch(places))
        weights = torch.stack([net.decode(source, lengths, given).weights for net in nets]).mean(0)
        for row, place in enumerate(places.tolist()):
            one, two = source_pieces[int(place)], target_pieces[int(place)]
            kept = weights[row, : len(two) + 1, : len(one) + 1].cpu().numpy()
            marks = SPECIALS[END]
            found[place] = Alignment((*one, marks), (*two, marks), kept.copy())
    return found

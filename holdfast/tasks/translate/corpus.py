"""Pairs as numbers, and the batches of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from holdfast.data.text.batches import LengthBatches, pad
from holdfast.tasks.translate.codec import BEGIN, END, PAD, Codec
from holdfast.tasks.translate.pairs import Pairs


class Batch(NamedTuple):
    """Some pairs: source `[B, S]` with end marks, its lengths `[B]`, what the decoder is given
    `[B, T]`, and what it should say `[B, T]`, which is `PAD` behind the end mark."""

    source: Tensor
    lengths: Tensor
    given: Tensor
    wanted: Tensor


@dataclass(frozen=True, eq=False)
class Corpus:
    """Pairs as numbers, without marks.

    left_out: numbers of the pairs that are longer than what is trained on.
    """

    sources: list[list[int]]
    targets: list[list[int]]
    left_out: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sources)

    def batches(self, size: int, tokens: int | None, seed: int, shuffle: bool) -> LengthBatches:
        """Pairs that are nearly equally long on both sides together."""
        both = zip(self.sources, self.targets, strict=True)
        lengths = [len(source) + len(target) + 2 for source, target in both]
        return LengthBatches(lengths, sentences=size, tokens=tokens, seed=seed, shuffle=shuffle)

    def batch(self, places: np.ndarray) -> Batch:
        """The pairs at these places."""
        source, lengths = padded([self.sources[place] for place in places])
        rows = [self.targets[place] for place in places]
        given, _ = pad([[BEGIN, *row] for row in rows], PAD)
        wanted, _ = pad([[*row, END] for row in rows], PAD)
        return Batch(source, lengths, _rows(given), _rows(wanted))


def make_corpus(pairs: Pairs, source: Codec, target: Codec, longest: int | None = None) -> Corpus:
    """Pairs as numbers; those with more than `longest` pieces on a side are left out."""
    sources, targets = source.encode_all(pairs.sources), target.encode_all(pairs.targets)
    both = list(zip(sources, targets, strict=True))
    fits = [longest is None or max(len(s), len(t)) <= longest for s, t in both]
    return Corpus(
        [s for (s, _), fit in zip(both, fits, strict=True) if fit],
        [t for (_, t), fit in zip(both, fits, strict=True) if fit],
        [pairs.number(place) for place, fit in enumerate(fits) if not fit],
    )


def padded(sources: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Sources with their end marks, `[B, S]`, and their lengths, `[B]`."""
    source, lengths = pad([[*row, END] for row in sources], PAD)
    return _rows(source), lengths


def _rows(ids: Tensor) -> Tensor:
    """`[T, B]` as `[B, T]`; the layers turn it again, so that nothing is copied."""
    return torch.transpose(ids, 0, 1)

"""Batches of sentences that are nearly equally long, so that little of them is padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from holdfast.errors import DataError

MOST_PADDING = 0.15
"""The share of a batch that may be padding."""


@dataclass(frozen=True, eq=False)
class LengthBatches:
    """Which sentences go together: never more than a share of padding, another order every epoch.

    >>> batches = LengthBatches([3, 9, 3, 8, 1], sentences=2)
    >>> [batch.tolist() for batch in batches.epoch(0)]
    [[4], [1, 3], [2, 0]]

    Sentences are shuffled and cut into windows of some batches; within a window they are sorted by
    length and cut where a batch is full or another sentence would make too much padding. Then the
    batches are shuffled. Seed and epoch determine everything.

    The bound always holds, for every batch: a sentence that fits to no other is a batch of its own.
    What this costs is smaller batches, where the lengths of a window are far apart. A sentence that
    is longer than the budget of tokens is a batch of its own, too, and alone may exceed it.

    Arguments:
        lengths: tokens of each sentence; 0 is allowed, and such are only with each other.
        sentences: most sentences of a batch, or None.
        tokens: most tokens of a batch, padding included, or None. One of both must be given.
        padding: most of a batch that is padding, as a share from 0 to 1.
        window: batches' worth of sentences that are sorted together; more means fewer batches, and
            less chance in who goes together.
        seed: of the order.
        shuffle: False for sentences by falling length over all of them, the same in each epoch.

    Errors: `DataError` for impossible sizes.
    """

    lengths: Sequence[int]
    sentences: int | None = None
    tokens: int | None = None
    padding: float = MOST_PADDING
    window: int = 50
    seed: int = 0
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.sentences is None and self.tokens is None:
            raise DataError("say how large batches are: sentences=, tokens= or both")
        for name in ("sentences", "tokens", "window"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DataError(f"{name} should be at least 1, got {value}")
        if not 0 <= self.padding <= 1:
            raise DataError(f"padding should be a share from 0 to 1, got {self.padding}")
        if len(self._sizes) and self._sizes.min() < 0:
            raise DataError(f"a length should be at least 0, got {self._sizes.min()}")

    def epoch(self, number: int) -> list[np.ndarray]:
        """The batches of an epoch, each the numbers of its sentences, longest first, int64."""
        count = len(self._sizes)
        if not self.shuffle:
            return self._cut(np.argsort(-self._sizes, kind="stable"))
        random = np.random.default_rng([self.seed, number])
        order = random.permutation(count)
        found = []
        for start in range(0, count, self._window_size):
            part = order[start : start + self._window_size]
            found += self._cut(part[np.argsort(-self._sizes[part], kind="stable")])
        return [found[at] for at in random.permutation(len(found))]

    def padding_of(self, batches: Sequence[np.ndarray]) -> float:
        """The share of padding over all of these batches."""
        full = sum(len(batch) * int(self._sizes[batch].max()) for batch in batches)
        real = sum(int(self._sizes[batch].sum()) for batch in batches)
        return 1 - real / full if full else 0.0

    @cached_property
    def _sizes(self) -> np.ndarray:
        return np.asarray(self.lengths, dtype=np.int64)

    @cached_property
    def _window_size(self) -> int:
        """Sentences that are sorted together."""
        sizes = []
        if self.sentences is not None:
            sizes.append(self.sentences)
        if self.tokens is not None:
            mean = max(1.0, float(self._sizes.mean())) if len(self._sizes) else 1.0
            sizes.append(max(1, int(self.tokens / mean)))
        return self.window * min(sizes)

    def _cut(self, order: np.ndarray) -> list[np.ndarray]:
        """Batches of sentences that come by falling length, so that the first is the longest."""
        sizes = self._sizes[order].tolist()
        found, start, real = [], 0, 0
        for at, size in enumerate(sizes):
            count, longest = at - start + 1, sizes[start]
            full = count * longest
            fits = full - real - size <= self.padding * full
            fits = fits and (self.sentences is None or count <= self.sentences)
            fits = fits and (self.tokens is None or full <= self.tokens)
            if at > start and not fits:
                found.append(order[start:at])
                start, real = at, 0
            real += size
        if len(order):
            found.append(order[start:])
        return found


def pad(rows: Sequence[Sequence[int]], value: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of unequal length side by side, `[T, B]` int64, and their lengths, `[B]`.

    >>> ids, lengths = pad([[5, 6, 7], [8]])
    >>> ids.T.tolist(), lengths.tolist()
    ([[5, 6, 7], [8, 0, 0]], [3, 1])

    There is at least one step, even if all rows are empty.

    Arguments:
        rows: numbers of words or tags.
        value: what stands beyond the end of a row.
    """
    lengths = [len(row) for row in rows]
    ids = np.full((len(rows), max([1, *lengths])), value, dtype=np.int64)
    for row, length, numbers in zip(ids, lengths, rows, strict=True):
        row[:length] = numbers
    return torch.from_numpy(np.ascontiguousarray(ids.T)), torch.tensor(lengths)

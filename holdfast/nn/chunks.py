"""Chunks of the steps of a pass: which rows each has, and what came before it.

The backward pass goes from chunk to chunk. What the steps of one need, gradients of gates above
all, lies in memory that the next one uses again and that stays in the caches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from holdfast.nn.layout import Layout

STEPS = 8
"""Steps of a chunk, at least: of what is kept for each chunk there is an eighth of a sequence."""

BYTES = 32 * 2**20
"""What the steps of a chunk read and write, at least, where their values are kept: fewer chunks
take less time."""

AGAIN = 4 * 2**20
"""The same where values are computed again, to save memory; large products need many rows."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some steps of a pass, as a kernel and the products after it see them."""

    whole: Layout
    """That of the pass."""
    layout: Layout
    """That of the steps, whose rows are in the kernel's order already."""
    start: int
    """Steps before."""
    live: slice
    """Where its rows lie among the live rows of the pass."""
    following: int = 0
    """Rows that go on after its last step."""

    @property
    def rows(self) -> int:
        """Live rows of its steps."""
        return self.layout.rows

    @property
    def alive(self) -> int:
        """Rows alive at its first step."""
        counts = self.layout.counts
        return self.layout.batch if counts is None else int(counts[0])

    @cached_property
    def index(self) -> Tensor | None:
        """Where its rows lie among the user's; None where they lie as live rows do."""
        return None if self.whole.index is None else self.whole.index[self.live]

    def local(self) -> Chunk:
        """The same for tensors that hold the rows of this chunk and no others."""
        return replace(self, layout=replace(self.layout, index=None))

    def take(self, values: Tensor) -> Tensor:
        """What the kernel is given of the user's `[T * B, ...]`."""
        return values if self.layout.index is not None else self.gather(values)

    def gather(self, values: Tensor) -> Tensor:
        """The rows of this chunk of the user's `[T * B, ...]`."""
        return values[self.live] if self.index is None else values.index_select(0, self.index)

    def put(self, rows: Tensor, values: Tensor) -> None:
        """Write the rows of this chunk to where they lie among the user's."""
        if self.index is not None:
            values.index_copy_(0, self.index, rows)
        elif rows.data_ptr() != values[self.live].data_ptr():
            values[self.live] = rows

    @cached_property
    def _begin(self) -> int:
        """The live row at which the step before this chunk begins."""
        if self.whole.descending:
            return self.live.stop
        counts = self.whole.counts
        last = self.whole.batch if counts is None else int(counts[self.start - 1])
        return self.live.start - last

    def before(self, values: Tensor) -> Tensor:
        """Of the user's `[T * B, ...]` the rows of the step before that go on, `[alive, ...]`."""
        rows = slice(self._begin, self._begin + self.alive)
        if self.whole.index is None:
            return values[rows]
        return values.index_select(0, self.whole.index[rows])

    def previous(self, values: Tensor) -> Tensor:
        """Of each row of this chunk the row one step before, `[rows, ...]`, where there is one.

        Arguments:
            values: the user's `[T * B, ...]`, if steps come before this chunk; else rows of the
                first step have none and are left out.
        """
        batch, counts = self.whole.batch, self.whole.counts
        if counts is None:
            shift = batch if self.whole.descending else -batch
            start, stop = self.live.start + shift, self.live.stop + shift
            return values[max(0, start) : min(stop, self.whole.rows)]
        found = self._begin + self._earlier if self.start else self._earlier
        if self.whole.index is not None:
            found = self.whole.index.index_select(0, found)
        return values.index_select(0, found)

    def previous_inside(self, values: Tensor) -> Tensor:
        """`previous` of `[rows, ...]` of this chunk, for all of its steps but the first."""
        batch, counts = self.whole.batch, self.layout.counts
        if counts is None:
            return values[batch:] if self.whole.descending else values[:-batch]
        return values.index_select(0, _earlier(counts.numpy(), 0))

    @cached_property
    def _earlier(self) -> Tensor:
        """Where `previous` rows lie, counted from the first of them."""
        counts = self.whole.counts
        assert counts is not None
        first = max(0, self.start - 1)
        return _earlier(counts[first : self.start + self.layout.steps].numpy(), 0)

    def later(self, values: Tensor) -> Tensor:
        """The rows of all steps but the first, of `[rows, ...]` of this chunk."""
        if self.whole.descending:
            return values[: self.rows - self.whole.batch]
        return values[self.alive :]

    def first(self, values: Tensor) -> Tensor:
        """The rows of the first step, of `[rows, ...]` of this chunk."""
        if self.whole.descending:
            return values[self.rows - self.whole.batch :]
        return values[: self.alive]


def _earlier(counts: np.ndarray, start: int) -> Tensor:
    """Rows of each step that go on in the next one, as positions among all rows."""
    starts = start + np.cumsum(counts) - counts
    width = int(counts[0])
    inside = np.arange(width)[None, :] < counts[1:, None]
    return torch.from_numpy((starts[:-1, None] + np.arange(width)[None, :])[inside])


def cut(layout: Layout, row_bytes: int, chunk_bytes: int) -> list[Chunk]:
    """The chunks of a pass, in the order of steps.

    >>> layout = Layout(steps=100, batch=64, rows=6400)
    >>> [chunk.layout.steps for chunk in cut(layout, 8192, chunk_bytes=10_000_000)]
    [20, 20, 20, 20, 20]

    They follow from sizes alone, so that the same pass gives the same bits.

    Arguments:
        row_bytes: what one row of one step reads and writes in a backward pass.
        chunk_bytes: what a chunk does at least.
    """
    count = min(layout.steps // STEPS, layout.rows * row_bytes // chunk_bytes)
    if count <= 1:
        return [Chunk(layout, layout, 0, slice(0, layout.rows))]
    steps, before = _starts(layout, count)
    chunks = []
    ends = [*steps[1:], layout.steps]
    limits = [*before[1:], layout.rows]
    for start, end, first, last in zip(steps, ends, before, limits, strict=True):
        counts = None if layout.counts is None else layout.counts[start:end]
        following = 0
        if end < layout.steps:
            following = layout.batch if layout.counts is None else int(layout.counts[end])
        live = slice(first, last)
        if layout.descending:
            live = slice(layout.rows - last, layout.rows - first)
        index = None if layout.index is None else layout.index[live]
        part = Layout(
            end - start, layout.batch, last - first, counts, index, descending=layout.descending
        )
        chunks.append(Chunk(layout, part, start, live, following))
    return chunks


def _starts(layout: Layout, count: int) -> tuple[list[int], list[int]]:
    """The first step of each chunk, and how many live rows come before it."""
    if layout.counts is None:
        steps = [n * layout.steps // count for n in range(count)]
        return steps, [step * layout.batch for step in steps]
    counts = layout.counts.numpy()
    begins = np.cumsum(counts) - counts
    steps = [0]
    for n in range(1, count):
        step = int(np.searchsorted(begins, n * layout.rows / count))
        if steps[-1] + STEPS <= step < layout.steps:
            steps.append(step)
    return steps, [int(begins[step]) for step in steps]

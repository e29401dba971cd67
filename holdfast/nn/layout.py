"""Which rows of a sequence a kernel sees, and in which order.

Kernels see only the rows that are alive: one step after the other, within a step by falling length.
Where lengths differ, an index says where those rows lie in the user's tensors, so that steps beyond
a row's end cost nothing and whatever stands there is never read. A row that begins anew within the
sequence is cut there: each piece is a row of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from holdfast.compiler import threads
from holdfast.nn.ragged import Rows

_ANYTHING = torch.zeros(1, dtype=torch.int64)
"""What kernels read in vain where rows lie as they come."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Which rows of a sequence are alive, and where they lie in the user's tensors."""

    steps: int
    batch: int
    rows: int
    """Live rows of all steps together."""
    counts: Tensor | None = None
    """Rows alive at each step, `[T]` int64, never growing; None where all are."""
    index: Tensor | None = None
    """Where each live row lies among the user's T * B; None where they are the same. Kernels read
    and write the user's rows there, and their own in the order of live rows."""
    order: Tensor | None = None
    """Row r of the batch, for the kernel, is row `order[r]` of the user; None where the same."""
    back: Tensor | None = None
    """The row, for the kernel, in which each of the user's rows ends; None where the same."""
    fresh: Tensor | None = None
    """Which rows, for the kernel, begin anew rather than with the given states; None for none."""
    begins: Tensor | None = None
    """The step of the user at which each row begins; None for 0."""
    descending: bool = False
    """Whether a dense batch is read from its last step to its first."""

    def sizes(self, team: threads.Team, arrived: Tensor | None) -> dict[str, int]:
        """The kernel's slots for the sizes."""
        tensors = (self.counts, self.index, arrived)
        counts, index, counter = (0 if one is None else one.data_ptr() for one in tensors)
        return {
            "counts": counts,
            "index": index or _ANYTHING.data_ptr(),
            "arrived": counter,
            "indexed": -1 if index else 0,
            "descending": int(self.descending),
            "steps": self.steps,
            "batch": self.batch,
            "by_block": int(team.by_block),
        }

    def gather(self, sequence: Tensor) -> Tensor:
        """The live rows `[rows, ...]` of `[T, B, ...]`, or of what is packed already."""
        flat = sequence.reshape(-1, sequence.shape[-1])
        return flat.contiguous() if self.index is None else flat.index_select(0, self.index)

    def make(self, like: Tensor, width: int) -> Tensor:
        """Memory for one result of `width` at each step of `like`; zero where no row is alive."""
        shape = (*like.shape[:-1], width)
        whole = self.rows == like.shape[:-1].numel()
        return like.new_empty(shape) if whole else like.new_zeros(shape)

    def scatter(self, rows: Tensor, like: Tensor) -> Tensor:
        """Live rows back to where they lie in `like`; zeros elsewhere."""
        shape = (*like.shape[:-1], rows.shape[1])
        if self.index is None:
            return rows.view(shape)
        whole = self.make(like, rows.shape[1])
        whole.view(-1, rows.shape[1]).index_copy_(0, self.index, rows)
        return whole

    def sort(self, states: Tensor, start: Tensor | None = None) -> Tensor:
        """Rows of the batch `[B, H]` in the kernel's order, contiguous.

        Arguments:
            start: what a row that begins anew begins with, `[H]`; zeros where None.
        """
        if self.order is None:
            return states.contiguous()
        rows = states.index_select(0, self.order)
        if self.fresh is not None:
            rows[self.fresh] = rows.new_zeros(()) if start is None else start
        return rows

    def restore(self, states: Tensor) -> Tensor:
        """The last states `[B, H]` in the user's order."""
        return states if self.back is None else states.index_select(0, self.back)

    def collect(self, gradients: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """Gradients of first states: of the given ones `[batch, H]`, of the fresh start `[H]`."""
        if self.order is None:
            return gradients, gradients.new_zeros(gradients.shape[1])
        given = gradients.new_zeros(batch, gradients.shape[1])
        if self.fresh is None:
            return given.index_copy_(0, self.order, gradients), given.new_zeros(given.shape[1])
        kept = ~self.fresh
        given.index_copy_(0, self.order[kept], gradients[kept])
        return given, gradients[self.fresh].sum(0)


def lay_out(
    x: Tensor,
    batch: int,
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    resets: Tensor | None = None,
    *,
    reverse: bool = False,
) -> Layout:
    """The layout of `x`, `[T, B, I]` or packed `[N, I]`.

    Arguments:
        resets: in the order in which steps are met. reverse: rows are read from last to first.
    """
    if batch_sizes is not None:
        if resets is not None:
            raise RuntimeError("packed input has no resets; cut the sequences there")
        return _packed(x.shape[0], batch, batch_sizes, reverse)
    steps = x.shape[0]
    if resets is not None and bool(resets.any()):
        ends = None if lengths is None else lengths.detach().to("cpu", torch.int64).numpy()
        return _pieces(resets.detach().cpu().numpy(), ends, reverse)
    if lengths is None:
        return Layout(steps, batch, steps * batch, descending=reverse)
    ends = lengths.detach().to("cpu", torch.int64).numpy()
    order = np.argsort(-ends, kind="stable")
    last = ends[order] - 1 if reverse else None
    counts, index = _live(ends[order], order, np.zeros_like(order), batch, last)
    if np.array_equal(order, np.arange(batch)):
        return Layout(len(counts), batch, len(index), torch.from_numpy(counts), index)
    back = torch.from_numpy(np.argsort(order, kind="stable"))
    return Layout(
        len(counts),
        batch,
        len(index),
        torch.from_numpy(counts),
        index,
        torch.from_numpy(order),
        back,
    )


def _packed(rows: int, batch: int, batch_sizes: Tensor, reverse: bool) -> Layout:
    counts = batch_sizes.to("cpu", torch.int64).contiguous()
    falling = bool((counts[1:] <= counts[:-1]).all())
    if int(counts.sum()) != rows or not falling or int(counts[0]) > batch:
        raise RuntimeError(
            f"batch_sizes must never grow, start at no more than {batch} rows and add up to "
            f"the {rows} rows of the input, got {counts.tolist()}"
        )
    index = Rows.from_batch_sizes(counts, counts.device).source if reverse else None
    return Layout(counts.shape[0], batch, rows, counts, index)


def _live(
    lengths: np.ndarray,
    rows: np.ndarray,
    begins: np.ndarray,
    batch: int,
    last: np.ndarray | None,
) -> tuple[np.ndarray, Tensor]:
    """Rows alive at each step, and where they lie among the user's T * B.

    Arguments:
        lengths: falling. rows, begins: the user's row and the first step of each.
        last: the last step of each row, from which steps are counted down; None to count up.
    """
    alive = np.arange(lengths.max(initial=1))[:, None] < lengths[None, :]
    steps = np.arange(alive.shape[0])[:, None] + begins[None, :]
    steps = steps if last is None else last[None, :] - steps
    index = (steps * batch + rows[None, :])[alive]
    return alive.sum(1), torch.from_numpy(index)


def _pieces(resets: np.ndarray, ends: np.ndarray | None, reverse: bool) -> Layout:
    """Rows cut where they begin anew."""
    steps, batch = resets.shape
    ends = np.full(batch, steps) if ends is None else ends
    marks = resets & (np.arange(steps)[:, None] < ends[None, :])
    marks[0] = True  # the first piece of every row, be it empty
    rows, begins = np.nonzero(marks.T)
    last = np.append(rows[1:] != rows[:-1], True)
    following = np.append(begins[1:], 0)
    lengths = np.where(last, ends[rows], following) - begins
    fresh = resets[begins, rows] & (lengths > 0)
    order = np.argsort(-lengths, kind="stable")
    final = ends[rows[order]] - 1 if reverse else None
    counts, index = _live(lengths[order], rows[order], begins[order], batch, final)
    place = np.argsort(order, kind="stable")
    return Layout(
        len(counts),
        len(order),
        len(index),
        torch.from_numpy(counts),
        index,
        torch.from_numpy(rows[order]),
        torch.from_numpy(place[last]),
        torch.from_numpy(fresh[order]),
        torch.from_numpy(begins[order]),
    )


def last_rows(batch_sizes: Tensor) -> Tensor:
    """The packed row of each sequence's last step, `[B]`."""
    counts = batch_sizes.detach().cpu().numpy()
    starts = np.cumsum(counts) - counts
    ends = (counts[None, :] > np.arange(counts[0])[:, None]).sum(1)
    return torch.from_numpy(starts[ends - 1] + np.arange(counts[0]))

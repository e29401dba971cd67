"""Rows of unequal length: which steps are valid, and how to read them backwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Where the valid steps of a batch are, and its reversal in time, row by row.

    >>> import torch
    >>> x = torch.tensor([[1, 4], [2, 5], [3, 0]]).unsqueeze(-1)  # [T, B, 1], lengths 3 and 2
    >>> rows = Rows.from_lengths(torch.tensor([3, 2]), steps=3)
    >>> rows.reverse(x).squeeze(-1).tolist()
    [[3, 5], [2, 4], [1, 0]]

    lengths: valid steps of each row, `[B]`, or None where all are. batch_sizes: rows alive at each
    step, `[T]`, for packed input. source: for each step of the reversed input the step that it
    comes from, `[T, B]` (`[N]` for packed input), or None for the plain reversal in time.
    """

    lengths: Tensor | None = None
    batch_sizes: Tensor | None = None
    source: Tensor | None = None

    @classmethod
    def from_lengths(cls, lengths: Tensor, steps: int) -> Rows:
        """Rows of `[T, B, ...]` with T = `steps`, of which the first `lengths` steps are valid."""
        t = torch.arange(steps, device=lengths.device).unsqueeze(1)  # [T, 1]
        mirrored = lengths - 1 - t  # [T, B]
        return cls(lengths=lengths, source=torch.where(mirrored >= 0, mirrored, t))

    @classmethod
    def from_batch_sizes(cls, batch_sizes: Tensor, device: torch.device) -> Rows:
        """Rows of a packed `[N, ...]`, as in a `PackedSequence`."""
        steps = torch.arange(len(batch_sizes))
        offsets = batch_sizes.cumsum(0) - batch_sizes  # [T]
        t = steps.repeat_interleave(batch_sizes)  # [N]
        b = torch.arange(len(t)) - offsets[t]
        lengths = (batch_sizes.unsqueeze(1) > torch.arange(int(batch_sizes[0]))).sum(0)  # [B]
        source = offsets[lengths[b] - 1 - t] + b
        return cls(batch_sizes=batch_sizes, source=source.to(device))

    def reverse(self, x: Tensor) -> Tensor:
        """`x`, `[T, B, F]` or `[N, F]`, backwards in time within each row; padding stays."""
        if self.source is None:
            return x.flip(0)
        if self.batch_sizes is not None:
            return x.index_select(0, self.source)
        return x.gather(0, self.source.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def as_lengths(lengths: Tensor | Sequence[int], steps: int, rows: int, like: Tensor) -> Tensor:
    """`lengths` as a checked `[B]` tensor of int64 on the device of `like`.

    >>> import torch
    >>> as_lengths([3, 0], steps=4, rows=2, like=torch.zeros(4, 2, 1))
    tensor([3, 0])

    While a graph is being compiled the values are not known: there they are clamped to 0 .. T.

    Errors: `TypeError` for numbers that are not integers, `RuntimeError` for a wrong count,
    `ValueError` naming the row for a length below 0 or above T = `steps`.
    """
    given = torch.as_tensor(lengths)
    if given.numel() == 0 and not isinstance(lengths, Tensor):
        given = given.to(torch.int64)
    if given.dtype == torch.bool or given.is_floating_point() or given.is_complex():
        raise TypeError(f"lengths should be integers, got {given.dtype}")
    if given.shape != torch.Size([rows]):
        raise RuntimeError(f"Expected lengths size ({rows},), got {list(given.shape)}")
    if torch.compiler.is_compiling() or given.is_meta:
        return given.to(like.device, torch.int64).clamp(0, steps)
    wrong = (given < 0) | (given > steps)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"lengths should be in the range 0 to {steps}, the number of steps of the input, "
            f"got {int(given[row])} for row {row}"
        )
    return given.to(like.device, torch.int64)

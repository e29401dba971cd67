"""Rows of unequal length: which steps are valid, where rows begin anew, how to read backwards."""

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
    def of(
        cls, lengths: Tensor | None, batch_sizes: Tensor | None, steps: int, device: torch.device
    ) -> Rows:
        """Rows with lengths, packed, or all whole."""
        if batch_sizes is not None:
            return cls.from_batch_sizes(batch_sizes, device)
        return cls() if lengths is None else cls.from_lengths(lengths.to(device), steps)

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

    def reverse_resets(self, at: Tensor) -> Tensor:
        """Where rows begin anew, `[T, B]`, as the backward direction meets it.

        >>> import torch
        >>> at = torch.tensor([0, 1, 0, 0], dtype=torch.bool).unsqueeze(1)  # cuts before step 1
        >>> Rows().reverse_resets(at).squeeze(1).tolist()  # it has read 3, 2 and 1 when it gets 0
        [False, False, False, True]
        """
        backwards = self.reverse(at.unsqueeze(-1)).squeeze(-1)
        # Cut at last: T - 1 steps could be one, and torch.export would ask for a case of its own.
        return torch.cat([torch.zeros_like(at[:1]), backwards])[:-1]

    def members(self) -> Tensor:
        """The row that each packed element belongs to, `[N]`."""
        assert self.batch_sizes is not None
        counts = self.batch_sizes.tolist()
        return torch.cat([torch.arange(count) for count in counts])

    def blank(self, x: Tensor) -> Tensor:
        """`x`, `[T, B, F]`, with zeros beyond the end of each row, whatever stands there."""
        if self.lengths is None:
            return x
        t = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
        return torch.where((t < self.lengths).unsqueeze(-1), x, 0.0)


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
    try:
        refused = bool(wrong.any())
    except RuntimeError:  # vmap or another transform keeps the values to itself
        return given.to(like.device, torch.int64).clamp(0, steps)
    if refused:
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"lengths should be in the range 0 to {steps}, the number of steps of the input, "
            f"got {int(given[row])} for row {row}"
        )
    return given.to(like.device, torch.int64)


def as_resets(
    resets: Tensor,
    steps: int,
    rows: int,
    like: Tensor,
    *,
    turned: bool = False,
    batched: bool = True,
) -> Tensor:
    """Where rows begin anew, as a checked `[T, B]` tensor of bool on the device of `like`.

    >>> import torch
    >>> at = torch.tensor([[False, True]])
    >>> as_resets(at, steps=1, rows=2, like=torch.zeros(1, 2, 3))
    tensor([[False,  True]])

    Arguments:
        turned: `resets` is `[B, T]`. batched: False where it is `[T]`, for a single sequence.

    Errors: `TypeError` for what is not a tensor of bool, `RuntimeError` for a wrong shape.
    """
    if not isinstance(resets, Tensor) or resets.dtype != torch.bool:
        got = resets.dtype if isinstance(resets, Tensor) else type(resets).__name__
        raise TypeError(f"resets should be a tensor of torch.bool, got: {got}")
    expected = (rows, steps) if turned else (steps, rows)
    expected = expected if batched else (steps,)
    if resets.shape != torch.Size(expected):
        raise RuntimeError(f"Expected resets size {expected}, got {list(resets.shape)}")
    resets = resets.to(like.device)
    if not batched:
        return resets.unsqueeze(1)
    return resets.t() if turned else resets

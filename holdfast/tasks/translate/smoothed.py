"""Cross-entropy with label smoothing, with one table of logits instead of several."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def smoothed_loss(logits: Tensor, wanted: Tensor, ignored: int, smoothing: float = 0.0) -> Tensor:
    """The mean over the wanted pieces of -log of what they got, smoothed.

    >>> import torch
    >>> logits, wanted = torch.zeros(1, 2, 4), torch.tensor([[1, 0]])
    >>> round(smoothed_loss(logits, wanted, ignored=0, smoothing=0.1).item(), 4)  # log 4
    1.3863

    The same as `torch.nn.functional.cross_entropy` with `label_smoothing`; the gradient is made in
    the one pass that also makes the loss, and no logarithms of the whole table are kept.

    Arguments:
        logits: `[B, T, V]`. wanted: `[B, T]`. ignored: what stands at padding in `wanted`.
        smoothing: share of the truth that is spread over all V pieces.

    Source: Szegedy et al. 2016, section 7.
    """
    found: Tensor = _Smoothed.apply(logits, wanted, ignored, smoothing)  # pyright: ignore[reportAssignmentType] (apply is untyped)
    return found


class _Smoothed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, wanted: Tensor, ignored: int, smoothing: float) -> Tensor:
        rows, gold = logits.flatten(0, 1), wanted.flatten()
        words = rows.shape[1]
        counts = (gold != ignored).to(rows.dtype)
        total = counts.sum()
        normal = rows.logsumexp(1)  # [N]
        at = gold.unsqueeze(1)
        loss = normal - (1 - smoothing) * rows.gather(1, at).squeeze(1)
        if smoothing:
            loss = loss - smoothing * rows.mean(1)
        if ctx.needs_input_grad[0]:
            share = (counts / total).unsqueeze(1)  # [N, 1]
            grad = (rows - normal.unsqueeze(1)).exp_()
            if smoothing:
                grad.sub_(smoothing / words)
            grad.scatter_add_(1, at, torch.full_like(share, smoothing - 1))
            ctx.save_for_backward(grad.mul_(share).view_as(logits))
        return torch.where(gold != ignored, loss, 0.0).sum() / total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (kept,) = ctx.saved_tensors
        return kept * grads[0], None, None, None

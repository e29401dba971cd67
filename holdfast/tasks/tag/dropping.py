"""Dropout whose random numbers cost little: a byte for each number, eight of them drawn at once.

PyTorch draws a number of 32 or 64 bits for every element on CPUs, which takes longer than a small
LSTM that reads them.
"""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 256


def dropped(shape: torch.Size, share: float) -> Tensor:
    """Where something is dropped, a bool tensor on the CPU, from PyTorch's own CPU generator.

    >>> bool(dropped(torch.Size([3, 5]), 0.0).any())
    False

    Arguments:
        share: of what is dropped, rounded to a multiple of 1 / 256.
    """
    count = shape.numel()
    drawn = torch.empty((count + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    return (drawn.view(torch.uint8)[:count] < round(share * STEPS)).view(shape)


def dropout(x: Tensor, share: float, training: bool) -> Tensor:
    """`x` with a share of its numbers at zero, the others larger, so that the mean stays."""
    if not training or not share:
        return x
    kept = 1 - round(share * STEPS) / STEPS
    mask = dropped(x.shape, share).logical_not_().to(x.dtype).div_(kept)
    return x * mask.to(x.device)

"""Memory that a pass needs for itself and gives back: kept between calls, one piece a thread.

Large pieces go back to the operating system when they are freed, and each page of the next one is
cleared and mapped anew: for the gradients of a layer's gates that took as long as computing them.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

_MOST = 64 * 2**20
"""Bytes that a thread holds on to, at most."""

_LINE = 64
"""Bytes of a line of the cache, at which each piece begins."""

_mine = threading.local()


def borrow(like: Tensor, *counts: int) -> list[Tensor]:
    """Uninitialized memory for so many numbers each, like those of a tensor, until the next call.

    >>> [piece.shape for piece in borrow(torch.zeros(1), 3, 5)]
    [torch.Size([3]), torch.Size([5])]

    What is borrowed must not outlive the pass: the next one on this thread gets the same memory.
    """
    item = like.element_size()
    starts, size = [], 0
    for count in counts:
        starts.append(size)
        size += -(-count * item // _LINE) * _LINE
    if size > _MOST or torch.are_deterministic_algorithms_enabled():
        return [like.new_empty(count) for count in counts]  # new memory may be filled in that mode
    held: Tensor | None = getattr(_mine, "held", None)
    if held is None or held.numel() < size:
        held = _mine.held = torch.empty(size, dtype=torch.uint8)
    numbers = held.view(like.dtype) if held.numel() % item == 0 else held[:size].view(like.dtype)
    pairs = zip(starts, counts, strict=True)
    return [numbers[start // item : start // item + count] for start, count in pairs]

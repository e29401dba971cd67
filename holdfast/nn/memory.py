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

_mine = threading.local()


def borrow(count: int, like: Tensor) -> Tensor:
    """Uninitialized memory for `count` numbers like those of a tensor, until the next call.

    >>> borrow(3, torch.zeros(1)).shape
    torch.Size([3])

    What is borrowed must not outlive the pass: the next one on this thread gets the same memory.
    """
    size = count * like.element_size()
    if size > _MOST or torch.are_deterministic_algorithms_enabled():
        return like.new_empty(count)  # deterministic mode may fill new memory
    held: Tensor | None = getattr(_mine, "held", None)
    if held is None or held.numel() < size:
        held = _mine.held = torch.empty(size, dtype=torch.uint8)
    return held[:size].view(like.dtype)

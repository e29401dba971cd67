"""Memory that a pass needs for itself and gives back: kept between calls, one piece a thread.

Large pieces go back to the operating system when they are freed, and each page of the next one is
cleared and mapped anew: for the gradients of a layer's gates that took as long as computing them.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

_MOST = 64 * 2**20
"""Bytes that a thread holds on to, at most."""

_LINE = 64
"""Bytes of a line of the cache, at which each piece begins."""

_LARGE = 32 * 2**20
"""Bytes from which memory always comes fresh from the system."""

_HUGE = 2 * 2**20
"""Bytes of a huge page."""

_ADVICE = 14
"""MADV_HUGEPAGE."""

_mine = threading.local()


@cache
def _madvise() -> Callable[[int, int, int], int] | None:
    """The system's call, where huge pages are had for the asking."""
    if not sys.platform.startswith("linux"):
        return None
    found = ctypes.CDLL(None).madvise
    found.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return found


def in_huge_pages(fresh: Tensor) -> Tensor:
    """The same tensor; where it is large, its memory is to be mapped by pages of 2 MiB, not 4 KiB.

    >>> in_huge_pages(torch.empty(3)).shape
    torch.Size([3])

    A system that knows no such pages, or is told not to use them, goes on as before.
    """
    size = fresh.numel() * fresh.element_size()
    advise = _madvise() if size >= _LARGE else None
    if advise is not None:
        start = -(-fresh.data_ptr() // _HUGE) * _HUGE
        advise(start, (fresh.data_ptr() + size - start) // _HUGE * _HUGE, _ADVICE)
    return fresh


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

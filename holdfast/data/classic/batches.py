"""What every generator of a classic task returns, and the checks that all of them make."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Answers(NamedTuple):
    """Sequences with one target each, which is due at the last step.

    x: `[T, B, I]`, zero beyond a row's length (or symbol numbers `[T, B]` with `one_hot=False`).
    target: `[B]` int64 for a class, `[B, O]` for numbers. lengths: `[B]` int64.
    """

    x: Tensor
    target: Tensor
    lengths: Tensor


class Steps(NamedTuple):
    """Sequences with a target at every step at which `mask` is true.

    x: `[T, B, I]`, zero beyond a row's length (or symbol numbers `[T, B]` with `one_hot=False`).
    target: `[T, B]` int64 for a class, `[T, B, O]` for numbers. lengths: `[B]` int64. mask:
    `[T, B]` bool.
    """

    x: Tensor
    target: Tensor
    lengths: Tensor
    mask: Tensor


def as_generator(seed: torch.Generator | int) -> torch.Generator:
    """A generator of one's own: the given one, or a new one with the given seed.

    >>> torch.rand(1, generator=as_generator(3)).equal(torch.rand(1, generator=as_generator(3)))
    True
    """
    if isinstance(seed, torch.Generator):
        return seed
    return torch.Generator().manual_seed(seed)


def at_least(least: int, **given: int) -> None:
    """Refuse a size that is too small.

    >>> at_least(1, batch=0)
    Traceback (most recent call last):
    ValueError: batch should be at least 1, got: 0
    """
    for name, value in given.items():
        if value < least:
            raise ValueError(f"{name} should be at least {least}, got: {value}")


def integers(low: int, high: int, size: int, generator: torch.Generator) -> Tensor:
    """Whole numbers from `low` to `high`, both included, `[size]` int64."""
    return torch.randint(low, high + 1, (size,), generator=generator)


def uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Numbers from U(low, high), float32."""
    return low + (high - low) * torch.rand(shape, generator=generator)


def alive(lengths: Tensor, steps: int) -> Tensor:
    """Where a step is within its row, `[T, B]` bool.

    >>> alive(torch.tensor([1, 2]), 2).int().tolist()
    [[1, 1], [0, 1]]
    """
    return torch.arange(steps).unsqueeze(1) < lengths


def encode(symbols: Tensor, lengths: Tensor, kinds: int, one_hot: bool) -> Tensor:
    """Symbol numbers `[T, B]` as vectors with a single 1, `[T, B, kinds]`; zero beyond a length."""
    if not one_hot:
        return symbols
    vectors = functional.one_hot(symbols, kinds).to(torch.float32)
    return vectors * alive(lengths, len(symbols)).unsqueeze(2)

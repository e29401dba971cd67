"""Random masks from counters: a row's numbers depend on its seed, the step and the unit alone.

A mask is drawn by hashing `(seed of the row, number of the mask, step, unit)`, so it is the same on
every target, in whatever order rows are computed, beside whatever other rows, in the forward and in
the backward pass, and after a run was interrupted. No state is kept and no generator is touched.

The hash: splitmix64's finalizer (Steele, Lea & Flood 2014) of the seed and the counters gives two
32-bit halves; a 32-bit finalizer of two multiplications mixes the unit into the first, the second
half between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
"""Multipliers of the 64-bit finalizer."""
GOLDEN = 0x9E3779B97F4A7C15
"""Distance between the counters of two streams, 2^64 over the golden ratio."""
STEP = 0xD1342543DE82EF95
"""Distance between the counters of two steps."""
UNIT = 0x9E3779B1
"""Distance between the counters of two units."""
MIX32 = (0x21F0AAAD, 0xD35A2D97)
"""Multipliers of the 32-bit finalizer."""

_LOW = 0xFFFFFFFF


@dataclass(frozen=True, eq=False)
class Noise:
    """What the masks of a pass are drawn from.

    seeds: one for each row of the batch, `[B]` int64. table: a row for each mask of the cell,
    `[M, 3]` float64 on the CPU: the probability of the second value, the first and the second
    value. steps: the number of each row's first step, `[B]` int64; None for 0.
    """

    seeds: Tensor
    table: Tensor
    steps: Tensor | None = None

    def rows(self, index: Tensor) -> Noise:
        """The noise of some rows, in that order."""
        steps = None if self.steps is None else self.steps.index_select(0, index)
        return replace(self, seeds=self.seeds.index_select(0, index), steps=steps)


def fold(seeds: Tensor, number: int) -> Tensor:
    """Seeds of an independent stream, one for each seed and number.

    >>> a, b = fold(torch.tensor([7, 7]), 1), fold(torch.tensor([7, 8]), 2)
    >>> bool(a[0] == a[1]), bool(b[0] == b[1]), bool(a[0] == b[0])
    (True, False, False)
    """
    return _mix(seeds + _signed((number + 1) * GOLDEN))


def draw(
    noise: Noise, number: int, units: int, dtype: torch.dtype, step: int | None = None
) -> Tensor:
    """Mask `number` of the table for every row, `[B, units]`.

    >>> noise = Noise(torch.arange(2), torch.tensor([[0.5, 2.0, 0.0]], dtype=torch.float64))
    >>> draw(noise, 0, 8, torch.float32).unique().tolist()
    [0.0, 2.0]

    Arguments:
        step: for a mask that is drawn each step, which one of this pass it is.
    """
    counters = None
    if step is not None:
        counters = torch.full_like(noise.seeds, step)
        counters = counters if noise.steps is None else counters + noise.steps
    # No number is read out of the table, so that a tracer can follow.
    threshold, first, second = noise.table[number].to(noise.seeds.device)
    second_wins = bits(noise.seeds, number, counters, units) < (threshold * 2.0**32).round()
    return torch.where(second_wins, second.to(dtype), first.to(dtype))


def values(table: Tensor) -> list[tuple[int, float, float]]:
    """Each mask's threshold for 32 random bits, and its two values."""
    rows: Sequence[Sequence[float]] = table.tolist()
    return [(round(p * 2**32), first, second) for p, first, second in rows]


def limits(table: Tensor) -> list[tuple[int, float, float]]:
    """Each mask's largest bits that take the second value, and its two values.

    Some bits always do, so where none should the second value is the first.
    """
    return [(max(n, 1) - 1, one, other if n else one) for n, one, other in values(table)]


def bits(seeds: Tensor, number: int, counters: Tensor | None, units: int) -> Tensor:
    """32 random bits for each row and unit, as int64 `[B, units]`.

    Arguments:
        counters: the step of each row, `[B]`; None for a mask that is drawn once a row.
    """
    start = seeds + _signed((number + 1) * GOLDEN)
    if counters is not None:
        start = start + (counters + 1) * _signed(STEP)
    key = _mix(start).unsqueeze(1)
    unit = torch.arange(units, device=seeds.device) * UNIT
    x = (key + unit) & _LOW
    x = ((x ^ (x >> 16)) * MIX32[0]) & _LOW
    x = x ^ ((key >> 32) & _LOW)
    x = ((x ^ (x >> 15)) * MIX32[1]) & _LOW
    return x ^ (x >> 15)


def _mix(x: Tensor) -> Tensor:
    """The 64-bit finalizer; multiplication of int64 wraps around."""
    x = (x ^ _shift(x, 30)) * _signed(MIX[0])
    x = (x ^ _shift(x, 27)) * _signed(MIX[1])
    return x ^ _shift(x, 31)


def _shift(x: Tensor, count: int) -> Tensor:
    """To the right, with zeros coming in."""
    return (x >> count) & ((1 << (64 - count)) - 1)


def _signed(value: int) -> int:
    """A number modulo 2^64 as int64 holds it."""
    value %= 1 << 64
    return value - (1 << 64) if value >= 1 << 63 else value

"""Empty values, filled from the past alone, so that no forecast sees its own future."""

from __future__ import annotations

import numpy as np


def fill(values: np.ndarray, seasons: tuple[int, ...]) -> np.ndarray:
    """`values` (n,) with each NaN replaced by the value one season before, else the last one.

    The longest season goes first. Only NaN before the first value takes a later one: that value.

    >>> fill(np.array([1.0, 2.0, np.nan, 4.0]), seasons=(2,))
    array([1., 2., 1., 4.])
    """
    there = np.flatnonzero(~np.isnan(values))
    if not len(there):
        return np.zeros_like(values)
    filled, start = values.copy(), int(there[0])
    filled[:start] = values[start]
    lags = [1, *sorted(season for season in seasons if season > 1)]
    ends = [start + lag for lag in lags[1:]] + [len(values)]
    begin = start + 1
    for lag, end in zip(lags, ends, strict=True):
        _carry(filled, lag, begin, min(end, len(values)))
        begin = end
    return filled


def _carry(filled: np.ndarray, lag: int, begin: int, end: int) -> None:
    """NaN of the rows `begin` to `end` become the value `lag` rows before, block by block."""
    if lag == 1:
        filled[begin - 1 : end] = carry_on(filled[begin - 1 : end, None])[:, 0]
        return
    for first in range(begin, end, lag):
        block = filled[first : min(first + lag, end)]
        empty = np.isnan(block)
        if empty.any():
            block[empty] = filled[first - lag : first - lag + len(block)][empty]


def carry_on(values: np.ndarray, starts: np.ndarray | None = None) -> np.ndarray:
    """Each NaN of `values` (n, C) replaced by the last value above it; 0 where there is none.

    Nothing is carried over the rows `starts`, where other series begin.

    >>> carry_on(np.array([[np.nan], [2.0], [np.nan], [np.nan]]), np.array([0, 3])).ravel()
    array([0., 2., 2., 0.])
    """
    empty = np.isnan(values)
    if not empty.any():
        return values
    rows = np.arange(len(values))[:, None]
    last = np.maximum.accumulate(np.where(empty, -1, rows), axis=0)
    begin = np.zeros(len(values), dtype=np.int64)
    if starts is not None:
        begin[starts] = starts
        begin = np.maximum.accumulate(begin)
    known = last >= begin[:, None]
    return np.where(known, np.take_along_axis(values, np.maximum(last, 0), axis=0), 0.0)

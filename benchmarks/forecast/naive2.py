"""Naive2: the last value, seasonally adjusted where a test finds a season, as in M4.

Source: Makridakis, Spiliotis & Assimakopoulos 2020, The M4 Competition; the decomposition is the
classical multiplicative one.
"""

from __future__ import annotations

import numpy as np

LIMIT = 1.645
"""Of the test for a season: 90 % of a normal distribution."""


def autocorrelation(y: np.ndarray, lags: int) -> np.ndarray:
    """Autocorrelations (lags,) at 1, 2, ..., each divided by the variance over all rows.

    >>> autocorrelation(np.array([1.0, -1.0, 1.0, -1.0]), 2)
    array([-0.75,  0.5 ])
    """
    d = y - y.mean()
    whole = (d * d).sum()
    if whole == 0:
        return np.zeros(lags)
    return np.array([(d[lag:] * d[:-lag]).sum() / whole for lag in range(1, lags + 1)])


def has_season(y: np.ndarray, season: int) -> bool:
    """Whether the autocorrelation at the season is beyond what those below it explain."""
    if season < 2 or len(y) < 3 * season:
        return False
    r = autocorrelation(y, season)
    limit = LIMIT * np.sqrt((1 + 2 * (r[:-1] ** 2).sum()) / len(y))
    return bool(abs(r[-1]) > limit)


def seasonal_factors(y: np.ndarray, season: int) -> np.ndarray:
    """Factors of the `season` phases (season,), the first row's first; their mean is 1."""
    weights = np.ones(season + 1 - season % 2)
    if season % 2 == 0:
        weights[[0, -1]] = 0.5
    half = len(weights) // 2
    trend = np.full(len(y), np.nan)
    trend[half : len(y) - half] = np.convolve(y, weights / season, mode="valid")
    ratio = y / trend
    factors = np.array([np.nanmean(ratio[phase::season]) for phase in range(season)])
    return factors / factors.mean()


def naive2(y: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """The next `horizon` values (horizon,) of a positive series (n,).

    >>> naive2(np.tile([1.0, 2.0, 3.0], 8), 3, season=3)
    array([1., 2., 3.])
    """
    if not has_season(y, season):
        return np.full(horizon, y[-1])
    factors = seasonal_factors(y, season)
    phases = (len(y) + np.arange(horizon)) % season
    return y[-1] / factors[(len(y) - 1) % season] * factors[phases]

"""How far forecasts are from what came: scores over the values that were observed.

Every function takes `truth`, `forecast` and `weight` (1 observed, 0 not) of one shape, and returns
a float in the unit it names. Scores of quantiles take those of every value in a last axis Q.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NAMES = ("MSE", "RMSE", "MAE", "R2", "MASE", "sMAPE", "MAPE")
# What is shown of forecasts with quantiles: evenly spread levels for CRPS, and intervals.
CRPS_LEVELS = tuple(round(0.05 * k, 2) for k in range(1, 20))
INTERVALS = (80, 95)
SHARES = (0.025, *CRPS_LEVELS, 0.975)


def mse(truth: np.ndarray, forecast: np.ndarray, weight: np.ndarray) -> float:
    """Mean squared error, in the target's unit squared."""
    return float(np.average((truth - forecast) ** 2, weights=weight))


def rmse(truth: np.ndarray, forecast: np.ndarray, weight: np.ndarray) -> float:
    """Root of the mean squared error, in the target's unit."""
    return float(np.sqrt(mse(truth, forecast, weight)))


def mae(truth: np.ndarray, forecast: np.ndarray, weight: np.ndarray) -> float:
    """Mean absolute error, in the target's unit."""
    return float(np.average(np.abs(truth - forecast), weights=weight))


def r2(truth: np.ndarray, forecast: np.ndarray, weight: np.ndarray) -> float:
    """Share of the variance explained: 1 is perfect, 0 the mean, NaN for constant truth."""
    mean = np.average(truth, weights=weight)
    variance = float(np.average((truth - mean) ** 2, weights=weight))
    return 1 - mse(truth, forecast, weight) / variance if variance > 0 else float("nan")


def mase(truth: np.ndarray, forecast: np.ndarray, weight: np.ndarray, scale: np.ndarray) -> float:
    """Absolute error over `scale`, the in-sample error of the seasonal naive forecast.

    `scale` broadcasts to the shape of `truth`, so every series has its own. Source: Hyndman &
    Koehler 2006, Another look at measures of forecast accuracy.
    """
    ratio = np.abs(truth - forecast) / np.broadcast_to(scale, truth.shape)
    return float(np.average(ratio, weights=weight))


def smape(truth: np.ndarray, forecast: np.ndarray, weight: np.ndarray) -> float:
    """Symmetric absolute percentage error, 0 to 200 percent (as in the M4 competition)."""
    size = np.abs(truth) + np.abs(forecast)
    ratio = np.divide(2 * np.abs(truth - forecast), size, out=np.zeros_like(size), where=size > 0)
    return 100 * float(np.average(ratio, weights=weight))


def mape(truth: np.ndarray, forecast: np.ndarray, weight: np.ndarray) -> float:
    """Mean absolute error in percent of the truth, where that is not 0; NaN where it always is."""
    kept = weight * (truth != 0)
    if not kept.any():
        return float("nan")
    ratio = np.abs(truth - forecast) / np.where(truth == 0, 1.0, np.abs(truth))
    return 100 * float(np.average(ratio, weights=kept))


def pinball(
    truth: np.ndarray, quantiles: np.ndarray, levels: Sequence[float], weight: np.ndarray
) -> float:
    """Mean pinball loss of `quantiles` (..., Q) at Q `levels`, in the target's unit.

    Source: Koenker & Bassett 1978, Regression quantiles.
    """
    shares = np.asarray(levels)
    error = truth[..., None] - quantiles
    losses = np.maximum(shares * error, (shares - 1) * error).mean(axis=-1)
    return float(np.average(losses, weights=weight))


def crps(
    truth: np.ndarray, quantiles: np.ndarray, levels: Sequence[float], weight: np.ndarray
) -> float:
    """Continuous ranked probability score from quantiles at evenly spread levels.

    It is twice the mean pinball loss; of a single median, the absolute error. Source: Gneiting &
    Ranjan 2011, Comparing density forecasts using threshold- and quantile-weighted scoring rules.
    """
    return 2 * pinball(truth, quantiles, levels, weight)


def scaled_crps(
    truth: np.ndarray, quantiles: np.ndarray, levels: Sequence[float], weight: np.ndarray
) -> float:
    """`crps` over the mean size of the truth: without a unit, the mean weighted quantile loss."""
    size = float(np.average(np.abs(truth), weights=weight))
    return crps(truth, quantiles, levels, weight) / size if size > 0 else float("nan")


def crps_samples(truth: np.ndarray, samples: np.ndarray, weight: np.ndarray) -> float:
    """Continuous ranked probability score of `samples` (..., n), in the target's unit.

    E|X - y| - E|X - X'| / 2 over all pairs. Source: Gneiting & Raftery 2007, Strictly proper
    scoring rules, prediction, and estimation, equation (21).
    """
    ordered = np.sort(samples, axis=-1)
    n = ordered.shape[-1]
    near = np.abs(ordered - truth[..., None]).mean(axis=-1)
    # Over sorted values, the sum over all pairs is a weighted sum.
    apart = (ordered * (2 * np.arange(n) - n + 1)).sum(axis=-1) / n**2
    return float(np.average(near - apart, weights=weight))


def coverage(truth: np.ndarray, low: np.ndarray, high: np.ndarray, weight: np.ndarray) -> float:
    """The share of the truth that lies between `low` and `high`, both included."""
    return float(np.average((truth >= low) & (truth <= high), weights=weight))


def width(low: np.ndarray, high: np.ndarray, weight: np.ndarray) -> float:
    """The mean width of the intervals, in the target's unit."""
    return float(np.average(high - low, weights=weight))


def winkler(
    truth: np.ndarray, low: np.ndarray, high: np.ndarray, weight: np.ndarray, level: float
) -> float:
    """Width of intervals of `level` percent, and a fine for what lies outside: less is better.

    Source: Winkler 1972, A decision-theoretic approach to interval estimation.
    """
    missed = np.maximum(low - truth, 0) + np.maximum(truth - high, 0)
    return float(np.average(high - low + 2 / (1 - level / 100) * missed, weights=weight))


def in_sample_scale(y: np.ndarray, observed: np.ndarray, season: int) -> float:
    """Mean absolute seasonal difference of a series (n,) over pairs that were both observed."""
    season = season if len(y) > season else 1
    both = observed[season:] & observed[:-season]
    differences = np.abs(y[season:] - y[:-season])[both]
    mean = float(differences.mean()) if len(differences) else 0.0
    return mean if mean > 0 else float("nan")


def all_scores(
    truth: np.ndarray, forecast: np.ndarray, weight: np.ndarray, scale: np.ndarray
) -> dict[str, float]:
    """The scores of a point forecast by name.

    >>> ones = np.ones((1, 2))
    >>> all_scores(2 * ones, 3 * ones, ones, ones)["MAE"]
    1.0
    """
    arguments = (truth, forecast, weight)
    return {
        "MSE": mse(*arguments),
        "RMSE": rmse(*arguments),
        "MAE": mae(*arguments),
        "R2": r2(*arguments),
        "MASE": mase(*arguments, scale),
        "sMAPE": smape(*arguments),
        "MAPE": mape(*arguments),
    }


def spread_scores(
    truth: np.ndarray,
    quantiles: np.ndarray,
    weight: np.ndarray,
    limits: tuple[float, float] = (0.0, 1.0),
) -> dict[str, float]:
    """The scores of quantiles (..., len(SHARES)) by name: CRPS, coverage and width of intervals.

    NaN stands for an interval beyond `limits`, where the quantiles are not what they are called.
    """
    places = [SHARES.index(share) for share in CRPS_LEVELS]
    scores = {"CRPS": crps(truth, quantiles[..., places], CRPS_LEVELS, weight)}
    for level in INTERVALS:
        low, high = (1 - level / 100) / 2, (1 + level / 100) / 2
        ends = (quantiles[..., SHARES.index(round(share, 6))] for share in (low, high))
        bottom, top = ends
        known = limits[0] <= low + 1e-9 and high - 1e-9 <= limits[1]
        known = known and bool(np.isfinite(bottom).all() and np.isfinite(top).all())
        covered = coverage(truth, bottom, top, weight) if known else float("nan")
        scores[f"cover {level}"] = covered
        scores[f"width {level}"] = width(bottom, top, weight) if known else float("nan")
    return scores

"""How far forecasts are from what came: six scores over the values that were observed.

Every function takes `truth`, `forecast` and `weight` (1 observed, 0 not) of one shape, and returns
a float in the unit it names.
"""

from __future__ import annotations

import numpy as np

NAMES = ("MSE", "RMSE", "MAE", "R2", "MASE", "sMAPE")


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
    """The six scores by name.

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
    }

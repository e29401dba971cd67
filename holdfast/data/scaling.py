"""Each series on its own scale: mean 0 and standard deviation 1 over the rows it was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from holdfast.data.panel import Panel, Series
from holdfast.errors import DataError

# A scaled covariate beyond what training has seen is held at this many standard deviations.
COVARIATE_LIMIT = 4.0


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of a series' target and of its C covariates."""

    mean: float
    std: float
    covariate_mean: tuple[float, ...] = ()
    covariate_std: tuple[float, ...] = ()

    def apply(self, y: np.ndarray) -> np.ndarray:
        """`y` in standard deviations from the mean."""
        return (y - self.mean) / self.std

    def undo(self, z: np.ndarray) -> np.ndarray:
        """Scaled values back in the user's unit."""
        return z * self.std + self.mean

    def apply_covariates(self, values: np.ndarray) -> np.ndarray:
        """Covariates (n, C) scaled, and held within what a network can take."""
        scaled = (values - np.asarray(self.covariate_mean)) / np.asarray(self.covariate_std)
        return np.clip(scaled, -COVARIATE_LIMIT, COVARIATE_LIMIT)


def fit_scales(panel: Panel, counts: dict[str, int]) -> dict[str, Scale]:
    """The scale of every series over its first `counts[id]` rows, observed ones only.

    Raises `DataError` for a series that is constant there: it has no scale and nothing to learn.
    """
    return {series.id: _scale(series[: counts[series.id]], panel) for series in panel.series}


def _scale(series: Series, panel: Panel) -> Scale:
    y = series.y[series.observed]
    mean, std = (float(y.mean()), float(y.std())) if len(y) else (0.0, 0.0)
    if std <= 1e-12 * max(1.0, abs(mean)):
        where = f" (series {series.id!r})" if series.id else ""
        raise DataError(
            f"{panel.name}{where}: column {panel.columns.target!r} is constant ({mean:g}) in the "
            "rows used for training, so there is nothing to learn; leave this series out"
        )
    deviations = series.covariates.std(axis=0)
    return Scale(
        mean=mean,
        std=std,
        covariate_mean=tuple(series.covariates.mean(axis=0).tolist()),
        covariate_std=tuple(np.where(deviations > 1e-9, deviations, 1.0).tolist()),
    )

"""Forecasts from many origins, with what came beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from holdfast.data.panel import Panel
from holdfast.tasks.forecast.forecasts import Forecasts


@dataclass(frozen=True)
class Rolled:
    """Rolling-origin forecasts of a panel.

    `starts` is the first scored row of each series, `origins` its origins as rows of the series,
    and `forecasts` those of all series, W of H steps, one series below the other.
    """

    panel: Panel
    starts: tuple[int, ...]
    origins: tuple[np.ndarray, ...]
    forecasts: Forecasts
    horizon: int

    @property
    def forecast(self) -> np.ndarray:
        """The point forecasts (W, H)."""
        return self.forecasts.point

    @property
    def truth(self) -> np.ndarray:
        """What came (W, H); filled values where nothing was observed."""
        return self._gather("y")

    @property
    def weight(self) -> np.ndarray:
        """1 where the target was observed, else 0 (W, H)."""
        return self._gather("observed").astype(np.float64)

    def _gather(self, name: str) -> np.ndarray:
        steps = np.arange(1, self.horizon + 1)
        pairs = zip(self.panel.series, self.origins, strict=True)
        return np.concatenate([getattr(s, name)[at[:, None] + steps] for s, at in pairs])

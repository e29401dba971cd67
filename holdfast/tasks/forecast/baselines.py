"""What every forecast is measured against: the last value, the value a season ago, and AutoETS."""

from __future__ import annotations

import importlib.util
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from holdfast.data.optional import require

# AutoETS is fitted anew at this many origins, spread evenly over all series and origins; in between
# the fitted model is carried forward over the new values.
ETS_FITS = 24
ETS_SEASONS_OF_HISTORY = 28
ETS_LONGEST_SEASON = 24


def naive(y: np.ndarray, origins: np.ndarray, horizon: int) -> np.ndarray:
    """The value at each of W origins, repeated: (W, H)."""
    return np.repeat(y[origins][:, None], horizon, axis=1)


def seasonal_naive(y: np.ndarray, origins: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """The value a whole number of seasons before each target, the latest known one: (W, H)."""
    steps = np.arange(1, horizon + 1)
    back = season * np.ceil(steps / season).astype(int)
    return y[origins[:, None] + steps - back]


@dataclass(frozen=True)
class EtsSetting:
    """How AutoETS is run: its season, the rows before an origin that it sees, and its fits."""

    season: int
    rows: int
    fits: int

    def describe(self) -> str:
        """One honest sentence for tables and reports."""
        origins = "origins" if self.fits > 1 else "origin"
        return (
            f"AutoETS (statsforecast, model ZZZ, season {self.season}) sees the last {self.rows} "
            "rows "
            f"before an origin; fitted anew at {self.fits} evenly spaced {origins} of each series, "
            "and carried forward over the new values in between"
        )


def ets_setting(seasons: tuple[int, ...], rows: int, origins: int, series: int = 1) -> EtsSetting:
    """The bounded setting for some series with `rows` rows before the first of `origins`."""
    usable = [season for season in seasons if season <= ETS_LONGEST_SEASON]
    season = max(usable, default=1)
    history = ETS_SEASONS_OF_HISTORY * season if season > 1 else 200
    return EtsSetting(season, min(history, rows), min(origins, max(1, ETS_FITS // series)))


def has_autoets() -> bool:
    """Whether statsforecast is installed."""
    return importlib.util.find_spec("statsforecast") is not None


def autoets(y: np.ndarray, origins: np.ndarray, horizon: int, setting: EtsSetting) -> np.ndarray:
    """Exponential smoothing (Hyndman et al. 2002) chosen by AICc, at each origin: (W, H)."""
    models: Any = require("statsforecast.models")
    every = math.ceil(len(origins) / setting.fits)
    model: Any = None
    forecasts = np.empty((len(origins), horizon))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for index, origin in enumerate(origins):
            seen = np.ascontiguousarray(y[max(0, origin + 1 - setting.rows) : origin + 1])
            if model is None or index % every == 0:
                model = models.AutoETS(season_length=setting.season).fit(seen)
                forecasts[index] = model.predict(h=horizon)["mean"]
            else:
                forecasts[index] = model.forward(y=seen, h=horizon)["mean"]
    return forecasts

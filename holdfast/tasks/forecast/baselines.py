"""What every forecast is measured against: the last value, the value a season ago, and AutoETS."""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from holdfast.data.optional import require

# AutoETS is fitted anew at this many origins, spread evenly over all series and origins; in between
# the fitted model is carried forward over the new values.
ETS_FITS = 24
ETS_SEASONS_OF_HISTORY = 28
ETS_LONGEST_SEASON = 24
SPREAD_ROWS = 4000


def naive(y: np.ndarray, origins: np.ndarray, horizon: int) -> np.ndarray:
    """The value at each of W origins, repeated: (W, H)."""
    return np.repeat(y[origins][:, None], horizon, axis=1)


def seasonal_naive(y: np.ndarray, origins: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """The value a whole number of seasons before each target, the latest known one: (W, H)."""
    return y[origins[:, None] + np.arange(1, horizon + 1) - seasonal_lags(horizon, season)]


def seasonal_lags(horizon: int, season: int) -> np.ndarray:
    """How many rows before each of the next H values the one stands that is repeated (H,)."""
    return season * np.ceil(np.arange(1, horizon + 1) / season).astype(int)


def spread(
    y: np.ndarray, observed: np.ndarray, lags: np.ndarray, shares: tuple[float, ...]
) -> np.ndarray:
    """Quantiles (H, Q) of what the value `lags[h]` rows ago was wrong by, over known rows (n,).

    NaN where a lag is longer than the rows. Only the last `SPREAD_ROWS` rows are looked at.
    """
    y, observed = y[-SPREAD_ROWS:], observed[-SPREAD_ROWS:]
    found = {}
    for lag in {int(lag) for lag in lags}:
        both = observed[lag:] & observed[:-lag]
        errors = (y[lag:] - y[:-lag])[both]
        found[lag] = np.quantile(errors, shares) if len(errors) else np.full(len(shares), np.nan)
    return np.stack([found[int(lag)] for lag in lags])


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
    return np.stack([found["mean"] for found in _ets(y, origins, horizon, setting, {})])


def autoets_quantiles(
    y: np.ndarray,
    origins: np.ndarray,
    horizon: int,
    setting: EtsSetting,
    shares: tuple[float, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """The same (W, H), and its quantiles at `shares` (W, H, Q)."""
    names = [(round(100 * abs(2 * share - 1), 6), share) for share in shares]
    levels = {"level": sorted({level for level, _ in names if level})}
    points, spreads = [], []
    for found in _ets(y, origins, horizon, setting, levels):
        points.append(found["mean"])
        columns = [
            found[f"{'lo' if share < 0.5 else 'hi'}-{level}" if level else "mean"]
            for level, share in names
        ]
        spreads.append(np.stack(columns, axis=-1) if columns else np.zeros((horizon, 0)))
    return np.stack(points), np.stack(spreads)


def _ets(
    y: np.ndarray, origins: np.ndarray, horizon: int, setting: EtsSetting, levels: dict[str, Any]
) -> Iterator[dict[str, np.ndarray]]:
    """What AutoETS says after each origin; fitted anew as `setting` says."""
    models: Any = require("statsforecast.models", "baselines")
    every = math.ceil(len(origins) / setting.fits)
    model: Any = None
    for index, origin in enumerate(origins):
        seen = np.ascontiguousarray(y[max(0, origin + 1 - setting.rows) : origin + 1])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if model is None or index % every == 0:
                model = models.AutoETS(season_length=setting.season).fit(seen)
                found = model.predict(h=horizon, **levels)
            else:
                found = model.forward(y=seen, h=horizon, **levels)
        yield found

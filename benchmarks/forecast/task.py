"""A forecasting task: a long table, how it is cut, and what a contender hands back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

ID, TIME, TARGET = "unique_id", "ds", "y"

DECILES = tuple(round(0.1 * k, 1) for k in range(1, 10))
QUANTILES = (0.025, *DECILES, 0.975)
"""What a probabilistic contender is asked for: nine deciles for the CRPS, and two for 95 %."""


@dataclass(frozen=True)
class Track:
    """One series of a task: n times, n values (NaN where nothing was measured), its origins.

    An origin is the last row that a forecast may see.
    """

    id: str
    times: np.ndarray
    y: np.ndarray
    origins: np.ndarray


@dataclass(frozen=True, eq=False)
class Task:
    """A long table (pandas) with the last `test` rows of every series held out.

    horizon: rows to forecast from each origin. test, valid: rows at each series' end that are
    scored, and rows before them for early stopping. step: rows between origins. season: rows of
    the season that naive forecasts and MASE take. frequency: as pandas names it. metrics: names of
    `scores.SCORES`. window: rows that a forecast may look back, where the protocol says so.
    in_deviations: errors in units of each series' standard deviation before `valid`. leads: steps
    ahead at which the MAE is told apart. covariates: numeric columns whose past may be used.
    calendar: whether times are real, so that hours and weekdays mean something. baselines: names
    of `baselines.BASELINES`. other: what is computed once and kept.
    """

    name: str
    frame: Any
    horizon: int
    test: int
    valid: int
    season: int
    frequency: str
    metrics: tuple[str, ...] = ("MAE", "RMSE")
    step: int = 1
    window: int | None = None
    in_deviations: bool = False
    leads: tuple[int, ...] = ()
    covariates: tuple[str, ...] = ()
    calendar: bool = True
    baselines: tuple[str, ...] = ("naive", "seasonal naive")
    other: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def tracks(self) -> tuple[Track, ...]:
        """The series in the order of the table.

        Errors: `ValueError` where the test part is no whole number of steps, or longer than a
        series.
        """
        if (self.test - self.horizon) % self.step:
            raise ValueError(
                f"{self.name}: {self.test} rows of test, less a forecast of {self.horizon}, are no "
                f"whole number of {self.step}"
            )
        found = []
        for id, part in self.frame.groupby(ID, sort=False):
            times, y = part[TIME].to_numpy(), part[TARGET].to_numpy(dtype=np.float64)
            first, last = len(y) - self.test - 1, len(y) - 1 - self.horizon
            if first < 0 or last < first:
                raise ValueError(
                    f"{self.name}: series {id!r} has {len(y)} rows; {self.test} are for the test "
                    f"and each forecast takes {self.horizon}"
                )
            found.append(Track(str(id), times, y, np.arange(first, last + 1, self.step)))
        return tuple(found)

    @property
    def past(self) -> Any:
        """The table without the rows of the test."""
        rows = self.frame.groupby(ID, sort=False).cumcount(ascending=False)
        return self.frame[rows >= self.test].reset_index(drop=True)

    @property
    def truth(self) -> np.ndarray:
        """What came (W, H): the windows of all series, one below the other; NaN if unmeasured."""
        steps = np.arange(1, self.horizon + 1)
        return np.concatenate([t.y[t.origins[:, None] + steps] for t in self.tracks])

    @property
    def owners(self) -> np.ndarray:
        """The place of each window's series in `tracks` (W,)."""
        return np.repeat(np.arange(len(self.tracks)), [len(t.origins) for t in self.tracks])

    @property
    def deviations(self) -> np.ndarray:
        """Each series' standard deviation over its training rows (S,)."""
        ends = [len(t.y) - self.test - self.valid for t in self.tracks]
        return np.array([np.nanstd(t.y[:end]) for t, end in zip(self.tracks, ends, strict=True)])

    @cached_property
    def whole(self) -> Task:
        """The task with `filled` for its table, for whoever refuses gaps; itself without gaps."""
        needed = [TARGET, *self.covariates]
        if not self.frame[needed].isna().to_numpy().any():
            return self
        return replace(self, frame=self.filled())

    def filled(self) -> Any:
        """The table with every missing value replaced from the past, for whoever refuses gaps.

        A target takes the value a season before, as far as there is one, else the last value.
        """
        frame = self.frame.copy()
        groups = frame.groupby(ID, sort=False)
        frame[TARGET] = groups[TARGET].transform(lambda y: _filled(y.to_numpy(), self.season))
        for name in self.covariates:
            frame[name] = frame.groupby(ID, sort=False)[name].transform(
                lambda x: _filled(x.to_numpy(), 1)
            )
        return frame


def _filled(values: np.ndarray, season: int) -> np.ndarray:
    """Values (n,) with each NaN replaced by the value a season before, else by the last one.

    >>> _filled(np.array([np.nan, 1.0, 2.0, np.nan]), 2)
    array([1., 1., 2., 1.])
    """
    values = np.array(values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        raise ValueError("a series has no value at all")
    values[: known[0]] = values[known[0]]
    for row in np.flatnonzero(np.isnan(values)):
        values[row] = values[row - season] if row >= season else values[row - 1]
    return values


@dataclass(frozen=True, eq=False)
class Forecast:
    """What a contender hands back for a task.

    point: (W, H) in the order of `Task.truth`. quantiles: (W, H) by level, empty without them.
    fit_s, predict_s: seconds of processor time, for a busy machine stretches those on the clock;
    None where they are not told apart. settings: what was chosen, in words.
    """

    point: np.ndarray
    quantiles: dict[float, np.ndarray] = field(default_factory=dict)
    fit_s: float | None = None
    predict_s: float | None = None
    settings: str = ""


class RefusalError(Exception):
    """Why a contender has no figures: it is not installed, or what it gave is no forecast."""


def checked(forecast: Forecast, task: Task) -> Forecast:
    """The forecast, where it can be scored.

    Errors: `RefusalError` for another shape, or for values that are not finite.
    """
    expected = task.truth.shape
    for name, values in {"point": forecast.point, **forecast.quantiles}.items():
        if values.shape != expected:
            raise RefusalError(f"{name}: got the shape {values.shape}, expected {expected}")
        if not np.isfinite(values).all():
            count = int((~np.isfinite(values)).sum())
            raise RefusalError(f"{name}: {count} of {values.size} values are not finite")
    return forecast

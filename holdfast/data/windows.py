"""Scaled series become tensors, and windows are index arithmetic on them, so nothing is copied.

A forecast made at row o (the *origin*, the last row that is known) reads a window of rows up to o
and, for each of the H target rows o+1 .. o+H, what is known beforehand: the calendar, and the
values one or more whole seasons earlier (*lags*, all of them at least H rows back, so known at o).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from holdfast.data.calendar import calendar_features
from holdfast.data.panel import Panel, Series
from holdfast.data.scaling import Scale

REPEATS = 4


@dataclass(frozen=True)
class Recipe:
    """The shape of a window: rows read, rows forecast, season lengths, and lags in rows.

    >>> Recipe(window=168, horizon=24, seasons=(24, 168), lags=(24, 168)).history
    336
    """

    window: int
    horizon: int
    seasons: tuple[int, ...]
    lags: tuple[int, ...]

    @property
    def history(self) -> int:
        """Rows a series must have up to and including the origin."""
        return self.window + max(self.lags, default=1)

    @property
    def main_lags(self) -> tuple[int, ...]:
        """The lags that are whole multiples of the longest season."""
        longest = max(self.seasons, default=0)
        return tuple(lag for lag in self.lags if longest and lag % longest == 0)


def default_lags(seasons: tuple[int, ...], horizon: int, repeats: int = REPEATS) -> tuple[int, ...]:
    """Whole seasons back, never less than `horizon`: `repeats` of the longest, two of each other.

    >>> default_lags((24, 168), horizon=24)
    (24, 48, 168, 336, 504, 672)
    """
    lags: set[int] = set()
    for season in seasons:
        first = math.ceil(horizon / season)
        count = repeats if season == max(seasons) else min(2, repeats)
        lags.update(season * (first + k) for k in range(count))
    return tuple(sorted(lags))


@dataclass(frozen=True)
class Windows:
    """Tensors over all rows of all series, each series followed by H rows of known future.

    x          (N, F)  what the recurrent layer reads at a row
    calendar   (N, C)  known beforehand
    lagged     (N, K)  scaled target one lag before each row; 0 where the series had not begun
    z          (N,)    scaled target, 0 in the future rows
    weight     (N,)    1 where the target was observed, else 0
    starts     first row of each series; lengths  its rows without the future ones
    """

    recipe: Recipe
    x: Tensor
    calendar: Tensor
    lagged: Tensor
    z: Tensor
    weight: Tensor
    starts: tuple[int, ...]
    lengths: tuple[int, ...]

    def origins(self, index: int, first: int, last: int, step: int = 1) -> np.ndarray:
        """Origins of series `index` from its row `first` to `last`, as rows of the tensors."""
        begin = max(first, self.recipe.history - 1)
        return self.starts[index] + np.arange(begin, last + 1, step)

    def inputs(self, origins: np.ndarray, span: int = 1) -> dict[str, Tensor]:
        """What the network reads to forecast from each of the `span` rows up to `origins` (B,).

        Returns ``x`` (B, window+span-1, F), ``known`` (B, span, H, K+1+C): candidates, which are
        the lagged values and a zero for the value at the origin, all relative to the latter; then
        the calendar. And ``level`` (B, span, 1), the value at the origin.
        """
        at = torch.as_tensor(origins)[:, None]
        read = at + torch.arange(-(self.recipe.window + span - 2), 1)
        origin = at + torch.arange(1 - span, 1)
        target = origin[..., None] + torch.arange(1, self.recipe.horizon + 1)
        level = self.z[origin][..., None]
        candidates = self.lagged[target] - level[..., None]
        now = torch.zeros(*target.shape, 1)
        known = torch.cat([candidates, now, self.calendar[target]], dim=-1)
        return {"x": self.x[read], "known": known, "level": level}

    def targets(self, origins: np.ndarray, span: int = 1) -> tuple[Tensor, Tensor]:
        """The scaled values to forecast and their weights, both (B, span, H)."""
        origin = torch.as_tensor(origins)[:, None] + torch.arange(1 - span, 1)
        target = origin[..., None] + torch.arange(1, self.recipe.horizon + 1)
        return self.z[target], self.weight[target]


def make_windows(panel: Panel, scales: dict[str, Scale], recipe: Recipe) -> Windows:
    """The tensors of every series of `panel`, one after the other."""
    parts = [_features(series, scales[series.id], panel, recipe) for series in panel.series]
    lengths = tuple(map(len, panel.series))
    starts = np.cumsum([0, *(length + recipe.horizon for length in lengths)])[:-1]
    tensors = [torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True)]
    return Windows(recipe, *tensors, starts=tuple(map(int, starts)), lengths=lengths)


def _features(series: Series, scale: Scale, panel: Panel, recipe: Recipe) -> tuple[np.ndarray, ...]:
    n, H = len(series), recipe.horizon
    future = panel.frequency.after(series.times[-1], H)
    calendar = calendar_features(np.concatenate([series.times, future]), panel.frequency)
    z = np.concatenate([scale.apply(series.y), np.zeros(H)])
    lagged = np.zeros((n + H, len(recipe.lags)))
    for k, lag in enumerate(recipe.lags):
        lagged[lag:, k] = z[:-lag]
    observed = np.concatenate([series.observed, np.zeros(H, bool)]).astype(np.float64)
    columns = [np.diff(z, prepend=z[0]), 1 - observed]
    firsts = {lag for m in recipe.seasons for lag in recipe.lags if lag % m == 0 and lag < m + H}
    columns += [z - lagged[:, recipe.lags.index(lag)] for lag in sorted(firsts)]
    main = [recipe.lags.index(lag) for lag in recipe.main_lags]
    if main:
        columns.append(z - lagged[:, main].mean(axis=1))
    else:
        columns.append(z)
    covariates = np.zeros((n + H, series.covariates.shape[1]))
    covariates[:n] = scale.apply_covariates(series.covariates)
    x = np.concatenate([np.stack(columns, axis=1), covariates, calendar], axis=1)
    as_float = (x, calendar, lagged, z, observed)
    return tuple(np.ascontiguousarray(part, dtype=np.float32) for part in as_float)

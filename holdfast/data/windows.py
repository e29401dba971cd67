"""Scaled series become tensors, and windows are index arithmetic on them, so nothing is copied.

A forecast made at row o (the *origin*, the last row that is known) reads the rows up to o, and what
is known beforehand of the H target rows o+1 .. o+H. Rows before the first of a series repeat it and
are marked as not there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.data.calendar import calendar_features
from holdfast.data.covariates import Schema
from holdfast.data.panel import Panel, Series, fill
from holdfast.data.scaling import Scale, Scaling

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
        """Rows up to and including the origin that a forecast reads, where they are there."""
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
class Batch:
    """What a network gets for B windows, each with S neighboring origins, the last at row R - 1.

    y            (B, R)         scaled target; filled where it was not observed
    observed     (B, R)         1 where it was, else 0
    there        (B, R)         1 from the first row of the series on, else 0
    past         (B, R, P)      numbers of which the future is not known
    past_codes   (B, R, p)      labels of the same, 0 where unknown
    future       (B, R+H, F)    numbers known beforehand; the first are the calendar's
    future_codes (B, R+H, f)    labels of the same
    static       (B, Z)         numbers of the series
    static_codes (B, z)         its labels
    series       (B,)           which series it is in training; -1 for a new one
    scale        (B, 2)         what scaled values are multiplied by, and added to
    target       (B, S, H)      scaled values to forecast
    weight       (B, S, H)      1 where they were observed, else 0
    """

    y: Tensor
    observed: Tensor
    there: Tensor
    past: Tensor
    past_codes: Tensor
    future: Tensor
    future_codes: Tensor
    static: Tensor
    static_codes: Tensor
    series: Tensor
    scale: Tensor
    target: Tensor
    weight: Tensor

    @property
    def span(self) -> int:
        """S, origins in each window."""
        return self.target.shape[1]

    @property
    def horizon(self) -> int:
        """H, rows to forecast."""
        return self.target.shape[2]

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device."""
        return Batch(**{name: tensor.to(device) for name, tensor in vars(self).items()})


@dataclass(frozen=True)
class Windows:
    """Tensors over all rows of all series, each series followed by H rows of known future.

    `scales` are those of the series, also as the `scale` (L, 2) of a batch. `starts` (L,) is the
    first row of each of L series, `lengths` (L,) its rows without the future ones,
    `first_ordinals` (L,) where it begins on the grid of all series, and `known` (L,) which series
    of training it is. The rest are the columns of a `Batch`; the calendar is stored once.
    """

    recipe: Recipe
    starts: Tensor
    lengths: np.ndarray
    first_ordinals: Tensor
    known: Tensor
    scales: tuple[Scale, ...]
    scale: Tensor
    calendar: Tensor
    z: Tensor
    observed: Tensor
    past: Tensor
    past_codes: Tensor
    future: Tensor
    future_codes: Tensor
    static: Tensor
    static_codes: Tensor

    def batch(self, blocks: np.ndarray, span: int = 1) -> Batch:
        """The windows whose last origins are `blocks` (B, 2): series, and row within it."""
        H, reach = self.recipe.horizon, self.recipe.history + span - 2
        series, origin = torch.as_tensor(blocks).unbind(1)
        local = origin[:, None] + torch.arange(-reach, H + 1)
        there = local >= 0
        rows = self.starts[series][:, None] + local.clamp(min=0)
        past = rows[:, : reach + 1]
        z, observed = self.z[rows], self.observed[rows] * there
        grid = self.first_ordinals[series][:, None] + local
        calendar = self.calendar[grid.clamp(min=0)]
        return Batch(
            y=z[:, : reach + 1],
            observed=observed[:, : reach + 1],
            there=there[:, : reach + 1].float(),
            past=self.past[past],
            past_codes=self.past_codes[past],
            future=torch.cat([calendar, self.future[rows]], dim=-1),
            future_codes=self.future_codes[rows],
            static=self.static[series],
            static_codes=self.static_codes[series],
            series=self.known[series],
            scale=self.scale[series],
            target=z[:, 1 + reach + 1 - span :].unfold(1, H, 1),
            weight=observed[:, 1 + reach + 1 - span :].unfold(1, H, 1),
        )

    def undo(self, z: np.ndarray, owner: np.ndarray) -> np.ndarray:
        """Scaled values of the series `owner`, which broadcasts, in the user's unit."""
        std = np.array([scale.std for scale in self.scales])
        mean = np.array([scale.mean for scale in self.scales])
        y = z * std[owner] + mean[owner]
        return np.exp(y) if self.scales[0].log else y

    def scaled(self, y: np.ndarray, owner: np.ndarray) -> np.ndarray:
        """Undo `undo`: values in the user's unit, scaled as those of the series `owner`."""
        std = np.array([scale.std for scale in self.scales])
        mean = np.array([scale.mean for scale in self.scales])
        return ((np.log(y) if self.scales[0].log else y) - mean[owner]) / std[owner]

    def last(self) -> np.ndarray:
        """The last row of every series as its origin, (L, 2)."""
        return np.stack([np.arange(len(self.lengths)), self.lengths - 1], axis=1)


def make_windows(
    panel: Panel, scaling: Scaling, recipe: Recipe, schema: Schema, known: dict[str, int]
) -> Windows:
    """The tensors of every series of `panel`, one after the other.

    `schema` is that of training, `known` the number of each series there.
    """
    H, frequency = recipe.horizon, panel.frequency
    scales = tuple(scaling.of(series, panel) for series in panel.series)
    pairs = zip(panel.series, scales, strict=True)
    parts = [_columns(series, scale, panel, scaling, schema, H) for series, scale in pairs]
    names = parts[0].keys()
    columns = {name: torch.from_numpy(np.concatenate([p[name] for p in parts])) for name in names}
    lengths = np.array([len(series) for series in panel.series])
    starts = np.cumsum([0, *(lengths + H)])[:-1]
    ordinals = frequency.ordinals(np.array([series.times[0] for series in panel.series]))
    first = panel.series[int(ordinals.argmin())].times[0]
    count = int((ordinals - ordinals.min() + lengths).max()) + H
    calendar = calendar_features(frequency.grid(first, count), frequency)
    return Windows(
        recipe=recipe,
        starts=torch.from_numpy(starts),
        lengths=lengths,
        first_ordinals=torch.from_numpy(ordinals - ordinals.min()),
        known=torch.tensor([known.get(series.id, -1) for series in panel.series]),
        scales=scales,
        scale=torch.tensor([(scale.std, scale.mean) for scale in scales], dtype=torch.float32),
        calendar=torch.from_numpy(calendar),
        **columns,
    )


def _columns(
    series: Series, scale: Scale, panel: Panel, scaling: Scaling, schema: Schema, H: int
) -> dict[str, np.ndarray]:
    """One series as the columns of `Windows`, its H future rows included."""
    n = len(series)
    values: dict[str, Any] = {
        "z": np.concatenate([scale.apply(series.y), np.zeros(H)]),
        "observed": np.concatenate([series.observed, np.zeros(H)]),
    }
    sizes = {"past": n, "future": min(n + H, len(series.future)), "static": 1}
    for role, size in sizes.items():
        given = getattr(series, role)
        given = given[None] if role == "static" else given[:size]
        given = schema.translate(role, given, panel.schema)
        numbers, codes = _encode(given, role, schema, scaling)
        missing = 0 if role == "static" else n + H - size
        values[role] = np.pad(numbers, ((0, missing), (0, 0)), mode="edge")
        values[f"{role}_codes"] = np.pad(codes, ((0, missing), (0, 0)), mode="edge")
    integers = {f"{role}_codes" for role in sizes}
    return {
        name: np.ascontiguousarray(part, dtype=np.int64 if name in integers else np.float32)
        for name, part in values.items()
    }


def _encode(
    values: np.ndarray, role: str, schema: Schema, scaling: Scaling
) -> tuple[np.ndarray, np.ndarray]:
    """Scaled numbers with their flags of absence, and codes counted from 1; 0 is unknown.

    An empty number takes the last one there was, so that no forecast sees its own future.
    """
    covariates = schema.of(role)
    scaled = scaling.covariates(role, values) if covariates else values
    numbers, codes = [np.zeros((len(values), 0))], [np.zeros((len(values), 0))]
    for place, covariate in enumerate(covariates):
        column = values[:, place]
        missing = np.isnan(column)
        if covariate.kind == "number":
            filled = scaled[:, place]
            numbers.append((fill(filled, ()) if missing.any() else filled)[:, None])
            if covariate.gaps:
                numbers.append(missing[:, None])
        else:
            codes.append(np.where(missing, 0, column + 1)[:, None])
    return np.concatenate(numbers, axis=1), np.concatenate(codes, axis=1)

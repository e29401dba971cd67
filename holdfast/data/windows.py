"""Scaled series become tensors, and windows are index arithmetic on them, so nothing is copied.

A forecast made at row o (the *origin*, the last row that is known) reads the rows up to o, and what
is known beforehand of the H target rows o+1 .. o+H. Rows before the first of a series repeat it and
are marked as not there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from holdfast.data.calendar import calendar_features
from holdfast.data.columns import write_columns
from holdfast.data.covariates import Schema
from holdfast.data.panel import Panel
from holdfast.data.scaling import Scale, Scaling
from holdfast.data.words import bags

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
    texts        a tensor for each text column, the bags (see `holdfast.data.words`) of its codes
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
    texts: tuple[Tensor, ...] = ()

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
        moved = {name: x.to(device) for name, x in vars(self).items() if name != "texts"}
        return Batch(**moved, texts=tuple(bags.to(device) for bags in self.texts))


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
    texts: tuple[Tensor, ...] = ()

    def batch(self, blocks: np.ndarray, span: int = 1) -> Batch:
        """The windows whose last origins are `blocks` (B, 2): series, and row within it."""
        H, reach = self.recipe.horizon, self.recipe.history + span - 2
        if len(blocks) == 1 and blocks[0, 1] >= reach:
            return self._one(int(blocks[0, 0]), int(blocks[0, 1]), reach, span)
        series, origin = torch.as_tensor(blocks).unbind(1)
        local = origin[:, None] + torch.arange(-reach, H + 1)
        there = local >= 0
        rows = self.starts[series][:, None] + local.clamp(min=0)
        past = rows[:, : reach + 1]
        z, observed = self.z[rows], self.observed[rows] * there
        grid = self.first_ordinals[series][:, None] + local
        calendar = self.calendar[grid.clamp(min=0)]
        # Nothing is forecast from before the first row, which stands in place of those before it.
        made = there[:, reach + 1 - span : reach + 1, None]
        return Batch(
            y=z[:, : reach + 1],
            observed=observed[:, : reach + 1],
            there=there[:, : reach + 1].float(),
            past=self.past[past],
            past_codes=self.past_codes[past].long(),
            future=torch.cat([calendar, self.future[rows]], dim=-1),
            future_codes=self.future_codes[rows].long(),
            static=self.static[series],
            static_codes=self.static_codes[series].long(),
            series=self.known[series],
            scale=self.scale[series],
            target=z[:, 1 + reach + 1 - span :].unfold(1, H, 1),
            weight=observed[:, 1 + reach + 1 - span :].unfold(1, H, 1) * made,
            texts=self.texts,
        )

    def _one(self, series: int, origin: int, reach: int, span: int) -> Batch:
        """The batch of a single whole window: the same numbers as slices, without a copy."""
        H, count = self.recipe.horizon, reach + 1
        first = int(self.starts[series]) + origin - reach
        begin = int(self.first_ordinals[series]) + origin - reach
        z, observed = _slice(self.z, first, count + H), _slice(self.observed, first, count + H)
        future = _slice(self.calendar, begin, count + H)
        if self.future.shape[1]:
            future = torch.cat([future, _slice(self.future, first, count + H)], dim=-1)
        return Batch(
            y=z.narrow(1, 0, count),
            observed=observed.narrow(1, 0, count),
            there=torch.ones(1, count),
            past=_slice(self.past, first, count),
            past_codes=_slice(self.past_codes, first, count).long(),
            future=future,
            future_codes=_slice(self.future_codes, first, count + H).long(),
            static=self.static.narrow(0, series, 1),
            static_codes=self.static_codes.narrow(0, series, 1).long(),
            series=self.known.narrow(0, series, 1),
            scale=self.scale.narrow(0, series, 1),
            target=z.narrow(1, count + 1 - span, span + H - 1).unfold(1, H, 1),
            weight=observed.narrow(1, count + 1 - span, span + H - 1).unfold(1, H, 1),
            texts=self.texts,
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


def _slice(rows: Tensor, first: int, count: int) -> Tensor:
    """Some rows (N, ...) as a batch of one (1, count, ...)."""
    return rows.narrow(0, first, count).unsqueeze(0)


def make_windows(
    panel: Panel, scaling: Scaling, recipe: Recipe, schema: Schema, known: dict[str, int]
) -> Windows:
    """The tensors of every series of `panel`, one after the other, where the panel keeps its own.

    `schema` is that of training, `known` the number of each series there.
    """
    H, frequency = recipe.horizon, panel.frequency
    scales = tuple(scaling.of(series, panel) for series in panel.series)
    lengths = np.array([len(series) for series in panel.series])
    starts = np.cumsum([0, *(lengths + H)])
    ordinals = frequency.ordinals(np.array([series.times[0] for series in panel.series]))
    first = panel.series[int(ordinals.argmin())].times[0]
    count = int((ordinals - ordinals.min() + lengths).max()) + H
    calendar = calendar_features(frequency.grid(first, count), frequency)
    columns = write_columns(panel, scaling, schema, scales, H)
    texts = [bags(covariate.labels) for covariate in panel.schema.covariates if covariate.is_text]
    return Windows(
        recipe=recipe,
        starts=torch.from_numpy(starts[:-1]),
        lengths=lengths,
        first_ordinals=torch.from_numpy(ordinals - ordinals.min()),
        known=torch.tensor([known.get(series.id, -1) for series in panel.series]),
        scales=scales,
        scale=torch.tensor([(scale.std, scale.mean) for scale in scales], dtype=torch.float32),
        calendar=torch.from_numpy(calendar),
        texts=tuple(map(torch.from_numpy, texts)),
        **{
            **_nothing(len(columns["z"]), len(scales)),
            **{name: torch.from_numpy(values) for name, values in columns.items()},
        },
    )


def _nothing(rows: int, series: int) -> dict[str, Tensor]:
    """The columns of roles without a covariate."""
    none, codes = torch.zeros(rows, 0), torch.zeros(rows, 0, dtype=torch.int32)
    beside = {"static": none[:series], "static_codes": codes[:series]}
    return {"past": none, "past_codes": codes, "future": none, "future_codes": codes, **beside}

"""Segment: a recurrent layer over segments of the window instead of single rows.

A window of 96 hours is four steps of a day each, so gradients pass few steps, and a step sees a
whole season. All segments of the horizon are then written in parallel: each is one further step of
the same layer from the state at the origin, told apart by where it stands and by whose series it
is. Values are taken relative to the last one, so a series that wanders off is followed.

Source: Lin, Lin, Wu, Wang & Chen, SegRNN, 2023 (arXiv 2308.11200). Beyond it: any cell, covariates,
the calendar, other ways to normalize a window, lengths that are no whole number of segments.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from holdfast.data.windows import Batch, Recipe
from holdfast.errors import DataError
from holdfast.tasks.forecast.nets.base import (
    HIDDEN_LABELS,
    Features,
    ForecastNet,
    Outlook,
    Shape,
    make_recurrent,
    open_forget_gates,
)

NORMALIZATIONS = ("last", "mean", "standard")
# A window that is flat is not blown up: its deviation counts as this much of the series' own.
FLATTEST = 1e-2


class SegmentNet(ForecastNet):
    """Read the window segment by segment, write all segments of the horizon at once."""

    options: ClassVar[dict[str, str]] = {
        "segment": "rows of a segment; by default the shortest season that fits the window",
        "ahead": "rows that a step of the decoder writes; by default those of a segment",
        "normalize": 'what a window is taken relative to: its "last" value, its "mean", or '
        '"standard": its mean, and divided by its deviation',
        "calendar": "whether the calendar of the segments is read (True)",
    }

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        recipe, hidden, sizes = shape.recipe, shape.hidden_size, self.covariates.sizes
        self.segment = _rows(shape, "segment", default_segment(recipe))
        self.ahead = _rows(shape, "ahead", min(self.segment, recipe.horizon))
        self.normalize = shape.option("normalize", "last")
        if self.normalize not in NORMALIZATIONS:
            known = ", ".join(map(repr, NORMALIZATIONS))
            raise DataError(f"options: normalize={self.normalize!r}; expected one of {known}")
        self.calendar = shape.calendar if shape.option("calendar", True) else 0
        # Of the calendar a segment is told its first row: the others follow.
        self.future = sizes["future"] - shape.calendar
        read = self.segment * (1 + sizes["past"] + self.future) + 1 + self.calendar
        between = shape.dropout if shape.num_layers > 1 else 0.0
        self.read = nn.Linear(read, hidden)
        self.recurrent = make_recurrent(
            shape.cell, hidden, hidden, num_layers=shape.num_layers, dropout=between
        )
        steps = math.ceil(recipe.horizon / self.ahead)
        half = hidden // 2
        self.position = nn.Parameter(torch.randn(steps, hidden - half))
        # Row 0 stands for a series that training did not know.
        self.series = nn.Embedding(shape.series + 1, half)
        known = self.ahead * self.future + self.calendar + sizes["static"]
        self.known = nn.Linear(known, hidden, bias=False) if known else None
        self.dropout = nn.Dropout(shape.dropout)
        self.write = nn.Linear(hidden, self.ahead * self.head.size)
        if shape.cell == "lstm":
            open_forget_gates(self.recurrent, hidden)

    def forward(self, batch: Batch) -> Outlook:
        """What is said of the H steps after each of the S origins; S is 1."""
        features = self.covariates(batch)
        level, spread = self._frame(batch)
        values = (batch.y[:, -self.shape.recipe.window :] - level) / spread
        _, states = self.recurrent(self._segments(batch, features, values))
        raw = self._decode(batch, features, states) * spread[..., None]
        base = level[:, None].expand(-1, 1, batch.horizon)
        return Outlook(raw[:, None], base)

    def _frame(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What a window is shifted and divided by (B, 1) each."""
        rows = self.shape.recipe.window
        y, there = batch.y[:, -rows:], batch.there[:, -rows:]
        one = torch.ones_like(y[:, :1])
        if self.normalize == "last":
            return y[:, -1:], one
        count = there.sum(1, keepdim=True).clamp(min=1)
        mean = (y * there).sum(1, keepdim=True) / count
        if self.normalize == "mean":
            return mean, one
        square = ((y - mean).square() * there).sum(1, keepdim=True) / count
        return mean, (square + FLATTEST**2).sqrt()

    def _segments(self, batch: Batch, features: Features, values: Tensor) -> Tensor:
        """The window as steps of the layer (B, segments, hidden)."""
        window, rows = self.shape.recipe.window, self.segment
        R = batch.y.shape[1]
        here = slice(R - window, R)
        calendar = self.shape.calendar
        columns = [values[..., None], features.past[:, here], features.future[:, here, calendar:]]
        missing = (1 - batch.observed[:, here])[..., None]
        parts = [_cut(torch.cat(columns, dim=-1), rows), _cut(missing, rows).mean(-1, keepdim=True)]
        if self.calendar:
            parts.append(features.future[:, here, :calendar].flip(1)[:, rows - 1 :: rows].flip(1))
            parts[-1] = functional.pad(
                parts[-1], (0, 0, parts[0].shape[1] - parts[-1].shape[1], 0)
            )
        return torch.relu(self.read(torch.cat(parts, dim=-1)))

    def _decode(self, batch: Batch, features: Features, states: Any) -> Tensor:
        """One step for each segment of the horizon, all from the same states (B, H, P)."""
        steps, H, R = len(self.position), batch.horizon, batch.y.shape[1]
        place = batch.series + 1
        if self.training:
            place = place.masked_fill(torch.rand(place.shape) < HIDDEN_LABELS, 0)
        B = len(place)
        series = self.series(place)[:, None].expand(-1, steps, -1)
        told = torch.cat([self.position.expand(B, -1, -1), series], dim=-1)
        if self.known is not None:
            told = told + self.known(self._ahead(features, R))
        states = _each(states, lambda state: state.repeat_interleave(steps, dim=1))
        found, _ = self.recurrent(told.reshape(B * steps, 1, -1), states)
        out = self.write(self.dropout(found[:, 0]))
        return out.view(B, steps * self.ahead, self.head.size)[:, :H]

    def _ahead(self, features: Features, R: int) -> Tensor:
        """What is known beforehand of each segment of the horizon (B, steps, K)."""
        steps, calendar = len(self.position), self.shape.calendar
        ahead = features.future[:, R:]
        parts = [features.static[:, None].expand(-1, steps, -1)]
        if self.future:
            late = ahead[..., calendar:]
            missing = steps * self.ahead - late.shape[1]
            # The last segment may reach beyond the horizon: what is known last is repeated.
            late = torch.cat([late, late[:, -1:].expand(-1, missing, -1)], dim=1)
            parts.append(late.reshape(len(late), steps, -1))
        if self.calendar:
            parts.append(ahead[:, :: self.ahead, :calendar])
        return torch.cat(parts, dim=-1)


def default_segment(recipe: Recipe) -> int:
    """The shortest season that the window holds twice, else a quarter of the window.

    >>> default_segment(Recipe(window=96, horizon=24, seasons=(24, 168), lags=()))
    24
    """
    fitting = [season for season in recipe.seasons if 2 * season <= recipe.window]
    return min(fitting) if fitting else max(1, recipe.window // 4)


def _rows(shape: Shape, name: str, default: int) -> int:
    """An option that counts rows, checked."""
    value = shape.option(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise DataError(f"options: {name}={value!r}; expected a whole number of rows from 1 on")
    return value


def _cut(columns: Tensor, rows: int) -> Tensor:
    """Rows (B, T, C) as segments (B, ceil(T / rows), rows * C); the first one repeats row 0.

    >>> _cut(torch.arange(5.0).view(1, 5, 1), 3)
    tensor([[[0., 0., 1.],
             [2., 3., 4.]]])
    """
    B, T, _ = columns.shape
    missing = -T % rows
    if missing:
        columns = torch.cat([columns[:, :1].expand(-1, missing, -1), columns], dim=1)
    return columns.reshape(B, (T + missing) // rows, -1)


def _each(states: Any, change: Any) -> Any:
    """The states with every tensor changed, in whatever tuples they stand."""
    if isinstance(states, Tensor):
        return change(states)
    return tuple(_each(state, change) for state in states)

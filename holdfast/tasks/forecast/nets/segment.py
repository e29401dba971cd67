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
        self.step = SHARED_STEPS.get(shape.cell) if shape.num_layers == 1 else None
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
            parts[-1] = functional.pad(parts[-1], (0, 0, parts[0].shape[1] - parts[-1].shape[1], 0))
        return torch.relu(self.read(torch.cat(parts, dim=-1)))

    def _decode(self, batch: Batch, features: Features, states: Any) -> Tensor:
        """One step for each segment of the horizon, all from the same states (B, H, P)."""
        place = batch.series + 1
        if self.training:
            place = place.masked_fill(torch.rand(place.shape) < HIDDEN_LABELS, 0)
        B, steps = len(place), len(self.position)
        if self.known is None and self.step is not None:
            # What the segments are told depends on the series alone, so it is read once for each.
            found = self.step(self.recurrent, self._told(self.series.weight), states, place)
        else:
            told = self._told(self.series(place))
            if self.known is not None:
                told = told + self.known(self._ahead(features, batch.y.shape[1]))
            if self.step is not None:
                found = self.step(self.recurrent, told, states)
            else:
                states = _each(states, lambda state: state.repeat_interleave(steps, dim=1))
                found, _ = self.recurrent(told.reshape(B * steps, 1, -1), states)
        out = self.write(self.dropout(found.reshape(B, steps, -1)))
        return out.view(B, steps * self.ahead, self.head.size)[:, : batch.horizon]

    def _told(self, series: Tensor) -> Tensor:
        """Where each segment stands beside whose series it is (n, steps, hidden)."""
        steps = len(self.position)
        own = series[:, None].expand(-1, steps, -1)
        return torch.cat([self.position.expand(len(series), -1, -1), own], dim=-1)

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


def lstm_steps(layer: Any, told: Tensor, states: Any, rows: Tensor | None = None) -> Tensor:
    """h after one step of an LSTM for each of `told` (n, steps, I), all from one state: R h once.

    `rows` (B,) says which of `told` each row of the state reads; by default its own.
    """
    h, c = (state[0] for state in states)
    of_input = functional.linear(told, layer.weight_ih_l0, layer.bias_ih_l0)
    of_input = of_input if rows is None else of_input[rows]
    of_state = functional.linear(h, layer.weight_hh_l0, layer.bias_hh_l0)
    i, f, g, o = (of_input + of_state[:, None]).chunk(4, dim=-1)
    c = torch.sigmoid(f) * c[:, None] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c)


def gru_steps(layer: Any, told: Tensor, states: Any, rows: Tensor | None = None) -> Tensor:
    """The same for a GRU, as PyTorch defines it."""
    h = states[0][:, None]
    of_input = functional.linear(told, layer.weight_ih_l0, layer.bias_ih_l0)
    of_input = of_input if rows is None else of_input[rows]
    of_state = functional.linear(h, layer.weight_hh_l0, layer.bias_hh_l0)
    size = h.shape[-1]
    r, z = torch.sigmoid(of_input[..., : 2 * size] + of_state[..., : 2 * size]).chunk(2, dim=-1)
    n = torch.tanh(of_input[..., 2 * size :] + r * of_state[..., 2 * size :])
    return n + z * (h - n)


# Cells of which the step is written out, since from one state it costs one product instead of many.
SHARED_STEPS = {"lstm": lstm_steps, "gru": gru_steps}


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

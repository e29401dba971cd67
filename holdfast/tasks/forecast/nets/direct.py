"""Direct: a recurrent layer reads the past, a small head writes all H steps at once.

No step feeds on another, and the head is anchored: every forecast is a learned mixture of values
that are known at the origin (the last value, and the values whole seasons before the target) plus a
learned correction. All of them are taken relative to the last value, so a series that wanders off
is followed. An untrained network is already a seasonal average.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from holdfast.data.windows import Batch
from holdfast.tasks.forecast.nets.base import (
    Features,
    ForecastNet,
    Outlook,
    Shape,
    make_recurrent,
    open_forget_gates,
)

FAR = -1e4


class DirectNet(ForecastNet):
    """Forecast H steps from each of the last S rows of a window, all at once."""

    spans = True

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        recipe, hidden, sizes = shape.recipe, shape.hidden_size, self.covariates.sizes
        self.lags = recipe.lags
        self.firsts = tuple(
            sorted(
                {
                    lag
                    for season in recipe.seasons
                    for lag in recipe.lags
                    if lag % season == 0 and lag < season + recipe.horizon
                }
            )
        )
        self.mains = recipe.main_lags
        own = 3 + len(self.firsts)
        inputs = own + sizes["past"] + sizes["future"] + sizes["static"]
        between = shape.dropout if shape.num_layers > 1 else 0.0
        self.recurrent = make_recurrent(
            shape.cell, inputs, hidden, num_layers=shape.num_layers, dropout=between
        )
        self.context = nn.Linear(hidden, hidden)
        candidates = 1 + len(self.lags)
        self.known = nn.Linear(candidates + sizes["future"], hidden)
        self.step = nn.Parameter(0.1 * torch.randn(recipe.horizon, hidden))
        self.hidden = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, self.head.size + candidates)
        self.dropout = nn.Dropout(shape.dropout)
        if shape.cell == "lstm":
            open_forget_gates(self.recurrent, hidden)
        self._start_simple()

    def _start_simple(self) -> None:
        """The head begins as the plain average of its favorites."""
        with torch.no_grad():
            self.out.weight.zero_()
            self.out.bias.zero_()
            for lag in self.mains:
                self.out.bias[self.head.size + self.lags.index(lag)] = 1.0

    def forward(self, batch: Batch) -> Outlook:
        """What is said of the H steps after each of the S origins."""
        S = batch.span
        features = self.covariates(batch)
        states, _ = self.recurrent(self._inputs(batch, features))
        states = self.dropout(states[:, -S:])
        level = batch.y[:, -S:, None]
        candidates, missing = self._candidates(batch, level)
        R = batch.y.shape[1]
        ahead = features.future[:, R - S + 1 :].unfold(1, batch.horizon, 1).transpose(2, 3)
        known = self.known(torch.cat([candidates, ahead], dim=-1))
        mixed = self.context(states)[:, :, None] + known + self.step
        out = self.out(torch.relu(self.hidden(torch.relu(mixed))))
        raw, weights = out[..., : self.head.size], out[..., self.head.size :]
        weights = torch.softmax(weights.masked_fill(missing, FAR), dim=-1)
        return Outlook(raw, level + (weights * candidates).sum(dim=-1))

    def _inputs(self, batch: Batch, features: Features) -> Tensor:
        """What the recurrent layer reads at the last rows (B, window+S-1, inputs)."""
        y, R = batch.y, batch.y.shape[1]
        T = self.shape.recipe.window + batch.span - 1
        here = y[:, R - T :]
        columns = [here - y[:, R - T - 1 : R - 1], 1 - batch.observed[:, R - T :]]
        columns += [here - y[:, R - T - lag : R - lag] for lag in self.firsts]
        if self.mains:
            mains = [y[:, R - T - lag : R - lag] for lag in self.mains]
            columns.append(here - torch.stack(mains).mean(0))
        else:
            columns.append(here)
        static = features.static[:, None].expand(-1, T, -1)
        rows = [features.past[:, R - T :], features.future[:, R - T : R], static]
        return torch.cat([torch.stack(columns, dim=-1), *rows], dim=-1)

    def _candidates(self, batch: Batch, level: Tensor) -> tuple[Tensor, Tensor]:
        """Values known at the origin, relative to the last one, and which are not there."""
        S, H, R = batch.span, batch.horizon, batch.y.shape[1]
        values, missing = [], []
        for lag in self.lags:
            rows = slice(R - S + 1 - lag, R + H - lag)
            values.append(batch.y[:, rows].unfold(1, H, 1) - level)
            missing.append(batch.there[:, rows].unfold(1, H, 1) == 0)
        values.append(torch.zeros_like(batch.target))
        missing.append(torch.zeros_like(batch.target, dtype=torch.bool))
        return torch.stack(values, dim=-1), torch.stack(missing, dim=-1)

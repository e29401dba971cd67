"""Forecasts anchored on what is known: a learned mixture of past values, plus a correction.

The values are the last one, those whole seasons before the target, and the latest of these moved by
what the level has grown in a season; all relative to the last one, so a series that wanders off is
followed. Before training the mixture is a seasonal average.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from holdfast.data.windows import Batch, Recipe
from holdfast.tasks.forecast.nets.base import Features, Outlook

FAR = -1e4


def grown(recipe: Recipe) -> tuple[int, int] | None:
    """The longest season and its first lag, where a window shows two seasons.

    >>> grown(Recipe(window=28, horizon=18, seasons=(12,), lags=(24, 36)))
    (12, 24)
    """
    if not recipe.main_lags or recipe.history < 2 * max(recipe.seasons):
        return None
    return max(recipe.seasons), recipe.main_lags[0]


class RecentRows(nn.Module):
    """What a recurrent layer reads of the last rows: changes, flags, distances from seasons."""

    def __init__(self, recipe: Recipe, sizes: dict[str, int]) -> None:
        super().__init__()
        self.window = recipe.window
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
        self.size = 3 + len(self.firsts) + sizes["past"] + sizes["future"] + sizes["static"]

    def forward(self, batch: Batch, features: Features, last: int | None = None) -> Tensor:
        """The inputs of the `last` rows, (B, T, size); by default of T = window + S - 1."""
        y, R = batch.y, batch.y.shape[1]
        T = self.window + batch.span - 1 if last is None else last
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


class Beforehand(NamedTuple):
    """What is known of each of H steps after each of S origins.

    `level` (B, S, 1) is the last value, `candidates` (B, S, H, K) values relative to it, `missing`
    (B, S, H, K) which of them are not there, and `rows` (B, S, H, K+F) the candidates beside the
    future covariates.
    """

    level: Tensor
    candidates: Tensor
    missing: Tensor
    rows: Tensor


class AnchoredHead(nn.Module):
    """All H steps after each of S origins at once, from a context (B, S, hidden) of each origin.

    A context may also be one of each step, (B, S, H, hidden).
    """

    def __init__(self, recipe: Recipe, hidden: int, future: int, size: int, dropout: float) -> None:
        super().__init__()
        self.lags = recipe.lags
        self.size = size
        self.growing = grown(recipe)
        # Of each shape of a window, where its lags are.
        self._rows: dict[tuple[int, int], Tensor] = {}
        candidates = 1 + len(self.lags) + bool(self.growing)
        self.known_size = candidates + future
        self.context = nn.Linear(hidden, hidden)
        self.known = nn.Linear(self.known_size, hidden)
        self.step = nn.Parameter(0.1 * torch.randn(recipe.horizon, hidden))
        self.hidden = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, size + candidates)
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            self.out.weight.zero_()
            self.out.bias.zero_()
            for lag in recipe.main_lags:
                self.out.bias[size + self.lags.index(lag)] = 1.0

    def forward(self, states: Tensor, batch: Batch, future: Tensor) -> Outlook:
        """What is said of each step; `future` (B, R+H, F) is what is known of every row."""
        return self.write(states, self.beforehand(batch, future))

    def beforehand(self, batch: Batch, future: Tensor) -> Beforehand:
        """What is known of each step at the origins."""
        S, R = batch.span, batch.y.shape[1]
        level = batch.y[:, -S:, None]
        candidates, missing = self._candidates(batch, level)
        ahead = future[:, R - S + 1 :].unfold(1, batch.horizon, 1).transpose(2, 3)
        return Beforehand(level, candidates, missing, torch.cat([candidates, ahead], dim=-1))

    def write(self, states: Tensor, known: Beforehand) -> Outlook:
        """What is said of each step, from contexts and what is known of it."""
        context = self.context(self.dropout(states))
        if context.dim() == 3:
            context = context[:, :, None]
        mixed = context + self.known(known.rows) + self.step
        out = self.out(torch.relu(self.hidden(torch.relu(mixed))))
        weights = torch.softmax(out[..., self.size :].masked_fill(known.missing, FAR), dim=-1)
        base = known.level + (weights * known.candidates).sum(dim=-1)
        return Outlook(out[..., : self.size], base)

    @staticmethod
    def _growth(y: Tensor, season: int, span: int) -> Tensor:
        """How much the mean of the last season is above that of the one before, (B, S)."""
        kept = y[:, -(2 * season + span - 1) :]
        means = kept.unfold(1, season, 1).mean(-1)
        return means[:, season:] - means[:, :-season]

    def _candidates(self, batch: Batch, level: Tensor) -> tuple[Tensor, Tensor]:
        """Values known at the origin, relative to the last one, and which are not there."""
        S, R = batch.span, batch.y.shape[1]
        rows = self._rows_of_lags(R, S, batch.horizon)
        values = [batch.y[:, rows] - level[..., None]] if self.lags else []
        missing = [batch.there[:, rows] == 0] if self.lags else []
        if self.growing:
            season, lag = self.growing
            growth = lag // season * self._growth(batch.y, season, S)[..., None]
            place = self.lags.index(lag)
            values.append((values[0][..., place] + growth)[..., None])
            begun = batch.there[:, R - S + 1 - 2 * season : R + 1 - 2 * season]
            missing.append((missing[0][..., place] | (begun == 0)[..., None])[..., None])
        last = torch.zeros_like(batch.target)[..., None]
        values.append(last)
        missing.append(torch.zeros_like(last, dtype=torch.bool))
        return torch.cat(values, dim=-1), torch.cat(missing, dim=-1)

    def _rows_of_lags(self, R: int, S: int, H: int) -> Tensor:
        """Of windows of R rows, the one that each lag of each step and origin means, (S, H, K)."""
        key = (R, S)
        if key not in self._rows:
            # What is kept has to serve where gradients flow, too.
            with torch.inference_mode(False):
                steps = torch.arange(S)[:, None, None] + torch.arange(H)[:, None]
                self._rows[key] = R - S + 1 + steps - torch.tensor(self.lags, dtype=torch.int64)
        return self._rows[key].to(self.step.device)

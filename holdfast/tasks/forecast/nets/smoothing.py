"""Exponential smoothing with an LSTM inside: level and seasons by formula, the rest learned.

Every series has smoothing coefficients of its own, which are trained together with one network for
all series. A window is smoothed from its first row on; the network reads values without level and
season, and writes H values to which both are added again. Smoothing adds and subtracts scaled
values: with ``scaling="log"`` it is the multiplicative smoothing of the paper.

Reconstruction: Smyl 2020, A hybrid method of exponential smoothing and recurrent neural networks
(the winner of the M4 competition). The paper learns the first seasonal factors of each series; here
a window may begin anywhere, so they are estimated from its first two seasons. The paper's ensembles
of specialists are left out.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from holdfast.data.windows import Batch
from holdfast.errors import DataError
from holdfast.tasks.forecast.nets.base import ForecastNet, Outlook, Shape
from holdfast.tasks.forecast.nets.dilated import DilatedStack

# Coefficients learn so many times faster than the network, as each has one series to learn from.
GAIN = 10.0
# Rows smoothed at a time where no season says how many.
BLOCK = 32
DILATIONS = ((1, 2), (4, 8))


class Smoothed(NamedTuple):
    """`level` (B, R), and for each season of m rows its part (B, R+m), known m rows ahead."""

    level: Tensor
    seasons: list[Tensor]


def smooth(
    y: Tensor,
    observed: Tensor,
    coefficients: Tensor,
    level: Tensor,
    seasons: list[Tensor],
) -> Smoothed:
    """Additive exponential smoothing of rows (B, R), a block of rows at a time.

    >>> y = torch.tensor([[1.0, 2.0, 4.0]])
    >>> smooth(y, torch.ones(1, 3), torch.tensor([[0.5]]), torch.zeros(1), []).level
    tensor([[0.5000, 1.2500, 2.6250]])

    With the seasonal parts s of row t known from before, and alpha, gamma the `coefficients`
    (B, 1+K), level first:

        l_t       = alpha (y_t - sum of s_t) + (1 - alpha) l_{t-1}
        s_{t+m}   = s_t + gamma (y_t - l_t - sum of s_t)          for each of K seasons

    `observed` (B, R) is 0 where y_t says nothing: level and seasons then stay. `level` (B,) is that
    before the first row, `seasons` hold the parts (B, m) of the first m rows. No row of a block as
    long as the shortest season needs a seasonal part of that block, so the levels of a block are
    one product with a triangular matrix of decays: exact, and R / m steps instead of R.
    """
    R = y.shape[1]
    size = min((part.shape[1] for part in seasons), default=BLOCK)
    alpha, gammas = coefficients[:, :1], coefficients[:, 1:]
    ahead = list(seasons)
    levels: list[Tensor] = []
    used: list[list[Tensor]] = [[] for _ in seasons]
    before = level[:, None]
    for start in range(0, R, size):
        seen = observed[:, start : start + size]
        n = seen.shape[1]
        parts = [part[:, :n] for part in ahead]
        plain = y[:, start : start + n] - sum(parts)
        now = _levels(plain, alpha * seen, before)
        rest = seen * (plain - now)
        for k, part in enumerate(parts):
            used[k].append(part)
            ahead[k] = torch.cat([ahead[k][:, n:], part + gammas[:, k : k + 1] * rest], dim=1)
        levels.append(now)
        before = now[:, -1:]
    whole = [torch.cat([*parts, rest], dim=1) for parts, rest in zip(used, ahead, strict=True)]
    return Smoothed(torch.cat(levels, dim=1), whole)


def _levels(y: Tensor, alpha: Tensor, before: Tensor) -> Tensor:
    """l_t = alpha_t y_t + (1 - alpha_t) l_{t-1} for all n rows at once."""
    n = y.shape[1]
    decay = torch.log1p(-alpha).cumsum(dim=1)
    between = decay[:, :, None] - decay[:, None, :]
    future = torch.ones(n, n, dtype=torch.bool, device=y.device).triu(1)
    weights = between.masked_fill(future, -torch.inf).exp() * alpha[:, None]
    return (weights @ y[..., None])[..., 0] + decay.exp() * before


def first_state(
    y: Tensor, observed: Tensor, start: Tensor, seasons: tuple[int, ...]
) -> tuple[Tensor, list[Tensor]]:
    """Level (B,) before the first row, and the seasonal parts (B, m) of the first rows.

    Estimated from the first two seasons of every window, which begins at row `start` (B,): means by
    phase, less the trend from the one to the other. A season that is not there twice is flat.
    """
    R, parts, plain = y.shape[1], [], y
    for m in seasons:
        local = start[:, None] + torch.arange(2 * m)
        enough = (local[:, -1:] < R).float()
        rows = local.clamp(max=R - 1)
        seen = observed.gather(1, rows).view(-1, 2, m)
        values = plain.gather(1, rows).view(-1, 2, m)
        means = (values * seen).sum(-1) / seen.sum(-1).clamp(min=1)
        both = (seen.sum(-1) > 0).all(-1)
        slope = ((means[:, 1] - means[:, 0]) * both)[:, None, None] / m
        trend = means[..., None] + slope * (torch.arange(m) - (m - 1) / 2)
        phase = ((values - trend) * seen).sum(1) / seen.sum(1).clamp(min=1)
        phase = (phase - phase.mean(1, keepdim=True)) * enough
        parts.append(phase.gather(1, (torch.arange(m) - start[:, None]) % m))
        turns = parts[-1].repeat(1, R // m + 1)[:, :R]
        plain = plain - turns
    count = min(R, min(seasons, default=8))
    rows = (start[:, None] + torch.arange(count)).clamp(max=R - 1)
    seen = observed.gather(1, rows)
    return (plain.gather(1, rows) * seen).sum(1) / seen.sum(1).clamp(min=1), parts


class SmoothingNet(ForecastNet):
    """Smooth each series by its own coefficients, and let a dilated LSTM forecast what remains."""

    spans = True
    options: ClassVar[dict[str, str]] = {
        "dilations": "how many steps back the layers look, in groups with a shortcut around each "
        "(default: ((1, 2), (4, 8)))",
        "rows": "how many values the network reads at each row (default: the shortest season, at "
        "least 8 and at most 48)",
        "wiggle": "weight of the penalty on levels that change direction (default: 1)",
    }

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        recipe, hidden, sizes = shape.recipe, shape.hidden_size, self.covariates.sizes
        self.seasons = tuple(m for m in recipe.seasons if 2 * m <= recipe.history)
        self.rows = int(shape.option("rows", min(48, max(8, min(self.seasons, default=8)))))
        self.wiggle = float(shape.option("wiggle", 1.0))
        groups = tuple(tuple(map(int, group)) for group in shape.option("dilations", DILATIONS))
        if self.rows < 1 or not groups or not all(groups) or min(map(min, groups)) < 1:
            raise DataError(
                f"options: got rows={self.rows} and dilations={groups}; expected whole numbers "
                "from 1 on, such as rows=24 and dilations=((1, 2), (4, 8))"
            )
        self.ahead = min(recipe.horizon, min(self.seasons)) if self.seasons else 0
        inputs = self.rows + 1 + self.ahead + sum(sizes.values())
        self.stack = DilatedStack(shape.cell, inputs, hidden, groups)
        self.hidden = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, recipe.horizon * self.head.size)
        self.known = nn.Linear(sizes["future"], self.head.size, bias=False)
        self.dropout = nn.Dropout(shape.dropout)
        self.shared = nn.Parameter(torch.tensor([-0.5] + [-1.0] * len(self.seasons)) / GAIN)
        self.own = nn.Parameter(torch.zeros(shape.series, 1 + len(self.seasons)))
        with torch.no_grad():
            self.out.weight.zero_()
            self.out.bias.zero_()
            self.known.weight.zero_()

    def forward(self, batch: Batch) -> Outlook:
        """What is said of the H steps after each of the S origins."""
        _, raw, base = self._everywhere(batch)
        return Outlook(raw[:, -batch.span :], base[:, -batch.span :])

    def loss(self, batch: Batch) -> Tensor:
        """The loss at every row of the window in training, at the origins else; and the penalty."""
        if not self.training:
            return super().loss(batch)
        smoothed, raw, base = self._everywhere(batch)
        P, H = base.shape[1:]
        values = torch.cat([batch.y, batch.target[:, -1]], dim=1)
        weight = torch.cat([batch.observed, batch.weight[:, -1]], dim=1)
        target = values[:, -P - H + 1 :].unfold(1, H, 1)
        weight = weight[:, -P - H + 1 :].unfold(1, H, 1) * self._ready(batch, P)[..., None]
        scale = batch.scale[:, None, None]
        loss = self.head.loss(raw, base, target, weight, scale)
        turns = smoothed.level.diff(n=2, dim=1)
        return loss + self.wiggle * turns.square().mean() if turns.numel() else loss

    def coefficients(self, series: Tensor) -> Tensor:
        """Smoothing coefficients (B, 1+K) of series (B,); a new one, -1, takes the mean."""
        own = torch.cat([self.own, self.own.mean(0, keepdim=True)])
        return torch.sigmoid(GAIN * (self.shared + own[series]))

    def smoothed(self, batch: Batch) -> Smoothed:
        """Level and seasons of every row of the windows."""
        start = (batch.there == 0).sum(dim=1)
        level, parts = first_state(batch.y, batch.observed, start, self.seasons)
        return smooth(batch.y, batch.observed, self.coefficients(batch.series), level, parts)

    def _ready(self, batch: Batch, P: int) -> Tensor:
        """1 at the rows (B, P) that have seen all that the first state is made from."""
        R = batch.y.shape[1]
        start = (batch.there == 0).sum(dim=1, keepdim=True) + 2 * max(self.seasons, default=4)
        row = torch.arange(R - P, R)
        return ((row >= start) | (row >= R - batch.span)).float()

    def _everywhere(self, batch: Batch) -> tuple[Smoothed, Tensor, Tensor]:
        """Numbers (B, P, H, size) and base (B, P, H) at the last P = window + S - 1 rows."""
        features = self.covariates(batch)
        smoothed = self.smoothed(batch)
        R, H = batch.y.shape[1], batch.horizon
        P = self.shape.recipe.window + batch.span - 1
        level = smoothed.level[:, R - P :, None]
        season = self._season(smoothed, R, P, H)
        plain = batch.y - sum(part[:, :R] for part in smoothed.seasons)
        padded = torch.cat([plain[:, :1].expand(-1, self.rows - 1), plain], dim=1)
        columns = [padded[:, R - P :].unfold(1, self.rows, 1) - level, season[..., : self.ahead]]
        static = features.static[:, None].expand(-1, P, -1)
        rows = [1 - batch.observed[:, R - P :, None], features.past[:, R - P :]]
        rows += [features.future[:, R - P : R], static]
        states = self.dropout(self.stack(torch.cat([*columns, *rows], dim=-1)))
        raw = self.out(torch.tanh(self.hidden(states))).unflatten(-1, (H, -1))
        if self.known.in_features:
            said = self.known(features.future)[:, R - P + 1 :]
            raw = raw + said.unfold(1, H, 1).transpose(2, 3)
        return smoothed, raw, level + season

    def _season(self, smoothed: Smoothed, R: int, P: int, H: int) -> Tensor:
        """All seasonal parts of the H rows after each of the last P (B, P, H), added."""
        rows = torch.arange(R - P + 1, R + 1)[:, None]
        total = smoothed.level.new_zeros(len(smoothed.level), P, H)
        for part in smoothed.seasons:
            m = part.shape[1] - R
            total = total + part[:, rows + torch.arange(H) % m]
        return total

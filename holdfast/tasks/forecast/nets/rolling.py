"""Rolling: one recurrent layer says each step from the one before, and reads its own forecasts.

Step t reads the value before it, values some lags back, the covariates of t and what is known of
the series, and says the head's numbers of y_t. Training gives it the true values over the whole
window and the horizon in one call. A forecast warms the states up over the window once and then
goes on by itself: with a point it reads its own point; with a distribution, sampled values, in many
paths at once (ancestral sampling), so that the spread grows as uncertainty does.

Source: Salinas, Flunkert & Gasthaus 2017, DeepAR. Beyond it, `recurrent` is *anchored*: it reads
values relative to the last one, and its base is a learned mixture of values it has read. The
weighted choice of windows of the paper's section 3.3 is the option `weighted`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from holdfast.data.windows import Batch
from holdfast.errors import DataError
from holdfast.tasks.forecast.nets.base import (
    Features,
    ForecastNet,
    Outlook,
    Shape,
    make_recurrent,
    open_forget_gates,
)

FAR = -1e4

Draw = Callable[[Tensor, Tensor, Tensor], Tensor]


class Known(NamedTuple):
    """What steps read beside values of the series, for the rows of the steps.

    `rows` (B, N, C) are covariates, `unseen` (B, N) is 1 where the value before was not observed,
    and `missing` (B, N, 1+L) is true where a value that could be the base lies before the series.
    """

    rows: Tensor
    unseen: Tensor
    missing: Tensor


class RecurrentNet(ForecastNet):
    """Forecast step by step, each from what was forecast before it."""

    options: ClassVar[dict[str, str]] = {
        "anchor": "whether values are read relative to the last one and forecasts start from a "
        "learned mixture of values read (true for recurrent, false for deepar)",
        "near_lags": "lags below the horizon, read from the model's own forecasts; by default the "
        "seasons that are shorter than the horizon",
        "weighted": "whether training draws windows in proportion to the size of their series "
        "(false)",
    }
    anchored: ClassVar[bool] = True

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        recipe, hidden, sizes = shape.recipe, shape.hidden_size, self.covariates.sizes
        self.anchor = bool(shape.option("anchor", self.anchored))
        self.weighted = bool(shape.option("weighted", False))
        self.lags = tuple(sorted({*_near_lags(shape), *recipe.lags}))
        candidates = 1 + len(self.lags) if self.anchor else 0
        # A past covariate comes with a flag: in the horizon it is not known.
        past = sizes["past"] + 1 if sizes["past"] else 0
        inputs = 2 + len(self.lags) + past + sizes["future"] + sizes["static"]
        between = shape.dropout if shape.num_layers > 1 else 0.0
        self.recurrent = make_recurrent(
            shape.cell, inputs, hidden, num_layers=shape.num_layers, dropout=between
        )
        self.out = nn.Linear(hidden, self.head.size + candidates)
        self.dropout = nn.Dropout(shape.dropout)
        if shape.cell == "lstm":
            open_forget_gates(self.recurrent, hidden)
        if self.anchor:
            self._start_simple()

    def _start_simple(self) -> None:
        """An anchored network begins as the average of the values it may start from."""
        with torch.no_grad():
            self.out.weight.zero_()
            self.out.bias.zero_()

    @property
    def first(self) -> int:
        """How far before the first row of the horizon the first step lies."""
        return self.shape.recipe.window - 1

    def forward(self, batch: Batch) -> Outlook:
        """What is said of the H steps when each reads the points of those before it."""
        said: list[tuple[Tensor, Tensor]] = []

        def draw(raw: Tensor, base: Tensor, scale: Tensor) -> Tensor:
            said.append((raw, base))
            return self.head.point(raw, base, scale)

        self._roll(batch, 1, draw)
        raw, base = (torch.stack(parts, dim=2) for parts in zip(*said, strict=True))
        return Outlook(raw, base)

    def loss(self, batch: Batch) -> Tensor:
        """The loss of every row of window and horizon, each said from the true rows before it.

        In evaluation only the horizon counts, and a point has to find its own way through it.
        """
        if not self.training and not self.head.distribution:
            return super().loss(batch)
        raw, base = self.forced(batch)
        N = raw.shape[1]
        target = torch.cat([batch.y, batch.target[:, 0]], dim=1)[:, -N:]
        before = batch.observed if self.training else torch.zeros_like(batch.observed)
        weight = torch.cat([before, batch.weight[:, 0]], dim=1)[:, -N:]
        return self.head.loss(raw, base, target, weight, batch.scale[:, None])

    def paths(self, batch: Batch, count: int, generator: torch.Generator) -> Tensor | None:
        """`count` sampled futures (B, count, H) of a distribution; None for a point."""
        if not self.head.distribution:
            return None

        def draw(raw: Tensor, base: Tensor, scale: Tensor) -> Tensor:
            return self.head.sample(raw, base, scale, generator)

        return self._roll(batch, count, draw)

    def forced(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Numbers (B, N, P) and base (B, N) of the last window-1 rows and the horizon's H."""
        values = torch.cat([batch.y, batch.target[:, 0]], dim=1)
        known = self._known(batch)
        states, _ = self.recurrent(self._inputs(values, known))
        return self._spoken(states, self._read(values, states.shape[1]), known.missing)

    def _roll(self, batch: Batch, count: int, draw: Draw) -> Tensor:
        """The futures (B, count, H) that `draw` chooses step by step."""
        B, R, H, W = len(batch.y), batch.y.shape[1], batch.horizon, self.first
        known = self._known(batch)
        states: Any = None
        if W:
            past = Known(*(part[:, :W] for part in known))
            _, states = self.recurrent(self._inputs(batch.y, past))
            states = _repeated(states, count)
        drawn: list[Tensor] = []
        scale = batch.scale[:, None].expand(B, count, 2)
        back = (1, 2, *self.lags)
        for step in range(H):
            columns = [
                drawn[step - lag]
                if lag <= step
                else batch.y[:, R + step - lag, None].expand(B, count)
                for lag in back
            ]
            read = torch.stack(columns, dim=-1).reshape(B * count, 1, len(back))
            rows = slice(W + step, W + step + 1)
            here = Known(*(part[:, rows].repeat_interleave(count, dim=0) for part in known))
            out, states = self.recurrent(self._joined(read, here), states)
            raw, base = self._spoken(out, read, here.missing)
            drawn.append(draw(raw.view(B, count, -1), base.view(B, count), scale))
        return torch.stack(drawn, dim=-1)

    def _known(self, batch: Batch) -> Known:
        """Covariates, flags and gaps at the last N = window - 1 + H rows, the horizon's included.

        Nothing of the horizon is used but what is known beforehand: its own values come from the
        model, so they count as observed.
        """
        features = self.covariates(batch)
        B, R, H = len(batch.y), batch.y.shape[1], batch.horizon
        N = self.first + H
        ahead = batch.y.new_ones(B, H)
        observed = torch.cat([batch.observed, ahead], dim=1)
        there = torch.cat([batch.there, ahead], dim=1)
        rows = [features.future[:, -N:], features.static[:, None].expand(-1, N, -1)]
        if features.past.shape[-1]:
            rows.append(self._past(features, R, N))
        first = R + H - N
        missing = torch.stack(
            [there[:, first - lag : first - lag + N] == 0 for lag in (1, *self.lags)], dim=-1
        )
        return Known(torch.cat(rows, dim=-1), 1 - observed[:, first - 1 : first - 1 + N], missing)

    def _past(self, features: Features, R: int, N: int) -> Tensor:
        """Past covariates of the row before each step, and whether they are known."""
        window = self.shape.recipe.window
        rows = features.past[:, R - window :]
        rows = torch.cat([rows, rows.new_ones(*rows.shape[:2], 1)], dim=-1)
        return nn.functional.pad(rows, (0, 0, 0, N - window))

    def _inputs(self, values: Tensor, known: Known) -> Tensor:
        """What the layer reads at the last steps of `values` (B, n), as many as `known` has."""
        return self._joined(self._read(values, known.rows.shape[1]), known)

    def _read(self, values: Tensor, N: int) -> Tensor:
        """Values (B, N, 2+L) one and two rows and the lags before each of the last N rows."""
        first = values.shape[1] - N
        local = torch.arange(first, first + N)[:, None] - torch.tensor([1, 2, *self.lags])
        return values[:, local.clamp(min=0)]

    def _joined(self, read: Tensor, known: Known) -> Tensor:
        """Values read (..., N, 2+L) and what is known (..., N, C) as the layer's inputs."""
        last, before, lagged = read[..., :1], read[..., 1:2], read[..., 2:]
        own = [last - before, lagged - last] if self.anchor else [last, lagged]
        return torch.cat([*own, known.unseen[..., None], known.rows], dim=-1)

    def _spoken(self, states: Tensor, read: Tensor, missing: Tensor) -> tuple[Tensor, Tensor]:
        """The head's numbers (..., N, P) and the base (..., N) of steps."""
        out = self.out(self.dropout(states))
        if not self.anchor:
            return out, torch.zeros_like(read[..., 0])
        raw, weights = out[..., : self.head.size], out[..., self.head.size :]
        weights = torch.softmax(weights.masked_fill(missing, FAR), dim=-1)
        last = read[..., :1]
        moves = torch.cat([torch.zeros_like(last), read[..., 2:] - last], dim=-1)
        return raw, last[..., 0] + (weights * moves).sum(dim=-1)


class DeepARNet(RecurrentNet):
    """Sample futures step by step from a distribution, as DeepAR does."""

    anchored: ClassVar[bool] = False

    def __init__(self, shape: Shape) -> None:
        if not shape.head.distribution:
            raise DataError(
                'model="deepar" samples futures from a distribution, got output="point"; give '
                'output="gaussian", "student_t", "negative_binomial" (counts) or "quantiles", or '
                'take model="recurrent" for points'
            )
        super().__init__(shape)


def _near_lags(shape: Shape) -> tuple[int, ...]:
    """The lags below the horizon: those of the options, else short seasons within reach."""
    recipe = shape.recipe
    given = shape.option("near_lags", None)
    if given is None:
        reach = max(recipe.lags, default=1)
        return tuple(s for s in recipe.seasons if s < recipe.horizon and s <= reach)
    lags = tuple(int(lag) for lag in given)
    wrong = [lag for lag in lags if not 1 <= lag <= max(recipe.lags, default=1)]
    if wrong:
        raise DataError(
            f"near_lags={lags}: {wrong[0]} is not between 1 and the longest lag "
            f"({max(recipe.lags, default=1)}); leave it out, or give a longer one in `lags`"
        )
    return lags


def _repeated(states: Any, count: int) -> Any:
    """States (L, B, H) with every row `count` times, one below the other."""
    if isinstance(states, Tensor):
        return states.repeat_interleave(count, dim=-2)
    return tuple(_repeated(state, count) for state in states)

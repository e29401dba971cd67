"""Exponential smoothing is the recursion of the textbook, and the network adds to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from holdfast.data import read_panel
from holdfast.data.scaling import fit_scales
from holdfast.data.windows import Batch, Recipe, make_windows
from holdfast.errors import DataError, ShortHistoryWarning
from holdfast.tasks import Forecaster
from holdfast.tasks.forecast.heads import Point
from holdfast.tasks.forecast.nets import Shape, make_net
from holdfast.tasks.forecast.nets.base import make_recurrent
from holdfast.tasks.forecast.nets.dilated import dilated
from holdfast.tasks.forecast.nets.smoothing import SmoothingNet, first_state, smooth
from tests.helpers import assert_same, unequal_
from tests.tasks.small import SMALL, edit, several

RECIPE = Recipe(window=5, horizon=9, seasons=(4, 7), lags=(20,))


def made(
    seasons: tuple[int, ...], R: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor]]:
    """Rows, which of them were observed, coefficients, level and seasonal parts; float64."""

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    observed = (random(3, R) > 0.2).double()
    parts = [random(3, m) for m in seasons]
    return random(3, R), observed, random(3, 1 + len(seasons)), random(3), parts


def by_formula(
    y: Tensor, observed: Tensor, coefficients: Tensor, level: Tensor, parts: list[Tensor]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Row by row, series by series."""
    levels = np.zeros(y.shape)
    seasons = [np.concatenate([p.numpy(), np.zeros(y.shape)], axis=1) for p in parts]
    for b in range(len(y)):
        now, (alpha, *gammas) = float(level[b]), coefficients[b].tolist()
        for t in range(y.shape[1]):
            total = sum(season[b, t] for season in seasons)
            if observed[b, t]:
                now = alpha * (float(y[b, t]) - total) + (1 - alpha) * now
            levels[b, t] = now
            for gamma, season, part in zip(gammas, seasons, parts, strict=True):
                move = gamma * (float(y[b, t]) - now - total) if observed[b, t] else 0.0
                season[b, t + part.shape[1]] = season[b, t] + move
    return levels, seasons


@pytest.mark.parametrize("R", [1, 3, 40])
@pytest.mark.parametrize("seasons", [(), (4,), (3, 7)], ids=str)
def test_blocks_say_what_the_recursion_says(
    seasons: tuple[int, ...], R: int, generator: torch.Generator
) -> None:
    given = made(seasons, R, generator)
    found = smooth(*given)
    levels, parts = by_formula(*given)
    assert_same(found.level.numpy(), levels)
    assert_same([part.numpy() for part in found.seasons], parts)


def test_gradients_of_the_smoothing(generator: torch.Generator) -> None:
    y, observed, coefficients, level, parts = made((3, 4), 9, generator)
    inputs = tuple(t.requires_grad_() for t in (y, coefficients, level, *parts))

    def run(y: Tensor, coefficients: Tensor, level: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
        found = smooth(y, observed, coefficients, level, list(parts))
        return (found.level, *found.seasons)

    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("start", [0, 3])
def test_the_first_state_finds_level_trend_and_season(start: int) -> None:
    season = torch.tensor([3.0, -1.0, -4.0, 2.0])
    row = torch.arange(12.0)
    y = 5 + season[(torch.arange(12) - start) % 4] + 0.5 * row
    there = (row >= start).float()[None]
    level, (part,) = first_state(y[None], there, torch.tensor([start]), (4,))
    phases = part[0, (torch.arange(4) + start) % 4]
    assert_same(phases, season)
    assert_same(level, torch.tensor([5 + 0.5 * (start + 1.5)]))


def test_a_season_that_is_not_there_twice_is_flat() -> None:
    y = torch.arange(12.0)[None] % 5
    _, (part,) = first_state(y, torch.ones_like(y), torch.tensor([3]), (5,))
    assert_same(part, torch.zeros(1, 5))


@pytest.mark.parametrize(("dilation", "T"), [(1, 5), (3, 8), (4, 4), (4, 2)])
def test_a_dilated_layer_follows_the_state_of_some_steps_ago(
    dilation: int, T: int, generator: torch.Generator
) -> None:
    layer = unequal_(make_recurrent("lstm", 2, 3), generator)
    x = torch.randn(2, T, 2, generator=generator)
    states: list[Any] = [None] * dilation
    expected = []
    with torch.no_grad():
        for t in range(T):
            out, states[t % dilation] = layer(x[:, t : t + 1], states[t % dilation])
            expected.append(out)
        assert_same(dilated(layer, x, dilation), torch.cat(expected, dim=1))


def batch_of(rows: tuple[int, ...], span: int = 1) -> Batch:
    panel = read_panel(edit(several(rows=60), 40, "y", None), missing="fill")
    scaling = fit_scales(panel, {"a": 50, "b": 50})
    windows = make_windows(panel, scaling, RECIPE, panel.schema, {"b": 0, "a": 1})
    return windows.batch(np.array([[0, row] for row in rows]), span)


def made_net(**options: Any) -> SmoothingNet:
    options = {"dilations": ((1,), (2, 3)), **options}
    panel = read_panel(several(rows=60))
    shape = Shape(RECIPE, panel.schema, 13, 2, Point(), hidden_size=4, dropout=0.0, options=options)
    net: Any = unequal_(make_net("es", shape), torch.Generator().manual_seed(2))
    return net


def test_before_training_it_is_exponential_smoothing() -> None:
    net, batch = made_net(), batch_of((45, 30))
    with torch.no_grad():
        for parameter in (*net.out.parameters(), *net.known.parameters()):
            parameter.zero_()
        raw, base = net(batch)
        smoothed = net.smoothed(batch)
    level, parts = smoothed.level[:, -1:], smoothed.seasons
    R = batch.y.shape[1]
    steps = torch.arange(9)
    expected = level + parts[0][:, R + steps % 4] + parts[1][:, R + steps % 7]
    assert_same((base + raw[..., 0])[:, 0], expected)


def test_training_scores_every_origin_of_a_window_as_a_forecast_from_there() -> None:
    """The last rows that training scores are the forecasts of a batch of span 2."""
    net = made_net(wiggle=0.0).train()
    batch = batch_of((17,), span=2)
    with torch.no_grad():
        _, raw, base = net._everywhere(batch)
        ready = net._ready(batch, base.shape[1])
        every = (base + raw[..., 0])[:, ready[0] > 0]
        values = torch.cat([batch.y, batch.target[:, -1]], dim=1)[0]
        seen = torch.cat([batch.observed, batch.weight[:, -1]], dim=1)[0]
        R, total, count = batch.y.shape[1], 0.0, 0.0
        for place, row in enumerate(range(R - every.shape[1], R)):
            error = (every[0, place] - values[row + 1 : row + 10]).abs() * seen[row + 1 : row + 10]
            total += float(error.sum())
            count += float(seen[row + 1 : row + 10].sum())
        # Two of the six rows are part of what the first state is made from.
        assert every.shape[1] == 4
        assert_same(float(net.loss(batch)), total / count, "loss", dtype=None)
        raw, base = net.eval()(batch)
        assert_same((base + raw[..., 0]), every[:, -2:])


def test_levels_that_turn_cost_something() -> None:
    batch = batch_of((45,))
    with torch.no_grad():
        free, firm = made_net(wiggle=0.0).train().loss(batch), made_net(wiggle=2.0).train()
        turns = firm.smoothed(batch).level.diff(n=2, dim=1).square().mean()
        assert turns > 0
        assert_same(firm.loss(batch), free + 2 * turns)


def test_what_was_not_observed_changes_nothing() -> None:
    net, batch = made_net().eval(), batch_of((48,))
    assert float(batch.observed.sum()) < batch.observed.numel()
    holes = batch.y + (1 - batch.observed) * 7.0
    with torch.no_grad():
        assert_same(net.smoothed(replace(batch, y=holes)), net.smoothed(batch))
        moved = replace(batch, target=batch.target + 9, weight=torch.zeros_like(batch.weight))
        assert_same(net(moved), net(batch))


def test_a_new_series_takes_the_mean_coefficients() -> None:
    net = made_net()
    with torch.no_grad():
        net.own.copy_(torch.tensor([[0.3, 0.1, -0.1], [-0.1, 0.1, 0.0]]))
        net.shared.zero_()
        expected = torch.sigmoid(10 * torch.tensor([[0.1, 0.1, -0.05], [0.3, 0.1, -0.1]]))
        assert_same(net.coefficients(torch.tensor([-1, 0])), expected)


@pytest.fixture(scope="module")
def fitted() -> Forecaster:
    settings = {**SMALL, "model": "es", "scaling": "log", "options": {"dilations": ((1, 2), (3,))}}
    return Forecaster(**settings, missing="fill").fit(several())


def test_it_learns_saves_and_forecasts_short_new_series(fitted: Forecaster, tmp_path: Any) -> None:
    losses = [row["train_loss"] for row in fitted.history_]
    assert losses[-1] < losses[0]
    table = edit(several(("new", "a"), rows=11), 9, "y", None)
    fitted.save(tmp_path / "model")
    loaded = Forecaster.load(tmp_path / "model")
    with pytest.warns(ShortHistoryWarning, match="fewer rows than the window"):
        forecast = fitted.predict(table)
    with pytest.warns(ShortHistoryWarning):
        again = loaded.predict(table)
    assert forecast["forecast"].is_finite().all()
    assert (forecast["forecast"] > 0).all()
    assert again.equals(forecast)
    assert not np.allclose(fitted.net_.own.detach().numpy(), 0)  # type: ignore[union-attr]


def test_multiplicative_in_the_unit_of_the_user(fitted: Forecaster) -> None:
    """Through logarithms a series in other units has the same forecast in these units."""
    table = several(("one", "two"), rows=60)
    table = table.with_columns(
        pl.when(pl.col("unique_id") == "two").then(pl.col("y") / 10).otherwise(pl.col("y"))
    )
    cents = table.with_columns(pl.col("y") * 100)
    assert_same(
        fitted.predict(cents)["forecast"].to_numpy() / 100,
        fitted.predict(table)["forecast"].to_numpy().astype(np.float64),
    )


@pytest.mark.parametrize("options", [{"rows": 0}, {"dilations": ()}, {"dilations": ((0,),)}])
def test_options_that_make_no_network_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="expected whole numbers from 1 on"):
        made_net(**options)

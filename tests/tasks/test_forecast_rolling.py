"""Networks that roll: what training sees is what a forecast does, and paths follow the process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from holdfast.data import Columns, read_panel
from holdfast.data.scaling import fit_scales
from holdfast.data.windows import Batch, Recipe, make_windows
from holdfast.errors import DataError
from holdfast.tasks import Forecaster
from holdfast.tasks.forecast.heads import Gaussian, Head, Point, make_head
from holdfast.tasks.forecast.nets import Shape, make_net
from holdfast.tasks.forecast.nets.rolling import RecurrentNet
from holdfast.tasks.forecast.origins import sizes_of, training_origins
from tests.helpers import assert_same, unequal_
from tests.tasks.small import SMALL, daily, edit, several

RECIPE = Recipe(window=6, horizon=3, seasons=(2, 7), lags=(7,))


def rolling(
    head: Head, recipe: Recipe = RECIPE, model: str = "recurrent", **options: Any
) -> RecurrentNet:
    """A network with weights that are all different, for the batches of `batch_of`."""
    panel = made_panel()
    shape = Shape(
        recipe, panel.schema, 13, series=2, head=head, hidden_size=5, dropout=0.0, options=options
    )
    net: Any = unequal_(make_net(model, shape), torch.Generator().manual_seed(3))
    return net.eval()


def made_panel() -> Any:
    table = several(rows=60).with_columns(
        pl.int_range(pl.len()).mod(5).cast(pl.Float64).alias("open"),
        pl.int_range(pl.len()).mod(3).cast(pl.Float64).alias("rain"),
    )
    table = edit(table, 50, "y", None)
    return read_panel(table, Columns(past=("rain",), future=("open",)), missing="fill")


def batch_of(recipe: Recipe = RECIPE, rows: tuple[int, ...] = (40, 5, 51)) -> Batch:
    """Windows of two series: whole, beginning before the series, and with a row not measured."""
    panel = made_panel()
    scaling = fit_scales(panel, {"a": 50, "b": 50})
    windows = make_windows(panel, scaling, recipe, panel.schema, {"b": 0, "a": 1})
    return windows.batch(np.array([[0, row] for row in rows]))


def step_by_step(net: RecurrentNet, batch: Batch) -> Tensor:
    """What `_roll` reads when every draw is the true value: raw numbers of the horizon."""
    said = []

    def draw(raw: Tensor, base: Tensor, scale: Tensor) -> Tensor:
        said.append(torch.cat([raw, base[..., None]], dim=-1))
        return batch.target[:, 0, len(said) - 1 : len(said)]

    net._roll(batch, 1, draw)
    return torch.cat(said, dim=1)


@pytest.mark.parametrize("anchor", [True, False])
@pytest.mark.parametrize("recipe", [RECIPE, Recipe(1, 4, (), ())], ids=["lags", "one row"])
def test_one_call_of_training_equals_steps_of_forecasting(recipe: Recipe, anchor: bool) -> None:
    net, batch = rolling(Gaussian(), recipe, anchor=anchor), batch_of(recipe)
    with torch.no_grad():
        raw, base = net.forced(batch)
        forced = torch.cat([raw, base[..., None]], dim=-1)[:, -recipe.horizon :]
        assert_same(step_by_step(net, batch), forced)


@pytest.mark.parametrize(
    ("name", "later"), [("future", 0), ("past", 1), ("observed", 1), ("y", 1)], ids=str
)
def test_each_step_reads_what_is_known_at_its_own_row(name: str, later: int) -> None:
    """A change in row r shows from step r on where it is known beforehand, else one step later."""
    net, batch = rolling(Gaussian()), batch_of()
    row, first = batch.y.shape[1] - 3, batch.y.shape[1] - 5
    values = getattr(batch, name).clone()
    values[:, row] += 1
    with torch.no_grad():
        before, _ = net.forced(batch)
        after, _ = net.forced(replace(batch, **{name: values}))
    moved = (before != after).any(-1).any(0)
    assert moved.tolist() == [step >= row - first + later for step in range(len(moved))]


def test_training_counts_window_and_horizon_but_no_row_that_was_not_observed() -> None:
    net, batch = rolling(Gaussian()), batch_of()
    with torch.no_grad():
        raw, base = net.forced(batch)
        values = torch.cat([batch.y, batch.target[:, 0]], dim=1)[:, -8:]
        weight = torch.cat([batch.observed, batch.weight[:, 0]], dim=1)[:, -8:]
        losses = net.head.losses(raw, base, values, batch.scale[:, None])
        assert 0 < weight.sum() < weight.numel()
        expected = (losses * weight).sum() / weight.sum()
        assert_same(net.train().loss(batch), expected)
        ahead = (losses * weight)[:, -3:].sum() / weight[:, -3:].sum()
        assert_same(net.eval().loss(batch), ahead)


def test_no_forecast_sees_its_own_future() -> None:
    net, batch = rolling(Point()), batch_of()
    changed = replace(batch, target=batch.target + 9.0, weight=torch.zeros_like(batch.weight))
    with torch.no_grad():
        assert_same(net(changed), net(batch))


def test_without_noise_paths_follow_the_points() -> None:
    class Still(Gaussian):
        def sample(self, raw: Tensor, base: Tensor, scale: Tensor, generator: Any) -> Tensor:
            return super().sample(raw, base, scale, generator) * 0 + self.point(raw, base, scale)

    batch = batch_of()
    net = rolling(Still())
    with torch.no_grad():
        paths = net.paths(batch, 4, torch.Generator().manual_seed(0))
        raw, base = net(batch)
        point = net.head.point(raw, base, batch.scale[:, None])
    assert paths is not None
    assert_same(paths, point.expand(-1, 4, -1).contiguous())


def test_sampled_paths_have_the_quantiles_of_an_autoregressive_process() -> None:
    """y_t = a y_{t-1} + e: after h steps a normal of known mean and variance."""
    a, noise = 0.8, 0.5

    class Autoregressive(RecurrentNet):
        def _spoken(self, states: Tensor, read: Tensor, missing: Tensor) -> tuple[Tensor, Tensor]:
            last = read[..., 0]
            spread = torch.full_like(last, np.log(np.expm1(noise - 1e-3)))
            return torch.stack([torch.zeros_like(last), spread], dim=-1), a * last

    recipe = Recipe(6, 5, (), ())
    net = rolling(Gaussian(), recipe)
    net.__class__ = Autoregressive
    batch = batch_of(recipe)
    with torch.no_grad():
        paths = net.paths(batch, 4000, torch.Generator().manual_seed(1))
    assert paths is not None
    steps = torch.arange(1, 6)
    mean = batch.y[:, -1:] * a**steps
    std = noise * ((1 - a ** (2 * steps)) / (1 - a**2)).sqrt()
    z = (paths - mean[:, None]) / std
    levels = torch.tensor([0.1, 0.5, 0.9])
    found = torch.quantile(z, levels, dim=1)
    expected = torch.special.ndtri(levels)[:, None, None].expand_as(found)
    assert float((found - expected).abs().max()) < 0.12
    together = torch.corrcoef(paths[0].T)[0, 1]
    assert abs(float(together) - a * noise / float(std[1])) < 0.05


@pytest.fixture(scope="module")
def fitted() -> Forecaster:
    settings = {**SMALL, "model": "deepar", "output": "gaussian", "max_epochs": 2}
    return Forecaster(**settings, missing="fill").fit(several())


def test_forecasts_depend_on_the_seed_alone(fitted: Forecaster) -> None:
    torch.manual_seed(5)
    one = fitted.predict(several(), levels=(80,))
    torch.manual_seed(6)
    assert fitted.predict(several(), levels=(80,)).equals(one)
    assert (one["forecast-lo-80"] < one["forecast-hi-80"]).all()


def test_new_series_and_gaps_are_forecast(fitted: Forecaster) -> None:
    table = edit(several(("new", "a"), rows=40), 30, "y", None)
    assert fitted.predict(table)["forecast"].is_finite().all()


@pytest.mark.parametrize("output", ["student_t", "quantiles", "negative_binomial"])
def test_every_distribution_has_paths(output: str) -> None:
    net, batch = rolling(make_head(output), model="deepar"), batch_of()
    batch = replace(batch, scale=torch.tensor([[20.0, 0.0]]).expand(3, 2))
    with torch.no_grad():
        paths = net.paths(batch, 5, torch.Generator().manual_seed(0))
    assert paths is not None
    assert paths.shape == (3, 5, 3)
    assert bool(paths.isfinite().all())
    assert net.loss(batch).isfinite()


def test_what_cannot_be_rolled_is_refused() -> None:
    with pytest.raises(DataError, match='output="point"; give output="gaussian"'):
        Forecaster(**SMALL, model="deepar").fit(daily())
    with pytest.raises(DataError, match="near_lags=\\(9,\\): 9 is not between 1 and"):
        rolling(Point(), near_lags=(9,))
    with pytest.raises(DataError, match=r"counts from 0 on, got scaling=.standard.; give scaling="):
        Forecaster(**SMALL, model="deepar", output="negative_binomial").fit(daily())


@pytest.mark.slow
def test_counts_are_learned_with_a_negative_binomial() -> None:
    table = daily(400).with_columns(pl.col("y").round().clip(0).alias("y"))
    settings = {**SMALL, "max_epochs": 15, "hidden_size": 16, "scaling": "mean"}
    settings |= {"model": "deepar", "output": "negative_binomial", "options": {"anchor": True}}
    model = Forecaster(**settings).fit(table[:360])
    rolled = model.roll(table, quantiles=(0.1, 0.9))
    low, high = rolled.forecasts.quantiles[..., 0], rolled.forecasts.quantiles[..., 1]
    inside = np.mean((rolled.truth >= low) & (rolled.truth <= high))
    assert np.abs(rolled.forecast - np.round(rolled.forecast)).max() < 0.51
    assert 0.6 < inside <= 1.0
    assert np.abs(rolled.forecast - rolled.truth).mean() < 3.0


@pytest.mark.parametrize("scaling", ["standard", "mean", "log"])
def test_windows_of_large_series_are_drawn_more_often(scaling: str) -> None:
    """As often as a series is large: 1 + its mean size over the rows of training."""
    table = several(("small", "large", "medium"), rows=120)
    table = edit(table, 130, "y", None)
    panel = read_panel(table, missing="fill")
    counts = [100, 90, 100]
    trained = {one.id: count for one, count in zip(panel.series, counts, strict=True)}
    scales = fit_scales(panel, trained, scaling)
    windows = make_windows(panel, scales, RECIPE, panel.schema, {})
    sizes = sizes_of(windows, np.array(counts))
    expected = [
        1 + np.abs(one.y[:count][one.observed[:count]]).mean()
        for one, count in zip(panel.series, counts, strict=True)
    ]
    assert_same(sizes.astype(np.float32), np.array(expected, dtype=np.float32))
    model = Forecaster(3, model="deepar", output="gaussian", batch_size=500)
    plain, weighted = rolling(Gaussian()), rolling(Gaussian(), weighted=True)
    usual, _ = training_origins(model, plain, windows, counts)
    drawn, tail = training_origins(model, weighted, windows, counts)
    assert tail.weights is usual.weights is None
    blocks = drawn.blocks()
    assert len(blocks) == len(usual.blocks())
    assert np.array_equal(blocks, drawn.blocks())
    drawn.epoch = 1
    assert not np.array_equal(blocks, drawn.blocks())
    assert {tuple(block) for block in blocks.tolist()} <= {
        tuple(block) for block in usual.blocks().tolist()
    }
    found = np.zeros(3)
    for drawn.epoch in range(60):
        found += np.bincount(drawn.blocks()[:, 0], minlength=3)
    rooms = np.bincount(usual.blocks()[:, 0], minlength=3)
    share = rooms * sizes / (rooms * sizes).sum()
    assert np.abs(found / found.sum() - share).max() < 4 * np.sqrt(0.25 / found.sum())


def test_a_weighted_model_learns_from_other_windows_and_is_saved(tmp_path: Path) -> None:
    settings: dict[str, Any] = {**SMALL, "model": "deepar", "output": "gaussian", "max_epochs": 1}
    table = several(rows=90)
    model = Forecaster(**settings, options={"weighted": True}).fit(table)
    again = Forecaster(**settings, options={"weighted": True}).fit(table)
    other = Forecaster(**settings).fit(table)
    assert model.history_ == again.history_
    assert model.history_ != other.history_
    model.save(tmp_path / "model")
    read = Forecaster.load(tmp_path / "model")
    assert read.options == {"weighted": True}
    assert read.predict(table).equals(model.predict(table))
    with pytest.raises(DataError, match="'weighted' is unknown"):
        Forecaster(**{**settings, "model": "direct"}, options={"weighted": True}).fit(table)

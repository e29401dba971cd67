"""What every network of the forecaster keeps to: shapes, gradients, no future, gaps, new series."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from holdfast.data import Columns, Panel, read_panel
from holdfast.data.scaling import fit_scales
from holdfast.data.windows import Batch, Recipe, Windows, make_windows
from holdfast.errors import DataError
from holdfast.tasks import Forecaster
from holdfast.tasks.forecast.heads import Point, make_head
from holdfast.tasks.forecast.nets import NETS, ForecastNet, Shape, make_net
from holdfast.tasks.forecast.nets.segment import SegmentNet, default_segment
from tests.helpers import assert_same, unequal_
from tests.tasks.small import SMALL, edit, several

RECIPE = Recipe(window=9, horizon=5, seasons=(2, 7), lags=(7, 14))
OUTPUTS = ("point", "quantiles", "gaussian", "student_t", "negative_binomial")
OUTPUT = {"deepar": "gaussian"}
"""What a model says where a test does not ask: a point, but for those that only sample."""


def made_panel(table: pl.DataFrame | None = None) -> Panel:
    """Three series with a covariate of each kind, and a row that was not measured."""
    table = made_table() if table is None else table
    columns = Columns(
        past=("rain",), future=("open", "kind"), static=("size",), categorical=("kind",)
    )
    return read_panel(table, columns, missing="fill")


def made_table() -> pl.DataFrame:
    """The table of `made_panel`."""
    table = several(("b", "a", "c"), rows=60).with_columns(
        pl.int_range(pl.len()).mod(5).cast(pl.Float64).alias("open"),
        pl.int_range(pl.len()).mod(3).cast(pl.Float64).alias("rain"),
        pl.int_range(pl.len()).mod(4).cast(pl.String).alias("kind"),
        pl.col("unique_id").replace_strict({"a": 1.0, "b": 2.0, "c": 4.0}).alias("size"),
    )
    return edit(table, 40, "y", None)


def windows_of(panel: Panel, recipe: Recipe = RECIPE) -> Windows:
    """The windows of the panel, scaled by its first 40 rows of the unchanged table."""
    scaling = fit_scales(made_panel(), dict.fromkeys("abc", 40))
    return make_windows(panel, scaling, recipe, panel.schema, {"b": 0, "a": 1, "c": 2})


def batch_at(row: int, panel: Panel | None = None, span: int = 1, recipe: Recipe = RECIPE) -> Batch:
    """The window of each series with this last origin."""
    windows = windows_of(made_panel() if panel is None else panel, recipe)
    return windows.batch(np.array([[series, row] for series in range(3)]), span)


def made(model: str, output: str = "", recipe: Recipe = RECIPE, **more: Any) -> ForecastNet:
    """A network with weights that are all different."""
    output = output or OUTPUT.get(model, "point")
    panel = made_panel()
    calendar = windows_of(panel).calendar.shape[1]
    given = {"hidden_size": 6, "dropout": 0.0, **more}
    shape = Shape(recipe, panel.schema, calendar, series=3, head=make_head(output), **given)
    return unequal_(make_net(model, shape), torch.Generator().manual_seed(3)).eval()


def said(net: ForecastNet, batch: Batch) -> Tensor:
    """What a network forecasts of a batch of single origins (B, H), without a gradient."""
    with torch.no_grad():
        paths = net.paths(batch, 4, torch.Generator().manual_seed(1))
        if paths is not None:
            return paths
        outlook = net(batch)
        return torch.cat([outlook.raw, outlook.base[..., None]], dim=-1)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("model", NETS)
def test_every_head_gets_its_numbers_for_every_step(model: str, output: str) -> None:
    if output == "point" and model in OUTPUT:
        pytest.skip("it samples from a distribution")
    net = made(model, output)
    span = 3 if net.spans else 1
    batch = batch_at(30, span=span)
    with torch.no_grad():
        outlook = net(batch)
    assert outlook.base.shape == (3, span, 5)
    assert outlook.raw.shape == (3, span, 5, net.head.size)
    assert torch.isfinite(outlook.raw).all()
    assert torch.isfinite(net.loss(batch))


@pytest.mark.parametrize("model", NETS)
def test_a_gradient_reaches_every_parameter(model: str) -> None:
    net = made(model, "gaussian").train()
    net.loss(batch_at(30)).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("model", NETS)
def test_nothing_after_the_origin_is_seen(model: str) -> None:
    """A spike in the target and in a past covariate after the origin moves nothing before it."""
    net, table = made(model), made_table()
    spiked = edit(edit(table, 31, "y", 1e5), 31, "rain", 2.0)
    calm = batch_at(30)
    before = said(net, calm)
    assert_same(said(net, batch_at(30, made_panel(spiked))), before)
    blank = replace(calm, target=calm.target + 9.0, weight=torch.zeros_like(calm.weight))
    assert_same(said(net, blank), before)
    after = said(net, batch_at(31, made_panel(spiked)))
    assert not torch.equal(after[0], said(net, batch_at(31))[0])


@pytest.mark.parametrize("model", NETS)
def test_windows_that_begin_before_a_series_and_series_that_are_new(model: str) -> None:
    net = made(model)
    early = batch_at(2)
    assert early.there.min() == 0
    assert torch.isfinite(said(net, early)).all()
    if not net.joint:
        new = replace(early, series=torch.full_like(early.series, -1))
        found = said(net, new)
        assert torch.isfinite(found).all()
        one = replace(early, series=torch.tensor([0, 1, -1]))
        assert_same(said(net, one)[2], found[2])


@pytest.mark.parametrize("model", NETS)
def test_gradients_flow_after_a_forecast(model: str) -> None:
    """Nothing that a forecast without gradients keeps is in the way."""
    net, batch = made(model), batch_at(30)
    with torch.inference_mode():
        net(batch)
    y = batch.y.clone().requires_grad_()
    outlook = net(replace(batch, y=y))
    (outlook.raw.sum() + outlook.base.sum()).backward()
    assert y.grad is not None
    assert float(y.grad.abs().sum()) > 0


@pytest.mark.parametrize("model", NETS)
def test_rows_of_a_batch_do_not_see_each_other(model: str) -> None:
    net = made(model)
    if net.joint:
        pytest.skip("series of one time are read together")
    whole = batch_at(30)
    parts = [
        said(net, Batch(**{name: tensor[row : row + 1] for name, tensor in vars(whole).items()}))
        for row in range(3)
    ]
    if net.paths(whole, 2, torch.Generator()) is None:
        assert_same(torch.cat(parts), said(net, whole))


LONG = pytest.param("fractional_lstm", marks=pytest.mark.slow)


@pytest.mark.parametrize("cell", ["gru", "peephole", LONG])
@pytest.mark.parametrize("model", NETS)
def test_other_cells(model: str, cell: str) -> None:
    try:
        net = made(model, cell=cell)
    except DataError:
        pytest.skip(f"{model} has cells of its own")
    assert torch.isfinite(said(net, batch_at(30))).all()


@pytest.mark.parametrize("model", NETS)
def test_two_layers_and_labels(model: str) -> None:
    net = made(model, num_layers=2, dropout=0.3)
    batch = batch_at(30)
    assert torch.isfinite(said(net, batch)).all()
    other = replace(batch, future_codes=batch.future_codes.roll(1, 1))
    assert not torch.equal(said(net, other), said(net, batch))


@pytest.mark.parametrize("model", NETS)
def test_a_saved_model_forecasts_the_same(model: str, tmp_path: Path) -> None:
    settings = {**SMALL, "max_epochs": 1, "epoch_steps": 3, "output": OUTPUT.get(model, "point")}
    fitted = Forecaster(**settings, model=model).fit(several())
    forecast = fitted.predict(several())["forecast"].to_numpy()
    assert np.isfinite(forecast).all()
    assert np.array_equal(fitted.predict(several())["forecast"].to_numpy(), forecast)
    fitted.save(tmp_path / "model")
    loaded = Forecaster.load(tmp_path / "model")
    assert np.array_equal(loaded.predict(several())["forecast"].to_numpy(), forecast)


@pytest.mark.parametrize("model", NETS)
def test_an_option_that_there_is_not_is_refused(model: str) -> None:
    with pytest.raises(DataError, match="'colour' is unknown"):
        made(model, options={"colour": 1})


# Segments


def plain(recipe: Recipe, **more: Any) -> Any:
    """A segment network and a batch without covariates."""
    table = several(("b", "a", "c"), rows=60)
    panel = read_panel(table, Columns())
    scaling = fit_scales(panel, dict.fromkeys("abc", 40))
    windows = make_windows(panel, scaling, recipe, panel.schema, {"b": 0, "a": 1, "c": 2})
    given = {"hidden_size": 6, "dropout": 0.0, **more}
    calendar = windows.calendar.shape[1]
    shape = Shape(recipe, panel.schema, calendar, series=3, head=Point(), **given)
    net = unequal_(SegmentNet(shape), torch.Generator().manual_seed(3)).eval()
    return net, windows.batch(np.array([[series, 30] for series in range(3)]))


@pytest.mark.parametrize("normalize", ["last", "mean", "standard"])
@pytest.mark.parametrize(("segment", "ahead"), [(3, 3), (4, 2), (20, 20), (1, 1), (2, 7)])
def test_lengths_that_are_no_whole_number_of_segments(
    segment: int, ahead: int, normalize: str
) -> None:
    options = {"segment": segment, "ahead": ahead, "normalize": normalize}
    outlook = made("segment", options=options)(batch_at(30))
    assert outlook.raw.shape == (3, 1, 5, 1)
    assert torch.isfinite(outlook.raw).all()


def test_a_short_first_segment_repeats_the_first_row() -> None:
    recipe = Recipe(window=5, horizon=4, seasons=(), lags=())
    net, batch = plain(recipe, options={"segment": 3, "calendar": False})
    longer = replace(net.shape, recipe=replace(recipe, window=6))
    other: Any = SegmentNet(longer).eval()
    other.load_state_dict(net.state_dict())
    y = batch.y[:, -5:]
    whole = replace(
        batch,
        y=torch.cat([y[:, :1], y], dim=1),
        observed=torch.ones(3, 6),
        there=torch.ones(3, 6),
        past=batch.past[:, :6],
        past_codes=batch.past_codes[:, :6],
    )
    assert_same(other(whole), net(batch))


@pytest.mark.parametrize("options", [{"calendar": False}, {"calendar": True, "ahead": 3}])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_steps_from_one_state_are_those_of_the_layer(cell: str, options: dict[str, Any]) -> None:
    net, batch = plain(Recipe(9, 7, (), ()), cell=cell, options=options)
    with torch.no_grad():
        quick = net(batch).raw
        net.step = None
        assert_same(quick, net(batch).raw)


def test_a_window_that_is_moved_and_stretched_moves_and_stretches_its_forecast() -> None:
    options = {"normalize": "standard"}
    net, batch = plain(Recipe(9, 7, (), ()), options=options)

    def point(y: Tensor) -> Tensor:
        raw, base = net(replace(batch, y=y))
        return base + raw[..., 0]

    with torch.no_grad():
        forecast = point(100 * batch.y)
        assert_same(point(300 * batch.y + 50), 3 * forecast + 50)


def test_segments_are_checked() -> None:
    for name, value in {"segment": 0, "ahead": 2.5, "normalize": "median"}.items():
        with pytest.raises(DataError, match=f"{name}={value!r}"):
            made("segment", options={name: value})
    assert default_segment(Recipe(96, 24, (24, 168), ())) == 24
    assert default_segment(Recipe(30, 24, (24, 168), ())) == 7


def test_attention_weighs_rows_that_are_there() -> None:
    for score in ("dot", "additive"):
        net: Any = made("attention", options={"score": score})
        early = batch_at(3)
        read, written = torch.randn(3, 9, 6), torch.randn(3, 5, 6)
        weights = net._weights(early, read, written)
        assert_same(weights.sum(-1), torch.ones(3, 5))
        assert weights[..., :5].max() == 0
        assert weights[..., 5:].min() > 0
    with pytest.raises(DataError, match="score='cosine'"):
        made("attention", options={"score": "cosine"})


def test_stacked_has_layers_and_ways_around_them() -> None:
    net: Any = made("stacked", options={"layer_norm": True})
    assert net.recurrent.num_layers == 2
    assert net.recurrent.options.residual
    deep: Any = made("stacked", num_layers=3, options={"residual": False})
    assert deep.recurrent.num_layers == 3
    assert not deep.recurrent.options.residual

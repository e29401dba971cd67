"""The forecaster keeps scikit-learn's manners and gives the same numbers wherever its data comes "
"from."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone

from holdfast.data import Columns, read_panel
from holdfast.data.covariates import Schema
from holdfast.data.windows import Recipe
from holdfast.errors import DataError, ModelError
from holdfast.tasks import Forecaster, evaluate
from holdfast.tasks.forecast.heads import Point
from holdfast.tasks.forecast.nets import Shape, make_net
from tests.helpers import assert_same
from tests.tasks.small import SMALL, csv, daily, edit, several


@pytest.fixture(scope="module")
def fitted() -> Forecaster:
    return Forecaster(**SMALL).fit(several().filter(pl.col("ds") < pl.datetime(2024, 5, 20)))


def values(frame: Any) -> np.ndarray:
    return np.array(frame["forecast"], dtype=np.float64)


def test_parameters_go_in_and_out() -> None:
    model = Forecaster(horizon=5, cell="peephole", seasons=(7,))
    copy: Any = clone(model)
    assert copy is not model
    assert copy.get_params() == model.get_params()
    assert copy.set_params(hidden_size=3).hidden_size == 3
    assert not hasattr(copy, "net_")


def test_fit_learns_and_keeps_the_best_epoch() -> None:
    model = Forecaster(**{**SMALL, "max_epochs": 12, "patience": 12}).fit(daily())
    losses = [row["valid_loss"] for row in model.history_]
    assert model.best_epoch_ == int(np.argmin(losses)) + 1
    assert min(losses) < losses[0]


def test_early_stopping_ends_training() -> None:
    settings = {**SMALL, "max_epochs": 60, "patience": 2, "learning_rate": 0.3}
    model = Forecaster(**settings).fit(daily())
    assert len(model.history_) == model.best_epoch_ + 2 < 60


def test_the_forget_gate_starts_open() -> None:
    recipe = Recipe(window=5, horizon=2, seasons=(), lags=())
    shape = Shape(recipe, Schema(), calendar=3, series=1, head=Point(), hidden_size=6)
    net: Any = make_net("direct", shape)
    weights = net.recurrent.state_dict()
    bias = weights["bias_ih_l0"] + weights["bias_hh_l0"]
    assert_same(bias, torch.tensor([0.0] * 6 + [1.0] * 6 + [0.0] * 12))


def test_every_kind_of_table_gives_the_same_forecast(fitted: Forecaster, tmp_path: Path) -> None:
    table = several()
    expected = fitted.predict(table)
    assert isinstance(expected, pl.DataFrame)
    assert expected.columns == ["unique_id", "ds", "forecast"]
    assert expected["unique_id"].to_list() == ["b"] * 7 + ["a"] * 7
    assert expected["ds"][0] == daily()["ds"][-1] + np.timedelta64(1, "D").item()
    pandas = fitted.predict(pd.DataFrame(table.to_dict(as_series=False)))
    assert isinstance(pandas, pd.DataFrame)
    table.write_parquet(tmp_path / "t.parquet")
    for other in (
        pandas,
        fitted.predict(csv(table, tmp_path / "t.csv")),
        fitted.predict(tmp_path / "t.parquet"),
        fitted.predict(table.sample(fraction=1.0, shuffle=True, seed=1)).sort("unique_id")[::-1],
    ):
        assert_same(np.sort(values(other)), np.sort(values(expected)), "forecast")


def test_compressed_csv_and_other_names(tmp_path: Path) -> None:
    import gzip

    table = daily().rename({"y": "sold"})
    path = tmp_path / "t.csv.gz"
    Path(csv(table, tmp_path / "t.csv"))
    path.write_bytes(gzip.compress((tmp_path / "t.csv").read_bytes()))
    panel = read_panel(path, Columns(target="sold"))
    assert_same(panel.series[0].y.tolist(), table["sold"].to_list())


def test_only_the_last_rows_matter(fitted: Forecaster) -> None:
    table = several()
    short = table.group_by("unique_id", maintain_order=True).tail(fitted.recipe_.history)
    assert_same(values(fitted.predict(short)), values(fitted.predict(table)))


def test_series_of_different_scale_are_scaled_each(fitted: Forecaster) -> None:
    forecast = values(fitted.predict(several())).reshape(2, 7)
    assert 10 < forecast[0].mean() < 40
    assert 100 < forecast[1].mean() < 400


def test_the_future_changes_nothing_earlier(fitted: Forecaster) -> None:
    table = several(("b",))
    spike = edit(table, 150, "y", 1e6)
    calm, wild = fitted.roll(table, step=1), fitted.roll(spike, step=1)
    before = calm.origins[0] < 150
    assert before.any()
    assert not before.all()
    assert np.array_equal(calm.forecast[before], wild.forecast[before])
    assert not np.array_equal(calm.forecast[~before], wild.forecast[~before])


def test_training_sees_nothing_of_its_held_out_tail() -> None:
    """A spike in the last held-out rows may move the choice of epoch, never the training."""
    table = daily()
    losses = []
    for value in (20.0, 1e6):
        model = Forecaster(**SMALL).fit(edit(table, 159, "y", value))
        losses.append([row["train_loss"] for row in model.history_])
    assert losses[0] == losses[1]


def test_a_covariate_is_read_from_the_past_only() -> None:
    table = daily().with_columns(pl.Series("temp", np.random.default_rng(5).normal(size=160)))
    model = Forecaster(**SMALL, past=["temp"]).fit(table[:130])
    changed = model.roll(edit(table, 145, "temp", 3.0), step=1)
    plain = model.roll(table, step=1)
    before = plain.origins[0] < 145
    assert np.array_equal(plain.forecast[before], changed.forecast[before])
    assert not np.array_equal(plain.forecast[~before], changed.forecast[~before])


def test_the_same_seed_gives_the_same_model_and_leaves_the_global_generators() -> None:
    torch_state, numpy_state = (
        torch.get_rng_state(),
        np.random.get_state(legacy=False)["state"]["key"].copy(),
    )
    python_state = random.getstate()
    settings = {**SMALL, "num_layers": 2, "dropout": 0.3}
    first = Forecaster(**settings, seed=3).fit(daily())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], numpy_state)
    assert random.getstate() == python_state
    torch.rand(5)
    second = Forecaster(**settings, seed=3).fit(daily())
    other = Forecaster(**settings, seed=4).fit(daily())
    assert first.history_ == second.history_
    assert np.array_equal(values(first.predict(daily())), values(second.predict(daily())))
    assert first.history_ != other.history_


@pytest.mark.parametrize("cell", ["gru", "rnn", "peephole", "coupled"])
def test_other_cells(cell: str) -> None:
    model = Forecaster(**SMALL, cell=cell).fit(daily())
    assert np.isfinite(values(model.predict(daily()))).all()


def test_missing_rows_are_filled_from_the_past_and_left_out_of_scores() -> None:
    table = daily(170)
    holes = edit(edit(table, 155, "y", None), 3, "y", None).filter(pl.col("ds") != table["ds"][140])
    model = Forecaster(**SMALL, missing="fill").fit(holes[:129])
    panel = model.read(holes)
    series = panel.series[0]
    assert len(series) == 170
    assert np.flatnonzero(~series.observed).tolist() == [3, 140, 155]
    assert series.y[140] == series.y[133]
    rolled = model.roll(holes)
    assert (rolled.weight == 0).sum() == 2
    truth = rolled.truth.copy()
    truth[rolled.weight == 0] = 1e9
    assert model.score(holes) == pytest.approx(evaluate(model, holes).scores["Holdfast"]["R2"])


def test_a_saved_model_is_the_same_model(fitted: Forecaster, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model", "a table of scores")
    loaded = Forecaster.load(tmp_path / "model")
    assert loaded.get_params() == fitted.get_params()
    assert np.array_equal(values(loaded.predict(several())), values(fitted.predict(several())))
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {"model.safetensors", "config.json", "card.md"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_card_tells_data_settings_scores_and_limits(fitted: Forecaster, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model", "a table of scores")
    card = (tmp_path / "model" / "card.md").read_text()
    assert fitted.data_["sha256"] in card
    for words in ("| `hidden_size` | `6` |", "a table of scores", "2024-01-01", "limits", "1 day"):
        assert words in card


def test_use_before_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="call fit"):
        Forecaster().predict(daily())
    with pytest.raises(ModelError, match="call fit"):
        Forecaster().save(tmp_path / "model")


def test_settings_are_checked() -> None:
    with pytest.raises(DataError, match=r"horizon=0"):
        Forecaster(horizon=0).fit(daily())
    with pytest.raises(DataError, match=r"below the horizon"):
        Forecaster(horizon=7, lags=(3,)).fit(daily())


def test_monthly_tables() -> None:
    months = pl.DataFrame(
        {
            "ds": [f"{2000 + m // 12}-{m % 12 + 1:02}" for m in range(144)],
            "y": 100 + 10 * np.sin(np.arange(144) * np.pi / 6),
        }
    )
    model = Forecaster(12, hidden_size=4, max_epochs=1).fit(months)
    assert model.recipe_.seasons == (12,)
    assert str(model.frequency_) == "1 month"
    assert model.predict(months)["ds"].dt.strftime("%Y-%m-%d").to_list()[:2] == [
        "2012-01-01",
        "2012-02-01",
    ]


def test_yearly_tables_have_no_season() -> None:
    years = pl.DataFrame({"ds": [f"{1900 + y}" for y in range(90)], "y": np.arange(90.0)})
    model = Forecaster(3, hidden_size=4, max_epochs=2, window=10).fit(years)
    assert (model.recipe_.seasons, model.recipe_.lags) == ((), ())
    forecast = model.predict(years)
    assert forecast["ds"].dt.year().to_list() == [1990, 1991, 1992]
    assert list(evaluate(model, years, last=6).scores)[:2] == ["Holdfast", "naive (last value)"]

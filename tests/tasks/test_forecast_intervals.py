"""Intervals cover what they say on rows that nothing was fitted to, and samples hang together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from utilsforecast import losses

from holdfast.data import read_panel
from holdfast.data.cut import cut
from holdfast.data.tables import Columns
from holdfast.errors import DataError, ModelError
from holdfast.tasks import Forecaster, evaluate
from holdfast.tasks.forecast import baselines, intervals, metrics, samples
from tests.helpers import assert_same
from tests.tasks.small import SMALL, daily, edit, several

OUTPUTS = ("point", "quantiles", "gaussian", "student_t", "negative_binomial")
LEVELS, SHARES = (50, 80), (0.05, 0.25, 0.4, 0.5, 0.7, 0.95)


def make(output: str, conformal: bool = True, **more: Any) -> Forecaster:
    scaling = "mean" if output == "negative_binomial" else "standard"
    kind = "conformal" if conformal else None
    settings = {**SMALL, "output": output, "scaling": scaling, "intervals": kind, **more}
    return Forecaster(**settings)


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return several(rows=260).with_columns(pl.col("y").round())


@pytest.fixture(scope="module")
def models(table: pl.DataFrame) -> dict[str, Forecaster]:
    """One conformal forecaster for each output."""
    known = table.filter(pl.col("ds") < pl.datetime(2024, 8, 20))
    return {output: make(output).fit(known) for output in OUTPUTS}


@pytest.fixture(scope="module")
def plain(table: pl.DataFrame) -> Forecaster:
    return make("gaussian", conformal=False).fit(table)


def columns(frame: Any, *names: str) -> np.ndarray:
    return np.stack([np.asarray(frame[name], dtype=np.float64) for name in names], axis=-1)


def test_corrected_quantiles_are_the_ranks_of_the_finite_sample() -> None:
    scores = np.broadcast_to(np.arange(1.0, 21.0)[:, None], (len(intervals.GRID), 20, 2))
    seen = np.ones((20, 2), dtype=bool)
    seen[12:, 1] = False
    table = intervals._corrected(scores, seen)
    # ceil(21 * 0.8) = 17 of 20, and ceil(13 * 0.8) = 11 of 12.
    assert table[intervals.GRID.index(80)].tolist() == [17.0, 11.0]
    # ceil(21 * 0.95) = 20 is there, ceil(13 * 0.95) = 13 is not among 12.
    assert table[intervals.GRID.index(95), 0] == 20.0
    assert np.isnan(table[intervals.GRID.index(95), 1])
    margins = intervals.Margins("point", table, seen.sum(axis=0), {})
    assert margins.highest == 90
    assert_same(margins.at(2.5), table[0] / 2)
    assert_same(margins.at(82.5), table[intervals.GRID.index(80) :][:2].mean(axis=0))
    with pytest.raises(DataError, match=r"level 95 needs 19 held-out errors .* there are 12"):
        margins.at(95)
    with pytest.raises(DataError, match="up to 99 percent"):
        margins.at(99.5)


@pytest.mark.parametrize("output", OUTPUTS)
def test_intervals_hold_together(
    output: str, models: dict[str, Forecaster], table: pl.DataFrame
) -> None:
    frame = models[output].predict(table, levels=LEVELS, quantiles=SHARES)
    names = ["forecast-q5", "forecast-lo-80", "forecast-q25", "forecast-q40", "forecast-q50"]
    names += ["forecast-q70", "forecast-hi-50", "forecast-hi-80", "forecast-q95"]
    values = columns(frame, *names)
    assert (np.diff(values, axis=-1) >= 0).all()
    assert (values[:, -1] > values[:, 0]).all()
    assert_same(values[:, 4], columns(frame, "forecast")[:, 0], "the point is the median")
    assert_same(columns(frame, "forecast-lo-50")[:, 0], values[:, 2], "lo-50 is q25")


@pytest.mark.parametrize("output", OUTPUTS[1:])
def test_the_point_is_the_median_of_every_distribution(output: str, table: pl.DataFrame) -> None:
    model = make(output, conformal=False, quantiles=(0.1, 0.4, 0.9), max_epochs=1).fit(table)
    frame = model.predict(table, levels=(80,), quantiles=(0.5,))
    point, low, middle, high = columns(
        frame, "forecast", "forecast-lo-80", "forecast-q50", "forecast-hi-80"
    ).T
    assert_same(point, middle)
    assert (low <= point).all()
    assert (point <= high).all()


def test_the_held_out_rows_neither_train_nor_stop_the_training() -> None:
    table = daily(220)
    calm = make("point").fit(table)
    wild = make("point").fit(edit(table, 210, "y", 1e4))
    assert calm.history_ == wild.history_
    assert calm.scaling_ == wild.scaling_
    before, after = (model.predict(table, levels=(80,)) for model in (calm, wild))
    assert before["forecast"].to_list() == after["forecast"].to_list()
    assert (after["forecast-hi-80"] >= before["forecast-hi-80"]).all()
    assert after["forecast-hi-80"].to_list() != before["forecast-hi-80"].to_list()
    assert calm.ends_ == {"": "2024-08-07T00:00:00.000000"}


def test_series_have_intervals_on_their_own_scale(
    models: dict[str, Forecaster], table: pl.DataFrame
) -> None:
    for output in ("point", "quantiles"):
        frame = models[output].predict(table, levels=(80,))
        width = (frame["forecast-hi-80"] - frame["forecast-lo-80"]).to_numpy().reshape(2, 7)
        assert 5 < np.median(width[1] / width[0]) < 20


def test_coverage_is_near_the_level_on_later_rows() -> None:
    table = daily(900, seed=4)
    model = make("point", max_epochs=1, calibration=0.3).fit(table[:600])
    held: Any = model.held_out_
    assert held.margins.coverage["80"] == pytest.approx(0.8, abs=0.12)
    rolled = model.roll(table, step=1, quantiles=(0.1, 0.9))
    low, high = np.moveaxis(rolled.forecasts.quantiles, -1, 0)
    assert metrics.coverage(rolled.truth, low, high, rolled.weight) == pytest.approx(0.8, abs=0.08)


def test_intervals_are_kept_in_the_folder(
    models: dict[str, Forecaster], table: pl.DataFrame, tmp_path: Path
) -> None:
    models["quantiles"].save(tmp_path / "model")
    loaded = Forecaster.load(tmp_path / "model")
    frames = [m.predict(table, levels=(80,)) for m in (loaded, models["quantiles"])]
    assert frames[0].equals(frames[1]) or np.allclose(
        columns(frames[0], "forecast-lo-80"), columns(frames[1], "forecast-lo-80"), rtol=1e-6
    )
    assert '"coverage"' in (tmp_path / "model" / "config.json").read_text()
    again = loaded.predict_samples(table, 5)
    assert again.columns[-1] == "forecast-sample-5"


def test_a_new_series_is_given_its_own_width(
    models: dict[str, Forecaster], table: pl.DataFrame
) -> None:
    new = daily(260, seed=1).with_columns(unique_id=pl.lit("new"), y=pl.col("y") * 10)
    frame = models["point"].predict(pl.concat([table, new.select(table.columns)]), levels=(80,))
    width = (frame["forecast-hi-80"] - frame["forecast-lo-80"]).to_numpy().reshape(3, 7)
    assert (np.abs(width[2] / width[1] - 1) < 0.5).all()


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(DataError, match=r"too few for intervals=\"conformal\""):
        make("point").fit(daily(50))
    with pytest.raises(DataError, match=r"calibration=0\.7"):
        make("point", calibration=0.7).fit(daily())
    with pytest.raises(DataError, match="intervals='yes'"):
        make("point", intervals="yes").fit(daily())


def test_levels_beyond_the_held_out_errors_are_refused(
    models: dict[str, Forecaster], table: pl.DataFrame
) -> None:
    with pytest.raises(DataError, match="level 99 needs 99 held-out errors"):
        models["point"].predict(table, levels=(99,))


def test_evaluation_scores_the_spread_beside_the_baselines(
    models: dict[str, Forecaster], table: pl.DataFrame
) -> None:
    result = evaluate(models["quantiles"], table, autoets=False)
    for row in result.scores.values():
        assert 0 < row["CRPS"] < row["MAE"]
        assert 0 <= row["cover 80"] <= row["cover 95"] <= 1
        assert 0 < row["width 80"] < row["width 95"]
    assert "CRPS | cover 80" in result.table()
    assert (
        "CRPS"
        not in evaluate(make("point", False).fit(table), table, last=20, autoets=False).table()
    )


def test_samples_keep_what_each_step_says(
    models: dict[str, Forecaster], table: pl.DataFrame
) -> None:
    n, model = 40, models["gaussian"]
    frame = model.predict_samples(table, n)
    shares = tuple(np.clip((np.arange(n) + 0.5) / n, 0.025, 0.975))
    windows = model._windows(model.recent(model.known(table)))
    said = model.forecast_from(windows, windows.last(), shares).quantiles.reshape(14, n)
    drawn = columns(frame, *(f"forecast-sample-{k + 1}" for k in range(n)))
    assert_same(np.sort(drawn, axis=1), said)
    assert frame.columns[:3] == ["unique_id", "ds", "forecast"]
    assert frame.equals(model.predict_samples(table, n))
    assert not frame.equals(model.predict_samples(table, n, seed=1))


def test_samples_hang_together_as_held_out_errors_did(plain: Forecaster) -> None:
    random = np.random.default_rng(3)
    walks = np.cumsum(random.normal(size=(100, 7)), axis=1)
    model, held = Forecaster(**SMALL), plain.held_out_
    assert held is not None
    model.__dict__ |= plain.__dict__
    for errors, expected in ((walks, 0.75), (random.normal(size=(100, 7)), 0.0)):
        model.held_out_ = replace(held, errors=errors)
        frame = model.predict_samples(several(rows=260), 100)
        drawn = columns(frame, *(f"forecast-sample-{k + 1}" for k in range(100)))[:7]
        between = np.diag(np.asarray(np.corrcoef(drawn)), 1)[2:6]
        original = np.diag(np.asarray(np.corrcoef(errors.T)), 1)[2:6]
        assert np.abs(between - original).max() < 0.15
        assert between.mean() == pytest.approx(expected, abs=0.2)


@pytest.mark.parametrize("members", [1, 2])
def test_networks_that_sample_keep_their_own_futures(members: int) -> None:
    table = daily(220)
    more = {"model": "deepar", "members": members, "max_epochs": 1}
    model = make("gaussian", **more).fit(table)
    frame = model.predict(table, levels=(80,))
    low, point, high = columns(frame, "forecast-lo-80", "forecast", "forecast-hi-80").T
    assert (low <= point).all()
    assert (point <= high).all()
    names = [f"forecast-sample-{k + 1}" for k in range(20)]
    drawn = columns(model.predict_samples(table, 20), *names)
    shares = tuple(np.clip((np.arange(20) + 0.5) / 20, 0.025, 0.975))
    windows = model._windows(model.recent(model.known(table)))
    said = model.forecast_from(windows, windows.last(), shares).quantiles[0]
    assert_same(np.sort(drawn, axis=1), said)
    free = make("gaussian", conformal=False, **more).fit(table)
    assert free.held_out_ is None
    assert np.isfinite(columns(free.predict_samples(table, 20), *names)).all()


def test_more_samples_than_errors_and_equal_errors() -> None:
    generator = np.random.default_rng(0)
    errors = np.array([[0.0, 0.0], [1.0, 1.0]])
    picked = samples.drawn(errors, 3, 5, generator)
    assert picked.shape == (3, 5, 2)
    values = np.sort(generator.normal(size=(3, 2, 5)), axis=-1)
    out = samples.reorder(values, picked, generator)
    assert_same(np.sort(out, axis=-1), values)


def test_points_alone_have_no_samples(table: pl.DataFrame) -> None:
    model = make("point", conformal=False, max_epochs=1).fit(table)
    with pytest.raises(DataError, match="fit with output"):
        model.predict_samples(table)
    with pytest.raises(DataError, match="n=0"):
        model.predict_samples(table, 0)


def test_samples_without_held_out_errors_are_refused(plain: Forecaster) -> None:
    model, held = Forecaster(**SMALL), plain.held_out_
    assert held is not None
    model.__dict__ |= plain.__dict__
    model.held_out_ = replace(held, errors=np.zeros((0, 7)))
    with pytest.raises(ModelError, match="how the steps hang together"):
        model.predict_samples(several(rows=260))


def test_scores_of_quantiles_agree_with_utilsforecast() -> None:
    random = np.random.default_rng(8)
    truth = random.normal(10, 3, size=(5, 4))
    levels = (0.1, 0.5, 0.9)
    quantiles = np.sort(truth[..., None] + random.normal(size=(5, 4, 3)), axis=-1)
    ones = np.ones((5, 4))
    frame = pd.DataFrame({"unique_id": "a", "ds": range(20), "y": truth.ravel()})
    flat = quantiles.reshape(-1, 3)
    frame[["m-lo-80", "m", "m-hi-80"]] = flat
    frame[[f"m{q}" for q in levels]] = flat
    named = {"m": [f"m{q}" for q in levels]}
    theirs = losses.mqloss(frame, named, np.array(levels))["m"].item()
    assert metrics.pinball(truth, quantiles, levels, ones) == pytest.approx(theirs)
    scaled = losses.scaled_crps(frame, named, np.array(levels))["m"].item()
    assert metrics.scaled_crps(truth, quantiles, levels, ones) == pytest.approx(scaled, rel=1e-6)
    low, high = quantiles[..., 0], quantiles[..., 2]
    covered = losses.coverage(frame, ["m"], 80)["m"].item()
    assert metrics.coverage(truth, low, high, ones) == pytest.approx(covered)
    fine = losses.winkler_score(frame, ["m"], 80)["m"].item()
    assert metrics.winkler(truth, low, high, ones, 80) == pytest.approx(fine)
    share = losses.mape(frame, ["m"])["m"].item()
    assert metrics.mape(truth, quantiles[..., 1], ones) == pytest.approx(100 * share)


def test_crps_of_samples_and_of_quantiles_is_that_of_the_normal_distribution() -> None:
    from scipy.stats import norm

    truth = np.array([0.3, -1.2])
    exact = float(
        np.mean(truth * (2 * norm.cdf(truth) - 1) + 2 * norm.pdf(truth) - 1 / np.sqrt(np.pi))
    )
    shares = tuple((np.arange(2000) + 0.5) / 2000)
    values = np.broadcast_to(norm.ppf(shares), (2, 2000))
    ones = np.ones(2)
    assert metrics.crps_samples(truth, values, ones) == pytest.approx(exact, abs=1e-3)
    assert metrics.crps(truth, values, shares, ones) == pytest.approx(exact, abs=1e-3)
    assert metrics.crps(truth, truth[:, None] + 1, (0.5,), ones) == pytest.approx(1.0)


def test_baselines_say_how_wrong_they_were() -> None:
    y = np.arange(60.0) % 7
    seen = np.ones(60, dtype=bool)
    seasonal = baselines.spread(y, seen, baselines.seasonal_lags(8, 7), (0.1, 0.9))
    assert_same(seasonal, np.zeros((8, 2)))
    naive = baselines.spread(np.arange(60.0), seen, np.arange(1, 4), (0.5,))
    assert_same(naive[:, 0], np.array([1.0, 2.0, 3.0]))
    assert np.isnan(baselines.spread(y[:5], seen[:5], np.array([7]), (0.5,))).all()
    y = daily(120)["y"].to_numpy()
    setting = baselines.EtsSetting(season=1, rows=60, fits=1)
    point, quantiles = baselines.autoets_quantiles(y, np.array([80, 81]), 2, setting, (0.1, 0.9))
    assert_same(point, baselines.autoets(y, np.array([80, 81]), 2, setting))
    assert (quantiles[..., 0] < point).all()
    assert (point < quantiles[..., 1]).all()


def test_a_cut_panel_knows_nothing_later() -> None:
    table = daily(30).with_columns(
        kind=pl.Series(["b"] * 20 + ["a"] * 10), gap=pl.Series([1.0] * 25 + [None] * 5)
    )
    columns = Columns(past=("kind", "gap"), categorical=("kind",))
    panel = read_panel(table, columns, missing="fill")
    early, late = cut(panel, [20]), cut(panel, [26])
    assert [c.labels for c in panel.schema.of("past")] == [("a", "b"), ()]
    assert [c.labels for c in early.schema.of("past")] == [("b",), ()]
    assert [c.gaps for c in early.schema.of("past")] == [False, False]
    assert late.schema == panel.schema
    assert_same(early.series[0].past[:, 0], np.zeros(20))
    assert len(cut(panel, [0]).series) == 0

"""Scores agree with utilsforecast, baselines with what one would write by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from statsforecast.models import AutoETS
from utilsforecast import losses

from holdfast.tasks import Forecaster, evaluate
from holdfast.tasks.forecast import baselines, metrics
from holdfast.tasks.forecast.evaluate import show_score
from tests.helpers import assert_same
from tests.tasks.small import SMALL, daily, several


@pytest.fixture
def numbers() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(8)
    truth = random.normal(10, 3, size=(5, 4))
    return truth, truth + random.normal(size=(5, 4))


def test_scores_agree_with_utilsforecast(numbers: tuple[np.ndarray, np.ndarray]) -> None:
    truth, forecast = numbers
    frame = pd.DataFrame({"unique_id": "a", "y": truth.ravel(), "m": forecast.ravel()})
    history = pd.DataFrame({"unique_id": "a", "y": np.random.default_rng(1).normal(size=60)})
    scale = metrics.in_sample_scale(history["y"].to_numpy(), np.ones(60, bool), 7)
    ours = metrics.all_scores(truth, forecast, np.ones((5, 4)), np.array(scale))
    for name in ("MSE", "RMSE", "MAE"):
        theirs = getattr(losses, name.lower())(frame, models=["m"])["m"].item()
        assert ours[name] == pytest.approx(theirs, rel=1e-12)
    mase = losses.mase(frame, models=["m"], seasonality=7, train_df=history)["m"].item()
    assert ours["MASE"] == pytest.approx(mase, rel=1e-12)
    # utilsforecast divides by |truth| + |forecast| without the two, and gives a share.
    smape = losses.smape(frame, models=["m"])["m"].item()
    assert ours["sMAPE"] == pytest.approx(200 * smape, rel=1e-12)


def test_r2_agrees_with_scikit_learn(numbers: tuple[np.ndarray, np.ndarray]) -> None:
    from sklearn.metrics import r2_score

    truth, forecast = numbers
    weight = np.ones((5, 4))
    assert metrics.r2(truth, forecast, weight) == pytest.approx(
        r2_score(truth.ravel(), forecast.ravel())
    )


def test_unobserved_targets_do_not_count(numbers: tuple[np.ndarray, np.ndarray]) -> None:
    truth, forecast = numbers
    weight = np.ones((5, 4))
    weight[2, 1] = weight[0, 0] = 0
    seen = weight.astype(bool)
    spoiled = np.where(seen, truth, 1e12)
    scale = np.ones((5, 1))
    kept = (truth[seen], forecast[seen], np.ones(18), np.ones(18))
    assert_same(
        metrics.all_scores(spoiled, forecast, weight, scale), metrics.all_scores(*kept), "scores"
    )


def test_naive_forecasts() -> None:
    y = np.arange(100.0)
    origins = np.array([50, 60])
    assert_same(baselines.naive(y, origins, 3), np.array([[50.0] * 3, [60.0] * 3]))
    expected = np.array([[44.0, 45, 46, 47, 48, 49, 50, 44], [54.0, 55, 56, 57, 58, 59, 60, 54]])
    assert_same(baselines.seasonal_naive(y, origins, 8, 7), expected)


def test_autoets_is_fitted_and_carried_forward() -> None:
    y = daily(120)["y"].to_numpy()
    setting = baselines.EtsSetting(season=7, rows=60, fits=2)
    origins = np.array([80, 87, 94, 101])
    ours = baselines.autoets(y, origins, 7, setting)
    model = AutoETS(season_length=7).fit(y[21:81])
    assert_same(ours[0], model.predict(h=7)["mean"])
    assert_same(ours[1], model.forward(y=y[28:88], h=7)["mean"])
    again = AutoETS(season_length=7).fit(y[35:95])
    assert_same(ours[2], again.predict(h=7)["mean"])


def test_autoets_sees_no_future() -> None:
    y = daily(120)["y"].to_numpy().copy()
    setting = baselines.EtsSetting(season=7, rows=60, fits=2)
    before = baselines.autoets(y, np.array([80]), 7, setting)
    y[81:] = 1e6
    assert_same(baselines.autoets(y, np.array([80]), 7, setting), before)


def test_the_setting_of_autoets_is_bounded() -> None:
    setting = baselines.ets_setting((24, 168), rows=10_000, origins=2857)
    assert (setting.season, setting.rows, setting.fits) == (24, 672, 24)
    assert baselines.ets_setting((52,), rows=500, origins=3).season == 1
    assert baselines.ets_setting((7,), rows=100, origins=50, series=100).fits == 1


def test_the_table_holds_every_method_on_the_same_origins() -> None:
    table = several()
    model = Forecaster(**SMALL).fit(table.filter(table["ds"] < table["ds"][130]))
    result = evaluate(model, table, step=3)
    names = ["Holdfast", "seasonal naive (7, last week)", "naive (last value)"]
    assert list(result.scores) == [*names, "AutoETS (season 7)"]
    assert {f.shape for f in result.forecasts.values()} == {result.rolled.truth.shape}
    assert "fitted anew at" in result.notes[0]
    assert result.table().count("\n") == 5
    y = table["y"].to_numpy()[:160]
    origin = result.rolled.origins[0][1]
    assert_same(
        result.forecasts["seasonal naive (7, last week)"][1], y[origin - 6 : origin + 1].copy()
    )
    assert_same(result.rolled.truth[1], y[origin + 1 : origin + 8].copy())


@pytest.mark.parametrize(
    ("value", "text"),
    [(161.234, "161.2"), (0.00012345, "0.0001234"), (1234567.8, "1,234,568"), (np.nan, "n/a")],
)
def test_scores_are_shown_with_four_digits(value: float, text: str) -> None:
    assert show_score(value) == text

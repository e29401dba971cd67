"""The forecaster in other people's tools: scikit-learn's searches, Nixtla's frames, sktime."""

from __future__ import annotations

import importlib.util
import pickle
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from holdfast.errors import DataError, ModelError
from holdfast.tasks import Forecaster
from holdfast.tasks.forecast.nixtla import NixtlaForecaster
from holdfast.tasks.forecast.splits import RollingSplit
from tests.helpers import assert_same
from tests.tasks.small import SMALL, daily, several

TINY: dict[str, Any] = {**SMALL, "max_epochs": 1, "hidden_size": 4}


def as_pandas(table: pl.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(table.to_dict(as_series=False))


def doubled(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(y=2 * frame["y"])


def test_splits_end_at_the_same_times_for_all_series() -> None:
    table = several(rows=40).sample(fraction=1.0, shuffle=True, seed=3)
    splitter = RollingSplit(7, n_windows=2, step=5)
    assert splitter.get_n_splits() == 2
    for (train, test), end in zip(splitter.split(table), (28, 33), strict=True):
        assert set(train) < set(test)
        assert table[train]["ds"].n_unique() == end
        assert table[test]["ds"].n_unique() == end + 7
        assert len(train) == 2 * end
    with pytest.raises(DataError, match="40 times are too few"):
        list(RollingSplit(7, n_windows=6).split(table))
    with pytest.raises(DataError, match="n_windows=0"):
        list(RollingSplit(7, n_windows=0).split(table))
    with pytest.raises(DataError, match="no column 'day'"):
        list(RollingSplit(7, time_column="day").split(table))


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_grid_search_scores_what_follows_the_training(kind: str) -> None:
    table = daily(140)
    X = as_pandas(table) if kind == "pandas" else table
    grid = {"learning_rate": [1e-3, 1e-2]}
    strict: Any = {"cv": RollingSplit(7, 2), "error_score": "raise"}
    search = GridSearchCV(Forecaster(**TINY), grid, **strict)
    search.fit(X)
    by_hand = Forecaster(**TINY, learning_rate=1e-3).fit(table[:126]).score(table[:133])
    assert search.cv_results_["split0_test_score"][0] == pytest.approx(by_hand)
    assert search.best_params_["learning_rate"] in grid["learning_rate"]
    assert len(search.predict(X)) == 7


def test_a_pipeline_changes_the_table_first() -> None:
    X = as_pandas(several(rows=120))
    pipe: Any = make_pipeline(FunctionTransformer(doubled), Forecaster(**TINY))
    copy: Any = clone(pipe)
    found = copy.fit(X).predict(X)
    assert_same(
        found["forecast"].to_list(),
        Forecaster(**TINY).fit(doubled(X)).predict(doubled(X))["forecast"].to_list(),
    )
    strict: Any = {"cv": RollingSplit(7, 1), "error_score": "raise"}
    rates = {"forecaster__learning_rate": [1e-3, 1e-2, 3e-2]}
    search = RandomizedSearchCV(pipe, rates, n_iter=1, random_state=0, **strict)
    assert np.isfinite(search.fit(X).best_score_)


def test_a_fitted_forecaster_survives_a_copy_between_processes() -> None:
    model = Forecaster(**TINY, output="gaussian").fit(daily(120))
    copy = pickle.loads(pickle.dumps(model))
    assert copy.predict(daily(120)).equals(model.predict(daily(120)))


@pytest.mark.slow
def test_a_search_in_two_processes_finds_the_same() -> None:
    X, grid = as_pandas(daily(140)), {"learning_rate": [1e-3, 1e-2]}
    scores = [
        GridSearchCV(Forecaster(**TINY), grid, cv=RollingSplit(7, 2), n_jobs=jobs)
        .fit(X)
        .cv_results_["mean_test_score"]
        for jobs in (1, 2)
    ]
    assert_same(*scores)


@pytest.fixture(scope="module")
def nixtla() -> NixtlaForecaster:
    models = [Forecaster(**TINY, output="gaussian"), Forecaster(**TINY, intervals="conformal")]
    return NixtlaForecaster(models, freq="D").fit(as_pandas(several()), val_size=14)


def test_frames_are_those_of_neuralforecast(nixtla: NixtlaForecaster) -> None:
    frame = nixtla.predict(level=[80, 50])
    marks = ["lo-80", "lo-50", "hi-50", "hi-80"]
    expected = [
        f"{name}{mark}" for name in ("LSTM", "LSTM1") for mark in ("", *(f"-{m}" for m in marks))
    ]
    assert frame.columns.tolist() == ["unique_id", "ds", *expected]
    assert frame["unique_id"].tolist() == ["b"] * 7 + ["a"] * 7
    assert frame["ds"].dtype.kind == "M"
    for name in ("LSTM", "LSTM1"):
        values = frame[[f"{name}-lo-80", f"{name}-lo-50", name, f"{name}-hi-50", f"{name}-hi-80"]]
        assert (np.diff(values.to_numpy(), axis=1) >= 0).all()


def test_the_table_of_training_need_not_be_given_again(nixtla: NixtlaForecaster) -> None:
    table = as_pandas(several())
    assert nixtla.predict().equals(nixtla.predict(table))
    assert not nixtla.predict().equals(nixtla.predict(table[:-1]))
    settings = {**TINY, "output": "gaussian", "validation": 14}
    own = Forecaster(**settings).fit(table).predict(table)
    assert_same(nixtla.predict()["LSTM"].tolist(), own["forecast"].tolist())


def test_known_futures_and_other_names() -> None:
    random = np.random.default_rng(0)
    table = several().rename({"unique_id": "shop", "y": "sold"})
    table = table.with_columns(price=pl.Series(random.normal(size=len(table))))
    past = table.filter(pl.col("ds") < table["ds"].max() - pl.duration(days=6))
    ahead = table.join(past, on=["shop", "ds"], how="anti").drop("sold")
    models = {"mine": Forecaster(**TINY, future=["price"])}
    nf = NixtlaForecaster(models, id_col="shop", target_col="sold").fit(past)
    frame = nf.predict(futr_df=ahead)
    assert frame.columns == ["shop", "ds", "mine"]
    assert frame["ds"].to_list() == ahead["ds"].to_list()
    assert not frame.equals(nf.predict(futr_df=ahead.with_columns(pl.col("price") + 1)))
    with pytest.raises(DataError, match="'price' must be known"):
        nf.predict()


def test_cross_validation_has_a_cutoff_and_what_came() -> None:
    table = several()
    nf = NixtlaForecaster([Forecaster(**TINY, output="gaussian")])
    frame = nf.cross_validation(table, n_windows=2, step_size=3, level=[80])
    names = ["unique_id", "ds", "cutoff", "LSTM", "LSTM-lo-80", "LSTM-hi-80", "y"]
    assert frame.columns == names
    assert len(frame) == 2 * 2 * 7
    assert frame.group_by("unique_id").agg(pl.col("cutoff").n_unique())["cutoff"].to_list() == [
        2,
        2,
    ]
    joined = frame.join(table, on=["unique_id", "ds"], suffix="_given")
    assert joined["y"].to_list() == joined["y_given"].to_list()


def test_what_has_no_model_is_refused() -> None:
    with pytest.raises(DataError, match="at least one"):
        NixtlaForecaster([])
    with pytest.raises(ModelError, match="call fit"):
        NixtlaForecaster([Forecaster(**TINY)]).predict()


needs_sktime = pytest.mark.skipif(
    importlib.util.find_spec("sktime") is None, reason="sktime is not installed"
)


@needs_sktime
@pytest.mark.slow
def test_sktime_forecasts_what_the_forecaster_does() -> None:
    from holdfast.tasks.forecast.sktime_adapter import SktimeForecaster

    y: Any = as_pandas(daily(120)).set_index("ds")["y"].asfreq("D")
    small = {**TINY, "output": "gaussian"}
    model = SktimeForecaster(Forecaster(**small)).fit(y, fh=[1, 3, 7])
    own = Forecaster(**small).fit(daily(120)).predict(daily(120), levels=(80,))
    said = model.predict()
    assert said.index.tolist() == [own["ds"][k] for k in (0, 2, 6)]
    assert_same(said.tolist(), [own["forecast"][k] for k in (0, 2, 6)])
    interval = model.predict_interval(coverage=0.8)
    assert_same(interval.iloc[:, 0].tolist(), [own["forecast-lo-80"][k] for k in (0, 2, 6)])
    later = model.clone().fit(y[:-7], fh=range(1, 8)).update(y[-7:], update_params=False)
    assert later.predict().index[0] == y.index[-1] + pd.Timedelta(days=1)


@needs_sktime
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_sktime_finds_nothing_wrong() -> None:
    from sktime.utils.estimator_checks import check_estimator

    from holdfast.tasks.forecast.sktime_adapter import SktimeForecaster

    results = check_estimator(SktimeForecaster, raise_exceptions=False, verbose=False)
    assert len(results) > 50
    assert {name: result for name, result in results.items() if result != "PASSED"} == {}

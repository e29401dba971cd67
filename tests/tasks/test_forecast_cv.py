"""Cross-validation sees nothing that lies after a cutoff, and keeps its tables straight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from holdfast.errors import DataError, ShortHistoryWarning
from holdfast.tasks import Forecaster
from holdfast.tasks.forecast.cross_validation import Backtest
from tests.helpers import assert_same
from tests.tasks.small import SMALL, daily, edit, several

TINY: dict[str, Any] = {**SMALL, "max_epochs": 1, "hidden_size": 4}
ROWS = 200
# The cutoffs of three windows of seven rows.
CUTOFFS = (178, 185, 192)


def covered(seed: int = 0) -> pl.DataFrame:
    """One series with a known future, a label and a past covariate."""
    random = np.random.default_rng(seed)
    return daily(ROWS, seed).with_columns(
        price=pl.Series(random.normal(size=ROWS)),
        temp=pl.Series(random.normal(size=ROWS)),
        kind=pl.Series(random.choice(["a", "b"], size=ROWS)),
    )


def model(**more: Any) -> Forecaster:
    settings = {"past": ("temp", "kind"), "future": ("price",), "categorical": ("kind",)}
    return Forecaster(**{**TINY, **settings, "intervals": "conformal", **more})


@pytest.fixture(scope="module")
def calm() -> dict[bool, Backtest]:
    """Cross-validation with and without training anew."""
    found = {}
    for refit in (False, True):
        found[refit] = model().cross_validate(covered(), refit=refit, levels=(80,))
    return found


def numbers(test: Backtest, window: int) -> np.ndarray:
    """Everything forecast at one cutoff (H, columns), without what came."""
    frame = test.frame().drop("ds", "cutoff", "y")
    return frame.to_numpy()[7 * window : 7 * window + 7]


@pytest.mark.parametrize("refit", [False, True])
@pytest.mark.parametrize(
    ("column", "value", "row"),
    [
        ("y", 1e6, 186),
        ("temp", 1e3, 186),
        ("kind", "new label", 186),
        ("y", 1e6, 193),
        ("price", 1e3, 193),
    ],
)
def test_a_spike_moves_nothing_at_or_before_a_cutoff(
    calm: dict[bool, Backtest], refit: bool, column: str, value: Any, row: int
) -> None:
    wild = model().cross_validate(edit(covered(), row, column, value), refit=refit, levels=(80,))
    for window, cutoff in enumerate(CUTOFFS):
        known = column == "price" and row - cutoff <= 7
        same = np.array_equal(numbers(calm[refit], window), numbers(wild, window))
        if row > cutoff and not known:
            assert same, f"the window at row {cutoff} has seen row {row}"
        elif column != "kind":
            assert not same, f"the window at row {cutoff} has not seen row {row}"


def test_a_covariate_known_beyond_the_horizon_is_not_looked_at(calm: dict[bool, Backtest]) -> None:
    wild = model().cross_validate(edit(covered(), 186, "price", 9.0), levels=(80,))
    assert np.array_equal(numbers(calm[False], 0), numbers(wild, 0))
    assert not np.array_equal(numbers(calm[False], 1), numbers(wild, 1))


def test_the_frame_has_the_columns_of_nixtla(calm: dict[bool, Backtest]) -> None:
    frame = calm[False].frame()
    names = ["ds", "cutoff", "y", "forecast", "forecast-lo-80", "forecast-hi-80"]
    assert frame.columns == [*names, "Naive", "SeasonalNaive"]
    table = covered()
    assert frame["ds"].to_list() == [table["ds"][c + k] for c in CUTOFFS for k in range(1, 8)]
    assert frame["cutoff"].unique().sort().to_list() == [table["ds"][c] for c in CUTOFFS]
    assert frame["y"].to_list() == table["y"].to_list()[179:200]
    assert frame["Naive"].to_list()[:7] == [table["y"][178]] * 7
    assert frame["SeasonalNaive"].to_list()[:7] == table["y"].to_list()[172:179]


def test_the_first_window_is_what_predict_says(calm: dict[bool, Backtest]) -> None:
    table = covered()
    ahead = table[179:186].select("ds", "price")
    said = model().fit(table[:179]).predict(table[:179], future=ahead, levels=(80,))
    assert_same(numbers(calm[False], 0)[:, :3], said.drop("ds").to_numpy())


def test_training_anew_changes_later_windows_only(calm: dict[bool, Backtest]) -> None:
    assert np.array_equal(numbers(calm[False], 0), numbers(calm[True], 0))
    assert not np.array_equal(numbers(calm[False], 1), numbers(calm[True], 1))
    every_second = model().cross_validate(covered(), refit=2, levels=(80,))
    assert np.array_equal(numbers(every_second, 1), numbers(calm[False], 1))
    assert np.array_equal(numbers(every_second, 2), numbers(calm[True], 2))


@pytest.fixture(scope="module")
def many() -> Backtest:
    """Two series of unequal length, one with a missing value, as pandas."""
    table = several(rows=160).filter((pl.col("unique_id") == "b") | (pl.col("ds").dt.day() > 0))
    late = daily(20, 3, "2024-05-21").with_columns(unique_id=pl.lit("c")).select(table.columns)
    table = pl.concat([edit(table, 155, "y", None), late])
    frame = pd.DataFrame(table.to_dict(as_series=False))
    with pytest.warns(ShortHistoryWarning):
        return Forecaster(**TINY, missing="fill").cross_validate(frame, n_windows=3, step=5)


def test_series_without_rows_at_a_cutoff_are_left_out(many: Backtest) -> None:
    frame = many.frame()
    assert isinstance(frame, pd.DataFrame)
    counts = frame.groupby("unique_id", sort=False)["cutoff"].nunique().to_dict()
    assert counts == {"b": 3, "a": 3, "c": 3}
    with pytest.warns(ShortHistoryWarning):
        short = Forecaster(**TINY, missing="fill").cross_validate(
            frame_with_a_late_series(), n_windows=2
        )
    assert short.frame().group_by("unique_id").len().sort("unique_id")["len"].to_list() == [14, 7]


def frame_with_a_late_series() -> pl.DataFrame:
    table = several(("b",), rows=160)
    late = daily(10, 3, "2024-05-31").with_columns(unique_id=pl.lit("c"))
    return pl.concat([table, late.select(table.columns)])


def test_tables_agree_with_the_frame(many: Backtest) -> None:
    frame = many.frame()
    frame["error"] = (frame["y"] - frame["forecast"]).abs()
    assert frame["y"].isna().sum() == 1
    ours = many.by_series().query("method == 'forecast'").set_index("unique_id")["MAE"]
    theirs = frame.groupby("unique_id")["error"].mean()
    assert_same(ours[["a", "b", "c"]].tolist(), theirs[["a", "b", "c"]].tolist())
    by_window = many.by_window()
    assert by_window["method"].tolist() == ["forecast", "Naive", "SeasonalNaive"] * 3
    assert by_window["window"].tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    frame["step"] = np.tile(np.arange(7), 9)
    steps = many.by_horizon().query("method == 'forecast'")["MAE"]
    assert_same(steps.tolist(), frame.groupby("step")["error"].mean().tolist())
    assert many.scores()["forecast"]["MAE"] == pytest.approx(frame["error"].mean())
    residuals = many.residuals()
    assert residuals.columns.tolist() == ["unique_id", "ds", "cutoff", "step", "residual"]
    assert_same(residuals["residual"].abs().tolist(), frame["error"].tolist())


def test_the_forecaster_itself_stays_as_it_is() -> None:
    one = Forecaster(**TINY)
    one.cross_validate(daily(), n_windows=1)
    assert not hasattr(one, "nets_")


def test_counts_that_make_no_sense_are_refused() -> None:
    one = Forecaster(**TINY)
    with pytest.raises(DataError, match="n_windows=0"):
        one.cross_validate(daily(), n_windows=0)
    with pytest.raises(DataError, match="step=0"):
        one.cross_validate(daily(), step=0)
    with pytest.raises(DataError, match="leave nothing before the cutoff"):
        one.cross_validate(daily(20), n_windows=3)

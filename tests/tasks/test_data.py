"""Frequencies, calendars, filling and windows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from holdfast.data import Columns, load_metro_traffic, read_panel
from holdfast.data.calendar import calendar_features
from holdfast.data.covariates import ROLES, Schema
from holdfast.data.filling import fill
from holdfast.data.frequency import Frequency, infer, show
from holdfast.data.optional import require
from holdfast.data.scaling import Scale, Scaling, fit_scales
from holdfast.data.windows import Recipe, default_lags, make_windows
from holdfast.errors import MissingExtraError
from tests.helpers import assert_same
from tests.tasks.small import daily, edit

HOUR = Frequency("microsecond", 3_600_000_000)


def times(start: str, step: str, count: int) -> np.ndarray:
    return np.arange(np.datetime64(start), np.datetime64(start) + count * np.timedelta64(1, step))[
        :count
    ].astype("datetime64[us]")


@pytest.mark.parametrize(
    ("stamps", "text", "seasons"),
    [
        (times("2024-01-01T00", "h", 50), "1 hour", (24, 168)),
        (times("2024-01-01", "D", 50), "1 day", (7,)),
        (times("2024-01-01", "D", 350)[::7], "7 days", (52,)),
        (times("2020-01", "M", 50), "1 month", (12,)),
        (times("2020-01", "M", 60)[::3], "3 months", (4,)),
        (times("1990", "Y", 30), "12 months", ()),
        (times("2024-01-01T00:00", "m", 500)[::15], "15 minutes", (96, 672)),
    ],
)
def test_frequency(stamps: np.ndarray, text: str, seasons: tuple[int, ...]) -> None:
    frequency = infer(stamps, "", np.arange(1, len(stamps) + 1))
    assert str(frequency) == text
    assert frequency.seasons() == seasons
    assert np.array_equal(frequency.grid(stamps[0], len(stamps)), stamps)
    assert np.array_equal(np.diff(frequency.ordinals(stamps)), np.ones(len(stamps) - 1))


def test_month_ends_stay_month_ends() -> None:
    ends = times("2023-02", "M", 14) - np.timedelta64(1, "D")
    frequency = infer(ends, "", np.arange(1, 15))
    after = frequency.after(ends[-1], 3).astype("datetime64[D]").astype(str).tolist()
    assert after == ["2024-03-31", "2024-04-30", "2024-05-31"]


def test_a_gap_is_no_second_frequency() -> None:
    stamps = np.delete(times("2024-01-01", "D", 40), [5, 6, 20])
    assert str(infer(stamps, "", np.arange(1, 38))) == "1 day"


def test_times_are_shown_short() -> None:
    assert show(np.datetime64("2018-07-23T00:00:00", "us")) == "2018-07-23"
    assert show(np.datetime64("2018-07-23T05:00:00", "us")) == "2018-07-23 05:00"
    assert show(np.datetime64("2018-07-23T05:00:07", "us")) == "2018-07-23 05:00:07"


def test_calendar_repeats_with_the_week_and_tells_hours_apart() -> None:
    features = calendar_features(times("2024-01-01T00", "h", 24 * 14), HOUR)
    assert_same(features[:168].copy(), features[168:].copy())
    assert len(np.unique(features[:168].round(4), axis=0)) == 168
    weekend = features[:, -1].reshape(14, 24)[:, 0].tolist()
    assert weekend == [0, 0, 0, 0, 0, 1, 1] * 2


def test_fill_takes_the_last_season_and_only_the_past() -> None:
    values = np.arange(20.0)
    holes = values.copy()
    holes[[0, 9, 16, 17]] = np.nan
    filled = fill(holes, (3, 7))
    assert filled[[0, 9, 16, 17]].tolist() == [1, 2, 2, 10]
    changed = holes.copy()
    changed[18:] = 1e9
    assert_same(fill(changed, (3, 7))[:18].copy(), filled[:18].copy())


def test_zones_become_utc() -> None:
    plain = daily(40)
    zoned = plain.with_columns(pl.col("ds").dt.replace_time_zone("Etc/GMT-2"))
    panel = read_panel(zoned)
    expected = plain["ds"].to_numpy() - np.timedelta64(2, "h")
    assert np.array_equal(panel.series[0].times, expected)


def test_the_digest_is_that_of_the_content() -> None:
    table = daily(40)
    digest = read_panel(table).digest
    assert read_panel(table.sample(fraction=1.0, shuffle=True, seed=2)).digest == digest
    assert read_panel(edit(table, 3, "y", 0.0)).digest != digest


def test_lags_are_whole_seasons_and_never_below_the_horizon() -> None:
    assert default_lags((24, 168), 24) == (24, 48, 168, 336, 504, 672)
    assert default_lags((7,), 10, repeats=2) == (14, 21)
    assert default_lags((), 10) == ()


def test_windows_hold_what_is_known_at_the_origin() -> None:
    panel = read_panel(daily(60).with_columns(pl.col("y").rank().alias("y")))
    scaling = Scaling("standard", {"": Scale(0.0, 1.0)}, dict.fromkeys(ROLES, ((), ())))
    recipe = Recipe(window=5, horizon=3, seasons=(7,), lags=(7, 14))
    windows = make_windows(panel, scaling, recipe, Schema(), {"": 0})
    y = panel.series[0].y
    batch = windows.batch(np.array([[0, 30]]), span=2)
    assert_same(batch.y[0].double().numpy(), y[30 - 19 : 31].copy())
    assert batch.y.shape[1] == recipe.history + 1
    assert batch.target[0].tolist() == [y[30:33].tolist(), y[31:34].tolist()]
    assert batch.weight.min() == batch.there.min() == 1
    assert windows.batch(np.array([[0, 59]])).weight.max() == 0
    early = windows.batch(np.array([[0, 4]]))
    assert early.there[0].tolist() == [0.0] * 14 + [1.0] * 5
    assert early.y[0, :15].tolist() == [y[0]] * 15


def test_scales_are_those_of_the_training_rows() -> None:
    panel = read_panel(edit(daily(60), 55, "y", 1e6))
    scale = fit_scales(panel, {"": 50}).targets[""]
    assert scale.mean == pytest.approx(daily(60)["y"][:50].mean())
    assert_same(scale.undo(scale.apply(panel.series[0].y)), panel.series[0].y.copy())


def test_the_shipped_series() -> None:
    table = load_metro_traffic()
    assert table.shape == (17_520, 6)
    assert table["y"].null_count() == 104
    assert list(load_metro_traffic("pandas").columns) == table.columns
    panel = read_panel(table, Columns(past=("temp",)), missing="fill")
    assert str(panel.frequency) == "1 hour"
    assert (~panel.series[0].observed).sum() == 104


def test_a_missing_library_names_its_extra() -> None:
    with pytest.raises(MissingExtraError, match=r'pip install "holdfast\[forecast\]"'):
        require("no_such_library.part")


def test_a_single_window_is_a_row_of_a_batch() -> None:
    panel = read_panel(daily(60))
    scaling = fit_scales(panel, {"": 60})
    recipe = Recipe(window=5, horizon=3, seasons=(7,), lags=(7, 14))
    windows = make_windows(panel, scaling, recipe, Schema(), {"": 0})
    for span in (1, 4):
        both = windows.batch(np.array([[0, 40], [0, 59]]), span)
        for row, origin in enumerate((40, 59)):
            one = windows.batch(np.array([[0, origin]]), span)
            for name, tensor in vars(both).items():
                if name != "texts":
                    assert_same(getattr(one, name), tensor[row : row + 1], name)

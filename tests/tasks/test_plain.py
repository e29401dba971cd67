"""Small tables read as they stand say what the general way says, and nothing is let through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from holdfast.data import Columns, read_panel, tables
from holdfast.data.calendar import calendar_features
from holdfast.data.frequency import DAY, Frequency
from holdfast.data.panel import Panel
from holdfast.data.plain import plain_columns
from holdfast.data.tables import make_frame
from holdfast.errors import DataError
from holdfast.tasks import Forecaster
from tests.helpers import assert_same
from tests.tasks.small import SMALL, daily, several

DAYS = Frequency("microsecond", DAY)
WEATHER = Columns(past=("warm",), static=("size",))


def general(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "plain_columns", lambda *_: None)


def same(one: Panel, other: Panel) -> None:
    assert (one.digest, one.frequency, one.schema, one.has_ids, one.backend, one.name) == (
        other.digest,
        other.frequency,
        other.schema,
        other.has_ids,
        other.backend,
        other.name,
    )
    for a, b in zip(one.series, other.series, strict=True):
        assert a.id == b.id
        for name in ("times", "y", "observed", "past", "future", "static"):
            assert getattr(a, name).dtype == getattr(b, name).dtype
            assert np.array_equal(getattr(a, name), getattr(b, name), equal_nan=name != "times")


TABLES: dict[str, Callable[[], pl.DataFrame]] = {
    "one": lambda: daily(60),
    "one with an id": lambda: several(("only",), 60),
    "two": lambda: several(rows=60),
    "mixed up": lambda: several(rows=60).sample(fraction=1.0, shuffle=True, seed=1),
    "whole numbers": lambda: daily(60).with_columns(pl.col("y").cast(pl.Int64)),
    "short numbers": lambda: daily(60).with_columns(pl.col("y").cast(pl.Float32)),
    "dates": lambda: daily(60).with_columns(pl.col("ds").cast(pl.Date)),
    "nanoseconds": lambda: daily(60).with_columns(pl.col("ds").cast(pl.Datetime("ns"))),
    "covariates": lambda: several(rows=60).with_columns(
        pl.col("y").rank().alias("warm"), (pl.col("unique_id") == "a").cast(pl.Int32).alias("size")
    ),
}


@pytest.mark.parametrize("backend", ["polars", "pandas"])
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("known", [None, DAYS])
def test_a_plain_table_reads_as_any_other(
    name: str, backend: str, known: Frequency | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    table: Any = TABLES[name]()
    table = table.to_pandas() if backend == "pandas" else table
    columns = WEATHER if name == "covariates" else Columns()
    id = "unique_id" if "unique_id" in table.columns else None
    assert plain_columns(table, id, "ds", ["y"]) is not None
    found = read_panel(table, columns, frequency=known)
    general(monkeypatch)
    same(found, read_panel(table, columns, frequency=known))


ODD: dict[str, Callable[[], Any]] = {
    "texts for times": lambda: daily(60).with_columns(pl.col("ds").dt.to_string("%Y-%m-%d")),
    "a zone": lambda: daily(60).with_columns(pl.col("ds").dt.replace_time_zone("Europe/Paris")),
    "texts for numbers": lambda: daily(60).with_columns(pl.col("y").cast(pl.String)),
    "categories": lambda: several(rows=60).with_columns(pl.col("unique_id").cast(pl.Categorical)),
    "numbered ids": lambda: several(("1", "2"), 60).with_columns(pl.col("unique_id").cast(int)),
    "many rows": lambda: daily(5000),
    "pandas, a zone": lambda: (
        daily(60).to_pandas().assign(ds=lambda t: t["ds"].dt.tz_localize("UTC"))
    ),
    "pandas, own kinds": lambda: daily(60).to_pandas().convert_dtypes(),
    "pandas, categories": lambda: several(rows=60).to_pandas().astype({"unique_id": "category"}),
    "arrow": lambda: daily(60).to_arrow(),
}


@pytest.mark.parametrize("name", ODD)
def test_other_tables_take_the_general_way(name: str) -> None:
    table = ODD[name]()
    id = "unique_id" if "unique_id" in getattr(table, "columns", ()) else None
    assert plain_columns(table, id, "ds", ["y"]) is None
    assert len(read_panel(table).series) == (2 if id else 1)


MISTAKES: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], str]] = {
    "an empty id": (
        lambda t: t.with_columns(pl.lit("").alias("unique_id")),
        "row 1: column 'unique_id' has no id",
    ),
    "an empty time": (
        lambda t: t.with_columns(ds=pl.when(pl.arange(0, 60) == 3).then(None).otherwise("ds")),
        "row 4.*column 'ds' is empty",
    ),
    "an empty value": (
        lambda t: t.with_columns(y=pl.when(pl.arange(0, 60) == 3).then(None).otherwise("y")),
        "row 4.*column 'y' is empty",
    ),
    "infinity": (
        lambda t: t.with_columns(y=pl.when(pl.arange(0, 60) == 3).then(np.inf).otherwise("y")),
        "row 4.*column 'y' is infinite",
    ),
    "a gap": (lambda t: t.filter(pl.arange(0, 60) != 3), "row 4.*a gap: 1 time"),
    "a time twice": (lambda t: pl.concat([t, t[5:6]]), "row 61.*the same time 2024-01-06"),
    "no column": (lambda t: t.rename({"y": "z"}), "there is no column 'y'"),
    "no rows": (lambda t: t.clear(), "the table is empty"),
    "another frequency": (
        lambda t: t[::2],
        "rows are 2 days apart, the model was trained on",
    ),
}


@pytest.mark.parametrize("backend", ["polars", "pandas"])
@pytest.mark.parametrize("name", MISTAKES)
def test_what_is_refused_stays_refused(name: str, backend: str) -> None:
    spoil, message = MISTAKES[name]
    table: Any = spoil(several(("only",), 60))
    table = table.to_pandas() if backend == "pandas" else table
    with pytest.raises(DataError, match=message):
        read_panel(table, frequency=DAYS)


def test_a_column_that_stands_there_twice_is_refused() -> None:
    table = daily(60).to_pandas()
    table = pd.concat([table, table[["y"]]], axis=1)
    assert plain_columns(table, None, "ds", ["y"]) is None
    with pytest.raises(DataError, match="stands there twice"):
        read_panel(table)


@pytest.mark.parametrize("backend", ["polars", "pandas"])
def test_forecasts_do_not_depend_on_how_a_table_is_read(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table: Any = several(("only",), 90)
    table = table.to_pandas() if backend == "pandas" else table
    model = Forecaster(**SMALL).fit(table)
    found = model.predict(table)
    general(monkeypatch)
    other = model.predict(table)
    assert type(found) is type(other)
    assert found.equals(other)


@pytest.mark.parametrize("backend", ["polars", "pandas", "pyarrow"])
def test_frames_hold_what_they_were_given(backend: str) -> None:
    times = np.arange(3).astype("datetime64[D]").astype("datetime64[us]")
    columns = {"unique_id": ["a", "b", "b"], "ds": times, "y": np.array([1.0, 2.0, 4.0])}
    found = make_frame(columns, backend)
    texts, values = (found[name] for name in ("unique_id", "y"))
    arrow = backend == "pyarrow"
    assert (texts.to_pylist() if arrow else list(texts)) == columns["unique_id"]
    assert (values.to_pylist() if arrow else list(values)) == columns["y"].tolist()
    assert np.array_equal(np.asarray(found["ds"]).astype("datetime64[us]"), times)


GRIDS = [
    (Frequency("microsecond", 3_600_000_000), "2023-12-29T05:10"),
    (Frequency("microsecond", 900_000_000), "1969-12-30T23:55"),
    (Frequency("microsecond", 7_000_000), "2024-02-28T00:00"),
    (Frequency("microsecond", 5_400_000_000), "2024-02-28T00:30"),
    (DAYS, "2023-12-20T06:00"),
    (Frequency("microsecond", 7 * DAY), "2019-12-20"),
    (Frequency("microsecond", DAY + 3_600_000_000), "2019-12-20"),
    (Frequency("month", 1, month_end=True), "2019-11-01"),
    (Frequency("month", 2), "2019-11-05T06:00"),
    (Frequency("month", 3, month_end=True), "2019-11-30"),
]


@pytest.mark.parametrize(("frequency", "first"), GRIDS)
def test_a_calendar_that_is_looked_up_is_the_one_that_is_computed(
    frequency: Frequency, first: str
) -> None:
    times = frequency.grid(np.datetime64(first, "us"), 400)
    found = calendar_features(times, frequency)
    single = [calendar_features(times[n : n + 1], frequency)[0] for n in range(400)]
    assert np.array_equal(found, np.stack(single))
    days = (times - times.astype("datetime64[Y]")) / np.timedelta64(1, "D")
    hours = (times - times.astype("datetime64[D]")) / np.timedelta64(1, "D")
    phase = hours if frequency.unit == "microsecond" and frequency.step < DAY else days / 365.25
    at = -6 if frequency == DAYS else 0
    assert_same(found[:, at], np.sin(2 * np.pi * phase).astype(np.float32))


@pytest.mark.parametrize(("frequency", "first"), GRIDS)
def test_a_regular_series_needs_no_second_look(
    frequency: Frequency, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = frequency.grid(np.datetime64(first, "us"), 30)
    assert frequency.follow(times) == frequency.even or frequency.unit == "month"
    assert not frequency.follow(np.delete(times, 7))
    assert not frequency.follow(times[::-1])
    assert not frequency.follow(times[::2])
    table = pl.DataFrame({"ds": times, "y": np.arange(30.0)})
    found = read_panel(table, frequency=frequency)
    monkeypatch.setattr(Frequency, "follow", lambda *_: False)
    same(found, read_panel(table, frequency=frequency))


def test_months_that_may_be_others_are_looked_at_twice() -> None:
    """Midnights in the middle of months, days that not every month has."""
    first = np.datetime64("2019-11-01", "us")
    monthly, ends = Frequency("month", 1), Frequency("month", 1, month_end=True)
    for days, sure in ((0, True), (26, True), (27, False)):
        times = first.astype("datetime64[M]") + np.arange(12)
        times = times.astype("datetime64[us]") + np.timedelta64(days * DAY, "us")
        assert ends.follow(times) == sure
        assert not monthly.follow(times)
    moved = ends.grid(first, 12)
    moved[5] += np.timedelta64(DAY, "us")
    assert not ends.follow(moved)

"""Data sets as long tables (pandas), read from the folder that HOLDFAST_DATA names."""

from __future__ import annotations

import csv
import io
import lzma
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.forecast.task import ID, TARGET, TIME
from holdfast.data.optional import require

EPOCH = np.datetime64("2001-01-01T00:00:00", "us")
"""The first time of series whose times are not told: a Monday."""

STEPS = {"h": np.timedelta64(1, "h"), "D": np.timedelta64(1, "D"), "7D": np.timedelta64(7, "D")}


def table(path: Path) -> Any:
    """A CSV file, packed with xz or not, as a pandas frame."""
    return require("pandas").read_csv(path)


def ett(path: Path, rows: int) -> Any:
    """The seven columns of a transformer's file as seven series of the first `rows` rows."""
    pandas: Any = require("pandas")
    wide = table(path).iloc[:rows]
    long = wide.melt("date", var_name=ID, value_name=TARGET)
    return long.assign(ds=pandas.to_datetime(long["date"]))[[ID, TIME, TARGET]]


def m4(train: Path, test: Path, frequency: str) -> Any:
    """Training and test part of one frequency of M4, joined; the times are made up."""
    ends = {row[0]: row[1:] for row in _rows(test)}
    ids, times, values = [], [], []
    for name, *row in _rows(train):
        y = np.array([float(text) for text in row + ends[name] if text])
        ids.append(np.repeat(name, len(y)))
        times.append(EPOCH + np.arange(len(y)) * STEPS[frequency])
        values.append(y)
    return _frame(np.concatenate(ids), np.concatenate(times), np.concatenate(values))


def _rows(path: Path) -> list[list[str]]:
    with lzma.open(path, "rt", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def _frame(ids: np.ndarray, times: np.ndarray, values: np.ndarray, **more: np.ndarray) -> Any:
    return require("pandas").DataFrame({ID: ids, TIME: times, TARGET: values, **more})


def metro(path: Path) -> Any:
    """Vehicles an hour on one road, with its weather; 104 hours were not measured."""
    pandas: Any = require("pandas")
    found = table(path).rename(columns={"datetime": TIME, "traffic_volume": TARGET})
    weather = ["temp", "rain_1h", "snow_1h", "clouds_all"]
    found = found.assign(unique_id="metro", ds=pandas.to_datetime(found[TIME]))
    return found[[ID, TIME, TARGET, *weather]]


def beijing(path: Path, column: str) -> Any:
    """One measured column at twelve places of a city, hourly; many hours were not measured."""
    pandas: Any = require("pandas")
    parts = []
    with tarfile.open(path) as archive:
        for member in sorted(archive.getnames()):
            file = archive.extractfile(member)
            assert file is not None
            names = ["year", "month", "day", "hour", "station", column]
            part = pandas.read_csv(io.BytesIO(file.read()), usecols=names)
            times = pandas.to_datetime(part[["year", "month", "day", "hour"]])
            parts.append(_frame(part["station"], times, part[column]))
    return pandas.concat(parts, ignore_index=True)


def passengers(path: Path) -> Any:
    """Passengers of airlines, in thousands a month, 1949 to 1960."""
    found = table(path)
    times = require("pandas").to_datetime(found["Month"])
    return _frame(
        np.repeat("AirPassengers", len(found)),
        times.to_numpy(),
        found["#Passengers"].to_numpy(dtype=np.float64),
    )


def returns(path: Path) -> Any:
    """Logarithmic returns of a stock index, in percent a trading day; the days are numbered."""
    y = 100 * table(path)["x"].to_numpy(dtype=np.float64)
    times = EPOCH + np.arange(len(y)) * STEPS["D"]
    return _frame(np.repeat("DJI", len(y)), times, y)

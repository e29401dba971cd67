"""Small tables for the tests of the forecaster: a weekly rhythm, a drift, some noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

SMALL = {
    "horizon": 7,
    "window": 14,
    "hidden_size": 6,
    "max_epochs": 3,
    "batch_size": 8,
    "validation": 0.15,
}


def daily(rows: int = 160, seed: int = 0, start: str = "2024-01-01") -> pl.DataFrame:
    """One daily series: ``ds`` and ``y``."""
    noise = np.random.default_rng(seed).normal(size=rows)
    day = np.arange(rows)
    y = 20 + 5 * np.sin(2 * np.pi * day / 7 + seed) + 0.02 * day + noise
    times = np.datetime64(start, "us") + day * np.timedelta64(86_400_000_000, "us")
    return pl.DataFrame({"ds": times, "y": y})


def several(ids: tuple[str, ...] = ("b", "a"), rows: int = 160) -> pl.DataFrame:
    """Some daily series below each other, each on its own scale: ``unique_id``, ``ds``, ``y``."""
    parts = [
        daily(rows, seed).select(pl.lit(id).alias("unique_id"), "ds", pl.col("y") * 10**seed)
        for seed, id in enumerate(ids)
    ]
    return pl.concat(parts)


def csv(frame: pl.DataFrame, path: Path) -> str:
    """Write the frame as CSV with ISO times and return the path as text."""
    frame.with_columns(pl.col("ds").dt.strftime("%Y-%m-%d %H:%M:%S")).write_csv(path)
    return str(path)


def edit(frame: pl.DataFrame, row: int, column: str, value: Any) -> pl.DataFrame:
    """The frame with one value changed; `row` counts from 0."""
    values = frame[column].to_list()
    values[row] = value
    return frame.with_columns(pl.Series(column, values, dtype=frame[column].dtype))

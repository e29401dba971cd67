"""Many series on the command line: progress while reading, forecasts in shards, and the pace."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from typing import Any

from holdfast.data.folder import Reading, is_folder, read_folder
from holdfast.data.panel import Panel
from holdfast.errors import DataError
from holdfast.tasks.forecast.estimator import Forecaster
from holdfast.tasks.forecast.on_ray import predict_on_ray
from holdfast.tasks.forecast.settings import columns_of
from holdfast.tasks.forecast.shards import write_forecasts

# From so many series on the pace is worth a line.
MANY = 1000


def read_shown(model: Forecaster, arguments: Namespace) -> Panel:
    """The table of the command line; how far the reading of a folder is goes to stderr."""
    if not is_folder(arguments.data):
        return model.read(arguments.data, static=arguments.static_table)
    columns, static = columns_of(vars(model)), arguments.static_table
    return read_folder(
        arguments.data, columns, missing=model.missing, static=static, report=show_reading
    )


def show_reading(reading: Reading) -> None:
    """A line on stderr for every group that was read."""
    print(
        f"read {reading.series:,} of {reading.all_series:,} series, "
        f"{reading.rows:,} of {reading.all_rows:,} rows",
        file=sys.stderr,
        flush=True,
    )


def print_pace(series: int, seconds: float) -> None:
    """How long a thousand series took, where there are so many."""
    if series >= MANY:
        pace = 1000 * seconds / series
        print(f"{series:,} series in {seconds:.1f} s, {pace:.2f} s per thousand", file=sys.stderr)


def predict_many(model: Forecaster, arguments: Namespace) -> int:
    """Write the forecasts of a folder, group by group."""
    if not arguments.out:
        raise DataError("the forecasts of a folder need a file to go to; name it with --out")
    for option in ("plot", "report", "samples", "groups"):
        if getattr(arguments, option):
            raise DataError(f"--{option} is for the forecasts of one table, not those of a folder")
    if arguments.on == "ray" and not is_folder(arguments.data):
        raise DataError(f"{arguments.data}: --on ray forecasts a folder of Parquet files")
    began = time.monotonic()
    how: dict[str, Any] = {
        "static": arguments.static_table,
        "future": arguments.future_table,
        "levels": arguments.levels,
        "quantiles": arguments.quantiles,
    }
    data, out = arguments.data, arguments.out
    if arguments.on == "ray":
        rows = predict_on_ray(model, data, out, workers=arguments.workers, **how)
    else:
        rows = write_forecasts(model, data, out, show_reading, **how)
    print(f"{arguments.out}: {rows:,} rows", file=sys.stderr)
    print_pace(rows // model.horizon, time.monotonic() - began)
    return 0

"""Forecasts of folders larger than memory: group by group, each written before the next is read."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.data.atomic import growing_file
from holdfast.data.folder import Reading, is_folder, read_shards
from holdfast.data.optional import require
from holdfast.tasks.forecast.settings import columns_of

if TYPE_CHECKING:
    from holdfast.tasks.forecast.estimator import Forecaster

PARQUET = (".parquet", ".pq")


def predict_shards(
    model: Forecaster,
    path: Any,
    static: Any = None,
    future: Any = None,
    report: Callable[[Reading], None] | None = None,
    **options: Any,
) -> Iterator[Any]:
    """The forecasts of every group of series in a folder, as polars frames, one after the other.

    `options` are those of `Forecaster.predict`, `report` is called after every group.
    """
    for panel in read_shards(
        path,
        columns_of(vars(model)),
        missing=model.missing,
        static=static,
        future=future,
        frequency=model.frequency_,
        report=report,
    ):
        yield model.predict(panel, **options)


def write_forecasts(
    model: Forecaster,
    data: Any,
    out: str | os.PathLike[str],
    report: Callable[[Reading], None] | None = None,
    **options: Any,
) -> int:
    """Write the forecasts of a table or folder to `out` (``.parquet``, else CSV); how many rows.

    The file is whole or not there. Raises `ModelError` when it cannot be written.
    """
    if is_folder(data) and not model.net_.joint:
        beside = {name: options.pop(name, None) for name in ("static", "future")}
        frames = predict_shards(model, data, report=report, **beside, **options)
    else:
        frames = iter([model.predict(data, **options)])
    return write_frames(frames, out)


def write_frames(frames: Iterable[Any], out: str | os.PathLike[str]) -> int:
    """Write frames below each other; how many rows they have."""
    write = _write_parquet if Path(out).suffix.lower() in PARQUET else _write_csv
    return write(_polars(frames), out)


def _polars(frames: Iterable[Any]) -> Iterator[Any]:
    nw = require("narwhals")
    for frame in frames:
        yield nw.from_native(frame, eager_only=True).to_polars()


def _write_csv(frames: Iterator[Any], out: str | os.PathLike[str]) -> int:
    rows = 0
    with growing_file(out) as file:
        for frame in frames:
            text = io.BytesIO()
            frame.write_csv(text, include_header=not rows, datetime_format="%Y-%m-%d %H:%M:%S")
            file.write(text.getvalue())
            rows += len(frame)
    return rows


def _write_parquet(frames: Iterator[Any], out: str | os.PathLike[str]) -> int:
    parquet = require("pyarrow.parquet")
    rows, writer = 0, None
    with growing_file(out) as file:
        for frame in frames:
            table = frame.to_arrow()
            if writer is None:
                writer = parquet.ParquetWriter(file, table.schema)
            writer.write_table(table)
            rows += len(frame)
        if writer is not None:
            writer.close()
    return rows

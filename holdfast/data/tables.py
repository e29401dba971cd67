"""Long tables (one row a series and time) in, whole series out: files, pandas and polars frames.

The columns are those of the field: ``unique_id``, ``ds``, ``y``; other names can be given, and a
table with one series needs no id. What cannot be used is refused here, naming the row.
"""

from __future__ import annotations

import gzip
import io
import lzma
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.data.optional import require
from holdfast.errors import DataError

ID, TIME, TARGET = "unique_id", "ds", "y"

FORMATS = ("%Y-%m", "%Y/%m/%d", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%Y")


@dataclass(frozen=True)
class Columns:
    """What the columns are called, and what is known when; `id` None means `unique_id` if there.

    `past` names columns whose future is not known at a forecast, `future` those whose future is,
    `static` those with one value for each series. They hold numbers, but for those that
    `categorical` names (labels) and those that `text` names (words).
    """

    id: str | None = None
    time: str = TIME
    target: str = TARGET
    past: tuple[str, ...] = ()
    future: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    text: tuple[str, ...] = ()

    @property
    def covariates(self) -> tuple[str, ...]:
        """Every column beside id, time and target."""
        return (*self.past, *self.future, *self.static)

    def kind(self, name: str) -> str:
        """``"number"``, ``"category"`` or ``"text"``."""
        if name in self.text:
            return "text"
        return "category" if name in self.categorical else "number"


@dataclass(frozen=True)
class Rows:
    """A parsed table: ids (N,), times (N,) datetime64[us], target (N,) and covariates by name.

    A covariate is (N,) float64 with NaN where it is empty; that of a label or a text holds its
    place in `labels`.
    """

    ids: np.ndarray
    times: np.ndarray
    target: np.ndarray
    covariates: dict[str, np.ndarray]
    labels: dict[str, tuple[str, ...]]
    has_ids: bool
    backend: str
    name: str


def read_rows(data: Any, columns: Columns, *, optional: tuple[str, ...] = ()) -> Rows:
    """The rows of a CSV or Parquet file (also .gz, .xz), or of a pandas or polars frame.

    Columns that `optional` names may be missing; a missing target is NaN, a missing covariate is
    left out.

    Raises `DataError` for a missing file or column, an empty table, and a value that cannot be
    read.
    """
    frame, name = load_frame(data)
    wanted = [columns.time, columns.target, *columns.covariates]
    wanted += [columns.id] if columns.id else []
    for column in wanted:
        if column in optional:
            continue
        if column not in frame.columns:
            raise DataError(
                f"{name}: there is no column {column!r}; the columns are "
                f"{', '.join(map(repr, frame.columns)) or 'none'}"
            )
    if not len(frame):
        raise DataError(f"{name}: the table is empty; it needs a header and at least some rows")
    id_column = columns.id or (ID if ID in frame.columns else None)
    ids = read_ids(frame[id_column], name) if id_column else np.full(len(frame), "")
    covariates, labels = read_covariates(frame, columns, name)
    there = columns.target in frame.columns
    return Rows(
        ids=ids,
        times=_times(frame[columns.time], name),
        target=_numbers(frame[columns.target], name) if there else np.full(len(frame), np.nan),
        covariates=covariates,
        labels=labels,
        has_ids=id_column is not None,
        backend=frame.implementation.value,
        name=name,
    )


def read_covariates(
    frame: Any, columns: Columns, name: str
) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]]]:
    """The covariates that `frame` (of narwhals) has, and the labels that their codes stand for."""
    covariates: dict[str, np.ndarray] = {}
    labels: dict[str, tuple[str, ...]] = {}
    for column in columns.covariates:
        if column not in frame.columns:
            continue
        if columns.kind(column) == "number":
            covariates[column] = _numbers(frame[column], name, "; or name it in `categorical`")
        else:
            covariates[column], labels[column] = _codes(frame[column])
    return covariates, labels


def _codes(column: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """The column as places in its sorted labels, NaN where it is empty."""
    values = [None if value is None or value == "" else str(value) for value in column.to_list()]
    labels = tuple(sorted({value for value in values if value is not None and value != "nan"}))
    places = {label: float(place) for place, label in enumerate(labels)}
    return np.array([places.get(value or "", np.nan) for value in values]), labels


def make_frame(columns: dict[str, Any], backend: str) -> Any:
    """A native frame (``"pandas"`` or ``"polars"``) with these columns."""
    nw = require("narwhals")
    known = backend if backend in ("pandas", "polars") else "polars"
    require(known)
    return nw.from_dict(columns, backend=known).to_native()


def load_frame(data: Any) -> tuple[Any, str]:
    """The table as a frame of narwhals, and its name for messages."""
    nw = require("narwhals")
    if not isinstance(data, (str, os.PathLike)):
        try:
            return nw.from_native(data, eager_only=True), "table"
        except TypeError as error:
            raise DataError(
                f"got {type(data).__name__}; expected a path to a CSV or Parquet file, or a pandas "
                "or polars DataFrame"
            ) from error
    path = Path(data)
    polars = require("polars")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if not content.strip():
        raise DataError(f"{path}: the file is empty; expected a table with a header")
    try:
        names = path.name.lower()
        if names.endswith(".xz"):
            content, names = lzma.decompress(content), names[:-3]
        elif names.endswith(".gz"):
            content, names = gzip.decompress(content), names[:-3]
        if names.endswith((".parquet", ".pq")):
            frame = polars.read_parquet(io.BytesIO(content))
        else:
            frame = polars.read_csv(io.BytesIO(content), infer_schema_length=None)
    except (polars.exceptions.PolarsError, OSError, EOFError, lzma.LZMAError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: not a readable CSV or Parquet table ({reason})") from error
    return nw.from_native(frame, eager_only=True), str(path)


def read_ids(column: Any, name: str) -> np.ndarray:
    """The ids as text (N,). Raises `DataError` for an empty one."""
    nulls = np.flatnonzero(column.is_null().to_numpy())
    if len(nulls):
        raise DataError(
            f"{name}: row {nulls[0] + 1}: column {column.name!r} has no id; fill it or leave the "
            "row out"
        )
    return np.array([str(value) for value in column.to_list()])


def _numbers(column: Any, name: str, hint: str = "") -> np.ndarray:
    """The column as float64, with NaN where it is empty."""
    nw = require("narwhals")
    if column.dtype.is_numeric() or column.dtype == nw.Boolean:
        values = column.cast(nw.Float64).to_numpy()
        return np.array(values, dtype=np.float64)
    values = np.full(len(column), np.nan)
    for row, value in enumerate(column.to_list()):
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        try:
            values[row] = float(value)
        except (TypeError, ValueError):
            raise DataError(
                f"{name}: row {row + 1}: column {column.name!r} holds {value!r}, which is not a "
                f"number; correct it or leave it empty{hint}"
            ) from None
    return values


def _times(column: Any, name: str) -> np.ndarray:
    """The column as datetime64[us]; times with a zone are turned into UTC."""
    nw = require("narwhals")
    if column.dtype.is_numeric():
        raise DataError(
            f"{name}: column {column.name!r} holds numbers ({column.dtype}); expected timestamps "
            "such as 2018-07-23 05:00"
        )
    if column.dtype == nw.Datetime and column.dtype.time_zone is not None:
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    if column.dtype in (nw.Datetime, nw.Date):
        times = np.array(column.to_numpy()).astype("datetime64[us]")
        missing = np.flatnonzero(np.isnat(times))
        if len(missing):
            raise _unreadable_time(name, missing[0], column.name, None)
        return times
    return _parsed(column.to_list(), name, column.name)


def _parsed(values: Sequence[Any], name: str, column: str) -> np.ndarray:
    times = np.empty(len(values), dtype="datetime64[us]")
    pattern: str | None = None
    for row, value in enumerate(values):
        try:
            if pattern is None:
                times[row] = _moment(value)
            else:
                times[row] = datetime.strptime(str(value).strip(), pattern)
        except ValueError:
            found = _pattern(value) if row == 0 else None
            if found is None:
                raise _unreadable_time(name, row, column, value) from None
            pattern = found
            times[row] = datetime.strptime(str(value).strip(), pattern)
    return times


def _moment(value: Any) -> datetime:
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def _pattern(value: Any) -> str | None:
    for pattern in FORMATS:
        try:
            datetime.strptime(str(value).strip(), pattern)
        except ValueError:
            continue
        return pattern
    return None


def _unreadable_time(name: str, row: int, column: str, value: Any) -> DataError:
    held = "is empty" if value is None else f"holds {value!r}, which is not a time"
    return DataError(
        f"{name}: row {row + 1}: column {column!r} {held}; write times as 2018-07-23 05:00 (ISO "
        "8601)"
    )

"""One column of a table as an array: ids, labels, numbers, times; what cannot be read is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from holdfast.data.optional import require
from holdfast.errors import DataError

FORMATS = ("%Y-%m", "%Y/%m/%d", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%Y")


# The file and the row in it, counted from 0, of a row of a table that was made of several.
Origin = Callable[[int], tuple[str, int]]


@dataclass(frozen=True)
class Ids:
    """Which series each row of a table belongs to: `codes` (N,) are places in the sorted `names`.

    `name` is the table's, for messages; `origin` says where the rows of several files come from.
    """

    name: str
    codes: np.ndarray
    names: tuple[str, ...]
    origin: Origin | None = None

    def of(self, row: Any) -> str:
        """The id of a row."""
        return self.names[self.codes[row]]

    def where(self, row: Any) -> str:
        """A row as messages name it: table, row counted from 1, series."""
        id = self.of(row)
        file, number = self.origin(row) if self.origin else (self.name, row)
        return f"{file}: row {number + 1}" + (f" (series {id!r})" if id else "")

    def row(self, row: Any) -> str:
        """Another row, as messages name it."""
        if self.origin is None:
            return f"row {row + 1}"
        file, number = self.origin(row)
        return f"row {number + 1} of {file}"


def read_ids(column: Any, name: str) -> Ids:
    """The ids as text. Raises `DataError` for an empty one."""
    codes, names = factorize(as_texts(column))
    empty = np.flatnonzero(codes < 0)
    if len(empty):
        raise DataError(
            f"{name}: row {empty[0] + 1}: column {column.name!r} has no id; fill it or leave the "
            "row out"
        )
    return Ids(name, codes, names)


def no_ids(count: int, name: str) -> Ids:
    """The rows of a table with one series."""
    return Ids(name, np.zeros(count, dtype=np.int64), ("",))


def few_ids(texts: list[str], name: str) -> Ids:
    """The ids of a few rows, none of them empty."""
    names = tuple(sorted(set(texts)))
    if len(names) == 1:
        return Ids(name, np.zeros(len(texts), dtype=np.int64), names)
    places = {text: place for place, text in enumerate(names)}
    return Ids(name, np.array([places[text] for text in texts], dtype=np.int64), names)


def read_labels(column: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """The column as places (N,) in its sorted labels; an empty one is the label ``""``."""
    codes, labels = factorize(as_texts(column).fill_null(""))
    return codes.astype(np.float64), labels


def as_texts(column: Any) -> Any:
    """The column as a polars Series of strings, null where it is empty.

    A whole number is written without a fraction, so that it is the same label in a table in which
    another row is empty.
    """
    nw, pl = require("narwhals"), require("polars")
    kind = column.dtype
    if kind.is_float():
        numbers = column.to_numpy()
        whole = numbers[~np.isnan(numbers)]
        if (whole == np.round(whole)).all() and (np.abs(whole) < 2**53).all():
            texts = pl.Series(np.where(np.isnan(numbers), 0, numbers).astype(np.int64))
            return texts.cast(pl.String).set(pl.Series(np.isnan(numbers)), None)
    elif kind.is_integer() and not column.is_null().any():
        return pl.Series(column.to_numpy()).cast(pl.String)
    elif kind in (nw.String, nw.Categorical, nw.Enum):
        native = column.to_native()
        own = native if isinstance(native, pl.Series) else pl.Series(column.to_list(), strict=False)
        texts = own.cast(pl.String)
        return texts.set(texts == "", None)
    return pl.Series([_text(value) for value in column.to_list()], dtype=pl.String)


def _text(value: Any) -> str | None:
    if value is None or value == "" or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def factorize(texts: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """Places (N,) of a polars Series of strings in its sorted distinct values, -1 for null."""
    pl = require("polars")
    distinct = texts.drop_nulls().unique().sort()
    table = pl.DataFrame({"text": distinct, "code": np.arange(len(distinct))})
    joined = pl.DataFrame({"text": texts}).join(table, on="text", how="left", maintain_order="left")
    codes = joined["code"].fill_null(-1).to_numpy().astype(np.int64)
    return codes, tuple(distinct.to_list())


def first_rows(codes: np.ndarray, count: int) -> np.ndarray:
    """The first row of each of `count` codes."""
    first = np.zeros(count, dtype=np.int64)
    # Of several values for one place NumPy keeps the last, so the rows go backwards.
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    return first


def read_numbers(column: Any, ids: Ids, hint: str = "") -> np.ndarray:
    """The column as float64 (N,), with NaN where it is empty; dates become days since 1970."""
    nw = require("narwhals")
    if column.dtype.is_numeric() or column.dtype == nw.Boolean:
        return np.array(column.cast(nw.Float64).to_numpy(), dtype=np.float64)
    values = np.full(len(column), np.nan)
    for row, value in enumerate(column.to_list()):
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        try:
            values[row] = _number(value)
        except (TypeError, ValueError):
            raise DataError(
                f"{ids.where(row)}: column {column.name!r} holds {value!r}, which is not a "
                f"number; correct it or leave it empty{hint}"
            ) from None
    return values


def _number(value: Any) -> float:
    if value != value:
        return np.nan
    if isinstance(value, datetime):
        return (_moment(value) - datetime(1970, 1, 1)) / timedelta(days=1)
    if isinstance(value, date):
        return float((value - date(1970, 1, 1)).days)
    return value / timedelta(days=1) if isinstance(value, timedelta) else float(value)


def read_times(column: Any, ids: Ids) -> np.ndarray:
    """The column as datetime64[us] (N,); times with a zone are turned into UTC."""
    nw = require("narwhals")
    if column.dtype.is_numeric():
        raise DataError(
            f"{ids.name}: column {column.name!r} holds numbers ({column.dtype}); expected "
            "timestamps such as 2018-07-23 05:00"
        )
    if column.dtype == nw.Datetime and column.dtype.time_zone is not None:
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    if column.dtype in (nw.Datetime, nw.Date):
        times = np.array(column.to_numpy()).astype("datetime64[us]")
        missing = np.flatnonzero(np.isnat(times))
        if len(missing):
            raise _unreadable(ids, missing[0], column.name, None)
        return times
    if column.dtype != nw.String:
        return _parsed(column.to_list(), range(len(column)), ids, column.name)
    return _each_once(column, ids)


def _each_once(column: Any, ids: Ids) -> np.ndarray:
    """Times as text: each distinct one is parsed once."""
    codes, texts = factorize(as_texts(column))
    empty = np.flatnonzero(codes < 0)
    if len(empty):
        raise _unreadable(ids, empty[0], column.name, None)
    first = first_rows(codes, len(texts))
    order = np.argsort(first)
    times = np.empty(len(texts), dtype="datetime64[us]")
    times[order] = _parsed([texts[at] for at in order], first[order], ids, column.name)
    return times[codes]


def _parsed(values: Sequence[Any], rows: Sequence[int] | Any, ids: Ids, column: str) -> np.ndarray:
    """`values`, which stand in `rows`; the first of them says how all of them are written."""
    times = np.empty(len(values), dtype="datetime64[us]")
    pattern: str | None = None
    for place, value in enumerate(values):
        try:
            if pattern is None:
                times[place] = _moment(value)
            else:
                times[place] = datetime.strptime(str(value).strip(), pattern)
        except ValueError:
            found = _pattern(value) if place == 0 else None
            if found is None:
                raise _unreadable(ids, rows[place], column, value) from None
            pattern = found
            times[place] = datetime.strptime(str(value).strip(), pattern)
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


def _unreadable(ids: Ids, row: int, column: str, value: Any) -> DataError:
    held = "is empty" if value is None else f"holds {value!r}, which is not a time"
    return DataError(
        f"{ids.where(int(row))}: column {column!r} {held}; write times as 2018-07-23 05:00 (ISO "
        "8601)"
    )

"""Columns of a small frame that are arrays already: read as they stand, without a conversion.

A forecast of one series takes less time than a general look at a table. What is not plain here
(texts, categories, time zones, empty ids, many rows) is read the general way, to the same arrays.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

# From so many rows on, the general way is as fast.
MOST_ROWS = 4096


def plain_columns(
    data: Any, id: str | None, time: str, numbers: list[str]
) -> tuple[list[str] | None, np.ndarray, list[np.ndarray], str] | None:
    """Ids, times (N,) datetime64[us], `numbers` (N,) float64 each, and the kind of frame.

    >>> import polars
    >>> from datetime import datetime
    >>> table = polars.DataFrame({"ds": [datetime(2024, 1, 1), datetime(2024, 1, 2)], "y": [1, 2]})
    >>> ids, times, numbers, backend = plain_columns(table, None, "ds", ["y"])
    >>> ids, times[0], numbers[0], backend
    (None, np.datetime64('2024-01-01T00:00:00.000000'), array([1., 2.]), 'polars')

    None for what has to be read the general way, among it everything that is refused there.
    """
    backend = next((name for name in READERS if _is_frame_of(name, data)), None)
    if backend is None or not 0 < len(data) <= MOST_ROWS:
        return None
    reader, library = READERS[backend], sys.modules[backend]
    there = data.columns
    if time not in there or any(name not in there for name in numbers):
        return None
    texts = None
    if id is not None:
        texts = reader(library, data[id], "text") if id in there else None
        if texts is None:
            return None
    times = reader(library, data[time], "time")
    values = [reader(library, data[name], "number") for name in numbers]
    if times is None or any(one is None for one in values):
        return None
    return texts, times, values, backend


def _is_frame_of(library: str, data: Any) -> bool:
    """Whether it is a frame of a library, which is then imported."""
    found: Any = sys.modules.get(library)
    return found is not None and isinstance(data, found.DataFrame)


def _of_pandas(pandas: Any, column: Any, kind: str) -> Any:
    """A column of pandas, None where it is not plain; one that stands there twice is a table."""
    dtype = column.dtype if isinstance(column, pandas.Series) else None
    if not isinstance(dtype, np.dtype):
        return None
    if kind == "text":
        return _plain_texts(column.tolist()) if dtype.kind == "O" else None
    if kind == "time":
        return _plain_times(column.to_numpy()) if dtype.kind == "M" else None
    return np.array(column.to_numpy(), dtype=np.float64) if dtype.kind in "fiub" else None


def _of_polars(polars: Any, column: Any, kind: str) -> Any:
    """A column of polars, None where it is not plain."""
    dtype = column.dtype
    if kind == "text":
        return _plain_texts(column.to_list()) if dtype == polars.String else None
    if kind == "time":
        plain = dtype == polars.Date or (dtype == polars.Datetime and dtype.time_zone is None)
        return _plain_times(column.to_numpy()) if plain else None
    if dtype not in (polars.Float64, polars.Float32, polars.Int64, polars.Int32):
        return None
    return np.array(column.cast(polars.Float64).to_numpy(), dtype=np.float64)


def _plain_texts(values: list[Any]) -> list[str] | None:
    return values if set(map(type, values)) == {str} and "" not in values else None


def _plain_times(values: np.ndarray) -> np.ndarray | None:
    times = values.astype("datetime64[us]")
    return None if np.isnat(times).any() else times


READERS = {"pandas": _of_pandas, "polars": _of_polars}

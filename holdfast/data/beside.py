"""What stands beside a series: one value for the whole of it, and what is known after its end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from holdfast.data.covariates import recode
from holdfast.data.frequency import Frequency, show
from holdfast.data.optional import require
from holdfast.data.tables import ID, Columns, Rows, load_frame, read_covariates, read_ids, read_rows
from holdfast.errors import DataError

Labels = dict[str, tuple[str, ...]]


class Static:
    """The static covariates by id, from a table of their own."""

    def __init__(self, data: Any, columns: Columns) -> None:
        frame, self.name = load_frame(data)
        key = columns.id or ID
        for column in (key, *columns.static):
            if column not in frame.columns:
                raise DataError(
                    f"{self.name} (static): there is no column {column!r}; the columns are "
                    f"{', '.join(map(repr, frame.columns)) or 'none'}"
                )
        ids = read_ids(frame[key], self.name)
        self.places = {str(id): row for row, id in enumerate(ids)}
        if len(self.places) < len(ids):
            seen: set[str] = set()
            row, id = next((n, i) for n, i in enumerate(ids) if i in seen or seen.add(i))
            raise DataError(f"{self.name} (static): row {row + 1}: a second row for {id!r}")
        wanted = replace(columns, past=(), future=())
        self.covariates, self.labels = read_covariates(frame, wanted, self.name)

    def of(self, id: str) -> int:
        """The row of a series. Raises `DataError` when it has none."""
        if id not in self.places:
            raise DataError(f"{self.name} (static): there is no row for series {id!r}; add one")
        return self.places[id]


def read_future(data: Any, columns: Columns) -> Rows:
    """The rows of a table with id, time and the future covariates; others are not read."""
    wanted = replace(columns, past=(), static=())
    if not columns.future:
        raise DataError("got a table of the future, but no column is named in `future`; name them")
    require("narwhals")
    return read_rows(data, wanted, optional=(columns.target,))


def merge_labels(*tables: Labels) -> Labels:
    """Every label of every table, sorted, by column."""
    merged: Labels = {}
    for column in sorted({column for table in tables for column in table}):
        all_of_them = {label for table in tables for label in table.get(column, ())}
        merged[column] = tuple(sorted(all_of_them))
    return merged


def columns_of(rows: Rows, order: np.ndarray, names: tuple[str, ...], labels: Labels) -> np.ndarray:
    """Some covariates of some rows (n, C), labels coded as in `labels`."""
    parts = [
        recode(rows.covariates[name][order], rows.labels.get(name, ()), labels.get(name, ()))
        for name in names
    ]
    return np.stack(parts, axis=1) if parts else np.zeros((len(order), 0))


def series_static(
    rows: Rows, order: np.ndarray, id: str, columns: Columns, labels: Labels, beside: Static | None
) -> np.ndarray:
    """The static covariates (S,) of a series. Raises `DataError` when they are not the same."""
    if beside is not None:
        at = np.array([beside.of(id)])
        found = [
            recode(beside.covariates[n][at], beside.labels.get(n, ()), labels.get(n, ()))[0]
            for n in columns.static
        ]
        return np.array(found, dtype=np.float64)
    values = columns_of(rows, order, columns.static, labels)
    for place, name in enumerate(columns.static):
        one = values[:, place]
        other = np.flatnonzero((one != one[0]) & ~(np.isnan(one) & np.isnan(one[0])))
        if len(other):
            where = f" (series {id!r})" if id else ""
            raise DataError(
                f"{rows.name}: row {order[other[0]] + 1}{where}: column {name!r} is static but "
                f"differs from row {order[0] + 1}; name it in `past` or `future` instead"
            )
    return values[0]


def future_after(
    rows: Rows, order: np.ndarray, end: np.datetime64, frequency: Frequency, name: str
) -> np.ndarray:
    """Rows of `order` after `end`, which must follow it without a gap."""
    times = rows.times[order]
    order = order[times > end]
    if not len(order):
        return order
    ahead = frequency.ordinals(rows.times[order]) - frequency.ordinals(np.array([end]))
    wrong = np.flatnonzero(ahead != np.arange(1, len(order) + 1))
    if len(wrong):
        at = order[wrong[0]]
        raise DataError(
            f"{rows.name}: row {at + 1}: {name} the time {show(rows.times[at])} does not follow "
            f"{show(end)} at a distance of {frequency}; the future has to follow without a gap"
        )
    return order

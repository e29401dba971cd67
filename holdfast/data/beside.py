"""What stands beside a series: one value for the whole of it, and what is known after its end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from holdfast.data.covariates import recode
from holdfast.data.frequency import Frequency, show
from holdfast.data.tables import (
    ID,
    Columns,
    Rows,
    check_columns,
    load_frame,
    read_covariates,
    read_rows,
)
from holdfast.data.values import no_ids, read_ids
from holdfast.errors import DataError

Labels = dict[str, tuple[str, ...]]


class Static:
    """The static covariates by id, from a table of their own; without ids it has one row."""

    def __init__(self, data: Any, columns: Columns) -> None:
        frame, name = load_frame(data)
        self.name = f"{name} (static)"
        if not columns.static:
            raise DataError("got a static table, but no column is named in `static`; name them")
        key = columns.id or ID
        alone = columns.id is None and key not in frame.columns and len(frame) == 1
        check_columns(frame, [*([] if alone else [key]), *columns.static], self.name)
        self.ids = no_ids(1, self.name) if alone else read_ids(frame[key], self.name)
        self.places: dict[str, int] = {}
        for row, code in enumerate(self.ids.codes):
            id = self.ids.names[code]
            if id in self.places:
                raise DataError(
                    f"{self.ids.where(row)}: a second row for this series, after row "
                    f"{self.places[id] + 1}; keep one of them"
                )
            self.places[id] = row
        wanted = replace(columns, past=(), future=())
        self.covariates, self.labels = read_covariates(frame, wanted, self.ids)

    def of(self, id: str) -> int:
        """The row of a series. Raises `DataError` when it has none."""
        if id not in self.places:
            raise DataError(f"{self.name}: there is no row for series {id!r}; add one")
        return self.places[id]


@dataclass(frozen=True)
class Future:
    """The rows of a table with what is known after the end of each series."""

    rows: Rows

    @cached_property
    def places(self) -> dict[str, np.ndarray]:
        """The rows of each series, in the order of their times."""
        ids = self.rows.ids
        order = np.lexsort((self.rows.times, ids.codes))
        groups = np.split(order, np.flatnonzero(np.diff(ids.codes[order])) + 1)
        return {ids.of(group[0]): group for group in groups}

    def of(self, id: str) -> np.ndarray:
        """The rows of a series, in the order of their times; none where it has none."""
        return self.places.get(id, np.zeros(0, dtype=np.int64))


def read_static(data: Any, columns: Columns) -> Static | None:
    """The static table, if there is one."""
    return data if data is None or isinstance(data, Static) else Static(data, columns)


def read_future(data: Any, columns: Columns) -> Future | None:
    """A table with id, time and the future covariates, if there is one; others are not read."""
    if data is None or isinstance(data, Future):
        return data
    if not columns.future:
        raise DataError("got a table of the future, but no column is named in `future`; name them")
    wanted = replace(columns, past=(), static=())
    return Future(read_rows(data, wanted, optional=(columns.target,)))


def merge_labels(*tables: Labels) -> Labels:
    """Every label of every table, sorted, by column."""
    merged: Labels = {}
    for column in sorted({column for table in tables for column in table}):
        all_of_them = {label for table in tables for label in table.get(column, ())}
        merged[column] = tuple(sorted(all_of_them))
    return merged


def columns_of(
    rows: Rows, order: np.ndarray | slice, names: tuple[str, ...], labels: Labels
) -> np.ndarray:
    """Some covariates of some rows (n, C), labels coded as in `labels`."""
    parts = [
        recode(rows.covariates[name][order], rows.labels.get(name, ()), labels.get(name, ()))
        for name in names
    ]
    return np.stack(parts, axis=1) if parts else np.zeros((len(rows.times[order]), 0))


def static_of(beside: Static, id: str, columns: Columns, labels: Labels, missing: str) -> Any:
    """The static covariates (S,) of a series, from their own table."""
    at = np.array([beside.of(id)])
    found = [
        recode(beside.covariates[n][at], beside.labels.get(n, ()), labels.get(n, ()))[0]
        for n in columns.static
    ]
    for name, value in zip(columns.static, found, strict=True):
        if np.isnan(value) and missing == "error":
            raise DataError(
                f"{beside.ids.where(int(at[0]))}: column {name!r} is empty (NaN); fill it, or pass "
                'missing="fill" (--missing fill)'
            )
        if np.isinf(value):
            raise DataError(
                f"{beside.ids.where(int(at[0]))}: column {name!r} is infinite; correct it or leave "
                "it empty"
            )
    return np.array(found, dtype=np.float64)


def refuse_changing(
    rows: Rows, order: np.ndarray, first: np.ndarray, values: np.ndarray, names: tuple[str, ...]
) -> None:
    """Raises `DataError` where `values` (n, S) of sorted rows differ from those of row `first`."""
    for place, name in enumerate(names):
        one, other = values[:, place], values[first, place]
        wrong = np.flatnonzero((one != other) & ~(np.isnan(one) & np.isnan(other)))
        if len(wrong):
            at = wrong[0]
            raise DataError(
                f"{rows.ids.where(order[at])}: column {name!r} is static but differs from "
                f"{rows.ids.row(order[first[at]])}; name it in `past` or `future` instead"
            )


def future_after(
    rows: Rows, order: np.ndarray, end: np.datetime64, frequency: Frequency, columns: Columns
) -> np.ndarray:
    """Those of the rows `order` after `end`; they follow it without a gap, and are not empty."""
    order = order[rows.times[order] > end]
    if not len(order):
        return order
    expected = frequency.after(end, len(order))
    wrong = np.flatnonzero(rows.times[order] != expected)
    if len(wrong):
        at = order[wrong[0]]
        raise DataError(
            f"{rows.ids.where(at)}: the future has to follow {show(end)} at steps of {frequency} "
            f"without a gap; expected {show(expected[wrong[0]])}, got {show(rows.times[at])}"
        )
    for name in columns.future:
        values = rows.covariates[name][order]
        if columns.kind(name) != "number" or not np.isnan(values).any():
            continue
        at = order[np.flatnonzero(np.isnan(values))[0]]
        raise DataError(
            f"{rows.ids.where(at)}: column {name!r} is empty (NaN) after the end of the series "
            f"({show(end)}); it is named in `future`, so it must be known: fill it, or name it in "
            "`past`"
        )
    return order

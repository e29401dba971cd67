"""Checked series on a regular grid: what a table becomes before any window is cut from it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from holdfast.data.beside import (
    Labels,
    Static,
    columns_of,
    future_after,
    merge_labels,
    read_future,
    series_static,
)
from holdfast.data.covariates import ROLES, Covariate, Schema
from holdfast.data.frequency import Frequency, infer, show
from holdfast.data.tables import Columns, Rows, read_rows
from holdfast.errors import DataError

MISSING = ("error", "fill")


@dataclass(frozen=True)
class Series:
    """One series of n rows without gaps.

    `y` (n,) has no NaN: missing values are filled from the past, and `observed` (n,) is False
    there. `past` is (n, P), `future` (n + E, F) with the E rows after the end of which it is known,
    `static` (S,); NaN stands where they were empty, and where a row was missing.
    """

    id: str
    times: np.ndarray
    y: np.ndarray
    observed: np.ndarray
    past: np.ndarray
    future: np.ndarray
    static: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: slice) -> Series:
        """Some rows without a step; what is known after their end stays with them."""
        first, last, _ = rows.indices(len(self))
        return replace(
            self,
            times=self.times[rows],
            y=self.y[rows],
            observed=self.observed[rows],
            past=self.past[rows],
            future=self.future[first:] if last > first else self.future[:0],
        )


@dataclass(frozen=True)
class Panel:
    """Series that share one frequency.

    `schema` says what the covariates are, `name` is the file the series come from, `backend` the
    kind of frame the user gave, `digest` a SHA-256 of ids, times and values.
    """

    series: tuple[Series, ...]
    frequency: Frequency
    columns: Columns
    schema: Schema
    has_ids: bool
    backend: str
    name: str
    digest: str

    def __len__(self) -> int:
        return sum(map(len, self.series))

    def map(self, change: Any) -> Panel:
        """The panel with `change` applied to every series."""
        return replace(self, series=tuple(change(series) for series in self.series))


def read_panel(
    data: Any,
    columns: Columns | None = None,
    *,
    missing: str = "error",
    static: Any = None,
    future: Any = None,
    frequency: Frequency | None = None,
) -> Panel:
    """Whole, checked series from a file or frame.

    >>> import polars
    >>> days = ["2024-01-01", "2024-01-02", "2024-01-03"]
    >>> panel = read_panel(polars.DataFrame({"ds": days, "y": [1, 2, 4]}))
    >>> panel.series[0].y, str(panel.frequency)
    (array([1., 2., 4.]), '1 day')

    `missing` says what happens to gaps in time and to empty values of the target: ``"error"``
    refuses them; ``"fill"`` takes the value one season earlier (else the last value) and marks the
    row as not observed, which keeps it out of loss and scores. Only the past is used to fill, so
    that no forecast sees its own future.

    `static` is a table with one row for each id and the static columns; without it these stand in
    `data`, equal in all rows of a series. `future` is a table with id, time and the future columns
    after the end of each series; rows of `data` at its end that have them and no target do as well.
    `frequency` is that of the series where it is known; else it is found in their times.

    Raises `DataError`, naming the row, for duplicate times, gaps, NaN, infinity, a mixed frequency
    and series that are too short to have one.
    """
    columns = columns or Columns()
    if missing not in MISSING:
        raise DataError(f"missing={missing!r}; expected one of {', '.join(map(repr, MISSING))}")
    beside = Static(static, columns) if static is not None else None
    apart = columns.static if beside is not None else ()
    rows = read_rows(data, columns, optional=apart)
    _refuse_infinity(rows, columns)
    after = read_future(future, columns) if future is not None else None
    given = [rows.labels, beside.labels if beside else {}, after.labels if after else {}]
    source = _Source(rows, columns, merge_labels(*given), missing, beside, after)
    parts = [source.without_future(order) for order in _by_series(rows)]
    frequency = _frequency(rows, parts, frequency)
    series = tuple(source.series(part, frequency) for part in parts)
    schema = _schema(series, columns, source.labels)
    digest = _digest(series)
    return Panel(series, frequency, columns, schema, rows.has_ids, rows.backend, rows.name, digest)


@dataclass(frozen=True)
class _Part:
    """One series as rows of a table: those of its past and those after its end."""

    id: str
    order: np.ndarray
    ahead: np.ndarray


def _by_series(rows: Rows) -> list[_Part]:
    """Each series, in the order in which ids appear, its rows in the order of their times."""
    ids, first, inverse = np.unique(rows.ids, return_index=True, return_inverse=True)
    by_series = np.lexsort((rows.times, inverse))
    bounds = np.flatnonzero(np.diff(inverse[by_series])) + 1
    groups = np.split(by_series, bounds)
    nothing = np.zeros(0, dtype=np.int64)
    return [_Part(str(ids[c]), groups[c], nothing) for c in np.argsort(first, kind="stable")]


def _where(id: str) -> str:
    return f" (series {id!r})" if id else ""


def _refuse_infinity(rows: Rows, columns: Columns) -> None:
    for column, values in ((columns.target, rows.target), *rows.covariates.items()):
        bad = np.flatnonzero(np.isinf(values))
        if not len(bad):
            continue
        row = bad[0]
        raise DataError(
            f"{rows.name}: row {row + 1}: column {column!r} is infinite; correct it or leave it "
            "empty"
        )


def _frequency(rows: Rows, parts: list[_Part], known: Frequency | None) -> Frequency:
    """The one frequency of all series; refuses duplicates and series of fewer than three rows."""
    common: tuple[Frequency, str] | None = None if known is None else (known, "")
    for part in parts:
        id, order = part.id, part.order
        times = rows.times[order]
        if len(times) < 3 and known is None:
            count = "1 row" if len(times) == 1 else f"{len(times)} rows"
            raise DataError(
                f"{rows.name}{_where(id)}: only {count}; a series needs at least 3 rows to show "
                "its frequency, and more to train"
            )
        same = np.flatnonzero(times[1:] == times[:-1])
        if len(same):
            one, other = order[same[0]] + 1, order[same[0] + 1] + 1
            hint = "" if rows.has_ids else "; if the table holds several series, name the id column"
            raise DataError(
                f"{rows.name}: row {other}{_where(id)}: the same time {show(times[same[0]])} as "
                f"row {one}; keep one of them{hint}"
            )
        if len(times) < 3:
            continue
        try:
            frequency = infer(times, _where(id), order + 1)
        except DataError as error:
            raise DataError(f"{rows.name}: {error}") from None
        if common is None:
            common = frequency, id
        elif common[0] != frequency and known is None:
            raise DataError(
                f"{rows.name}: mixed frequency: series {common[1]!r} is {common[0]} apart, series "
                f"{id!r} {frequency}; resample to one frequency"
            )
        elif common[0] != frequency:
            raise DataError(
                f"{rows.name}{_where(id)}: rows are {frequency} apart, the model was trained on "
                f"{known}; resample the table"
            )
    assert common is not None
    return common[0]


@dataclass(frozen=True)
class _Source:
    """The tables that series are made from."""

    rows: Rows
    columns: Columns
    labels: Labels
    missing: str
    beside: Static | None
    after: Rows | None

    def without_future(self, part: _Part) -> _Part:
        """Rows at the end that have future covariates and no target are no part of the past."""
        if not self.columns.future or self.after is not None:
            return part
        seen = np.flatnonzero(~np.isnan(self.rows.target[part.order]))
        if not len(seen):
            return part
        end = int(seen[-1]) + 1
        return _Part(part.id, part.order[:end], part.order[end:])

    def series(self, part: _Part, frequency: Frequency) -> Series:
        """One checked series on its grid."""
        rows, id, order = self.rows, part.id, part.order
        times, target = rows.times[order], rows.target[order]
        ordinals = frequency.ordinals(times)
        if self.missing == "error":
            _refuse_missing(rows, part, frequency, self.columns, np.diff(ordinals))
        places = ordinals - ordinals[0]
        count = int(places[-1]) + 1
        if count > 20 * len(times):
            raise DataError(
                f"{rows.name}{_where(id)}: {len(times)} rows spread over {count} steps of "
                f"{frequency}; fewer than 1 in 20 is there, which is too few to fill"
            )
        y = np.full(count, np.nan)
        y[places] = target
        observed = ~np.isnan(y)
        if not observed.any():
            raise DataError(
                f"{rows.name}{_where(id)}: column {self.columns.target!r} has no value at all; "
                "name another target"
            )
        return Series(
            id=id,
            times=frequency.grid(times[0], count),
            y=fill(y, frequency.seasons()),
            observed=observed,
            past=self._on_grid(order, places, count, self.columns.past),
            future=np.concatenate(
                [
                    self._on_grid(order, places, count, self.columns.future),
                    self._ahead(part, times[-1], frequency),
                ]
            ),
            static=series_static(rows, order, id, self.columns, self.labels, self.beside),
        )

    def _on_grid(
        self, order: np.ndarray, places: np.ndarray, count: int, names: tuple[str, ...]
    ) -> np.ndarray:
        values = np.full((count, len(names)), np.nan)
        values[places] = columns_of(self.rows, order, names, self.labels)
        return values

    def _ahead(self, part: _Part, end: np.datetime64, frequency: Frequency) -> np.ndarray:
        """What is known after the end of a series (E, F)."""
        names = self.columns.future
        if self.after is None:
            order = future_after(self.rows, part.ahead, end, frequency, f"series {part.id!r}:")
            return columns_of(self.rows, order, names, self.labels)
        mine = np.flatnonzero(self.after.ids == part.id)
        mine = mine[np.argsort(self.after.times[mine], kind="stable")]
        order = future_after(self.after, mine, end, frequency, f"series {part.id!r}:")
        return columns_of(self.after, order, names, self.labels)


def _schema(series: tuple[Series, ...], columns: Columns, labels: Labels) -> Schema:
    """What the covariates are, and which numbers have gaps."""
    found = []
    for role in ROLES:
        for place, name in enumerate(getattr(columns, role)):
            kind = columns.kind(name)
            gaps = kind == "number" and any(
                bool(np.isnan(getattr(one, role)[..., place]).any()) for one in series
            )
            found.append(Covariate(name, role, kind, labels.get(name, ()), gaps))
    return Schema(tuple(found))


def _refuse_missing(
    rows: Rows, part: _Part, frequency: Frequency, columns: Columns, steps: np.ndarray
) -> None:
    id, order = part.id, part.order
    remedy = 'pass missing="fill" (--missing fill) to fill from the past and leave out of the loss'
    gaps = np.flatnonzero(steps > 1)
    if len(gaps):
        at = gaps[0]
        lost = int((steps[gaps] - 1).sum())
        raise DataError(
            f"{rows.name}: row {order[at + 1] + 1}{_where(id)}: a gap: {steps[at] - 1} time(s) of "
            f"{frequency} are missing after {show(rows.times[order[at]])}, {lost} in all; {remedy}"
        )
    numbers = [name for name in rows.covariates if columns.kind(name) == "number"]
    for column, values in [(columns.target, rows.target)] + [
        (name, rows.covariates[name]) for name in numbers
    ]:
        empty = np.flatnonzero(np.isnan(values[order]))
        if len(empty):
            raise DataError(
                f"{rows.name}: row {order[empty[0]] + 1}{_where(id)}: column {column!r} is "
                f"empty (NaN), {len(empty)} row(s) in all; {remedy}"
            )


def fill(values: np.ndarray, seasons: tuple[int, ...]) -> np.ndarray:
    """`values` (n,) with each NaN replaced by the value one season before, else the last one.

    The longest season goes first. Only NaN before the first value takes a later one: that value.

    >>> fill(np.array([1.0, 2.0, np.nan, 4.0]), seasons=(2,))
    array([1., 2., 1., 4.])
    """
    filled = values.copy()
    missing = np.flatnonzero(np.isnan(values))
    if len(missing) == len(values):
        return np.zeros_like(values)
    start = int(np.flatnonzero(~np.isnan(values))[0])
    filled[:start] = values[start]
    backwards = sorted(seasons, reverse=True)
    for row in missing[missing > start]:
        lag = next((m for m in backwards if row - m >= start), 1)
        filled[row] = filled[row - lag]
    return filled


def _digest(series: tuple[Series, ...]) -> str:
    digest = hashlib.sha256()
    for one in series:
        digest.update(repr((one.id, len(one), one.past.shape, one.future.shape)).encode())
        digest.update(np.ascontiguousarray(one.times.astype(np.int64)).tobytes())
        digest.update(np.where(one.observed, one.y, np.nan).tobytes())
        for values in (one.past, one.future, one.static):
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()

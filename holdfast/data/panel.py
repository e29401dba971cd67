"""Checked series on a regular grid: what a table becomes before any window is cut from it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from holdfast.data.beside import (
    Future,
    Labels,
    Static,
    columns_of,
    future_after,
    merge_labels,
    read_future,
    read_static,
    refuse_changing,
    static_of,
)
from holdfast.data.checks import (
    Order,
    common_frequency,
    refuse_infinity,
    refuse_missing,
    refuse_twice,
    sort_rows,
)
from holdfast.data.covariates import ROLES, Covariate, Schema
from holdfast.data.filling import fill
from holdfast.data.frequency import Frequency
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
    kind of frame the user gave, `digest` a SHA-256 of ids, times and values. `array` makes the
    arrays that windows are cut from: in memory, or on disk where the series are there, too.
    """

    series: Sequence[Series]
    frequency: Frequency
    columns: Columns
    schema: Schema
    has_ids: bool
    backend: str
    name: str
    digest: str
    array: Callable[[tuple[int, ...], Any], np.ndarray] = np.empty

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
    like: str = "the model was trained on",
    by_id: bool = False,
) -> Panel:
    """Whole, checked series from a file or frame.

    >>> import polars
    >>> days = ["2024-01-01", "2024-01-02", "2024-01-03"]
    >>> panel = read_panel(polars.DataFrame({"ds": days, "y": [1, 2, 4]}))
    >>> panel.series[0].y, str(panel.frequency)
    (array([1., 2., 4.]), '1 day')

    `data` is a CSV or Parquet file (also .gz, .xz), or a table of pandas, polars or Arrow.
    `missing` says what happens to gaps in time and to empty values of the target: ``"error"``
    refuses them; ``"fill"`` takes the value one season earlier (else the last value) and marks the
    row as not observed, which keeps it out of loss and scores. Only the past is used to fill, so
    that no forecast sees its own future; a series begins with its first value.

    `static` is a table with one row for each id and the static columns; without it these stand in
    `data`, equal in all rows of a series. `future` is a table with id, time and the future columns
    after the end of each series; rows of `data` at its end that have them and no target do as well.
    `frequency` is that of the series where it is known (`like` says in messages whose it is); else
    it is found in their times. Series stand as their ids appear, or in the ids' order (`by_id`).

    Raises `DataError`, naming the row, for duplicate times, gaps, NaN, infinity, a mixed frequency
    and tables of which no series is long enough to have one.
    """
    columns = columns or Columns()
    columns.check()
    if missing not in MISSING:
        raise DataError(f"missing={missing!r}; expected one of {', '.join(map(repr, MISSING))}")
    beside, after = read_static(static, columns), read_future(future, columns)
    rows = read_rows(data, columns, optional=columns.static if beside is not None else ())
    regular = None if static is not None or future is not None else _regular(rows, frequency)
    if regular is not None:
        return _panel((regular,), rows, columns, {}, frequency)
    refuse_infinity(rows, columns)
    if after is not None:
        refuse_infinity(after.rows, columns)
    order = sort_rows(rows, by_id)
    refuse_twice(rows, order)
    source = _Source(rows, order, columns, missing, beside, after)
    frequency = common_frequency(rows, order, frequency, like)
    return _panel(source.series(frequency), rows, columns, source.labels, frequency)


def _panel(
    series: tuple[Series, ...], rows: Rows, columns: Columns, labels: Labels, frequency: Any
) -> Panel:
    schema, digest = make_schema(series, columns, labels), digest_of(series)
    return Panel(series, frequency, columns, schema, rows.has_ids, rows.backend, rows.name, digest)


def _regular(rows: Rows, frequency: Frequency | None) -> Series | None:
    """The one series of a table that is whole, in order and on a known grid; None for another.

    What a stream of forecasts asks for again and again takes no second look.
    """
    if frequency is None or len(rows.ids.names) != 1 or rows.covariates:
        return None
    if not np.isfinite(rows.target).all() or not frequency.follow(rows.times):
        return None
    n, id = len(rows.times), rows.ids.names[0]
    nothing, seen = np.zeros((n, 0)), np.ones(n, dtype=bool)
    return Series(id, rows.times, rows.target, seen, nothing, nothing, nothing[0])


class _Source:
    """The tables that series are made from."""

    def __init__(
        self,
        rows: Rows,
        order: Order,
        columns: Columns,
        missing: str,
        beside: Static | None,
        after: Future | None,
    ) -> None:
        self.rows, self.order, self.columns = rows, order, columns
        self.missing, self.beside, self.after = missing, beside, after
        tables = [rows.labels, beside.labels if beside else {}, after.rows.labels if after else {}]
        self.labels: Labels = merge_labels(*tables)
        self.target = rows.target[order.rows]
        self.past, self.future = self._sorted(columns.past), self._sorted(columns.future)
        self.static = self._sorted(() if beside is not None else columns.static)

    def _sorted(self, names: tuple[str, ...]) -> np.ndarray:
        return columns_of(self.rows, self.order.rows, names, self.labels)

    def series(self, frequency: Frequency) -> tuple[Series, ...]:
        """Every series, checked, on its grid."""
        order = self.order
        begins, ends = self._bounds()
        if self.missing == "error":
            refuse_missing(self.rows, order, ends, frequency, self.columns)
        first = np.repeat(order.starts, order.ends - order.starts)
        if self.static.shape[1]:
            refuse_changing(self.rows, order.rows, first, self.static, self.columns.static)
        ordinals, empty = frequency.ordinals(order.times), np.isnan(self.target)
        whole = (ordinals[ends - 1] - ordinals[begins] == ends - begins - 1) & ~_any(
            empty, begins, ends
        )
        seen = ~empty
        return tuple(
            self._whole(part, seen, frequency)
            if fine
            else self._mended(part, ordinals[part.begin : part.end], frequency)
            for part, fine in zip(self._parts(begins, ends), whole.tolist(), strict=True)
        )

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows of each series from its first value on, without rows of the future alone."""
        order = self.order
        begins, ends = order.starts.copy(), order.ends.copy()
        ahead = bool(self.columns.future) and self.after is None
        empty = np.isnan(self.target)
        for place in np.flatnonzero(_any(empty, begins, ends)):
            seen = np.flatnonzero(~empty[order.starts[place] : order.ends[place]])
            if len(seen) and ahead:
                ends[place] = order.starts[place] + seen[-1] + 1
            if len(seen) and self.missing == "fill":
                begins[place] = order.starts[place] + seen[0]
        return begins, ends

    def _parts(self, begins: np.ndarray, ends: np.ndarray) -> list[_Part]:
        order, ids = self.order, self.rows.ids
        return [
            _Part(ids.names[code], *bounds)
            for code, *bounds in zip(
                ids.codes[order.rows[order.starts]].tolist(),
                begins.tolist(),
                ends.tolist(),
                order.ends.tolist(),
                order.starts.tolist(),
                strict=True,
            )
        ]

    def _whole(self, part: _Part, seen: np.ndarray, frequency: Frequency) -> Series:
        """A series without a gap: its rows as they are."""
        rows = slice(part.begin, part.end)
        return Series(
            id=part.id,
            times=self.order.times[rows],
            y=self.target[rows],
            observed=seen[rows],
            past=self.past[rows],
            future=self._future(part, self.future[rows], frequency),
            static=self._static(part),
        )

    def _mended(self, part: _Part, ordinals: np.ndarray, frequency: Frequency) -> Series:
        """A series with gaps: rows in between that are not observed."""
        rows = slice(part.begin, part.end)
        places = ordinals - ordinals[0]
        count = int(places[-1]) + 1
        where = f" (series {part.id!r})" if part.id else ""
        if count > 20 * len(places):
            raise DataError(
                f"{self.rows.name}{where}: {len(places)} rows spread over {count} steps of "
                f"{frequency}; fewer than 1 in 20 is there, which is too few to fill"
            )
        y = _spread(self.target[rows], places, count)
        if np.isnan(y).all():
            raise DataError(
                f"{self.rows.name}{where}: column {self.columns.target!r} has no value at all; "
                "name another target, or leave the series out"
            )
        future = _spread(self.future[rows], places, count)
        return Series(
            id=part.id,
            times=frequency.grid(self.order.times[part.begin], count),
            y=fill(y, frequency.seasons()),
            observed=~np.isnan(y),
            past=_spread(self.past[rows], places, count),
            future=self._future(part, future, frequency),
            static=self._static(part),
        )

    def _static(self, part: _Part) -> np.ndarray:
        if self.beside is None:
            return self.static[part.start]
        return static_of(self.beside, part.id, self.columns, self.labels, self.missing)

    def _future(self, part: _Part, own: np.ndarray, frequency: Frequency) -> np.ndarray:
        """The future columns of a series, and what is known after its end (n + E, F)."""
        if not self.columns.future:
            return own
        end = self.order.times[part.end - 1]
        rows, order = self.rows, self.order.rows[part.end : part.last]
        if self.after is not None:
            rows, order = self.after.rows, self.after.of(part.id)
        order = future_after(rows, order, end, frequency, self.columns)
        ahead = columns_of(rows, order, self.columns.future, self.labels)
        return np.concatenate([own, ahead]) if len(ahead) else own


@dataclass(frozen=True)
class _Part:
    """One series as rows of a sorted table: from its first value to the end of its past.

    `last` is where its rows after that end, `start` where its rows begin.
    """

    id: str
    begin: int
    end: int
    last: int
    start: int


def _any(flags: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Whether any of the rows `begins` to `ends` (L,) is flagged (L,)."""
    before = np.concatenate([[0], np.cumsum(flags)])
    return before[ends] > before[begins]


def _spread(values: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """Rows put at their places among `count`, with NaN between them."""
    spread = np.full((count, *values.shape[1:]), np.nan)
    spread[places] = values
    return spread


def make_schema(series: Sequence[Series], columns: Columns, labels: Labels) -> Schema:
    """What the covariates are, and which numbers have gaps."""
    gaps = {role: np.zeros(len(getattr(columns, role)), dtype=bool) for role in ROLES}
    for role in ROLES:
        if len(gaps[role]):
            for one in series:
                gaps[role] |= np.isnan(getattr(one, role)).reshape(-1, len(gaps[role])).any(axis=0)
    return Schema(
        tuple(
            Covariate(
                name,
                role,
                columns.kind(name),
                labels.get(name, ()),
                bool(gap) and columns.kind(name) == "number",
            )
            for role in ROLES
            for name, gap in zip(getattr(columns, role), gaps[role], strict=True)
        )
    )


def digest_of(series: Sequence[Series]) -> str:
    """A SHA-256 of ids, times, values and covariates."""
    digest = hashlib.sha256()
    for one in series:
        digest.update(repr((one.id, len(one), one.past.shape, one.future.shape)).encode())
        digest.update(np.ascontiguousarray(one.times.astype(np.int64)).data)
        y = one.y if one.observed.all() else np.where(one.observed, one.y, np.nan)
        digest.update(np.ascontiguousarray(y).data)
        for values in (one.past, one.future, one.static):
            if values.size:
                digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()

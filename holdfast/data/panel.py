"""Checked series on a regular grid: what a table becomes before any window is cut from it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from holdfast.data.frequency import Frequency, infer, show
from holdfast.data.tables import Columns, Rows, read_rows
from holdfast.errors import DataError

MISSING = ("error", "fill")


@dataclass(frozen=True)
class Series:
    """One series of n rows without gaps.

    `y` (n,) has no NaN: missing values are filled from the past, and `observed` (n,) is False
    there. `covariates` is (n, C), filled the same way.
    """

    id: str
    times: np.ndarray
    y: np.ndarray
    observed: np.ndarray
    covariates: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: slice) -> Series:
        return replace(
            self,
            times=self.times[rows],
            y=self.y[rows],
            observed=self.observed[rows],
            covariates=self.covariates[rows],
        )


@dataclass(frozen=True)
class Panel:
    """Series that share one frequency.

    `name` is the file they come from, `backend` the kind of frame the user gave, `digest` a SHA-256
    of ids, times and values.
    """

    series: tuple[Series, ...]
    frequency: Frequency
    columns: Columns
    has_ids: bool
    backend: str
    name: str
    digest: str

    def __len__(self) -> int:
        return sum(map(len, self.series))

    def map(self, change: Any) -> Panel:
        """The panel with `change` applied to every series."""
        return replace(self, series=tuple(change(series) for series in self.series))


def read_panel(data: Any, columns: Columns | None = None, *, missing: str = "error") -> Panel:
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

    Raises `DataError`, naming the row, for duplicate times, gaps, NaN, infinity, a mixed frequency
    and series that are too short to have one.
    """
    columns = columns or Columns()
    if missing not in MISSING:
        raise DataError(f"missing={missing!r}; expected one of {', '.join(map(repr, MISSING))}")
    rows = read_rows(data, columns)
    _refuse_infinity(rows, columns)
    ids, first, inverse = np.unique(rows.ids, return_index=True, return_inverse=True)
    by_series = np.argsort(inverse, kind="stable")
    bounds = np.flatnonzero(np.diff(inverse[by_series])) + 1
    groups = np.split(by_series, bounds)
    parts = []
    for code in np.argsort(first, kind="stable"):
        group = groups[code]
        parts.append((str(ids[code]), group[np.argsort(rows.times[group], kind="stable")]))
    frequency = _frequency(rows, parts)
    series = tuple(_series(rows, id, order, frequency, columns, missing) for id, order in parts)
    return Panel(series, frequency, columns, rows.has_ids, rows.backend, rows.name, _digest(series))


def _where(id: str) -> str:
    return f" (series {id!r})" if id else ""


def _refuse_infinity(rows: Rows, columns: Columns) -> None:
    values = np.column_stack([rows.target, rows.covariates])
    bad = np.argwhere(np.isinf(values))
    if len(bad):
        row, which = bad[0]
        column = (columns.target, *columns.covariates)[which]
        raise DataError(
            f"{rows.name}: row {row + 1}: column {column!r} is infinite; correct it or leave it "
            "empty"
        )


def _frequency(rows: Rows, parts: list[tuple[str, np.ndarray]]) -> Frequency:
    """The one frequency of all series; refuses duplicates and series of fewer than three rows."""
    common: tuple[Frequency, str] | None = None
    for id, order in parts:
        times = rows.times[order]
        if len(times) < 3:
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
        try:
            frequency = infer(times, _where(id), order + 1)
        except DataError as error:
            raise DataError(f"{rows.name}: {error}") from None
        if common is None:
            common = frequency, id
        elif common[0] != frequency:
            raise DataError(
                f"{rows.name}: mixed frequency: series {common[1]!r} is {common[0]} apart, series "
                f"{id!r} {frequency}; resample to one frequency"
            )
    assert common is not None
    return common[0]


def _series(
    rows: Rows, id: str, order: np.ndarray, frequency: Frequency, columns: Columns, missing: str
) -> Series:
    times, target = rows.times[order], rows.target[order]
    ordinals = frequency.ordinals(times)
    steps = np.diff(ordinals)
    if missing == "error":
        _refuse_missing(rows, id, order, frequency, columns, steps)
    places = ordinals - ordinals[0]
    count = int(places[-1]) + 1
    if count > 20 * len(times):
        raise DataError(
            f"{rows.name}{_where(id)}: {len(times)} rows spread over {count} steps of {frequency}; "
            "fewer than 1 in 20 is there, which is too few to fill"
        )
    y = np.full(count, np.nan)
    y[places] = target
    covariates = np.full((count, rows.covariates.shape[1]), np.nan)
    covariates[places] = rows.covariates[order]
    observed = ~np.isnan(y)
    if not observed.any():
        raise DataError(
            f"{rows.name}{_where(id)}: column {columns.target!r} has no value at all; name another "
            "target"
        )
    filled = [fill(covariates[:, c], ()) for c in range(covariates.shape[1])]
    return Series(
        id=id,
        times=frequency.grid(times[0], count),
        y=fill(y, frequency.seasons()),
        observed=observed,
        covariates=np.stack(filled, axis=1) if filled else covariates,
    )


def _refuse_missing(
    rows: Rows,
    id: str,
    order: np.ndarray,
    frequency: Frequency,
    columns: Columns,
    steps: np.ndarray,
) -> None:
    remedy = 'pass missing="fill" (--missing fill) to fill from the past and leave out of the loss'
    gaps = np.flatnonzero(steps > 1)
    if len(gaps):
        at = gaps[0]
        lost = int((steps[gaps] - 1).sum())
        raise DataError(
            f"{rows.name}: row {order[at + 1] + 1}{_where(id)}: a gap: {steps[at] - 1} time(s) of "
            f"{frequency} are missing after {show(rows.times[order[at]])}, {lost} in all; {remedy}"
        )
    empty = np.flatnonzero(np.isnan(rows.target[order]))
    if len(empty):
        raise DataError(
            f"{rows.name}: row {order[empty[0]] + 1}{_where(id)}: column {columns.target!r} is "
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
        digest.update(repr((one.id, len(one), one.covariates.shape[1])).encode())
        digest.update(np.ascontiguousarray(one.times.astype(np.int64)).tobytes())
        digest.update(np.where(one.observed, one.y, np.nan).tobytes())
        digest.update(np.ascontiguousarray(one.covariates).tobytes())
    return digest.hexdigest()

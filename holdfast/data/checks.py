"""What a table has to be: no time twice, one frequency, and nothing missing unless allowed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from holdfast.data.frequency import Frequency, infer, show
from holdfast.data.tables import Columns, Rows
from holdfast.errors import DataError

# Series of fewer rows take the frequency of the others, on whose grid they have to lie.
ROWS_TO_TELL = 10


@dataclass(frozen=True)
class Order:
    """The rows of a table, one series after the other, each in the order of its times.

    `rows` (N,) are rows of the table, `starts` and `ends` (L,) the bounds of the series in it,
    `times` (N,) in that order. The series stand as their ids appear in the table.
    """

    rows: np.ndarray
    times: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


def sort_rows(rows: Rows, by_id: bool = False) -> Order:
    """The order of a table's rows; series stand in the order of their ids if asked for."""
    codes, times = rows.ids.codes, rows.times
    same = codes[1:] == codes[:-1]
    changes = np.flatnonzero(~same) + 1
    runs = len(changes) + 1
    ordered = not by_id or bool((codes[1:] >= codes[:-1]).all())
    if ordered and runs == len(rows.ids.names) and not (same & (times[1:] < times[:-1])).any():
        order = np.arange(len(codes))
        starts = np.concatenate([[0], changes])
    else:
        first = np.full(len(rows.ids.names), len(codes))
        np.minimum.at(first, codes, np.arange(len(codes)))
        rank = codes if by_id else np.argsort(np.argsort(first))[codes]
        order = np.lexsort((times, rank))
        starts = np.concatenate([[0], np.flatnonzero(np.diff(rank[order])) + 1])
        times = times[order]
    ends = np.concatenate([starts[1:], [len(codes)]])
    return Order(order, times, starts, ends)


def refuse_infinity(rows: Rows, columns: Columns) -> None:
    """Raises `DataError` for a number that is infinite."""
    for column, values in ((columns.target, rows.target), *rows.covariates.items()):
        bad = np.flatnonzero(np.isinf(values))
        if len(bad):
            raise DataError(
                f"{rows.ids.where(bad[0])}: column {column!r} is infinite; correct it or leave it "
                "empty"
            )


def refuse_twice(rows: Rows, order: Order) -> None:
    """Raises `DataError` for a time that a series has twice."""
    same = order.times[1:] == order.times[:-1]
    same[order.starts[1:] - 1] = False
    bad = np.flatnonzero(same)
    if len(bad):
        one, other = order.rows[bad[0]], order.rows[bad[0] + 1]
        hint = "" if rows.has_ids else "; if the table holds several series, name the id column"
        raise DataError(
            f"{rows.ids.where(other)}: the same time {show(order.times[bad[0]])} as "
            f"{rows.ids.row(one)}; keep one of them{hint}"
        )


def common_frequency(
    rows: Rows, order: Order, known: Frequency | None, who: str = "the model was trained on"
) -> Frequency:
    """The one frequency of all series: `known`, or that of the first which is long enough.

    `who` says in messages whose frequency is known.

    Raises `DataError` for another frequency, and where no series has three rows to show one.
    """
    lengths = order.ends - order.starts
    if known is None:
        enough = min(ROWS_TO_TELL, int(lengths.max()))
        leader = int(np.flatnonzero(lengths >= enough)[0])
        if lengths[leader] < 3:
            count = "1 row" if lengths[leader] == 1 else f"{lengths[leader]} rows"
            raise DataError(
                f"{rows.name}{_series(rows, order, leader)}: only {count}; a series needs at least "
                "3 rows to show its frequency, and more to train"
            )
        frequency = _infer(rows, order, leader)
        like = f"series {rows.ids.of(order.rows[order.starts[leader]])!r} is {frequency} apart"
    else:
        frequency, like = known, ""
        who = f"{who} {known}"
    seen: set[bytes] = set()
    for place in _uncertain(order, frequency):
        times = order.times[order.starts[place] : order.ends[place]]
        key = times.tobytes()
        if key in seen:
            continue
        if len(times) < ROWS_TO_TELL and frequency.fits(times):
            continue
        other = _infer(rows, order, place)
        if other != frequency:
            raise _mixed(rows, order, place, other, like, who)
        seen.add(key)
    return frequency


def _uncertain(order: Order, frequency: Frequency) -> np.ndarray:
    """The series that are not seen at once to have this frequency."""
    if not frequency.even or len(order.times) < 2:
        return np.arange(len(order.starts))
    odd = np.diff(order.times).astype(np.int64) != frequency.step
    odd[order.starts[1:] - 1] = False
    before = np.concatenate([[0], np.cumsum(odd)])
    return np.flatnonzero(before[order.ends - 1] > before[order.starts])


def _infer(rows: Rows, order: Order, place: int) -> Frequency:
    part = slice(order.starts[place], order.ends[place])
    try:
        return infer(order.times[part], _series(rows, order, place), order.rows[part] + 1)
    except DataError as error:
        raise DataError(f"{rows.name}: {error}") from None


def _mixed(
    rows: Rows, order: Order, place: int, other: Frequency, like: str, who: str
) -> DataError:
    if not like:
        return DataError(
            f"{rows.name}{_series(rows, order, place)}: rows are {other} apart, {who}; resample "
            "the table"
        )
    id = rows.ids.of(order.rows[order.starts[place]])
    return DataError(
        f"{rows.name}: mixed frequency: {like}, series {id!r} {other}; resample to one frequency"
    )


def _series(rows: Rows, order: Order, place: int) -> str:
    id = rows.ids.of(order.rows[order.starts[place]])
    return f" (series {id!r})" if id else ""


def refuse_missing(
    rows: Rows, order: Order, ends: np.ndarray, frequency: Frequency, columns: Columns
) -> None:
    """Raises `DataError` for a gap in time or an empty number in the rows before `ends` (L,)."""
    remedy = 'pass missing="fill" (--missing fill) to fill from the past and leave out of the loss'
    past = _before(order, ends)
    steps = np.diff(frequency.ordinals(order.times))
    gap = (steps > 1) & past[1:]
    gap[order.starts[1:] - 1] = False
    gaps = np.flatnonzero(gap)
    if len(gaps):
        at = gaps[0]
        mine = gaps[gaps < order.ends[np.searchsorted(order.ends, at, side="right")]]
        lost = int((steps[mine] - 1).sum())
        raise DataError(
            f"{rows.ids.where(order.rows[at + 1])}: a gap: {steps[at] - 1} time(s) of {frequency} "
            f"are missing after {show(order.times[at])}, {lost} in all; {remedy}"
        )
    numbers = [name for name in rows.covariates if columns.kind(name) == "number"]
    for column, values in [(columns.target, rows.target)] + [
        (name, rows.covariates[name]) for name in numbers
    ]:
        empty = np.flatnonzero(np.isnan(values[order.rows]) & past)
        if len(empty):
            raise DataError(
                f"{rows.ids.where(order.rows[empty[0]])}: column {column!r} is empty (NaN), "
                f"{len(empty)} row(s) in all; {remedy}"
            )


def _before(order: Order, ends: np.ndarray) -> np.ndarray:
    """Which rows stand before the `ends` (L,) of their series."""
    past = np.ones(len(order.times), dtype=bool)
    for end, last in zip(ends, order.ends, strict=True):
        if end < last:
            past[end:last] = False
    return past

"""How far apart the rows of a series are, and which seasons that suggests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from holdfast.errors import DataError

SECOND = 1_000_000
DAY = 86_400 * SECOND

# A spacing that makes up more than this share of all is a second frequency, not a gap.
SHARE_OF_A_SECOND_FREQUENCY = 0.25


@dataclass(frozen=True)
class Frequency:
    """The step between rows: `step` microseconds, or `step` months when `unit` is ``"month"``.

    >>> hourly = Frequency("microsecond", 3_600_000_000)
    >>> hourly.seasons()
    (24, 168)
    >>> str(hourly)
    '1 hour'
    """

    unit: str
    step: int
    month_end: bool = False

    def __str__(self) -> str:
        if self.unit == "month":
            return f"{self.step} month" + ("s" if self.step > 1 else "")
        for name, size in (("day", DAY), ("hour", 3600 * SECOND), ("minute", 60 * SECOND)):
            if self.step % size == 0:
                count = self.step // size
                return f"{count} {name}" + ("s" if count > 1 else "")
        return f"{self.step / SECOND:g} seconds"

    @property
    def even(self) -> bool:
        """Whether rows that are one step apart are sure to have this frequency and no other."""
        return self.unit == "microsecond" and self.step < 28 * DAY

    def seasons(self) -> tuple[int, ...]:
        """The usual season lengths in rows, shortest first: hourly 24 and 168, daily 7."""
        if self.unit == "month":
            return (12 // self.step,) if self.step < 12 and 12 % self.step == 0 else ()
        if self.step >= DAY:
            weekly = self.step == 7 * DAY
            return (52,) if weekly else ((7,) if self.step == DAY else ())
        if DAY % self.step:
            return ()
        day = DAY // self.step
        return (day, 7 * day) if day > 1 else (7,)

    def ordinals(self, times: np.ndarray) -> np.ndarray:
        """The count of steps since 1970 of each of `times` (datetime64[us], on one grid)."""
        if self.unit == "month":
            return _months(times, self.month_end) // self.step
        return times.astype(np.int64) // self.step

    def follow(self, times: np.ndarray) -> bool:
        """Whether `times` are surely one step apart, and surely of this frequency and no other."""
        if self.even:
            return bool(((times[1:] - times[:-1]).view(np.int64) == self.step).all())
        # So `infer` tells them apart; what stands at other times there is looked at again.
        if self.unit != "month" or self.month_end != _is_midnight(times):
            return False
        moved = times + np.timedelta64(DAY if self.month_end else 0, "us")
        months = _months(times, self.month_end)
        return _first_of_month(moved) and bool((months[1:] - months[:-1] == self.step).all())

    def fits(self, times: np.ndarray) -> bool:
        """Whether sorted times (datetime64[us]) lie on one grid of this step, gaps or not."""
        if self.unit == "microsecond":
            return not (np.diff(times).astype(np.int64) % self.step).any()
        moved = times + np.timedelta64(DAY if self.month_end else 0, "us")
        within = moved - moved.astype("datetime64[M]").astype("datetime64[us]")
        months = np.diff(_months(times, self.month_end))
        return not (months % self.step).any() and bool((within == within[0]).all())

    def after(self, time: np.datetime64, count: int) -> np.ndarray:
        """The `count` times (datetime64[us]) that follow `time`."""
        return self.moved(time, np.arange(1, count + 1))

    def moved(self, time: np.datetime64, steps: np.ndarray) -> np.ndarray:
        """The times (datetime64[us]) that are so many `steps` from `time`, or before it."""
        if self.unit == "microsecond":
            return time + (steps * self.step).astype("timedelta64[us]")
        shift = np.timedelta64(DAY if self.month_end else 0, "us")
        begin = time + shift
        month = begin.astype("datetime64[M]")
        within = begin - month.astype("datetime64[us]")
        later = (month + steps * self.step).astype("datetime64[us]")
        return later + within - shift

    def grid(self, first: np.datetime64, count: int) -> np.ndarray:
        """`count` times (datetime64[us]) beginning with `first`."""
        return np.concatenate([np.array([first]), self.after(first, count - 1)])


def infer(times: np.ndarray, where: str, rows: np.ndarray) -> Frequency:
    """The frequency of one series from its sorted, distinct times (datetime64[us]).

    `where` names the series and `rows` holds each time's row in the user's table, for the message.
    Raises `DataError` when the spacings do not belong to one frequency.
    """
    month_end = bool(_is_midnight(times) and _first_of_month(times + np.timedelta64(DAY, "us")))
    differences = np.diff(times).astype(np.int64)
    same_day = month_end or _first_of_month(times)
    if same_day and differences.min() >= 28 * DAY:
        months = np.diff(_months(times, month_end))
        frequency = Frequency("month", _usual(months), month_end)
        steps = months
    else:
        steps = differences
        frequency = Frequency("microsecond", _usual(steps))
    odd = np.flatnonzero(steps % frequency.step)
    larger = steps[steps > frequency.step]
    if not len(odd) and len(larger):
        values, counts = np.unique(larger, return_counts=True)
        if counts.max() > max(2, SHARE_OF_A_SECOND_FREQUENCY * len(steps)):
            odd = np.flatnonzero(steps == values[counts.argmax()])
    if len(odd):
        at = odd[0] + 1
        apart = Frequency("microsecond", int(differences[at - 1]))
        raise DataError(
            f"row {rows[at]}{where}: mixed frequency: most rows are {frequency} apart, "
            f"{show(times[at])} comes {apart} after the row before; resample to one frequency"
        )
    return frequency


def show(time: Any) -> str:
    """A time as people write it, without seconds and hours that are zero.

    >>> show(np.datetime64("2018-07-23T05:00"))
    '2018-07-23 05:00'
    """
    text = str(time.astype("datetime64[s]")).replace("T", " ")
    return text.removesuffix(" 00:00:00").removesuffix(":00") if ":" in text else text


def _usual(steps: np.ndarray) -> int:
    values, counts = np.unique(steps, return_counts=True)
    return int(values[counts.argmax()])


def _months(times: np.ndarray, month_end: bool) -> np.ndarray:
    moved = times + np.timedelta64(DAY, "us") if month_end else times
    return moved.astype("datetime64[M]").astype(np.int64)


def _is_midnight(times: np.ndarray) -> bool:
    return not (times.astype(np.int64) % DAY).any()


def _first_of_month(times: np.ndarray) -> bool:
    within = times - times.astype("datetime64[M]").astype("datetime64[us]")
    return bool((within == within[0]).all() and within[0] < np.timedelta64(28 * DAY, "us"))

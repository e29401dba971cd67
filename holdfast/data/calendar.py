"""What a timestamp tells without looking at the data: known in the future too."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from holdfast.data.frequency import DAY, Frequency

HARMONICS = 3
WEEK = 7 * DAY
# Weeks of more steps are computed anew each time, shorter ones looked up.
MOST_STEPS = 10_080


def calendar_features(times: np.ndarray, frequency: Frequency) -> np.ndarray:
    """Sines and cosines of the rhythms that `frequency` can show, shape (len(times), F), float32.

    Below a day: hour of the day and hour of the week, three harmonics each, and the weekend. Daily:
    day of the week, the weekend and the day of the year. Slower: the day of the year. `times` stand
    on one grid of the frequency.
    """
    counted = times.astype(np.int64)
    step = frequency.step if frequency.unit == "microsecond" else DAY
    if step < DAY:
        if WEEK % step or WEEK // step > MOST_STEPS:
            return _of_hours(counted)
        return _week(step, int(counted[0] % step))[counted // step % (WEEK // step)]
    day = times.astype("datetime64[D]")
    of_year = (day - day.astype("datetime64[Y]")).astype(np.int64)
    if step % DAY:
        return _of_years(of_year * DAY + counted % DAY)
    year = _year(int(counted[0] % DAY))[of_year]
    if frequency.unit == "month" or step > DAY:
        return year
    return np.concatenate([_days()[day.astype(np.int64) % 7], year], axis=1)


@lru_cache(maxsize=16)
def _week(step: int, offset: int) -> np.ndarray:
    """The features of every step of a week that begins `offset` after a Thursday."""
    return _of_hours(np.arange(offset, WEEK, step))


@lru_cache(maxsize=16)
def _year(offset: int) -> np.ndarray:
    """The features of the same time on every day of a year."""
    return _of_years(np.arange(366) * DAY + offset)


@lru_cache(maxsize=1)
def _days() -> np.ndarray:
    """The features of seven days, from a Thursday on."""
    weekday = _weekday(np.arange(7) * DAY)
    return _joined([_waves(weekday / 7), _weekend(weekday)])


def _of_hours(counted: np.ndarray) -> np.ndarray:
    within_day, weekday = (counted % DAY) / DAY, _weekday(counted)
    return _joined([_waves(within_day), _waves((weekday + within_day) / 7), _weekend(weekday)])


def _of_years(since: np.ndarray) -> np.ndarray:
    """The features of microseconds `since` a year began."""
    return _joined([_waves(since / DAY / 365.25)])


def _weekday(counted: np.ndarray) -> np.ndarray:
    """The day of the week of microseconds since 1970-01-01, a Thursday; Monday is 0."""
    return (counted // DAY + 3) % 7


def _weekend(weekday: np.ndarray) -> np.ndarray:
    return (weekday >= 5).astype(np.float64)[:, None]


def _waves(phase: np.ndarray) -> np.ndarray:
    angles = 2 * np.pi * phase[:, None] * np.arange(1, HARMONICS + 1)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts, axis=1).astype(np.float32)

"""What a timestamp tells without looking at the data: known in the future too."""

from __future__ import annotations

import numpy as np

from holdfast.data.frequency import DAY, Frequency

HARMONICS = 3


def calendar_features(times: np.ndarray, frequency: Frequency) -> np.ndarray:
    """Sines and cosines of the rhythms that `frequency` can show, shape (len(times), F), float32.

    Below a day: hour of the day and hour of the week, three harmonics each, and the weekend. Daily:
    day of the week, the weekend and the day of the year. Slower: the day of the year.
    """
    within_day = (times.astype(np.int64) % DAY) / DAY
    # 1970-01-01 was a Thursday; Monday is 0.
    weekday = (times.astype("datetime64[D]").astype(np.int64) + 3) % 7
    weekend = (weekday >= 5).astype(np.float64)[:, None]
    year = times.astype("datetime64[Y]")
    days = (times - year.astype("datetime64[us]")).astype(np.int64) / DAY
    if frequency.unit == "microsecond" and frequency.step < DAY:
        parts = [_waves(within_day), _waves((weekday + within_day) / 7), weekend]
    elif frequency.unit == "microsecond" and frequency.step == DAY:
        parts = [_waves(weekday / 7), weekend, _waves(days / 365.25)]
    else:
        parts = [_waves(days / 365.25)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _waves(phase: np.ndarray) -> np.ndarray:
    angles = 2 * np.pi * phase[:, None] * np.arange(1, HARMONICS + 1)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

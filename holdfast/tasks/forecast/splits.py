"""Splits of long tables in time, for `GridSearchCV` and the like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from holdfast.data.tables import TIME, load_frame
from holdfast.errors import DataError


class RollingSplit:
    """Rows to train on and to score, for the `cv` of scikit-learn's searches.

    >>> import polars
    >>> table = polars.DataFrame({"ds": range(10), "y": range(10)})
    >>> [(len(train), len(test)) for train, test in RollingSplit(2, n_windows=3).split(table)]
    [(4, 6), (6, 8), (8, 10)]

    The rows of training end at a cutoff, those of the test are the same and the `horizon` after it:
    a forecaster scores what follows its training, and reads what is before. The cutoffs are `step`
    times (default: the horizon) apart and the same for all series; the last lies one horizon before
    the end of the table. Rows may stand in any order.

    Errors: `DataError` for counts below 1, and tables with too few times.
    """

    def __init__(
        self,
        horizon: int,
        n_windows: int = 3,
        step: int | None = None,
        *,
        time_column: str = TIME,
    ) -> None:
        self.horizon = horizon
        self.n_windows = n_windows
        self.step = step
        self.time_column = time_column

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """The number of cutoffs."""
        return self.n_windows

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Places of rows of training and test, the earliest cutoff first."""
        step = self.horizon if self.step is None else self.step
        for name, value in (
            ("horizon", self.horizon),
            ("n_windows", self.n_windows),
            ("step", step),
        ):
            if value < 1:
                raise DataError(f"{name}={value!r}; expected a whole number from 1 on")
        frame, name = load_frame(X)
        if self.time_column not in frame.columns:
            raise DataError(f"{name}: there is no column {self.time_column!r}; name `time_column`")
        times, places = np.unique(frame[self.time_column].to_numpy(), return_inverse=True)
        first = len(times) - self.horizon - (self.n_windows - 1) * step
        if first < 1:
            raise DataError(
                f"{name}: {len(times)} times are too few for {self.n_windows} windows of "
                f"{self.horizon}; ask for fewer or give more rows"
            )
        for window in range(self.n_windows):
            end = first + window * step
            yield np.flatnonzero(places < end), np.flatnonzero(places < end + self.horizon)

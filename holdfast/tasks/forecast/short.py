"""Series with few rows: which are too short to train on, and which forecasts rest on little."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from holdfast.data.panel import Panel
from holdfast.data.windows import Recipe
from holdfast.errors import DataError, ShortHistoryWarning

SHOWN = 3


def first_and_last(
    rows: np.ndarray, recipe: Recipe, joint: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last origin of series of which `rows` (L,) train; none where first > last.

    A series that is shorter than a whole window takes part with windows that begin before it.
    """
    history = recipe.history
    last = rows - 1 - recipe.horizon
    short = np.maximum(recipe.window // 2, last // 2)
    first = np.minimum(history - 1, last if joint else short)
    first = np.where(last >= history - 1, history - 1, first)
    return np.maximum(first, 1), last


def without_short(
    panel: Panel, rows: np.ndarray, recipe: Recipe, joint: bool
) -> tuple[Panel, tuple[str, ...]]:
    """The series that can train, and the ids of those of which too few `rows` (L,) do.

    Warns of the latter. Raises `DataError` when none is left, or when all are read together.
    """
    first, last = first_and_last(rows, recipe, joint)
    usable = last >= first
    if usable.all():
        return panel, ()
    left = tuple(panel.series[place].id for place in np.flatnonzero(~usable).tolist())
    if joint or len(left) == len(panel.series):
        raise DataError(
            f"{panel.name}: too few rows to train: {listed(left)}; give more rows, or a smaller "
            "horizon, window or validation"
        )
    warnings.warn(
        f"{panel.name}: {len(left)} of {len(panel.series)} series are too short to train and are "
        f"left out: {listed(left)}; they can still be forecast",
        ShortHistoryWarning,
        stacklevel=2,
    )
    return only(panel, left), left


def only(panel: Panel, left: tuple[str, ...]) -> Panel:
    """The panel without the series that are left out."""
    if not left:
        return panel
    gone = set(left)
    return replace(panel, series=tuple(one for one in panel.series if one.id not in gone))


def warn_of_few_rows(panel: Panel, recipe: Recipe) -> None:
    """Warn of series with fewer rows than a window."""
    few = [one for one in panel.series if len(one) < recipe.window]
    if few:
        named = tuple(f"{one.id!r} ({len(one)})" if one.id else str(len(one)) for one in few)
        warnings.warn(
            f"{panel.name}: {len(few)} series with fewer rows than the window of {recipe.window}: "
            f"{_few(named)}; these forecasts rest on little",
            ShortHistoryWarning,
            stacklevel=3,
        )


def listed(ids: tuple[str, ...]) -> str:
    """The first ids of many.

    >>> listed(("a", "b", "c", "d", "e"))
    "'a', 'b', 'c' and 2 more"
    """
    return _few(tuple(map(repr, ids)))


def _few(names: tuple[str, ...]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")

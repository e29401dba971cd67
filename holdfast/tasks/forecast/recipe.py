"""The shape of the windows, from the frequency of the data and the rows there are."""

from __future__ import annotations

import math
from typing import Any

from holdfast.data.panel import Panel
from holdfast.data.windows import REPEATS, Recipe, default_lags
from holdfast.errors import DataError

SHORTEST_WINDOW, LONGEST_WINDOW = 28, 72


def held_out(validation: float, rows: int, horizon: int) -> int:
    """How many rows at the end of a series of `rows` are kept for early stopping.

    A whole `validation` from 1 on is a number of rows, one below it a share of them.

    >>> held_out(0.1, rows=1000, horizon=24)
    100
    """
    return max(horizon, math.ceil(validation * rows) if validation < 1 else int(validation))


def choose_recipe(settings: Any, panel: Panel) -> Recipe:
    """The window, seasons and lags for `panel`, those of `settings` (a `Forecaster`) where given.

    The window covers the longest season, but at least 28 and at most 72 rows: what is longer ago
    comes in through the lags. Lags are four whole
    longest seasons back and two of each other, fewer when the series of median length has no room
    for them. Shorter series take part with windows that begin before them.

    Raises `DataError` when no series is long enough to train on.
    """
    H = settings.horizon
    seasons = panel.frequency.seasons() if settings.seasons is None else tuple(settings.seasons)
    seasons = tuple(sorted({int(season) for season in seasons if season > 1}))
    window = settings.window
    if window is None:
        window = min(LONGEST_WINDOW, max(SHORTEST_WINDOW, max(seasons, default=0)))
    lengths = sorted(map(len, panel.series))
    usual = lengths[len(lengths) // 2]
    recipe = _for_rows(settings, usual, window, seasons)
    if recipe.history > _room(settings, usual):
        usual = lengths[-1]
        recipe = _for_rows(settings, usual, window, seasons)
    room = _room(settings, usual)
    if recipe.history > room:
        one = max(panel.series, key=len)
        where = f" (series {one.id!r})" if one.id else ""
        raise DataError(
            f"{panel.name}{where}: {usual} rows are too few to train; needs {recipe.history + H} "
            f"for one window ({window}), its longest lag ({recipe.history - window}) and the "
            f"horizon ({H}), and {usual - room - H} held out; give more rows or a smaller window, "
            "lags or horizon"
        )
    return recipe


def _room(settings: Any, rows: int) -> int:
    """Rows of a series that a window may take, beside its targets and what is held out."""
    return rows - held_out(settings.validation, rows, settings.horizon) - settings.horizon


def _for_rows(settings: Any, rows: int, window: int, seasons: tuple[int, ...]) -> Recipe:
    """The recipe for a series of so many rows."""
    H = settings.horizon
    if settings.lags is None:
        return _most_lags(window, H, seasons, _room(settings, rows))
    lags = tuple(sorted({int(lag) for lag in settings.lags}))
    if lags and lags[0] < H:
        raise DataError(
            f"lags={lags}: {lags[0]} is below the horizon of {H}; give lags from {H} on"
        )
    return Recipe(window, H, seasons, lags)


def _most_lags(window: int, H: int, seasons: tuple[int, ...], room: int) -> Recipe:
    """The most lags that fit into `room` rows together with the window."""
    for count in range(len(seasons), 0, -1):
        for repeats in range(REPEATS, 0, -1):
            kept = seasons[:count]
            recipe = Recipe(window, H, kept, default_lags(kept, H, repeats))
            if recipe.history <= room:
                return recipe
    return Recipe(window, H, (), ())

"""A backtest as an evaluation, so that the pictures and tables of the one serve the other."""

from __future__ import annotations

import numpy as np

from holdfast.tasks.forecast.cross_validation import OURS as FORECAST
from holdfast.tasks.forecast.cross_validation import Backtest
from holdfast.tasks.forecast.evaluate import OURS, Evaluation
from holdfast.tasks.forecast.forecasts import Forecasts
from holdfast.tasks.forecast.rolled import Rolled


def as_evaluation(backtest: Backtest) -> Evaluation:
    """The forecasts of all windows, series by series, and their scores."""
    windows, panel = backtest.windows, backtest.panel
    owner = np.concatenate([window.owner for window in windows])
    rows = np.concatenate([window.rows for window in windows])
    order = np.lexsort((rows, owner))
    places = [int(place) for place in np.unique(owner)]
    origins = tuple(np.sort(rows[owner == place]) for place in places)

    def gathered(parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts)[order]

    found = Forecasts(
        gathered([w.forecasts.point for w in windows]),
        gathered([w.forecasts.quantiles for w in windows]),
        windows[0].forecasts.levels,
    )
    shown = type(panel)(**{**vars(panel), "series": tuple(panel.series[at] for at in places)})
    starts = tuple(int(at[0]) + 1 for at in origins)
    rolled = Rolled(shown, starts, origins, found, windows[0].truth.shape[1])
    scores = backtest.scores()
    scores = {OURS if name == FORECAST else name: row for name, row in scores.items()}
    forecasts = {OURS: found.point}
    for name in windows[0].others:
        forecasts[name] = gathered([w.others[name] for w in windows])
    return Evaluation(scores, forecasts, rolled, ())

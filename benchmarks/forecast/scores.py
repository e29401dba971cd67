"""Scores of a forecast, by utilsforecast, so that they are not of our own making."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.forecast.naive2 import naive2
from benchmarks.forecast.task import DECILES, ID, TARGET, Forecast, Task
from holdfast.data.optional import require

OURS = "forecast"

LEVELS = {80: (0.1, 0.9), 95: (0.025, 0.975)}
"""The quantiles that bound an interval."""


def scored(forecast: Forecast, task: Task) -> dict[str, float]:
    """The task's scores by name; those that need quantiles are left out without them."""
    table = _table(forecast, task)
    found = {}
    for name in task.metrics:
        if name in NEED_QUANTILES and not forecast.quantiles:
            continue
        found[name] = SCORES[name](table, task)
    for lead in task.leads:
        error = np.abs(forecast.point[:, lead - 1] - task.truth[:, lead - 1])
        found[f"MAE at {lead}"] = float(np.nanmean(error))
    return found


def _table(forecast: Forecast, task: Task) -> Any:
    """Windows as a long frame, unmeasured rows left out: id, truth, forecast and quantiles."""
    polars: Any = require("polars")
    truth, owners = task.truth, task.owners
    unit = task.deviations[owners][:, None] if task.in_deviations else 1.0
    columns = {
        ID: np.repeat(owners, task.horizon),
        TARGET: (truth / unit).reshape(-1),
        OURS: (forecast.point / unit).reshape(-1),
    }
    columns |= {_named(q): (v / unit).reshape(-1) for q, v in forecast.quantiles.items()}
    return polars.DataFrame(columns).filter(~polars.col(TARGET).is_nan())


def _named(level: float) -> str:
    return f"{OURS}-q{level:g}"


def _mean(table: Any, loss: str, **more: Any) -> float:
    """A loss of utilsforecast, averaged over all series."""
    losses: Any = require("utilsforecast.losses")
    given = {"models": [OURS], "id_col": ID, "target_col": TARGET, **more}
    return float(getattr(losses, loss)(table, **given)[OURS].mean())


def _training(task: Task) -> Any:
    polars: Any = require("polars")
    ends = [len(t.y) - task.test for t in task.tracks]
    return polars.DataFrame(
        {
            ID: np.repeat(np.arange(len(ends)), ends),
            "ds": np.concatenate([np.arange(end) for end in ends]),
            TARGET: np.concatenate([t.y[:end] for t, end in zip(task.tracks, ends, strict=True)]),
        }
    ).with_columns(polars.col(TARGET).fill_nan(None))


def _smape(table: Any, task: Task) -> float:
    return 200 * _mean(table, "smape")


def _mase(table: Any, task: Task) -> float:
    return _mean(table, "mase", seasonality=task.season, train_df=_training(task))


def _owa(table: Any, task: Task) -> float:
    base = naive2_scores(task)
    return 0.5 * (_smape(table, task) / base["sMAPE"] + _mase(table, task) / base["MASE"])


def naive2_scores(task: Task) -> dict[str, float]:
    """sMAPE and MASE of Naive2, the two that OWA divides by; computed once a task."""
    if "naive2" not in task.other:
        table = _table(Forecast(naive2_windows(task)), task)
        task.other["naive2"] = {"sMAPE": _smape(table, task), "MASE": _mase(table, task)}
    return task.other["naive2"]


def naive2_windows(task: Task) -> np.ndarray:
    """Naive2 from every origin of a task (W, H)."""
    return np.array(
        [
            naive2(track.y[: origin + 1], task.horizon, task.season)
            for track in task.tracks
            for origin in track.origins
        ]
    )


def _crps(table: Any, task: Task) -> float:
    models = {OURS: [_named(q) for q in DECILES]}
    return 2 * _mean(table, "mqloss", models=models, quantiles=np.array(DECILES))


def _coverage(level: int) -> Callable[[Any, Task], float]:
    low, high = LEVELS[level]

    def share(table: Any, task: Task) -> float:
        names = {_named(low): f"{OURS}-lo-{level}", _named(high): f"{OURS}-hi-{level}"}
        return 100 * _mean(table.rename(names), "coverage", level=level)

    return share


SCORES: dict[str, Callable[[Any, Task], float]] = {
    "MSE": lambda table, task: _mean(table, "mse"),
    "RMSE": lambda table, task: _mean(table, "mse") ** 0.5,
    "MAE": lambda table, task: _mean(table, "mae"),
    "sMAPE": _smape,
    "MASE": _mase,
    "OWA": _owa,
    "CRPS": _crps,
    "coverage 80": _coverage(80),
    "coverage 95": _coverage(95),
}
"""Scores by name. sMAPE and coverages are in percent; the CRPS is twice the mean pinball loss over
the nine deciles."""

NEED_QUANTILES = ("CRPS", "coverage 80", "coverage 95")

"""What every forecaster is measured against: rules without training, and AutoETS."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.forecast.scores import naive2_windows
from benchmarks.forecast.task import QUANTILES, Forecast, Task, Track
from holdfast.data.optional import require
from holdfast.tasks.forecast.baselines import ets_setting

Rule = Callable[[Track, Task], np.ndarray]


def _naive(track: Track, task: Task) -> np.ndarray:
    return np.repeat(track.y[track.origins][:, None], task.horizon, axis=1)


def _seasonal(track: Track, task: Task) -> np.ndarray:
    steps = np.arange(1, task.horizon + 1)
    back = task.season * np.ceil(steps / task.season).astype(int)
    return track.y[track.origins[:, None] + steps - back]


def _zero(track: Track, task: Task) -> np.ndarray:
    return np.zeros((len(track.origins), task.horizon))


def _by(rule: Rule) -> Callable[[Task], Forecast]:
    def forecast(task: Task) -> Forecast:
        start = time.process_time()
        point = np.concatenate([rule(track, task) for track in task.whole.tracks])
        return Forecast(point, predict_s=time.process_time() - start)

    return forecast


def _naive2(task: Task) -> Forecast:
    return Forecast(naive2_windows(task.whole))


def autoets(task: Task) -> Forecast:
    """AutoETS of statsforecast with its own intervals, fitted at some origins of each series."""
    whole, start = task.whole, time.process_time()
    count = min(len(track.origins) for track in whole.tracks)
    before = min(int(track.origins[0]) + 1 for track in whole.tracks)
    seasons = (task.season, 24) if task.frequency == "h" else (task.season,)
    setting = ets_setting(seasons, before, count, len(whole.tracks))
    parts = [_ets_series(track, task, setting) for track in whole.tracks]
    joined: dict[Any, np.ndarray] = {
        q: np.concatenate([part[q] for part in parts]) for q in (*QUANTILES, "mean")
    }
    point = joined.pop("mean")
    spent = time.process_time() - start
    return Forecast(point, joined, predict_s=spent, settings=setting.describe())


def _ets_series(track: Track, task: Task, setting: Any) -> dict[Any, np.ndarray]:
    """Forecasts from every origin of a series, by quantile: fitted anew at some, else carried."""
    models: Any = require("statsforecast.models")
    every = -(-len(track.origins) // setting.fits)
    levels = [20, 40, 60, 80, 95]
    model: Any = None
    found: dict[Any, list[np.ndarray]] = {q: [] for q in (*QUANTILES, "mean")}
    for index, origin in enumerate(track.origins):
        seen = np.ascontiguousarray(track.y[max(0, origin + 1 - setting.rows) : origin + 1])
        if index % every == 0:
            model = models.AutoETS(season_length=setting.season).fit(seen)
            given = model.predict(h=task.horizon, level=levels)
        else:
            given = model.forward(y=seen, h=task.horizon, level=levels)
        for name in found:
            found[name].append(_ets_values(given, name))
    return {name: np.array(values) for name, values in found.items()}


def _ets_values(given: dict[str, np.ndarray], name: Any) -> np.ndarray:
    if name in ("mean", 0.5):
        return given["mean"]
    side = "lo" if name < 0.5 else "hi"
    return given[f"{side}-{round(100 * abs(1 - 2 * name))}"]


BASELINES: dict[str, Callable[[Task], Forecast]] = {
    "zero": _by(_zero),
    "naive": _by(_naive),
    "seasonal naive": _by(_seasonal),
    "Naive2": _naive2,
    "AutoETS": autoets,
}
"""By name; `zero`, on returns, is the random walk of what returns are of."""

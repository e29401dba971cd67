"""Holdfast's `Forecaster` on a task, with the settings of its recipe for that task."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.forecast.task import Forecast, Task
from holdfast.tasks import Forecaster

SETTINGS: dict[str, dict[str, Any]] = {}
"""What differs from the defaults of `Forecaster`, by the task's name."""

ETT = {"lags": (), "dropout": 0.3}

QUICK = {"hidden_size": 8, "max_epochs": 1}


def settings(task: Task) -> dict[str, Any]:
    """The settings for a task, beyond the defaults."""
    chosen = dict(ETT) if task.name.startswith("ett") else {}
    chosen |= SETTINGS.get(task.name, {})
    if task.window is not None:
        chosen["window"] = task.window
    return chosen


def run(task: Task, seed: int, quick: bool = False) -> Forecast:
    """Train on the past of a task, forecast from all its origins."""
    chosen: dict[str, Any] = settings(task) | (QUICK if quick else {})
    past = task.past
    shortest = int(past.groupby("unique_id", sort=False).size().min())
    model = Forecaster(
        task.horizon,
        missing="fill",
        covariates=task.covariates,
        validation=task.valid / shortest,
        seed=seed,
        **chosen,
    )
    start = time.perf_counter()
    model.fit(past)
    fitted = time.perf_counter()
    rolled = model.roll(task.frame, last=task.test, step=task.step)
    done = time.perf_counter()
    words = ", ".join(f"{name} {value}" for name, value in chosen.items()) or "defaults"
    return Forecast(
        np.asarray(rolled.forecast), {}, fitted - start, done - fitted, f"{words}; {_epochs(model)}"
    )


def _epochs(model: Forecaster) -> str:
    return f"epoch {model.best_epoch_} of {len(model.history_)} kept"

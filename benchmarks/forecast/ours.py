"""Holdfast's `Forecaster` on a task, with the settings of its recipe for that task."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.forecast.registry import Settings
from benchmarks.forecast.task import QUANTILES, Forecast, Task
from holdfast.tasks import Forecaster

_ETT: dict[str, Any] = {
    "model": "segment",
    "loss": "mae",
    "hidden_size": 128,
    "dropout": 0.5,
    "schedule": "cosine",
}


def _segments(rows: int, normalize: str) -> dict[str, Any]:
    """Options of the segment model: `rows` that a step writes, and what a window is relative to."""
    return {"segment": 24, "ahead": rows, "normalize": normalize, "calendar": False}


_M4: dict[str, Any] = {
    "scaling": "log",
    "schedule": "cosine",
    "epoch_steps": 100,
    "validation": 0.01,
}

SETTINGS: dict[str, dict[str, Any]] = {
    "etth1": {
        **_ETT,
        "learning_rate": 2e-3,
        "batch_size": 128,
        "epoch_steps": 250,
        "max_epochs": 3,
    },
    "etth2": {
        **_ETT,
        "learning_rate": 1e-3,
        "batch_size": 256,
        "epoch_steps": 200,
        "max_epochs": 4,
    },
    **{
        f"{which}-{horizon}": {"options": _segments(rows, normalize)}
        for which, normalize in (("etth1", "mean"), ("etth2", "last"))
        for horizon, rows in ((96, 24), (192, 24), (336, 48), (720, 72))
    },
    "m4-hourly": {**_M4, "window": 48, "lags": (48, 72, 168, 336), "max_epochs": 40},
    "airpassengers": {
        "scaling": "log",
        "window": 12,
        "lags": (12, 24),
        "hidden_size": 32,
        "members": 5,
        "max_epochs": 100,
        "patience": 30,
    },
    "dji": {
        "model": "recurrent",
        "options": {"anchor": False},
        "loss": "mse",
        "window": 90,
        "seasons": (),
        "lags": (),
        "learning_rate": 1e-3,
    },
    "beijing": {"epoch_steps": 100, "max_epochs": 10, "patience": 4, "batch_size": 64},
    "m4-weekly": {**_M4, "window": 26, "lags": (52,), "max_epochs": 20},
}
"""What differs from the defaults of `Forecaster`, by the task's name or the part before a dash;
those of ETT and M4 are the settings of `examples/`."""

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "airpassengers": {"holdfast, a point": {"output": "point"}},
    "beijing": {"holdfast, places": {"model": "places", "batch_size": 16}},
}
"""Further rows of ours, and what differs in them, by the task's name or the part before a dash."""

UNTOLD = ("quantiles", "past", "missing", "validation", "seed")
"""Settings that follow from the task."""

QUICK = {"hidden_size": 8, "max_epochs": 1, "epoch_steps": 2}


def recipe(task: Task) -> dict[str, Any]:
    """The settings for a task, beyond the defaults: what it scores decides what is trained for."""
    chosen: dict[str, Any] = {}
    if "CRPS" in task.metrics:
        chosen |= {"output": "quantiles", "quantiles": QUANTILES}
    elif "MSE" in task.metrics:
        chosen |= {"loss": "mse"}
    if task.covariates:
        chosen["past"] = task.covariates
    if task.window is not None:
        chosen |= {"window": task.window, "lags": ()}
    for name in (task.name.partition("-")[0], task.name):
        chosen |= SETTINGS.get(name, {})
    return chosen


def variants(task: Task) -> dict[str, dict[str, Any]]:
    """The further rows of a task."""
    return VARIANTS.get(task.name) or VARIANTS.get(task.name.partition("-")[0], {})


def run(task: Task, seed: int, settings: Settings, **changes: Any) -> Forecast:
    """Train on the past of a task, forecast from all its origins; `changes` are a variant's."""
    chosen: dict[str, Any] = {**recipe(task), **changes, **(QUICK if settings.quick else {})}
    past = task.past
    shortest = min(len(track.y) for track in task.tracks) - task.test
    chosen = {"validation": task.valid / shortest, **chosen, "missing": "fill", "seed": seed}
    model = Forecaster(task.horizon, **chosen)
    start = time.process_time()
    model.fit(past)
    fitted = time.process_time()
    levels = QUANTILES if chosen.get("output") == "quantiles" else ()
    rolled = model.roll(task.frame, last=task.test, step=task.step, quantiles=levels)
    done = time.process_time()
    found = rolled.forecasts
    spread = {q: found.quantiles[..., place] for place, q in enumerate(levels)}
    words = {name: value for name, value in chosen.items() if name not in UNTOLD}
    told = ", ".join(f"{name} {value}" for name, value in words.items()) or "defaults"
    kept = f"epoch {model.best_epoch_} of {len(model.history_)} kept"
    return Forecast(found.point, spread, fitted - start, done - fitted, f"{told}; {kept}")

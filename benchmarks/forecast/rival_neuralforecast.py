"""neuralforecast's LSTM and DeepAR on a task, by its own `cross_validation` without refitting."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.forecast.registry import Settings
from benchmarks.forecast.task import ID, QUANTILES, TARGET, TIME, Forecast, RefusalError, Task
from benchmarks.forecast.windows import PARTS, known_ahead, window
from holdfast.data.optional import require

BATCH = 128
CHECKS = 10
"""Looks at the validation part at most; three in vain end the training."""

LEVELS = (20, 40, 60, 80, 95)
"""Intervals whose bounds are `QUANTILES`."""

QUIET = {
    "enable_progress_bar": False,
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}


def with_calendar(task: Task) -> tuple[Any, list[str]]:
    """The filled table with what the calendar tells as columns that are known ahead."""
    frame = task.whole.frame[[ID, TIME, TARGET]]
    more = {}
    for name in known_ahead(task):
        turn = getattr(frame[TIME].dt, name) / PARTS[name]
        more[f"{name}_sin"] = np.sin(2 * np.pi * turn)
        more[f"{name}_cos"] = np.cos(2 * np.pi * turn)
    return frame.assign(**more), list(more)


def _common(task: Task, seed: int, settings: Settings, known: list[str]) -> dict[str, Any]:
    return {
        "h": task.horizon,
        "input_size": window(task),
        "windows_batch_size": BATCH,
        "max_steps": 2 if settings.quick else settings.steps,
        "val_check_steps": 2 if settings.quick else max(1, settings.steps // CHECKS),
        "early_stop_patience_steps": 3,
        "random_seed": seed + 1,
        "futr_exog_list": known or None,
        **QUIET,
    }


def _lstm(task: Task, common: dict[str, Any]) -> Any:
    losses: Any = require("neuralforecast.losses.pytorch")
    models: Any = require("neuralforecast.models")
    if "CRPS" not in task.metrics:
        return models.LSTM(loss=losses.MSE() if "MSE" in task.metrics else losses.MAE(), **common)
    quantiles = losses.MQLoss(quantiles=list(QUANTILES))
    return models.LSTM(loss=quantiles, valid_loss=quantiles, **common)


def _deepar(task: Task, common: dict[str, Any]) -> Any:
    losses: Any = require("neuralforecast.losses.pytorch")
    models: Any = require("neuralforecast.models")
    loss = losses.DistributionLoss("StudentT", level=list(LEVELS), return_params=False)
    return models.DeepAR(loss=loss, scaler_type="standard", trajectory_samples=100, **common)


MODELS: dict[str, Callable[[Task, dict[str, Any]], Any]] = {"LSTM": _lstm, "DeepAR": _deepar}


def run(which: str, task: Task, seed: int, settings: Settings) -> Forecast:
    """Train one model and forecast from all origins of a task.

    Errors: `RefusalError` where the library is not installed.
    """
    try:
        NeuralForecast = require("neuralforecast").NeuralForecast
    except ImportError as error:
        raise RefusalError("not installed") from error
    _be_quiet()
    frame, known = with_calendar(task)
    common = _common(task, seed, settings, known)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = NeuralForecast([MODELS[which](task, common)], freq=task.frequency)
        found = net.cross_validation(
            frame,
            n_windows=None,
            test_size=task.test,
            step_size=task.step,
            val_size=max(task.valid, task.horizon),
        )
    spent = time.process_time() - start
    words = f"2 x 128 units, input {common['input_size']}, at most {common['max_steps']} steps "
    words += f"of {BATCH} windows, early stopping"
    if known:
        words += f", {' and '.join(known_ahead(task))} known ahead"
    point, quantiles = _values(found, which, task)
    return Forecast(point, quantiles, fit_s=spent, settings=words)


def _values(found: Any, which: str, task: Task) -> tuple[np.ndarray, dict[float, np.ndarray]]:
    """The columns of the library's table as windows, in the order of the task."""
    order = {track.id: place for place, track in enumerate(task.tracks)}
    found = found.reset_index(drop=True)
    found = found.assign(place=found[ID].map(order)).sort_values(["place", "cutoff", TIME])
    columns = {name.removesuffix(".0"): found[name] for name in found.columns}
    wanted = {which: None, f"{which}-median": 0.5}
    for level in LEVELS:
        for side, sign in (("lo", -1), ("hi", 1)):
            wanted[f"{which}-{side}-{level}"] = round(0.5 + sign * level / 200, 3)
    values = {
        quantile: columns[name].to_numpy(dtype=np.float64).reshape(-1, task.horizon)
        for name, quantile in wanted.items()
        if name in columns
    }
    mean = values.pop(None, None)
    quantiles: dict[float, np.ndarray] = {q: v for q, v in values.items() if q is not None}
    point = quantiles[0.5] if mean is None or "CRPS" in task.metrics else mean
    return point, quantiles if set(quantiles) == set(QUANTILES) else {}


def _be_quiet() -> None:
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)

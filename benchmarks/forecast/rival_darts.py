"""darts' RNNModel and BlockRNNModel on a task."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.forecast.registry import Settings
from benchmarks.forecast.task import QUANTILES, Forecast, RefusalError, Task
from benchmarks.forecast.windows import known_ahead, window
from holdfast.data.optional import require

UNITS, LAYERS = 64, 1
BATCH = 128
CHECKS = 10
"""Looks at the validation part at most; three in vain end the training."""

SAMPLES = 100
CHUNK = 512

PATIENCE = 3


def _common(task: Task, seed: int, settings: Settings) -> dict[str, Any]:
    ends = [len(track.y) - task.test - task.valid for track in task.tracks]
    windows = sum(ends) - len(ends) * (window(task) + task.horizon)
    steps = 2 if settings.quick else settings.steps
    check = max(1, steps // CHECKS)
    per_epoch = min(check, max(1, windows // BATCH))
    known = list(known_ahead(task))
    encoders = {"cyclic": {"future": known}} if known else None
    stop: Any = require("pytorch_lightning.callbacks").EarlyStopping(
        "val_loss", patience=PATIENCE * check // per_epoch
    )
    return {
        "model": "LSTM",
        "input_chunk_length": window(task),
        "hidden_dim": UNITS,
        "n_rnn_layers": LAYERS,
        "batch_size": BATCH,
        "n_epochs": max(1, steps // per_epoch),
        "optimizer_kwargs": {"lr": 1e-3},
        "random_state": seed,
        "add_encoders": encoders,
        "save_checkpoints": False,
        "pl_trainer_kwargs": {
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "logger": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "callbacks": [stop],
            "limit_train_batches": min(steps, per_epoch),
        },
    }


def _rnn(task: Task, common: dict[str, Any]) -> Any:
    likelihoods: Any = require("darts.utils.likelihood_models")
    models: Any = require("darts.models")
    length = min(common["input_chunk_length"] + task.horizon, _shortest(task))
    likelihood = likelihoods.GaussianLikelihood() if "CRPS" in task.metrics else None
    return models.RNNModel(training_length=length, likelihood=likelihood, **common)


def _block(task: Task, common: dict[str, Any]) -> Any:
    likelihoods: Any = require("darts.utils.likelihood_models")
    models: Any = require("darts.models")
    spread = "CRPS" in task.metrics
    likelihood = likelihoods.QuantileRegression(list(QUANTILES)) if spread else None
    return models.BlockRNNModel(output_chunk_length=task.horizon, likelihood=likelihood, **common)


MODELS: dict[str, Callable[[Task, dict[str, Any]], Any]] = {
    "RNNModel": _rnn,
    "BlockRNNModel": _block,
}


def _shortest(task: Task) -> int:
    return min(len(track.y) - task.test - task.valid for track in task.tracks) - 1


def run(which: str, task: Task, seed: int, settings: Settings) -> Forecast:
    """Train one model and forecast from all origins of a task.

    Errors: `RefusalError` where the library is not installed.
    """
    try:
        require("darts.models")
        require("pytorch_lightning")
    except ImportError as error:
        raise RefusalError("not installed") from error
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "darts"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _forecast(which, task, seed, settings)


def _forecast(which: str, task: Task, seed: int, settings: Settings) -> Forecast:
    common = _common(task, seed, settings)
    model = MODELS[which](task, common)
    means, spreads, series = _scaled(task)
    back = getattr(model, "training_length", None) or common["input_chunk_length"]
    start = time.process_time()
    model.fit(
        [s[: len(s) - task.test - task.valid] for s in series],
        val_series=[s[len(s) - task.test - task.valid - back : len(s) - task.test] for s in series],
    )
    fitted = time.process_time()
    drawn = _predicted(model, task, series, common["input_chunk_length"])
    drawn = drawn * spreads[:, None, None] + means[:, None, None]
    spent = time.process_time() - fitted
    words = (
        f"{LAYERS} x {UNITS} units, input {common['input_chunk_length']}, at most "
        f"{settings.steps} steps of {BATCH} windows, early stopping"
    )
    if known_ahead(task):
        words += f", {' and '.join(known_ahead(task))} known ahead"
    if drawn.shape[2] == 1:
        return Forecast(drawn[:, :, 0], {}, fitted - start, spent, words)
    levels = {q: np.quantile(drawn, q, axis=2) for q in QUANTILES}
    return Forecast(levels[0.5], levels, fitted - start, spent, words)


def _scaled(task: Task) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    """Means and deviations of each window's series (W,), and the series on that scale."""
    pandas: Any = require("pandas")
    TimeSeries: Any = require("darts").TimeSeries
    tracks = task.whole.tracks
    ends = [len(track.y) - task.test - task.valid for track in tracks]
    mean = np.array([t.y[:end].mean() for t, end in zip(tracks, ends, strict=True)])
    spread = np.array([t.y[:end].std() or 1.0 for t, end in zip(tracks, ends, strict=True)])
    series = [
        TimeSeries.from_times_and_values(
            pandas.DatetimeIndex(track.times, freq=task.frequency),
            ((track.y - mean[place]) / spread[place]).astype(np.float32),
        )
        for place, track in enumerate(tracks)
    ]
    return mean[task.owners], spread[task.owners], series


def _predicted(model: Any, task: Task, series: Sequence[Any], back: int) -> np.ndarray:
    """Samples (W, H, S) from every origin, some hundred windows at a time."""
    cuts = [
        one[int(origin) + 1 - back : int(origin) + 1]
        for one, track in zip(series, task.tracks, strict=True)
        for origin in track.origins
    ]
    samples = SAMPLES if "CRPS" in task.metrics else 1
    parts = []
    for start in range(0, len(cuts), CHUNK):
        found = model.predict(
            task.horizon,
            series=cuts[start : start + CHUNK],
            num_samples=samples,
            batch_size=CHUNK,
            verbose=False,
        )
        parts += [one.all_values(copy=False)[:, 0] for one in found]
    return np.array(parts, dtype=np.float64)

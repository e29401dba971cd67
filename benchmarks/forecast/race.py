"""What the speed of forecasters is measured on: the same rows, units, batches and steps for all."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.forecast.readers import EPOCH, STEPS
from benchmarks.forecast.registry import Row
from benchmarks.forecast.task import ID, TARGET, TIME, RefusalError
from benchmarks.timing import Timing
from holdfast.data.optional import require
from holdfast.tasks import Forecaster
from holdfast.tasks.forecast import origins as places

SILENT = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
}


@dataclass(frozen=True)
class Size:
    """Units, layers, rows looked back, rows ahead, windows of a batch, gradient steps."""

    units: int
    layers: int
    window: int
    horizon: int
    batch: int
    steps: int


Make = Callable[[Any, Size], Callable[[], Any]]
"""From a long table and a size to a call that trains from scratch and returns a fitted model."""


def waves(series: int, rows: int) -> Any:
    """A long pandas table of hourly series with a day and a week in them, each its own."""
    pandas: Any = require("pandas")
    random = np.random.default_rng(0)
    hours = np.arange(rows)
    level, day, week = random.uniform(5, 50, (3, series, 1))
    phase = random.uniform(0, 2 * np.pi, (series, 1))
    y = 2 * level + day * np.sin(2 * np.pi * hours / 24 + phase)
    y += 0.3 * week * np.sin(2 * np.pi * hours / 168) + random.normal(size=(series, rows))
    return pandas.DataFrame(
        {
            ID: np.repeat([f"s{number:05d}" for number in range(series)], rows),
            TIME: np.tile(EPOCH + hours * STEPS["h"], series),
            TARGET: y.reshape(-1),
        }
    )


ORIGINS = 24
"""Forecasts that our models make from each window in training, where the data has room for them."""


def holdfast(frame: Any, size: Size, origins: int = 1, model: str = "direct") -> Callable[[], Any]:
    """A model of ours with so many forecasts from each window; in a batch as many as a peer's.

    What a window is shared among is no setting of the forecaster; it is set for the call.
    """
    rows = int(frame.groupby(ID, sort=False).size().min())
    given: dict[str, Any] = {
        "model": model,
        "window": size.window,
        "lags": (),
        "hidden_size": size.units,
        "num_layers": size.layers,
        "dropout": 0.0,
        "batch_size": -(-size.batch // origins),
        "epoch_steps": size.steps,
        "max_epochs": 1,
        "validation": (size.horizon + origins - 1) / rows,
    }

    def fit() -> Forecaster:
        usual = places.SPAN
        places.SPAN = origins
        try:
            return Forecaster(size.horizon, **given).fit(frame)
        finally:
            places.SPAN = usual

    return fit


def neuralforecast(frame: Any, size: Size) -> Callable[[], Any]:
    """neuralforecast's LSTM with a point loss."""
    outer: Any = _library("neuralforecast")
    models: Any = require("neuralforecast.models")
    common = {
        "h": size.horizon,
        "input_size": size.window,
        "encoder_hidden_size": size.units,
        "encoder_n_layers": size.layers,
        "windows_batch_size": size.batch,
        "max_steps": size.steps,
        **SILENT,
    }

    def fit() -> Any:
        net = outer.NeuralForecast([models.LSTM(**common)], freq="h", local_scaler_type="standard")
        net.fit(frame)
        return net

    return fit


def darts(which: str) -> Make:
    """darts' RNNModel or BlockRNNModel with its point loss, on one series."""

    def make(frame: Any, size: Size) -> Callable[[], Any]:
        models: Any = _library("darts.models")
        _library("pytorch_lightning")
        recurrent = {"training_length": size.window + size.horizon}
        lengths = recurrent if which == "RNNModel" else {"output_chunk_length": size.horizon}
        series = as_series(frame)
        trainer = {**SILENT, "limit_train_batches": size.steps}

        def fit() -> Any:
            model = getattr(models, which)(
                model="LSTM",
                input_chunk_length=size.window,
                hidden_dim=size.units,
                n_rnn_layers=size.layers,
                batch_size=size.batch,
                n_epochs=1,
                pl_trainer_kwargs=trainer,
                **lengths,
            )
            return model.fit(series)

        return fit

    return make


def as_series(frame: Any) -> Any:
    """A table with one series as darts' own kind of series, on the scale of its own deviation."""
    pandas: Any = require("pandas")
    y = frame[TARGET].to_numpy()
    times = pandas.DatetimeIndex(frame[TIME], freq="infer")
    values = ((y - y.mean()) / y.std()).astype(np.float32)
    return require("darts").TimeSeries.from_times_and_values(times, values)


def _library(module: str) -> Any:
    """A module, or why it is not there; what it prints about itself is kept quiet."""
    try:
        found = require(module)
    except ImportError as error:
        raise RefusalError("not installed") from error
    for name in ("pytorch_lightning", "lightning_fabric", "darts"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning|darts|neuralforecast")
    warnings.filterwarnings("ignore", "'pin_memory' argument", category=UserWarning)
    return found


MAKERS: dict[str, dict[str, Make]] = {
    "holdfast": {
        "holdfast direct": holdfast,
        "holdfast direct, together": partial(holdfast, origins=ORIGINS),
        "holdfast recurrent": partial(holdfast, model="recurrent"),
    },
    "neuralforecast": {"neuralforecast LSTM": neuralforecast},
    "darts": {
        "darts BlockRNNModel": darts("BlockRNNModel"),
        "darts RNNModel": darts("RNNModel"),
    },
}
"""Who takes part, by library."""


def rows_of(timings: dict[str, Timing], notes: dict[str, str], ours: str) -> dict[str, Row]:
    """Rows by name: seconds, and how many times as long each took as ours, round by round."""
    found = {}
    for name, timing in timings.items():
        figures = {"seconds": tuple(timing.rounds.values())}
        if name != ours:
            both = sorted(timings[ours].rounds.keys() & timing.rounds.keys())
            figures["by ours"] = tuple(timing.rounds[n] / timings[ours].rounds[n] for n in both)
        found[name] = Row(name, figures, notes.get(name, ""))
    return found

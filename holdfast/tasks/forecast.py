"""`Forecaster`: from a long table to the next H values of every series in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from holdfast.data.frequency import Frequency, show
from holdfast.data.optional import require
from holdfast.data.panel import Panel, Series, read_panel
from holdfast.data.scaling import Scale, fit_scales
from holdfast.data.tables import ID, TARGET, TIME, Columns, make_frame
from holdfast.data.windows import Recipe, Windows, make_windows
from holdfast.errors import DataError, ModelError
from holdfast.tasks import metrics
from holdfast.tasks.card import model_card
from holdfast.tasks.checkpoint import Progress, load_progress
from holdfast.tasks.forecast_net import ForecastNet
from holdfast.tasks.model_folder import load_config, load_weights, save_model
from holdfast.tasks.recipe import choose_recipe, held_out
from holdfast.tasks.rolled import Rolled
from holdfast.tasks.training import (
    Origins,
    Plan,
    own_random_numbers,
    seed_everything_of_ours,
    train,
)

BaseEstimator: Any = require("sklearn.base").BaseEstimator

FORMAT = "holdfast.forecast"
SPAN = 24
CHUNK = 512

# What may differ between a run and its continuation, and what says where the table stands.
FREE_TO_CHANGE = ("max_epochs", "patience", "device")


class Forecaster(BaseEstimator):
    """Forecast the next `horizon` values of one or many series with a recurrent network.

    >>> from holdfast.data import load_metro_traffic
    >>> from holdfast.tasks import Forecaster
    >>> table = load_metro_traffic().tail(2500)
    >>> model = Forecaster(horizon=24, missing="fill", hidden_size=8, max_epochs=1).fit(table)
    >>> model.predict(table).shape
    (24, 2)

    Tables are long: a row a series and time. `id_column` None means `unique_id` if the table has
    it, else one series; `covariates` names numeric columns of which only the past is used;
    `missing` (``"error"`` or ``"fill"``) says what happens to gaps and empty targets. `window`,
    `seasons` and `lags` (all in rows) follow from the frequency unless given. `cell` is any cell of
    the catalogue. `validation` is the share of each series' end on which early stopping watches;
    `patience` counts epochs; `averaging` is the decay of the running average of the weights, which
    is what is kept. `seed` alone decides every random number; the global generators stay as they
    are.

    Fitted attributes: `recipe_`, `frequency_`, `scales_`, `net_`, `history_` (losses by epoch).
    """

    def __init__(
        self,
        horizon: int = 24,
        *,
        id_column: str | None = None,
        time_column: str = TIME,
        target_column: str = TARGET,
        covariates: tuple[str, ...] | list[str] = (),
        missing: str = "error",
        window: int | None = None,
        seasons: tuple[int, ...] | list[int] | None = None,
        lags: tuple[int, ...] | list[int] | None = None,
        cell: str = "lstm",
        hidden_size: int = 64,
        num_layers: int = 1,
        dropout: float = 0.1,
        learning_rate: float = 4e-3,
        batch_size: int = 32,
        max_epochs: int = 50,
        patience: int = 12,
        validation: float = 0.1,
        gradient_clip: float = 1.0,
        averaging: float = 0.98,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.horizon = horizon
        self.id_column = id_column
        self.time_column = time_column
        self.target_column = target_column
        self.covariates = covariates
        self.missing = missing
        self.window = window
        self.seasons = seasons
        self.lags = lags
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.validation = validation
        self.gradient_clip = gradient_clip
        self.averaging = averaging
        self.seed = seed
        self.device = device

    def fit(
        self,
        X: Any,
        y: None = None,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        report: Callable[[Progress], None] | None = None,
    ) -> Forecaster:
        """Train on a table (path, pandas or polars frame, or a `Panel`) and return self.

        With `checkpoint`, every epoch is written to that file; with `resume`, training goes on from
        it (from the start when it is not there) to the same result as without the interruption.
        `report` is called after every epoch with the `Progress`.

        Raises `DataError` for tables that cannot be used, `ModelError` for a checkpoint that does
        not fit or a full disk.
        """
        self._check_settings()
        panel = self.read(X)
        recipe = choose_recipe(self, panel)
        counts = {
            series.id: len(series) - held_out(self.validation, len(series), self.horizon)
            for series in panel.series
        }
        scales = fit_scales(panel, counts)
        windows = make_windows(panel, scales, recipe)
        data = self._origins(windows, list(counts.values()))
        settings = self.get_params()
        identity = {k: v for k, v in settings.items() if k not in FREE_TO_CHANGE}
        identity = {**identity, "data": panel.digest}
        file = Path(checkpoint) if checkpoint is not None else None
        progress = Progress(identity)
        if resume and file is not None and file.exists():
            progress = load_progress(file, identity)
        with own_random_numbers():
            seed_everything_of_ours(self.seed, 0)
            net = self._network(recipe, windows.x.shape[1], windows.calendar.shape[1])
        trained = train(net, data, self._plan(), progress, file, report)
        self._take(panel, recipe, scales, trained.cpu(), progress)
        return self

    def predict(self, X: Any) -> Any:
        """The `horizon` values after the end of each series: id, time and ``forecast``.

        Only the table's last `recipe_.history` rows of each series are needed. The frame is of the
        kind that was given (polars for a file). Costs one forward pass.

        Raises `DataError` for series that training did not know, or that are too short.
        """
        panel = self.known(X)
        history = self.recipe_.history
        for series in panel.series:
            if len(series) < history:
                raise DataError(
                    f"{panel.name}{_where(series)}: {len(series)} rows; a forecast needs at least "
                    f"{history} ({self.recipe_.window} for the window and "
                    f"{history - self.recipe_.window} for the longest lag)"
                )
        recent = panel.map(lambda series: series[len(series) - history :])
        windows = make_windows(recent, self.scales_, self.recipe_)
        origins = np.array(windows.starts) + history - 1
        values = self.forecast_from(windows, origins, [series.id for series in recent.series])
        times = [panel.frequency.after(series.times[-1], self.horizon) for series in recent.series]
        columns: dict[str, Any] = {}
        if panel.has_ids:
            name = self.id_column or ID
            columns[name] = [s.id for s in recent.series for _ in range(self.horizon)]
        columns[self.time_column] = np.concatenate(times)
        columns["forecast"] = values.reshape(-1)
        return make_frame(columns, panel.backend)

    def score(self, X: Any, y: None = None) -> float:
        """R² of rolling forecasts over the rows of the table that follow those of training."""
        rolled = self.roll(X)
        return metrics.r2(rolled.truth, rolled.forecast, rolled.weight)

    def roll(self, X: Any, *, last: int | None = None, step: int | None = None) -> Rolled:
        """Forecasts from many origins over rows that training has not seen, with the truth beside.

        The origins are `step` (default: `horizon`) rows apart and cover the last `last` rows of
        each series, by default all that follow the end of training.
        """
        panel = self.known(X)
        windows = make_windows(panel, self.scales_, self.recipe_)
        starts, chosen, owners = [], [], []
        for index, series in enumerate(panel.series):
            start = len(series) - last if last is not None else self._first_new(panel, series)
            first = max(start - 1, self.recipe_.history - 1)
            if first + self.horizon > len(series) - 1:
                raise DataError(
                    f"{panel.name}{_where(series)}: {max(0, len(series) - 1 - first)} row(s) to "
                    f"score; needs {self.horizon} after the end of training "
                    f"({show(np.datetime64(self.ends_[series.id]))}) and {self.recipe_.history} "
                    "before; give a longer table, or say how many of its last rows to score "
                    "(--last)"
                )
            origins = windows.origins(
                index, first, len(series) - 1 - self.horizon, step or self.horizon
            )
            starts.append(first + 1)
            chosen.append(origins - windows.starts[index])
            owners += [series.id] * len(origins)
        if not any(
            series.observed[start:].any()
            for series, start in zip(panel.series, starts, strict=True)
        ):
            raise DataError(f"{panel.name}: no observed target in the rows to score; give others")
        rows = [c + windows.starts[i] for i, c in enumerate(chosen)]
        forecast = self.forecast_from(windows, np.concatenate(rows), owners)
        return Rolled(panel, tuple(starts), tuple(chosen), forecast, self.horizon)

    def forecast_from(self, windows: Windows, origins: np.ndarray, owners: list[str]) -> np.ndarray:
        """Forecasts (W, H) in the user's unit, from W origins of the series `owners`."""
        parts = []
        with torch.inference_mode():
            for start in range(0, len(origins), CHUNK):
                inputs = windows.inputs(origins[start : start + CHUNK])
                parts.append(self.net_(**inputs)[:, 0].double().numpy())
        scaled = np.concatenate(parts)
        mean = np.array([self.scales_[id].mean for id in owners])[:, None]
        std = np.array([self.scales_[id].std for id in owners])[:, None]
        return scaled * std + mean

    def read(self, X: Any) -> Panel:
        """The table as a checked `Panel`, by this forecaster's column names."""
        if isinstance(X, Panel):
            return X
        columns = Columns(
            self.id_column, self.time_column, self.target_column, tuple(self.covariates)
        )
        return read_panel(X, columns, missing=self.missing)

    def known(self, X: Any) -> Panel:
        """The table as a `Panel` whose series and frequency are those of training."""
        if not hasattr(self, "net_"):
            raise ModelError("this Forecaster has no model yet; call fit, or Forecaster.load")
        panel = self.read(X)
        for series in panel.series:
            if series.id not in self.scales_:
                some = ", ".join(map(repr, list(self.scales_)[:3]))
                raise DataError(
                    f"{panel.name}: unknown series {series.id!r}; the model was trained on {some}"
                    f"{' and more' if len(self.scales_) > 3 else ''}; leave it out or train again"
                )
        if panel.frequency != self.frequency_:
            raise DataError(
                f"{panel.name}: rows are {panel.frequency} apart, the model was trained on "
                f"{self.frequency_}; resample the table"
            )
        return panel

    def save(self, path: str | os.PathLike[str], scores: str = "") -> None:
        """Write the model folder: weights, configuration and card, with `scores` in it."""
        if not hasattr(self, "net_"):
            raise ModelError("this Forecaster has no model yet; call fit first")
        config = {
            "settings": self.get_params(),
            "recipe": asdict(self.recipe_),
            "frequency": asdict(self.frequency_),
            "inputs": list(self.inputs_),
            "scales": {id: asdict(scale) for id, scale in self.scales_.items()},
            "ends": self.ends_,
            "data": self.data_,
            "history": self.history_,
            "best_epoch": self.best_epoch_,
        }
        save_model(Path(path), FORMAT, config, self.net_, model_card(config, scores))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Forecaster:
        """The forecaster that `save` wrote to the folder `path`.

        Raises `ModelError` when it is no model folder, damaged, or from a newer version.
        """
        folder = Path(path)
        config = load_config(folder, FORMAT)
        try:
            model = cls(**_tuples(config["settings"]))
            model.recipe_ = Recipe(**_tuples(config["recipe"]))
            model.frequency_ = Frequency(**config["frequency"])
            model.scales_ = {id: Scale(**_tuples(s)) for id, s in config["scales"].items()}
            model.inputs_ = (int(config["inputs"][0]), int(config["inputs"][1]))
            model.ends_, model.data_ = config["ends"], config["data"]
            model.history_, model.best_epoch_ = config["history"], config["best_epoch"]
            with own_random_numbers():
                model.net_ = model._network(model.recipe_, *model.inputs_)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ModelError(
                f"{folder / 'config.json'}: incomplete ({error}); train or copy the model again"
            ) from error
        load_weights(folder, model.net_)
        model.net_.eval()
        return model

    def _check_settings(self) -> None:
        for name in (
            "horizon",
            "hidden_size",
            "num_layers",
            "batch_size",
            "max_epochs",
            "patience",
        ):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise DataError(
                    f"{name}={getattr(self, name)!r}; expected a whole number from 1 on"
                )
        if not 0 < self.validation < 0.9:
            raise DataError(f"validation={self.validation!r}; expected a share between 0 and 0.9")
        if not 0 <= self.dropout < 1:
            raise DataError(f"dropout={self.dropout!r}; expected a share from 0 to below 1")
        if not self.learning_rate > 0:
            raise DataError(f"learning_rate={self.learning_rate!r}; expected a number above 0")
        if self.seed < 0:
            raise DataError(f"seed={self.seed!r}; expected a whole number from 0 on")
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"device={self.device!r} cannot be used here: {reason}") from error

    def _plan(self) -> Plan:
        names = ("learning_rate", "batch_size", "max_epochs", "patience", "gradient_clip")
        names += ("averaging", "seed", "device")
        return Plan(**{name: getattr(self, name) for name in names})

    def _origins(self, windows: Windows, counts: list[int]) -> tuple[Origins, Origins]:
        H, first = self.horizon, windows.recipe.history - 1
        training = [(first, count - 1 - H) for count in counts]
        tail = [
            (max(first, count - 1), length - 1 - H)
            for count, length in zip(counts, windows.lengths, strict=True)
        ]
        span = min(SPAN, *(last - begin + 1 for begin, last in training + tail))
        return (
            Origins(windows, training, span, self.seed, shuffled=True),
            Origins(windows, tail, span, self.seed, shuffled=False),
        )

    def _network(self, recipe: Recipe, inputs: int, calendar: int) -> ForecastNet:
        candidates = len(recipe.lags) + 1
        favored = tuple(recipe.lags.index(lag) for lag in recipe.main_lags)
        return ForecastNet(
            input_size=inputs,
            known_size=candidates + calendar,
            candidates=candidates,
            horizon=self.horizon,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            dropout=self.dropout,
            cell=self.cell,
            favored=favored,
        )

    def _take(
        self,
        panel: Panel,
        recipe: Recipe,
        scales: dict[str, Scale],
        net: ForecastNet,
        progress: Progress,
    ) -> None:
        self.recipe_, self.frequency_, self.scales_ = recipe, panel.frequency, scales
        self.net_ = net
        self.inputs_ = net.sizes
        self.history_, self.best_epoch_ = progress.history, progress.best_epoch
        self.ends_ = {series.id: str(series.times[-1]) for series in panel.series}
        self.data_ = {
            "name": Path(panel.name).name,
            "sha256": panel.digest,
            "series": len(panel.series),
            "rows": len(panel),
            "missing": int(sum((~series.observed).sum() for series in panel.series)),
            "first": show(min(series.times[0] for series in panel.series)),
            "last": show(max(series.times[-1] for series in panel.series)),
            "frequency": str(panel.frequency),
        }

    def _first_new(self, panel: Panel, series: Series) -> int:
        ordinals = panel.frequency.ordinals(
            np.array([series.times[0], np.datetime64(self.ends_[series.id], "us")])
        )
        return max(0, int(ordinals[1] - ordinals[0]) + 1)


def _where(series: Series) -> str:
    return f" (series {series.id!r})" if series.id else ""


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON's lists as the tuples that were written."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}

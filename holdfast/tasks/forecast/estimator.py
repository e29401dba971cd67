"""`Forecaster`: from a long table to the next H values of every series in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from holdfast.data.covariates import Schema
from holdfast.data.folder import is_folder, read_folder
from holdfast.data.frequency import Frequency, show
from holdfast.data.optional import require
from holdfast.data.panel import Panel, Series, read_panel
from holdfast.data.scaling import Scaling
from holdfast.data.tables import TARGET, TIME
from holdfast.data.windows import Recipe, Windows, make_windows
from holdfast.errors import DataError, ModelError
from holdfast.tasks.checkpoint import Progress, Run
from holdfast.tasks.forecast import metrics
from holdfast.tasks.forecast.card import model_card
from holdfast.tasks.forecast.choosing import chosen
from holdfast.tasks.forecast.cross_validation import Backtest, cross_validate
from holdfast.tasks.forecast.fitting import Course, Fitted, fit_networks, new_network
from holdfast.tasks.forecast.forecasts import Forecasts, shares_of, to_frame
from holdfast.tasks.forecast.intervals import HeldOut, conform, measure, without_calibration
from holdfast.tasks.forecast.origins import origins_to_score
from holdfast.tasks.forecast.rolled import Rolled
from holdfast.tasks.forecast.samples import sample
from holdfast.tasks.forecast.settings import check_settings, columns_of
from holdfast.tasks.forecast.shards import predict_shards
from holdfast.tasks.forecast.short import only, warn_of_few_rows
from holdfast.tasks.forecast.stream import Stream
from holdfast.tasks.model_folder import load_config, load_weights, save_model, whole
from holdfast.tasks.parameters import Estimator, as_model, tuples, unfitted
from holdfast.tasks.team import Team

FORMAT = "holdfast.forecast"


class Forecaster(Estimator):
    """Forecast the next `horizon` values of one or many series with a recurrent network.

    >>> from holdfast.data import load_metro_traffic
    >>> from holdfast.tasks import Forecaster
    >>> table = load_metro_traffic().tail(2500)
    >>> model = Forecaster(horizon=24, missing="fill", hidden_size=8, max_epochs=1).fit(table)
    >>> model.predict(table).shape
    (24, 2)

    Tables are long: a row a series and time. `id_column` None means `unique_id` if the table has
    it, else one series. `past`, `future` and `static` name covariates by what is known of them;
    they hold numbers, but for those that `categorical` names (labels) and `text` names (words).
    `missing` (``"error"`` or ``"fill"``) says what happens to gaps and empty values.

    `model` is one of `holdfast.tasks.forecast.nets.NETS`, or ``"auto"``, which tries several within
    `budget` seconds and says why in ``chosen_["reason"]``; `cell` any cell of the catalogue, and
    `options` what a model has beyond the settings here. `output` is ``"point"`` (with `loss`
    ``"mae"``, ``"mse"`` or ``"huber"``), ``"quantiles"`` (at `quantiles`), ``"gaussian"``,
    ``"student_t"`` or ``"negative_binomial"``. `scaling` is one of `holdfast.data.scaling.KINDS`.

    `intervals` ``"conformal"`` keeps the share `calibration` of each series' end away from training
    and measures on it how wide intervals have to be.

    `window`, `seasons` and `lags` (all in rows) follow from the frequency unless given.
    `validation` is the share (or, from 1 on, the rows) of each series' end on which early stopping
    watches; `patience` counts epochs, of at most `epoch_steps` steps each; `averaging` is the decay
    of the running average of the weights, which is what is kept. `augment` names changes of the
    windows that are trained on (`holdfast.tasks.forecast.augment`). `members` networks, each from
    its own seed, are trained and their forecasts averaged. `seed` alone decides every random
    number; the global generators stay as they are.

    Fitted attributes: `recipe_`, `frequency_`, `schema_`, `scaling_`, `left_out_` (ids of series
    too short to train), `net_`, `history_` (losses by epoch).
    """

    def __init__(
        self,
        horizon: int = 24,
        *,
        model: str = "direct",
        output: str = "point",
        loss: str = "mae",
        quantiles: tuple[float, ...] | list[float] = (),
        id_column: str | None = None,
        time_column: str = TIME,
        target_column: str = TARGET,
        past: tuple[str, ...] | list[str] = (),
        future: tuple[str, ...] | list[str] = (),
        static: tuple[str, ...] | list[str] = (),
        categorical: tuple[str, ...] | list[str] = (),
        text: tuple[str, ...] | list[str] = (),
        missing: str = "error",
        scaling: str = "standard",
        intervals: str | None = None,
        calibration: float = 0.1,
        window: int | None = None,
        seasons: tuple[int, ...] | list[int] | None = None,
        lags: tuple[int, ...] | list[int] | None = None,
        cell: str = "lstm",
        hidden_size: int = 64,
        num_layers: int = 1,
        dropout: float = 0.1,
        options: dict[str, Any] | None = None,
        learning_rate: float = 4e-3,
        weight_decay: float = 0.0,
        schedule: str = "constant",
        batch_size: int = 32,
        max_epochs: int = 50,
        epoch_steps: int = 500,
        patience: int = 12,
        validation: float | int = 0.1,
        gradient_clip: float = 1.0,
        averaging: float = 0.98,
        augment: tuple[str, ...] | list[str] = (),
        members: int = 1,
        budget: float = 60.0,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.horizon = horizon
        self.model = model
        self.output = output
        self.loss = loss
        self.quantiles = quantiles
        self.id_column = id_column
        self.time_column = time_column
        self.target_column = target_column
        self.past = past
        self.future = future
        self.static = static
        self.categorical = categorical
        self.text = text
        self.missing = missing
        self.scaling = scaling
        self.intervals = intervals
        self.calibration = calibration
        self.window = window
        self.seasons = seasons
        self.lags = lags
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.dropout = dropout
        self.options = options
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.epoch_steps = epoch_steps
        self.patience = patience
        self.validation = validation
        self.gradient_clip = gradient_clip
        self.averaging = averaging
        self.augment = augment
        self.members = members
        self.budget = budget
        self.seed = seed
        self.device = device

    def fit(
        self,
        X: Any,
        y: None = None,
        *,
        static: Any = None,
        start: Forecaster | str | os.PathLike[str] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        report: Callable[[Progress], None] | None = None,
        team: Team | None = None,
    ) -> Forecaster:
        """Train on a table (path, frame, folder of Parquet files, or a `Panel`) and return self.

        `static` is a table with one row for each id, where the static columns do not stand in X.
        `start` is an earlier `Forecaster` of the same shape, or its folder: training goes on from
        its weights and keeps its windows, which helps where there are few rows. With `checkpoint`,
        every epoch is written to that file; with `resume`, training goes on from it (from the start
        when it is not there) to the same result as without the interruption. `report` is called
        after every epoch with the `Progress`; methods ``steps`` and ``trial`` of it, as of
        `holdfast.tasks.progress.Watcher`, are told of what is between. A `team` of processes shares
        every batch.

        Raises `DataError` for tables that cannot be used, `ModelError` for a checkpoint that does
        not fit or a full disk.
        """
        check_settings(self.get_params())
        self.chosen_ = {"changes": {}, "reason": "as given", "table": ""}
        whole = self.read(X, static=static)
        panel = without_calibration(self, whole)
        begin = None if start is None else as_model(start, type(self).load)
        file = None if checkpoint is None else Path(checkpoint)
        trained = self
        if self.model == "auto":
            self.chosen_ = chosen(self, panel, file, resume, getattr(report, "trial", None))
            trained = unfitted(self).set_params(**self.chosen_["changes"])
        fitted = fit_networks(trained, panel, Course(Run(file, resume, report), begin, team))
        whole = only(replace(whole, schema=panel.schema), fitted.left_out)
        self._take(whole, fitted)
        self.held_out_ = measure(self, whole, fitted.panel, self._windows)
        return self

    def predict(
        self,
        X: Any,
        *,
        static: Any = None,
        future: Any = None,
        levels: tuple[float, ...] | list[float] = (),
        quantiles: tuple[float, ...] | list[float] = (),
    ) -> Any:
        """The `horizon` values after the end of each series: id, time and ``forecast``.

        Of each series only the last `recipe_.history` rows are needed; one that training did not
        know is scaled by its own rows. `future` is a table of the future covariates after the end
        of each series; rows of X without a target serve as well. `levels` (in percent) add
        ``forecast-lo-80`` and ``forecast-hi-80``, `quantiles` add ``forecast-q10``. The frame is of
        the kind that was given (polars for a file or folder). Costs one forward pass.

        Raises `DataError` for unknown futures, warns of series with fewer rows than the window.
        """
        if is_folder(X) and hasattr(self, "nets_") and not self.net_.joint:
            shards = predict_shards(self, X, static, future, levels=levels, quantiles=quantiles)
            return require("polars").concat(list(shards))
        recent = self.recent(self.known(X, static=static, future=future))
        windows = self._windows(recent)
        shares = shares_of(levels, quantiles)
        forecasts = self.forecast_from(windows, windows.last(), tuple(shares.values()))
        return to_frame(forecasts, recent, self.id_column, self.time_column, tuple(shares))

    def predict_samples(
        self, X: Any, n: int = 100, *, static: Any = None, future: Any = None, seed: int = 0
    ) -> Any:
        """`n` whole futures of each series, columns ``forecast-sample-1`` and so on.

        Every step keeps the distribution that `predict` gives quantiles of, and steps hang together
        as the model says, or as its errors on held-out rows did. `seed` chooses the futures.

        Raises `DataError` for a model of points alone, and as `predict` does.
        """
        recent = self.recent(self.known(X, static=static, future=future))
        windows = self._windows(recent)
        futures = sample(self, windows, windows.last(), n, seed)
        names = tuple(f"sample-{k + 1}" for k in range(n))
        return to_frame(futures, recent, self.id_column, self.time_column, names)

    def score(self, X: Any, y: None = None) -> float:
        """R² of rolling forecasts over the rows of the table that follow those of training."""
        rolled = self.roll(X)
        return metrics.r2(rolled.truth, rolled.forecast, rolled.weight)

    def roll(
        self,
        X: Any,
        *,
        static: Any = None,
        last: int | None = None,
        step: int | None = None,
        quantiles: tuple[float, ...] | list[float] = (),
    ) -> Rolled:
        """Forecasts from many origins over rows that training has not seen, with the truth beside.

        The origins are `step` (default: `horizon`) rows apart and cover the last `last` rows of
        each series, by default all that follow the end of training.
        """
        panel = self.known(X, static=static)
        starts, chosen, blocks = origins_to_score(self, panel, last, step)
        forecasts = self.forecast_from(self._windows(panel), blocks, tuple(quantiles))
        return Rolled(panel, starts, chosen, forecasts, self.horizon)

    def stream(self, X: Any = None, *, static: Any = None, memory: str = "window") -> Stream:
        """Forecasts from observations that come one by one, beginning with those of X."""
        if not hasattr(self, "nets_"):
            raise ModelError("this Forecaster has no model yet; call fit, or Forecaster.load")
        return Stream(self, X, static=static, memory=memory)

    def cross_validate(
        self,
        X: Any,
        n_windows: int = 3,
        step: int | None = None,
        refit: bool | int = False,
        *,
        levels: tuple[float, ...] | list[float] = (),
        quantiles: tuple[float, ...] | list[float] = (),
        static: Any = None,
    ) -> Backtest:
        """Forecasts from several cutoffs, each as if nothing later existed, and their scores.

        Copies of this forecaster are trained on the rows before a cutoff; it stays as it is. See
        `holdfast.tasks.forecast.cross_validation.cross_validate`.
        """
        return cross_validate(self, X, n_windows, step, refit, levels, quantiles, static)

    def forecast_from(
        self, windows: Windows, blocks: np.ndarray, quantiles: tuple[float, ...] = ()
    ) -> Forecasts:
        """Forecasts in the user's unit from W origins, `blocks` (W, 2) of series and row."""
        return conform(self.held_out_, self.nets_, windows, blocks, quantiles, self.seed)

    def recent(self, panel: Panel) -> Panel:
        """The rows that forecasts after the end of a panel need; refuses unknown futures."""
        warn_of_few_rows(panel, self.recipe_)
        history = self.recipe_.history
        found = panel.map(lambda series: series[max(0, len(series) - history) :])
        self._check_future(found)
        return found

    def read(self, X: Any, *, static: Any = None, future: Any = None, known: Any = None) -> Panel:
        """The table as a checked `Panel`, by this forecaster's column names."""
        if isinstance(X, Panel):
            return X
        reader = read_folder if is_folder(X) else read_panel
        beside = {"static": static, "future": future, "frequency": known}
        return reader(X, columns_of(vars(self)), missing=self.missing, **beside)

    def known(self, X: Any, *, static: Any = None, future: Any = None) -> Panel:
        """The table as a `Panel` whose frequency is that of training."""
        if not hasattr(self, "nets_"):
            raise ModelError("this Forecaster has no model yet; call fit, or Forecaster.load")
        panel = self.read(X, static=static, future=future, known=self.frequency_)
        if panel.frequency != self.frequency_:
            raise DataError(
                f"{panel.name}: rows are {panel.frequency} apart, the model was trained on "
                f"{self.frequency_}; resample the table"
            )
        return _same_series(panel, tuple(self.ends_)) if self.net_.joint else panel

    def save(self, path: str | os.PathLike[str], scores: str = "") -> None:
        """Write the model folder: weights, configuration and card, with `scores` in it."""
        if not hasattr(self, "nets_"):
            raise ModelError("this Forecaster has no model yet; call fit first")
        config = {
            "settings": {**self.get_params(), **self.chosen_["changes"]},
            "chosen": self.chosen_,
            "recipe": asdict(self.recipe_),
            "frequency": asdict(self.frequency_),
            "schema": self.schema_.as_json(),
            "calendar": self.calendar_,
            "scaling": self.scaling_.as_json(),
            "ends": self.ends_,
            "data": self.data_,
            "history": self.history_,
            "best_epoch": self.best_epoch_,
            "members": self.members_,
            "held_out": self.held_out_.as_json() if self.held_out_ is not None else None,
        }
        save_model(Path(path), FORMAT, config, self.nets_, model_card(config, scores))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Forecaster:
        """The forecaster that `save` wrote to the folder `path`.

        Raises `ModelError` when it is no model folder, damaged, or from a newer version.
        """
        folder = Path(path)
        config = load_config(folder, FORMAT)
        with whole(folder):
            model = cls(**tuples(config["settings"]))
            model.recipe_ = Recipe(**tuples(config["recipe"]))
            model.frequency_ = Frequency(**config["frequency"])
            model.schema_ = Schema.from_json(config["schema"])
            model.scaling_ = Scaling.from_json(config["scaling"])
            model.calendar_ = int(config["calendar"])
            model.ends_, model.data_ = config["ends"], config["data"]
            model.left_out_ = tuple(model.data_["left_out"])
            model.history_, model.best_epoch_ = config["history"], config["best_epoch"]
            model.members_, model.chosen_ = config["members"], config["chosen"]
            held = config.get("held_out")
            model.held_out_ = HeldOut.from_json(held, model.horizon) if held else None
            shapes = (model.recipe_, model.schema_, model.calendar_, len(model.ends_))
            model.nets_ = nn.ModuleList(
                new_network(model, *shapes, member) for member in range(model.members)
            )
        load_weights(folder, model.nets_)
        model.nets_.eval()
        return model

    @property
    def net_(self) -> Any:
        """The first network; the only one unless `members` says otherwise."""
        return self.nets_[0]

    def _windows(self, panel: Panel) -> Windows:
        known = {id: place for place, id in enumerate(self.ends_)}
        return make_windows(panel, self.scaling_, self.recipe_, self.schema_, known)

    def _take(self, panel: Panel, fitted: Fitted) -> None:
        self.left_out_ = fitted.left_out
        self.recipe_, self.frequency_ = fitted.recipe, panel.frequency
        self.scaling_, self.schema_ = fitted.scaling, panel.schema
        self.nets_, self.calendar_ = fitted.nets, fitted.calendar
        first = fitted.progress[0]
        self.history_, self.best_epoch_ = first.history, first.best_epoch
        self.members_ = [
            {"history": p.history, "best_epoch": p.best_epoch} for p in fitted.progress[1:]
        ]
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
            "left_out": list(self.left_out_),
        }

    def _check_future(self, panel: Panel) -> None:
        """Refuse series of which the future covariates are not known to the horizon."""
        names = [covariate.name for covariate in self.schema_.of("future")]
        for series in panel.series:
            there = len(series.future) - len(series)
            if names and there < self.horizon:
                raise DataError(
                    f"{panel.name}{_where(series)}: {', '.join(map(repr, names))} must be known "
                    f"for {self.horizon} rows after {show(series.times[-1])}, got {there}; give "
                    "them in `future` (--future-table), or as rows with an empty target"
                )


def _same_series(panel: Panel, wanted: tuple[str, ...]) -> Panel:
    """The panel in the order of training; a model of places needs all of them, and no other."""
    given = {series.id: series for series in panel.series}
    for id in sorted(given.keys() ^ set(wanted)):
        what = "is missing" if id in wanted else "is unknown"
        raise DataError(
            f"{panel.name}: series {id!r} {what}; this model reads {len(wanted)} places together: "
            f"{', '.join(map(repr, wanted[:3]))}{' and more' if len(wanted) > 3 else ''}"
        )
    return replace(panel, series=tuple(given[id] for id in wanted))


def _where(series: Series) -> str:
    return f" (series {series.id!r})" if series.id else ""

"""Forecasters behind the methods of Nixtla's libraries, with frames of the same columns.

A program that was written for `neuralforecast.NeuralForecast` runs with another import and other
models: ``fit(df)``, ``predict(level=[80])``, ``cross_validation(df)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.data.panel import Panel
from holdfast.data.tables import ID, TARGET, TIME, load_frame, make_frame
from holdfast.errors import DataError, ModelError
from holdfast.tasks.forecast.cross_validation import cross_validate
from holdfast.tasks.forecast.estimator import Forecaster
from holdfast.tasks.parameters import unfitted


class NixtlaForecaster:
    """Several forecasters on one table, each in columns of its name.

    >>> from holdfast.data import load_metro_traffic
    >>> table = load_metro_traffic().tail(2500).select("ds", "y")
    >>> model = Forecaster(24, missing="fill", hidden_size=8, max_epochs=1)
    >>> nf = NixtlaForecaster([model]).fit(table)
    >>> nf.predict().columns
    ['ds', 'LSTM']

    Arguments:
        models: forecasters, by name or in a list; the name in a list is that of the cell (LSTM,
            GRU), with a number from the second of a kind on. Which columns are covariates, the
            forecasters say (`past`, `future`, `static`).
        freq: accepted for the sake of programs that give it; the frequency is found in the times.

    A `level` needs a forecaster that gives intervals: ``output="quantiles"`` or a distribution, or
    ``intervals="conformal"``.
    """

    def __init__(
        self,
        models: Sequence[Forecaster] | Mapping[str, Forecaster],
        freq: Any = None,
        *,
        id_col: str = ID,
        time_col: str = TIME,
        target_col: str = TARGET,
    ) -> None:
        self.models = dict(models) if isinstance(models, Mapping) else _named(models)
        if not self.models:
            raise DataError("models: got none; give at least one Forecaster")
        self.freq = freq
        self.columns = {"id_column": id_col, "time_column": time_col, "target_column": target_col}

    def fit(self, df: Any, static_df: Any = None, val_size: int | None = None) -> NixtlaForecaster:
        """Train copies of all models on a long table; early stopping watches `val_size` rows."""
        self.fitted_ = {
            name: self._copy(model, df, val_size).fit(df, static=static_df)
            for name, model in self.models.items()
        }
        # What `predict` reads when it is given no table.
        self._given = df, static_df
        self._last = {
            name: _tail(model.known(df, static=static_df), model)
            for name, model in self.fitted_.items()
        }
        return self

    def predict(
        self,
        df: Any = None,
        static_df: Any = None,
        futr_df: Any = None,
        level: Sequence[float] = (),
    ) -> Any:
        """The values after the end of `df` (or of the table of training) as a long frame.

        `futr_df` holds the future covariates after it. Columns: id, time, then for every model its
        name, ``LSTM-lo-95``, ``LSTM-lo-80``, ``LSTM-hi-80``, ``LSTM-hi-95``.
        """
        if not hasattr(self, "fitted_"):
            raise ModelError("no model is trained yet; call fit")
        columns: dict[str, Any] = {}
        backend = ""
        for name, model in self.fitted_.items():
            if df is None and futr_df is None:
                table = self._last[name]
            else:
                data, static = self._given if df is None else (df, static_df)
                table = model.known(data, static=static, future=futr_df)
            frame, _ = load_frame(model.predict(table, levels=tuple(level)))
            if not columns:
                backend = frame.implementation.value
                keys = [c for c in frame.columns if not c.startswith("forecast")]
                columns = {key: frame[key] for key in keys}
            columns[name] = frame["forecast"]
            for mark in _marks(level):
                columns[f"{name}-{mark}"] = frame[f"forecast-{mark}"]
        return self._frame(columns, backend)

    def cross_validation(
        self,
        df: Any,
        static_df: Any = None,
        n_windows: int = 1,
        step_size: int = 1,
        val_size: int | None = None,
        refit: bool | int = False,
        level: Sequence[float] = (),
    ) -> Any:
        """Forecasts from several cutoffs: id, time, cutoff, the models' columns, and the target."""
        columns: dict[str, Any] = {}
        kept: Any = None
        for name, model in self.models.items():
            one = self._copy(model, df, val_size)
            test = cross_validate(
                one, df, n_windows, step_size, refit, tuple(level), static=static_df
            )
            frame, _ = load_frame(test.frame())
            if not columns:
                kept = frame
                keys = (self.columns["id_column"], self.columns["time_column"], "cutoff")
                columns = {key: frame[key] for key in keys if key in frame.columns}
            columns[name] = frame["forecast"]
            for mark in _marks(level):
                columns[f"{name}-{mark}"] = frame[f"forecast-{mark}"]
        columns[self.columns["target_column"]] = kept[self.columns["target_column"]]
        return self._frame(columns, kept.implementation.value)

    def _frame(self, columns: dict[str, Any], backend: str) -> Any:
        """Columns of several frames as one."""
        id_column = self.columns["id_column"]
        plain = {k: c.to_list() if k == id_column else c.to_numpy() for k, c in columns.items()}
        return make_frame(plain, backend)

    def _copy(self, model: Forecaster, df: Any, val_size: int | None) -> Forecaster:
        """The settings of a model with the names of these columns."""
        copy: Forecaster = unfitted(model)
        columns = dict(self.columns)
        if columns["id_column"] not in load_frame(df)[0].columns:
            del columns["id_column"]
        validation = {"validation": int(val_size)} if val_size else {}
        return copy.set_params(**columns, **validation)


def _named(models: Sequence[Forecaster]) -> dict[str, Forecaster]:
    """Models by the names of their cells; from the second of a kind on with a number."""
    named: dict[str, Forecaster] = {}
    for model in models:
        plain = model.cell.upper()
        count = sum(name.rstrip("0123456789") == plain for name in named)
        named[f"{plain}{count}" if count else plain] = model
    return named


def _marks(levels: Sequence[float]) -> list[str]:
    """The columns of intervals from the lowest to the highest."""
    ordered = sorted(levels)
    return [f"lo-{level:g}" for level in reversed(ordered)] + [f"hi-{level:g}" for level in ordered]


def _tail(panel: Panel, model: Forecaster) -> Panel:
    """The rows of every series that a forecast reads."""
    history = model.recipe_.history
    return panel.map(lambda series: series[max(0, len(series) - history) :])

"""The forecaster as one of sktime's: ``fit(y, X, fh)``, ``predict(fh, X)``, intervals, tuning.

Wants the extra `sktime`. Importing this module imports sktime.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from holdfast.data.optional import require
from holdfast.errors import DataError
from holdfast.tasks.forecast.estimator import Forecaster
from holdfast.tasks.forecast.intervals import reach
from holdfast.tasks.parameters import unfitted

BaseForecaster: Any = require("sktime.forecasting.base", "sktime").BaseForecaster
# An index of plain numbers is read as steps of seven seconds, which divide no day: no seasons.
BEGIN, STEP = np.datetime64("2000-01-03", "us"), np.timedelta64(7_000_000, "us")


class SktimeForecaster(BaseForecaster):
    """A `Forecaster` that sktime can fit, tune, evaluate and combine.

    >>> from sktime.datasets import load_airline
    >>> from holdfast.tasks import Forecaster
    >>> from holdfast.tasks.forecast.sktime_adapter import SktimeForecaster
    >>> y = load_airline()
    >>> model = Forecaster(window=12, hidden_size=4, max_epochs=1)
    >>> SktimeForecaster(model).fit(y, fh=[1, 2, 3]).predict().shape
    (3,)

    `forecaster` is a `Forecaster` (None: one with its defaults); its horizon becomes the farthest
    step of `fh`. Numbers in X are covariates whose future is known. An index of dates, periods or
    whole numbers is taken; several series are fitted one by one, as sktime does. Quantiles and
    intervals need a forecaster with a distribution, ``output="quantiles"`` or
    ``intervals="conformal"``.

    Errors: `DataError` for steps that are not after the end, and as `Forecaster.fit` says.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "authors": ["The Holdfast authors"],
        "python_dependencies": None,
        "y_inner_mtype": "pd.Series",
        "X_inner_mtype": "pd.DataFrame",
        "capability:multivariate": False,
        "capability:exogenous": True,
        "capability:insample": False,
        "capability:pred_int": True,
        "capability:pred_int:insample": False,
        "capability:missing_values": False,
        "capability:update": True,
        "capability:categorical_in_X": False,
        "requires-fh-in-fit": True,
    }

    # The rows that `predict` reads are kept here, not by sktime.
    _config: ClassVar[dict[str, Any]] = {"remember_data": False}

    def __init__(self, forecaster: Forecaster | None = None) -> None:
        self.forecaster = forecaster
        super().__init__()
        # sktime's own store, where it is asked to keep one.
        self._y = self._X = None
        if forecaster is not None and forecaster.output == "point" and not forecaster.intervals:
            self.set_tags(**{"capability:pred_int": False})

    def _fit(self, y: Any, X: Any, fh: Any) -> SktimeForecaster:
        steps = self._steps(fh)
        model: Forecaster = unfitted(self.forecaster or Forecaster())
        self._covariates = [] if X is None else [f"x{place}" for place in range(X.shape[1])]
        names = {"id_column": None, "time_column": "ds", "target_column": "y"}
        model.set_params(horizon=int(steps.max()), future=tuple(self._covariates), **names)
        self._rows: Any = y
        self._covariate_rows: Any = X
        self._name = y.name
        self.forecaster_ = model.fit(self._table())
        return self

    def _update(self, y: Any, X: Any = None, update_params: bool = True) -> SktimeForecaster:
        """Add rows after those that are known; with `update_params`, train anew on all of them."""
        if self._covariates and X is None:
            raise DataError(
                "update: got no X, but the forecaster was fitted with one; give its rows"
            )
        rows = _joined(self._rows, y)
        covariates = _joined(self._covariate_rows, X) if self._covariates else None
        self._rows, self._covariate_rows = rows, covariates
        return self._fit(rows, covariates, self.fh) if update_params else self

    def _predict(self, fh: Any, X: Any) -> Any:
        frame = self._ahead(X)
        return self._series(frame["forecast"].to_numpy(), fh)

    def _predict_quantiles(self, fh: Any, X: Any, alpha: list[float]) -> Any:
        pandas = require("pandas")
        limits = reach(self.forecaster_.nets_, self.forecaster_.held_out_)
        if limits is None:
            raise DataError("this forecaster says no more than a point; fit one with intervals")
        shares = tuple(dict.fromkeys(float(a) for a in alpha))
        frame = self._ahead(X, shares)
        name = self._name if self._name is not None else 0
        steps = self._steps(fh) - 1
        values = {
            (name, a): frame[f"forecast-q{100 * float(a):g}"].to_numpy()[steps] for a in alpha
        }
        index = fh.to_absolute_index(self.cutoff)
        columns = pandas.MultiIndex.from_tuples(values)
        return pandas.DataFrame(np.stack(list(values.values()), 1), index=index, columns=columns)

    def _ahead(self, X: Any, shares: tuple[float, ...] = ()) -> Any:
        """The frame of forecasts after the end of what has been seen."""
        future = None
        if self._covariates:
            known = X if X is not None else self._covariate_rows
            future = self._every_step(self._named(known[known.index > self._rows.index[-1]]))
        return self.forecaster_.predict(self._table(), future=future, quantiles=shares)

    def _every_step(self, given: Any) -> Any:
        """The covariates of every step ahead; a step that was not given takes its neighbor's."""
        model = self.forecaster_
        if not len(given):
            return given
        last = self._times(self._rows.index[-1:])[0]
        times = require("pandas").Index(model.frequency_.after(last, model.horizon), name="ds")
        return given.set_index("ds").reindex(times).ffill().bfill().reset_index()

    def _table(self) -> Any:
        """What has been seen as a long table of one series."""
        pandas, y = require("pandas"), self._rows
        columns: dict[str, Any] = {"ds": self._times(y.index), "y": y.to_numpy(dtype=np.float64)}
        if self._covariates:
            named = self._named(self._covariate_rows.loc[y.index])
            columns |= {name: named[name].to_numpy() for name in self._covariates}
        return pandas.DataFrame(columns)

    def _named(self, X: Any) -> Any:
        """X as a table of times and covariates."""
        pandas = require("pandas")
        columns: dict[str, Any] = {"ds": self._times(X.index)}
        for place, name in enumerate(self._covariates):
            columns[name] = X.iloc[:, place].to_numpy(dtype=np.float64)
        return pandas.DataFrame(columns)

    def _times(self, index: Any) -> np.ndarray:
        """The index as times; the same number is always the same time."""
        pandas = require("pandas")
        if isinstance(index, pandas.PeriodIndex):
            index = index.to_timestamp()
        if isinstance(index, pandas.DatetimeIndex):
            return index.to_numpy().astype("datetime64[us]")
        return BEGIN + index.to_numpy().astype(np.int64) * STEP

    def _steps(self, fh: Any) -> np.ndarray:
        """The horizon as steps after the cutoff, from 1 on."""
        steps = fh.to_relative(self.cutoff).to_numpy().astype(np.int64)
        if steps.min() < 1:
            raise DataError(f"fh={steps.tolist()}; this forecaster says what comes, from step 1 on")
        return steps

    def _series(self, values: np.ndarray, fh: Any) -> Any:
        pandas = require("pandas")
        index = fh.to_absolute_index(self.cutoff)
        return pandas.Series(values[self._steps(fh) - 1], index=index, name=self._name)

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Settings small enough for sktime's own tests."""
        small: dict[str, Any] = {"window": 2, "seasons": (), "lags": (), "hidden_size": 2}
        small |= {"max_epochs": 1, "validation": 1}
        return [
            {"forecaster": Forecaster(**small)},
            {"forecaster": Forecaster(**small, output="gaussian")},
        ]


def _joined(rows: Any, more: Any) -> Any:
    """Rows and later ones; of those with the same index, the later."""
    both = require("pandas").concat([rows, more])
    return both[~both.index.duplicated(keep="last")].sort_index()

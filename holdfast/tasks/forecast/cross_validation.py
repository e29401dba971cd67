"""Cross-validation in time: forecasts from several cutoffs, each as if nothing later existed.

The table is cut at every cutoff: scales, windows, labels, weights and conformal intervals come from
the rows before it alone. What is known beforehand (future covariates) is used up to the horizon.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from holdfast.data.cut import cut
from holdfast.data.optional import require
from holdfast.data.panel import Panel
from holdfast.data.tables import ID, TARGET, TIME, make_frame
from holdfast.errors import DataError
from holdfast.tasks.forecast import baselines, metrics
from holdfast.tasks.forecast.forecasts import Forecasts, shares_of
from holdfast.tasks.parameters import unfitted

if TYPE_CHECKING:
    from holdfast.tasks.forecast.estimator import Forecaster

CUTOFF, OURS = "cutoff", "forecast"
NAIVE, SEASONAL = "Naive", "SeasonalNaive"


@dataclass(frozen=True)
class Window:
    """Forecasts after one cutoff of every series that has rows there.

    `rows` is the last known row of each series `owner`; truth, weight and `forecasts` are (S, H),
    as are those of the baselines. `scale` (S,) is what MASE divides by.
    """

    owner: np.ndarray
    rows: np.ndarray
    truth: np.ndarray
    weight: np.ndarray
    forecasts: Forecasts
    others: dict[str, np.ndarray]
    scale: np.ndarray


@dataclass(frozen=True)
class Backtest:
    """What cross-validation found: a long frame, and tables of scores.

    `names` are the columns of quantiles, ``lo-80`` and so on.
    """

    panel: Panel
    windows: tuple[Window, ...]
    names: tuple[str, ...]
    columns: tuple[str, str, str] = (ID, TIME, TARGET)

    def frame(self, alias: str = OURS) -> Any:
        """Every forecast beside what came: id, time, cutoff, target, forecasts, quantiles.

        The columns are those of Nixtla's libraries; a target that was not observed is NaN.
        """
        id_column, time, target = self.columns
        keys = [self._keys(window) for window in self.windows]
        columns: dict[str, Any] = {}
        if self.panel.has_ids:
            columns[id_column] = [id for ids, _, _ in keys for id in ids]
        columns[time] = np.concatenate([times for _, times, _ in keys])
        columns[CUTOFF] = np.concatenate([cutoffs for _, _, cutoffs in keys])
        truth = [np.where(w.weight > 0, w.truth, np.nan).ravel() for w in self.windows]
        columns[target] = np.concatenate(truth)
        columns[alias] = np.concatenate([w.forecasts.point.ravel() for w in self.windows])
        for place, name in enumerate(self.names):
            parts = [w.forecasts.quantiles[..., place].ravel() for w in self.windows]
            columns[f"{alias}-{name}"] = np.concatenate(parts)
        for name in self.windows[0].others:
            columns[name] = np.concatenate([w.others[name].ravel() for w in self.windows])
        return make_frame(columns, self.panel.backend)

    def residuals(self) -> Any:
        """What came less what was forecast: id, time, cutoff, ``step`` (from 1 on), residual."""
        frame = require("narwhals").from_native(self.frame())
        target, H = self.columns[2], self.windows[0].truth.shape[1]
        kept = [name for name in frame.columns if name in (*self.columns[:2], CUTOFF)]
        columns: dict[str, Any] = {name: frame[name].to_list() for name in kept}
        columns["step"] = np.tile(np.arange(1, H + 1), len(frame) // H)
        columns["residual"] = frame[target].to_numpy() - frame[OURS].to_numpy()
        return make_frame(columns, self.panel.backend)

    def scores(self) -> dict[str, dict[str, float]]:
        """The scores of every method over all windows."""
        return self._scores([np.ones_like(w.weight) for w in self.windows])

    def by_window(self) -> Any:
        """Scores by cutoff (counted from 1 at the earliest), as a frame."""
        chosen = []
        for at in range(len(self.windows)):
            chosen.append([np.ones_like(w.weight) * (at == k) for k, w in enumerate(self.windows)])
        return self._table("window", list(range(1, len(self.windows) + 1)), chosen)

    def by_series(self) -> Any:
        """Scores by series, as a frame."""
        places = sorted({int(place) for w in self.windows for place in w.owner})
        chosen = [
            [np.ones_like(w.weight) * (w.owner == place)[:, None] for w in self.windows]
            for place in places
        ]
        ids = [self.panel.series[place].id for place in places]
        return self._table(self.columns[0], ids, chosen)

    def by_horizon(self) -> Any:
        """Scores by step ahead (from 1 on), as a frame."""
        H = self.windows[0].truth.shape[1]
        chosen = [
            [np.ones_like(w.weight) * (np.arange(H) == step) for w in self.windows]
            for step in range(H)
        ]
        return self._table("step", list(range(1, H + 1)), chosen)

    def _keys(self, window: Window) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Id, time and cutoff of every forecast of a window."""
        H = window.truth.shape[1]
        ids, times, cutoffs = [], [], []
        for place, row in zip(window.owner, window.rows, strict=True):
            series = self.panel.series[place]
            ids += [series.id] * H
            times.append(series.times[row + 1 : row + 1 + H])
            cutoffs.append(np.repeat(series.times[row], H))
        return ids, np.concatenate(times), np.concatenate(cutoffs)

    def _table(self, name: str, keys: list[Any], chosen: list[list[np.ndarray]]) -> Any:
        rows = [
            {name: key, "method": method, **scores}
            for key, kept in zip(keys, chosen, strict=True)
            for method, scores in self._scores(kept).items()
        ]
        return make_frame({key: [row[key] for row in rows] for key in rows[0]}, self.panel.backend)

    def _scores(self, kept: list[np.ndarray]) -> dict[str, dict[str, float]]:
        """The scores of every method where `kept`, one array a window, is 1."""
        pairs = list(zip(self.windows, kept, strict=True))
        weight = np.concatenate([w.weight * keep for w, keep in pairs])
        truth = np.concatenate([w.truth for w in self.windows])
        scale = np.concatenate([w.scale for w in self.windows])[:, None]
        methods = {OURS: np.concatenate([w.forecasts.point for w in self.windows])}
        for name in self.windows[0].others:
            methods[name] = np.concatenate([w.others[name] for w in self.windows])
        empty = not weight.any()
        scores = {}
        for method, point in methods.items():
            # A step without any observed value has no score.
            found = metrics.all_scores(truth, point, weight + empty, scale)
            scores[method] = {k: float("nan") if empty else v for k, v in found.items()}
        return scores


def cross_validate(
    model: Forecaster,
    X: Any,
    n_windows: int = 3,
    step: int | None = None,
    refit: bool | int = False,
    levels: tuple[float, ...] | list[float] = (),
    quantiles: tuple[float, ...] | list[float] = (),
    static: Any = None,
) -> Backtest:
    """Forecasts from `n_windows` cutoffs, `step` rows (default: the horizon) apart.

    The last cutoff lies one horizon before the end of each series. A copy of `model` is trained on
    the rows before the first cutoff and, with `refit`, anew at every one, or every `refit`-th;
    `model` itself stays as it is. A series that has no row at a cutoff has no forecast there.

    Raises `DataError` for counts that make no sense, and where the rows are too few to train on.
    """
    counts = {"n_windows": n_windows, "step": model.horizon if step is None else step}
    for name, value in {**counts, "refit": int(refit)}.items():
        if value < (0 if name == "refit" else 1):
            raise DataError(f"{name}={value!r}; expected a whole number from 1 on")
    panel = model.read(X, static=static)
    shares = shares_of(levels, quantiles)
    fitted: Forecaster | None = None
    windows = []
    for window in range(n_windows):
        back = model.horizon + (n_windows - 1 - window) * counts["step"]
        known = cut(panel, [max(0, len(series) - back) for series in panel.series])
        if not known.series:
            longest = max(map(len, panel.series))
            raise DataError(
                f"{panel.name}: {longest} rows leave nothing before the cutoff {back} rows from "
                "the end; ask for fewer windows, a smaller step, or give more rows"
            )
        if fitted is None or (refit and window % int(refit) == 0):
            fitted = unfitted(model).fit(known)
        windows.append(_forecast(fitted, panel, known, tuple(shares.values())))
    columns = (model.id_column or ID, model.time_column, model.target_column)
    return Backtest(panel, tuple(windows), tuple(shares), columns)


def _forecast(fitted: Forecaster, panel: Panel, known: Panel, shares: tuple[float, ...]) -> Window:
    """Forecasts after the end of `known`, beside what `panel` has there, and the baselines."""
    H = fitted.horizon
    recent = fitted.recent(fitted.known(known))
    windows = fitted._windows(recent)
    found = fitted.forecast_from(windows, windows.last(), shares)
    places = {series.id: place for place, series in enumerate(panel.series)}
    owner = np.array([places[series.id] for series in recent.series])
    lengths = {series.id: len(series) for series in known.series}
    rows = np.array([lengths[series.id] - 1 for series in recent.series])
    steps = np.arange(1, H + 1)
    whole = [panel.series[place] for place in owner]
    past = [series[: row + 1] for series, row in zip(whole, rows, strict=True)]
    season = max(fitted.recipe_.seasons, default=1)
    others = {NAIVE: [], SEASONAL: []}
    for series in past:
        last = np.array([len(series) - 1])
        lag = season if len(series) > season else 1
        others[NAIVE].append(baselines.naive(series.y, last, H))
        others[SEASONAL].append(baselines.seasonal_naive(series.y, last, H, lag))
    pairs = list(zip(whole, rows, strict=True))
    return Window(
        owner=owner,
        rows=rows,
        truth=np.stack([series.y[row + steps] for series, row in pairs]),
        weight=np.stack([series.observed[row + steps] for series, row in pairs]).astype(float),
        forecasts=found,
        others={name: np.concatenate(parts) for name, parts in others.items()},
        scale=np.array([metrics.in_sample_scale(s.y, s.observed, season) for s in past]),
    )

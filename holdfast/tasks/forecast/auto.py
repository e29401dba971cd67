"""`model="auto"`: candidates in turn on rolling held-out windows, within a time budget, and why.

The last origins of the training table are kept away from every candidate. Each is trained on what
is before, shortly at first; the better half goes on to a longer training, until one is left or the
time is over (successive halving, Jamieson & Talwalkar 2016). With the extra ``search``, Optuna
(Akiba et al. 2019) then varies cell, units, layers, learning rate and window of the best one in
what is left of the time.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from holdfast.data.optional import require
from holdfast.data.panel import Panel
from holdfast.errors import DataError, HoldfastError
from holdfast.tasks.forecast import baselines, metrics
from holdfast.tasks.forecast.nets import NETS
from holdfast.tasks.parameters import unfitted

if TYPE_CHECKING:
    from holdfast.tasks.forecast.estimator import Forecaster

# Epochs of the rounds, and the share of candidates that goes on to the next.
ROUNDS = (4, 12)
KEPT = 0.4
# The search for settings gets this share of the time, where there is any left.
SEARCHED = 0.5
WINDOWS = 4
FEW_ROWS = 400


@dataclass
class Trial:
    """One candidate: what was changed, its error, its seconds, or why it could not be tried."""

    changes: dict[str, Any]
    epochs: int
    error: float = float("inf")
    seconds: float = 0.0
    refused: str = ""

    @property
    def name(self) -> str:
        """The changes in a few words."""
        return ", ".join(f"{name}={value}" for name, value in self.changes.items())


@dataclass
class Choice:
    """What was chosen, why, and everything that was tried."""

    changes: dict[str, Any]
    reason: str
    trials: list[Trial] = field(default_factory=list)
    naive: float = float("nan")

    def table(self) -> str:
        """What was tried, the best first, as a Markdown table."""
        lines = ["| candidate | epochs | scaled error | seconds |", "|---|---:|---:|---:|"]
        for trial in sorted(self.trials, key=lambda trial: (trial.error, trial.seconds)):
            error = trial.refused or f"{trial.error:.4f}"
            lines.append(f"| {trial.name} | {trial.epochs} | {error} | {trial.seconds:.0f} |")
        lines.append(f"| (seasonal naive) | | {self.naive:.4f} | |")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """What goes into a model's configuration."""
        return {"changes": self.changes, "reason": self.reason, "table": self.table()}


def candidates(model: Forecaster, panel: Panel) -> list[dict[str, Any]]:
    """What is tried first: models by what the table is like, the likeliest first."""
    longest = max(map(len, panel.series))
    found: list[dict[str, Any]] = [{"model": "direct"}]
    few = longest < FEW_ROWS
    if few:
        found.append({"model": "direct", "hidden_size": 16, "augment": ("jitter", "resize")})
    found.append({"model": "direct", "cell": "gru"})
    if model.output == "point" or model.output == "quantiles":
        found += [{"model": name} for name in ("segment", "attention", "es")]
    else:
        found.append({"model": "deepar"})
    if len(panel.series) > 1 and _common_times(panel):
        found.append({"model": "places"})
    if not few:
        found.append({"model": "direct", "hidden_size": 128, "num_layers": 2})
    return [changes for changes in found if changes["model"] in NETS]


def choose(
    model: Forecaster,
    panel: Panel,
    budget: float,
    report: Callable[[Trial], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Choice:
    """The best candidate within `budget` seconds; the first one is always tried.

    `report` is told of every trial.
    """
    if not budget > 0:
        raise DataError(f"budget={budget!r}; expected seconds above 0")
    end = clock() + budget
    holdout = _holdout(model, panel)
    panel = _long_enough(model, panel, holdout)
    training = panel.map(lambda series: series[: max(1, len(series) - holdout)])
    tried = _Tried(model, panel, training, holdout, report, clock)
    field = candidates(model, panel)
    for epochs in ROUNDS:
        found = []
        for changes in field:
            if clock() < end or not tried.trials:
                found.append(tried.attempt(changes, epochs))
        usable = sorted((t for t in found if not t.refused), key=lambda trial: trial.error)
        if not usable and not tried.usable():
            first = tried.trials[0]
            raise DataError(f"{panel.name}: no model could be tried: {first.refused}")
        keep = max(1, round(KEPT * len(usable)))
        field = [trial.changes for trial in usable[:keep]]
        if clock() >= end or not field:
            break
    searched = _search(tried, end, clock) if clock() < end else 0
    best = min(tried.usable(), key=lambda trial: trial.error)
    choice = Choice(best.changes, "", tried.trials, tried.naive())
    choice.reason = _reason(choice, best, tried, holdout, budget, searched)
    return choice


class _Tried:
    """Trains candidates and scores them on the same held-out origins."""

    def __init__(
        self,
        model: Forecaster,
        panel: Panel,
        training: Panel,
        holdout: int,
        report: Callable[[Trial], None] | None,
        clock: Callable[[], float],
    ) -> None:
        self.model = model
        self.panel = panel
        self.training = training
        self.holdout = holdout
        self.report = report
        self.clock = clock
        self.trials: list[Trial] = []

    def usable(self) -> list[Trial]:
        """Trials that have an error."""
        return [trial for trial in self.trials if not trial.refused]

    def attempt(self, changes: dict[str, Any], epochs: int) -> Trial:
        """Train and score one candidate; a refusal of its own is noted, not raised."""
        trial = Trial(changes, epochs)
        begin = self.clock()
        settings = {"model": "direct", **changes, "max_epochs": epochs, "members": 1}
        try:
            candidate: Any = unfitted(self.model)
            candidate.set_params(**settings).fit(self.training)
            rolled = candidate.roll(self.panel, last=self.holdout)
            trial.error = self._error(rolled.forecast, rolled)
        except HoldfastError as error:
            trial.refused = str(error)
        trial.seconds = self.clock() - begin
        self.trials.append(trial)
        if self.report is not None:
            self.report(trial)
        return trial

    def _error(self, forecast: np.ndarray, rolled: Any) -> float:
        """Absolute error in units of each series' seasonal change, averaged."""
        pairs = zip(rolled.origins, self._scales(), strict=True)
        scale = np.concatenate([np.full(len(at), size) for at, size in pairs])
        return metrics.mase(rolled.truth, forecast, rolled.weight, scale[:, None])

    def _scales(self) -> list[float]:
        season = max(self.panel.frequency.seasons(), default=1)
        found = []
        for series in self.training.series:
            scale = metrics.in_sample_scale(series.y, series.observed, season)
            found.append(scale if np.isfinite(scale) else 1.0)
        return found

    def naive(self) -> float:
        """The error of the value a season ago on the same origins."""
        season = max(self.panel.frequency.seasons(), default=1)
        H = self.model.horizon
        errors, weights = [], []
        for series, scale in zip(self.panel.series, self._scales(), strict=True):
            origins = np.arange(len(series) - self.holdout - 1, len(series) - H, H)
            origins = origins[origins >= season]
            target = origins[:, None] + np.arange(1, H + 1)
            forecast = baselines.seasonal_naive(series.y, origins, H, season)
            errors.append(np.abs(series.y[target] - forecast).ravel() / scale)
            weights.append(series.observed[target].ravel())
        error, weight = np.concatenate(errors), np.concatenate(weights)
        return float(error[weight].mean()) if weight.any() else float("nan")


def _search(tried: _Tried, end: float, clock: Callable[[], float]) -> int:
    """Vary the best candidate with Optuna while there is time; how many variations."""
    if importlib.util.find_spec("optuna") is None:
        return 0
    optuna = require("optuna", "search")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    best = min(tried.usable(), key=lambda trial: trial.error)
    window = tried.model.window
    count = 0

    def objective(trial: Any) -> float:
        nonlocal count
        changes = {
            **best.changes,
            "cell": trial.suggest_categorical("cell", ["lstm", "gru", "peephole", "coupled"]),
            "hidden_size": trial.suggest_int("hidden_size", 8, 192, log=True),
            "num_layers": trial.suggest_int("num_layers", 1, 2),
            "learning_rate": trial.suggest_float("learning_rate", 3e-4, 2e-2, log=True),
        }
        if window is None:
            changes["window"] = trial.suggest_int("window", 16, 168, log=True)
        count += 1
        return tried.attempt(changes, ROUNDS[-1]).error

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=tried.model.seed))
    begin = clock()
    while clock() < end and clock() - begin < SEARCHED * (end - begin) + 1:
        study.optimize(objective, n_trials=1)
    return count


def _reason(
    choice: Choice, best: Trial, tried: _Tried, holdout: int, budget: float, searched: int
) -> str:
    """One sentence that says what was chosen and why."""
    others = [t for t in tried.usable() if t.changes != best.changes]
    second = min(others, key=lambda trial: trial.error) if others else None
    text = (
        f"{best.name}: its error on the last {holdout} rows, which no candidate was trained on, is "
        f"{best.error:.3f} of a seasonal change"
    )
    if second is not None:
        text += f"; next is {second.name} with {second.error:.3f}"
    text += f"; the value a season ago has {choice.naive:.3f}"
    count = len(tried.trials)
    text += f" ({count} trials, {searched} of them searched, within {budget:g} s)"
    if not best.error < choice.naive:
        text += "; the seasonal naive forecast is no worse, so take that instead"
    return text


def _holdout(model: Forecaster, panel: Panel) -> int:
    """How many rows at the end are for scoring: some horizons, at most a fifth of the series."""
    H = model.horizon
    usual = sorted(map(len, panel.series))[len(panel.series) // 2]
    return H * max(1, min(WINDOWS, usual // (5 * H)))


def _long_enough(model: Forecaster, panel: Panel, holdout: int) -> Panel:
    """The series that have rows to train on before the held-out ones; all, where none has."""
    least = holdout + 3 * model.horizon
    series = tuple(one for one in panel.series if len(one) >= least)
    return replace(panel, series=series or panel.series)


def _common_times(panel: Panel) -> bool:
    """Whether all series begin and end together."""
    return len({(s.times[0], s.times[-1]) for s in panel.series}) == 1

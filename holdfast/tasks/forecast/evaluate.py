"""The score table: a forecaster and every baseline on the same origins, whoever wins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from holdfast.data.frequency import DAY, Frequency
from holdfast.tasks.forecast import baselines, metrics
from holdfast.tasks.forecast.estimator import Forecaster
from holdfast.tasks.forecast.rolled import Rolled

OURS = "Holdfast"


@dataclass(frozen=True)
class Evaluation:
    """Scores by method, and the forecasts behind them (W, H) by method."""

    scores: dict[str, dict[str, float]]
    forecasts: dict[str, np.ndarray]
    rolled: Rolled
    notes: tuple[str, ...]

    def table(self) -> str:
        """The scores as a Markdown table."""
        lines = [
            f"| method | {' | '.join(metrics.NAMES)} |",
            "|---|" + "---:|" * len(metrics.NAMES),
        ]
        for method, row in self.scores.items():
            cells = (show_score(row[name]) for name in metrics.NAMES)
            lines.append(f"| {method} | {' | '.join(cells)} |")
        return "\n".join(lines)


def show_score(value: float) -> str:
    """A score with as many digits as one compares: 4 significant ones, no exponents.

    >>> show_score(161.234), show_score(0.98765)
    ('161.2', '0.9877')
    """
    if not np.isfinite(value):
        return "n/a"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:#.4g}".rstrip(".")


def season_name(frequency: Frequency, season: int) -> str:
    """What people call the value `season` rows ago.

    >>> season_name(Frequency("microsecond", 3_600_000_000), 168)
    'seasonal naive (168, last week)'
    """
    known = {(DAY, "microsecond"): "yesterday", (7 * DAY, "microsecond"): "last week"}
    known |= {(12, "month"): "last year", (364 * DAY, "microsecond"): "last year"}
    name = known.get((season * frequency.step, frequency.unit))
    return f"seasonal naive ({season}, {name})" if name else f"seasonal naive ({season})"


def evaluate(
    model: Forecaster,
    data: Any,
    *,
    last: int | None = None,
    step: int | None = None,
    autoets: bool | None = None,
) -> Evaluation:
    """Rolling-origin scores of `model` on rows it was not trained on, beside the baselines.

    >>> from holdfast.data import load_metro_traffic
    >>> table = load_metro_traffic().tail(2500)
    >>> model = Forecaster(24, missing="fill", hidden_size=8, max_epochs=1).fit(table[:2400])
    >>> list(evaluate(model, table, autoets=False).scores)[:2]
    ['Holdfast', 'seasonal naive (168, last week)']

    `last` and `step` choose the rows as in `Forecaster.roll`; `autoets` None means: if
    statsforecast is installed. Every method sees the same filled history; scores count observed
    targets only. MASE divides by the in-sample error of the value one longest season before.
    """
    rolled = model.roll(data, last=last, step=step)
    seasons = tuple(sorted(model.recipe_.seasons)) or model.frequency_.seasons()
    forecasts = {OURS: rolled.forecast}
    for season in sorted(seasons, reverse=True):
        forecasts[season_name(model.frequency_, season)] = _each(
            rolled, lambda y, at, m=season: baselines.seasonal_naive(y, at, rolled.horizon, m)
        )
    forecasts["naive (last value)"] = _each(
        rolled, lambda y, at: baselines.naive(y, at, rolled.horizon)
    )
    notes = []
    if baselines.has_autoets() if autoets is None else autoets:
        count = min(map(len, rolled.origins))
        before = min(at[0] + 1 for at in rolled.origins)
        setting = baselines.ets_setting(seasons, int(before), count, len(rolled.origins))
        name = f"AutoETS (season {setting.season})"
        forecasts[name] = _each(
            rolled, lambda y, at: baselines.autoets(y, at, rolled.horizon, setting)
        )
        notes.append(setting.describe())
    season = max(seasons, default=1)
    scale = np.concatenate(
        [
            np.full(len(at), metrics.in_sample_scale(s.y[:start], s.observed[:start], season))
            for s, at, start in zip(rolled.panel.series, rolled.origins, rolled.starts, strict=True)
        ]
    )[:, None]
    truth, weight = rolled.truth, rolled.weight
    scores = {
        method: metrics.all_scores(truth, forecast, weight, scale)
        for method, forecast in forecasts.items()
    }
    return Evaluation(scores, forecasts, rolled, tuple(notes))


def _each(rolled: Rolled, forecast: Any) -> np.ndarray:
    pairs = zip(rolled.panel.series, rolled.origins, strict=True)
    return np.concatenate([forecast(series.y, at) for series, at in pairs])

"""The score table: a forecaster and every baseline on the same origins, whoever wins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from holdfast.data.frequency import DAY, Frequency
from holdfast.tasks.forecast import baselines, metrics
from holdfast.tasks.forecast.estimator import Forecaster
from holdfast.tasks.forecast.intervals import reach
from holdfast.tasks.forecast.metrics import SHARES
from holdfast.tasks.forecast.rolled import Rolled
from holdfast.tasks.forecast.verdict import judge, warn_if_beaten
from holdfast.tasks.terminal import aligned

OURS = "Holdfast"


@dataclass(frozen=True)
class Evaluation:
    """Scores by method, and the forecasts behind them (W, H) by method."""

    scores: dict[str, dict[str, float]]
    forecasts: dict[str, np.ndarray]
    rolled: Rolled
    notes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What the methods are scored by."""
        return tuple(next(iter(self.scores.values())))

    def table(self) -> str:
        """The scores as a Markdown table."""
        lines = [f"| method | {' | '.join(self.names)} |", "|---|" + "---:|" * len(self.names)]
        for method, row in self.scores.items():
            cells = (show_score(row[name]) for name in self.names)
            lines.append(f"| {method} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def text(self) -> str:
        """The scores as a table for terminals, and below by how much the baselines are beaten."""
        rows = [[m, *(show_score(row[n]) for n in self.names)] for m, row in self.scores.items()]
        verdict = judge(self.scores)
        said = "" if verdict is None or verdict.beaten else f"\n\n{verdict.sentence()}."
        return aligned(["method", *self.names], rows) + said


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
    targets only. A forecaster that says more than a point is scored by CRPS, coverage and width of
    intervals, too, beside the baselines' own. MASE divides by the in-sample error of the value one
    longest season before. Warns with `BaselineWarning` when a baseline is at least as good.
    """
    limits = reach(model.nets_, model.held_out_)
    shares = () if limits is None else tuple(min(max(q, limits[0]), limits[1]) for q in SHARES)
    rolled = model.roll(data, last=last, step=step, quantiles=shares)
    seasons = tuple(sorted(model.recipe_.seasons)) or model.frequency_.seasons()
    methods, notes = _baselines(rolled, seasons, model.frequency_, bool(shares), autoets)
    methods = {OURS: (rolled.forecast, rolled.forecasts.quantiles), **methods}
    season = max(seasons, default=1)
    scale = np.concatenate(
        [
            np.full(len(at), metrics.in_sample_scale(s.y[:start], s.observed[:start], season))
            for s, at, start in zip(rolled.panel.series, rolled.origins, rolled.starts, strict=True)
        ]
    )[:, None]
    truth, weight = rolled.truth, rolled.weight
    scores = {}
    for method, (point, quantiles) in methods.items():
        scores[method] = metrics.all_scores(truth, point, weight, scale)
        if shares:
            reached = limits if method == OURS and limits else (0.0, 1.0)
            scores[method] |= metrics.spread_scores(truth, quantiles, weight, reached)
    forecasts = {method: point for method, (point, _) in methods.items()}
    warn_if_beaten(scores)
    return Evaluation(scores, forecasts, rolled, notes)


Method = tuple[np.ndarray, np.ndarray]


def _baselines(
    rolled: Rolled,
    seasons: tuple[int, ...],
    frequency: Frequency,
    spreads: bool,
    autoets: bool | None,
) -> tuple[dict[str, Method], tuple[str, ...]]:
    """Forecasts (W, H) and, with `spreads`, quantiles (W, H, Q) of every baseline; and notes."""
    H, shares = rolled.horizon, SHARES if spreads else ()
    methods: dict[str, Method] = {}
    for season in sorted(seasons, reverse=True):
        methods[season_name(frequency, season)] = (
            _each(rolled, lambda y, at, m=season: baselines.seasonal_naive(y, at, H, m)),
            _spreads(rolled, baselines.seasonal_lags(H, season), shares),
        )
    methods["naive (last value)"] = (
        _each(rolled, lambda y, at: baselines.naive(y, at, H)),
        _spreads(rolled, np.arange(1, H + 1), shares),
    )
    for point, spread in methods.values():
        spread += point[..., None]
    if not (baselines.has_autoets() if autoets is None else autoets):
        return methods, ()
    count = min(map(len, rolled.origins))
    before = min(at[0] + 1 for at in rolled.origins)
    setting = baselines.ets_setting(seasons, int(before), count, len(rolled.origins))
    pairs = zip(rolled.panel.series, rolled.origins, strict=True)
    found = [baselines.autoets_quantiles(s.y, at, H, setting, shares) for s, at in pairs]
    points, quantiles = zip(*found, strict=True)
    ets = np.concatenate(points), np.concatenate(quantiles)
    return {**methods, f"AutoETS (season {setting.season})": ets}, (setting.describe(),)


def _spreads(rolled: Rolled, lags: np.ndarray, shares: tuple[float, ...]) -> np.ndarray:
    """Around each forecast, quantiles (W, H, Q) of what was wrong before the rows to score."""
    if not shares:
        return np.zeros((len(rolled.forecast), rolled.horizon, 0))
    groups = zip(rolled.panel.series, rolled.origins, rolled.starts, strict=True)
    return np.concatenate(
        [
            np.repeat(
                baselines.spread(s.y[:start], s.observed[:start], lags, shares)[None], len(at), 0
            )
            for s, at, start in groups
        ]
    )


def _each(rolled: Rolled, forecast: Any) -> np.ndarray:
    pairs = zip(rolled.panel.series, rolled.origins, strict=True)
    return np.concatenate([forecast(series.y, at) for series, at in pairs])

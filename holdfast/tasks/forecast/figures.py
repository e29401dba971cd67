"""What forecasts look like: the fan after a history, windows beside the truth, where errors are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from holdfast.data.panel import Panel
from holdfast.tasks import plots
from holdfast.tasks.forecast.estimator import Forecaster
from holdfast.tasks.forecast.evaluate import OURS, Evaluation
from holdfast.tasks.forecast.forecasts import Forecasts
from holdfast.tasks.forecast.rolled import Rolled

# Rows of history beside a forecast, in horizons; windows beside the truth, and rows of them.
HISTORY, WINDOWS, ROWS = 7, 14, 400


@dataclass(frozen=True)
class Fan:
    """Forecasts (N, H) and intervals around them by level in percent, the widest first."""

    point: np.ndarray
    bands: tuple[tuple[float, np.ndarray, np.ndarray], ...] = ()


def fan_of_table(table: Any, levels: tuple[float, ...], horizon: int) -> Fan:
    """The fan in the columns of a frame that `Forecaster.predict` made."""

    def column(name: str) -> np.ndarray:
        return np.asarray(table[name].to_list(), dtype=np.float64).reshape(-1, horizon)

    bands = [
        (level, column(f"forecast-lo-{level:g}"), column(f"forecast-hi-{level:g}"))
        for level in sorted(levels, reverse=True)
    ]
    return Fan(column("forecast"), tuple(bands))


def fan_of(forecasts: Forecasts, levels: tuple[float, ...] = (95, 80)) -> Fan:
    """The fan in forecasts that have the quantiles of some of `levels`."""
    known = np.array(forecasts.levels)
    bands = []
    for level in levels:
        ends = [(1 - level / 100) / 2, (1 + level / 100) / 2]
        near = [int(np.abs(known - end).argmin()) if len(known) else -1 for end in ends]
        if len(known) and np.allclose(known[near], ends, atol=1e-6):
            low, high = (forecasts.quantiles[..., place] for place in near)
            bands.append((float(level), low, high))
    return Fan(forecasts.point, tuple(bands))


def forecast_figure(panel: Panel, fan: Fan) -> Any:
    """The end of the first series of `panel`, with their forecasts and intervals behind."""
    shown = panel.series[: plots.MOST_PANELS]
    H = fan.point.shape[1]
    figure, axes = plots.new_figure(10, 0.9 + 2.3 * len(shown), len(shown))
    for place, (ax, series) in enumerate(zip(axes, shown, strict=True)):
        recent = series[max(0, len(series) - max(HISTORY * H, 24)) :]
        known = np.where(recent.observed, recent.y, np.nan)
        future = panel.frequency.after(series.times[-1], H)
        times = np.concatenate([recent.times[-1:], future])
        last = recent.y[-1:]
        for level, low, high in fan.bands:
            low, high = (np.concatenate([last, edge[place]]) for edge in (low, high))
            plots.band(ax, times, low, high, level)
        ax.plot(recent.times, known, color=plots.INK, linewidth=1.1, label="measured")
        joined = np.concatenate([last, fan.point[place]])
        ax.plot(times, joined, color=plots.OURS, linewidth=1.8, label="forecast")
        ax.axvline(recent.times[-1], color=plots.QUIET, linewidth=0.8, linestyle=(0, (3, 3)))
        ax.margins(x=0.01)
        plots.title(ax, series.id or panel.columns.target)
        plots.dates(ax)
    plots.legend(axes[0])
    _say_what_is_left(axes[-1], panel, len(shown))
    return figure


def backtest_figure(evaluation: Evaluation) -> Any:
    """Forecasts from some origins beside what came, series by series, the best baseline thin."""
    rolled, fan = evaluation.rolled, fan_of(evaluation.rolled.forecasts)
    H, panel = rolled.horizon, rolled.panel
    shown = panel.series[: plots.MOST_PANELS]
    rival = best_baseline(evaluation)
    figure, axes = plots.new_figure(11, 0.9 + 2.5 * len(shown), len(shown))
    first = 0
    for ax, series, origins in zip(axes, shown, rolled.origins, strict=False):
        count = max(1, min(len(origins), WINDOWS, max(1, ROWS // H)))
        begin = max(0, int(origins[0]) + 1 - 2 * H)
        end = min(len(series), int(origins[count - 1]) + 1 + H)
        truth = np.where(series.observed, series.y, np.nan)[begin:end]
        times = series.times[begin:end]
        ax.plot(times, truth, color=plots.INK, linewidth=1.0, label="measured", zorder=3)
        for k, origin in enumerate(origins[:count]):
            times = series.times[origin + 1 : origin + 1 + H]
            row, named = first + k, k == 0
            for level, low, high in fan.bands:
                plots.band(ax, times, low[row], high[row], level)
                ax.collections[-1].set_label(f"{level:g} % interval" if named else None)
            if rival:
                line = evaluation.forecasts[rival][row]
                ax.plot(times, line, color=plots.WEEK, lw=0.9, label=rival if named else None)
            line, name = fan.point[row], "forecast" if named else None
            ax.plot(times, line, color=plots.OURS, linewidth=1.7, label=name)
            ax.axvline(times[0], color=plots.LINE, linewidth=0.7, zorder=0)
        first += len(origins)
        ax.margins(x=0.01)
        plots.title(ax, series.id or panel.columns.target)
        plots.dates(ax)
    plots.legend(axes[0], 5)
    _say_what_is_left(axes[-1], panel, len(shown))
    return figure


def horizon_figure(evaluation: Evaluation) -> Any:
    """Mean absolute error by how far ahead, every method that is not off the chart."""
    figure, (ax,) = plots.new_figure(5.6, 3.8)
    steps = np.arange(1, evaluation.rolled.horizon + 1)
    spread = spreads(evaluation.rolled)
    found = {method: errors(evaluation, method, 0, spread) for method in evaluation.scores}
    limit = 4 * min(float(np.nanmean(error)) for error in found.values())
    marker = "o" if len(steps) < 3 else None
    for (method, error), color in zip(found.items(), plots.COLORS, strict=False):
        if np.nanmean(error) <= limit:
            width, order = (2.2, 3) if method == OURS else (1.3, 2)
            ax.plot(steps, error, color=color, lw=width, label=method, marker=marker, zorder=order)
    ax.set_ylim(bottom=0)
    ax.locator_params(axis="x", integer=True)
    many = len(evaluation.rolled.panel.series) > 1
    unit = "absolute error, standard deviations" if many else "mean absolute error"
    plots.labels(ax, "rows ahead", unit)
    ax.legend(frameon=False, fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    return figure


def residual_figure(evaluation: Evaluation) -> Any:
    """What was wrong: by time, and how often; of several series, in units of each one's spread."""
    rolled = evaluation.rolled
    H, panel = rolled.horizon, rolled.panel
    residual = np.where(rolled.weight > 0, rolled.truth - rolled.forecast, np.nan)
    steps = np.arange(1, H + 1)
    pairs = zip(panel.series, rolled.origins, strict=True)
    times = [series.times[origins[:, None] + steps] for series, origins in pairs]
    scaled = residual / spreads(rolled)[:, None]
    unit = "standard deviations" if len(panel.series) > 1 else panel.columns.target
    figure, (left, right) = plots.new_figure(11, 3.4, 1, 2)
    size = float(np.clip(20_000 / max(1, scaled.size), 1, 9))
    left.scatter(np.concatenate(times), scaled, s=size, color=plots.OURS, alpha=0.35, lw=0)
    left.axhline(0, color=plots.INK, linewidth=0.8)
    plots.dates(left)
    plots.title(left, "measured less forecast")
    plots.labels(left, y=unit)
    there = scaled[np.isfinite(scaled)]
    reach = np.quantile(np.abs(there), 0.995) or 1.0
    bins = int(np.clip(np.sqrt(there.size), 9, 41))
    right.hist(np.clip(there, -reach, reach), bins=bins, color=plots.OURS, alpha=0.8)
    right.axvline(0, color=plots.INK, linewidth=0.8)
    bias = float(there.mean())
    plots.title(right, f"how often; mean {bias:.3g}, standard deviation {there.std():.3g}")
    plots.labels(right, unit, "forecasts")
    right.locator_params(axis="x", nbins=7)
    right.xaxis.set_major_formatter(plots.short)
    return figure


def learning_figure(model: Forecaster) -> Any:
    """Loss by epoch on training and held-out rows, the kept epoch marked; other members thin."""
    figure, (ax,) = plots.new_figure(5.6, 3.8)
    every: list[float] = []
    for member in model.members_:
        rows = member["history"]
        epochs, held = ([row[name] for row in rows] for name in ("epoch", "valid_loss"))
        ax.plot(epochs, held, color=plots.OURS, linewidth=0.8, alpha=0.5)
        every += held
    epochs = [row["epoch"] for row in model.history_]
    best = model.history_[model.best_epoch_ - 1]
    train = [row["train_loss"] for row in model.history_]
    held = [row["valid_loss"] for row in model.history_]
    ax.plot(epochs, train, color=plots.QUIET, label="training", marker="." if len(held) < 3 else "")
    ax.plot(epochs, held, color=plots.OURS, linewidth=2, label="held-out tail")
    ax.plot(best["epoch"], best["valid_loss"], "o", color=plots.OURS)
    right = best["epoch"] > 0.7 * epochs[-1]
    ax.annotate(
        f"kept: epoch {best['epoch']}",
        (best["epoch"], best["valid_loss"]),
        textcoords="offset points",
        xytext=(0, -13),
        ha="right" if right else "left",
        fontsize=8,
        color=plots.OURS,
    )
    every += held + train
    low, high = min(every), float(np.quantile(every, 0.97))
    room = 0.12 * max(high - low, 0.02 * abs(low), 1e-6)
    ax.set_ylim(low - 1.5 * room, high + room)
    ax.locator_params(axis="x", integer=True)
    plots.labels(ax, "epoch", "loss, scaled values")
    plots.legend(ax)
    return figure


def best_baseline(evaluation: Evaluation) -> str:
    """The baseline with the least mean absolute error; empty where there is none."""
    others = {name: row["MAE"] for name, row in evaluation.scores.items() if name != OURS}
    return min(others, key=lambda name: others[name]) if others else ""


def spreads(rolled: Rolled) -> np.ndarray:
    """What errors (W,) are divided by: 1, or of several series the deviation of each."""
    spread, first = np.ones(len(rolled.forecast)), 0
    if len(rolled.panel.series) > 1:
        truth = rolled.truth
        for origins in rolled.origins:
            rows = slice(first, first + len(origins))
            spread[rows] = truth[rows].std() or 1.0 if len(origins) else 1.0
            first += len(origins)
    return spread


def errors(
    evaluation: Evaluation, method: str, axis: int, spread: np.ndarray | None = None
) -> np.ndarray:
    """Mean absolute error over observed targets along `axis`: 0 gives steps, 1 gives forecasts.

    Each forecast's is divided by its `spread` (W,) if given.
    """
    rolled = evaluation.rolled
    error = np.abs(rolled.truth - evaluation.forecasts[method]) * rolled.weight
    error = error if spread is None else error / spread[:, None]
    total = rolled.weight.sum(axis=axis)
    return np.divide(error.sum(axis=axis), total, out=np.full(len(total), np.nan), where=total > 0)


def _say_what_is_left(ax: Any, panel: Panel, shown: int) -> None:
    left = len(panel.series) - shown
    if left:
        plots.labels(ax, f"{left:,} more series are in the table")

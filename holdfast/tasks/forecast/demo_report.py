"""The report of the demo: the general one's parts, with words and pictures of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from holdfast.data.metro import ATTRIBUTION
from holdfast.tasks import page, plots
from holdfast.tasks.forecast import figures
from holdfast.tasks.forecast.estimator import Forecaster
from holdfast.tasks.forecast.evaluate import OURS, Evaluation, show_score
from holdfast.tasks.forecast.report import MASE_NOTE, scores_html, settings_facts
from holdfast.tasks.forecast.speed import Speed

LEAD = (
    "Hourly traffic, forecast at every midnight of the last 70 days by a recurrent network that "
    "never saw them, beside simple rules and exponential smoothing."
)
HOLIDAY = (
    "Public holidays are not in the table; Monday 3 September 2018 was Labor Day, and a week later "
    "last week's value repeats it."
)


def demo_figure(evaluation: Evaluation, days: int = 14) -> Any:
    """The first `days` held-out days, forecast beside truth, and the error of every day below."""
    rolled, fan = evaluation.rolled, figures.fan_of(evaluation.rolled.forecasts)
    series, H = rolled.panel.series[0], rolled.horizon
    count = min(len(rolled.forecast), max(1, days * 24 // H))
    rows = slice(rolled.starts[0], rolled.starts[0] + count * H)
    measured = np.where(series.observed, series.y, np.nan)[rows]
    figure, (top, bottom) = plots.new_figure(11, 6.6, 2)
    times, week = series.times[rows], _week(evaluation)
    for level, low, high in fan.bands:
        plots.band(top, times, low[:count].ravel(), high[:count].ravel(), level)
    reference = evaluation.forecasts[week][:count].ravel()
    top.plot(times, reference, color=plots.WEEK, linewidth=0.9, alpha=0.85, label=week)
    top.plot(times, measured, color=plots.INK, linewidth=1.3, label="measured")
    ours = fan.point[:count].ravel()
    top.plot(times, ours, color=plots.OURS, linewidth=1.6, label="Holdfast, made at midnight")
    total = len(rolled.forecast)
    plots.title(top, f"vehicles an hour, {count} of {total} days")
    plots.legend(top, 5)
    plots.ticks(top, times[:: 2 * 24], "%a %d %b")
    starts = series.times[rolled.origins[0] + 1]
    for name, color, width in ((week, plots.WEEK, 1.4), (OURS, plots.OURS, 2.0)):
        error = figures.errors(evaluation, name, 1)
        bottom.plot(starts, error, color=color, linewidth=width, label=name)
    plots.title(bottom, "mean absolute error of each forecast")
    own = figures.errors(evaluation, OURS, 1)
    worst = int(np.nanargmax(own))
    bottom.annotate(
        f"{starts[worst].item():%a %d %b}",
        (starts[worst], own[worst]),
        textcoords="offset points",
        xytext=(8, -4),
        fontsize=9,
        color=plots.OURS,
    )
    bottom.set_ylim(bottom=0)
    plots.legend(bottom)
    plots.ticks(bottom, starts[::7], "%d %b")
    for ax in (top, bottom):
        ax.margins(x=0.01)
    return figure


def demo_report(
    model: Forecaster, evaluation: Evaluation, speed: Speed | None, seconds: float
) -> str:
    """The whole page as a string; it needs no other file and no network."""
    boxes = page.cards(_numbers(model, evaluation, speed, seconds))
    parts = [
        boxes,
        page.section(
            "Forecast and truth",
            page.picture(demo_figure(evaluation), "forecasts beside measured values"),
            page.note(HOLIDAY),
        ),
        page.section(
            "Scores",
            scores_html(evaluation),
            *(page.note(f"{words}.") for words in evaluation.notes),
            page.note(MASE_NOTE),
        ),
        page.beside(
            page.section(
                "Error by hour ahead",
                page.picture(figures.horizon_figure(evaluation), "error by horizon", wide=False),
            ),
            page.section(
                "Learning curve",
                page.picture(figures.learning_figure(model), "loss by epoch", wide=False),
            ),
        ),
        _speed(speed),
        page.section("Data and settings", page.facts(_facts(model))),
    ]
    return page.page("The next 24 hours on Interstate 94", LEAD, parts, f"Data: {ATTRIBUTION}.")


def speed_threads(speed: Speed | None) -> str:
    """How many threads were used, in words."""
    if speed is None:
        return "this machine"
    return f"{speed.threads} thread" + ("s" if speed.threads > 1 else "")


def _numbers(
    model: Forecaster, evaluation: Evaluation, speed: Speed | None, seconds: float
) -> list[tuple[str, str]]:
    ours, week = (evaluation.scores[name]["MAE"] for name in (OURS, _week(evaluation)))
    gain = 100 * (1 - ours / week)
    side = "below" if gain >= 0 else "above"
    found = [
        (show_score(ours), "mean absolute error, vehicles an hour"),
        (f"{abs(gain):.1f} %", f"{side} last week's value ({show_score(week)})"),
    ]
    covered = evaluation.scores[OURS].get("cover 80", np.nan)
    if np.isfinite(covered):
        found.append((f"{100 * covered:.0f} %", "of the hours lay in their 80 % interval"))
    epochs = f"training, {len(model.history_)} epochs on {speed_threads(speed)}"
    found.append((f"{seconds:.0f} s", epochs))
    count = len(evaluation.rolled.forecast)
    return [*found, (str(count), "forecasts of 24 hours, none of them seen before")]


def _speed(speed: Speed | None) -> str:
    if speed is None:
        return ""
    said = "Medians of alternating runs on the machine that made this report, whatever else ran."
    return page.section(
        "Speed of the layer", page.paragraph(f"{speed.describe()}."), page.note(said)
    )


def _facts(model: Forecaster) -> dict[str, Any]:
    data = model.data_
    return {
        "trained on": f"{data['rows']:,} rows, {data['first']} to {data['last']}",
        "frequency": data["frequency"],
        "not measured": f"{data['missing']} of them: filled with the value a week earlier for the "
        "network's inputs, kept out of loss and scores",
        "SHA-256 of the training data": data["sha256"],
        **settings_facts(model),
    }


def _week(evaluation: Evaluation) -> str:
    """The baseline that is named first: the longest season's."""
    return next(method for method in evaluation.scores if method != OURS)

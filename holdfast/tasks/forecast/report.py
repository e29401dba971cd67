"""The report of the demo: one HTML file with every picture inside, light and printable."""

from __future__ import annotations

import html
from typing import Any

import numpy as np

from holdfast.data.metro import ATTRIBUTION
from holdfast.tasks.forecast import plots
from holdfast.tasks.forecast.estimator import Forecaster
from holdfast.tasks.forecast.evaluate import OURS, Evaluation, show_score
from holdfast.tasks.forecast.speed import Speed

STYLE = """
:root { color-scheme: light; --ink: #1f2933; --quiet: #616e7c; --line: #e4e7eb; --ours: #0b6e99; }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  color: var(--ink); background: #f7f9fa; margin: 0; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.15rem; margin: 0 0 .6rem; }
p { margin: 0 0 .8rem; max-width: 46rem; }
.lead { color: var(--quiet); font-size: 1.05rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 1rem;
  margin: 1.6rem 0; }
.card, section { background: #fff; border: 1px solid var(--line); border-radius: .6rem; }
.card { padding: 1rem 1.1rem; }
.card b { display: block; font-size: 1.7rem; color: var(--ours); line-height: 1.2; }
.card span { color: var(--quiet); font-size: .88rem; }
section { padding: 1.3rem 1.4rem; margin: 0 0 1.2rem; overflow-x: auto; }
img { display: block; width: 100%; height: auto; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 1.2rem; }
.two section { margin: 0; }
.two + section { margin-top: 1.2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .38rem .6rem; border-bottom: 1px solid var(--line); }
th { color: var(--quiet); font-weight: 600; font-size: .85rem; }
th:first-child, td:first-child { text-align: left; }
tr.ours td { color: var(--ours); font-weight: 600; }
td.best { background: #e6f4fa; }
.facts td { text-align: left; vertical-align: top; }
.facts td:first-child { color: var(--quiet); white-space: nowrap; width: 14rem; }
code { font: .86em/1.4 ui-monospace, "Cascadia Code", Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
footer, .note { color: var(--quiet); font-size: .88rem; }
.note { margin-top: .8rem; }
"""


def demo_figure(evaluation: Evaluation, days: int = 14) -> Any:
    """The first `days` held-out days, forecast beside truth, and the error of every day below."""
    rolled = evaluation.rolled
    series = rolled.panel.series[0]
    horizon = rolled.horizon
    count = min(len(rolled.forecast), max(1, days * 24 // horizon))
    rows = slice(rolled.starts[0], rolled.starts[0] + count * horizon)
    measured = np.where(series.observed, series.y, np.nan)[rows]
    figure, (top, bottom) = plots.new_figure(11, 6.6, 2)
    times = series.times[rows]
    week = _second(evaluation)
    reference = evaluation.forecasts[week][:count].reshape(-1)
    ours = evaluation.forecasts[OURS][:count].reshape(-1)
    top.plot(times, measured, color=plots.INK, linewidth=1.3, label="measured")
    top.plot(times, reference, color=plots.WEEK, linewidth=1.0, alpha=0.85, label=week)
    top.plot(times, ours, color=plots.OURS, linewidth=1.6, label="Holdfast, made at midnight")
    top.set_title(
        f"vehicles an hour: the first {count} of {len(rolled.forecast)} forecasts",
        loc="left",
        fontsize=11,
        color=plots.INK,
    )
    top.set_ylim(top=1.16 * np.nanmax(measured))
    top.legend(frameon=False, fontsize=9, ncols=3, loc="upper left")
    plots.ticks(top, times[:: 2 * 24], "%a %d %b")
    starts = series.times[rolled.origins[0] + 1]
    for name, color, width in ((week, plots.WEEK, 1.4), (OURS, plots.OURS, 2.0)):
        bottom.plot(starts, _errors(evaluation, name, 1), color=color, linewidth=width, label=name)
    bottom.set_title(
        "mean absolute error of each forecast", loc="left", fontsize=11, color=plots.INK
    )
    own = _errors(evaluation, OURS, 1)
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
    bottom.legend(frameon=False, fontsize=9, ncols=2, loc="upper left")
    plots.ticks(bottom, starts[::7], "%d %b")
    return figure


def demo_report(
    model: Forecaster, evaluation: Evaluation, speed: Speed | None, seconds: float
) -> str:
    """The whole page as a string; it needs no other file and no network."""
    ours, week = evaluation.scores[OURS]["MAE"], evaluation.scores[_second(evaluation)]["MAE"]
    gain = 100 * (1 - ours / week)
    side = "below" if gain >= 0 else "above"
    cards = [
        (show_score(ours), "mean absolute error, vehicles an hour"),
        (f"{abs(gain):.1f} %", f"{side} last week's value ({show_score(week)})"),
        (f"{seconds:.0f} s", f"training, {len(model.history_)} epochs on {speed_threads(speed)}"),
        (f"{len(evaluation.rolled.forecast)}", "forecasts of 24 hours, none of them seen before"),
    ]
    boxes = "".join(f'<div class="card"><b>{a}</b><span>{b}</span></div>' for a, b in cards)
    speed_text = f"<p>{html.escape(speed.describe())}.</p>" if speed else ""
    notes = "".join(f'<p class="note">{html.escape(note)}.</p>' for note in evaluation.notes)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Holdfast: traffic on Interstate 94</title>
<style>{STYLE}</style>
</head>
<body><main>
<h1>The next 24 hours on Interstate 94</h1>
<p class="lead">Hourly traffic, forecast at every midnight of the last 70 days by a recurrent
network that never saw them, beside simple rules and exponential smoothing.</p>
<div class="cards">{boxes}</div>
<section><h2>Forecast and truth</h2><img alt="forecasts beside measured values"
 src="{plots.inline(demo_figure(evaluation))}">
<p class="note">Public holidays are not in the table; Monday 3 September 2018 was Labor Day, and a
week later last week's value repeats it.</p></section>
<section><h2>Scores</h2>{scores_html(evaluation)}{notes}
<p class="note">Hours that were not measured do not count. MASE divides by the in-sample error of
last week's value; sMAPE is in percent. The best value of each column is shaded.</p></section>
<div class="two">
<section><h2>Error by hour ahead</h2><img alt="error by horizon"
 src="{plots.inline(horizon_figure(evaluation))}"></section>
<section><h2>Learning curve</h2><img alt="loss by epoch"
 src="{plots.inline(learning_figure(model))}"></section>
</div>
<section><h2>Speed of the layer</h2>{speed_text}<p class="note">Medians of alternating runs on the
machine that made this report, whatever else ran on it.</p></section>
<section><h2>Data and settings</h2>{facts_html(model)}</section>
<footer><p>Data: {html.escape(ATTRIBUTION)}.</p></footer>
</main></body>
</html>
"""


def speed_threads(speed: Speed | None) -> str:
    """How many threads were used, in words."""
    if speed is None:
        return "this machine"
    return f"{speed.threads} thread" + ("s" if speed.threads > 1 else "")


def scores_html(evaluation: Evaluation) -> str:
    """The score table with the best value of each column shaded."""
    rows = []
    best = {
        name: (max if name == "R2" else min)(row[name] for row in evaluation.scores.values())
        for name in evaluation.names
    }
    for method, row in evaluation.scores.items():
        cells = "".join(
            f"<td{' class=best' if row[name] == best[name] else ''}>{show_score(row[name])}</td>"
            for name in evaluation.names
        )
        kind = ' class="ours"' if method == OURS else ""
        rows.append(f"<tr{kind}><td>{html.escape(method)}</td>{cells}</tr>")
    head = "".join(f"<th>{name}</th>" for name in ("method", *evaluation.names))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def facts_html(model: Forecaster) -> str:
    """Data summary and settings, one row a fact."""
    data, recipe = model.data_, model.recipe_
    facts: dict[str, Any] = {
        "trained on": f"{data['rows']:,} rows, {data['first']} to {data['last']}",
        "frequency": data["frequency"],
        "not measured": f"{data['missing']} of them: filled with the value a week earlier for the "
        "network's inputs, kept out of loss and scores",
        "SHA-256 of the training data": data["sha256"],
        "window, seasons, lags": f"{recipe.window}; {recipe.seasons}; {recipe.lags}",
        **{name: repr(value) for name, value in model.get_params().items()},
    }
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td><code>{html.escape(str(value))}</code></td></tr>"
        for name, value in facts.items()
    )
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def horizon_figure(evaluation: Evaluation) -> Any:
    """Mean absolute error by how far ahead, every method that is not off the chart."""
    figure, (ax,) = plots.new_figure(5.6, 3.6)
    steps = np.arange(1, evaluation.rolled.horizon + 1)
    limit = 4 * evaluation.scores[_second(evaluation)]["MAE"]
    for (method, row), color in zip(evaluation.scores.items(), plots.COLORS, strict=False):
        if row["MAE"] <= limit:
            width = 2.2 if method == OURS else 1.3
            errors = _errors(evaluation, method, 0)
            ax.plot(steps, errors, color=color, linewidth=width, label=method)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("rows ahead", fontsize=8, color=plots.INK)
    ax.set_ylabel("MAE", fontsize=8, color=plots.INK)
    ax.legend(frameon=False, fontsize=7.5)
    return figure


def learning_figure(model: Forecaster) -> Any:
    """Loss by epoch on training and held-out rows, the kept epoch marked."""
    figure, (ax,) = plots.new_figure(5.6, 3.6)
    epochs = [row["epoch"] for row in model.history_]
    best = model.history_[model.best_epoch_ - 1]
    train = [row["train_loss"] for row in model.history_]
    ax.plot(epochs, train, color=plots.QUIET, label="training")
    held = [row["valid_loss"] for row in model.history_]
    ax.plot(epochs, held, color=plots.OURS, linewidth=2, label="held-out tail")
    ax.plot(best["epoch"], best["valid_loss"], "o", color=plots.OURS)
    ax.annotate(
        f"kept: epoch {best['epoch']}",
        (best["epoch"], best["valid_loss"]),
        textcoords="offset points",
        xytext=(0, -14),
        ha="center",
        fontsize=8,
        color=plots.OURS,
    )
    ax.set_xlabel("epoch", fontsize=8, color=plots.INK)
    ax.set_ylabel("MAE in standard deviations", fontsize=8, color=plots.INK)
    low = min(held)
    ax.set_ylim(bottom=0.9 * low)
    ax.legend(frameon=False, fontsize=8)
    return figure


def _second(evaluation: Evaluation) -> str:
    """The baseline that is named first: the longest season's."""
    return next(method for method in evaluation.scores if method != OURS)


def _errors(evaluation: Evaluation, method: str, axis: int) -> np.ndarray:
    """Mean absolute error over observed targets along `axis`: 0 gives steps, 1 gives forecasts."""
    rolled = evaluation.rolled
    error = np.abs(rolled.truth - evaluation.forecasts[method]) * rolled.weight
    total = rolled.weight.sum(axis=axis)
    return np.divide(error.sum(axis=axis), total, out=np.full(len(total), np.nan), where=total > 0)

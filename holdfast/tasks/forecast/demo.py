"""``holdfast demo``: from the series that ships with the package to a report worth looking at."""

from __future__ import annotations

import time
from pathlib import Path

from holdfast.data.atomic import write_file
from holdfast.data.metro import load_metro_traffic
from holdfast.data.panel import Panel
from holdfast.tasks.forecast.demo_report import demo_figure, demo_report
from holdfast.tasks.forecast.estimator import Forecaster
from holdfast.tasks.forecast.evaluate import Evaluation, evaluate
from holdfast.tasks.forecast.origins import SPAN
from holdfast.tasks.forecast.speed import Speed, compare_layers
from holdfast.tasks.plots import png
from holdfast.tasks.progress import training_bar

HELD_OUT = 70 * 24


def run(out: str, seed: int = 0, max_epochs: int | None = None) -> int:
    """Train on all but the last 70 days, score those, write model, picture and report to `out`."""
    folder = Path(out)
    model = Forecaster(horizon=24, missing="fill", output="quantiles", seed=seed)
    if max_epochs is not None:
        model.set_params(max_epochs=max_epochs)
    panel = model.read(load_metro_traffic())
    training = panel.map(lambda series: series[: len(series) - HELD_OUT])
    print(
        f"Traffic on Interstate 94: {len(panel):,} hours, {_missing(panel)} of them not measured "
        "(filled from a week earlier, kept out of loss and scores).\n"
        f"Training on {len(training):,} hours; the last {HELD_OUT // 24} days are held out.",
        flush=True,
    )
    seconds = _train(model, training)
    print(f"Trained {len(model.history_)} epochs in {seconds:.0f} s.\n", flush=True)
    evaluation = evaluate(model, panel)
    _print_scores(evaluation)
    speed = _speed(model)
    print(f"\n{speed.describe()}.")
    model.save(folder / "model", evaluation.table())
    write_file(folder / "forecast.png", png(demo_figure(evaluation)))
    write_file(
        folder / "report.html", demo_report(model, evaluation, speed, seconds).encode("utf-8")
    )
    print(f"\nWrote {folder}/forecast.png, {folder}/report.html and {folder}/model/.")
    return 0


def _train(model: Forecaster, training: Panel) -> float:
    start = time.perf_counter()
    with training_bar(model) as report:
        model.fit(training, report=report)
    return time.perf_counter() - start


def _missing(panel: Panel) -> int:
    return int(sum((~series.observed).sum() for series in panel.series))


def _speed(model: Forecaster) -> Speed:
    T = model.recipe_.window + SPAN - 1
    return compare_layers(model.batch_size, T, model.net_.rows.size, model.hidden_size)


def _print_scores(evaluation: Evaluation) -> None:
    count = len(evaluation.rolled.forecast)
    print(f"Scores of {count} rolling 24-hour forecasts (vehicles an hour):\n")
    print(evaluation.text())
    for note in evaluation.notes:
        print(f"\n{note}.")

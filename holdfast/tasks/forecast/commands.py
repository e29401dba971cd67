"""What the steps of ``holdfast forecast`` do, given their parsed arguments."""

from __future__ import annotations

import io
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from holdfast.data.atomic import write_file
from holdfast.data.folder import is_folder
from holdfast.data.optional import require
from holdfast.data.panel import Panel
from holdfast.errors import DataError
from holdfast.tasks import plots
from holdfast.tasks.attempt import Attempt
from holdfast.tasks.command import (
    INTERRUPTED,
    NOTHING_LEFT,
    check_suffix,
    kept_warnings,
    uninterrupted,
)
from holdfast.tasks.forecast import figures
from holdfast.tasks.forecast.adding_up import added_up
from holdfast.tasks.forecast.backtests import as_evaluation
from holdfast.tasks.forecast.estimator import Forecaster
from holdfast.tasks.forecast.evaluate import Evaluation, evaluate
from holdfast.tasks.forecast.many import predict_many, print_pace, read_shown, show_reading
from holdfast.tasks.forecast.models import describe
from holdfast.tasks.forecast.on_ray import fit_on_ray
from holdfast.tasks.forecast.report import report
from holdfast.tasks.forecast.settings import check_settings
from holdfast.tasks.forecast.shards import PARQUET
from holdfast.tasks.forecast.terminal import show_sparklines
from holdfast.tasks.forecast.verdict import judge, warn_if_beaten
from holdfast.tasks.progress import training_bar, working

TABLES = (".csv", ".txt", *PARQUET)
# Intervals of pictures, where the model says as much: the first of these that it can.
SHOWN = ((80.0, 95.0), (80.0,), ())


def fit(arguments: Namespace, settings: dict[str, Any]) -> int:
    """Train, score the held-out rows when asked, and write the model folder in one step."""
    check_suffix(arguments.report, "--report", (".html", ".htm"))
    attempt = Attempt(Path(arguments.out), arguments.resume, arguments.restart)
    if attempt.finished():
        print(NOTHING_LEFT.format(attempt.out))
        return 0
    model = Forecaster(**settings)
    began = time.monotonic()
    # Workers read a folder themselves, but for what has to be known of its end.
    alone = arguments.on == "ray" and is_folder(arguments.data)
    spread = alone and not (arguments.holdout or arguments.report)
    panel: Any = arguments.data if spread else _read(model, arguments)
    training = _without_tail(panel, arguments.holdout) if arguments.holdout else panel
    with kept_warnings() as warned:
        if not uninterrupted(attempt, lambda: _train(model, training, attempt, arguments)):
            return INTERRUPTED
        evaluation = None
        if arguments.holdout:
            with working("scoring the rows held out"):
                evaluation = evaluate(model, panel, autoets=_autoets(arguments))
            print(evaluation.text())
    model.save(attempt.out, scores_text(evaluation, arguments.holdout))
    attempt.clear()
    if arguments.report:
        _write_report(arguments.report, model, panel, evaluation, warned)
    if model.chosen_["changes"]:
        print(f"chosen: {model.chosen_['reason']}")
    print(
        f"{attempt.out}: trained {len(model.history_)} epochs, best {model.best_epoch_}; see "
        "card.md there"
    )
    print_pace(model.data_["series"], time.monotonic() - began)
    return 0


def predict(arguments: Namespace) -> int:
    """Write the forecast as CSV or Parquet, and a picture or a page when asked."""
    check_suffix(arguments.out, "--out", TABLES)
    check_suffix(arguments.plot, "--plot", (".png",))
    check_suffix(arguments.report, "--report", (".html", ".htm"))
    model = Forecaster.load(arguments.model)
    if arguments.on == "ray" or is_folder(arguments.data):
        return predict_many(model, arguments)
    panel = _known(model, arguments)
    with kept_warnings() as warned:
        frame = model.predict(panel, levels=arguments.levels, quantiles=arguments.quantiles)
    table = _table(frame)
    if arguments.samples:
        futures = _table(model.predict_samples(panel, arguments.samples))
        names = [name for name in futures.columns if name not in table.columns]
        table = table.with_columns(*(futures[name] for name in names))
    table = _table(added_up(model, table.to_native(), arguments))
    if arguments.plot or arguments.report:
        fan = _fan(model, panel, arguments.levels, lambda one: added_up(model, one, arguments))
        if arguments.plot:
            write_file(arguments.plot, plots.png(figures.forecast_figure(panel, fan)))
        if arguments.report:
            page = report(model, panel, fan=fan, warned=warned)
            write_file(arguments.report, page.encode())
    _write_table(table, arguments.out)
    show_sparklines(panel, figures.fan_of_table(table, (), model.horizon).point)
    return 0


def evaluate_model(arguments: Namespace) -> int:
    """Print the score table, and write a picture or a page when asked."""
    check_suffix(arguments.plot, "--plot", (".png",))
    check_suffix(arguments.report, "--report", (".html", ".htm"))
    model = Forecaster.load(arguments.model)
    panel = _known(model, arguments)
    with kept_warnings() as warned, working("scoring"):
        result = evaluate(
            model,
            panel,
            last=arguments.last,
            step=arguments.step,
            autoets=_autoets(arguments),
        )
    count = len(result.rolled.forecast)
    print(f"{count} forecasts of {model.horizon} rows\n\n{result.text()}")
    for note in result.notes:
        print(f"\n{note}.")
    if arguments.plot:
        write_file(arguments.plot, plots.png(figures.backtest_figure(result)))
    if arguments.report:
        _write_report(arguments.report, model, panel, result, warned)
    return 0


def cross_validate(arguments: Namespace, settings: dict[str, Any]) -> int:
    """Print the scores over several cutoffs; write every forecast and a picture when asked."""
    check_suffix(arguments.out, "--out", TABLES)
    check_suffix(arguments.residuals, "--residuals", TABLES)
    check_suffix(arguments.plot, "--plot", (".png",))
    model = Forecaster(**settings)
    check_settings(model.get_params())
    panel = _read(model, arguments)
    with working(f"training and forecasting at {arguments.windows} cutoffs"):
        backtest = model.cross_validate(
            panel,
            arguments.windows,
            arguments.step,
            arguments.refit or False,
            levels=arguments.levels,
        )
    result = as_evaluation(backtest)
    warn_if_beaten(result.scores)
    count = len(result.rolled.forecast)
    print(f"{count} forecasts of {model.horizon} rows, {arguments.windows} cutoffs\n")
    print(result.text())
    if arguments.plot:
        write_file(arguments.plot, plots.png(figures.backtest_figure(result)))
    if arguments.out:
        _write_table(_table(backtest.frame()), arguments.out)
    if arguments.residuals:
        _write_table(_table(backtest.residuals()), arguments.residuals)
    return 0


def samples(arguments: Namespace) -> int:
    """Write whole futures as CSV or Parquet, a column each."""
    check_suffix(arguments.out, "--out", TABLES)
    model = Forecaster.load(arguments.model)
    panel = _known(model, arguments)
    _write_table(
        _table(model.predict_samples(panel, arguments.count, seed=arguments.seed)), arguments.out
    )
    return 0


def models(_: Namespace) -> int:
    """List the models, and when to take them."""
    print(describe())
    return 0


def scores_text(evaluation: Evaluation | None, rows: int | None) -> str:
    """What the card says of the scores on held-out rows."""
    if evaluation is None:
        return ""
    verdict = judge(evaluation.scores)
    said = [] if verdict is None else [f"{verdict.sentence()[0].upper()}{verdict.sentence()[1:]}."]
    notes = [f"{note}." for note in evaluation.notes]
    return "\n\n".join([f"On the {rows} rows held out:", evaluation.table(), *said, *notes])


def _read(model: Forecaster, arguments: Namespace) -> Panel:
    """The table or folder to train on."""
    with working(f"reading {arguments.data}"):
        return read_shown(model, arguments)


def _known(model: Forecaster, arguments: Namespace) -> Panel:
    """The table that a trained model is to look at."""
    future = getattr(arguments, "future_table", None)
    with working(f"reading {arguments.data}"):
        return model.known(arguments.data, static=arguments.static_table, future=future)


def _train(model: Forecaster, data: Any, attempt: Attempt, arguments: Namespace) -> None:
    """Train here, or with several processes of a Ray cluster."""
    how: dict[str, Any] = {"checkpoint": attempt.checkpoint, "resume": arguments.resume}
    if arguments.on == "here":
        with training_bar(model) as watcher:
            model.fit(data, start=arguments.start, report=watcher, **how)
        return
    if arguments.start is not None:
        raise DataError("--start does not go with --on ray; leave one of them out")
    static = arguments.static_table
    fit_on_ray(model, data, workers=arguments.workers, static=static, report=show_reading, **how)


def _write_report(
    path: str, model: Forecaster, panel: Panel, evaluation: Evaluation | None, warned: list[str]
) -> None:
    """Write the page, with forecasts after the end where they can be made."""
    try:
        fan = _fan(model, panel, ())
    except DataError:
        # The table ends where it ends: future covariates may not be known after it.
        fan = None
    page = report(model, panel, evaluation=evaluation, fan=fan, warned=warned)
    write_file(path, page.encode())


def _fan(
    model: Forecaster,
    panel: Panel,
    levels: tuple[float, ...],
    change: Callable[[Any], Any] = lambda frame: frame,
) -> figures.Fan:
    """Forecasts after the end of a panel with `levels`, or those that the model can say.

    `change` is what is done to their frame.
    """
    for tried in (levels,) if levels else SHOWN:
        try:
            frame = model.predict(panel, levels=tried)
        except DataError:
            if not tried or levels:
                raise
            continue
        return figures.fan_of_table(_table(change(frame)), tried, model.horizon)
    raise AssertionError("a forecast without intervals is always tried")


def _table(frame: Any) -> Any:
    """A native frame as one of narwhals."""
    return require("narwhals").from_native(frame, eager_only=True)


def _write_table(table: Any, out: str | None) -> None:
    """The frame as CSV with all digits, or as Parquet, into a file or to stdout."""
    if out and Path(out).suffix.lower() in PARQUET:
        content = io.BytesIO()
        polars = require("polars")
        polars.DataFrame(table.to_dict(as_series=False)).write_parquet(content)
        write_file(out, content.getvalue())
        return
    buffer = io.StringIO()
    buffer.write(",".join(map(_cell, table.columns)) + "\n")
    for row in table.iter_rows():
        buffer.write(",".join(map(_cell, row)) + "\n")
    if out:
        write_file(out, buffer.getvalue().encode())
    else:
        sys.stdout.write(buffer.getvalue())


def _autoets(arguments: Namespace) -> bool | None:
    return False if arguments.no_autoets else None


def _without_tail(panel: Panel, rows: int) -> Panel:
    for series in panel.series:
        if len(series) <= rows:
            where = f" (series {series.id!r})" if series.id else ""
            raise DataError(
                f"{panel.name}{where}: {len(series)} rows, of which --holdout {rows} leaves none; "
                "hold out fewer"
            )
    return panel.map(lambda series: series[: len(series) - rows])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return repr(value)
    text = str(value)
    if any(mark in text for mark in ',"\n'):
        return '"' + text.replace('"', '""') + '"'
    return text

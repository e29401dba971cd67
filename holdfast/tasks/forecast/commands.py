"""What ``holdfast forecast fit|predict|evaluate`` do, given their parsed arguments."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.data.atomic import write_file
from holdfast.data.folder import is_folder
from holdfast.data.optional import require
from holdfast.data.panel import Panel
from holdfast.errors import DataError, ModelError
from holdfast.tasks.forecast.estimator import Forecaster
from holdfast.tasks.forecast.evaluate import evaluate
from holdfast.tasks.forecast.many import predict_many, print_pace, read_shown, show_reading
from holdfast.tasks.forecast.on_ray import fit_on_ray
from holdfast.tasks.forecast.plots import forecast_figure, png
from holdfast.tasks.forecast.shards import PARQUET
from holdfast.tasks.model_folder import CONFIG
from holdfast.tasks.progress import training_bar

OPTIONAL = (
    "hidden_size",
    "num_layers",
    "learning_rate",
    "batch_size",
    "max_epochs",
    "patience",
    "window",
    "seasons",
)


def fit(arguments: Namespace) -> int:
    """Train, score the held-out rows when asked, and write the model folder in one step."""
    out = Path(arguments.out)
    checkpoint = out.with_name(out.name + ".checkpoint")
    if _finished(out, checkpoint, arguments):
        print(f"{out}: the training is finished; nothing to resume")
        return 0
    given = {n: getattr(arguments, n) for n in OPTIONAL if getattr(arguments, n) is not None}
    model = Forecaster(
        arguments.horizon,
        id_column=arguments.id,
        time_column=arguments.time,
        target_column=arguments.target,
        past=arguments.past,
        missing=arguments.missing,
        cell=arguments.cell,
        seed=arguments.seed,
        device=arguments.device,
        **given,
    )
    began = time.monotonic()
    spread = arguments.on == "ray" and is_folder(arguments.data) and not arguments.holdout
    # Workers read a folder themselves, but for what has to be known of its end.
    panel: Any = arguments.data if spread else read_shown(model, arguments)
    training = _without_tail(panel, arguments.holdout) if arguments.holdout else panel
    try:
        if arguments.on == "ray":
            fit_on_ray(
                model,
                training,
                workers=arguments.workers,
                checkpoint=checkpoint,
                resume=arguments.resume,
                report=show_reading,
            )
        else:
            with training_bar(model.max_epochs) as report:
                model.fit(training, checkpoint=checkpoint, resume=arguments.resume, report=report)
    except KeyboardInterrupt:
        hint = "; run the same command with --resume to go on" if checkpoint.exists() else ""
        print(f"holdfast: interrupted{hint}", file=sys.stderr)
        return 130
    scores = ""
    if arguments.holdout:
        evaluation = evaluate(model, panel)
        scores = "\n\n".join([f"On the {arguments.holdout} rows held out:", evaluation.table()])
        scores = "\n\n".join([scores, *evaluation.notes])
        print(evaluation.table())
    model.save(out, scores)
    for file in (checkpoint, *out.parent.glob(f"{checkpoint.name}.*")):
        file.unlink(missing_ok=True)
    print(
        f"{out}: trained {len(model.history_)} epochs, best {model.best_epoch_}; see card.md there"
    )
    print_pace(model.data_["series"], time.monotonic() - began)
    return 0


def predict(arguments: Namespace) -> int:
    """Write the forecast as CSV or Parquet, and a picture when asked."""
    model = Forecaster.load(arguments.model)
    if (
        arguments.on == "ray"
        or is_folder(arguments.data)
        or Path(arguments.out or "").suffix.lower() in PARQUET
    ):
        return predict_many(model, arguments)
    panel = model.known(arguments.data)
    frame = model.predict(panel)
    table = require("narwhals").from_native(frame, eager_only=True)
    buffer = io.StringIO()
    buffer.write(",".join(table.columns) + "\n")
    for row in table.iter_rows():
        buffer.write(",".join(_cell(value) for value in row) + "\n")
    if arguments.plot:
        forecasts = np.asarray(table["forecast"].to_list()).reshape(-1, model.horizon)
        picture = png(forecast_figure(panel, forecasts))
        write_file(arguments.plot, picture)
    if arguments.out:
        write_file(arguments.out, buffer.getvalue().encode())
    else:
        sys.stdout.write(buffer.getvalue())
    return 0


def evaluate_model(arguments: Namespace) -> int:
    """Print the score table."""
    model = Forecaster.load(arguments.model)
    autoets = False if arguments.no_autoets else None
    result = evaluate(
        model, arguments.data, last=arguments.last, step=arguments.step, autoets=autoets
    )
    count = len(result.rolled.forecast)
    print(f"{count} forecasts of {model.horizon} rows\n\n{result.table()}")
    for note in result.notes:
        print(f"\n{note}.")
    return 0


def _finished(out: Path, checkpoint: Path, arguments: Namespace) -> bool:
    """Whether there is nothing left to do; refuses to overwrite what --restart was not given "
    "for."""
    if arguments.restart:
        with contextlib.suppress(OSError):
            checkpoint.unlink(missing_ok=True)
        if out.exists() and not (out / CONFIG).is_file():
            raise ModelError(f"{out}: exists and is no model folder; choose another --out")
        return False
    if checkpoint.exists() and not arguments.resume:
        raise ModelError(
            f"{checkpoint}: holds an unfinished training; pass --resume to go on with it, or "
            "--restart to begin again"
        )
    if out.exists():
        if arguments.resume and (out / CONFIG).is_file():
            return True
        raise ModelError(f"{out}: exists already; choose another --out, or pass --restart")
    return False


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

"""What the steps of ``holdfast classify`` do, given their parsed arguments."""

from __future__ import annotations

import io
import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.data.atomic import write_file
from holdfast.data.examples import Examples, read_examples
from holdfast.data.optional import require
from holdfast.data.text.lines import read_lines
from holdfast.errors import DataError
from holdfast.tasks import plots
from holdfast.tasks.attempt import Attempt
from holdfast.tasks.classify import figures
from holdfast.tasks.classify.estimator import SequenceClassifier
from holdfast.tasks.classify.evaluate import Evaluation, evaluate
from holdfast.tasks.classify.report import report
from holdfast.tasks.command import (
    INTERRUPTED,
    NOTHING_LEFT,
    check_suffix,
    kept_warnings,
    uninterrupted,
)
from holdfast.tasks.progress import training_bar, working
from holdfast.tasks.terminal import aligned

PARQUET = (".parquet", ".pq")
TABLES = (".csv", *PARQUET)
PAGES = (".html", ".htm")


def fit(arguments: Namespace, settings: dict[str, Any]) -> int:
    """Train, score the test table when there is one, and write the model folder in one step."""
    check_suffix(arguments.report, "--report", PAGES)
    if arguments.report and not arguments.test:
        raise DataError("--report needs scores; give --test FILE with examples to score")
    attempt = Attempt(Path(arguments.out), arguments.resume, arguments.restart)
    if attempt.finished():
        print(NOTHING_LEFT.format(attempt.out))
        return 0
    model = SequenceClassifier(**_label(settings))
    with kept_warnings() as warned:
        if not uninterrupted(attempt, lambda: _train(model, attempt, arguments)):
            return INTERRUPTED
        evaluation = None
        if arguments.test:
            with working(f"scoring {arguments.test}"):
                train = (arguments.data, arguments.labels)
                evaluation = evaluate(model, arguments.test, arguments.labels, train=train)
            print(evaluation.text())
    model.save(attempt.out, _scores(evaluation, arguments.test))
    attempt.clear()
    if arguments.report and evaluation is not None:
        write_file(arguments.report, report(model, evaluation, warned).encode())
    print(
        f"{attempt.out}: trained {len(model.history_)} epochs, best {model.best_epoch_}; see "
        "card.md there"
    )
    return 0


def predict(arguments: Namespace) -> int:
    """Write the answer for every example as CSV or Parquet."""
    check_suffix(arguments.out, "--out", TABLES)
    model = SequenceClassifier.load(arguments.model)
    examples = _examples(model, arguments.data)
    with working("reading"):
        found = model.predict_proba(examples)
    columns: dict[str, list[Any]] = {}
    if examples.ids:
        columns[model.id_column or "id"] = list(examples.ids)
    if model.labels_.several:
        said = [
            [model.labels_.classes[k] for k in np.flatnonzero(row)] for row in model.choose(found)
        ]
        columns["labels"] = [" ".join(map(str, row)) for row in said]
        for at, label in enumerate(model.labels_.classes):
            columns[f"probability-{label}"] = found[:, at].tolist()
    else:
        order = np.argsort(-found, axis=1, kind="stable")
        for place in range(min(arguments.top, found.shape[1])):
            end = f"-{place + 1}" if place else ""
            at = order[:, place]
            columns[f"label{end}"] = [model.labels_.classes[k] for k in at]
            columns[f"probability{end}"] = found[np.arange(len(found)), at].tolist()
    _write(columns, arguments.out)
    return 0


def evaluate_model(arguments: Namespace) -> int:
    """Print the score table, and write a picture or a page when asked."""
    check_suffix(arguments.plot, "--plot", (".png",))
    check_suffix(arguments.report, "--report", PAGES)
    model = SequenceClassifier.load(arguments.model)
    train = (arguments.train, arguments.labels) if arguments.train else None
    with kept_warnings() as warned, working("scoring"):
        result = evaluate(model, arguments.data, arguments.labels, train=train)
    print(result.text())
    if arguments.plot:
        write_file(arguments.plot, plots.png(figures.evaluation_figure(result)))
    if arguments.report:
        write_file(arguments.report, report(model, result, warned).encode())
    return 0


def explain(arguments: Namespace) -> int:
    """Print what speaks for the likeliest label, or for another, in a text or in an example."""
    check_suffix(arguments.plot, "--plot", (".png",))
    model = SequenceClassifier.load(arguments.model)
    if (arguments.words is None) == (arguments.data is None):
        raise DataError('give a text, as in: explain MODEL "a text", or --data FILE and --example')
    if arguments.words is not None:
        examples = read_examples([arguments.words])
    else:
        examples = _examples(model, arguments.data)
        if arguments.example > len(examples):
            raise DataError(
                f"{arguments.data}: there are {len(examples)} examples, got "
                f"--example {arguments.example}"
            )
        examples = examples.take([arguments.example - 1])
    (found,) = model.explain(examples, arguments.label)
    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    print(f"{found.label}: probability {found.probability:.4f}")
    if found.tokens:
        print(f"\n{found.line(color)}")
    rows = [
        [name.strip() or "(blank)", f"{score:+.4f}"] for name, score in found.top(arguments.top)
    ]
    print(f"\n{aligned(['part', 'log-odds'], rows)}\n")
    print(
        f"log-odds {found.value:+.4f}, of an empty example {found.baseline:+.4f}; attributions "
        f"miss the difference by {found.error:+.5f} ({found.steps} points)"
    )
    if arguments.plot:
        if found.numbers is None or examples.series is None:
            raise DataError("--plot shows sequences of numbers; the model reads texts alone")
        figure = figures.attribution_figure(found, examples.series[0])
        write_file(arguments.plot, plots.png(figure))
    return 0


def _label(settings: dict[str, Any]) -> dict[str, Any]:
    """One name of a column of labels as it is, several as they are."""
    names = settings.get("label", ())
    return {**settings, "label": names[0]} if len(names) == 1 else settings


def _train(model: SequenceClassifier, attempt: Attempt, arguments: Namespace) -> None:
    held_out = None
    if arguments.held_out:
        held_out = (arguments.held_out, arguments.labels)
    with training_bar(model) as watcher:
        model.fit(
            arguments.data,
            arguments.labels,
            held_out=held_out,
            checkpoint=attempt.checkpoint,
            resume=arguments.resume,
            report=watcher,
        )


def _scores(evaluation: Evaluation | None, name: str | None) -> str:
    """What the card says of the scores."""
    if evaluation is None:
        return ""
    margin = f"± {100 * evaluation.margin:.1f} points of accuracy at 95 %"
    said = f"On the {len(evaluation.truth)} examples of {Path(name or '').name} ({margin}):"
    verdict = evaluation.verdict
    more = [f"{verdict[0].upper()}{verdict[1:]}."] if verdict else []
    return "\n\n".join([said, evaluation.table(), *more])


def _examples(model: SequenceClassifier, path: str) -> Examples:
    """The examples of a table, or of a file with a text a line."""
    name = Path(path).name.lower().removesuffix(".gz").removesuffix(".xz")
    if name.endswith(".txt"):
        return read_examples(read_lines(path, encoding=model.encoding))
    return model.read(path)


def _write(columns: dict[str, list[Any]], out: str | None) -> None:
    """A table as CSV with all digits, or as Parquet, into a file or to stdout."""
    table = require("polars", "text").DataFrame(columns)
    if out and Path(out).suffix.lower() in PARQUET:
        content = io.BytesIO()
        table.write_parquet(content)
        write_file(out, content.getvalue())
    elif out:
        write_file(out, table.write_csv().encode())
    else:
        sys.stdout.write(table.write_csv())

"""The command line: one verb a job.

A verb is a function that adds its own parser and sets ``run``, a function of the parsed arguments
that returns the exit status; `VERBS` lists them. Nothing heavy is imported before a verb runs.
Errors that Holdfast raises on purpose become one line on stderr and exit status 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from holdfast.errors import HoldfastError
from holdfast.show import add_cells, add_show

FAILED, INTERRUPTED = 2, 130


def add_forecast(verbs: Any) -> None:
    """``holdfast forecast fit|predict|evaluate``."""
    parser = verbs.add_parser(
        "forecast", help="train a forecaster on a table, predict with it, and score it"
    )
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    _add_fit(steps)
    _add_predict(steps)
    _add_evaluate(steps)


def add_demo(verbs: Any) -> None:
    """``holdfast demo``: the whole way from the table that ships with the package to a report."""
    parser = verbs.add_parser(
        "demo", help="train on two years of highway traffic and write a report (no network)"
    )
    parser.add_argument("--out", default="demo", help="folder for the results (default: demo)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training (default: 0)")
    parser.add_argument(
        "--max-epochs", type=_count, help="stop after this many epochs (default: the task's)"
    )
    parser.set_defaults(run=_run_demo)


def add_tune(verbs: Any) -> None:
    """``holdfast tune CELL``: measure how the cell's kernels should cut their products here."""
    parser = verbs.add_parser(
        "tune", help="measure a cell's kernels on this machine and remember the fastest tiles"
    )
    parser.add_argument("cell", help="a name in the catalogue; see `holdfast cells`")
    for option, size, meaning in (
        ("--batch", 32, "B, rows of the batch"),
        ("--steps", 100, "T, steps"),
        ("--input", 32, "I, inputs"),
        ("--hidden", 128, "H, units"),
    ):
        parser.add_argument(option, type=_count, default=size, help=f"{meaning} (default: {size})")
    parser.add_argument("--threads", type=_count, help="default: as many as PyTorch takes")
    parser.add_argument("--inference", action="store_true", help="leave the training kernels out")
    parser.set_defaults(run=_run_tune)


VERBS = (add_cells, add_show, add_tune, add_forecast, add_demo)


def build_parser() -> argparse.ArgumentParser:
    """The parser with every verb."""
    from holdfast import __version__

    parser = argparse.ArgumentParser(
        prog="holdfast", description="A compiler and toolkit for Long Short-Term Memory."
    )
    parser.add_argument("--version", action="version", version=f"holdfast {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for add in VERBS:
        add(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0 done, 2 refused, 130 interrupted.

    >>> main(["forecast", "predict", "no-such-model", "table.csv"])
    2
    """
    arguments = build_parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except HoldfastError as error:
        print(f"holdfast: error: {' '.join(str(error).split())}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("holdfast: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return FAILED


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return number


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_count(name) for name in _names(text))


def _add_fit(steps: Any) -> None:
    parser = steps.add_parser("fit", help="train on DATA and write the model folder")
    parser.add_argument(
        "data", metavar="DATA", help="CSV or Parquet file (also .gz, .xz), or a folder of Parquet"
    )
    _add_places(parser)
    parser.add_argument("--out", required=True, metavar="MODEL", help="folder to write")
    parser.add_argument("--id", metavar="COLUMN", help="id column (default: unique_id, if any)")
    parser.add_argument("--time", default="ds", metavar="COLUMN", help="time column (default: ds)")
    parser.add_argument("--target", default="y", metavar="COLUMN", help="target (default: y)")
    parser.add_argument("--past", type=_names, default=(), metavar="A,B")
    parser.add_argument("--horizon", type=_count, default=24, help="rows to forecast (24)")
    parser.add_argument("--missing", choices=("error", "fill"), default="error")
    parser.add_argument("--holdout", type=_count, metavar="N", help="score on the last N rows")
    parser.add_argument("--window", type=_count, help="rows read (default: from the frequency)")
    parser.add_argument("--seasons", type=_counts, metavar="24,168", help="season lengths in rows")
    parser.add_argument("--cell", default="lstm", help="a cell of the catalogue (default: lstm)")
    parser.add_argument("--hidden-size", type=_count, default=None)
    parser.add_argument("--num-layers", type=_count, default=None)
    parser.add_argument("--learning-rate", type=float, default=None)
    parser.add_argument("--batch-size", type=_count, default=None)
    parser.add_argument("--max-epochs", type=_count, default=None)
    parser.add_argument("--patience", type=_count, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu (default) or a GPU, when asked for")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with an interrupted training")
    again.add_argument("--restart", action="store_true", help="replace an older model or attempt")
    parser.set_defaults(run=_run_fit)


def _add_places(parser: Any) -> None:
    """Where the work is done."""
    parser.add_argument("--on", choices=("here", "ray"), default="here", help="where to work")
    parser.add_argument("--workers", type=_count, default=2, help="with --on ray (default: 2)")


def _add_predict(steps: Any) -> None:
    parser = steps.add_parser("predict", help="forecast what follows DATA")
    parser.add_argument("model", metavar="MODEL", help="folder that fit wrote")
    parser.add_argument("data", metavar="DATA", help="table that ends where the forecast begins")
    parser.add_argument("--out", metavar="FILE", help=".csv or .parquet (default: CSV on stdout)")
    _add_places(parser)
    parser.add_argument("--plot", metavar="PNG", help="picture to write")
    parser.set_defaults(run=_run_predict)


def _add_evaluate(steps: Any) -> None:
    parser = steps.add_parser("evaluate", help="rolling-origin scores beside the baselines")
    parser.add_argument("model", metavar="MODEL", help="folder that fit wrote")
    parser.add_argument("data", metavar="DATA", help="table with rows after those of training")
    parser.add_argument("--last", type=_count, metavar="N", help="score the last N rows instead")
    parser.add_argument("--step", type=_count, help="rows between origins (default: horizon)")
    parser.add_argument("--no-autoets", action="store_true", help="leave AutoETS out")
    parser.set_defaults(run=_run_evaluate)


def _run_fit(arguments: argparse.Namespace) -> int:
    from holdfast.tasks.forecast import commands

    return commands.fit(arguments)


def _run_predict(arguments: argparse.Namespace) -> int:
    from holdfast.tasks.forecast import commands

    return commands.predict(arguments)


def _run_evaluate(arguments: argparse.Namespace) -> int:
    from holdfast.tasks.forecast import commands

    return commands.evaluate_model(arguments)


def _run_tune(arguments: argparse.Namespace) -> int:
    import torch

    from holdfast.nn import Recurrent
    from holdfast.nn.tuning import table, tune

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    layer = Recurrent(arguments.cell, arguments.input, arguments.hidden)
    watched = sys.stderr.isatty()
    found = tune(
        layer,
        arguments.steps,
        arguments.batch,
        training=not arguments.inference,
        progress=lambda text: print(text, file=sys.stderr) if watched else None,
    )
    print(table(found))
    return 0


def _run_demo(arguments: argparse.Namespace) -> int:
    from holdfast.tasks.forecast import demo

    return demo.run(arguments.out, seed=arguments.seed, max_epochs=arguments.max_epochs)


if __name__ == "__main__":
    sys.exit(main())

"""The verb ``classify``; what it does stands in `holdfast.tasks.classify`."""

from __future__ import annotations

import argparse
from typing import Any

from holdfast.verbs.classify_settings import SETTINGS
from holdfast.verbs.jobs import add_again, add_job, runs
from holdfast.verbs.parser import count
from holdfast.verbs.settings import add_settings

TABLE_HELP = "CSV, TSV, Parquet or JSONL file (text also .gz, .xz)"


def add_classify(verbs: Any) -> None:
    """``holdfast classify fit|predict|evaluate|explain``."""
    meaning = "train a classifier of texts or sequences of numbers, and use it"
    add_job(verbs, "classify", meaning, STEPS)


def _add_fit(steps: Any) -> None:
    parser = steps.add_parser(
        "fit",
        usage="%(prog)s DATA --out MODEL [OPTIONS]",
        help="train on DATA and write the model folder",
    )
    parser.add_argument("data", metavar="DATA", help=TABLE_HELP)
    parser.add_argument("--out", required=True, metavar="MODEL", help="folder to write")
    parser.add_argument(
        "--held-out", metavar="TABLE", help="examples that choose the epoch and calibrate"
    )
    parser.add_argument("--test", metavar="TABLE", help="examples to score afterwards")
    parser.add_argument("--report", metavar="HTML", help="page to write: scores and pictures")
    _add_labels(parser)
    add_again(parser)
    add_settings(parser, SETTINGS)
    parser.set_defaults(run=runs("classify", "fit", SETTINGS))


def _add_predict(steps: Any) -> None:
    parser = steps.add_parser("predict", help="say the class of every example of DATA")
    _add_model_and_data(parser, f"{TABLE_HELP}, or .txt with a text a line")
    parser.add_argument("--out", metavar="FILE", help=".csv or .parquet to write (default: stdout)")
    parser.add_argument("--top", type=count, default=1, metavar="N", help="likeliest classes (1)")
    parser.set_defaults(run=runs("classify", "predict"))


def _add_evaluate(steps: Any) -> None:
    parser = steps.add_parser("evaluate", help="score a model on DATA, beside simple methods")
    _add_model_and_data(parser, "table with labels that training has not seen")
    parser.add_argument(
        "--train", metavar="TABLE", help="table of training, to fit a logistic regression to"
    )
    _add_labels(parser)
    parser.add_argument("--plot", metavar="PNG", help="picture to write: confusion, reliability")
    parser.add_argument("--report", metavar="HTML", help="page to write")
    parser.set_defaults(run=runs("classify", "evaluate_model"))


def _add_explain(steps: Any) -> None:
    parser = steps.add_parser("explain", help="show what speaks for a class, token by token")
    parser.add_argument("model", metavar="MODEL", help="folder that fit wrote")
    parser.add_argument("words", metavar="TEXT", nargs="?", help="a text")
    parser.add_argument("--data", metavar="DATA", help="or a table of examples")
    parser.add_argument("--example", type=count, default=1, metavar="N", help="which of it (1)")
    parser.add_argument("--label", metavar="LABEL", help="which class (default: the likeliest)")
    parser.add_argument("--top", type=count, default=10, metavar="N", help="tokens listed (10)")
    parser.add_argument("--plot", metavar="PNG", help="picture of a sequence of numbers to write")
    parser.set_defaults(run=runs("classify", "explain"))


def _add_model_and_data(parser: argparse.ArgumentParser, data: str) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder that fit wrote")
    parser.add_argument("data", metavar="DATA", help=data)


def _add_labels(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--labels", metavar="TABLE", help="table of labels, a row for each id")


STEPS = (_add_fit, _add_predict, _add_evaluate, _add_explain)

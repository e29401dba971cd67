"""The verb ``translate``; what it does stands in `holdfast.tasks.translate`."""

from __future__ import annotations

import argparse
from typing import Any

from holdfast.verbs.jobs import add_again, add_job, runs
from holdfast.verbs.parser import count, number, whole
from holdfast.verbs.settings import add_settings
from holdfast.verbs.translate_settings import SETTINGS

TABLE_HELP = "CSV, TSV, Parquet or JSONL file with both columns"


def add_translate(verbs: Any) -> None:
    """``holdfast translate fit|predict|evaluate``."""
    meaning = "train a translator on pairs of texts, translate with it, and score it"
    add_job(verbs, "translate", meaning, STEPS)


def _add_fit(steps: Any) -> None:
    parser = steps.add_parser(
        "fit",
        usage="%(prog)s --source FILE --target FILE --out MODEL [OPTIONS]",
        help="train on pairs and write the model folder",
    )
    _add_pairs(parser, "", "to train on")
    _add_pairs(parser, "valid-", "to watch (default: a share of the others)")
    _add_pairs(parser, "test-", "to score in the end")
    parser.add_argument("--out", required=True, metavar="MODEL", help="folder to write")
    parser.add_argument("--plot", metavar="PNG", help="picture of the losses to write")
    add_again(parser)
    add_settings(parser, SETTINGS)
    parser.set_defaults(run=runs("translate", "fit", SETTINGS))


def _add_predict(steps: Any) -> None:
    parser = steps.add_parser("predict", help="write a target for each source")
    parser.add_argument("model", metavar="MODEL", help="folder that fit wrote")
    parser.add_argument(
        "sources", metavar="FILE", help="a source a line, or a table; - reads standard input"
    )
    parser.add_argument("--out", metavar="FILE", help="file to write (default: stdout)")
    parser.add_argument("--n-best", type=count, metavar="N", help="so many, with their scores")
    parser.add_argument(
        "--temperature", type=number, default=0.0, metavar="T", help="draw instead of searching"
    )
    parser.add_argument("--top-k", type=whole, default=0, metavar="K", help="of the K likeliest")
    parser.add_argument(
        "--top-p", type=number, default=1.0, metavar="P", help="of the likeliest with share P"
    )
    parser.add_argument("--seed", type=whole, default=0, metavar="N", help="decides what is drawn")
    parser.add_argument("--attention", metavar="PNG", help="picture of the first few to write")
    _add_how(parser)
    parser.set_defaults(run=runs("translate", "predict"))


def _add_evaluate(steps: Any) -> None:
    parser = steps.add_parser("evaluate", help="BLEU and chrF with signatures, and perplexity")
    parser.add_argument("model", metavar="MODEL", help="folder that fit wrote")
    _add_pairs(parser, "", "to score")
    parser.add_argument("--out", metavar="FILE", help="file for the translations")
    _add_how(parser)
    parser.set_defaults(run=runs("translate", "evaluate"))


def _add_pairs(parser: argparse.ArgumentParser, part: str, meaning: str) -> None:
    group = parser.add_argument_group(f"pairs {meaning}")
    group.add_argument(f"--{part}source", metavar="FILE", help="a source a line")
    group.add_argument(f"--{part}target", metavar="FILE", help="its target, in the same line")
    group.add_argument(f"--{part}table", metavar="TABLE", help=TABLE_HELP)


def _add_how(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--beam", type=count, metavar="K", help="hypotheses of a source (default: the model's)"
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, or a GPU (default: the model's)")


STEPS = (_add_fit, _add_predict, _add_evaluate)

"""The verb ``language``; what it does stands in `holdfast.tasks.language`."""

from __future__ import annotations

import argparse
from typing import Any

from holdfast.verbs.jobs import add_again, add_job, runs
from holdfast.verbs.language_settings import SETTINGS
from holdfast.verbs.parser import count, number, whole
from holdfast.verbs.settings import add_settings

TEXT_HELP = "text file (also .gz, .xz), or a folder with train.txt, valid.txt, test.txt"


def add_language(verbs: Any) -> None:
    """``holdfast language fit|score|generate|presets``."""
    meaning = "train a language model on a text, score texts by it, and write more"
    add_job(verbs, "language", meaning, STEPS)


def _add_fit(steps: Any) -> None:
    parser = steps.add_parser(
        "fit",
        usage="%(prog)s TEXT --out MODEL [OPTIONS]",
        help="train on TEXT and write the model folder",
    )
    parser.add_argument("data", metavar="TEXT", help=TEXT_HELP)
    parser.add_argument("--out", required=True, metavar="MODEL", help="folder to write")
    parser.add_argument(
        "--preset", metavar="NAME", help="settings to begin with; see `holdfast language presets`"
    )
    parser.add_argument(
        "--start",
        metavar="MODEL",
        help="go on from this model; its settings hold but those given",
    )
    parser.add_argument("--valid", metavar="TEXT", help="watch this text, not the end of TEXT")
    parser.add_argument("--test", metavar="TEXT", help="score this text when all is done")
    parser.add_argument("--plot", metavar="PNG", help="picture of the losses to write")
    add_again(parser)
    add_settings(parser, SETTINGS)
    parser.set_defaults(run=runs("language", "fit", SETTINGS))


def _add_score(steps: Any) -> None:
    parser = steps.add_parser("score", help="perplexity and bits per character of TEXT")
    _add_model(parser)
    parser.add_argument("data", metavar="TEXT", help=TEXT_HELP)
    parser.add_argument("--after", metavar="TEXT", help="read this text before, without scoring it")
    parser.add_argument(
        "--rows", type=count, default=1, metavar="N", help="parts read side by side, faster (1)"
    )
    parser.add_argument("--cache", type=count, metavar="N", help="cache of the last N tokens")
    parser.add_argument(
        "--dynamic", action="store_true", help="go on learning from what has been scored"
    )
    parser.add_argument("--dynamic-rate", type=number, metavar="R", help="the step size of it")
    parser.add_argument(
        "--statistics", metavar="TEXT", help="text that tells how large its steps should be"
    )
    parser.add_argument("--plot", metavar="PNG", help="picture of what surprises, to write")
    parser.set_defaults(run=runs("language", "score"))


def _add_generate(steps: Any) -> None:
    parser = steps.add_parser("generate", help="write more, token by token")
    _add_model(parser)
    parser.add_argument("--prefix", default="", metavar="TEXT", help="what it goes on from")
    parser.add_argument("--length", type=count, default=500, metavar="N", help="tokens (500)")
    parser.add_argument(
        "--temperature", type=number, default=1.0, metavar="T", help="0: the likeliest token (1)"
    )
    parser.add_argument(
        "--top-k", type=whole, default=0, metavar="K", help="only the K likeliest tokens"
    )
    parser.add_argument(
        "--top-p", type=number, default=1.0, metavar="P", help="only those with P together"
    )
    parser.add_argument("--seed", type=whole, default=0, metavar="N", help="chooses the text (0)")
    parser.add_argument(
        "--samples", type=count, default=1, metavar="N", help="texts, drawn side by side (1)"
    )
    parser.set_defaults(run=runs("language", "generate"))


def _add_presets(steps: Any) -> None:
    parser = steps.add_parser("presets", help="list the presets")
    parser.set_defaults(run=runs("language", "presets"))


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder that fit wrote")


STEPS = (_add_fit, _add_score, _add_generate, _add_presets)

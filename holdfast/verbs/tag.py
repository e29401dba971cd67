"""The verb ``tag``; what it does stands in `holdfast.tasks.tag`."""

from __future__ import annotations

import argparse
from typing import Any

from holdfast.verbs.jobs import add_again, add_job, runs
from holdfast.verbs.parser import count
from holdfast.verbs.settings import add_settings, given
from holdfast.verbs.tag_settings import NONE, OPTIONAL, SETTINGS

FILE_HELP = "file with a token a line and a blank line between sentences (also .gz, .xz)"


def add_tag(verbs: Any) -> None:
    """``holdfast tag fit|predict|evaluate``."""
    meaning = "train a tagger of tokens, tag with it, and score it"
    add_job(verbs, "tag", meaning, STEPS)


def _add_fit(steps: Any) -> None:
    parser = steps.add_parser(
        "fit",
        usage="%(prog)s FILE --out MODEL [OPTIONS]",
        help="train on FILE and write the model folder",
    )
    parser.add_argument("file", metavar="FILE", help=FILE_HELP)
    parser.add_argument("--out", required=True, metavar="MODEL", help="folder to write")
    parser.add_argument("--valid", metavar="FILE", help="sentences that choose the epoch")
    parser.add_argument("--report", metavar="HTML", help="page to write; needs --valid")
    add_again(parser)
    add_settings(parser, SETTINGS)
    parser.set_defaults(run=_run_fit)


def _add_predict(steps: Any) -> None:
    parser = steps.add_parser("predict", help="write FILE with a tag behind every token")
    _add_model_and_file(parser, f"{FILE_HELP}; - is stdin")
    parser.add_argument(
        "--text", action="store_true", help="FILE is plain text, a sentence a line, cut into words"
    )
    parser.add_argument("--out", metavar="FILE", help="file to write (default: stdout)")
    parser.add_argument(
        "--n-best", type=count, metavar="N", help="the N likeliest sequences, with probabilities"
    )
    parser.add_argument(
        "--confidence", action="store_true", help="a last column with the probability of the tag"
    )
    parser.set_defaults(run=runs("tag", "predict"))


def _add_evaluate(steps: Any) -> None:
    parser = steps.add_parser("evaluate", help="score the tags of FILE: the table of conlleval")
    _add_model_and_file(parser, f"{FILE_HELP}, with its tags")
    parser.add_argument("--plot", metavar="PNG", help="picture of confused tags to write")
    parser.add_argument("--report", metavar="HTML", help="page to write")
    parser.set_defaults(run=runs("tag", "evaluate"))


def _add_model_and_file(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder that fit wrote")
    parser.add_argument("file", metavar="FILE", help=meaning)


def _run_fit(arguments: argparse.Namespace) -> int:
    from holdfast.tasks.tag import commands

    settings = given(arguments, SETTINGS)
    for name in OPTIONAL:
        if settings.get(name) == NONE:
            settings[name] = None
    return commands.fit(arguments, settings)


STEPS = (_add_fit, _add_predict, _add_evaluate)

"""The verb ``tag``; what it does stands in `holdfast.tasks.tag`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from holdfast.verbs.parser import count
from holdfast.verbs.settings import add_settings, given
from holdfast.verbs.tag_settings import NONE, OPTIONAL, SETTINGS

FILE_HELP = "file with a token a line and a blank line between sentences (also .gz, .xz)"


def add_tag(verbs: Any) -> None:
    """``holdfast tag fit|predict|evaluate``."""
    parser = verbs.add_parser("tag", help="train a tagger of tokens, tag with it, and score it")
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    for add in STEPS:
        add(steps)


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
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with an interrupted training")
    again.add_argument("--restart", action="store_true", help="replace an older model or attempt")
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
    parser.set_defaults(run=_runs("predict"))


def _add_evaluate(steps: Any) -> None:
    parser = steps.add_parser("evaluate", help="score the tags of FILE: the table of conlleval")
    _add_model_and_file(parser, f"{FILE_HELP}, with its tags")
    parser.add_argument("--plot", metavar="PNG", help="picture of confused tags to write")
    parser.add_argument("--report", metavar="HTML", help="page to write")
    parser.set_defaults(run=_runs("evaluate"))


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


def _runs(name: str) -> Callable[[argparse.Namespace], int]:
    """A function that runs a command, and imports it only then."""

    def run(arguments: argparse.Namespace) -> int:
        from holdfast.tasks.tag import commands

        return getattr(commands, name)(arguments)

    return run


STEPS = (_add_fit, _add_predict, _add_evaluate)

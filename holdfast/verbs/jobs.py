"""What the verbs of all jobs share: steps, interrupted trainings, commands imported late."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from typing import Any

from holdfast.verbs.settings import Setting, given


def add_job(verbs: Any, name: str, meaning: str, steps: Sequence[Callable[[Any], None]]) -> None:
    """A verb with steps under it, each a function that adds its own parser."""
    parser = verbs.add_parser(name, help=meaning)
    found = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    for add in steps:
        add(found)


def add_again(parser: argparse.ArgumentParser) -> None:
    """What is done about a training that was begun before."""
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with an interrupted training")
    again.add_argument("--restart", action="store_true", help="replace an older model or attempt")


def runs(
    task: str, name: str, settings: Sequence[Setting] | None = None
) -> Callable[[argparse.Namespace], int]:
    """A function that runs the command `name` of a task, and imports it only then.

    With a table of `settings` the command gets those that were given, too.
    """

    def run(arguments: argparse.Namespace) -> int:
        command = getattr(importlib.import_module(f"holdfast.tasks.{task}.commands"), name)
        if settings is None:
            return command(arguments)
        return command(arguments, given(arguments, settings))

    return run

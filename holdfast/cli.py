"""The command line: one verb a job.

A verb is a function that adds its own parser and sets ``run``, a function of the parsed arguments
that returns the exit status; `VERBS` lists them. Nothing heavy is imported before a verb runs.
Errors that Holdfast raises on purpose become one line on stderr and exit status 2.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from holdfast.errors import HoldfastError, HoldfastWarning
from holdfast.show import add_cells, add_show
from holdfast.verbs.classify import add_classify
from holdfast.verbs.forecast import add_demo, add_forecast
from holdfast.verbs.language import add_language
from holdfast.verbs.parser import Parser, count
from holdfast.verbs.tag import add_tag
from holdfast.verbs.translate import add_translate

FAILED, INTERRUPTED = 2, 130


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
        parser.add_argument(option, type=count, default=size, help=f"{meaning} (default: {size})")
    parser.add_argument("--threads", type=count, help="default: as many as PyTorch takes")
    parser.add_argument("--inference", action="store_true", help="leave the training kernels out")
    parser.set_defaults(run=_run_tune)


VERBS = (
    add_cells,
    add_show,
    add_tune,
    add_forecast,
    add_classify,
    add_tag,
    add_language,
    add_translate,
    add_demo,
)


def build_parser() -> argparse.ArgumentParser:
    """The parser with every verb."""
    from holdfast import __version__

    parser = Parser(
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
        with _warnings_on_one_line():
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


@contextlib.contextmanager
def _warnings_on_one_line() -> Iterator[None]:
    """What Holdfast warns about becomes one line on stderr; other warnings stay as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", HoldfastWarning)
        usual = warnings.showwarning

        def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, HoldfastWarning):
                print(f"holdfast: warning: {' '.join(str(message).split())}", file=sys.stderr)
            else:
                usual(message, category, *place, **more)

        warnings.showwarning = show
        yield


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


if __name__ == "__main__":
    sys.exit(main())

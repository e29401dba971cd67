"""The words of the command line: names checked, shapes read."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from pathlib import Path

from benchmarks import layers, peers, registry
from benchmarks.forecast import catalogue as forecasts
from benchmarks.papers import catalogue
from benchmarks.registry import Point, Shape
from benchmarks.settings import SETTINGS
from benchmarks.text import catalogue as texts
from holdfast.cells import CELLS

TURN = 0.2
"""Seconds of one contender's turn."""

QUICK_TURN = 0.01


def add_common(verb: argparse.ArgumentParser) -> None:
    """What every verb that measures time takes."""
    verb.add_argument("--threads", type=positive, help="default: as many as torch would take")
    verb.add_argument("--json", type=Path, metavar="FILE", help="append the JSON line to a file")
    verb.add_argument("--rounds", type=positive, default=7, help="turns of each contender; >= 3")
    verb.add_argument("--turn", type=seconds, default=TURN, help="seconds of a turn; 0.2")
    verb.add_argument("--quick", action="store_true", help="short turns: a look, not a measurement")


def add_record(verb: argparse._ActionsContainer, file: str) -> None:
    """Whether the run is kept."""
    verb.add_argument("--record", action="store_true", help=f"append the line to results/{file}")


def add_peers(verb: argparse.ArgumentParser, known: Collection[str], usual: str) -> None:
    """Whom ours is measured beside."""
    verb.add_argument(
        "--peers",
        type=names("peer", known),
        default=tuple(usual.split(",")),
        help=f"of {', '.join(known)}; default: {usual}",
    )


def turns(options: argparse.Namespace) -> tuple[int, float]:
    """Rounds, and the seconds of a turn."""
    return (3, QUICK_TURN) if options.quick else (options.rounds, options.turn)


def points(options: argparse.Namespace) -> tuple[Point, ...]:
    """Shapes and settings: those of the grid, or every shape in every setting.

    With settings, a grid's plain points are measured in each of them.
    """
    if options.shapes is None:
        found = registry.GRIDS[options.grid]
        if options.settings is None:
            return found
        shapes = tuple(point.shape for point in found if point.setting == "plain")
    else:
        shapes = options.shapes
    chosen = options.settings or ("plain",)
    return tuple(Point(shape, setting) for setting in chosen for shape in shapes)


def positive(text: str) -> int:
    """A whole number above zero."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"got {number}, expected at least 1")
    return number


def seconds(text: str) -> float:
    """A time above zero."""
    number = float(text)
    if not 0 < number < 60:
        raise argparse.ArgumentTypeError(f"got {number}, expected seconds between 0 and 60")
    return number


def names(kind: str, known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """Names with commas between, each of which is known.

    >>> names("option", ["clip", "heads"])("heads,clip")
    ('heads', 'clip')
    """

    def read(text: str) -> tuple[str, ...]:
        given = tuple(text.split(","))
        unknown = [name for name in given if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"no {kind} {unknown[0]!r}; there are {', '.join(known)}"
            )
        return given

    return read


def names_or_none(kind: str, known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """Names with commas between, or the word none.

    >>> names_or_none("peer", ["a"])("none")
    ()
    """
    return lambda text: () if text == "none" else names(kind, known)(text)


cells = names("cell", CELLS)
settings = names("setting", SETTINGS)
CONTENDERS = tuple(layers.PEERS)


def experiment(name: str) -> str:
    """The name of an experiment."""
    return names("experiment", catalogue.EXPERIMENTS)(name)[0]


def forecast(name: str) -> str:
    """The name of a task of forecasting."""
    return names("forecast", forecasts.EXPERIMENTS)(name)[0]


def text(name: str) -> str:
    """The name of a job on text."""
    return names("text", texts.EXPERIMENTS)(name)[0]


def one_shape(text: str) -> Shape:
    """One shape, such as B32-T100-I32-H128."""
    (shape, *more) = shapes(text)
    if more:
        raise argparse.ArgumentTypeError(f"got {text}, expected one shape")
    return shape


def shape_with_heads(text: str) -> Shape:
    """One shape whose units can be cut into heads."""
    shape = one_shape(text)
    if shape.H % peers.HEADS:
        raise argparse.ArgumentTypeError(f"got H{shape.H}, expected a multiple of {peers.HEADS}")
    return shape


def shapes(text: str) -> tuple[Shape, ...]:
    """Shapes with commas between."""
    try:
        return tuple(map(registry.shape_named, text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error

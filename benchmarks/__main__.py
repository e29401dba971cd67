"""`python -m benchmarks layers`, `options` and `cells`: gate, run, table, one line of JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import cells as catalogue
from benchmarks import cells_report, layers, options_report, pages, peers, registry, report
from benchmarks import options as costs
from benchmarks.layers import Refusal
from benchmarks.registry import Shape
from holdfast.cells import CELLS

TURN = 0.2
"""Seconds of one contender's turn."""

QUICK_TURN = 0.01


def main(argv: Sequence[str] | None = None) -> int:
    """Run a benchmark; 0 when every row passed the gate, 1 when one was refused."""
    options = _parser().parse_args(argv)
    if options.run is _pages:
        return _pages(options)
    before = torch.get_num_threads()
    torch.set_num_threads(options.threads or before)
    try:
        return options.run(options)
    finally:
        torch.set_num_threads(before)


def _turns(options: argparse.Namespace) -> tuple[int, float]:
    """Rounds, and the seconds of a turn."""
    return (3, QUICK_TURN) if options.quick else (options.rounds, TURN)


def _introduce(rounds: int) -> int:
    """Print what is the same for the whole run; returns the number of threads."""
    threads = torch.get_num_threads()
    about, versions = report.machine(), report.versions()
    print(f"{about['cpu']}, {about['cores']} cores, {about['llvm_cpu']}, load {about['load']}")
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(f"{threads} thread(s), float32, {rounds} rounds\n")
    return threads


def _layers(options: argparse.Namespace) -> int:
    rounds, seconds = _turns(options)
    threads = _introduce(rounds)
    print(report.HEAD)
    found = []
    for one in layers.measure(options.cells, options.shapes, rounds, seconds):
        found.append(one)
        print(*report.lines(one), sep="\n", flush=True)
    line = report.record(found, threads, {"rounds": rounds, "turn_s": seconds})
    if options.json:
        report.append(options.json, line)
    print(f"\n{line}", flush=True)
    return int(any(isinstance(one, Refusal) for one in found))


def _options(options: argparse.Namespace) -> int:
    rounds, seconds = _turns(options)
    threads = _introduce(rounds)
    print(f"{options.shape}\n{options_report.HEAD}")
    found = []
    for one in costs.measure(options.options, options.shape, rounds, seconds):
        found.append(one)
        print(*options_report.lines(one), sep="\n", flush=True)
    about = {"rounds": rounds, "turn_s": seconds}
    line = options_report.record(found, options.shape, threads, about)
    if options.json:
        report.append(options.json, line)
    print(f"\n{line}", flush=True)
    return int(any(isinstance(one, costs.Refusal) for one in found))


def _cells_run(options: argparse.Namespace) -> int:
    rounds, seconds = _turns(options)
    threads = _introduce(rounds)
    print(f"{options.shape}\n{cells_report.HEAD}")
    found = []
    for one in catalogue.measure(options.only or tuple(CELLS), options.shape, rounds, seconds):
        found.append(one)
        print(*cells_report.lines(one), sep="\n", flush=True)
    about = {"rounds": rounds, "turn_s": seconds}
    line = cells_report.record(found, options.shape, threads, about)
    if options.json:
        report.append(options.json, line)
    if options.record:
        report.append(cells_report.RECORD, line)
        _write_speeds(cells_report.RECORD, cells_report.SPEED)
    print(f"\n{line}", flush=True)
    return int(any(isinstance(one, catalogue.Refusal) for one in found))


def _write_speeds(record: Path, speed: Path) -> None:
    speed.write_text(cells_report.speeds(pages.newest(record)), encoding="utf-8")


def _pages(options: argparse.Namespace) -> int:
    pages.write(options.page, pages.render(pages.newest(options.record)))
    cells = pages.render(pages.newest(options.cells), cells_report.section)
    pages.write(options.page, cells, cells_report.BEGIN, cells_report.END)
    _write_speeds(options.cells, options.speed)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    verb = verbs.add_parser("layers", help="one layer over sequences, beside torch and eager")
    verb.set_defaults(run=_layers)
    _add_common(verb)
    verb.add_argument(
        "--cells", type=_cells, default=registry.CELLS, help="names, with commas between"
    )
    verb.add_argument(
        "--shapes", type=_shapes, default=registry.SHAPES, help="such as B32-T100-I32-H128,..."
    )
    verb = verbs.add_parser("options", help="each option of a layer, beside the plain layer")
    verb.set_defaults(run=_options)
    _add_common(verb)
    verb.add_argument(
        "--options", type=_names, default=costs.NAMES, help="names, with commas between"
    )
    verb.add_argument("--shape", type=_shape, default=costs.SHAPE, help="B32-T100-I32-H128")
    _add_cells(verbs)
    verb = verbs.add_parser("pages", help="write the recorded runs into docs/performance.md")
    verb.set_defaults(run=_pages)
    verb.add_argument("--record", type=Path, default=pages.RECORD, help="results/options.jsonl")
    verb.add_argument("--cells", type=Path, default=cells_report.RECORD, help="results/cells.jsonl")
    verb.add_argument("--page", type=Path, default=pages.PAGE, help="docs/performance.md")
    verb.add_argument(
        "--speed", type=Path, default=cells_report.SPEED, help="holdfast/cells/speed.json"
    )
    return parser


def _add_cells(verbs: Any) -> None:
    verb = verbs.add_parser("cells", help="each cell, beside lstm and beside its own eager loop")
    verb.set_defaults(run=_cells_run)
    _add_common(verb)
    verb.add_argument("--shape", type=_one_shape, default=catalogue.SHAPE, help="B32-T100-...")
    which = verb.add_mutually_exclusive_group()
    which.add_argument("--only", type=_cells, metavar="NAMES", help="names, with commas between")
    which.add_argument(
        "--record",
        action="store_true",
        help="append the JSON line to results/cells.jsonl and renew holdfast/cells/speed.json",
    )


def _add_common(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--threads", type=_positive, help="default: as many as torch would take")
    verb.add_argument("--json", type=Path, metavar="FILE", help="append the JSON line to a file")
    verb.add_argument("--rounds", type=_positive, default=7, help="turns of each contender; >= 3")
    verb.add_argument("--quick", action="store_true", help="short turns: a look, not a measurement")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"got {number}, expected at least 1")
    return number


def _cells(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in CELLS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no cell {unknown[0]!r}; there are {', '.join(CELLS)}")
    return names


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in costs.NAMES]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"no option {unknown[0]!r}; there are {', '.join(costs.NAMES)}"
        )
    return names


def _one_shape(text: str) -> Shape:
    (shape, *more) = _shapes(text)
    if more:
        raise argparse.ArgumentTypeError(f"got {text}, expected one shape")
    return shape


def _shape(text: str) -> Shape:
    shape = _one_shape(text)
    if shape.H % peers.HEADS:
        raise argparse.ArgumentTypeError(f"got H{shape.H}, expected a multiple of {peers.HEADS}")
    return shape


def _shapes(text: str) -> tuple[Shape, ...]:
    try:
        return tuple(map(registry.shape_named, text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())

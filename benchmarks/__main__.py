"""`python -m benchmarks VERB`: run, print a table, leave one line of JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import layers, options_report, pages, peers, registry, report
from benchmarks import options as costs
from benchmarks.layers import Refusal
from benchmarks.papers import catalogue
from benchmarks.papers import report as papers
from benchmarks.papers.registry import Experiment, Settings, chosen
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


def _papers(options: argparse.Namespace) -> int:
    experiments: list[Experiment] = list(chosen(options.names))
    if options.list:
        print(*(f"{one.name:16} {one.title}" for one in experiments), sep="\n")
        return 0
    settings = Settings(options.seeds, options.quick)
    print(papers.HEAD)
    for one in experiments:
        print(f"\n{one.name}: {one.title}", flush=True)
        rows = []
        for row in papers.timed(one, settings):
            rows.append(row)
            print(*papers.lines(row), sep="\n", flush=True)
        line = papers.record(one, rows, settings, torch.get_num_threads())
        if options.record:
            report.append(options.record, line)
        print(line, flush=True)
    return 0


def _pages(options: argparse.Namespace) -> int:
    maker = {"performance": pages, "papers": papers}[options.which]
    record, page = options.record or maker.RECORD, options.page or maker.PAGE
    pages.write(page, maker.render(maker.newest(record)))
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
    _add_papers(verbs.add_parser("papers", help="the tasks of the literature, beside their papers"))
    verb = verbs.add_parser("pages", help="write the recorded runs into a page of docs/")
    verb.set_defaults(run=_pages)
    verb.add_argument("which", nargs="?", choices=("performance", "papers"), default="performance")
    verb.add_argument("--record", type=Path, help="default: results/options.jsonl, papers.jsonl")
    verb.add_argument("--page", type=Path, help="default: docs/performance.md, docs/papers.md")
    return parser


def _add_papers(verb: argparse.ArgumentParser) -> None:
    verb.set_defaults(run=_papers)
    verb.add_argument("names", nargs="*", type=_experiment, metavar="NAME", help="default: all")
    verb.add_argument("--list", action="store_true", help="print the names, run nothing")
    verb.add_argument("--seeds", type=_positive, help="default: each experiment's own number")
    verb.add_argument("--threads", type=_positive, default=1, help="default: 1")
    size = verb.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a moment of each, to see that it runs")
    size.add_argument(
        "--record",
        type=Path,
        nargs="?",
        const=papers.RECORD,
        metavar="FILE",
        help="append the lines of JSON to a file, by default results/papers.jsonl",
    )


def _experiment(name: str) -> str:
    if name not in catalogue.EXPERIMENTS:
        raise argparse.ArgumentTypeError(
            f"no experiment {name!r}; there are {', '.join(catalogue.EXPERIMENTS)}"
        )
    return name


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


def _shape(text: str) -> Shape:
    (shape, *more) = _shapes(text)
    if more:
        raise argparse.ArgumentTypeError(f"got {text}, expected one shape")
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

"""`python -m benchmarks VERB`: run, print a table, leave one line of JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import (
    arguments,
    ceiling,
    cells_report,
    contests_report,
    crf,
    layers,
    layers_report,
    memory,
    options_report,
    pages,
    registry,
    report,
    scaling,
    stream,
    stream_report,
)
from benchmarks import cells as every
from benchmarks import options as costs
from benchmarks.contests import Amount, Registry
from benchmarks.forecast import registry as forecasts
from benchmarks.papers import report as papers
from benchmarks.papers.registry import Experiment, Settings, chosen
from benchmarks.text import registry as texts
from holdfast.cells import CELLS

REFUSALS = (layers.Refusal, costs.Refusal, every.Refusal, stream.Refusal, scaling.Refusal)


RECORDS = report.RESULTS
"""Where contests are recorded."""


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


def _introduce(rounds: int) -> int:
    """Print what is the same for the whole run; returns the number of threads."""
    threads = torch.get_num_threads()
    about, versions = report.machine(), report.versions()
    print(f"{about['cpu']}, {about['cores']} cores, {about['llvm_cpu']}, load {about['load']}")
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(f"{threads} thread(s), float32 unless it is said, {rounds} rounds\n")
    return threads


def _show(found: Iterable[Any], lines: Callable[[Any], Iterable[str]]) -> list[Any]:
    """Print each result as soon as it is there; returns all of them."""
    kept = []
    for one in found:
        kept.append(one)
        print(*lines(one), sep="\n", flush=True)
    return kept


def _finish(options: argparse.Namespace, line: str, found: list[Any], record: Path | None) -> int:
    """Leave the line of JSON where it is wanted; the exit status."""
    if options.json:
        report.append(options.json, line)
    if record is not None and options.record:
        report.append(record, line)
    print(f"\n{line}", flush=True)
    return int(any(isinstance(one, REFUSALS) for one in found))


def _layers(options: argparse.Namespace) -> int:
    rounds, seconds = arguments.turns(options)
    threads = _introduce(rounds)
    roofs = None if options.quick else ceiling.measured(threads)
    print(layers_report.HEAD)
    points = arguments.points(options)
    measured = layers.measure(options.cells, points, rounds, seconds, options.peers, roofs)
    found = _show(measured, layers_report.lines)
    about = {"rounds": rounds, "turn_s": seconds}
    line = layers_report.record(found, threads, about, roofs)
    return _finish(options, line, found, layers_report.RECORD)


def _options(options: argparse.Namespace) -> int:
    rounds, seconds = arguments.turns(options)
    threads = _introduce(rounds)
    print(f"{options.shape}\n{options_report.HEAD}")
    measured = costs.measure(options.options, options.shape, rounds, seconds)
    found = _show(measured, options_report.lines)
    about = {"rounds": rounds, "turn_s": seconds}
    line = options_report.record(found, options.shape, threads, about)
    return _finish(options, line, found, None)


def _cells(options: argparse.Namespace) -> int:
    rounds, seconds = arguments.turns(options)
    threads = _introduce(rounds)
    print(f"{options.shape}\n{cells_report.HEAD}")
    measured = every.measure(options.only or tuple(CELLS), options.shape, rounds, seconds)
    found = _show(measured, cells_report.lines)
    about = {"rounds": rounds, "turn_s": seconds}
    line = cells_report.record(found, options.shape, threads, about)
    status = _finish(options, line, found, cells_report.RECORD)
    if options.record:
        _write_speeds(cells_report.RECORD, cells_report.SPEED)
    return status


def _stream(options: argparse.Namespace) -> int:
    rounds, seconds = arguments.turns(options)
    threads = _introduce(rounds)
    print(stream_report.HEAD)
    measured = stream.measure(options.shapes, rounds, seconds, options.peers)
    found = _show(measured, stream_report.lines)
    about = {"rounds": rounds, "turn_s": seconds}
    line = stream_report.record(found, threads, about)
    return _finish(options, line, found, stream_report.RECORD)


def _crf(options: argparse.Namespace) -> int:
    rounds, seconds = arguments.turns(options)
    threads = _introduce(rounds)
    print(crf.HEAD)
    found = _show(crf.measure(options.sizes, rounds, seconds), crf.lines)
    line = crf.record(found, threads, {"rounds": rounds, "turn_s": seconds})
    return _finish(options, line, found, crf.RECORD)


def _memory(options: argparse.Namespace) -> int:
    threads = _introduce(1)
    print(memory.HEAD)
    found = _show(memory.measure(options.shapes, threads), memory.lines)
    line = memory.record(found, threads, {"rounds": 1})
    return _finish(options, line, found, memory.RECORD)


def _threads(options: argparse.Namespace) -> int:
    rounds, seconds = arguments.turns(options)
    threads = _introduce(rounds)
    print(scaling.HEAD)
    measured = scaling.measure(options.shapes, threads, rounds, seconds)
    found = _show(measured, scaling.lines)
    line = scaling.record(found, threads, {"rounds": rounds, "turn_s": seconds})
    return _finish(options, line, found, scaling.RECORD)


def _write_speeds(record: Path, speed: Path) -> None:
    speed.write_text(cells_report.speeds(report.newest(record)), encoding="utf-8")


def _papers(options: argparse.Namespace) -> int:
    experiments: list[Experiment] = list(chosen(options.names))
    if options.list:
        print(*(f"{one.name:16} {one.title}" for one in experiments), sep="\n")
        return 0
    settings = Settings(options.seeds, options.quick)
    print(papers.HEAD)
    for one in experiments:
        print(f"\n{one.name}: {one.title}", flush=True)
        rows = _show(papers.timed(one, settings), papers.lines)
        line = papers.record(one, rows, settings, torch.get_num_threads())
        if options.record:
            report.append(options.record, line)
        print(line, flush=True)
    return 0


def _forecast(options: argparse.Namespace) -> int:
    settings = forecasts.Settings(
        options.seeds, options.quick, options.peers, options.steps, options.peer_seeds
    )
    return _contests(options, forecasts.EXPERIMENTS, settings)


def _text(options: argparse.Namespace) -> int:
    return _contests(options, texts.EXPERIMENTS, texts.Amount(options.seeds, options.quick))


def _contests(options: argparse.Namespace, known: Registry, settings: Amount) -> int:
    experiments = list(known.chosen(options.names or known))
    if options.list:
        print(*(f"{one.name:16} {one.title}" for one in experiments), sep="\n")
        return 0
    for one in experiments:
        print(f"\n{one.name}: {one.title}", flush=True)
        rows = _show(one.run(settings), contests_report.lines)
        line = contests_report.record(known.verb, one, rows, settings, torch.get_num_threads())
        if options.record:
            report.append(contests_report.file(known.verb, one.kind, RECORDS), line)
        print(line, flush=True)
    return 0


def _pages(options: argparse.Namespace) -> int:
    if options.which == "papers":
        newest = papers.newest(options.record or papers.RECORD)
        pages.write(options.page or papers.PAGE, papers.render(newest))
        return 0
    if options.which == "results":
        pages.write_results(options.page or pages.RESULTS_PAGE, options.results)
        return 0
    pages.write_all(options.page or pages.PAGE, options.results)
    _write_speeds(options.results / cells_report.RECORD.name, options.speed)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _add_layers(verbs)
    verb = verbs.add_parser("options", help="each option of a layer, beside the plain layer")
    verb.set_defaults(run=_options)
    arguments.add_common(verb)
    options = arguments.names("option", costs.NAMES)
    verb.add_argument("--options", type=options, default=costs.NAMES, help="names, with commas")
    heads = arguments.shape_with_heads
    verb.add_argument("--shape", type=heads, default=costs.SHAPE, help="B32-T100-I32-H128")
    _add_cells(verbs)
    _add_others(verbs)
    _add_papers(verbs.add_parser("papers", help="the tasks of the literature, beside their papers"))
    _add_forecast(verbs.add_parser("forecast", help="forecasting, beside other libraries"))
    _add_contests(verbs.add_parser("text", help="jobs on text"), _text, arguments.text)
    verb = verbs.add_parser("pages", help="write the recorded runs into a page of docs/")
    verb.set_defaults(run=_pages)
    verb.add_argument(
        "which", nargs="?", choices=("performance", "papers", "results"), default="performance"
    )
    verb.add_argument("--record", type=Path, help="of papers; default: results/papers.jsonl")
    verb.add_argument("--results", type=Path, default=report.RESULTS, help="default: results/")
    verb.add_argument("--page", type=Path, help="default: docs/performance.md, docs/papers.md, ...")
    verb.add_argument(
        "--speed", type=Path, default=cells_report.SPEED, help="holdfast/cells/speed.json"
    )
    return parser


def _add_layers(verbs: Any) -> None:
    verb = verbs.add_parser("layers", help="one layer over sequences, beside its peers")
    verb.set_defaults(run=_layers)
    arguments.add_common(verb)
    arguments.add_record(verb, layers_report.RECORD.name)
    verb.add_argument(
        "--cells", type=arguments.cells, default=registry.CELLS, help="names, with commas between"
    )
    verb.add_argument("--grid", choices=tuple(registry.GRIDS), default="core", help="of shapes")
    verb.add_argument("--shapes", type=arguments.shapes, help="such as B32-T100-I32-H128,...")
    verb.add_argument(
        "--settings", type=arguments.settings, help="plain, ragged, ...; every shape in each"
    )
    arguments.add_peers(verb, arguments.CONTENDERS, ",".join(layers.USUAL))


def _add_others(verbs: Any) -> None:
    verb = verbs.add_parser("stream", help="one step of one stream with a carried state")
    verb.set_defaults(run=_stream)
    arguments.add_common(verb)
    arguments.add_record(verb, stream_report.RECORD.name)
    shapes = arguments.shapes
    verb.add_argument("--shapes", type=shapes, default=stream.SHAPES, help="B and T are 1")
    arguments.add_peers(verb, tuple(stream.PEERS), "torch")
    verb = verbs.add_parser("crf", help="a CRF beside one in plain PyTorch")
    verb.set_defaults(run=_crf, sizes=crf.SIZES)
    arguments.add_common(verb)
    arguments.add_record(verb, crf.RECORD.name)
    verb = verbs.add_parser("memory", help="peak memory of one training step")
    verb.set_defaults(run=_memory)
    verb.add_argument("--threads", type=arguments.positive, default=1, help="default: 1")
    verb.add_argument("--json", type=Path, metavar="FILE", help="append the JSON line to a file")
    arguments.add_record(verb, memory.RECORD.name)
    verb.add_argument("--shapes", type=shapes, default=memory.SHAPES, help="B32-T100-...")
    verb = verbs.add_parser("threads", help="the plain LSTM on one thread and on several")
    verb.set_defaults(run=_threads)
    arguments.add_common(verb)
    arguments.add_record(verb, scaling.RECORD.name)
    verb.add_argument("--shapes", type=shapes, default=scaling.USUAL, help="B32-T100-...")


def _add_cells(verbs: Any) -> None:
    verb = verbs.add_parser("cells", help="each cell, beside lstm and beside its own eager loop")
    verb.set_defaults(run=_cells)
    arguments.add_common(verb)
    shape = arguments.one_shape
    verb.add_argument("--shape", type=shape, default=every.SHAPE, help="B32-T100-...")
    which = verb.add_mutually_exclusive_group()
    which.add_argument(
        "--only", type=arguments.cells, metavar="NAMES", help="names, with commas between"
    )
    which.add_argument(
        "--record",
        action="store_true",
        help="append the JSON line to results/cells.jsonl and renew holdfast/cells/speed.json",
    )


def _add_papers(verb: argparse.ArgumentParser) -> None:
    verb.set_defaults(run=_papers)
    one = arguments.experiment
    verb.add_argument("names", nargs="*", type=one, metavar="NAME", help="default: all")
    verb.add_argument("--list", action="store_true", help="print the names, run nothing")
    count = arguments.positive
    verb.add_argument("--seeds", type=count, help="default: each experiment's own number")
    verb.add_argument("--threads", type=count, default=1, help="default: 1")
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


def _add_forecast(verb: argparse.ArgumentParser) -> None:
    _add_contests(verb, _forecast, arguments.forecast)
    verb.add_argument(
        "--steps", type=arguments.positive, default=1000, help="of peers' models; default: 1000"
    )
    verb.add_argument(
        "--peer-seeds", type=arguments.positive, help="of peers' models; default: as --seeds"
    )
    peers = arguments.names_or_none("peer", forecasts.PEERS)
    verb.add_argument(
        "--peers",
        type=peers,
        default=forecasts.PEERS,
        help=f"of {', '.join(forecasts.PEERS)}, or none; default: all",
    )


def _add_contests(
    verb: argparse.ArgumentParser,
    run: Callable[[argparse.Namespace], int],
    one: Callable[[str], str],
) -> None:
    verb.set_defaults(run=run)
    verb.add_argument("names", nargs="*", type=one, metavar="NAME", help="default: all")
    verb.add_argument("--list", action="store_true", help="print the names, run nothing")
    count = arguments.positive
    verb.add_argument("--seeds", type=count, help="default: 3")
    verb.add_argument("--threads", type=count, help="default: as many as torch would take")
    size = verb.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a moment of each, to see that it runs")
    size.add_argument(
        "--record", action="store_true", help="append the lines to a file of results/"
    )


if __name__ == "__main__":
    sys.exit(main())

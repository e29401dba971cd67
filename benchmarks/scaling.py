"""How much faster more threads are: the same layer on one thread and on several, in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks import gate, layers, timing
from benchmarks.problem import Contender, make_problem
from benchmarks.registry import PASSES, SHAPES, Shape
from benchmarks.report import (
    RESULTS,
    about,
    duration,
    entry,
    ratio,
    ratio_text,
    spread,
    threads_text,
    times,
)
from holdfast.cells import lstm

RECORD = RESULTS / "threads.jsonl"

ROWS = 32
"""The fewest rows of a batch that threads are asked to share."""

USUAL = tuple(shape for shape in SHAPES if shape.B >= ROWS)
"""Where it is measured."""

HEAD = f"{'shape':20} {'pass':16} {'contender':10} {'one':>10} {'several':>10}  times as fast"


@dataclass(frozen=True)
class Row:
    """One contender at one shape and pass. gain: seconds on one thread by those on several."""

    shape: Shape
    which: str
    contender: str
    one: timing.Spread
    several: timing.Spread
    gain: timing.Spread


@dataclass(frozen=True)
class Refusal:
    """A shape that is not reported, because a contender failed the gate."""

    shape: Shape
    reason: str


Found = list[Row] | Refusal


def measure(shapes: Sequence[Shape], threads: int, rounds: int, seconds: float) -> Iterator[Found]:
    """Rows of one shape and pass at a time, or why there are none."""
    for shape in shapes:
        problem = make_problem(lstm, shape)
        contenders, _ = layers.runners(problem, ("torch",))
        small = problem.gated()
        try:
            layers.check(small, layers.runners(small, ("torch",))[0])
        except gate.GateError as error:
            yield Refusal(shape, str(error))
            continue
        for which in PASSES:
            calls = {
                (name, count): _on(count, contender, which, problem.weighting)
                for name, contender in contenders.items()
                for count in (1, threads)
            }
            yield _rows(shape, which, threads, calls, rounds, seconds)


def _on(
    threads: int, contender: Contender, which: str, weighting: torch.Tensor
) -> Callable[[], object]:
    call = contender.call(which, weighting)
    assert call is not None

    def run() -> object:
        torch.set_num_threads(threads)
        return call()

    return run


def _rows(
    shape: Shape,
    which: str,
    threads: int,
    calls: Mapping[tuple[str, int], Callable[[], object]],
    rounds: int,
    seconds: float,
) -> list[Row]:
    before = torch.get_num_threads()
    named = {f"{name} {count}": call for (name, count), call in calls.items()}
    try:
        found = timing.alternate(named, rounds, seconds)
    finally:
        torch.set_num_threads(before)
    rows = []
    for name in dict.fromkeys(name for name, _ in calls):
        one, several = found[f"{name} 1"], found[f"{name} {threads}"]
        rows.append(Row(shape, which, name, one.seconds, several.seconds, several.ratio(one)))
    return rows


def lines(found: Found) -> Iterator[str]:
    """Lines of the table."""
    if isinstance(found, Refusal):
        yield f"{found.shape!s:20} REFUSED: {found.reason}"
        return
    for row in found:
        seconds = [duration(one.median) for one in (row.one, row.several)]
        yield (
            f"{row.shape!s:20} {row.which:16} {row.contender:10} {seconds[0]:>10} "
            f"{seconds[1]:>10}  {spread(row.gain)}"
        )


def record(found: Iterable[Found], threads: int, options: dict[str, Any]) -> str:
    """The run as one line of JSON."""
    rows: list[dict[str, Any]] = []
    refused = []
    for one in found:
        if isinstance(one, Refusal):
            refused.append({"shape": str(one.shape), "reason": one.reason})
            continue
        rows += (
            {
                "shape": str(row.shape),
                "pass": row.which,
                "contender": row.contender,
                **times("one_", row.one),
                **times("several_", row.several),
                "gain": ratio(row.gain),
            }
            for row in one
        )
    return entry("threads", threads, rows, refused, options=options)


def section(run: Mapping[str, Any]) -> Iterator[str]:
    """Lines of Markdown for one run: a row for every shape."""
    threads = threads_text(run["threads"])
    yield f"One thread and {threads}, {run['options']['rounds']} rounds, {about(run)}"
    yield ""
    names = list(dict.fromkeys(row["contender"] for row in run["rows"]))
    columns = [(which, name) for which in PASSES for name in names]
    titles = [f"{which}, {name}" for which, name in columns]
    yield f"| shape | {' | '.join(titles)} |"
    yield f"|---|{'---:|' * len(columns)}"
    for shape in dict.fromkeys(row["shape"] for row in run["rows"]):
        gains = {
            (row["pass"], row["contender"]): row["gain"]
            for row in run["rows"]
            if row["shape"] == shape
        }
        cells = [ratio_text(gains.get(column)) for column in columns]
        yield f"| {shape} | {' | '.join(cells)} |"
    for refused in run["refused"]:
        yield f"\n{refused['shape']} was not measured: {refused['reason']}."

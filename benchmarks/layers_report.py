"""What a run over the layers leaves: a table, one line of JSON, tables of a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.ceiling import Ceiling, intensity
from benchmarks.layers import Found, Gone, Refusal, Row
from benchmarks.registry import GRIDS, PASSES, SHAPES, shape_named
from benchmarks.report import (
    RESULTS,
    about,
    duration,
    entry,
    ratio,
    ratio_text,
    rivals,
    runs,
    short,
    spread,
    threads_text,
    times,
)
from benchmarks.settings import SETTINGS
from benchmarks.timing import Spread
from holdfast.cells import CELLS

RECORD = RESULTS / "layers.jsonl"

HEAD = (
    f"{'cell':9} {'setting':13} {'shape':20} {'pass':16} {'contender':11} {'median':>10} "
    f"{'low .. high':>23} {'GFLOP/s':>8} {'ceiling':>7} {'cores':>5}  time as a multiple of ours"
)

Runs = Sequence[Mapping[str, Any]]


def lines(found: Found) -> Iterator[str]:
    """Lines of the table."""
    if isinstance(found, Refusal):
        yield f"{found.cell:9} {found.setting:13} {found.shape!s:20} REFUSED: {found.reason}"
        return
    if isinstance(found, Gone):
        for one in found.absent:
            begin = f"{found.cell:9} {found.setting:13} {found.shape!s:20}"
            yield f"{begin} {'':16} {one.contender:11} {one.reason}"
        return
    ratios = next((row.ratios for row in found if row.contender == "ours"), {})
    for row in found:
        seconds = row.seconds
        bounds = f"{duration(seconds.low)} .. {duration(seconds.high)}"
        found_ratio = ratios.get(row.contender)
        verdict = "" if found_ratio is None else _verdict(found_ratio)
        note = f" ({row.note})" if row.note else ""
        share = "" if row.share is None else f"{row.share:.0%}"
        line = (
            f"{row.cell:9} {row.setting:13} {row.shape!s:20} {row.which:16} {row.contender:11} "
            f"{duration(seconds.median):>10} {bounds:>23} {row.gflops:8.1f} {share:>7} "
            f"{row.cores:5.2f}  {verdict}{note}"
        )
        yield line.rstrip()


def _verdict(found: Spread) -> str:
    text = spread(found)
    return f"{text} ours is slower" if found.median < 1 else text


def record(
    found: Iterable[Found],
    threads: int,
    options: dict[str, Any],
    ceiling: Ceiling | None = None,
) -> str:
    """The run as one line of JSON."""
    rows: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    absent: list[dict[str, str]] = []
    for one in found:
        if isinstance(one, list):
            rows += map(_as_data, one)
            continue
        where = {"cell": one.cell, "shape": str(one.shape), "setting": one.setting}
        if isinstance(one, Refusal):
            refused.append(where | {"reason": one.reason})
        else:
            absent += (where | {"contender": a.contender, "reason": a.reason} for a in one.absent)
    used = dict.fromkeys(row["contender"] for row in rows)
    more: dict[str, Any] = {"options": options, "rivals": rivals(used), "absent": absent}
    if ceiling is not None:
        more["ceiling"] = ceiling.as_data()
    return entry("layers", threads, rows, refused, **more)


def _as_data(row: Row) -> dict[str, Any]:
    data = {
        "cell": row.cell,
        "setting": row.setting,
        "shape": str(row.shape),
        "pass": row.which,
        "contender": row.contender,
        **times("", row.seconds),
        "gflops": round(row.gflops, 2),
        "cores": round(row.cores, 2),
        "calls": row.calls,
        "rounds": row.rounds,
        "note": row.note,
        "ratios": {name: ratio(value) for name, value in row.ratios.items()},
    }
    if row.source:
        data["source"] = row.source
    if row.share is not None:
        data["ceiling_share"] = short(row.share)
        setting = SETTINGS[row.setting]
        data["intensity"] = short(intensity(CELLS[row.cell], row.shape, setting))
    return data


def rows_of(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The newest row of each contender at each cell, point, pass and number of threads.

    >>> rows_of([])
    []

    A run replaces, at the cells, points and passes that it has, all rows of the runs before it, so
    that no ratio stands beside a time of another run.
    """
    newest: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for run in found:
        mine: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in run["rows"]:
            row = {"setting": "plain", "threads": run["threads"], **row}
            key = tuple(row[name] for name in ("threads", "cell", "setting", "shape", "pass"))
            mine.setdefault(key, []).append(row)
        newest |= mine
    return [row for rows in newest.values() for row in rows]


def recorded() -> list[dict[str, Any]]:
    """The recorded runs, the oldest first."""
    return runs(RECORD)


TITLES = {
    ("lstm", "plain"): "Plain LSTM",
    ("gru", "plain"): "GRU",
    ("peephole", "plain"): "Peephole LSTM",
    ("coupled", "plain"): "Coupled LSTM",
}


def sections(found: Runs) -> Iterator[str]:
    """Lines of Markdown: for each number of threads a table for every cell and setting."""
    rows = rows_of(found)
    for threads in sorted({row["threads"] for row in rows}):
        yield f"### Layers, {threads_text(threads)}"
        yield ""
        last = [run for run in found if run["threads"] == threads][-1]
        yield f"The last run: {about(last)}"
        yield from _roofs(found, threads)
        mine = [row for row in rows if row["threads"] == threads]
        for cell, setting in dict.fromkeys((row["cell"], row["setting"]) for row in mine):
            these = [row for row in mine if (row["cell"], row["setting"]) == (cell, setting)]
            yield ""
            yield f"#### {_title(cell, setting)}, {threads_text(threads)}"
            yield ""
            yield from _table(these)
        yield from _left_out(found, threads)
        yield ""


def _title(cell: str, setting: str) -> str:
    plain = TITLES.get((cell, "plain"), cell)
    return plain if setting == "plain" else f"{plain}, {SETTINGS[setting].title}"


def _roofs(found: Runs, threads: int) -> Iterator[str]:
    measured = [run["ceiling"] for run in found if run["threads"] == threads and "ceiling" in run]
    if not measured:
        return
    peak, bandwidth = measured[-1]["gflops"], measured[-1]["bandwidth"]
    levels = ", ".join(f"{name} {value:.0f}" for name, value in bandwidth.items())
    yield (
        f"Ceiling: {peak['float32']:.0f} GFLOP/s in float32, {peak['float64']:.0f} in float64;\n"
        f"reading, GB/s: {levels}."
    )


def _place(shape: str) -> tuple[int, tuple[int, ...]]:
    """The core grid in its own order, then others by their sizes."""
    known = {str(one): n for n, one in enumerate(SHAPES)}
    return known.get(shape, len(known)), tuple(shape_named(shape))


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A row for each shape; a column for each contender and pass."""
    columns: dict[str, dict[str, None]] = {which: {} for which in PASSES}
    for row in rows:
        if row["contender"] == "ours":
            columns[row["pass"]] |= dict.fromkeys(row["ratios"])
    head, ruler = ["shape"], ["---"]
    for which, title in zip(PASSES, ("forward", "f+b"), strict=True):
        head += [f"{title} ours", "ceiling", *(f"{name} ÷ ours" for name in columns[which])]
        ruler += ["---:"] * (2 + len(columns[which]))
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join(ruler)}|"
    for shape in sorted({row["shape"] for row in rows}, key=_place):
        yield f"| {' | '.join(_cells(rows, shape, columns))} |"


def _cells(
    rows: list[dict[str, Any]], shape: str, columns: Mapping[str, Iterable[str]]
) -> Iterator[str]:
    source = next((row["source"] for row in rows if row["shape"] == shape and "source" in row), "")
    yield f"{shape} ({source})" if source else shape
    for which in PASSES:
        mine = [row for row in rows if (row["shape"], row["pass"]) == (shape, which)]
        ours = next((row for row in mine if row["contender"] == "ours"), None)
        yield "" if ours is None else duration(ours["median_s"])
        share = None if ours is None else ours.get("ceiling_share")
        yield "" if share is None else f"{share:.0%}"
        for name in columns[which]:
            yield "" if ours is None else ratio_text(ours["ratios"].get(name))


def _left_out(found: Runs, threads: int) -> Iterator[str]:
    """What the newest runs refused or lacked."""
    mine = [run for run in found if run["threads"] == threads]
    for run in mine[-1:]:
        for one in run["refused"]:
            yield f"\n{one['cell']} at {one['shape']} was not measured: {one['reason']}."
    reasons = dict.fromkeys(
        (one["contender"], one["reason"]) for run in mine for one in run.get("absent", ())
    )
    for contender, reason in reasons:
        yield f"\n{contender} is left out in places: {reason}."


CORE = frozenset(str(point.shape) for point in GRIDS["core"])
"""Shapes over which means are taken."""

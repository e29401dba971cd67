"""What a run over the cells leaves: a table, one line of JSON, a part of a page, and a small file
with each cell's time, which the package shows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.cells import LEAST, MOST, PLAIN, Refusal, Row
from benchmarks.registry import PASSES, Shape
from benchmarks.report import (
    RESULTS,
    duration,
    entry,
    heading,
    ratio,
    ratio_text,
    short,
    spread,
    threads_text,
    times,
)

RECORD = RESULTS / "cells.jsonl"
SPEED = Path(__file__).parent.parent / "holdfast" / "cells" / "speed.json"

HEAD = (
    f"{'cell':18} {'products':>8} {'pass':16} {'ours':>8} {PLAIN:>8} {'eager':>8}  "
    f"{'time by ' + PLAIN:19} {'each product':19} eager by ours"
)


def lines(found: list[Row] | Refusal) -> Iterator[str]:
    """Lines of the table."""
    if isinstance(found, Refusal):
        yield f"{found.cell:18} REFUSED: {found.reason}"
        return
    for row in found:
        seconds = [duration(one.median) for one in (row.ours, row.plain, row.eager)]
        each = "-" if row.each is None else spread(row.each)
        beyond = f" BEYOND: {', '.join(row.beyond)}" if row.beyond else ""
        yield (
            f"{row.cell:18} {row.products:8.2f} {row.which:16} {seconds[0]:>8} {seconds[1]:>8} "
            f"{seconds[2]:>8}  {spread(row.time):19} {each:19} {spread(row.speedup)}{beyond}"
        )


def record(
    found: Iterable[list[Row] | Refusal], shape: Shape, threads: int, options: dict[str, Any]
) -> str:
    """The run as one line of JSON."""
    rows: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    for one in found:
        if isinstance(one, Refusal):
            refused.append({"cell": one.cell, "reason": one.reason})
        else:
            rows += map(_as_data, one)
    limits = {"each": MOST, "speedup": LEAST}
    more = {"shape": str(shape), "options": options, "limits": limits}
    return entry("cells", threads, rows, refused, **more)


def speeds(runs: Iterable[dict[str, Any]]) -> str:
    """The time of each cell over that of the plain LSTM, from the first run, as JSON.

    >>> json.loads(speeds([]))
    {'cells': {}}
    """
    content: dict[str, Any] = {}
    taken: dict[str, dict[str, float]] = {}
    for run in list(runs)[:1]:
        content = {key: run[key] for key in ("date", "threads", "shape")}
        content["cpu"] = run["machine"]["cpu"]
        for row in run["rows"]:
            taken.setdefault(row["cell"], {})[row["pass"]] = round(row["time"]["median"], 3)
    return json.dumps(content | {"cells": taken}, indent=1, ensure_ascii=False) + "\n"


def section(run: dict[str, Any]) -> Iterator[str]:
    """Lines of Markdown for one run: a table with a row for every cell."""
    yield from heading(f"Cells, {threads_text(run['threads'])}", run)
    yield ""
    yield (
        "| cell | gate-products | forward | by lstm | each product | eager ÷ ours "
        "| f+b | by lstm | each product | eager ÷ ours | beyond |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|"
    for name in dict.fromkeys(row["cell"] for row in run["rows"]):
        rows = {row["pass"]: row for row in run["rows"] if row["cell"] == name}
        yield _line(*(rows[which] for which in PASSES))
    for refused in run["refused"]:
        yield f"\n`{refused['cell']}` was not measured: {refused['reason']}."


def _line(forward: dict[str, Any], both: dict[str, Any]) -> str:
    shown = [f"`{forward['cell']}`", f"{forward['products']:.2f}"]
    for row in (forward, both):
        shown.append(duration(row["median_s"]))
        shown += [ratio_text(row[key]) for key in ("time", "each", "speedup")]
    beyond = [f"{row['pass']}: {', '.join(row['beyond'])}" for row in (forward, both)]
    shown.append("; ".join(one for one in beyond if not one.endswith(": ")))
    return f"| {' | '.join(shown)} |"


def _as_data(row: Row) -> dict[str, Any]:
    return {
        "cell": row.cell,
        "products": short(row.products),
        "pass": row.which,
        **times("", row.ours),
        **times("plain_", row.plain),
        **times("eager_", row.eager),
        "time": ratio(row.time),
        "each": None if row.each is None else ratio(row.each),
        "speedup": ratio(row.speedup),
        "beyond": row.beyond,
        "calls": row.calls,
    }

"""What a run over the cells leaves: a table, one line of JSON, a part of a page, and a small file
with each cell's time, which the package shows."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.cells import LEAST, MOST, PLAIN, Refusal, Row
from benchmarks.options_report import spread
from benchmarks.registry import PASSES, Shape
from benchmarks.report import duration, machine, versions
from benchmarks.timing import Spread

RECORD = Path(__file__).parent / "results" / "cells.jsonl"
SPEED = Path(__file__).parent.parent / "holdfast" / "cells" / "speed.json"

BEGIN = "<!-- cells, written by `python -m benchmarks pages` -->"
END = "<!-- end of the cells -->"

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
    content = {
        "benchmark": "cells",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "threads": threads,
        "shape": str(shape),
        "options": options,
        "limits": {"each": MOST, "speedup": LEAST},
        "rows": rows,
        "refused": refused,
    }
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def speeds(runs: Iterable[dict[str, Any]]) -> str:
    """The time of each cell over that of the plain LSTM, from the first run, as JSON.

    >>> json.loads(speeds([]))
    {'cells': {}}
    """
    content: dict[str, Any] = {}
    times: dict[str, dict[str, float]] = {}
    for run in list(runs)[:1]:
        content = {key: run[key] for key in ("date", "threads", "shape")}
        content["cpu"] = run["machine"]["cpu"]
        for row in run["rows"]:
            times.setdefault(row["cell"], {})[row["pass"]] = round(row["time"]["median"], 3)
    return json.dumps(content | {"cells": times}, indent=1, ensure_ascii=False) + "\n"


def section(run: dict[str, Any]) -> Iterator[str]:
    """Lines of Markdown for one run: a table with a row for every cell."""
    threads, machine, day = run["threads"], run["machine"], run["date"][:10]
    versions = ", ".join(f"{name} {run['versions'][name]}" for name in ("python", "torch"))
    yield f"### Cells, {threads} thread{'s' if threads > 1 else ''}"
    yield ""
    yield f"{run['shape']}, {run['options']['rounds']} rounds, {day}, on {machine['cpu']}"
    yield f"({machine['llvm_cpu']}) with {machine['cores']} cores, {versions}."
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
        shown += [_short(row[key]) for key in ("time", "each", "speedup")]
    beyond = [f"{row['pass']}: {', '.join(row['beyond'])}" for row in (forward, both)]
    shown.append("; ".join(one for one in beyond if not one.endswith(": ")))
    return f"| {' | '.join(shown)} |"


def _short(ratio: dict[str, Any] | None) -> str:
    if ratio is None:
        return ""
    low, high = ratio["interval"]
    return f"{ratio['median']:.2f} [{low:.2f}..{high:.2f}]"


def _as_data(row: Row) -> dict[str, Any]:
    return {
        "cell": row.cell,
        "products": _round(row.products),
        "pass": row.which,
        **_times("", row.ours),
        **_times("plain_", row.plain),
        **_times("eager_", row.eager),
        "time": _ratio(row.time),
        "each": None if row.each is None else _ratio(row.each),
        "speedup": _ratio(row.speedup),
        "beyond": row.beyond,
        "calls": row.calls,
    }


def _times(prefix: str, seconds: Spread) -> dict[str, Any]:
    return {
        f"{prefix}median_s": _round(seconds.median),
        f"{prefix}spread_s": [_round(seconds.low), _round(seconds.high)],
    }


def _ratio(ratio: Spread) -> dict[str, Any]:
    return {"median": _round(ratio.median), "interval": [_round(ratio.low), _round(ratio.high)]}


def _round(value: float) -> float:
    return float(f"{value:.5g}")

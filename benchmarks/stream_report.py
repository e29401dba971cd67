"""What a run over streams leaves: a table, one line of JSON, a part of a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from benchmarks.problem import Absent
from benchmarks.report import (
    RESULTS,
    about,
    duration,
    entry,
    ratio,
    ratio_text,
    rivals,
    short,
    spread,
    threads_text,
    times,
)
from benchmarks.stream import Found, Refusal, lead

RECORD = RESULTS / "stream.jsonl"

HEAD = f"{'shape':16} {'contender':20} {'median':>10} {'error':>9}  time as a multiple of ours"


def lines(found: Found) -> Iterator[str]:
    """Lines of the table."""
    if isinstance(found, Absent):
        yield f"{'':16} {found.contender:20} {found.reason}"
        return
    if isinstance(found, Refusal):
        yield f"{found.shape!s:16} REFUSED: {found.reason}"
        return
    best = lead([row.contender for row in found])
    ratios = next(row.ratios for row in found if row.contender == best)
    for row in found:
        beside = ratios.get(row.contender)
        text = "" if beside is None else spread(beside)
        note = f" ({row.note})" if row.note else ""
        yield (
            f"{row.shape!s:16} {row.contender:20} {duration(row.seconds.median):>10} "
            f"{row.error:9.1e}  {text}{note}"
        ).rstrip()


def record(found: Iterable[Found], threads: int, options: dict[str, Any]) -> str:
    """The run as one line of JSON."""
    rows: list[dict[str, Any]] = []
    refused, absent = [], {}
    for one in found:
        if isinstance(one, Absent):
            absent[one.contender] = one.reason
        elif isinstance(one, Refusal):
            refused.append({"shape": str(one.shape), "reason": one.reason})
        else:
            rows += (
                {
                    "shape": str(row.shape),
                    "contender": row.contender,
                    **times("", row.seconds),
                    "error": short(row.error),
                    "calls": row.calls,
                    "rounds": row.rounds,
                    "note": row.note,
                    "ratios": {name: ratio(value) for name, value in row.ratios.items()},
                }
                for row in one
            )
    missing = [{"contender": name, "reason": reason} for name, reason in absent.items()]
    used = dict.fromkeys(row["contender"] for row in rows)
    more = {"options": options, "rivals": rivals(used), "absent": missing}
    return entry("stream", threads, rows, refused, **more)


def section(run: Mapping[str, Any]) -> Iterator[str]:
    """Lines of Markdown for one run: a table for every shape."""
    yield f"### One step, {threads_text(run['threads'])}"
    yield ""
    yield f"{run['options']['rounds']} rounds, {about(run)}"
    for shape in dict.fromkeys(row["shape"] for row in run["rows"]):
        rows = [row for row in run["rows"] if row["shape"] == shape]
        best = lead([row["contender"] for row in rows])
        ratios = next(row["ratios"] for row in rows if row["contender"] == best)
        yield ""
        yield f"| {shape} | a step | by `{best}` | error |"
        yield "|---|---:|---:|---:|"
        for row in rows:
            beside = ratio_text(ratios.get(row["contender"]))
            time = duration(row["median_s"])
            yield f"| {row['contender']} | {time} | {beside} | {row['error']:.1e} |"
    for refused in run["refused"]:
        yield f"\n{refused['shape']} was not measured: {refused['reason']}."
    for absent in run["absent"]:
        yield f"\n{absent['contender']}: {absent['reason']}."

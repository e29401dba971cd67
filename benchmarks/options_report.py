"""What a run over the options leaves: a table for people, then one line of JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.options import Refusal, Row
from benchmarks.registry import PASSES, Shape
from benchmarks.report import (
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

HEAD = (
    f"{'option':18} {'mode':10} {'pass':16} {'ours':>8} {'plain':>8}  {'cost':20} "
    f"{'limit':>6} {'verdict':7} {'peer':>8}  time as a multiple of ours"
)


def lines(found: list[Row] | Refusal) -> Iterator[str]:
    """Lines of the table."""
    if isinstance(found, Refusal):
        yield f"{found.option.name:18} REFUSED: {found.reason}"
        return
    for row in found:
        option = row.option
        seconds = [duration(one.median) for one in (row.ours, row.plain, row.peer)]
        limit = "" if option.limit is None else f"{option.limit:.2f}"
        slower = ", ours is slower" if row.peer_ratio.median < 1 else ""
        note = f" ({row.note})" if row.note else ""
        yield (
            f"{option.name:18} {option.mode:10} {row.which:16} {seconds[0]:>8} {seconds[1]:>8}  "
            f"{spread(row.cost):20} {limit:>6} {row.verdict:7} {seconds[2]:>8}  "
            f"{spread(row.peer_ratio)} {option.beside}{slower}{note}"
        )


def record(
    found: Iterable[list[Row] | Refusal], shape: Shape, threads: int, options: dict[str, Any]
) -> str:
    """The run as one line of JSON."""
    rows: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    for one in found:
        if isinstance(one, Refusal):
            refused.append({"option": one.option.name, "reason": one.reason})
        else:
            rows += map(_as_data, one)
    return entry("options", threads, rows, refused, shape=str(shape), options=options)


def section(run: dict[str, Any]) -> Iterator[str]:
    """Lines of Markdown for a run over the options: a table with a row for each."""
    yield from heading(threads_text(run["threads"]), run)
    yield f"Plain layer: {_plain(run)}."
    yield ""
    yield "| option | mode | cost, forward | f+b | limit | | beside | peer ÷ ours, forward | f+b |"
    yield "|---|---|---:|---:|---:|---|---|---:|---:|"
    for name in dict.fromkeys(row["option"] for row in run["rows"]):
        rows = {row["pass"]: row for row in run["rows"] if row["option"] == name}
        yield _line(*(rows[which] for which in PASSES))
    for refused in run["refused"]:
        yield f"\n{refused['option']} was not measured: {refused['reason']}."


def _plain(run: dict[str, Any]) -> str:
    """The plain layer's time in both passes, beside the first option that it is compared with."""
    medians = {}
    for row in run["rows"]:
        if row["plain_layers"] == 1:
            medians.setdefault(row["pass"], duration(row["plain_median_s"]))
    return ", ".join(f"{which} {time}" for which, time in medians.items())


def _line(forward: dict[str, Any], both: dict[str, Any]) -> str:
    above = [row["pass"] for row in (forward, both) if row["verdict"] == "above"]
    limit = forward["limit"]
    verdict = "" if limit is None else f"above ({', '.join(above)})" if above else "within"
    cells = (
        f"`{forward['option']}`",
        forward["mode"],
        ratio_text(forward["cost"]),
        ratio_text(both["cost"]),
        "" if limit is None else f"{limit:.2f}",
        verdict,
        forward["peer"],
        ratio_text(forward["peer_ratio"]),
        ratio_text(both["peer_ratio"]),
    )
    return f"| {' | '.join(cells)} |"


def _as_data(row: Row) -> dict[str, Any]:
    option = row.option
    return {
        "option": option.name,
        "settings": dict(option.settings),
        "call": dict(option.call),
        "pass": row.which,
        "mode": option.mode,
        "plain_layers": option.layers,
        "share": short(row.share),
        **times("", row.ours),
        **times("plain_", row.plain),
        "cost": ratio(row.cost),
        "limit": option.limit,
        "verdict": row.verdict,
        "peer": option.beside,
        **times("peer_", row.peer),
        "peer_ratio": ratio(row.peer_ratio),
        "calls": row.calls,
        "note": row.note,
    }

"""What a run over the options leaves: a table for people, then one line of JSON for programs."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.options import Refusal, Row
from benchmarks.registry import Shape
from benchmarks.report import duration, machine, versions
from benchmarks.timing import Spread

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


def spread(ratio: Spread) -> str:
    """A ratio with its range over the rounds.

    >>> spread(Spread(1.0, 0.5, 2.0))
    '1.00 [0.50 .. 2.00]'
    """
    return f"{ratio.median:.2f} [{ratio.low:.2f} .. {ratio.high:.2f}]"


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
    content = {
        "benchmark": "options",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "threads": threads,
        "shape": str(shape),
        "options": options,
        "rows": rows,
        "refused": refused,
    }
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def _as_data(row: Row) -> dict[str, Any]:
    option = row.option
    return {
        "option": option.name,
        "settings": dict(option.settings),
        "call": dict(option.call),
        "pass": row.which,
        "mode": option.mode,
        "plain_layers": option.layers,
        "share": _short(row.share),
        **_times("", row.ours),
        **_times("plain_", row.plain),
        "cost": _ratio(row.cost),
        "limit": option.limit,
        "verdict": row.verdict,
        "peer": option.beside,
        **_times("peer_", row.peer),
        "peer_ratio": _ratio(row.peer_ratio),
        "calls": row.calls,
        "note": row.note,
    }


def _times(prefix: str, seconds: Spread) -> dict[str, Any]:
    return {
        f"{prefix}median_s": _short(seconds.median),
        f"{prefix}spread_s": [_short(seconds.low), _short(seconds.high)],
    }


def _ratio(ratio: Spread) -> dict[str, Any]:
    return {"median": _short(ratio.median), "interval": [_short(ratio.low), _short(ratio.high)]}


def _short(value: float) -> float:
    return float(f"{value:.5g}")

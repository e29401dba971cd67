"""What a run leaves: a table for people, then one line of JSON for programs."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import numpy as np
import torch

import holdfast
from benchmarks.layers import Refusal, Row
from benchmarks.timing import Spread
from holdfast.compiler.emit.target import host

HEAD = (
    f"{'cell':9} {'shape':20} {'pass':16} {'contender':10} {'median':>10} "
    f"{'low .. high':>23} {'GFLOP/s':>8}  time as a multiple of ours"
)


def machine() -> dict[str, Any]:
    """The machine of a run, and how busy it was at the time."""
    target = host()
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "llvm_cpu": target.cpu,
        "vector_bytes": target.vector_bytes,
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def versions() -> dict[str, str]:
    """Versions of what takes part."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "llvmlite": llvmlite.__version__,
        "holdfast": holdfast.__version__,
        "numpy": np.__version__,
    }


def lines(found: list[Row] | Refusal) -> Iterator[str]:
    """Lines of the table."""
    if isinstance(found, Refusal):
        yield f"{found.cell:9} {found.shape!s:20} REFUSED: {found.reason}"
        return
    ratios = next((row.ratios for row in found if row.contender == "ours"), {})
    for row in found:
        seconds = row.seconds
        spread = f"{duration(seconds.low)} .. {duration(seconds.high)}"
        ratio = ratios.get(row.contender)
        verdict = "" if ratio is None else _verdict(ratio)
        note = f" ({row.note})" if row.note else ""
        line = (
            f"{row.cell:9} {row.shape!s:20} {row.which:16} {row.contender:10} "
            f"{duration(seconds.median):>10} {spread:>23} {row.gflops:8.1f}  {verdict}{note}"
        )
        yield line.rstrip()


def duration(seconds: float) -> str:
    """Seconds with three figures and a fitting unit.

    >>> duration(0.00248)
    '2.48 ms'
    """
    unit, value = "s", seconds
    for smaller in ("ms", "µs"):
        if value < 1:
            unit, value = smaller, value * 1000
    return f"{value:.{max(0, 3 - len(str(int(value))))}f} {unit}"


def record(found: Iterable[list[Row] | Refusal], threads: int, options: dict[str, Any]) -> str:
    """The run as one line of JSON."""
    rows: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    for one in found:
        if isinstance(one, Refusal):
            refused.append({"cell": one.cell, "shape": str(one.shape), "reason": one.reason})
        else:
            rows += map(_as_data, one)
    content = {
        "benchmark": "layers",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "threads": threads,
        "options": options,
        "rows": rows,
        "refused": refused,
    }
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def append(path: Path, line: str) -> None:
    """Add a run to a file of runs, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def _as_data(row: Row) -> dict[str, Any]:
    return {
        "cell": row.cell,
        "shape": str(row.shape),
        "pass": row.which,
        "contender": row.contender,
        "median_s": _short(row.seconds.median),
        "spread_s": [_short(row.seconds.low), _short(row.seconds.high)],
        "gflops": round(row.gflops, 2),
        "calls": row.calls,
        "rounds": row.rounds,
        "note": row.note,
        "ratios": {
            name: {
                "median": _short(ratio.median),
                "interval": [_short(ratio.low), _short(ratio.high)],
            }
            for name, ratio in row.ratios.items()
        },
    }


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _verdict(ratio: Spread) -> str:
    text = f"{ratio.median:.2f} [{ratio.low:.2f} .. {ratio.high:.2f}]"
    return f"{text} ours is slower" if ratio.median < 1 else text


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()

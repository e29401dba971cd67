"""Peak memory of one training step: ours, with everything recomputed, PyTorch's, the eager loop's.

Each is measured in a fresh process, where the memory that the system counts as resident is what is
in use: the allocator is told to give every larger buffer back as soon as it is freed. So buffers
count that never pass through PyTorch's allocator.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.memory_step import CONTENDERS
from benchmarks.registry import Shape
from benchmarks.report import RESULTS, about, entry

RECORD = RESULTS / "memory.jsonl"

SHAPES = (
    Shape(32, 100, 32, 128),
    Shape(256, 100, 8, 32),
    Shape(64, 100, 128, 256),
    Shape(128, 50, 512, 512),
)
"""Where memory is measured."""

ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "MALLOC_TOP_PAD_": "0",
}
"""For the allocator of Linux: larger buffers are the system's own, and go back when freed."""

LIMIT = 300
"""Seconds after which a process is given up."""

HEAD = f"{'shape':20} {'contender':16} {'peak':>10}  by torch's"


@dataclass(frozen=True)
class Row:
    """One contender at one shape: bytes, or why they are not known."""

    shape: Shape
    contender: str
    peak: int | None
    reason: str = ""


def measure(shapes: Sequence[Shape], threads: int) -> Iterator[list[Row]]:
    """Rows of one shape at a time."""
    for shape in shapes:
        yield [measured(name, shape, threads) for name in CONTENDERS]


def measured(name: str, shape: Shape, threads: int) -> Row:
    """One training step in a process of its own."""
    if not sys.platform.startswith("linux"):
        return Row(shape, name, None, "not measured: only Linux tells a process's peak")
    command = [sys.executable, "-m", "benchmarks.memory_step", name, str(shape), str(threads)]
    root = Path(__file__).parent.parent
    done = subprocess.run(
        command,
        cwd=root,
        env=os.environ | ALLOCATOR,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        return Row(shape, name, None, f"not measured: {last[0]}")
    found = json.loads(done.stdout.splitlines()[-1])
    if "bytes" not in found:
        return Row(shape, name, None, f"not measured: {found['reason']}")
    return Row(shape, name, found["bytes"])


def by_torch(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Each contender's peak by PyTorch's, of one shape, where both are known.

    >>> by_torch([{"contender": "ours", "bytes": 1}, {"contender": "torch", "bytes": 2}])
    {'ours': 0.5}
    """
    peaks = {row["contender"]: row["bytes"] for row in rows if row["bytes"]}
    whole = peaks.pop("torch", 0)
    return {name: peak / whole for name, peak in peaks.items()} if whole else {}


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """Lines of the table."""
    ratios = by_torch([_as_data(row) for row in rows])
    for row in rows:
        peak = row.reason if row.peak is None else f"{row.peak / 1e6:7.2f} MB"
        beside = f"{ratios[row.contender]:.2f}" if row.contender in ratios else ""
        yield f"{row.shape!s:20} {row.contender:16} {peak:>10}  {beside}".rstrip()


def _as_data(row: Row) -> dict[str, Any]:
    return {
        "shape": str(row.shape),
        "contender": row.contender,
        "bytes": row.peak,
        "reason": row.reason,
    }


def record(found: Sequence[Sequence[Row]], threads: int, options: dict[str, Any]) -> str:
    """The run as one line of JSON."""
    rows = [_as_data(row) for rows in found for row in rows]
    return entry("memory", threads, rows, [], options=options)


def section(run: Mapping[str, Any]) -> Iterator[str]:
    """Lines of Markdown for one run: a row for every shape."""
    names = list(dict.fromkeys(row["contender"] for row in run["rows"]))
    yield f"{run['threads']} thread(s), {about(run)}"
    yield ""
    yield f"| shape | {' | '.join(f'{name}, MB' for name in names)} | by torch's |"
    yield f"|---|{'---:|' * len(names)}---|"
    for shape in dict.fromkeys(row["shape"] for row in run["rows"]):
        rows = {row["contender"]: row for row in run["rows"] if row["shape"] == shape}
        peaks = [
            "" if rows[name]["bytes"] is None else f"{rows[name]['bytes'] / 1e6:.1f}"
            for name in names
        ]
        ratios = by_torch(list(rows.values()))
        text = ", ".join(f"{name} {value:.2f}" for name, value in ratios.items())
        yield f"| {shape} | {' | '.join(peaks)} | {text} |"
    reasons = {row["contender"]: row["reason"] for row in run["rows"] if row["reason"]}
    for name, reason in reasons.items():
        yield f"\n{name}: {reason}."

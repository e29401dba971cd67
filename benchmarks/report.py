"""What every run leaves: its machine, figures as text, one line of JSON, and how to read it."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import llvmlite
import numpy as np
import torch

import holdfast
from benchmarks.timing import Spread
from holdfast.compiler.emit.target import host

RESULTS = Path(__file__).parent / "results"
"""Where recorded runs are: a file for each verb, a run a line."""

RIVALS = ("onnxruntime", "jax", "keras")
"""Libraries beside which layers are measured where they are installed."""


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


def rivals(names: Iterable[str]) -> dict[str, str]:
    """Versions of the libraries of some contenders, where they are installed.

    >>> rivals(["torch"])
    {}
    """
    found = {}
    for name in names:
        if name in RIVALS:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
    return found


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


def spread(ratio: Spread) -> str:
    """A ratio with its range over the rounds.

    >>> spread(Spread(1.0, 0.5, 2.0))
    '1.00 [0.50 .. 2.00]'
    """
    return f"{ratio.median:.2f} [{ratio.low:.2f} .. {ratio.high:.2f}]"


def short(value: float) -> float:
    """Five figures.

    >>> short(0.123456789)
    0.12346
    """
    return float(f"{value:.5g}")


def times(prefix: str, seconds: Spread) -> dict[str, Any]:
    """Seconds as data, under two keys with a prefix."""
    return {
        f"{prefix}median_s": short(seconds.median),
        f"{prefix}spread_s": [short(seconds.low), short(seconds.high)],
    }


def ratio(value: Spread) -> dict[str, Any]:
    """A ratio as data."""
    return {"median": short(value.median), "interval": [short(value.low), short(value.high)]}


def ratio_text(value: Mapping[str, Any] | None) -> str:
    """A ratio from data, for a table of a page.

    >>> ratio_text({"median": 1.5, "interval": [1, 2]})
    '1.50 [1.00..2.00]'
    """
    if value is None:
        return ""
    low, high = value["interval"]
    return f"{value['median']:.2f} [{low:.2f}..{high:.2f}]"


def entry(
    benchmark: str, threads: int, rows: list[dict[str, Any]], refused: Any, **more: Any
) -> str:
    """A run as one line of JSON.

    Arguments:
        more: what else the benchmark tells, before the rows.
    """
    content = {
        "benchmark": benchmark,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "threads": threads,
        **more,
        "rows": rows,
        "refused": refused,
    }
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def append(path: Path, line: str) -> None:
    """Add a run to a file of runs, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def runs(path: Path) -> list[dict[str, Any]]:
    """All runs of a file, the oldest first; none without a file.

    >>> runs(Path("no such file"))
    []
    """
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def newest(path: Path) -> list[dict[str, Any]]:
    """The last run of each number of threads, one thread first; none without a file.

    >>> newest(Path("no such file"))
    []
    """
    last = {run["threads"]: run for run in runs(path)}
    return [last[threads] for threads in sorted(last)]


def heading(title: str, run: Mapping[str, Any]) -> Iterator[str]:
    """Lines of Markdown that begin the part of a run over one shape."""
    yield f"### {title}"
    yield ""
    yield f"{run['shape']}, {run['options']['rounds']} rounds, {about(run)}"


def about(run: Mapping[str, Any]) -> str:
    """Day, machine and versions of a run."""
    machine, day = run["machine"], run["date"][:10]
    named = {name: run["versions"][name] for name in ("python", "torch")}
    named |= run.get("rivals", {})
    return (
        f"{day}, on {machine['cpu']}\n({machine['llvm_cpu']}) with {machine['cores']} cores, "
        f"{', '.join(f'{name} {version}' for name, version in named.items())}."
    )


def threads_text(threads: int) -> str:
    """A number of threads in words.

    >>> threads_text(1), threads_text(2)
    ('1 thread', '2 threads')
    """
    return f"{threads} thread{'s' if threads > 1 else ''}"


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()

"""What comes with a library: seconds to import it, and packages that it brings beside PyTorch."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.forecast.registry import Experiment, Row, Settings, add

ROOT = Path(__file__).parent.parent.parent

OURS = ("import torch", "import holdfast", "from holdfast.tasks import Forecaster")

STATEMENTS = {
    "neuralforecast": "from neuralforecast.models import LSTM",
    "darts": "from darts.models import RNNModel",
}
"""What a user of a library imports."""

REQUIREMENTS = {"neuralforecast": "neuralforecast", "darts": "darts[torch]"}

ROUNDS = 2

TORCH = f"torch=={torch.__version__.partition('+')[0]}"


def imports(settings: Settings) -> Iterator[Row]:
    """Seconds of a fresh process that runs a statement and ends, less those of an empty one."""
    wanted = [*OURS, *(STATEMENTS[name] for name in settings.peers)]
    there = [one for one in wanted if importlib.util.find_spec(re.split("[ .]", one)[1])]
    seconds: dict[str, list[float]] = {one: [] for one in ("pass", *there)}
    for statement in seconds:
        _run(statement)
    for _ in range(1 if settings.quick else ROUNDS):
        for statement, values in seconds.items():
            values.append(_run(statement))
    for statement in wanted:
        if statement not in there:
            yield Row(statement, note="not installed")
            continue
        pairs = zip(seconds[statement], seconds["pass"], strict=True)
        yield Row(statement, {"seconds": tuple(one - empty for one, empty in pairs)})


def _run(statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - start


def packages(settings: Settings) -> Iterator[Row]:
    """Packages that pip would install beside those of PyTorch, in an empty environment."""
    base = _resolved([TORCH])
    wanted = {"holdfast": str(ROOT), "holdfast[forecast]": f"{ROOT}[forecast]"}
    wanted |= {name: REQUIREMENTS[name] for name in settings.peers}
    for name, requirement in wanted.items():
        try:
            more = sorted(_resolved([TORCH, requirement]) - base - {"holdfast"}, key=str.lower)
        except subprocess.CalledProcessError as error:
            last = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
            yield Row(name, note=f"not resolved: {last}")
            continue
        yield Row(name, {"packages": (float(len(more)),)}, ", ".join(more))


def _resolved(requirements: list[str]) -> set[str]:
    """Names of the packages that pip would install."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
        command += ["--quiet", "--report", str(report), *requirements]
        subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {one["metadata"]["name"] for one in found}


add(Experiment("imports", "Importing, in a process of its own", "speed", imports))
add(Experiment("packages", f"Packages beside those of {TORCH}", "speed", packages))

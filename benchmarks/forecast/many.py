"""Ten thousand series: seconds and memory of training on them and of a forecast for each."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.forecast.many_step import SIZE
from benchmarks.forecast.registry import Experiment, Row, Settings, add

SERIES, ROWS = 10_000, 500
NAMES = {"holdfast": "holdfast direct", "neuralforecast": "neuralforecast LSTM"}
"""Who takes part: libraries that read a table of many series."""

LIMIT = 1800
"""Seconds after which a process is given up."""

ROOT = Path(__file__).parent.parent.parent


def many(settings: Settings) -> Iterator[Row]:
    """A row for every library that trains on many series in a table at once."""
    if not sys.platform.startswith("linux"):
        yield Row("holdfast", note="not measured: only Linux tells a process's peak")
        return
    series, rows = (20, 300) if settings.quick else (SERIES, ROWS)
    for library in ("holdfast", *settings.peers):
        if library in NAMES:
            yield _measured(NAMES[library], series, rows)


def _measured(name: str, series: int, rows: int) -> Row:
    module = "benchmarks.forecast.many_step"
    command = [sys.executable, "-m", module, name, str(series), str(rows)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=True
        )
    except subprocess.TimeoutExpired:
        return Row(name, note=f"not measured: more than {LIMIT} s")
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or [f"exit status {error.returncode}"])[-1]
        return Row(name, note=f"not measured: {last}")
    found = json.loads(done.stdout.splitlines()[-1])
    if "reason" in found:
        return Row(name, note=f"not measured: {found['reason']}")
    fit, predict = found["fit"], found["predict"]
    figures = {
        "fit, s": fit,
        "predict, s": predict,
        "a thousand series, s": 1000 * (fit + predict) / series,
        "table and libraries, GB": found["table"] / 1e9,
        "peak, GB": found["peak"] / 1e9,
    }
    return Row(name, {column: (value,) for column, value in figures.items()})


add(
    Experiment(
        "many",
        f"{SERIES:,} series of {ROWS} rows: LSTM {SIZE.layers} x {SIZE.units}, {SIZE.window} rows "
        f"back, {SIZE.horizon} ahead, {SIZE.steps} steps of {SIZE.batch} windows",
        "speed",
        many,
    )
)

"""Many series in a process of its own: `python -m benchmarks.forecast.many_step NAME SERIES ROWS`.

Prints the seconds of fit and predict, and the most memory that the process held, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.forecast import race
from benchmarks.forecast.race import MAKERS, Size
from benchmarks.forecast.task import RefusalError

SIZE = Size(units=64, layers=1, window=72, horizon=24, batch=128, steps=200)


def peak() -> int:
    """The most bytes that this process has held so far, as Linux tells."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def measure(name: str, series: int, rows: int) -> dict[str, Any]:
    """Seconds and bytes of one contender, or `{"reason": ...}`."""
    library = name.partition(" ")[0]
    frame = race.waves(series, rows)
    before = peak()
    try:
        fit: Callable[[], Any] = MAKERS[library][name](frame, SIZE)
    except RefusalError as refusal:
        return {"reason": str(refusal)}
    start = time.perf_counter()
    model = fit()
    fitted = time.perf_counter()
    given = model.predict(df=frame) if library == "neuralforecast" else model.predict(frame)
    done = time.perf_counter()
    if len(given) != series * SIZE.horizon:
        return {"reason": f"{len(given)} forecasts instead of {series * SIZE.horizon}"}
    return {"fit": fitted - start, "predict": done - fitted, "table": before, "peak": peak()}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))

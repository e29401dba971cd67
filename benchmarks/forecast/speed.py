"""Seconds to train and to forecast once, beside other libraries, in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from benchmarks.forecast import race
from benchmarks.forecast.race import MAKERS, Size, rows_of
from benchmarks.forecast.registry import Experiment, Row, Settings, add
from benchmarks.forecast.task import RefusalError
from benchmarks.timing import alternate

FIT = Size(units=128, layers=2, window=48, horizon=24, batch=128, steps=20)
FIT_ROWS = 4000
LATENCY = Size(units=128, layers=2, window=24, horizon=12, batch=32, steps=2)
LATENCY_ROWS = 300

ROUNDS, TURN = 5, 0.2

OURS = "holdfast direct"

NOTES = {
    OURS: "one forecast a window, as the peers; lags are off, the calendar stays on",
    "holdfast direct, together": (
        "as users run it: 24 neighboring forecasts share the rows of a window, so that a step with "
        "144 forecasts reads 6 windows of 71 rows instead of 128 of 48"
    ),
    "holdfast recurrent": "forecasts one step at each row, as darts' RNNModel",
    "neuralforecast LSTM": "its decoder of two layers with 128 units comes on top",
    "darts BlockRNNModel": "one linear layer from the last state, as it comes",
    "darts RNNModel": "reads 72 rows a window and forecasts one step at each of them",
}


def _contenders(settings: Settings, size: Size, frame: Any) -> Iterator[tuple[str, Any]]:
    """Calls that train, by name; a `Row` instead where a library is missing."""
    for library in ("holdfast", *settings.peers):
        for name, make in MAKERS[library].items():
            try:
                yield name, make(frame, size)
            except RefusalError as refusal:
                yield name, Row(name, note=str(refusal))


def fit(settings: Settings) -> Iterator[Row]:
    """Training from scratch with the same number of steps."""
    size = replace(FIT, steps=2) if settings.quick else FIT
    frame = race.waves(1, FIT_ROWS)
    found = dict(_contenders(settings, size, frame))
    yield from _timed(found, NOTES, 3)


def latency(settings: Settings) -> Iterator[Row]:
    """One forecast of one series by a model that has forecast before."""
    frame = race.waves(1, LATENCY_ROWS)
    found: dict[str, Any] = {}
    for name, made in _contenders(settings, LATENCY, frame):
        found[name] = made if isinstance(made, Row) else _predict(name, made(), frame)
    yield from _timed(found, {}, 3 if settings.quick else ROUNDS)


def _predict(name: str, model: Any, frame: Any) -> Callable[[], object]:
    """A call that makes one forecast with what is usual of each library."""
    if name.startswith("darts"):
        series = race.as_series(frame)
        return lambda: model.predict(LATENCY.horizon, series=series, verbose=False)
    if name.startswith("neuralforecast"):
        return lambda: model.predict(df=frame)
    return lambda: model.predict(frame)


def _timed(found: dict[str, Any], notes: dict[str, str], rounds: int) -> Iterator[Row]:
    calls = {name: call for name, call in found.items() if not isinstance(call, Row)}
    rows = rows_of(alternate(calls, rounds, TURN), notes, OURS)
    for name, call in found.items():
        yield call if isinstance(call, Row) else rows[name]


_SHAPE = f"LSTM {FIT.layers} x {FIT.units}, {FIT.window} rows back, {FIT.horizon} ahead"

add(
    Experiment(
        "fit",
        f"Training: {_SHAPE}, {FIT.steps} steps of {FIT.batch} windows",
        "speed",
        fit,
    )
)
add(
    Experiment(
        "latency",
        f"One forecast of one series: LSTM {LATENCY.layers} x {LATENCY.units}, "
        f"{LATENCY.window} rows back, {LATENCY.horizon} ahead, warm",
        "speed",
        latency,
    )
)

"""Which rows forecasts are made from: in training, in its held-out tail, and to be scored."""

from __future__ import annotations

from typing import Any

import numpy as np

from holdfast.data.frequency import Frequency, show
from holdfast.data.panel import Panel, Series
from holdfast.data.windows import Windows
from holdfast.errors import DataError
from holdfast.tasks.forecast.nets import ForecastNet
from holdfast.tasks.forecast.short import first_and_last
from holdfast.tasks.forecast.training import Origins

SPAN = 24


def training_origins(
    settings: Any, net: ForecastNet, windows: Windows, counts: list[int]
) -> tuple[Origins, Origins]:
    """The origins of training and of the tail that early stopping watches.

    `counts` is how many rows of each series train.
    """
    H, trained = settings.horizon, np.array(counts)
    first, last = first_and_last(trained, windows.recipe, net.joint)
    usable = np.flatnonzero(last >= first)
    tail_first = np.maximum(first, trained - 1)[usable]
    tail_last = (windows.lengths - 1 - H)[usable]
    watched = tail_last >= tail_first
    rooms, tails = (last - first + 1)[usable], (tail_last - tail_first + 1)[watched]
    # Training hides the origins before the first row; early stopping watches new rows alone.
    span = int(min(SPAN, rooms.min() if net.joint else np.median(rooms))) if net.spans else 1
    tail_span = int(min(SPAN, tails.min(initial=SPAN))) if net.spans else 1
    most = settings.epoch_steps * settings.batch_size
    shared = {"windows": windows, "seed": settings.seed, "joint": net.joint}
    return (
        Origins(
            series=usable,
            first=first[usable],
            last=last[usable],
            span=span,
            shuffled=True,
            most=most,
            weights=sizes_of(windows, trained)[usable] if net.weighted else None,
            **shared,
        ),
        Origins(
            series=usable[watched],
            first=tail_first[watched],
            last=tail_last[watched],
            span=tail_span,
            shuffled=False,
            most=most,
            **shared,
        ),
    )


def sizes_of(windows: Windows, counts: np.ndarray) -> np.ndarray:
    """1 + the mean size of the first `counts` (L,) rows of each series, in the user's unit (L,).

    Source: Salinas, Flunkert, Gasthaus & Januschowski 2020, DeepAR, section 3.3: windows are drawn
    in proportion to it, for a few large series matter most and few windows are theirs.
    """
    found = []
    for place, (start, count) in enumerate(zip(windows.starts.tolist(), counts, strict=True)):
        z = windows.z[start : start + count].numpy().astype(np.float64)
        y = windows.scales[place].undo(z)
        seen = windows.observed[start : start + count].numpy() > 0
        found.append(1.0 + float(np.abs(y[seen]).mean()) if seen.any() else 1.0)
    return np.array(found)


def origins_to_score(
    model: Any, panel: Panel, last: int | None, step: int | None
) -> tuple[tuple[int, ...], tuple[np.ndarray, ...], np.ndarray]:
    """The first scored row and the origins of each series, and both as blocks (W, 2)."""
    H = model.horizon
    starts, chosen = [], []
    for series in panel.series:
        start = len(series) - last if last is not None else _first_new(model, panel, series)
        first = max(start - 1, min(model.recipe_.history, model.recipe_.window) - 1)
        if first + H > len(series) - 1:
            where = f" (series {series.id!r})" if series.id else ""
            end = model.ends_.get(series.id)
            after = f" after the end of training ({show(np.datetime64(end))})" if end else ""
            raise DataError(
                f"{panel.name}{where}: {max(0, len(series) - 1 - first)} row(s) to score; needs "
                f"{H}{after} and {first + 1} before; give a longer table, or say how many of its "
                "last rows to score (--last)"
            )
        starts.append(first + 1)
        chosen.append(np.arange(first, len(series) - H, step or H))
    if model.net_.joint:
        chosen = at_common_times(panel, chosen)
    if not any(
        series.observed[start:].any() for series, start in zip(panel.series, starts, strict=True)
    ):
        raise DataError(f"{panel.name}: no observed target in the rows to score; give others")
    parts = [np.stack([np.full(len(at), i), at], axis=1) for i, at in enumerate(chosen)]
    return tuple(starts), tuple(chosen), np.concatenate(parts)


def at_common_times(panel: Panel, chosen: list[np.ndarray]) -> list[np.ndarray]:
    """The origins at times that every series has among its own."""
    begin = [int(o) for o in panel.frequency.ordinals(np.array([s.times[0] for s in panel.series]))]
    common = chosen[0] + begin[0]
    for at, first in zip(chosen[1:], begin[1:], strict=True):
        common = np.intersect1d(common, at + first)
    if not len(common):
        raise DataError(
            f"{panel.name}: the series have no origin at a common time; end them together"
        )
    return [common - first for first in begin]


def _first_new(model: Any, panel: Panel, series: Series) -> int:
    """The first row of a series after the end of training; all of it where it is new."""
    end = model.ends_.get(series.id)
    if end is None:
        return 0
    frequency: Frequency = panel.frequency
    ordinals = frequency.ordinals(np.array([series.times[0], np.datetime64(end, "us")]))
    return max(0, int(ordinals[1] - ordinals[0]) + 1)

"""Conformal intervals: how wide they have to be, measured on rows that nothing was fitted to.

The last rows of each series neither train nor stop the training. Forecasts from every origin among
them leave scores: the absolute error of a point forecast, or how far the truth lies outside the
interval that a distribution gives (conformalized quantile regression). Their finite-sample
quantiles, step by step, are what later intervals are widened by.

Source: Vovk, Gammerman & Shafer 2005, Algorithmic Learning in a Random World; Romano, Patterson &
Candès 2019, Conformalized quantile regression, equations (6) to (8). They promise coverage for
exchangeable rows; of a series it holds as far as the future is like the held-out rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from holdfast.data.cut import cut
from holdfast.data.panel import Panel
from holdfast.data.windows import Windows
from holdfast.errors import DataError
from holdfast.tasks.forecast import metrics
from holdfast.tasks.forecast.forecasts import Forecasts, forecast_windows
from holdfast.tasks.forecast.heads import Head, NegativeBinomial, Quantiles
from holdfast.tasks.forecast.nets import ForecastNet
from holdfast.tasks.forecast.origins import at_common_times
from holdfast.tasks.forecast.recipe import held_out

# The levels, in percent, at which margins are kept; those between are interpolated.
GRID = (*range(5, 100, 5), 98, 99)
FEWEST = 20
# So many numbers of forecasts are held at a time, so many windows at most (fewer where each has to
# be sampled), and so many trajectories of errors are kept.
NUMBERS, WINDOWS, SAMPLED, TRAJECTORIES = 1_200_000, 20_000, 2_000, 100


@dataclass(frozen=True)
class Margins:
    """What intervals are widened by: `table` (len(GRID), H) in units of a series' spread.

    `kind` is ``"point"`` (added to the point) or ``"quantiles"`` (added to the model's own
    interval), `counts` (H,) the held-out errors of each step, and `coverage` what intervals from
    the earlier half of these rows had on the later half, by level.
    """

    kind: str
    table: np.ndarray
    counts: np.ndarray
    coverage: dict[str, float]

    def at(self, level: float) -> np.ndarray:
        """The margin of each step (H,) at `level` percent; `DataError` where there is none."""
        right = int(np.searchsorted(GRID, level - 1e-9))
        if right == len(GRID):
            raise DataError(f"level {level:g}: conformal intervals go up to {GRID[-1]} percent")
        if np.isnan(self.table[right]).any():
            need = math.ceil(GRID[right] / (100 - GRID[right]))
            raise DataError(
                f"level {level:g} needs {need} held-out errors of every step, there are "
                f"{int(self.counts.min())}; ask for a lower level, or fit with more rows or a "
                "larger `calibration`"
            )
        high = self.table[right]
        low = self.table[right - 1] if right else np.zeros_like(high)
        if not right and self.kind == "quantiles":
            low = high
        left = GRID[right - 1] if right else 0
        return low + (high - low) * (level - left) / (GRID[right] - left)

    @property
    def highest(self) -> float:
        """The highest level that there are margins for, in percent; 0 where there is none."""
        known = [
            level for level, row in zip(GRID, self.table, strict=True) if np.isfinite(row).all()
        ]
        return float(max(known, default=0))


@dataclass(frozen=True)
class HeldOut:
    """What forecasts of held-out rows have shown.

    `spreads` (L,) is how far the series of training move in a season, in scaled units: the unit of
    errors here. `errors` (M, H) are trajectories of errors, at most `TRAJECTORIES`. `margins` are
    those of conformal intervals, where they were asked for.
    """

    season: int
    spreads: np.ndarray
    errors: np.ndarray
    margins: Margins | None = None

    def spread(self, windows: Windows) -> np.ndarray:
        """The spread of every series of `windows` (L,): a new one's comes from its own rows."""
        places = windows.known.numpy()
        found = np.where(places >= 0, self.spreads[np.maximum(places, 0)], np.nan)
        for new in np.flatnonzero(places < 0):
            found[new] = _spread(windows, int(new), int(windows.lengths[new]), self.season)
        usual = float(np.median(self.spreads))
        return np.where(found > 0, found, usual)

    def as_json(self) -> dict[str, Any]:
        """What goes into a model's configuration."""
        margins = None
        if self.margins is not None:
            table = [[_short(v) for v in row] for row in self.margins.table]
            counts = [int(count) for count in self.margins.counts]
            margins = {**vars(self.margins), "table": table, "counts": counts}
        return {
            "season": self.season,
            "spreads": [_short(v) for v in self.spreads],
            "errors": [[_short(v) for v in row] for row in self.errors],
            "margins": margins,
        }

    @staticmethod
    def from_json(found: dict[str, Any], horizon: int) -> HeldOut:
        """Undo `as_json`."""
        given = found["margins"]
        if given is not None:
            table = np.array(given["table"], dtype=np.float64)
            given = Margins(**{**given, "table": table, "counts": np.array(given["counts"])})
        errors = np.array(found["errors"], dtype=np.float64).reshape(-1, horizon)
        return HeldOut(int(found["season"]), np.array(found["spreads"]), errors, given)


def _short(value: float) -> float | None:
    return None if np.isnan(value) else float(f"{value:.7g}")


def without_calibration(model: Any, panel: Panel) -> Panel:
    """The rows that train and stop the training; all of them without conformal intervals.

    Raises `DataError` when no series has rows to spare.
    """
    if model.intervals is None:
        return panel
    least = model.horizon - 1 + math.ceil(FEWEST / len(panel.series))
    counts = []
    for series in panel.series:
        rows = max(least, math.ceil(model.calibration * len(series)))
        spare = 2 * rows <= len(series) and series.observed[: len(series) - rows].any()
        counts.append(len(series) - (rows if spare else 0))
    if not any(c < len(s) for c, s in zip(counts, panel.series, strict=True)):
        longest = max(map(len, panel.series))
        raise DataError(
            f'{panel.name}: {longest} rows are too few for intervals="conformal", which keeps '
            f"{least} or more at the end of a series away from training, half of it at most; give "
            "more rows or a shorter horizon"
        )
    return cut(panel, counts)


def measure(
    model: Any, whole: Panel, trained: Panel, cut_windows: Callable[[Panel], Windows]
) -> HeldOut | None:
    """What the forecaster's errors on rows of `whole` beyond those of training show.

    `cut_windows` makes the windows of a panel. Without conformal intervals these are the rows that
    stopped the training, and only the way in which errors hang together is taken from them; None
    where samples do not ask for it.
    """
    conformal = model.intervals is not None
    if not conformal and (own_paths(model.nets_) or not gives_quantiles(model.nets_)):
        return None
    windows = cut_windows(whole)
    counts = [len(s) - held_out(model.validation, len(s), model.horizon) for s in trained.series]
    season = max(model.recipe_.seasons, default=1)
    spreads = np.array([_spread(windows, i, count, season) for i, count in enumerate(counts)])
    usual = float(np.median(spreads[spreads > 0])) if (spreads > 0).any() else 1.0
    held = HeldOut(season, np.where(spreads > 0, spreads, usual), np.zeros((0, model.horizon)))
    firsts = [len(s) for s in trained.series] if conformal else counts
    most = min(WINDOWS, NUMBERS // model.horizon) if conformal else TRAJECTORIES
    most = min(most, SAMPLED) if own_paths(model.nets_) else most
    blocks = _blocks(model, whole, [first - 1 for first in firsts], max(TRAJECTORIES, most))
    if not len(blocks):
        return held
    return _measured(model, held, windows, blocks, conformal)


def _measured(
    model: Any, held: HeldOut, windows: Windows, blocks: np.ndarray, conformal: bool
) -> HeldOut:
    owner, steps = blocks[:, 0], np.arange(1, model.horizon + 1)
    rows = windows.starts.numpy()[owner][:, None] + blocks[:, 1:] + steps
    truth, seen = windows.z.numpy()[rows], windows.observed.numpy()[rows] > 0
    spread = held.spread(windows)[owner][:, None]
    kind = "quantiles" if gives_quantiles(model.nets_) else "point"
    shares: tuple[float, ...] = ()
    if conformal and kind == "quantiles":
        wanted = [(1 - level / 100) / 2 for level in GRID]
        shares = clipped([*wanted, *(1 - share for share in wanted)], model.nets_)
    forecasts = forecast_windows(model.nets_, windows, blocks, shares, model.seed)
    error = (truth - windows.scaled(forecasts.point, owner[:, None])) / spread
    held = replace(held, errors=_trajectories(error, seen))
    if not conformal:
        return held
    if shares:
        ends = windows.scaled(forecasts.quantiles, owner[:, None, None])
        low, high = ends[..., : len(GRID)], ends[..., len(GRID) :]
        outside = np.maximum(low - truth[..., None], truth[..., None] - high)
        scores = np.moveaxis(outside / spread[..., None], -1, 0)
    else:
        scores = np.broadcast_to(np.abs(error), (len(GRID), *error.shape))
    # Rows of a series stand in the order of time, so that one half of them is earlier.
    late = np.zeros(len(blocks), dtype=bool)
    for at in np.split(np.arange(len(blocks)), np.flatnonzero(np.diff(owner)) + 1):
        late[at[(len(at) + owner[at[0]] % 2) // 2 :]] = True
    early = _corrected(scores[:, ~late], seen[~late])
    coverage = {}
    for level in metrics.INTERVALS:
        place = GRID.index(level)
        inside = (scores[place][late] <= early[place])[seen[late]]
        if len(inside) and np.isfinite(early[place]).all():
            coverage[str(level)] = round(float(inside.mean()), 4)
    margins = Margins(kind, _corrected(scores, seen), seen.sum(axis=0), coverage)
    return replace(held, margins=margins)


def conform(
    held: HeldOut | None,
    nets: nn.ModuleList,
    windows: Windows,
    blocks: np.ndarray,
    shares: tuple[float, ...],
    seed: int,
) -> Forecasts:
    """Forecasts from the origins `blocks` (W, 2), their quantiles widened where margins are kept.

    Quantiles come out in order, those below one half not above the point, those above it not below.
    """
    margins = held.margins if held is not None else None
    if held is None or margins is None or not shares:
        return forecast_windows(nets, windows, blocks, shares, seed)
    # A share that is asked for twice has one answer, whatever sorting makes of its neighbors.
    unique, places = np.unique(np.array(shares), return_inverse=True)
    asked = tuple(map(float, unique))
    own = clipped(asked, nets) if margins.kind == "quantiles" else ()
    forecasts = forecast_windows(nets, windows, blocks, own, seed)
    owner, point = blocks[:, 0], forecasts.point
    spread = held.spread(windows)[owner][:, None]
    columns = []
    for place, share in enumerate(asked):
        if abs(share - 0.5) < 1e-9:
            columns.append(point)
            continue
        margin = margins.at(100 * abs(2 * share - 1)) * spread
        base = forecasts.quantiles[..., place] if own else point
        scaled = windows.scaled(base, owner[:, None]) + np.sign(share - 0.5) * margin
        value = windows.undo(scaled, owner[:, None])
        columns.append((np.minimum if share < 0.5 else np.maximum)(value, point))
    quantiles = np.stack(columns, axis=-1)
    if isinstance(head_of(nets), NegativeBinomial):
        quantiles = np.maximum(quantiles, 0.0)
    return Forecasts(point, np.sort(quantiles, axis=-1)[..., places], shares)


def head_of(nets: nn.ModuleList) -> Head:
    """What the networks say of each step."""
    first: Any = nets[0]
    return first.head


def gives_quantiles(nets: nn.ModuleList) -> bool:
    """Whether the networks say more of a step than a point."""
    return head_of(nets).distribution


def own_paths(nets: nn.ModuleList) -> bool:
    """Whether the networks sample futures step by step."""
    kind: Any = type(nets[0])
    return kind.paths is not ForecastNet.paths and gives_quantiles(nets)


def reach(nets: nn.ModuleList, held: HeldOut | None) -> tuple[float, float] | None:
    """The lowest and the highest share that quantiles can be had at; None for a point alone."""
    if held is not None and held.margins is not None:
        highest = held.margins.highest / 100
        return (1 - highest) / 2, (1 + highest) / 2
    if not gives_quantiles(nets):
        return None
    head = head_of(nets)
    if isinstance(head, Quantiles) and not own_paths(nets):
        return head.levels[0], head.levels[-1]
    return 0.001, 0.999


def clipped(shares: Any, nets: nn.ModuleList) -> tuple[float, ...]:
    """`shares`, those beyond what the network itself can say replaced by the outermost."""
    limits = reach(nets, None)
    assert limits is not None
    return tuple(float(min(max(share, limits[0]), limits[1])) for share in shares)


def _corrected(scores: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Of scores (len(GRID), W, H), the ceil((n+1) level)-th smallest of the n seen (len(GRID), H).

    NaN where n is too small for the level.
    """
    n, table = seen.sum(axis=0), np.full((len(GRID), seen.shape[1]), np.nan)
    steps = np.arange(seen.shape[1])
    for place, level in enumerate(GRID):
        # An n + 1 that makes the level exactly shall not be rounded up beyond it.
        rank = np.ceil((n + 1) * level / 100 - 1e-9).astype(int)
        ordered = np.sort(np.where(seen, scores[place], np.inf), axis=0)
        enough = (rank <= n) & (n > 0)
        table[place, enough] = ordered[rank[enough] - 1, steps[enough]]
    return table


def _blocks(model: Any, panel: Panel, firsts: list[int], most: int) -> np.ndarray:
    """Origins from `firsts` to the last with H rows after it, at most about `most` (n, 2)."""
    H = model.horizon
    lasts = [len(series) - 1 - H for series in panel.series]
    total = sum(max(0, last - first + 1) for first, last in zip(firsts, lasts, strict=True))
    step = max(1, math.ceil(total / most))
    # Counted from the end, so that series that end together have origins in common.
    chosen = [
        np.arange(last, max(first, 1) - 1, -step)[::-1]
        for first, last in zip(firsts, lasts, strict=True)
    ]
    if model.nets_[0].joint:
        chosen = at_common_times(panel, chosen)
    parts = [np.stack([np.full(len(at), i), at], axis=1) for i, at in enumerate(chosen)]
    return np.concatenate(parts)


def _trajectories(error: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Errors (M, H) of windows spread evenly; those with no row missing, where there are any."""
    whole = np.flatnonzero(seen.all(axis=1))
    kept = whole if len(whole) else np.arange(len(error))
    if len(kept) > TRAJECTORIES:
        kept = kept[np.linspace(0, len(kept) - 1, TRAJECTORIES).astype(int)]
    return np.where(seen, error, 0.0)[kept]


def _spread(windows: Windows, place: int, rows: int, season: int) -> float:
    """Mean size of the seasonal differences among the first rows of a series; 0 for none."""
    start = int(windows.starts[place])
    z = windows.z[start : start + rows].numpy().astype(np.float64)
    seen = windows.observed[start : start + rows].numpy() > 0
    size = metrics.in_sample_scale(z, seen, season)
    return size if np.isfinite(size) else 0.0

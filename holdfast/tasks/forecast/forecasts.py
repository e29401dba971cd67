"""From a network's numbers to forecasts in the user's unit, and to frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from holdfast.data.panel import Panel
from holdfast.data.tables import ID, make_frame
from holdfast.data.windows import Batch, Windows
from holdfast.errors import DataError
from holdfast.tasks.forecast.nets import ForecastNet

CHUNK = 512
PATHS = 200


@dataclass(frozen=True)
class Forecasts:
    """W forecasts of H steps: `point` (W, H), and `quantiles` (W, H, Q) at `levels`."""

    point: np.ndarray
    quantiles: np.ndarray
    levels: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.point)


def forecast_windows(
    nets: nn.ModuleList,
    windows: Windows,
    blocks: np.ndarray,
    quantiles: tuple[float, ...] = (),
    seed: int = 0,
) -> Forecasts:
    """Forecasts from the origins `blocks` (W, 2) of series and row, in the user's unit.

    Those of several networks are averaged, quantile by quantile. A joint network wants all series
    of one time below each other; they come out as they went in.
    """
    places, joint = len(windows.lengths), bool(nets[0].joint)
    order = np.lexsort((blocks[:, 0], _times(windows, blocks))) if joint else None
    given = blocks if order is None else blocks[order]
    points, spreads = [], []
    size = max(1, CHUNK // places) * places if joint else CHUNK
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        for start in range(0, len(blocks), size):
            batch = windows.batch(given[start : start + size])
            found = [_scaled(net, batch, quantiles, generator) for net in nets]  # type: ignore[arg-type]
            point, spread = found[0]
            if len(found) > 1:
                point, spread = (torch.stack(part).mean(0) for part in zip(*found, strict=True))
            points.append(point.double().numpy())
            spreads.append(spread.double().numpy())
    point, spread = _joined(points), _joined(spreads)
    if order is not None:
        point[order], spread[order] = point.copy(), spread.copy()
    owner = blocks[:, 0]
    point = windows.undo(point, owner[:, None])
    if quantiles:
        spread = windows.undo(spread, owner[:, None, None])
    return Forecasts(point, spread, quantiles)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _times(windows: Windows, blocks: np.ndarray) -> np.ndarray:
    """Where on the grid of all series each origin stands."""
    return windows.first_ordinals.numpy()[blocks[:, 0]] + blocks[:, 1]


def _scaled(
    net: ForecastNet, batch: Batch, quantiles: tuple[float, ...], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Point (B, H) and quantiles (B, H, Q) of one batch, still scaled."""
    paths = net.paths(batch, PATHS, generator)
    if paths is not None:
        levels = torch.tensor((0.5, *quantiles), dtype=paths.dtype)
        values = torch.quantile(paths, levels, dim=1).permute(1, 2, 0)
        return values[..., 0], values[..., 1:]
    raw, base = net(batch)
    raw, base, scale = raw[:, 0], base[:, 0], batch.scale[:, None]
    point = net.head.point(raw, base, scale)
    if not quantiles:
        return point, point[..., None][..., :0]
    return point, net.head.quantiles(raw, base, quantiles, scale)


def to_frame(
    forecasts: Forecasts,
    panel: Panel,
    id_column: str | None,
    time_column: str,
    names: tuple[str, ...],
    alias: str = "forecast",
) -> Any:
    """The forecasts after the end of each series as a long frame of the panel's kind."""
    H = forecasts.point.shape[1]
    columns: dict[str, Any] = {}
    if panel.has_ids:
        columns[id_column or ID] = [series.id for series in panel.series for _ in range(H)]
    times = [panel.frequency.after(series.times[-1], H) for series in panel.series]
    columns[time_column] = np.concatenate(times)
    columns[alias] = forecasts.point.reshape(-1)
    for place, name in enumerate(names):
        columns[f"{alias}-{name}"] = np.ascontiguousarray(forecasts.quantiles[..., place]).ravel()
    return make_frame(columns, panel.backend)


def shares_of(levels: Any, quantiles: Any = ()) -> dict[str, float]:
    """Names of columns and the quantiles that stand in them.

    >>> shares_of([80])
    {'lo-80': 0.1, 'hi-80': 0.9}

    Raises `DataError` for what is no percentage, or no share.
    """
    shares: dict[str, float] = {}
    for level in levels:
        if not 0 < level < 100:
            raise DataError(f"levels={level!r}; expected a percentage between 0 and 100")
        shares[f"lo-{level:g}"] = round((1 - level / 100) / 2, 12)
        shares[f"hi-{level:g}"] = round((1 + level / 100) / 2, 12)
    for quantile in quantiles:
        if not 0 < quantile < 1:
            raise DataError(f"quantiles={quantile!r}; expected a share between 0 and 1")
        shares[f"q{100 * quantile:g}"] = quantile
    return shares

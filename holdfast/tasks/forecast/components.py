"""What a forecast is made of: shares of past values and a correction, or level and season."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from holdfast.data.panel import Panel
from holdfast.data.windows import Batch, Windows, make_windows
from holdfast.tasks import plots
from holdfast.tasks.forecast.estimator import Forecaster
from holdfast.tasks.forecast.nets.anchored import FAR, AnchoredHead

MOST_SOURCES = 6


@dataclass(frozen=True)
class Mixture:
    """For N series and H steps: `shares` (N, H, K) of the `sources`, `base` and `point` (N, H)."""

    sources: tuple[str, ...]
    shares: np.ndarray
    base: np.ndarray
    point: np.ndarray


@dataclass(frozen=True)
class Smoothing:
    """Of the first series: level and season (R + H,) around the last R rows; the level ends."""

    level: np.ndarray
    season: np.ndarray
    rows: int


def mixture(model: Forecaster, panel: Panel) -> Mixture | None:
    """What the learned mixture of `model` takes after the end of `panel`; None without one."""
    net = model.net_
    head = getattr(net, "steps", None)
    if not isinstance(head, AnchoredHead):
        return None
    windows, batch = _last_windows(model, panel)
    caught: list[torch.Tensor] = []

    def catch(module: Any, given: Any, out: Any) -> None:
        caught.append(out)

    hook = head.out.register_forward_hook(catch)
    try:
        with torch.inference_mode():
            net(batch)
    finally:
        hook.remove()
    with torch.inference_mode():
        out, level = caught[-1], batch.y[:, -1:, None]
        candidates, missing = head._candidates(batch, level)
        shares = torch.softmax(out[..., head.size :].masked_fill(missing, FAR), dim=-1)[:, 0]
        base = level[:, 0] + (shares * candidates[:, 0]).sum(dim=-1)
        point = net.head.point(out[:, 0, :, : head.size], base, batch.scale[:, None])
    owner = np.arange(len(base))[:, None]
    grown = (f"{head.growing[1]:,} rows before, and growth",) if head.growing else ()
    sources = (*(f"{lag:,} rows before" for lag in head.lags), *grown, "last value")
    base, point = (windows.undo(part.double().numpy(), owner) for part in (base, point))
    return Mixture(sources, shares.numpy(), base, point)


def smoothing(model: Forecaster, panel: Panel) -> Smoothing | None:
    """Level and season of a model that smooths exponentially, else None; of the first series."""
    smoothed = getattr(model.net_, "smoothed", None)
    if smoothed is None:
        return None
    windows, batch = _last_windows(model, panel)
    with torch.inference_mode():
        found = smoothed(batch)
    R, H = batch.y.shape[1], batch.horizon
    level = torch.cat([found.level[:1], found.level[:1, -1:].expand(1, H)], dim=1)
    season = torch.zeros_like(level)
    for part in found.seasons:
        m = part.shape[1] - R
        later = part[:1, R + torch.arange(H) % m]
        season = season + torch.cat([part[:1, :R], later], dim=1)
    owner = np.zeros((1, 1), dtype=int)
    plain = windows.undo(level.double().numpy(), owner)[0]
    both = windows.undo((level + season).double().numpy(), owner)[0]
    return Smoothing(plain, both - plain, R)


def components_figure(model: Forecaster, panel: Panel) -> Any | None:
    """What the forecast of the first series is made of; None for a model that does not say."""
    found = mixture(model, panel)
    if found is not None:
        return _mixture_figure(model, panel, found)
    smoothed = smoothing(model, panel)
    return None if smoothed is None else _smoothing_figure(model, panel, smoothed)


def _mixture_figure(model: Forecaster, panel: Panel, found: Mixture) -> Any:
    series = panel.series[0]
    times = panel.frequency.after(series.times[-1], model.horizon)
    figure, (top, bottom) = plots.new_figure(10, 5.2, 2)
    top.plot(times, found.base[0], color=plots.WEEK, linewidth=1.4, label="mixture of past values")
    top.plot(times, found.point[0], color=plots.OURS, linewidth=2, label="with the correction")
    top.fill_between(
        times, found.base[0], found.point[0], color=plots.OURS, alpha=0.12, linewidth=0
    )
    plots.title(top, f"forecast of {series.id or panel.columns.target}")
    plots.legend(top)
    plots.dates(top)
    order = np.argsort(-found.shares[0].mean(axis=0))
    count = MOST_SOURCES - (len(order) > MOST_SOURCES)
    kept, rest = order[:count], order[count:]
    parts = [found.shares[0][:, place] for place in kept]
    names = [found.sources[place] for place in kept]
    if len(rest):
        parts.append(found.shares[0][:, rest].sum(axis=1))
        names.append(f"{len(rest)} others")
    colors = (plots.OURS, plots.WEEK, plots.ETS, "#b8a07e", "#5f9ea0", plots.LINE)
    bottom.stackplot(times, parts, labels=names, colors=colors, alpha=0.85, linewidth=0)
    bottom.set_ylim(0, 1)
    bottom.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    plots.title(bottom, "what the mixture takes")
    plots.legend(bottom, 6)
    plots.dates(bottom)
    for ax in (top, bottom):
        ax.margins(x=0)
    return figure


def _smoothing_figure(model: Forecaster, panel: Panel, found: Smoothing) -> Any:
    series, H = panel.series[0], model.horizon
    R = min(found.rows, len(series))
    past = series.times[-R:]
    times = np.concatenate([past, panel.frequency.after(series.times[-1], H)])
    figure, (top, bottom) = plots.new_figure(10, 5.2, 2)
    measured = np.where(series.observed, series.y, np.nan)[-R:]
    top.plot(past, measured, color=plots.QUIET, linewidth=1, label="measured")
    top.plot(times, found.level[-R - H :], color=plots.OURS, linewidth=2, label="level")
    plots.title(top, f"{series.id or panel.columns.target}: level")
    bottom.plot(times, found.season[-R - H :], color=plots.WEEK, linewidth=1.4, label="seasons")
    plots.title(bottom, "seasons, continued over the horizon")
    for ax in (top, bottom):
        ax.axvline(past[-1], color=plots.QUIET, linewidth=0.8, linestyle=(0, (3, 3)))
        ax.margins(x=0.01)
        plots.dates(ax)
    plots.legend(top)
    return figure


def _last_windows(model: Forecaster, panel: Panel) -> tuple[Windows, Batch]:
    """The windows at the end of the first series; of all, where they are read together."""
    if not model.net_.joint:
        panel = type(panel)(**{**vars(panel), "series": panel.series[:1]})
    known = {id: place for place, id in enumerate(model.ends_)}
    windows = make_windows(panel, model.scaling_, model.recipe_, model.schema_, known)
    return windows, windows.batch(windows.last())

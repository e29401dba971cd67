"""Whole futures: samples whose steps hang together as errors on held-out rows did.

A direct forecast says of each step alone how likely its values are. Its samples are values at
evenly spread probabilities, put into the order that trajectories of held-out errors have at each
step: what each step says is kept, and a sample that begins high stays high as errors did.

Source: Clark, Gangopadhyay, Hay, Rajagopalan & Wilby 2004, The Schaake shuffle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from holdfast.data.windows import Windows
from holdfast.errors import DataError, ModelError
from holdfast.tasks.forecast.forecasts import CHUNK, Forecasts
from holdfast.tasks.forecast.intervals import own_paths, reach


def sample(model: Any, windows: Windows, blocks: np.ndarray, count: int, seed: int) -> Forecasts:
    """`count` futures from each origin of `blocks` (W, 2), as the `quantiles` (W, H, count).

    Raises `DataError` for a model of points alone, `ModelError` where no held-out errors are kept.
    """
    if count < 1:
        raise DataError(f"n={count}; expected a number of samples from 1 on")
    nets, held = model.nets_, model.held_out_
    limits = reach(nets, held)
    if limits is None:
        raise DataError(
            'this model makes point forecasts; fit with output="quantiles", a distribution, or '
            'intervals="conformal" for samples'
        )
    trajectories = None
    if own_paths(nets):
        trajectories = _paths(nets, windows, blocks, count, seed)
        if len(nets) == 1 and (held is None or held.margins is None):
            point = model.forecast_from(windows, blocks).point
            return Forecasts(point, np.moveaxis(trajectories, 1, 2), ())
    elif held is None or not len(held.errors):
        raise ModelError(
            "no held-out errors are kept, so it is unknown how the steps hang together; fit on "
            "series with more rows"
        )
    shares = np.clip((np.arange(count) + 0.5) / count, *limits)
    forecasts = model.forecast_from(windows, blocks, tuple(float(share) for share in shares))
    generator = np.random.default_rng(seed)
    if trajectories is None:
        trajectories = drawn(held.errors, len(blocks), count, generator)
    return Forecasts(forecasts.point, reorder(forecasts.quantiles, trajectories, generator), ())


def reorder(
    values: np.ndarray, trajectories: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Values (W, H, n), ascending in n, in the order of ranks of `trajectories` (W, n, H).

    >>> up_and_down = np.array([[[0.0, 5.0], [1.0, 4.0]]])
    >>> reorder(np.array([[[1.0, 2.0], [3.0, 4.0]]]), up_and_down, np.random.default_rng(0))
    array([[[1., 2.],
            [4., 3.]]])
    """
    paths = np.moveaxis(trajectories, 1, 2)
    # Equal ones are put into any order, anew for each step.
    order = np.lexsort((generator.random(paths.shape), paths), axis=-1)
    ranks = np.argsort(order, axis=-1)
    return np.take_along_axis(values, ranks, axis=-1)


def drawn(
    errors: np.ndarray, windows: int, count: int, generator: np.random.Generator
) -> np.ndarray:
    """For each window `count` of the trajectories `errors` (M, H), each as often as any other."""
    rounds = -(-count // len(errors))
    picks = [
        np.concatenate([generator.permutation(len(errors)) for _ in range(rounds)])[:count]
        for _ in range(windows)
    ]
    return errors[np.stack(picks)]


def _paths(
    nets: nn.ModuleList, windows: Windows, blocks: np.ndarray, count: int, seed: int
) -> np.ndarray:
    """The networks' own futures (W, count, H) in the user's unit, as many from each as it gets."""
    generator = torch.Generator().manual_seed(seed)
    size = max(1, CHUNK // max(1, count // 100))
    shares = [len(part) for part in np.array_split(np.arange(count), len(nets))]
    parts = []
    with torch.inference_mode():
        for start in range(0, len(blocks), size):
            batch = windows.batch(blocks[start : start + size])
            pairs: Any = zip(nets, shares, strict=True)
            drawn = [net.paths(batch, share, generator) for net, share in pairs if share]
            parts.append(torch.cat(drawn, dim=1))
    return windows.undo(torch.cat(parts).double().numpy(), blocks[:, 0][:, None, None])

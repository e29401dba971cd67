"""More windows than there are: changed copies of those of training, for small tables.

Each change is drawn anew for every window of every batch, from the generator of the training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from holdfast.data.windows import Batch

JITTER, SIZES, MIX = 0.03, 0.1, 0.2


def jitter(batch: Batch) -> Batch:
    """Noise of 3 % of a standard deviation on what is read; targets stay."""
    return replace(batch, y=batch.y + JITTER * torch.randn_like(batch.y))


def resize(batch: Batch) -> Batch:
    """A window and its targets, larger or smaller by some 10 %, around the last value."""
    factor = torch.exp(SIZES * torch.randn(len(batch.y), 1))
    level = batch.y[:, -1:]
    target = level[..., None] + factor[..., None] * (batch.target - level[..., None])
    return replace(batch, y=level + factor * (batch.y - level), target=target)


def mix(batch: Batch) -> Batch:
    """Weighted means of two windows, mostly near to one of them (Zhang et al. 2018, mixup)."""
    share = torch.distributions.Beta(MIX, MIX).sample((len(batch.y), 1))
    share = torch.maximum(share, 1 - share)
    other = torch.randperm(len(batch.y))

    def mean(values: Tensor) -> Tensor:
        own = share.reshape(-1, *[1] * (values.dim() - 1))
        return own * values + (1 - own) * values[other]

    return replace(
        batch,
        y=mean(batch.y),
        past=mean(batch.past),
        target=mean(batch.target),
        weight=batch.weight * batch.weight[other],
    )


def shorten(batch: Batch) -> Batch:
    """Every fourth window begins late, as that of a new series does; what is before is not there.

    The rows before repeat the first one, as they do at the beginning of a series.
    """
    R = batch.y.shape[1]
    begin = (torch.rand(len(batch.y)) * (R - 2)).long() * (torch.rand(len(batch.y)) < 0.25)
    rows = torch.maximum(torch.arange(R), begin[:, None])
    gone = torch.arange(R) < begin[:, None]
    return replace(
        batch,
        y=batch.y.gather(1, rows),
        observed=batch.observed.masked_fill(gone, 0.0),
        there=batch.there.masked_fill(gone, 0.0),
    )


CHANGES: dict[str, Callable[[Batch], Batch]] = {
    "jitter": jitter,
    "resize": resize,
    "mix": mix,
    "shorten": shorten,
}


def augmented(batch: Batch, names: tuple[str, ...]) -> Batch:
    """The batch with the named changes, one after the other."""
    for name in names:
        batch = CHANGES[name](batch)
    return batch

"""Spikes and periods: delays to be measured, to be made, and functions to be generated.

Reconstruction: that the delays of a stream are F or F + 1, and what the input of the generation
task is between spikes, is ours; the paper's own words were not at hand. Source of all three tasks:
Gers, Schraudolph & Schmidhuber 2002, "Learning precise timing with LSTM recurrent networks".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from holdfast.data.classic.batches import Steps, alive, as_generator, at_least

SHAPES = ("cos", "triangle", "rectangle")
"""The periodic functions."""


def _spikes(
    steps: int, batch: int, F: int, kinds: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Where spikes are, `[T, B]` bool, and the delay beyond F that ended or is under way."""
    at_least(1, steps=steps, batch=batch, F=F, kinds=kinds)
    count = steps // F + 2
    extra = torch.randint(kinds, (count, batch), generator=generator)
    times = (F + extra).cumsum(0)  # spike k is at times[k], after the delay F + extra[k]
    step = torch.arange(steps)
    spikes = torch.zeros(steps, batch, dtype=torch.bool)
    running = torch.zeros(steps, batch, dtype=torch.int64)
    for row in range(batch):
        mine = times[:, row].contiguous()
        spikes[mine[mine < steps], row] = True
        running[:, row] = extra[torch.searchsorted(mine, step), row]
    return spikes, running


def measure_spike_delay(
    steps: int, batch: int, F: int = 10, kinds: int = 2, generator: torch.Generator | int = 0
) -> Steps:
    """MSD: at every spike, how long ago was the one before: F steps, or F + 1?

    >>> x, target, lengths, mask = measure_spike_delay(50, batch=1, F=10, generator=0)
    >>> (x[:, 0, 0] > 0).nonzero().flatten().tolist(), target[mask].flatten().tolist()
    ([10, 21, 32, 42], [0.0, 1.0, 1.0, 0.0])

    x `[T, B, 1]` is 1 at a spike and 0 elsewhere. The target `[T, B, 1]` at a spike is the delay
    beyond F, a number below `kinds`; the mask is true at spikes. The first delay is counted from
    the beginning of the stream.
    """
    spikes, running = _spikes(steps, batch, F, kinds, as_generator(generator))
    target = (running * spikes).float().unsqueeze(2)
    return Steps(spikes.float().unsqueeze(2), target, _whole(steps, batch), spikes)


def generate_timed_spikes(
    steps: int, batch: int, F: int = 10, kinds: int = 2, generator: torch.Generator | int = 0
) -> Steps:
    """GTS: the input says how long the present delay is to be; a spike is due at its end.

    >>> x, target, lengths, mask = generate_timed_spikes(50, batch=1, F=10, generator=0)
    >>> target[:, 0, 0].nonzero().flatten().tolist(), x[[15, 25, 35], 0, 0].tolist()
    ([10, 21, 32, 42], [1.0, 1.0, 0.0])

    x `[T, B, 1]` is the delay beyond F, during the whole delay; the target `[T, B, 1]` is 1 at a
    spike and 0 elsewhere, and counts at every step.
    """
    spikes, running = _spikes(steps, batch, F, kinds, as_generator(generator))
    lengths = _whole(steps, batch)
    x = running.float().unsqueeze(2)
    return Steps(x, spikes.float().unsqueeze(2), lengths, alive(lengths, steps))


def periodic_function(steps: int, batch: int, period: int = 10, shape: str = "cos") -> Steps:
    """PFG: with no input, a function of time of a given period, with values in [0, 1].

    >>> x, target, lengths, mask = periodic_function(20, batch=1, period=10, shape="triangle")
    >>> [round(value, 3) for value in target[:6, 0, 0].tolist()]
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]

    x `[T, B, 1]` is 0; the target `[T, B, 1]` counts at every step. Rows are all the same.
    Errors: `ValueError` for another shape than "cos", "triangle" and "rectangle".
    """
    at_least(1, steps=steps, batch=batch)
    at_least(2, period=period)
    phase = (torch.arange(steps) % period) / period
    if shape == "cos":
        values = 0.5 * (1 - torch.cos(2 * math.pi * phase))
    elif shape == "triangle":
        values = 1 - (2 * phase - 1).abs()
    elif shape == "rectangle":
        values = (phase >= 0.5).float()
    else:
        raise ValueError(f"shape should be one of {', '.join(SHAPES)}, got: {shape!r}")
    lengths = _whole(steps, batch)
    target = values.reshape(-1, 1, 1).expand(steps, batch, 1).contiguous()
    return Steps(torch.zeros(steps, batch, 1), target, lengths, alive(lengths, steps))


def _whole(steps: int, batch: int) -> Tensor:
    return torch.full((batch,), steps, dtype=torch.int64)

"""Forgetting and timing: Gers, Schmidhuber, Cummins and Schraudolph, 2000 to 2002."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.papers.network import Model, Network, biases
from benchmarks.papers.registry import Row, Settings, experiment
from benchmarks.papers.training import Paper, Task, Tested, run
from holdfast import cell, sigmoid
from holdfast.data import classic

SEEDS = 5

ALLOWED = 0.49
"""The largest error with which an output still counts as right."""

STREAMS, SYMBOLS = 10, 20_000
"""Streams of a test of continual Reber, and their length."""


@cell(gates="i f g o", state="c", weights="p_i p_f p_o")
def timing(i, f, g, o, c, p_i, p_f, p_o):
    """The cell of the timing tasks: peepholes, and no squashing of the cell's input and output.

    c = sigmoid(f + p_f c_prev) * c_prev + sigmoid(i + p_i c_prev) * g;  h = sigmoid(o + p_o c) * c
    """
    new = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * g
    return sigmoid(o + p_o * new) * new, new


@cell(gates="i f g o", state="c")
def timing_blind(i, f, g, o, c):
    """The same without peepholes.

    c = sigmoid(f) * c_prev + sigmoid(i) * g;  h = sigmoid(o) * c
    """
    new = sigmoid(f) * c + sigmoid(i) * g
    return sigmoid(o) * new, new


def every_step(network: Network, batch: classic.Steps) -> tuple[Tensor, Tensor]:
    """Cross entropy of each logistic output, and the largest error of a row."""
    logits = network.every(batch.x, batch.lengths)
    each = nn.functional.binary_cross_entropy_with_logits(logits, batch.target, reduction="none")
    loss = (each.sum(2) * batch.mask).sum() / batch.mask.sum()
    error = (logits.sigmoid() - batch.target).abs().amax(2) * batch.mask
    return loss, error.amax(0)


def _until_wrong(network: Network, batch: classic.Steps) -> Tensor:
    """Symbols of each stream before the first wrong output, `[B]`."""
    error = (network.every(batch.x).sigmoid() - batch.target).abs().amax(2)
    wrong = (error >= ALLOWED).int()
    first = wrong.argmax(0)
    return torch.where(wrong.any(0), first, len(wrong))


@experiment("continual_reber", "Continual embedded Reber grammar, without resets (2000)")
def continual_reber(settings: Settings) -> Iterator[Row]:
    """Endless streams, with and without forget gate."""
    symbols = 300 if settings.quick else SYMBOLS

    def passed(network: Network, generator: torch.Generator) -> bool:
        short = classic.continual_reber(1000, STREAMS, generator)
        if int(_until_wrong(network, short).min()) < 1000:
            return False
        streams = classic.continual_reber(symbols, STREAMS, generator)
        return int(_until_wrong(network, streams).min()) == symbols

    def test(network: Network, seed: int) -> float:
        streams = classic.continual_reber(symbols, STREAMS, seed + 2_000_000)
        return float(_until_wrong(network, streams).float().mean())

    task = Task(
        "continual Reber",
        7,
        7,
        lambda batch, generator: classic.continual_reber(200, batch, generator),
        every_step,
        lambda seed: Tested(800, passed, seed, 0.9),
        16_000,
        test,
        "symbols to the first error",
    )
    forget = Paper("62 % with decay of the learning rate, 18 % without (10^6 symbols)", 0.62)
    plain = Paper("0 % without resets [K?], 74 % with")
    note = f"solved: {STREAMS} streams of {SYMBOLS:,} symbols without an error, instead of 10^6"
    options: Any = {"lr": 0.01, "batch": 16, "falling": True}
    models = (
        (Model("lstm", 8, **biases(f=2.0), **options), forget),
        (Model("lstm_1997", 8, **options), plain),
    )
    for model, paper in models:
        yield run(task, model, settings, SEEDS, paper, note)


def _timed(name: str, draw: Any, loss: Any, allowed: float, budget: int) -> Task:
    def passed(network: Network, generator: torch.Generator) -> bool:
        return bool((loss(network, draw(10, generator, 1000))[1] < allowed).all())

    return Task(
        name,
        1,
        1,
        lambda batch, generator: draw(batch, generator, 200),
        loss,
        lambda seed: Tested(160, passed, seed, allowed),
        budget,
    )


def measured(network: Network, batch: classic.Steps) -> tuple[Tensor, Tensor]:
    """Mean squared error at the steps that count, and the largest error of a row after a while."""
    difference = (network.every(batch.x) - batch.target)[..., 0] * batch.mask
    return difference.square().sum() / batch.mask.sum(), difference.abs().amax(0)


@experiment("timing", "Timing tasks with and without peepholes (2002)")
def timing_tasks(settings: Settings) -> Iterator[Row]:
    """Measure delays, make delays, generate functions."""
    tasks = (
        _timed(
            "MSD, F=10",
            lambda batch, generator, steps: classic.measure_spike_delay(
                steps, batch, 10, generator=generator
            ),
            measured,
            ALLOWED,
            40_000,
        ),
        _timed(
            "GTS, F=10",
            lambda batch, generator, steps: classic.generate_timed_spikes(
                steps, batch, 10, generator=generator
            ),
            every_step,
            ALLOWED,
            40_000,
        ),
    )
    for task in tasks:
        for model in _timing_models(1):
            yield run(task, model, settings, SEEDS, Paper(""))
    for shape in ("cos", "triangle", "rectangle"):
        for period in (10, 25):
            task = _timed(
                f"PFG, {shape}, F={period}",
                lambda batch, generator, steps, shape=shape, period=period: (
                    classic.periodic_function(steps, 1, period, shape)
                ),
                measured,
                0.3,
                20_000,
            )
            for model in _timing_models(1):
                yield run(task, dataclasses.replace(model, batch=1), settings, SEEDS, Paper(""))


def _timing_models(hidden: int) -> tuple[Model, Model]:
    options = {"lr": 0.01, "batch": 8, **biases(f=2.0)}
    return Model(timing, hidden, **options), Model(timing_blind, hidden, **options)

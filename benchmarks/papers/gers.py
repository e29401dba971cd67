"""Forgetting and timing: Gers, Schmidhuber, Cummins and Schraudolph, 2000 to 2002."""

from __future__ import annotations

import functools
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

NEAR = 0.3
"""The same for functions that are generated."""

STREAMS, SYMBOLS = 10, 20_000
"""Streams of a test of continual Reber, and their length."""

TIMED = 1000
"""Steps that a network has to be right on in the timing tasks."""

DRAWN, LENGTH = 2000, 200
"""Streams that continual Reber is trained on, again and again, and their length."""


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

    @functools.cache
    def drawn(seed: int) -> classic.Steps:
        return classic.continual_reber(LENGTH, 64 if settings.quick else DRAWN, seed)

    def draw(batch: int, generator: torch.Generator) -> classic.Steps:
        x, target, lengths, mask = drawn(generator.initial_seed())
        rows = torch.randint(len(lengths), (batch,), generator=generator)
        return classic.Steps(x[:, rows], target[:, rows], lengths[rows], mask[:, rows])

    task = Task(
        "continual Reber",
        7,
        7,
        draw,
        every_step,
        lambda seed: Tested(1600, passed, seed, 0.9),
        64_000,
        test,
        "symbols to the first error",
    )
    forget = Paper("62 % with decay of the learning rate, 18 % without (10^6 symbols)", 0.62)
    plain = Paper("0 % without resets [K?], 74 % with")
    note = (
        f"solved: {STREAMS} streams of {SYMBOLS:,} symbols without an error, instead of 10^6; "
        f"trained on {DRAWN:,} streams of {LENGTH} symbols, again and again"
    )
    options: Any = {"lr": 0.02, "batch": 16, "direct": True, "falling": True}
    models = (
        (Model("lstm", 8, **biases(f=2.0), **options), forget),
        (Model("lstm_1997", 8, **options), plain),
    )
    for model, paper in models:
        yield run(task, model, settings, SEEDS, paper, note)


def to_first_error(batch: classic.Steps, error: Tensor, allowed: float) -> classic.Steps:
    """The streams up to the first error of each, where the paper ends them; `error` is `[T, B]`.

    What comes after is learnt when the stream is right up to there.
    """
    wrong = (~(error < allowed) & batch.mask).int()
    kept = batch.mask & (wrong.cumsum(0) - wrong == 0)
    steps = int(kept.any(1).nonzero().amax()) + 1 if kept.any() else 1
    x, target, lengths, _ = batch
    return classic.Steps(x[:steps], target[:steps], lengths.clamp(max=steps), kept[:steps])


def measured(network: Network, batch: classic.Steps) -> tuple[Tensor, Tensor]:
    """Mean squared error at the steps that count, and the largest error of a stream."""
    difference = (network.every(batch.x) - batch.target)[..., 0] * batch.mask
    return difference.square().sum() / batch.mask.sum(), difference.abs().amax(0)


def generated(network: Network, batch: classic.Steps) -> tuple[Tensor, Tensor]:
    """The same, the mean up to each stream's first error only."""
    with torch.no_grad():
        error = (network.every(batch.x) - batch.target)[..., 0].abs()
    return measured(network, to_first_error(batch, error, NEAR))[0], error.amax(0)


def _timed(name: str, draw: Any, loss: Any, allowed: float, budget: int) -> Task:
    def passed(network: Network, generator: torch.Generator) -> bool:
        return bool((loss(network, draw(10, generator, TIMED))[1] < allowed).all())

    return Task(
        name,
        1,
        1,
        lambda batch, generator: draw(batch, generator, 200),
        loss,
        lambda seed: Tested(80, passed, seed, allowed),
        budget,
    )


def _periodic(shape: str, period: int) -> Task:
    def draw(batch: int, generator: torch.Generator, steps: int) -> classic.Steps:
        return classic.periodic_function(steps, 1, period, shape)

    return _timed(f"PFG, {shape}, F={period}", draw, generated, NEAR, 4000)


def _spikes(name: str, make: Any, loss: Any) -> Task:
    def draw(batch: int, generator: torch.Generator, steps: int) -> classic.Steps:
        return make(steps, batch, 10, generator=generator)

    return _timed(f"{name}, F=10", draw, loss, ALLOWED, 48_000)


@experiment("timing", "Timing tasks with and without peepholes (2002)")
def timing_tasks(settings: Settings) -> Iterator[Row]:
    """Measure delays, make delays, generate functions."""
    tasks = [
        _spikes("MSD", classic.measure_spike_delay, measured),
        _spikes("GTS", classic.generate_timed_spikes, every_step),
    ]
    tasks += [
        _periodic(shape, period)
        for shape in ("cos", "triangle", "rectangle")
        for period in (10, 25)
    ]
    right = f"solved: right for {TIMED:,} steps; trained on 200 steps"
    for task in tasks:
        periodic = task.name.startswith("PFG")
        batch, note = (1, f"{right}, up to the first error") if periodic else (8, right)
        options: Any = {"lr": 0.02, "batch": batch, "falling": True, **biases(0.1, f=2.0)}
        alone = "solved [K?]" if task.name == "PFG, cos, F=10" else "not solved [K?]"
        blind = "" if task.name.startswith("MSD") else alone
        yield run(task, Model(timing, 1, **options), settings, SEEDS, Paper("solved [K?]"), note)
        yield run(task, Model(timing_blind, 1, **options), settings, SEEDS, Paper(blind), note)

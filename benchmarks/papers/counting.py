"""Counting languages: strings far longer than those of the training (Gers & Schmidhuber 2001)."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.papers.gers import every_step
from benchmarks.papers.network import Model, Network, biases
from benchmarks.papers.registry import Row, Settings, experiment
from holdfast.data import classic

SEEDS = 5

TRAINED, TRIED = 10, 1200
"""The largest n of the training, and the largest that is tried."""

OPEN = 15.0
"""Bias of the forget gate of a counter: it is 1 but for 3e-7."""

FEEDBACK = 1e-4
"""Penalty on what feeds a count back: the matrix R and the peepholes of input and forget gate.

A counter whose steps depend on its own count is right on the lengths that it was trained on only.
"""


@dataclass(frozen=True)
class Polish:
    """The penalties on all weights, one after the other, under which L-BFGS trains on.

    first, fall, rounds: the first penalty, what it is multiplied by, and how many there are. Under
    a penalty the steps up and down become equal, because that leaves most room between the last b
    and the one before it; without, a loss of nearly 0 on short strings ends it long before.
    """

    first: float = 1e-6
    fall: float = 0.1
    rounds: int = 10


UPDATES = 2000
"""Updates of Adam before."""

ITERATIONS = 100
"""Iterations of L-BFGS under each penalty."""


def strings(ns: range, letters: int) -> classic.Steps:
    """`classic.counting` in float64."""
    batch = classic.counting(ns, letters)
    return batch._replace(x=batch.x.double(), target=batch.target.double())


def largest(network: Network, letters: int, most: int) -> int:
    """The largest n up to which every string is right, among 1 to `most`."""
    for start in range(1, most + 1, 100):
        batch = strings(range(start, min(start + 100, most + 1)), letters)
        wrong = (every_step(network, batch)[1] >= 0.5).nonzero().flatten()
        if len(wrong):
            return start + int(wrong[0]) - 1
    return most


def _squares(parameters: list[Tensor]) -> Tensor:
    return torch.stack([one.square().sum() for one in parameters]).sum()


def train(model: Model, letters: int, polish: Polish, seed: int, quick: bool) -> Network:
    """A network in float64, trained on all strings of n <= 10 at once: Adam, then L-BFGS."""
    network = Network(model, letters + 1, letters + 1, seed).double()
    batch = strings(range(1, TRAINED + 1), letters)
    every = network.trained()
    fed_back = ("weight_hh", "p_i", "p_f")
    named = network.layer.named_parameters()
    feedback = [one for name, one in named if name.startswith(fed_back)]
    adam = torch.optim.Adam(every, model.lr)
    for _ in range(3 if quick else UPDATES):
        loss = every_step(network, batch)[0] + FEEDBACK * _squares(feedback)
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(every, model.clip)
        adam.step()
        with torch.no_grad():
            for one in feedback:
                one.mul_(1 - model.lr)
    for turn in range(1 if quick else polish.rounds):
        _descend(network, batch, feedback, polish.first * polish.fall**turn, quick)
    return network


def _descend(
    network: Network, batch: classic.Steps, feedback: list[Tensor], penalty: float, quick: bool
) -> None:
    every = network.trained()
    optimizer = torch.optim.LBFGS(
        every,
        max_iter=3 if quick else ITERATIONS,
        history_size=50,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = every_step(network, batch)[0]
        loss = loss + FEEDBACK * _squares(feedback) + penalty * _squares([*every])
        loss.backward()
        return loss

    optimizer.step(closure)


def _row(
    letters: int, model: Model, polish: Polish, settings: Settings, published: str, want: int
) -> Row:
    name = "".join(f"{letter}^n" for letter in "abc"[:letters])
    found = []
    for seed in settings.range(SEEDS):
        network = train(model, letters, polish, seed, settings.quick)
        with torch.inference_mode():
            found.append(largest(network, letters, 12 if settings.quick else TRIED))
    each = ", ".join(map(str, sorted(found)))
    return Row(
        f"{name}, trained on n <= {TRAINED}",
        str(model),
        len(found),
        solved=sum(n >= TRAINED for n in found),
        measure=f"right up to n (tried to {TRIED})",
        values=tuple(map(float, found)),
        published=published,
        reached=max(found) >= want if published else None,
        note=f"float64; {UPDATES:,} updates of Adam, then {polish.rounds} times {ITERATIONS} "
        "iterations of L-BFGS, all ten strings each; solved: all of n <= 10; each seed's largest "
        f"n: {each}; median {statistics.median(found):g}",
    )


@experiment("counting", "Counting languages (2001)")
def counting(settings: Settings) -> Iterator[Row]:
    """Strings far longer than those of the training, with and without a forget gate."""
    free, bound = biases(0.1), biases(0.1, f=OPEN)
    two, three = "best n = 1000, mean 118 [K?]", "best n = 52, mean 28 [K?]"
    for letters, want, published, polish, lr in (
        (2, 1000, two, Polish(), 0.02),
        (3, 52, three, Polish(3e-6, 0.3, 12), 0.01),
    ):
        for cell, begin in (("odyssey_nfg", free), ("peephole", bound)):
            model = Model(cell, letters - 1, lr, TRAINED, direct=True, **begin)
            yield _row(letters, model, polish, settings, published, want)
    model = Model("rnn", 4, 0.01, TRAINED, direct=True)
    yield _row(2, model, Polish(), settings, "", 1000)

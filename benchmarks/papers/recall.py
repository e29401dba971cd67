"""Chrono initialization on copying and adding (2018), and parity with exponential gates (2024)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.papers.network import Model, Network, biases
from benchmarks.papers.registry import Row, Settings, experiment
from benchmarks.papers.training import Paper, Task, Tested, run, squared
from holdfast.data import classic
from holdfast.nn import Recurrent, init

SEEDS = 3

COPY_T = 100
"""Blanks of copying; the paper has 500 and 2000."""

ADDING_T = 200


def chrono(longest: int) -> dict[str, Any]:
    """The options of a `Model` that begins with chrono initialization."""

    def prepare(layer: Recurrent, generator: torch.Generator) -> None:
        init.chrono_(layer, longest, generator=generator)

    return {"prepare": prepare, "about": f"chrono {longest}"}


def _copied(network: Network, batch: classic.Steps) -> tuple[Tensor, Tensor]:
    logits = network.every(batch.x)
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch.target.flatten())
    wrong = (logits.argmax(2) != batch.target).float().amax(0)
    return loss, wrong


def _by_loss(
    task: tuple[str, int, int],
    draw: Callable[[int, torch.Generator], Any],
    loss: Callable[[Network, Any], tuple[Tensor, Tensor]],
    limit: float,
    baseline: float,
    budget: int,
) -> Task:
    """A task that is solved when the loss on 256 new sequences is below a limit."""

    def error(network: Network, generator: torch.Generator) -> float:
        return float(loss(network, draw(256, generator))[0])

    return Task(
        *task,
        draw,
        loss,
        lambda seed: Tested(1000, lambda net, generator: error(net, generator) < limit, seed),
        budget,
        lambda net, seed: error(net, torch.Generator().manual_seed(seed + 2_000_000)) / baseline,
        "loss by that of no memory",
        always=True,
    )


@experiment("chrono", "Chrono initialization on copying and adding (2018)")
def chrono_tasks(settings: Settings) -> Iterator[Row]:
    """The same network with a constant bias of the forget gate, and with spread ones."""
    copy = _by_loss(
        (f"copying, T={COPY_T}", 10, 9),
        lambda batch, generator: classic.copy_memory(batch, COPY_T, generator),
        _copied,
        classic.copy_baseline(COPY_T) / 10,
        classic.copy_baseline(COPY_T),
        40_000,
    )
    adding = _by_loss(
        (f"adding, T={ADDING_T}", 2, 1),
        lambda batch, generator: classic.adding_fixed(batch, ADDING_T, generator),
        squared,
        1 / 60,
        1 / 6,
        60_000,
    )
    solves = Paper("solved (T=500, 2000 and 200, 750)", 1.0)
    stalls = Paper("stalls at the loss of no memory")
    note = "solved: a tenth of the loss of no memory"
    for task, longest, hidden in ((copy, COPY_T + 20, 64), (adding, ADDING_T, 32)):
        options = {"lr": 0.005, "batch": 16}
        smaller = "; T and the network are smaller than the paper's" if task is copy else ""
        model = Model("lstm", hidden, **chrono(longest), **options)
        yield run(task, model, settings, SEEDS, solves, note + smaller)
        model = Model("lstm", hidden, **biases(f=1.0), **options)
        yield run(task, model, settings, SEEDS, stalls, note + smaller)


def _odd(network: Network, batch: classic.Steps) -> tuple[Tensor, Tensor]:
    """Cross entropy of the parity so far, at every step, and whether the last is wrong."""
    logits = network.every(batch.x, batch.lengths)
    loss = nn.functional.cross_entropy(logits[batch.mask], batch.target[batch.mask])
    last = (batch.lengths - 1, torch.arange(len(batch.lengths)))
    return loss, (logits[last].argmax(1) != batch.target[last]).float()


@experiment("parity", "Parity, trained on lengths 3 to 40, tested on 40 to 256 (2024)")
def parity(settings: Settings) -> Iterator[Row]:
    """Exponential gates beside the plain cells, and one whose gates see the input only."""

    def passed(network: Network, generator: torch.Generator) -> bool:
        return not bool(_odd(network, classic.parity(1000, 40, 256, generator))[1].any())

    def test(network: Network, seed: int) -> float:
        batch = classic.parity(2000, 40, 256, seed + 2_000_000)
        return 1 - float(_odd(network, batch)[1].mean())

    task = Task(
        "parity",
        2,
        2,
        lambda batch, generator: classic.parity(batch, 3, 40, generator),
        _odd,
        lambda seed: Tested(1600, passed, seed),
        100_000,
        test,
        "right of 2000, lengths 40 to 256",
        always=True,
    )
    solves = Paper("sLSTM solves it (2 blocks of 64, 20,000 updates of 256)", 1.0)
    unmixed = Paper("a memory whose gates see no h (mLSTM) does not solve it")
    papers = {"slstm": solves, "min_lstm": unmixed}
    for name in ("slstm", "lstm", "rnn", "min_lstm"):
        model = Model(name, 16, lr=0.01, batch=32)
        note = "a target at every step; solved: 1000 sequences of lengths 40 to 256 right"
        yield run(task, model, settings, 5, papers.get(name, Paper("")), note)

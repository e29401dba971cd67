"""Training until a paper's criterion holds, and the row that says how long it took."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from benchmarks.papers.network import Model, Network
from benchmarks.papers.registry import Row, Settings

QUICK = 64
"""Sequences of a run that only shows that it runs."""


class Stop(Protocol):
    """Says whether training ends, after each batch: its number and each sequence's error."""

    def __call__(self, network: Network, seen: int, errors: Tensor) -> bool:
        """True when the criterion holds; `errors` `[B]` were made before the batch was learnt."""
        ...


@dataclass(frozen=True)
class Task:
    """A task as it is trained: what is drawn, what is minimized, when it is solved.

    draw: a batch of a size from a generator. loss: of the network and a batch; gives the loss and
    the largest error of each sequence, `[B]`. stop: makes the criterion from a seed. budget:
    sequences after which a seed has failed. test: a figure of the trained network, from a seed.
    """

    name: str
    inputs: int
    outputs: int
    draw: Callable[[int, torch.Generator], Any]
    loss: Callable[[Network, Any], tuple[Tensor, Tensor]]
    stop: Callable[[int], Stop]
    budget: int
    test: Callable[[Network, int], float] | None = None
    measure: str = ""
    always: bool = False


@dataclass(frozen=True)
class Paper:
    """What a paper reports: the text of the row, its share of success and its mean of sequences."""

    text: str
    success: float | None = None
    sequences: float | None = None


class LastRight:
    """So many sequences in a row right, and their mean error small: the criterion of 1997.

    >>> stop = LastRight(4, right=0.3, mean=0.1)
    >>> [stop(None, 2, torch.tensor([0.0, error])) for error in (0.4, 0.2, 0.0)]
    [False, False, True]
    """

    def __init__(self, count: int, right: float, mean: float, wrong: int = 0) -> None:
        self.right, self.mean, self.wrong = right, mean, wrong
        self.errors: deque[float] = deque(maxlen=count)

    def __call__(self, network: Network | None, seen: int, errors: Tensor) -> bool:
        """Whether the last errors are all small enough."""
        self.errors.extend(errors.tolist())
        if len(self.errors) < (self.errors.maxlen or 0):
            return False
        wrong = sum(not error < self.right for error in self.errors)
        return wrong <= self.wrong and statistics.fmean(self.errors) < self.mean


class Tested:
    """A test of the network every so many sequences, once the errors in training are small.

    passed: whether the network passes, drawn from a generator. below: the largest error of the
    training batch with which a test is worth its time.
    """

    def __init__(
        self,
        every: int,
        passed: Callable[[Network, torch.Generator], bool],
        seed: int,
        below: float = float("inf"),
    ) -> None:
        self.every, self.passed, self.below = every, passed, below
        self.generator = torch.Generator().manual_seed(seed + 1_000_000)
        self.next = every

    def __call__(self, network: Network, seen: int, errors: Tensor) -> bool:
        """Whether a test was due and was passed."""
        if seen < self.next or not float(errors.max()) < self.below:
            return False
        self.next = seen + self.every
        with torch.inference_mode():
            return self.passed(network, self.generator)


def train(task: Task, model: Model, seed: int, quick: bool = False) -> tuple[int | None, Network]:
    """Sequences until the task is solved, or None when the budget is spent; and the network."""
    network = Network(model, task.inputs, task.outputs, seed)
    parameters = network.trained()
    groups = [
        {"params": network.recurrent(), "lr": model.lr * model.slower},
        {"params": network.outer()},
    ]
    optimizer = torch.optim.Adam(groups, model.lr, (0.9, model.memory), fused=True)
    generator, stop = torch.Generator().manual_seed(seed), task.stop(seed)
    budget = QUICK if quick else task.budget
    rates = [group["lr"] for group in optimizer.param_groups]
    seen = 0
    while seen < budget:
        if model.falling:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * (1 - seen / budget)
        batch = task.draw(model.batch, generator)
        loss, errors = task.loss(network, batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, model.clip)
        optimizer.step()
        seen += model.batch
        if stop(network, seen, errors.detach()):
            return seen, network
    return None, network


def run(
    task: Task, model: Model, settings: Settings, seeds: int, paper: Paper, note: str = ""
) -> Row:
    """Train a model with every seed, and say what came out, as a row."""
    counts: list[int] = []
    values: list[float] = []
    chosen = settings.range(seeds)
    for seed in chosen:
        count, network = train(task, model, seed, settings.quick)
        if count is not None:
            counts.append(count)
        if task.test is not None and (count is not None or task.always):
            with torch.inference_mode():
                values.append(task.test(network, seed))
    failed = len(chosen) - len(counts)
    budget = QUICK if settings.quick else task.budget
    spent = f"{failed} of {len(chosen)} seeds not solved within {budget:,} sequences"
    return Row(
        task.name,
        str(model),
        len(chosen),
        solved=len(counts),
        sequences=tuple(counts),
        measure=task.measure,
        values=tuple(values),
        published=paper.text,
        reached=reached(counts, len(chosen), paper),
        note="; ".join(filter(None, (note, spent if failed else ""))),
    )


def reached(counts: Sequence[int], seeds: int, paper: Paper) -> bool | None:
    """Whether success is no rarer, and the mean of the sequences no larger, than published.

    >>> reached([100, 300], 2, Paper("", 1.0, 200)), reached([100], 2, Paper("", 1.0, 200))
    (True, False)
    """
    if paper.success is None:
        return None
    enough = len(counts) / seeds >= paper.success
    if paper.sequences is None or not counts:
        return enough
    return enough and statistics.fmean(counts) <= paper.sequences


def rows(
    task: Task, models: Iterable[tuple[Model, Paper]], settings: Settings, seeds: int
) -> Iterator[Row]:
    """A row for every model on the same task."""
    for model, paper in models:
        yield run(task, model, settings, seeds, paper)


def squared(network: Network, batch: Any) -> tuple[Tensor, Tensor]:
    """Mean squared error of one number for each row, and the absolute errors."""
    difference = network.final(batch.x, batch.lengths) - batch.target
    return difference.square().mean(), difference.abs().amax(1)


def classes(network: Network, batch: Any) -> tuple[Tensor, Tensor]:
    """Cross entropy of the class of each row, and how far its probability is from 1."""
    logits = network.final(batch.x, batch.lengths)
    loss = nn.functional.cross_entropy(logits, batch.target)
    right = logits.softmax(1).gather(1, batch.target.unsqueeze(1)).squeeze(1)
    # With a softmax no other output can be further from its target than the right one.
    return loss, 1 - right

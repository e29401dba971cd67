"""The network of the music experiments, its training and its score."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from holdfast.data.music import KEYS, Pieces, Rolls, room, stack, transpose
from holdfast.nn import Recurrent, init


@dataclass(frozen=True)
class Recipe:
    """A network and how it is trained.

    dropout: on the input of the read-out, another mask every step. options: those of `Recurrent`.
    shift: training pieces move up to so many semitones, another number every time. average: the
    share that the averaged weights, which are what is scored, keep at each update; 0 for none.
    window: training pieces are cut into parts of at most so many steps; 0 for whole pieces.
    patience: epochs without a better validation before training stops.
    """

    cell: str = "lstm"
    hidden: int = 200
    lr: float = 3e-3
    batch: int = 16
    epochs: int = 60
    patience: int = 10
    dropout: float = 0.0
    clip: float = 1.0
    average: float = 0.0
    shift: int = 0
    window: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """Negative log likelihoods, nats per step, at the epoch with the best validation.

    without_first: the test without the first step of each piece, before which nothing was heard.
    """

    valid: float
    test: float
    without_first: float
    epoch: int
    epochs: int
    parameters: int


class MusicNet(nn.Module):
    """The probability of each key at the next step, from all steps before it."""

    def __init__(self, recipe: Recipe, generator: torch.Generator) -> None:
        super().__init__()
        # The draws of the constructors are thrown away; `generator` makes the values that count.
        with torch.random.fork_rng(devices=[]):
            self.layer = Recurrent(recipe.cell, KEYS, recipe.hidden, **recipe.options)
            self.head = nn.Linear(recipe.hidden, KEYS)
        init.uniform_(self.layer, generator=generator)
        bound = recipe.hidden**-0.5
        for parameter in self.head.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
        self.dropout = recipe.dropout

    def forward(self, pieces: Pieces, generator: torch.Generator | None = None) -> Tensor:
        """Logits `[T, B, 88]`; in training masks are drawn from the generator."""
        seed = None
        if generator is not None and self.layer.random:
            seed = int(torch.randint(2**31, (), generator=generator))
        out = self.layer(pieces.x, lengths=pieces.lengths, seed=seed)[0]
        if self.training and self.dropout and generator is not None:
            out = out * torch.empty_like(out).bernoulli_(1 - self.dropout, generator=generator)
            out = out / (1 - self.dropout)
        return self.head(out)


def losses(logits: Tensor, pieces: Pieces) -> Tensor:
    """Negative log likelihood of each step, summed over the keys, `[T, B]`; zero beyond a piece."""
    found = functional.binary_cross_entropy_with_logits(logits, pieces.y, reduction="none")
    return found.sum(2) * pieces.valid


@torch.no_grad()
def evaluate(net: MusicNet, rolls: Sequence[Tensor]) -> tuple[float, float]:
    """Nats per step over all pieces, and the same without the first step of each."""
    training = net.training
    net.eval()
    total = first = 0.0
    steps = 0
    order = sorted(range(len(rolls)), key=lambda n: len(rolls[n]))
    for start in range(0, len(order), 64):
        pieces = stack([rolls[n] for n in order[start : start + 64]])
        found = losses(net(pieces), pieces)
        total += float(found.sum())
        first += float(found[0].sum())
        steps += int(pieces.lengths.sum())
    net.train(training)
    return total / steps, (total - first) / (steps - len(rolls))


def batches(
    rolls: Sequence[Tensor], recipe: Recipe, generator: torch.Generator
) -> Iterator[Pieces]:
    """All pieces once, pieces of similar length together, the batches in random order."""
    if recipe.window:
        rolls = [part for roll in rolls for part in roll.split(recipe.window)]
    jitter = (0.8 + 0.4 * torch.rand(len(rolls), generator=generator)).tolist()
    order = sorted(range(len(rolls)), key=lambda n: len(rolls[n]) * jitter[n])
    groups = [order[n : n + recipe.batch] for n in range(0, len(order), recipe.batch)]
    for index in torch.randperm(len(groups), generator=generator).tolist():
        chosen = [rolls[n] for n in groups[index]]
        if recipe.shift:
            chosen = [shifted(roll, recipe.shift, generator) for roll in chosen]
        yield stack(chosen)


def shifted(roll: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """The roll moved by a random number of semitones, so that no note is lost."""
    down, up = (min(most, space) for space in room(roll))
    return transpose(roll, int(torch.randint(-down, up + 1, (), generator=generator)))


def train(rolls: Rolls, recipe: Recipe, seed: int) -> Score:
    """Train until the validation stops getting better; the test at the best epoch."""
    generator = torch.Generator().manual_seed(seed)
    net = MusicNet(recipe, generator)
    scored = copy.deepcopy(net) if recipe.average else net
    optimizer = torch.optim.Adam(net.parameters(), recipe.lr)
    best, best_epoch, epoch = float("inf"), 0, 0
    kept: dict[str, Tensor] = {}
    for epoch in range(1, recipe.epochs + 1):
        net.train()
        for pieces in batches(rolls.train, recipe, generator):
            loss = losses(net(pieces, generator), pieces).sum() / pieces.lengths.sum()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
            optimizer.step()
            if recipe.average:
                _average(scored, net, recipe.average)
        valid, _ = evaluate(scored, rolls.valid)
        if valid < best:
            best, best_epoch = valid, epoch
            kept = {name: value.clone() for name, value in scored.state_dict().items()}
        if epoch - best_epoch >= recipe.patience:
            break
    scored.load_state_dict(kept)
    test, without_first = evaluate(scored, rolls.test)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return Score(best, test, without_first, best_epoch, epoch, parameters)


@torch.no_grad()
def _average(averaged: nn.Module, net: nn.Module, keep: float) -> None:
    for mean, value in zip(averaged.parameters(), net.parameters(), strict=True):
        mean.lerp_(value, 1 - keep)

"""The training loop: batches by indexing, averaged weights, checkpoints, exact resume."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from holdfast.data.windows import Batch, Windows
from holdfast.errors import ModelError
from holdfast.tasks.checkpoint import Progress, save_progress
from holdfast.tasks.forecast.augment import augmented
from holdfast.tasks.forecast.nets import ForecastNet
from holdfast.tasks.forecast.team import Team


@dataclass
class Origins(torch.utils.data.Dataset):
    """Where forecasts are made in training: in the series `series`, rows `first` to `last`.

    One item is a block of `span` neighboring origins that share one pass of the recurrent layer.
    Training shifts the blocks by a new offset every epoch, so that all of them are seen in turn.
    With `joint`, a block is one time in all series. An epoch has at most `most` blocks.
    """

    windows: Windows
    series: np.ndarray
    first: np.ndarray
    last: np.ndarray
    span: int
    seed: int
    shuffled: bool
    joint: bool = False
    most: int = 1 << 30
    epoch: int = 0

    def blocks(self) -> np.ndarray:
        """Series and last origin of every block of this epoch, in this epoch's order (n, 2)."""
        generator = np.random.default_rng([self.seed, self.epoch])
        if self.joint:
            return self._joint_blocks(generator)
        # A series with fewer origins than a block has one block, which begins before its first.
        earliest = np.minimum(self.first + self.span - 1, self.last)
        room = np.minimum(self.span, self.last - earliest + 1)
        offset = generator.integers(room) if self.shuffled else np.zeros_like(room)
        ends = np.cumsum((self.last - earliest - offset) // self.span + 1)
        chosen = self._chosen(int(ends[-1]) if len(ends) else 0, generator)
        owner = np.searchsorted(ends, chosen, side="right")
        within = chosen - np.concatenate([[0], ends])[owner]
        rows = (earliest + offset)[owner] + within * self.span
        return np.stack([self.series[owner], rows], axis=1)

    def _chosen(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """Which of `count` blocks an epoch has: a shuffled part, or one spread evenly."""
        if self.shuffled:
            return generator.permutation(count)[: self.most]
        if count <= self.most:
            return np.arange(count)
        return np.linspace(0, count - 1, self.most).astype(int)

    def _joint_blocks(self, generator: np.random.Generator) -> np.ndarray:
        """Blocks of times at which all series have origins, one block of series after the other."""
        begin = self.windows.first_ordinals.numpy()
        first = int((begin[self.series] + self.first).max()) + self.span - 1
        last = int((begin[self.series] + self.last).min())
        offset = int(generator.integers(self.span)) if self.shuffled else 0
        times = np.arange(min(first + offset, last), last + 1, self.span)
        times = times[self._chosen(len(times), generator)]
        series = np.tile(self.series, len(times))
        rows = np.repeat(times, len(self.series)) - begin[series]
        return np.stack([series, rows], axis=1)

    def __len__(self) -> int:
        return len(self.blocks())


class Batches:
    """Iterate over the blocks of an `Origins`, `batch_size` at a time, by indexing: no loader.

    A process of a team gets its share of each; None where that is empty.
    """

    def __init__(self, dataset: Origins, batch_size: int, team: Team | None = None) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.team = team or Team()

    def __iter__(self) -> Iterator[Batch | None]:
        blocks, span = self.dataset.blocks(), self.dataset.span
        joint = len(self.dataset.series) if self.dataset.joint else 1
        size = self.batch_size * joint
        for start in range(0, len(blocks), size):
            mine = self.team.share(blocks[start : start + size], joint)
            yield self.dataset.windows.batch(mine, span) if len(mine) else None


# A held-out error of so many standard deviations is no forecast any more.
DIVERGED = 1e6
SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True)
class Plan:
    """How to train: the settings of the loop, apart from the data and the network."""

    learning_rate: float
    weight_decay: float
    schedule: str
    batch_size: int
    max_epochs: int
    patience: int
    gradient_clip: float
    averaging: float
    augment: tuple[str, ...]
    seed: int
    device: str

    def rate(self, epoch: float) -> float:
        """The learning rate at a (broken) number of epochs done."""
        if self.schedule == "constant":
            return self.learning_rate
        share = min(1.0, epoch / max(1, self.max_epochs))
        return self.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))


class Average:
    """A running average of a network's weights, which is what is validated and kept."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.own = {n: t for n, t in net.state_dict().items() if t.is_floating_point()}
        self.tensors = {name: tensor.detach().clone() for name, tensor in self.own.items()}

    def update(self, epoch: int) -> None:
        """Move the average towards the weights; early epochs move it more."""
        decay = min(self.decay, (epoch + 1) / (epoch + 10))
        with torch.no_grad():
            for name, tensor in self.own.items():
                self.tensors[name].lerp_(tensor, 1 - decay)

    @contextlib.contextmanager
    def within(self, net: nn.Module) -> Iterator[None]:
        """Within this block the network carries the averaged weights."""
        before = {name: tensor.clone() for name, tensor in self.own.items()}
        net.load_state_dict(self.tensors, strict=False)
        try:
            yield
        finally:
            net.load_state_dict(before, strict=False)


class Trainer:
    """Trains a network on windows, epoch by epoch, from where its `Progress` stands.

    Where a `team` of processes trains one network, each takes its share of every batch, gradients
    are those of all, and the first one writes the checkpoint.
    """

    def __init__(
        self,
        net: ForecastNet,
        data: tuple[Origins, Origins],
        plan: Plan,
        progress: Progress,
        team: Team | None = None,
    ) -> None:
        self.net = net.to(plan.device)
        self.training, self.held_out = data
        self.plan = plan
        self.progress = progress
        self.team = team or Team()
        self.parameters = [p for p in net.parameters() if p.requires_grad]
        kind = torch.optim.AdamW if plan.weight_decay else torch.optim.Adam
        self.optimizer = kind(
            self.parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True
        )
        self.average = Average(self.net, plan.averaging)
        if progress.epochs:
            self.net.load_state_dict(progress.module)
            for name, tensor in progress.average.items():
                self.average.tensors[name].copy_(tensor)
            load_flat_optimizer(self.optimizer, progress.optimizer)

    def run(
        self, checkpoint: Path | None = None, report: Callable[[Progress], None] | None = None
    ) -> ForecastNet:
        """Train to the end and return the network with the best averaged weights."""
        progress, plan = self.progress, self.plan
        with own_random_numbers():
            while progress.epochs < plan.max_epochs and not self._done():
                # An epoch's random numbers depend on the seed and its number alone.
                seed_everything_of_ours(plan.seed, 1 + progress.epochs, self.team.rank)
                told = getattr(report, "steps", None)
                losses = {"train_loss": self._train(told), "valid_loss": self._validate()}
                self._note(losses)
                if checkpoint is not None and not self.team.rank:
                    self._save(checkpoint)
                if report is not None:
                    report(progress)
        self.net.load_state_dict(progress.best, strict=False)
        return self.net.eval()

    def _done(self) -> bool:
        progress = self.progress
        return bool(progress.best) and progress.epochs - progress.best_epoch >= self.plan.patience

    def _train(self, told: Callable[[Progress, int, int], None] | None = None) -> float:
        """One epoch; the mean loss of its batches. `told` hears of every step."""
        self.net.train()
        self.training.epoch = self.progress.epochs
        total, count = 0.0, 0
        steps = max(1, math.ceil(len(self.training) / self.plan.batch_size))
        for batch in self._batches(self.training):
            for group in self.optimizer.param_groups:
                group["lr"] = self.plan.rate(self.progress.epochs + count / steps)
            self.optimizer.zero_grad()
            loss, weight = 0.0, 0.0
            if batch is not None:
                changed = augmented(batch, self.plan.augment)
                own = self.net.loss(changed)
                own.backward()
                loss, weight = own.item(), float(changed.weight.sum())
            self.team.gather(self.net, weight)
            torch.nn.utils.clip_grad_norm_(self.parameters, self.plan.gradient_clip)
            self.optimizer.step()
            self.average.update(self.progress.epochs)
            total += loss
            count += 1
            if told is not None:
                told(self.progress, count, steps)
        return total / max(1, count)

    def _validate(self) -> float:
        """The mean loss over the held-out windows, with the averaged weights."""
        self.net.eval()
        total, weight = 0.0, 0.0
        with self.average.within(self.net), torch.no_grad():
            for batch in self._batches(self.held_out):
                if batch is None:
                    continue
                size = float(batch.weight.sum())
                total += float(self.net.loss(batch)) * size
                weight += size
        total, weight = self.team.total(total, weight)
        return total / weight if weight else 0.0

    def _batches(self, origins: Origins) -> Iterator[Batch | None]:
        for batch in Batches(origins, self.plan.batch_size, self.team):
            if batch is None or self.plan.device == "cpu":
                yield batch
            else:
                yield batch.to(self.plan.device)

    def _note(self, losses: dict[str, float]) -> None:
        """Note the losses and keep the best weights."""
        progress, valid = self.progress, losses["valid_loss"]
        if not valid < DIVERGED:
            raise ModelError(
                f"training diverged in epoch {progress.epochs + 1}: the held-out error is "
                f"{valid:g}; lower the learning rate, or look for extreme values in the data"
            )
        progress.history.append({"epoch": progress.epochs + 1, **losses})
        if valid < progress.best_loss or not progress.best:
            progress.best_loss, progress.best_epoch = valid, progress.epochs
            progress.best = {n: t.clone() for n, t in self.average.tensors.items()}

    def _save(self, checkpoint: Path) -> None:
        self.progress.module = self.net.state_dict()
        self.progress.average = self.average.tensors
        self.progress.optimizer = flat_optimizer(self.optimizer)
        save_progress(self.progress, checkpoint)


def flat_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors under names such as ``3/exp_avg``."""
    state = optimizer.state_dict()["state"]
    return {f"{i}/{name}": value for i, row in state.items() for name, value in row.items()}


def load_flat_optimizer(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    """Undo `flat_optimizer`."""
    whole = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**whole, "state": state})


@contextlib.contextmanager
def own_random_numbers() -> Iterator[None]:
    """Whatever draws from torch's global CPU generator in this block leaves it as it was."""
    with torch.random.fork_rng(devices=[]):
        yield


def seed_everything_of_ours(seed: int, part: int, rank: int = 0) -> None:
    """Seed the CPU generator for one part of the work; only inside `own_random_numbers`."""
    state = np.random.SeedSequence([seed, part, rank] if rank else [seed, part]).generate_state(
        1, np.uint64
    )
    torch.default_generator.manual_seed(int(state[0] >> np.uint64(1)))

"""What a step of training sees: windows by indexing, in blocks of neighboring origins."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from holdfast.data.windows import Batch, Windows
from holdfast.tasks.forecast.augment import augmented
from holdfast.tasks.forecast.nets import ForecastNet
from holdfast.tasks.team import Team
from holdfast.tasks.trainer import Work


@dataclass
class Origins(torch.utils.data.Dataset):
    """Where forecasts are made in training: in the series `series`, rows `first` to `last`.

    One item is a block of `span` neighboring origins that share one pass of the recurrent layer.
    Training shifts the blocks by a new offset every epoch, so that all of them are seen in turn.
    With `joint`, a block is one time in all series. An epoch has at most `most` blocks; with
    `weights`, one for each of `series`, they are drawn in proportion to them, some more than once.
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
    weights: np.ndarray | None = None

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
        count = int(ends[-1]) if len(ends) else 0
        if self.weights is None or not count:
            chosen = self._chosen(count, generator)
        else:
            share = np.repeat(self.weights, np.diff(ends, prepend=0))
            chosen = generator.choice(count, min(count, self.most), p=share / share.sum())
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


class Training(Work):
    """Windows as steps of a training.

    Where a `team` of processes trains one network, each takes its share of every batch, and
    gradients are those of all.
    """

    def __init__(
        self,
        net: ForecastNet,
        data: tuple[Origins, Origins],
        batch_size: int,
        augment: tuple[str, ...] = (),
        device: str = "cpu",
        team: Team | None = None,
    ) -> None:
        super().__init__(net, team)
        self.network = net
        self.training, self.held_out = data
        self.batch_size = batch_size
        self.augment = augment
        self.device = device

    def steps(self, epoch: int) -> int:
        """How many batches the epoch has."""
        self.training.epoch = epoch
        return math.ceil(len(self.training) / self.batch_size)

    def losses(self, epoch: int) -> Iterator[Tensor | None]:
        """The loss of every batch."""
        self.training.epoch = epoch
        for batch in self._batches(self.training):
            self.weight = 0.0
            if batch is None:
                yield None
                continue
            changed = augmented(batch, self.augment)
            self.weight = float(changed.weight.sum())
            yield self.network.loss(changed)

    def validate(self) -> dict[str, float]:
        """The mean loss over the held-out windows."""
        total, weight = 0.0, 0.0
        for batch in self._batches(self.held_out):
            if batch is None:
                continue
            size = float(batch.weight.sum())
            total += float(self.network.loss(batch)) * size
            weight += size
        total, weight = self.team.total(total, weight)
        return {"valid_loss": total / weight if weight else 0.0}

    def _batches(self, origins: Origins) -> Iterator[Batch | None]:
        for batch in Batches(origins, self.batch_size, self.team):
            yield batch if batch is None or self.device == "cpu" else batch.to(self.device)

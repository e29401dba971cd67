"""What a step of training computes, and what is measured on held-out examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from holdfast.data.text.batches import LengthBatches
from holdfast.tasks.classify.encoding import Encoded
from holdfast.tasks.classify.network import ClassifierNet
from holdfast.tasks.trainer import Work

MONITORS = ("loss", "accuracy", "f1")


@dataclass(frozen=True, eq=False)
class Part:
    """Examples and what they are: `targets` are classes `[n]` int64, or labels `[n, K]` float32."""

    examples: Encoded
    targets: Tensor


@dataclass(frozen=True, eq=False)
class Goal:
    """What is minimized: cross-entropy, with `weights` `[K]` of the classes and smoothed labels."""

    weights: Tensor | None = None
    smoothing: float = 0.0

    def __call__(self, scores: Tensor, targets: Tensor, *, plain: bool = False) -> Tensor:
        """The mean loss; `plain` leaves weights and smoothing out, for what is held out."""
        weights = None if plain or self.weights is None else self.weights.to(scores.device)
        smoothing = 0.0 if plain else self.smoothing
        if targets.dim() == 1:
            return functional.cross_entropy(scores, targets, weights, label_smoothing=smoothing)
        wanted = targets * (1 - smoothing) + smoothing / 2
        return functional.binary_cross_entropy_with_logits(scores, wanted, pos_weight=weights)


class Training(Work):
    """Batches of examples that are nearly equally long."""

    def __init__(
        self,
        net: ClassifierNet,
        train: Part,
        held_out: Part,
        goal: Goal,
        batch_size: int,
        seed: int,
        monitor: str = "loss",
        device: str = "cpu",
    ) -> None:
        super().__init__(net)
        self.network = net
        self.train, self.held_out = train, held_out
        self.goal, self.monitor, self.device = goal, monitor, device
        self.batches = LengthBatches(train.examples.lengths, batch_size, seed=seed)
        self.size = batch_size
        self._epoch: tuple[int, list[np.ndarray]] = (-1, [])

    def steps(self, epoch: int) -> int:
        """How many batches the epoch has."""
        return len(self._of(epoch))

    def losses(self, epoch: int) -> Iterator[Tensor | None]:
        """The loss of every batch."""
        for places in self._of(epoch):
            batch = self.train.examples.batch(places).to(self.device)
            scores = self.network(batch)
            yield self.goal(scores, self.train.targets[places].to(self.device))

    def validate(self) -> dict[str, float]:
        """Loss, accuracy and macro F1 of the held-out examples."""
        scores = scores_of(self.network, self.held_out.examples, self.size, self.device)
        targets = self.held_out.targets
        found = {"valid_loss": float(self.goal(scores, targets, plain=True))}
        given = scores.argmax(1) if targets.dim() == 1 else (scores > 0).long()
        right = (given == targets.long()).float().mean()
        return {**found, "accuracy": float(right), "f1": _macro_f1(given, targets.long(), scores)}

    def error(self, found: dict[str, float]) -> float:
        """What `monitor` says: the loss, or the share that is wrong."""
        return found["valid_loss"] if self.monitor == "loss" else 1 - found[self.monitor]

    def _of(self, epoch: int) -> list[np.ndarray]:
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self.batches.epoch(epoch))
        return self._epoch[1]


def scores_of(
    net: ClassifierNet, examples: Encoded, batch_size: int = 64, device: str = "cpu"
) -> Tensor:
    """The scores `[n, K]` of all examples, in their order, whatever goes beside them."""
    found = torch.zeros(len(examples), net.shape.outputs)
    for places in LengthBatches(examples.lengths, batch_size, shuffle=False).epoch(0):
        found[places] = net(examples.batch(places).to(device)).detach().cpu()
    return found


def _macro_f1(given: Tensor, wanted: Tensor, scores: Tensor) -> float:
    if wanted.dim() == 1:
        given, wanted = (functional.one_hot(one, scores.shape[1]) for one in (given, wanted))
    both = (given * wanted).sum(0)
    total = given.sum(0) + wanted.sum(0)
    return float((2 * both / total.clamp(min=1)).mean())

"""Averages of a network's weights while it is trained; they are what is validated and kept."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import nn

TRIGGERED, MEAN = "triggered", "mean"


class Average(ABC):
    """Weights that follow those of a network in training."""

    def __init__(self, net: nn.Module) -> None:
        self.own = {n: t for n, t in net.state_dict().items() if t.is_floating_point()}
        self.tensors = {name: tensor.detach().clone() for name, tensor in self.own.items()}

    @abstractmethod
    def begin(self, losses: list[float], steps: int) -> None:
        """An epoch begins; `losses` are the held-out ones of those before, `steps` theirs."""

    @abstractmethod
    def update(self, epoch: int) -> None:
        """A step of the `epoch` (from 0) is done."""

    def _move(self, share: float) -> None:
        with torch.no_grad():
            for name, tensor in self.own.items():
                self.tensors[name].lerp_(tensor, share)

    @abstractmethod
    def follow(self) -> None:
        """An epoch is done; where nothing is averaged yet, the weights are the average."""

    @contextlib.contextmanager
    def within(self, net: nn.Module) -> Iterator[None]:
        """Within this block the network carries the averaged weights."""
        before = {name: tensor.clone() for name, tensor in self.own.items()}
        net.load_state_dict(self.tensors, strict=False)
        try:
            yield
        finally:
            net.load_state_dict(before, strict=False)


class Running(Average):
    """An exponential average; early epochs (or steps, with `by` "steps") move it more.

    `decay` 0 keeps the weights themselves.
    """

    def __init__(self, net: nn.Module, decay: float, by: str = "epochs") -> None:
        super().__init__(net)
        self.decay = decay
        self.by = by
        self.steps = 0

    def begin(self, losses: list[float], steps: int) -> None:
        """Count on from the steps of the epochs before."""
        self.steps = steps

    def update(self, epoch: int) -> None:
        """Move the average towards the weights."""
        if not self.decay:
            return
        count = epoch if self.by == "epochs" else self.steps
        self.steps += 1
        self._move(1 - min(self.decay, (count + 1) / (count + 10)))

    def follow(self) -> None:
        """Without a decay there is nothing but the weights."""
        if not self.decay:
            self._move(1.0)


class Triggered(Average):
    """The mean of all weights since the held-out loss stopped falling (NT-ASGD).

    It begins after the first epoch whose loss is above the least of all but the last `patience`
    before it; with a `patience` of None it begins with the training.
    Source: Merity, Keskar & Socher 2018, algorithm 1.

    >>> Triggered.trigger([3.0, 2.0, 2.5, 2.4, 2.3], patience=2), Triggered.trigger([3.0, 2.0], 2)
    (5, None)
    """

    def __init__(self, net: nn.Module, patience: int | None) -> None:
        super().__init__(net)
        self.patience = patience
        self.count = torch.zeros(())
        self.active = patience is None

    @staticmethod
    def trigger(losses: list[float], patience: int) -> int | None:
        """After how many epochs averaging began, or None."""
        for epoch, loss in enumerate(losses):
            before = losses[: max(0, epoch - patience)]
            if before and loss > min(before):
                return epoch + 1
        return None

    def begin(self, losses: list[float], steps: int) -> None:
        """See whether this epoch is averaged."""
        if self.patience is not None:
            self.active = self.trigger(losses, self.patience) is not None

    def update(self, epoch: int) -> None:
        """Take the weights into the mean, where it has begun."""
        if self.active:
            self.count += 1
            self._move(1 / float(self.count))

    def follow(self) -> None:
        """Before it has begun the weights are the average."""
        if not self.active:
            self._move(1.0)


def make_average(net: nn.Module, decay: float | str, by: str, patience: int) -> Average:
    """The average of that kind: a decay from 0 to below 1, "triggered" or "mean"."""
    if isinstance(decay, str):
        return Triggered(net, patience if decay == TRIGGERED else None)
    return Running(net, decay, by)

"""The training loop of every task: steps, averaged weights, checkpoints, exact resume.

A task says in its `Work` what a step computes; the loop knows nothing of data.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.errors import ModelError
from holdfast.tasks.average import make_average
from holdfast.tasks.checkpoint import Progress, save_progress
from holdfast.tasks.random_numbers import own_random_numbers, seed_everything_of_ours
from holdfast.tasks.rows import RowAdam, clip_gradients
from holdfast.tasks.team import Team

# No held-out loss of a network that still learns is as large.
DIVERGED = 1e6
SCHEDULES = ("constant", "cosine", "linear", "plateau", "decay")
OPTIMIZERS = ("adam", "sgd")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Plan:
    """How to train: the settings of the loop, apart from the data and the network.

    `schedule` is what the learning rate does after `warmup` epochs (which may be broken) of rising:
    ``"constant"``; ``"cosine"`` and ``"linear"``, down to a fiftieth of it by `max_epochs`;
    ``"plateau"``, divided by `decay` after every epoch whose held-out loss is not the best;
    ``"decay"``, divided by `decay` after every epoch beyond the first `decay_after`. `averaging` is
    the decay of the running average of the weights, 0 for none, ``"triggered"`` for the mean
    since the held-out loss stopped falling for `trigger` epochs (NT-ASGD), or ``"mean"`` for that
    since training began. With `precision` ``"bfloat16"`` a step multiplies matrices of bfloat16, as
    autocast has it; weights, sums and what is measured stay what they are.
    """

    learning_rate: float
    max_epochs: int
    patience: int
    seed: int
    optimizer: str = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup: float = 0.0
    decay: float = 4.0
    decay_after: int = 0
    gradient_clip: float = 1.0
    averaging: float | str = 0.0
    averaged_by: str = "steps"
    trigger: int = 5
    device: str = "cpu"
    precision: str = "float32"

    @classmethod
    def of(cls, settings: Mapping[str, Any], **others: Any) -> Plan:
        """The plan that a task's settings describe, and what it decides besides."""
        values = {name: settings[name] for name in cls.__dataclass_fields__ if name in settings}
        return cls(**{**values, **others})

    def rate(self, epoch: float, losses: list[float] | None = None) -> float:
        """The learning rate at a (broken) number of epochs done, after these held-out losses."""
        return self.learning_rate * self._rise(epoch) * self._fall(epoch, losses or [])

    def _rise(self, epoch: float) -> float:
        return 1.0 if epoch >= self.warmup else max(epoch, 1e-3) / self.warmup

    def _fall(self, epoch: float, losses: list[float]) -> float:
        if self.schedule in ("cosine", "linear"):
            share = min(1.0, epoch / max(1, self.max_epochs))
            bend = 0.5 * (1 + math.cos(math.pi * share)) if self.schedule == "cosine" else 1 - share
            return 0.02 + 0.98 * bend
        if self.schedule == "decay":
            return self.decay ** -max(0, int(epoch) - self.decay_after)
        if self.schedule == "plateau":
            worse = sum(loss >= min(losses[:n]) for n, loss in enumerate(losses) if n)
            return self.decay**-worse
        return 1.0


class Work(ABC):
    """What is trained: a network, the losses of an epoch, and how good it is on held-out data.

    What an epoch draws comes from its number alone, or from torch's CPU generator, which the loop
    seeds: then a training that was interrupted goes on to the same result. In a `team` of processes
    each yields its part of a step, says the `weight` of it, and gradients are those of all.
    """

    def __init__(self, net: nn.Module, team: Team | None = None) -> None:
        self.net = net
        self.team = team or Team()
        # Of the step whose loss came last, beside the steps of the others in the team.
        self.weight = 1.0
        # What the learning rate of that step is multiplied by.
        self.pace = 1.0

    @abstractmethod
    def steps(self, epoch: int) -> int:
        """How many steps the epoch (from 0) has."""

    @abstractmethod
    def losses(self, epoch: int) -> Iterator[Tensor | None]:
        """The loss of each step of the epoch, to be made smaller.

        None where this process has no part of a step that others share.
        """

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """What is measured on held-out data, called without gradients; has ``valid_loss``."""

    def error(self, found: dict[str, float]) -> float:
        """What the best epoch has least of."""
        return found["valid_loss"]


class Trainer:
    """Trains on a `Work`, epoch by epoch, from where its `Progress` stands."""

    def __init__(self, work: Work, plan: Plan, progress: Progress) -> None:
        self.work = work
        self.net = work.net.to(plan.device)
        self.plan = plan
        self.progress = progress
        self.parameters = [p for p in self.net.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(self.parameters, plan)
        self.average = make_average(self.net, plan.averaging, plan.averaged_by, plan.trigger)
        if progress.epochs:
            self.net.load_state_dict(progress.module)
            tensors = dict(progress.average)
            count = tensors.pop("count", None)
            if count is not None:
                self.average.count.copy_(count)  # type: ignore[attr-defined] (a triggered one)
            for name, tensor in tensors.items():
                self.average.tensors[name].copy_(tensor)
            load_flat_optimizer(self.optimizer, progress.optimizer)

    def run(
        self, checkpoint: Path | None = None, report: Callable[[Progress], None] | None = None
    ) -> nn.Module:
        """Train to the end and return the network with the best (averaged) weights."""
        progress, plan = self.progress, self.plan
        with own_random_numbers():
            while progress.epochs < plan.max_epochs and not self._done():
                # An epoch's random numbers depend on the seed and its number alone.
                seed_everything_of_ours(plan.seed, 1 + progress.epochs, self.work.team.rank)
                told = getattr(report, "steps", None)
                self._note({"train_loss": self._train(told), **self._validate()})
                if checkpoint is not None and not self.work.team.rank:
                    self._save(checkpoint)
                if report is not None:
                    report(progress)
        self.net.load_state_dict(progress.best, strict=False)
        return self.net.eval()

    def _done(self) -> bool:
        progress = self.progress
        return bool(progress.best) and progress.epochs - progress.best_epoch >= self.plan.patience

    def _train(self, told: Callable[[Progress, int, int], None] | None = None) -> float:
        """One epoch; the mean loss of its steps. `told` hears of every step."""
        epoch, losses = self.progress.epochs, [h["valid_loss"] for h in self.progress.history]
        self.net.train()
        self.average.begin(losses, self.progress.steps)
        total, count = 0.0, 0
        steps = max(1, self.work.steps(epoch))
        for loss in self._losses(epoch):
            for group in self.optimizer.param_groups:
                group["lr"] = self.work.pace * self.plan.rate(epoch + count / steps, losses)
            self.optimizer.zero_grad()
            if loss is not None:
                loss.backward()
                total += loss.item()
            self.work.team.gather(self.net, self.work.weight)
            if self.plan.gradient_clip:
                clip_gradients(self.parameters, self.plan.gradient_clip)
            self.optimizer.step()
            self.average.update(epoch)
            count += 1
            if told is not None:
                told(self.progress, count, steps)
        self.average.follow()
        self.progress.steps += count
        return total / max(1, count)

    def _losses(self, epoch: int) -> Iterator[Tensor | None]:
        """The loss of each step, computed as precisely as is planned."""
        kind, narrow = torch.device(self.plan.device).type, self.plan.precision == "bfloat16"
        losses, end = iter(self.work.losses(epoch)), object()
        while True:
            with torch.autocast(kind, torch.bfloat16, enabled=narrow):
                loss = next(losses, end)
            if loss is end:
                return
            yield loss  # type: ignore[misc] (it is not the end)

    def _validate(self) -> dict[str, float]:
        self.net.eval()
        with self.average.within(self.net), torch.no_grad():
            return self.work.validate()

    def _note(self, found: dict[str, float]) -> None:
        """Note what was measured and keep the best weights."""
        progress, valid, error = self.progress, found["valid_loss"], self.work.error(found)
        if not valid < DIVERGED:
            raise ModelError(
                f"training diverged in epoch {progress.epochs + 1}: the held-out error is "
                f"{valid:g}; lower the learning rate, or look for extreme values in the data"
            )
        progress.history.append({"epoch": progress.epochs + 1, **found})
        if error < progress.best_loss or not progress.best:
            progress.best_loss, progress.best_epoch = error, progress.epochs
            progress.best = {n: t.clone() for n, t in self.average.tensors.items()}

    def _save(self, checkpoint: Path) -> None:
        count = getattr(self.average, "count", None)
        extra = {} if count is None else {"count": count}
        self.progress.module = self.net.state_dict()
        self.progress.average = {**self.average.tensors, **extra}
        self.progress.optimizer = flat_optimizer(self.optimizer)
        save_progress(self.progress, checkpoint)


def make_optimizer(parameters: list[nn.Parameter], plan: Plan) -> torch.optim.Optimizer:
    """The optimizer of a plan; its weight decay is decoupled for ``"adam"``, too."""
    how: dict[str, Any] = {"lr": plan.learning_rate, "weight_decay": plan.weight_decay}
    if plan.optimizer == "sgd":
        return torch.optim.SGD(parameters, **how, fused=True)
    # Decoupled, and with fused kernels, it is AdamW.
    return RowAdam(parameters, betas=plan.betas, fused=True, decoupled_weight_decay=True, **how)


def flat_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors under names such as ``3/exp_avg``."""
    state = optimizer.state_dict()["state"]
    return {
        f"{i}/{name}": value
        for i, row in state.items()
        for name, value in row.items()
        if value is not None
    }


def load_flat_optimizer(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    """Undo `flat_optimizer`."""
    whole = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**whole, "state": state})

"""skorch's training loop for windows: own batches, averaged weights, checkpoints, exact resume."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.data.optional import require
from holdfast.data.windows import Windows
from holdfast.errors import ModelError
from holdfast.tasks.checkpoint import Progress, save_progress
from holdfast.tasks.forecast_net import ForecastNet, ObservedError

require("skorch")

from skorch import NeuralNet  # noqa: E402  (after the check that names the extra)
from skorch.callbacks import Callback, GradientNormClipping  # noqa: E402
from skorch.helper import predefined_split  # noqa: E402


@dataclass
class Origins(torch.utils.data.Dataset):
    """Where forecasts are made in training: per series, rows `first` to `last` (inclusive).

    One item is a block of `span` neighboring origins that share one pass of the recurrent layer.
    Training shifts the blocks by a new offset every epoch, so that all of them are seen in turn.
    """

    windows: Windows
    ranges: list[tuple[int, int]]
    span: int
    seed: int
    shuffled: bool
    epoch: int = 0

    def blocks(self) -> np.ndarray:
        """The last origin of every block of this epoch, in this epoch's order."""
        generator = np.random.default_rng([self.seed, self.epoch])
        chosen = []
        for index, (first, last) in enumerate(self.ranges):
            earliest = first + self.span - 1
            room = min(self.span, last - earliest + 1)
            offset = int(generator.integers(room)) if self.shuffled else 0
            chosen.append(self.windows.origins(index, earliest + offset, last, self.span))
        blocks = np.concatenate(chosen)
        return generator.permutation(blocks) if self.shuffled else blocks

    def __len__(self) -> int:
        return len(self.blocks())


class Batches:
    """Iterate over the blocks of an `Origins`, `batch_size` at a time, by indexing: no loader."""

    def __init__(self, dataset: Origins, batch_size: int) -> None:
        self.dataset = dataset
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[tuple[dict[str, Tensor], tuple[Tensor, Tensor]]]:
        blocks, span = self.dataset.blocks(), self.dataset.span
        for start in range(0, len(blocks), self.batch_size):
            some = blocks[start : start + self.batch_size]
            windows = self.dataset.windows
            yield windows.inputs(some, span), windows.targets(some, span)


class Stop(Exception):  # noqa: N818  (not an error: training is over)
    """Training has not improved for as long as it was allowed to."""


class AveragedNet(NeuralNet):
    """skorch's `NeuralNet` that validates, and keeps, a running average of its weights."""

    def start_average(self, decay: float) -> None:
        """Begin to average the weights that the module has now."""
        self.decay_ = decay
        self.average_ = {n: t.detach().clone() for n, t in self.module_.state_dict().items()}

    def update_average(self, epoch: int) -> None:
        """Move the average towards the weights; early epochs move it more."""
        decay = min(self.decay_, (epoch + 1) / (epoch + 10))
        for name, tensor in self.module_.state_dict().items():
            self.average_[name].lerp_(tensor, 1 - decay)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within this block the module carries the averaged weights."""
        own = copy.deepcopy(self.module_.state_dict())
        self.module_.load_state_dict(self.average_)
        try:
            yield
        finally:
            self.module_.load_state_dict(own)

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """Train with the weights, validate with their average."""
        with contextlib.nullcontext() if training else self.averaged():
            super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)


# A held-out error of so many standard deviations is no forecast any more.
DIVERGED = 1e6


class Keeper(Callback):
    """Seeds each epoch, averages after each batch, and keeps what an epoch leaves behind."""

    def __init__(
        self,
        progress: Progress,
        seed: int,
        patience: int,
        checkpoint: Path | None,
        report: Callable[[Progress], None] | None,
    ) -> None:
        self.progress = progress
        self.seed = seed
        self.patience = patience
        self.checkpoint = checkpoint
        self.report = report

    def on_epoch_begin(
        self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        """The epoch's random numbers depend on the seed and its number, not on what ran before."""
        dataset_train.epoch = self.progress.epochs
        seed_everything_of_ours(self.seed, 1 + self.progress.epochs)

    def on_batch_end(
        self, net: Any, batch: Any = None, training: bool | None = False, **kwargs: Any
    ) -> None:
        """Average the weights after every step."""
        if training:
            net.update_average(self.progress.epochs)

    def on_epoch_end(
        self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        """Note the losses, keep the best weights, write the checkpoint, stop when it is time."""
        progress = self.progress
        last = net.history[-1]
        valid = float(last["valid_loss"])
        if not valid < DIVERGED:
            raise ModelError(
                f"training diverged in epoch {progress.epochs + 1}: the held-out error is "
                f"{valid:g}; lower the learning rate, or look for extreme values in the data"
            )
        losses = {"train_loss": float(last["train_loss"]), "valid_loss": valid}
        progress.history.append({"epoch": progress.epochs + 1, **losses})
        if valid < progress.best_loss or not progress.best:
            progress.best_loss, progress.best_epoch = valid, progress.epochs
            progress.best = {n: t.clone() for n, t in net.average_.items()}
        if self.checkpoint is not None:
            progress.module = net.module_.state_dict()
            progress.average = net.average_
            progress.optimizer = flat_optimizer(net.optimizer_)
            save_progress(progress, self.checkpoint)
        if self.report is not None:
            self.report(progress)
        if progress.epochs - progress.best_epoch >= self.patience:
            raise Stop


@dataclass(frozen=True)
class Plan:
    """How to train: the settings of the loop, apart from the data and the network."""

    learning_rate: float
    batch_size: int
    max_epochs: int
    patience: int
    gradient_clip: float
    averaging: float
    seed: int
    device: str


def train(
    module: ForecastNet,
    data: tuple[Origins, Origins],
    plan: Plan,
    progress: Progress,
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] | None = None,
) -> ForecastNet:
    """Train `module` from where `progress` stands, and return it with the best averaged weights.

    `data` is the training and the held-out origins. `progress` is updated; with `checkpoint` it is
    also written there after every epoch, and `report` is called with it. Ctrl-C passes through.
    """
    train_origins, valid_origins = data
    options: dict[str, Any] = {
        "optimizer": torch.optim.Adam,
        "lr": plan.learning_rate,
        "batch_size": plan.batch_size,
        "iterator_train": Batches,
        "iterator_valid": Batches,
        "train_split": predefined_split(valid_origins),
        "callbacks": [
            ("clip", GradientNormClipping(plan.gradient_clip)),
            ("keep", Keeper(progress, plan.seed, plan.patience, checkpoint, report)),
        ],
        "callbacks__print_log": None,
        "device": plan.device,
        "verbose": 0,
    }
    net = AveragedNet(module, ObservedError, **options).initialize()
    net.start_average(plan.averaging)
    if progress.epochs:
        net.module_.load_state_dict(progress.module)
        net.average_ = {n: t.to(plan.device).clone() for n, t in progress.average.items()}
        load_flat_optimizer(net.optimizer_, progress.optimizer)
    ended = progress.epochs - progress.best_epoch >= plan.patience
    net.notify("on_train_begin", X=train_origins, y=None)
    if not ended:
        with own_random_numbers(), contextlib.suppress(Stop):
            net.fit_loop(train_origins, epochs=max(0, plan.max_epochs - progress.epochs))
    net.notify("on_train_end", X=train_origins, y=None)
    module.load_state_dict(progress.best)
    return module.eval()


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


def seed_everything_of_ours(seed: int, part: int) -> None:
    """Seed the CPU generator for one part of the work; only inside `own_random_numbers`."""
    state = np.random.SeedSequence([seed, part]).generate_state(1, np.uint64)
    torch.default_generator.manual_seed(int(state[0] >> np.uint64(1)))

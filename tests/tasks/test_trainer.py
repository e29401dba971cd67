"""The loop that every task trains with: rates, averages, the best epoch, exact resume."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from holdfast.errors import ModelError
from holdfast.tasks.average import Running, Triggered, make_average
from holdfast.tasks.checkpoint import Progress, load_progress
from holdfast.tasks.trainer import Plan, Trainer, Work
from tests.helpers import assert_same


class Line(Work):
    """A line through points, with noise from the generator that the loop seeds."""

    def __init__(self, noise: float = 0.1, valid: list[float] | None = None) -> None:
        net = nn.Linear(3, 1)
        with torch.no_grad():
            net.weight.copy_(torch.tensor([[0.3, -0.2, 0.1]]))
            net.bias.fill_(0.5)
        super().__init__(net)
        self.noise = noise
        self.valid = valid
        self.validated = 0

    def steps(self, epoch: int) -> int:
        return 4

    def losses(self, epoch: int) -> Iterator[Tensor | None]:
        for step in range(4):
            x = torch.randn(5, 3)
            y = x.sum(1, keepdim=True) + self.noise * torch.randn(5, 1) + 0.01 * (epoch + step)
            yield (self.net(x) - y).square().mean()

    def validate(self) -> dict[str, float]:
        self.validated += 1
        if self.valid is not None:
            return {"valid_loss": self.valid[self.validated - 1]}
        x = torch.eye(3)
        return {"valid_loss": float((self.net(x) - 1).square().mean())}


PLAN = Plan(learning_rate=0.05, max_epochs=8, patience=8, seed=3)


def variants() -> list[Any]:
    return [
        pytest.param({}, id="adam"),
        pytest.param({"averaging": 0.9}, id="running-steps"),
        pytest.param({"averaging": 0.9, "averaged_by": "epochs"}, id="running-epochs"),
        pytest.param({"optimizer": "sgd", "averaging": "triggered", "trigger": 1}, id="ntasgd"),
        pytest.param({"schedule": "plateau", "warmup": 1.5}, id="plateau"),
        pytest.param({"schedule": "decay", "decay": 1.2, "decay_after": 3}, id="decay"),
        pytest.param({"weight_decay": 0.1, "schedule": "linear"}, id="adamw"),
    ]


@pytest.mark.parametrize("changes", variants())
@pytest.mark.parametrize("stop", [1, 5])
def test_a_resumed_training_is_the_uninterrupted_one(
    changes: dict[str, Any], stop: int, tmp_path: Path
) -> None:
    plan = Plan(**{**vars(PLAN), **changes})
    whole = Progress({})
    trained = Trainer(Line(), plan, whole).run()
    file = tmp_path / "checkpoint"

    class CutError(Exception):
        pass

    def cut(progress: Progress) -> None:
        if progress.epochs == stop:
            raise CutError

    with pytest.raises(CutError):
        Trainer(Line(), plan, Progress({})).run(file, cut)
    progress = load_progress(file, {})
    assert progress.epochs == stop
    assert progress.steps == 4 * stop
    again = Trainer(Line(), plan, progress).run()
    assert progress.history == whole.history
    for name, tensor in again.state_dict().items():
        assert tensor.equal(trained.state_dict()[name]), name


def test_the_global_generator_stays_as_it_was() -> None:
    work = Line()
    before = torch.random.get_rng_state()
    Trainer(work, PLAN, Progress({})).run()
    assert torch.random.get_rng_state().equal(before)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, [1.0, 1.0, 1.0]),
        ({"warmup": 2.0}, [5e-4, 0.5, 1.0]),
        ({"schedule": "linear", "max_epochs": 2}, [1.0, 0.51, 0.02]),
        ({"schedule": "cosine", "max_epochs": 2}, [1.0, 0.51, 0.02]),
        ({"schedule": "decay", "decay": 2.0, "decay_after": 1}, [1.0, 1.0, 0.5]),
        ({"schedule": "plateau", "decay": 4.0}, [1.0, 1.0, 0.25]),
    ],
)
def test_rates(changes: dict[str, Any], wanted: list[float]) -> None:
    plan = Plan(**{**vars(PLAN), "learning_rate": 1.0, **changes})
    losses = [3.0, 3.0]
    assert_same([plan.rate(epoch, losses[:epoch]) for epoch in range(3)], wanted)


def test_the_best_epoch_is_kept_and_patience_ends_it() -> None:
    progress = Progress({})
    plan = Plan(**{**vars(PLAN), "patience": 2})
    work = Line(valid=[3.0, 1.0, 2.0, 1.5, 0.1])
    Trainer(work, plan, progress).run()
    assert (progress.epochs, progress.best_epoch, progress.best_loss) == (4, 2, 1.0)
    assert_same(work.net.state_dict(), progress.best)


def test_a_task_chooses_what_the_best_epoch_is() -> None:
    class Scored(Line):
        def error(self, found: dict[str, float]) -> float:
            return -found["valid_loss"]

    progress = Progress({})
    Trainer(Scored(valid=[1.0, 3.0, 2.0]), Plan(**{**vars(PLAN), "max_epochs": 3}), progress).run()
    assert progress.best_epoch == 2


def test_a_training_that_diverges_says_what_to_do() -> None:
    with pytest.raises(ModelError, match=r"epoch 1.*lower the learning rate"):
        Trainer(Line(valid=[float("nan")]), PLAN, Progress({})).run()


def test_the_triggered_average_is_the_mean_since_the_trigger() -> None:
    net = nn.Linear(1, 1, bias=False)
    average = Triggered(net, patience=1)
    values = [4.0, 2.0, 7.0]
    seen = []
    for losses in ([], [2.0], [2.0, 1.0, 3.0]):
        average.begin(losses, 0)
        for value in values:
            with torch.no_grad():
                net.weight.fill_(value)
            average.update(0)
        average.follow()
        seen.append(float(average.tensors["weight"]))
    assert_same(seen, [7.0, 7.0, sum(values) / 3])


def test_the_mean_is_that_of_all_weights() -> None:
    net = nn.Linear(1, 1, bias=False)
    average = make_average(net, "mean", "steps", patience=1)
    for value, losses in ((4.0, []), (1.0, []), (1.0, [2.0, 1.0])):
        average.begin(losses, 0)
        with torch.no_grad():
            net.weight.fill_(value)
        average.update(0)
        average.follow()
    assert_same(float(average.tensors["weight"]), 2.0)


def test_a_running_average_counts_steps_or_epochs() -> None:
    def last(by: str) -> float:
        net = nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            net.weight.zero_()
        average = Running(net, 0.99, by)
        average.begin([], 90)
        with torch.no_grad():
            net.weight.fill_(1.0)
        average.update(0)
        return float(average.tensors["weight"])

    assert_same([last("steps"), last("epochs")], [1 - 91 / 100, 1 - 1 / 10])


def test_a_work_may_slow_its_steps() -> None:
    class Slow(Line):
        def losses(self, epoch: int) -> Iterator[Tensor | None]:
            for loss in super().losses(epoch):
                self.pace = 0.25
                yield loss

    plan = Plan(learning_rate=0.04, max_epochs=1, patience=1, seed=3, optimizer="sgd")
    slower = Trainer(Slow(), plan, Progress({})).run()
    wanted = Trainer(Line(), Plan(**{**vars(plan), "learning_rate": 0.01}), Progress({})).run()
    for mine, theirs in zip(slower.parameters(), wanted.parameters(), strict=True):
        assert_same(mine, theirs)

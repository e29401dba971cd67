"""How long it takes to reach a loss: our layers, and `torch.nn.LSTM` in the same training loop."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.papers.folder import missing
from benchmarks.text.language import FILE, war_and_peace
from benchmarks.text.registry import Amount, Row, experiment
from benchmarks.text.word_language_model import NARROW, OURS, THEIRS
from holdfast.tasks.language.estimator import LanguageModel
from holdfast.tasks.language.net import LanguageNet, Shape
from holdfast.tasks.language.scoring import stream_losses
from holdfast.tasks.language.settings import preset
from holdfast.tasks.language.tokens import Tokens, learn_tokens
from holdfast.tasks.language.training import LanguageWork
from holdfast.tasks.rows import clip_gradients
from holdfast.tasks.trainer import Plan, make_optimizer

TARGET = 1.75
"""Nats a character of the watched part that each is to reach."""
WATCHED = 20_000
"""Characters of it that are scored after every turn, which is not timed."""
TURN = 25
"""Steps of a turn; contenders take turns, so that what else the machine does falls on all."""
MOST = 803
"""Steps at most: one epoch."""


class TheirNet(LanguageNet):
    """The network with `torch.nn.LSTM`, a linear layer and cross-entropy in the place of ours."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        assert self.decoder is not None
        pairs = zip(shape.widths[:-1], shape.widths[1:], strict=True)
        self.layers = nn.ModuleList(nn.LSTM(*pair) for pair in pairs)

    def mean_loss(self, said: Tensor, targets: Tensor) -> Tensor:
        """By PyTorch's operations."""
        assert self.decoder is not None
        return functional.cross_entropy(self.decoder(said), targets)

    def losses(self, said: Tensor, targets: Tensor) -> Tensor:
        """By PyTorch's operations."""
        assert self.decoder is not None
        return functional.cross_entropy(self.decoder(said), targets, reduction="none")


@dataclass(frozen=True)
class Problem:
    """Streams to train on and to watch, and how both are read."""

    tokens: Tokens
    train: np.ndarray
    valid: np.ndarray
    shape: Shape


class Course:
    """A training under way: steps, seconds in them, and the loss that is watched."""

    def __init__(self, net: LanguageNet, problem: Problem, narrow: bool) -> None:
        self.net, self.problem, self.narrow = net, problem, narrow
        settings = preset("char-medium")
        begin = problem.tokens.end
        self.work = LanguageWork(
            net,
            problem.train,
            problem.valid,
            rows=settings["batch_size"],
            begin=begin,
            length=settings["steps"],
        )
        self.plan = Plan(settings["learning_rate"], 1, 1, 0, betas=(0.9, 0.99), warmup=0.2)
        self.parameters = list(net.parameters())
        self.optimizer = make_optimizer(self.parameters, self.plan)
        self.losses = iter(self.work.losses(0))
        self.all = self.work.steps(0)
        self.steps, self.seconds, self.loss = 0, 0.0, float("inf")

    def turn(self, steps: int) -> None:
        """Some steps, then a look at the watched part."""
        self.net.train()
        for _ in range(min(steps, self.all - self.steps)):
            began = time.perf_counter()
            for group in self.optimizer.param_groups:
                group["lr"] = self.plan.rate(self.steps / self.all)
            self.optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=self.narrow):
                loss = next(self.losses)
            assert loss is not None
            loss.backward()
            clip_gradients(self.parameters, self.plan.gradient_clip)
            self.optimizer.step()
            self.seconds += time.perf_counter() - began
            self.steps += 1
        self.net.eval()
        rows = max(1, len(self.problem.valid) // 1000)
        with torch.no_grad():
            found = stream_losses(
                self.net, self.problem.valid, self.problem.tokens.end, rows, "cpu"
            )
        self.loss = float(found.double().mean())


def problem(quick: bool) -> Problem | None:
    """War and Peace by characters; None where it is not there."""
    parts = war_and_peace(quick=quick)
    if parts is None:
        return None
    tokens = learn_tokens(parts[0], LanguageModel.preset("char-medium").get_params(), False)
    train, valid = tokens.encode(parts[0]), tokens.encode(parts[1][:WATCHED])
    shape = Shape(len(tokens), hidden_size=8 if quick else 512, embedding_size=64)
    return Problem(tokens, train, valid, shape)


def courses(given: Problem) -> dict[str, Course]:
    """The contenders, which begin with the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours, theirs = LanguageNet(given.shape), TheirNet(given.shape)
    theirs.load_state_dict(ours.state_dict())
    return {
        OURS: Course(ours, given, narrow=False),
        THEIRS: Course(theirs, given, narrow=False),
        f"{OURS}, {NARROW}": Course(copy.deepcopy(ours), given, narrow=True),
        f"{THEIRS}, {NARROW}": Course(copy.deepcopy(theirs), given, narrow=True),
    }


@experiment("language-time", "Time to a loss, War and Peace, characters, 1 x 512", kind="speed")
def reach(amount: Amount) -> Iterator[Row]:
    """Seconds of training until the watched part costs `TARGET` nats a character."""
    given = problem(amount.quick)
    if given is None:
        yield Row(OURS, note=missing(FILE))
        return
    contenders = courses(given)
    most, turn = (4, 2) if amount.quick else (MOST, TURN)
    under_way = list(contenders.values())
    while under_way:
        for one in under_way:
            one.turn(turn)
        under_way = [one for one in under_way if one.loss > TARGET and one.steps < most]
        under_way.reverse()
    for name, one in contenders.items():
        yield Row(
            name,
            {
                "seconds": (one.seconds,),
                "steps": (float(one.steps),),
                "ms a step": (1e3 * one.seconds / one.steps,),
                "nats reached": (one.loss,),
            },
            f"from the same weights in the same loop, to {TARGET} nats a character",
        )

"""Scores of a stream: the loss of every token once, states carried from the first to the last."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from holdfast.tasks.language.net import LanguageNet, States, detached, rows_of
from holdfast.tasks.terminal import aligned

# Tokens of a pass over one row; the losses of a pass fit into the caches.
PASS = 256


@dataclass(frozen=True)
class Score:
    """How well a model knew what came next.

    >>> score = Score(np.full(4, math.log(2.0)), characters=8, unknown=0, level="word")
    >>> score.perplexity, score.bits, score.bits_per_character
    (2.0, 1.0, 0.5)

    losses: minus the log-probability of each token, (n,), in nats. characters: of the text.
    unknown: tokens that training never met; they are scored as `<unk>`.
    """

    losses: np.ndarray
    characters: int
    unknown: int
    level: str

    @property
    def nats(self) -> float:
        """A token, on average."""
        return float(self.losses.mean())

    @property
    def bits(self) -> float:
        """A token, on average."""
        return self.nats / math.log(2.0)

    @property
    def perplexity(self) -> float:
        """The number of equally likely tokens that would be as hard to guess."""
        return math.exp(self.nats)

    @property
    def bits_per_character(self) -> float:
        """Of the text, whatever its tokens are."""
        return float(self.losses.sum()) / math.log(2.0) / self.characters

    def text(self) -> str:
        """The score as a table."""
        rows = [
            ["tokens", f"{len(self.losses):,}"],
            ["unknown tokens", f"{self.unknown:,}"],
            ["perplexity", f"{self.perplexity:.3f}"],
            [f"nats per {self.level}", f"{self.nats:.4f}"],
            [f"bits per {self.level}", f"{self.bits:.4f}"],
        ]
        if self.level != "character":
            rows.append(["bits per character", f"{self.bits_per_character:.4f}"])
        return aligned(["", "score"], rows)


@torch.no_grad()
def stream_losses(
    net: LanguageNet,
    stream: np.ndarray,
    begin: int,
    rows: int = 1,
    device: str = "cpu",
) -> Tensor:
    """Minus the log-probability of each token of a stream (n,), in nats, float32.

    With several `rows` the stream is cut into as many parts that are read side by side; each begins
    with the state of a text's beginning, which costs its first tokens a little.
    """
    if not len(stream):
        return torch.zeros(0)
    # The first `more` rows are longer by one token.
    steps, more = divmod(len(stream), rows)
    starts = np.arange(rows) * steps + np.minimum(np.arange(rows), more)
    at = torch.from_numpy(starts + np.arange(steps + bool(more))[:, None])  # [T, rows]
    parts = list(at[:steps].split(max(1, PASS // max(1, rows // 8)))) if steps else []
    if more:
        parts.append(at[steps:, :more])
    before, after = _shifted(stream, begin)
    found = torch.zeros(len(stream))
    states: States | None = None
    for part in parts:
        if states is not None and part.shape[1] < rows:
            states = rows_of(states, part.shape[1])
        passed = net(before[part].to(device), states)
        states = passed.states
        flat = net.losses(passed.said.flatten(0, 1), after[part].to(device).ravel())
        found[part.ravel()] = flat.cpu()
    return found


@dataclass(frozen=True)
class Cache:
    """What was said lately is likelier to be said again (Grave, Joulin & Usunier 2017).

    p = (1 - weight) p_model + weight p_cache, where p_cache(w) is the share of the exp(flatness *
    h_t . h_i) over the last `size` tokens i that falls on those followed by w (equations 1 to 3).
    """

    size: int = 500
    weight: float = 0.1
    flatness: float = 0.3


class _Seen:
    """The outputs before the last tokens, and these tokens."""

    def __init__(self, how: Cache, units: int) -> None:
        self.how = how
        self.outputs, self.tokens = torch.zeros(0, units), torch.zeros(0, dtype=torch.int64)

    def mix(self, losses: Tensor, said: Tensor, targets: Tensor) -> Tensor:
        """The losses `[T]` of targets `[T]` after outputs `[T, H]`, with what was seen before."""
        steps, size = len(said), self.how.size
        outputs = torch.cat([self.outputs, said])
        tokens = torch.cat([self.tokens, targets])
        places = torch.arange(len(tokens))
        here = (len(self.tokens) + torch.arange(steps)).unsqueeze(1)
        scores = self.how.flatness * said @ outputs.T  # [T, N + T]
        hidden = (places >= here) | (places < here - size)
        chances = scores.masked_fill(hidden, -math.inf).softmax(1)
        again = (chances * (tokens == targets.unsqueeze(1))).sum(1)
        empty = hidden.all(1)
        weight = torch.where(empty, 0.0, self.how.weight)
        again = torch.where(empty, 0.0, again)
        mixed = -torch.log((1 - weight) * (-losses).exp() + weight * again)
        self.outputs, self.tokens = outputs[-size:], tokens[-size:]
        return mixed


@dataclass(frozen=True)
class Dynamic:
    """The model goes on learning from what it has just been scored on (Krause et al. 2018).

    After every `steps` tokens the weights take a step of gradient descent with `learning_rate`, and
    go back towards the trained ones by the share `decay`. With the statistics of gradients that
    `gradient_squares` gives, both are scaled as in the paper (RMS); `epsilon` is added to the root.
    """

    learning_rate: float = 0.1
    decay: float = 0.001
    steps: int = 20
    clip: float = 1.0
    epsilon: float = 1e-3


def adapted_losses(
    net: LanguageNet,
    stream: np.ndarray,
    begin: int,
    cache: Cache | None = None,
    dynamic: Dynamic | None = None,
    squares: dict[str, Tensor] | None = None,
) -> Tensor:
    """As `stream_losses` of one row, with a cache, with weights that go on learning, or both.

    The network has its weights again afterwards.
    """
    before, after = _shifted(stream, begin)
    length = PASS if dynamic is None else dynamic.steps
    seen = None if cache is None else _Seen(cache, net.shape.widths[-1])
    learner = None if dynamic is None else _Learner(net, dynamic, squares)
    found, states, done = torch.empty(len(stream)), None, 0
    try:
        for inputs, targets in zip(before.split(length), after.split(length), strict=True):
            with torch.set_grad_enabled(learner is not None):
                passed = net(inputs.unsqueeze(1), states)
                states = detached(passed.states)
                said = passed.said.squeeze(1)
                losses = net.losses(said, targets)
            kept = losses.detach()
            kept = kept if seen is None else seen.mix(kept, said.detach(), targets)
            # In one tensor: small ones that stay would lie between the large ones that go, and
            # memory in such pieces could not be used again.
            found[done : done + len(kept)] = kept
            done += len(kept)
            if learner is not None:
                learner.learn(losses.mean())
    finally:
        if learner is not None:
            learner.forget()
    return found


def gradient_squares(
    net: LanguageNet, stream: np.ndarray, begin: int, steps: int
) -> dict[str, Tensor]:
    """The mean squares of the gradients of pieces of `steps` tokens, by parameter."""
    before, after = _shifted(stream, begin)
    sums = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    states, count = None, 0
    for inputs, targets in zip(before.split(steps), after.split(steps), strict=True):
        passed = net(inputs.unsqueeze(1), states)
        states = detached(passed.states)
        net.zero_grad()
        net.losses(passed.said.squeeze(1), targets).mean().backward()
        for name, parameter in net.named_parameters():
            if parameter.grad is not None:
                sums[name] += parameter.grad.square()
        count += 1
    net.zero_grad()
    return {name: total / max(1, count) for name, total in sums.items()}


class _Learner:
    """Steps down the gradient, each with one back towards the trained weights."""

    def __init__(
        self, net: LanguageNet, how: Dynamic, squares: Mapping[str, Tensor] | None
    ) -> None:
        self.net = net
        self.how = how
        self.trained = {name: p.detach().clone() for name, p in net.named_parameters()}
        self.roots: dict[str, Tensor] = {}
        self.back: dict[str, Tensor] = {}
        if squares is None:
            return
        roots = {name: square.sqrt() for name, square in squares.items()}
        numbers = sum(root.numel() for root in roots.values())
        mean = max(float(sum(root.sum() for root in roots.values())) / numbers, 1e-12)
        for name, root in roots.items():
            self.roots[name] = root + how.epsilon
            self.back[name] = (how.decay * root / mean).clamp(max=1.0)

    def learn(self, loss: Tensor) -> None:
        """A step from a loss that has just been scored."""
        net, how = self.net, self.how
        net.zero_grad()
        loss.backward()
        if how.clip:
            torch.nn.utils.clip_grad_norm_(net.parameters(), how.clip)
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if parameter.grad is None:
                    continue
                away = self.trained[name] - parameter
                step = parameter.grad
                if name in self.roots:
                    step, away = step / self.roots[name], away * self.back[name]
                else:
                    away = away * how.decay
                parameter.add_(step, alpha=-how.learning_rate).add_(away)

    def forget(self) -> None:
        """Give the network its trained weights again."""
        with torch.no_grad():
            for name, parameter in self.net.named_parameters():
                parameter.copy_(self.trained[name])
                parameter.grad = None


def _shifted(stream: np.ndarray, begin: int) -> tuple[Tensor, Tensor]:
    """What stands before each token, and the tokens, (n,) each."""
    before = np.concatenate([[begin], stream[:-1]]) if len(stream) else stream
    return torch.from_numpy(before), torch.from_numpy(stream)

"""The network of a language model: vectors of tokens, recurrent layers, what comes next."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from holdfast.errors import DataError
from holdfast.nn.checks import find_cell
from holdfast.nn.persistent import PersistentLSTM
from holdfast.nn.readout import readout, readout_loss
from holdfast.nn.recurrent import Recurrent

PERSISTENT = "persistent"
# Words of each further part of an adaptive softmax have vectors this many times smaller.
SMALLER = 4.0

States = list[Any]


@dataclass(frozen=True)
class Dropouts:
    """Shares that are dropped in training (Merity, Keskar & Socher 2018, section 4).

    embedding: of whole tokens. input, between, output: of numbers before the first layer, between
    layers and behind the last one; `variational` draws them once a sequence of steps and row, else
    anew at each step. weight: of the recurrent weights.
    """

    embedding: float = 0.0
    input: float = 0.0
    between: float = 0.0
    output: float = 0.0
    weight: float = 0.0
    variational: bool = True


@dataclass(frozen=True)
class Shape:
    """What a network looks like. `init_scale`: all weights from U(-s, s), or as layers draw them.

    cutoffs: with them, an adaptive softmax whose parts begin at these numbers of tokens.
    """

    tokens: int
    cell: str = "lstm"
    hidden_size: int = 256
    num_layers: int = 1
    embedding_size: int | None = None
    tied: bool = False
    cutoffs: tuple[int, ...] = ()
    init_scale: float | None = None
    forget_bias: float | None = None
    dropouts: Dropouts = field(default_factory=Dropouts)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def widths(self) -> list[int]:
        """Of the input and of each layer's output."""
        inside = [self.hidden_size] * self.num_layers
        first = self.embedding_size or self.hidden_size
        return [first, *inside[:-1], first if self.tied else inside[-1]]


@dataclass(frozen=True)
class Passed:
    """What comes out of the layers: `said` and, without the last dropout, `raw`, `[T, B, H]`."""

    said: Tensor
    raw: Tensor
    states: States


class LanguageNet(nn.Module):
    """Say what comes after each token.

    >>> net = LanguageNet(Shape(tokens=7, hidden_size=5))
    >>> passed = net(torch.zeros(3, 2, dtype=torch.int64))  # [T, B]
    >>> tuple(passed.said.shape), tuple(net.log_probs(passed.said).shape)
    ((3, 2, 5), (3, 2, 7))

    Each layer is a module of its own, so that what drops between them can be drawn once a row.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        widths = shape.widths
        self.embedding = nn.Embedding(shape.tokens, widths[0])
        self.layers = nn.ModuleList(_layer(shape, *pair) for pair in pairwise(widths))
        self.adaptive: nn.AdaptiveLogSoftmaxWithLoss | None = None
        self.decoder: nn.Linear | None = None
        if shape.cutoffs:
            self.adaptive = nn.AdaptiveLogSoftmaxWithLoss(
                widths[-1], shape.tokens, list(shape.cutoffs), SMALLER, head_bias=True
            )
        elif shape.tied:
            self.bias = nn.Parameter(torch.zeros(shape.tokens))
        else:
            self.decoder = nn.Linear(widths[-1], shape.tokens)
        self._draw()

    def _draw(self) -> None:
        """First values."""
        scale = self.shape.init_scale
        if scale is not None:
            for parameter in self.parameters():
                nn.init.uniform_(parameter, -scale, scale)
            return
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        if self.decoder is not None:
            nn.init.zeros_(self.decoder.bias)

    @property
    def _readout(self) -> tuple[Tensor, Tensor]:
        """Weight `[V, H]` and bias `[V]` of the output."""
        if self.decoder is None:
            return self.embedding.weight, self.bias
        return self.decoder.weight, self.decoder.bias

    def forward(self, tokens: Tensor, states: States | None = None) -> Passed:
        """The layers over `tokens` `[T, B]`, from `states` on, which earlier calls returned."""
        drops = self.shape.dropouts
        x = self._drop(self._embed(tokens), drops.input)
        found: States = []
        given = states or [None] * len(self.layers)
        for number, (layer, state) in enumerate(zip(self.layers, given, strict=True)):
            x, last = layer(x, state)
            found.append(last)
            if number + 1 < len(self.layers):
                x = self._drop(x, drops.between)
        return Passed(self._drop(x, drops.output), x, found)

    def _embed(self, tokens: Tensor) -> Tensor:
        """The vectors of tokens; some tokens are nothing at all in this pass."""
        weight, p = self.embedding.weight, self.shape.dropouts.embedding
        if self.training and p:
            kept = torch.rand(len(weight), 1, device=weight.device) >= p
            weight = weight * (kept / (1 - p))
        return functional.embedding(tokens, weight)

    def _drop(self, x: Tensor, p: float) -> Tensor:
        if not (self.training and p):
            return x
        if not self.shape.dropouts.variational:
            return functional.dropout(x, p)
        kept = torch.rand(x.shape[1:], dtype=x.dtype, device=x.device) >= p
        return x * (kept / (1 - p))

    def losses(self, said: Tensor, targets: Tensor) -> Tensor:
        """Minus the log-probability of each target, `[N]`, from `said` `[N, H]`."""
        if self.adaptive is not None:
            return -self.adaptive(said, targets).output
        logits = readout(said, *self._readout)
        return functional.cross_entropy(logits, targets, reduction="none")

    def mean_loss(self, said: Tensor, targets: Tensor) -> Tensor:
        """The mean of `losses`, with its gradients at once where that is compiled."""
        if self.adaptive is not None:
            return self.adaptive(said, targets).loss
        return readout_loss(said, *self._readout, targets)

    def log_probs(self, said: Tensor) -> Tensor:
        """The log-probability of every token, `[..., V]`, from `said` `[..., H]`."""
        if self.adaptive is not None:
            flat = self.adaptive.log_prob(said.flatten(0, -2))
            return flat.view(*said.shape[:-1], -1)
        return readout(said, *self._readout).log_softmax(-1)


def _layer(shape: Shape, inputs: int, units: int) -> nn.Module:
    options: dict[str, Any] = dict(shape.options)
    if shape.dropouts.weight:
        options["weight_dropout"] = shape.dropouts.weight
    if shape.cell == PERSISTENT:
        if shape.forget_bias is not None:
            options["forget_bias"] = shape.forget_bias
        return PersistentLSTM(inputs, units, **options)
    if shape.forget_bias is not None and "f" in find_cell(shape.cell).gates:
        options["forget_bias"] = shape.forget_bias
    try:
        return Recurrent(shape.cell, inputs, units, **options)
    except (TypeError, ValueError) as error:
        raise DataError(f"cell={shape.cell!r}: {error}") from error


def detached(states: States | Any) -> Any:
    """The same states, through which no gradient flows back."""
    if isinstance(states, Tensor):
        return states.detach()
    if isinstance(states, (tuple, list)):
        return type(states)(detached(state) for state in states)
    return states


def rows_of(states: Any, rows: int) -> Any:
    """The states of the first `rows` rows."""
    if isinstance(states, Tensor):
        return states[..., :rows, :] if states.dim() > 1 else states[:rows]
    return type(states)(rows_of(state, rows) for state in states)

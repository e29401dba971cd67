"""Texts drawn token by token, each as soon as it is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.errors import DataError
from holdfast.nn.recurrent import Recurrent
from holdfast.nn.sampling import check_sampling, draw, narrow
from holdfast.nn.stepper import Stepper
from holdfast.tasks.language.net import LanguageNet, States


@dataclass(frozen=True)
class How:
    """How tokens are drawn; at temperature 0 the likeliest is taken.

    Errors: `DataError` for numbers out of range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        try:
            check_sampling(self.temperature or 1.0, self.top_k, self.top_p)
        except ValueError as error:
            raise DataError(str(error)) from error
        if not isinstance(self.seed, int) or self.seed < 0:
            raise DataError(f"seed={self.seed!r}; expected a whole number from 0 on")


class Voice:
    """A network that says one token after the other, for rows side by side.

    Layers of one cell run as streams (`holdfast.nn.Stepper`), others as they are, a step a call.
    """

    def __init__(self, net: LanguageNet, states: States, rows: int) -> None:
        self.net = net
        self.layers: list[Any] = []
        self.states: list[Any] = []
        for layer, state in zip(net.layers, states, strict=True):
            wide = _repeated(state, rows)
            if isinstance(layer, Recurrent):
                stepper = layer.stepper(batch=rows)
                stepper.state = wide
                self.layers.append(stepper)
            else:
                self.layers.append(layer)
            self.states.append(wide)

    @torch.no_grad()
    def __call__(self, tokens: Tensor) -> Tensor:
        """The log-probabilities of what follows tokens `[B]`: `[B, V]`."""
        x = self.net.embedding(tokens)
        for number, layer in enumerate(self.layers):
            if isinstance(layer, Stepper):
                x = layer(x)
            else:
                out, self.states[number] = layer(x.unsqueeze(0), self.states[number])
                x = out.squeeze(0)
        return self.net.log_probs(x)


def drawn(
    net: LanguageNet,
    prefix: np.ndarray,
    begin: int,
    length: int,
    rows: int,
    how: How,
    never: int | None,
) -> Iterator[Tensor]:
    """`length` times the next token of each row, `[rows]`, after the tokens of a prefix.

    never: the number of a token that is not drawn.
    """
    generator = torch.Generator().manual_seed(how.seed)
    read = torch.from_numpy(np.concatenate([[begin], prefix])).unsqueeze(1)
    with torch.no_grad():
        passed = net(read)
        found = net.log_probs(passed.said[-1]).expand(rows, -1)
    voice = Voice(net, passed.states, rows)
    for number in range(length):
        if never is not None:
            found = found.clone()
            found[:, never] = -torch.inf
        if how.temperature:
            chances = narrow(found, how.temperature, how.top_k, how.top_p)
            tokens = draw(chances, generator)
        else:
            tokens = found.argmax(1)
        yield tokens
        if number + 1 < length:
            found = voice(tokens)


def _repeated(state: Any, rows: int) -> Any:
    """The states of one row for several: a batch is the last dimension but one, or the only."""
    if isinstance(state, Tensor):
        if state.dim() == 1:
            return state.expand(rows).clone()
        return state.expand(*state.shape[:-2], rows, state.shape[-1]).clone()
    return tuple(_repeated(one, rows) for one in state)

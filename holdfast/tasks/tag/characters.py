"""Words from their characters: a vector for each, by an LSTM over them or by a convolution."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from holdfast.nn import LSTM
from holdfast.tasks.tag.dropping import dropout, dropped

HIDDEN = 0.01
"""The share of characters that training takes for unknown ones, so that such are no surprise."""
UNKNOWN = 1
WIDTH = 3


class Characters(nn.Module, ABC):
    """Vectors of `output_size` numbers for words, from their characters.

    Arguments:
        count: characters that are known, with padding and the unknown one in front.
        size: numbers of a character's vector.
        units: of each direction, or filters.
        dropout: of the characters' vectors.
    """

    output_size: int

    def __init__(self, count: int, size: int, units: int, dropout: float) -> None:
        super().__init__()
        self.table = nn.Embedding(count, size, padding_idx=0)
        with torch.no_grad():
            self.table.weight[1:].uniform_(-((3 / size) ** 0.5), (3 / size) ** 0.5)
        self.dropout = dropout
        self.units = units

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Characters `[L, U]` of U words and how many each has, `[U]`, as vectors `[U, output]`."""
        if self.training:
            hidden = dropped(ids.shape, HIDDEN).to(ids.device) & (ids > 0)
            ids = ids.masked_fill(hidden, UNKNOWN)
        x = dropout(self.table(ids), self.dropout, self.training)
        return self.join(x, lengths)

    @abstractmethod
    def join(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Vectors of characters, `[L, U, size]`, to one of each word."""


class CharacterLSTM(Characters):
    """The last states of an LSTM that reads a word forward, and of one that reads it backward.

    Source: Lample et al. 2016.
    """

    def __init__(self, count: int, size: int, units: int, dropout: float) -> None:
        super().__init__(count, size, units, dropout)
        self.layer = LSTM(size, units, bidirectional=True, forget_bias=1.0)
        self.output_size = 2 * units

    def join(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The last states of both directions."""
        _, (h, _) = self.layer(x, lengths=lengths)
        return torch.cat([h[0], h[1]], 1)


class CharacterCNN(Characters):
    """The largest value of each filter over all places of a word.

    Source: Ma & Hovy 2016; filters see three characters.
    """

    def __init__(self, count: int, size: int, units: int, dropout: float) -> None:
        super().__init__(count, size, units, dropout)
        self.filters = nn.Linear(WIDTH * size, units)
        self.output_size = units

    def join(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The largest values over places that have a character."""
        steps, count, _ = x.shape
        there = torch.arange(steps, device=x.device).unsqueeze(1) < lengths.to(x.device)
        x = x * there.unsqueeze(2)
        edge = x.new_zeros(1, count, x.shape[2])
        windows = torch.cat([torch.cat([edge, x[:-1]]), x, torch.cat([x[1:], edge])], 2)
        found = self.filters(windows).masked_fill(~there.unsqueeze(2), -torch.inf).amax(0)
        return torch.where((lengths > 0).to(x.device).unsqueeze(1), found, 0.0)


KINDS: dict[str, type[Characters]] = {"lstm": CharacterLSTM, "cnn": CharacterCNN}
"""By the name in a tagger's settings."""

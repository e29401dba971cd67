"""The network: an encoder for texts, one for numbers, or both joined, and the readout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from holdfast.nn import Recurrent
from holdfast.tasks.classify.encoding import Batch
from holdfast.tasks.classify.pooling import Pooling
from holdfast.tasks.classify.tokens import UNKNOWN


@dataclass(frozen=True)
class Shape:
    """What a network is made of; names and meanings are those of the classifier's settings.

    words: entries of the vocabulary, 0 without texts. channels: numbers a step, 0 without numbers.
    outputs: K, classes or labels.
    """

    words: int
    channels: int
    outputs: int
    embedding_size: int = 100
    cell: str = "lstm"
    hidden_size: int = 64
    num_layers: int = 1
    bidirectional: bool = True
    pooling: tuple[str, ...] = ("mean", "max")
    word_dropout: float = 0.0
    embedding_dropout: float = 0.0
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Inputs:
    """What recurrent layers read: `words` `[T, B, E]` and `values` `[T, B, C]`, with lengths."""

    words: Tensor | None
    counts: Tensor | None
    values: Tensor | None
    steps: Tensor | None


class Encoder(nn.Module):
    """A recurrent layer and what is kept of its outputs: sequences `[T, B, I]` to `[B, width]`."""

    def __init__(self, features: int, shape: Shape) -> None:
        super().__init__()
        self.layer = Recurrent(
            shape.cell,
            features,
            shape.hidden_size,
            shape.num_layers,
            bidirectional=shape.bidirectional,
            input_dropout=shape.dropout,
            recurrent_dropout=shape.recurrent_dropout,
            **{"forget_bias": 1.0, **shape.options} if shape.cell == "lstm" else shape.options,
        )
        directions = 2 if shape.bidirectional else 1
        self.pool = Pooling(shape.pooling, shape.hidden_size * directions, directions)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The pooled outputs."""
        return self.pool(self.layer(x, lengths=lengths)[0], lengths)

    def attention(self, x: Tensor, lengths: Tensor) -> Tensor:
        """How much the pooling attends to every step, `[T, B]`."""
        return self.pool.attention(self.layer(x, lengths=lengths)[0], lengths)


class ClassifierNet(nn.Module):
    """Scores of every class, `[B, K]`, of a batch.

    >>> net = ClassifierNet(Shape(words=9, channels=0, outputs=3, hidden_size=4))
    >>> ids, counts = torch.randint(2, 9, (5, 2)), torch.tensor([5, 3])
    >>> tuple(net(Batch(ids, counts)).shape)
    (2, 3)
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width = 0
        self.embedding = self.text = self.numbers = self.joint = None
        if shape.words:
            self.embedding = nn.Embedding(shape.words, shape.embedding_size, padding_idx=0)
            nn.init.normal_(self.embedding.weight, std=0.1)
            with torch.no_grad():
                self.embedding.weight[0] = 0.0
            self.text = Encoder(shape.embedding_size, shape)
            width += self.text.pool.width
        if shape.channels:
            self.numbers = Encoder(shape.channels, shape)
            width += self.numbers.pool.width
        if self.text is not None and self.numbers is not None:
            # A sum of two parts could not say that a text means one thing here, another there.
            self.joint = nn.Linear(width, shape.hidden_size)
            width = shape.hidden_size
        self.readout = nn.Linear(width, shape.outputs)

    def forward(self, batch: Batch) -> Tensor:
        """The scores before softmax, or before sigmoid where labels are several."""
        return self.classify(self.embed(batch))

    def embed(self, batch: Batch) -> Inputs:
        """What the layers read; in training some words are unknown, and some features zero."""
        words = None
        if batch.ids is not None and self.embedding is not None:
            ids = batch.ids
            if self.training and self.shape.word_dropout:
                drawn = torch.rand(ids.shape) < self.shape.word_dropout
                ids = ids.masked_fill((drawn.to(ids.device)) & (ids != 0), UNKNOWN)
            words = self.embedding(ids)
            words = functional.dropout(words, self.shape.embedding_dropout, self.training)
        return Inputs(words, batch.counts, batch.values, batch.steps)

    def classify(self, inputs: Inputs) -> Tensor:
        """The scores of what the layers read."""
        return self.read(self._pooled(inputs))

    def read(self, pooled: Tensor) -> Tensor:
        """The scores of the pooled outputs of one encoder, or of both, `[B, width]`."""
        kept = functional.dropout(pooled, self.shape.dropout, self.training)
        return self.readout(kept if self.joint is None else torch.tanh(self.joint(kept)))

    def _pooled(self, inputs: Inputs) -> Tensor:
        found = []
        if self.text is not None and inputs.words is not None and inputs.counts is not None:
            found.append(self.text(inputs.words, inputs.counts))
        if self.numbers is not None and inputs.values is not None and inputs.steps is not None:
            found.append(self.numbers(inputs.values, inputs.steps))
        return torch.cat(found, 1)

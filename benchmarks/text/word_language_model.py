"""A training step of PyTorch's example `word_language_model`, and ours with the same weights.

The reference is written after the example (pytorch/examples, word_language_model): an embedding,
dropout, `torch.nn.LSTM`, dropout, a linear layer, log-softmax and negative log-likelihood; states
carried by detaching, gradients clipped at 0.25, and plain gradient descent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from holdfast.tasks.language.net import Dropouts, LanguageNet, Shape, detached


@dataclass(frozen=True)
class Size:
    """Words, features, units, layers, steps, rows and dropout; the defaults are the example's."""

    words: int = 33_278
    features: int = 200
    units: int = 200
    layers: int = 2
    steps: int = 35
    rows: int = 20
    dropout: float = 0.2


CLIP, RATE = 0.25, 1.0
OURS, THEIRS, NARROW = "holdfast", "torch.nn.LSTM", "bfloat16"


class RNNModel(nn.Module):
    """The example's model."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.drop = nn.Dropout(size.dropout)
        self.encoder = nn.Embedding(size.words, size.features)
        self.rnn = nn.LSTM(
            size.features,
            size.units,
            size.layers,
            dropout=size.dropout if size.layers > 1 else 0.0,
        )
        self.decoder = nn.Linear(size.units, size.words)
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)

    def forward(self, input: Tensor, hidden: Any) -> tuple[Tensor, Any]:
        """Log-probabilities `[T * B, V]`, and the last states."""
        emb = self.drop(self.encoder(input))
        output, hidden = self.rnn(emb, hidden)
        decoded = self.decoder(self.drop(output))
        return functional.log_softmax(decoded.view(-1, decoded.shape[-1]), dim=1), hidden

    def loss(self, input: Tensor, target: Tensor, hidden: Any) -> tuple[Tensor, Any]:
        """The mean loss of a piece, and the states to go on with."""
        output, hidden = self(input, hidden)
        return functional.nll_loss(output, target.reshape(-1)), detached(hidden)


class Ours(nn.Module):
    """Our network with the weights of the example's."""

    def __init__(self, theirs: RNNModel, size: Size) -> None:
        super().__init__()
        p = size.dropout
        drops = Dropouts(input=p, between=p, output=p, variational=False)
        self.net = LanguageNet(
            Shape(
                tokens=size.words,
                hidden_size=size.units,
                num_layers=size.layers,
                embedding_size=size.features,
                dropouts=drops,
            )
        )
        weights = {"embedding.weight": theirs.encoder.weight}
        weights |= {f"decoder.{name}": p for name, p in theirs.decoder.named_parameters()}
        for name, parameter in theirs.rnn.named_parameters():
            kind, _, layer = name.rpartition("_l")
            weights[f"layers.{layer}.{kind}_l0"] = parameter
        self.net.load_state_dict(weights)

    def loss(self, input: Tensor, target: Tensor, hidden: Any) -> tuple[Tensor, Any]:
        """The mean loss of a piece, and the states to go on with."""
        passed = self.net(input, hidden)
        loss = self.net.mean_loss(passed.said.flatten(0, 1), target.reshape(-1))
        return loss, detached(passed.states)


class Loop:
    """The example's training loop over one piece, again and again.

    Arguments:
        narrow: whether its products are of bfloat16, under autocast.
    """

    def __init__(self, model: RNNModel | Ours, size: Size, narrow: bool = False) -> None:
        self.narrow = narrow
        generator = torch.Generator().manual_seed(0)
        shape = (size.steps + 1, size.rows)
        # As rare as words are: the k-th most frequent one about 1 / k times as often as the first.
        drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
        stream = (size.words**drawn).long().clamp(max=size.words) - 1
        self.model, self.hidden = model.train(), None
        self.input, self.target = stream[:-1].contiguous(), stream[1:].contiguous()

    def __call__(self) -> float:
        """One step; the loss before it."""
        model = self.model
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.narrow):
            loss, self.hidden = model.loss(self.input, self.target, self.hidden)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        for p in model.parameters():
            assert p.grad is not None
            p.data.add_(p.grad, alpha=-RATE)
        return loss.item()


def loops(size: Size) -> dict[str, Callable[[], float]]:
    """The loop of each contender, begun with the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = RNNModel(size)
        copies = [RNNModel(size) for _ in range(2)]
    for copy in copies:
        copy.load_state_dict(theirs.state_dict())
    return {
        OURS: Loop(Ours(theirs, size), size),
        THEIRS: Loop(theirs, size),
        f"{OURS}, {NARROW}": Loop(Ours(copies[0], size), size, narrow=True),
        f"{THEIRS}, {NARROW}": Loop(copies[1], size, narrow=True),
    }

"""What a step of training sees: sentences of nearly equal length, rare words hidden at times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from holdfast.data.text import LengthBatches, score_chunks
from holdfast.tasks.tag.encoded import Encoded, counts_of
from holdfast.tasks.tag.labels import Labels, is_chunks
from holdfast.tasks.tag.net import TagNet
from holdfast.tasks.trainer import Work

ROWS, TOKENS = 128, 16_384
"""Sentences, and tokens with padding, of a batch that is not trained on."""


@dataclass(frozen=True, eq=False)
class Held:
    """Sentences that are held out: as numbers, and their tags as the user wrote them."""

    encoded: Encoded
    tags: list[list[str | None]]


class Tagging(Work):
    """Sentences as steps of a training.

    A word that occurs n times is taken for an unknown one with the probability `rare` / (`rare` +
    n), so that the vector of unknown words is learned (Kiperwasser & Goldberg 2016). The best epoch
    is the one with the highest F1 of chunks on held-out sentences, or the highest accuracy.
    """

    def __init__(
        self,
        net: TagNet,
        labels: Labels,
        training: Encoded,
        held_out: Held,
        batch_size: int,
        rare: float,
        seed: int,
        device: str = "cpu",
    ) -> None:
        super().__init__(net)
        self.network = net
        self.labels = labels
        self.training = training
        self.held_out = held_out
        self.device = device
        self.batches = LengthBatches(training.lengths.tolist(), sentences=batch_size, seed=seed)
        self.order: tuple[int, list[np.ndarray]] = (-1, [])
        counts = counts_of(training, int(training.forms.words.max(initial=0)) + 1)
        times = counts[training.forms.words[training.tokens]]
        self.rare = rare / (rare + np.maximum(times, 1))  # [N]

    def steps(self, epoch: int) -> int:
        """How many batches the epoch has."""
        if self.order[0] != epoch:
            self.order = epoch, self.batches.epoch(epoch)
        return len(self.order[1])

    def losses(self, epoch: int) -> Iterator[Tensor | None]:
        """The loss of every batch: minus the log-likelihood of its tags, per token."""
        self.steps(epoch)
        for numbers in self.order[1]:
            batch = self.training.batch(numbers, self.rare).to(self.device)
            tokens = max(1, int(batch.lengths.sum()))
            yield -self.network.likelihood(self.network(batch), batch) / tokens

    def validate(self) -> dict[str, float]:
        """The mean loss per token, and F1 or accuracy, of the held-out sentences."""
        total = 0.0
        encoded = self.held_out.encoded
        predicted: list[list[str]] = [[] for _ in self.held_out.tags]
        whole = self.network.crf is not None
        for numbers in even_batches(encoded):
            batch = encoded.batch(numbers).to(self.device)
            scores = self.network(batch)
            total -= float(self.network.likelihood(scores, batch))
            found = self.network.decode(scores, batch.lengths).T.cpu().numpy()
            for number, row, length in zip(numbers, found, batch.lengths.tolist(), strict=True):
                predicted[number] = self.labels.outward(row[:length], whole)
        loss = total / max(1, len(encoded.tokens))
        return {"valid_loss": loss, **score_of(self.held_out.tags, predicted)}

    def error(self, found: dict[str, float]) -> float:
        """One less the score."""
        return 1 - found.get("valid_f1", found.get("valid_accuracy", 0.0))


def even_batches(encoded: Encoded) -> list[np.ndarray]:
    """Batches of sentences by falling length."""
    return LengthBatches(
        encoded.lengths.tolist(), sentences=ROWS, tokens=TOKENS, shuffle=False
    ).epoch(0)


def score_of(truth: list[list[str | None]], predicted: list[list[str]]) -> dict[str, float]:
    """F1 by the rules of conlleval where all tags are of chunks, and accuracy over known tags."""
    pairs = [
        (wanted, given)
        for row, mine in zip(truth, predicted, strict=True)
        for wanted, given in zip(row, mine, strict=True)
        if wanted is not None
    ]
    right = sum(wanted == given for wanted, given in pairs)
    found = {"valid_accuracy": right / len(pairs) if pairs else 0.0}
    if is_chunks(truth) and any(tag != "O" for row in truth for tag in row):
        wanted: list[list[str]] = [[tag or "O" for tag in row] for row in truth]
        found["valid_f1"] = score_chunks(wanted, predicted).overall.f1
    return found

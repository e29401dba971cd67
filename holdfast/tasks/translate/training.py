"""What a step of training sees, and what is measured on pairs that are watched."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.nn.attention import coverage_loss
from holdfast.nn.seq2seq import EncoderDecoder
from holdfast.tasks.trainer import Work
from holdfast.tasks.translate.codec import PAD
from holdfast.tasks.translate.corpus import Batch, Corpus
from holdfast.tasks.translate.smoothed import smoothed_loss

# By what the loss counts where BLEU decides, such as while it is 0.
TIE = 1e-6


class Translating(Work):
    """Pairs by teacher forcing: every piece, given the source and the true pieces before it.

    Arguments:
        net: the network.
        training, watched: pairs as numbers.
        settings: those of the translator.
        bleu: from a network to the BLEU of what it makes of the watched sources, or None.
    """

    def __init__(
        self,
        net: EncoderDecoder,
        training: Corpus,
        watched: Corpus,
        settings: dict[str, Any],
        bleu: Callable[[EncoderDecoder], float] | None = None,
    ) -> None:
        super().__init__(net)
        self.training = training
        self.watched = watched
        self.smoothing: float = settings["label_smoothing"]
        self.forcing: float = settings["teacher_forcing"]
        self.covering: float = settings["coverage_loss"]
        self.device: str = settings["device"]
        self.bleu = bleu
        size, tokens, seed = (settings[n] for n in ("batch_size", "batch_tokens", "seed"))
        self.batches = training.batches(size, tokens, seed, True)
        self.watching = watched.batches(size, tokens, seed, False)
        self._epoch = (-1, self.batches.epoch(0))

    def steps(self, epoch: int) -> int:
        """How many batches the epoch has."""
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self.batches.epoch(epoch))
        return len(self._epoch[1])

    def losses(self, epoch: int) -> Iterator[Tensor]:
        """The smoothed loss of each batch, per piece."""
        self.steps(epoch)
        for places in self._epoch[1]:
            yield self.loss(self._placed(self.training.batch(places)))

    def loss(self, batch: Batch) -> Tensor:
        """The smoothed loss of one batch, per piece."""
        source, lengths, given, wanted = batch
        if self.forcing < 1:
            given = self._mixed(batch)
        decoded = self.net.decode(source, lengths, given)  # pyright: ignore[reportCallIssue] (an EncoderDecoder)
        loss = smoothed_loss(decoded.logits, wanted, PAD, self.smoothing)
        if self.covering and decoded.weights is not None:
            loss = loss + self.covering * coverage_loss(decoded.weights, wanted != PAD)
        return loss

    def _mixed(self, batch: Batch) -> Tensor:
        """What the decoder is given, a share of it its own guesses at the true pieces."""
        with torch.no_grad():
            guessed = self.net(batch.source, batch.lengths, batch.given).argmax(2)  # [B, T]
        true = torch.rand(batch.given.shape) < self.forcing
        true[:, 0] = True
        before = torch.cat([batch.given[:, :1], guessed[:, :-1]], 1)
        return torch.where(true.to(before.device), batch.given, before)

    def validate(self) -> dict[str, float]:
        """Loss per piece without smoothing, perplexity, and BLEU where it is asked for."""
        loss = loss_of([self.net], self.watched, self.watching.epoch(0), self.device)
        found = {"valid_loss": loss, "valid_perplexity": math.exp(min(loss, 700.0))}
        if self.bleu is not None:
            found["valid_bleu"] = self.bleu(self.net)  # pyright: ignore[reportArgumentType] (an EncoderDecoder)
        return found

    def error(self, found: dict[str, float]) -> float:
        """The loss; or less BLEU, and the loss where that is equal."""
        if self.bleu is None:
            return found["valid_loss"]
        return TIE * min(found["valid_loss"], 1.0 / TIE) - found["valid_bleu"]

    def _placed(self, batch: Batch) -> Batch:
        return Batch(*(one.to(self.device) for one in batch))


def loss_of(
    nets: Sequence[Any], corpus: Corpus, batches: Sequence[np.ndarray], device: str = "cpu"
) -> float:
    """The mean loss of a piece, end marks included, in nats; of what several networks say together.

    Called without gradients.
    """
    total, count = 0.0, 0
    for places in batches:
        source, lengths, given, wanted = (one.to(device) for one in corpus.batch(places))
        found = [net(source, lengths, given).log_softmax(2) for net in nets]
        chances = torch.stack(found).logsumexp(0) - math.log(len(nets)) if nets[1:] else found[0]
        at = wanted.unsqueeze(2)
        lost = -chances.gather(2, at).squeeze(2)
        total += float(torch.where(wanted != PAD, lost, 0.0).sum())
        count += int((wanted != PAD).sum())
    return total / count

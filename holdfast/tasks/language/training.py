"""What a step of training sees: the next piece of every row, from the states of the one before."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from holdfast.tasks.language.net import LanguageNet, Passed, States, detached
from holdfast.tasks.language.scoring import stream_losses
from holdfast.tasks.language.stream import Rows, lengths, pieces
from holdfast.tasks.trainer import Work


class LanguageWork(Work):
    """A stream to train on, in rows whose states go on from piece to piece, and one to watch.

    Arguments:
        steps: of a piece, through which gradients flow back; with `random` about as many, and the
            learning rate goes with the length.
        ar, tar: how much large outputs, and outputs that change, cost (Merity et al. 2017).
        seed: of the random lengths.
    """

    def __init__(
        self,
        net: LanguageNet,
        train: np.ndarray,
        valid: np.ndarray,
        *,
        rows: int,
        begin: int,
        length: int,
        random: bool = False,
        ar: float = 0.0,
        tar: float = 0.0,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        super().__init__(net)
        self.language = net
        self.rows = Rows.cut(train, rows, begin)
        self.valid, self.begin, self.count = valid, begin, rows
        self.length, self.random = length, random
        self.ar, self.tar = ar, tar
        self.seed, self.device = seed, device

    def _lengths(self, epoch: int) -> list[int]:
        return lengths(len(self.rows), self.length, self.seed, epoch, self.random)

    def steps(self, epoch: int) -> int:
        """How many pieces the epoch has."""
        return len(self._lengths(epoch))

    def losses(self, epoch: int) -> Iterator[Tensor | None]:
        """The loss of every piece, in nats a token, and what outputs cost."""
        states: States | None = None
        for inputs, targets in pieces(self.rows, self._lengths(epoch)):
            self.pace = len(inputs) / self.length if self.random else 1.0
            passed = self.language(inputs.to(self.device), states)
            states = detached(passed.states)
            said, wanted = passed.said.flatten(0, 1), targets.to(self.device).ravel()
            yield self.language.mean_loss(said, wanted) + self._costs(passed)

    def _costs(self, passed: Passed) -> Tensor | float:
        found: Tensor | float = 0.0
        if self.ar:
            found = found + self.ar * passed.said.square().mean()
        if self.tar and len(passed.raw) > 1:
            found = found + self.tar * (passed.raw[1:] - passed.raw[:-1]).square().mean()
        return found

    def validate(self) -> dict[str, float]:
        """Nats a token of the stream that is watched, every token once, in as many rows."""
        rows = min(self.count, max(1, len(self.valid) // self.length))
        losses = stream_losses(self.language, self.valid, self.begin, rows, self.device)
        return {"valid_loss": float(losses.double().mean())}

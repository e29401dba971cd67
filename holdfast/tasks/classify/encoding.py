"""Examples as the numbers that a network reads: tokens, scaled channels, batches of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from holdfast.data.examples import Examples
from holdfast.data.text.batches import pad
from holdfast.errors import DataError
from holdfast.tasks.classify.tokens import Tokens


@dataclass(frozen=True)
class Scale:
    """Mean and spread of every channel, as training had them; both `(I,)`.

    With `masked`, a missing value is the mean, and an indicator beside every channel says so.
    """

    mean: tuple[float, ...]
    spread: tuple[float, ...]
    masked: bool = False

    @classmethod
    def fit(cls, series: Sequence[np.ndarray], masked: bool) -> Scale:
        """From the sequences `[T, I]` of training."""
        rows = np.concatenate(series)
        known = ~np.isnan(rows)
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, rows, 0).sum(0) / count
        spread = np.sqrt((np.where(known, rows - mean, 0) ** 2).sum(0) / count)
        spread = np.where(spread > 1e-12 * np.maximum(1, np.abs(mean)), spread, 1.0)
        return cls(tuple(mean.tolist()), tuple(spread.tolist()), masked)

    @property
    def width(self) -> int:
        """Numbers a step, indicators included."""
        return len(self.mean) * (2 if self.masked else 1)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """A sequence `[T, I]` as the network reads it, `[T, width]` float32."""
        scaled = (values - np.array(self.mean)) / np.array(self.spread)
        if not self.masked:
            return scaled.astype(np.float32)
        gone = np.isnan(values)
        return np.concatenate([np.where(gone, 0, scaled), gone], axis=1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Batch:
    """Some examples side by side.

    ids: `[T, B]` tokens and their numbers `[B]`, or None. values: `[T, B, C]` and theirs, or None.
    """

    ids: Tensor | None = None
    counts: Tensor | None = None
    values: Tensor | None = None
    steps: Tensor | None = None

    def to(self, device: str) -> Batch:
        """The same on a device; numbers of steps stay where they are."""
        moved = (None if one is None else one.to(device) for one in (self.ids, self.values))
        ids, values = moved
        return Batch(ids, self.counts, values, self.steps)


@dataclass(frozen=True, eq=False)
class Encoded:
    """All examples as numbers: `ids` of tokens, `values` `[T, C]`; None where there are none."""

    ids: list[list[int]] | None
    values: list[np.ndarray] | None

    def __len__(self) -> int:
        return len(self.ids if self.ids is not None else self.values or ())

    @property
    def lengths(self) -> list[int]:
        """Steps of each, by which batches are made; those of the numbers where there are both."""
        return [len(row) for row in (self.values if self.values is not None else self.ids or ())]

    def batch(self, places: Sequence[int] | np.ndarray) -> Batch:
        """Some of them."""
        ids = counts = values = steps = None
        if self.ids is not None:
            ids, counts = pad([self.ids[at] for at in places])
        if self.values is not None:
            rows = [torch.from_numpy(self.values[at]) for at in places]
            values = torch.nn.utils.rnn.pad_sequence(rows)
            steps = torch.tensor([len(row) for row in rows])
        return Batch(ids, counts, values, steps)


@dataclass(frozen=True)
class Encoding:
    """How examples become numbers; what a model learns of them before it is trained.

    tokens: of texts, or None. scale: of numbers, or None. channels: their names. most: tokens of a
    text that are read, or None for all.
    """

    tokens: Tokens | None
    scale: Scale | None
    channels: tuple[str, ...] = ()
    most: int | None = None

    def __call__(self, examples: Examples) -> Encoded:
        """The examples as numbers.

        Errors: `DataError`, with the place, for examples of another kind than those of training.
        """
        self._check(examples)
        ids = values = None
        if self.tokens is not None:
            ids = self.tokens.encode_all(examples.texts or (), self.most)
        if self.scale is not None:
            check_series(examples, self.scale.masked)
            values = [self.scale.apply(one) for one in examples.series or ()]
        return Encoded(ids, values)

    def _check(self, examples: Examples) -> None:
        for wanted, given, what in (
            (self.tokens, examples.texts, "texts"),
            (self.scale, examples.series, "sequences of numbers"),
        ):
            if (wanted is None) != (given is None):
                said = "without" if given is None else "with"
                raise DataError(
                    f"got examples {said} {what}, and the model was trained "
                    f"{'with' if given is None else 'without'}; give what training was given"
                )
        if examples.series and examples.series[0].shape[1] != len(self.channels):
            raise DataError(
                f"got {examples.series[0].shape[1]} channels, expected {len(self.channels)}: "
                f"{', '.join(self.channels)}"
            )


def check_series(examples: Examples, masked: bool) -> None:
    """Refuse, with the place, sequences without a step, infinities, and what is missing."""
    for at, values in enumerate(examples.series or ()):
        if not len(values):
            raise DataError(f"{examples.place(at)}: there is no step; leave the example out")
        wrong = np.isinf(values) if masked else ~np.isfinite(values)
        if wrong.any():
            step, channel = np.argwhere(wrong)[0]
            found = values[step, channel]
            hint = "correct it, or leave the example out"
            if np.isnan(found):
                hint = 'correct it, or give missing="mask"'
            raise DataError(
                f"{examples.place(at)}: step {step + 1} of {examples.channels[channel]!r} is "
                f"{found}; {hint}"
            )

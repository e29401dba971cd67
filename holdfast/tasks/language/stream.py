"""One stream of tokens as rows side by side, and their steps in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Lengths of pieces, where they are random (Merity, Keskar & Socher 2018, section 4.1).
SHARE_OF_HALVES, SPREAD, LEAST = 0.05, 5.0, 5


@dataclass(frozen=True)
class Rows:
    """A stream (n,) cut into `rows` of equal length: inputs and targets, `[T, rows]`.

    Before the stream stands `begin`. What does not fill a column at the end is left out.
    """

    inputs: Tensor
    targets: Tensor

    @classmethod
    def cut(cls, stream: np.ndarray, rows: int, begin: int) -> Rows:
        """The rows of a stream.

        >>> Rows.cut(np.array([5, 6, 7, 8, 9]), 2, begin=0).inputs.tolist()
        [[0, 6], [5, 7]]
        """
        steps = len(stream) // rows
        before = np.concatenate([[begin], stream[:-1]]) if len(stream) else stream
        first, second = (
            torch.from_numpy(one[: rows * steps].reshape(rows, steps).T.copy())
            for one in (before, stream)
        )
        return cls(first, second)

    def __len__(self) -> int:
        return len(self.inputs)


def lengths(steps: int, length: int, seed: int, epoch: int, random: bool) -> list[int]:
    """How the steps of an epoch are cut into pieces of about `length`.

    >>> lengths(10, 4, seed=0, epoch=0, random=False)
    [4, 4, 2]
    """
    if not random:
        whole, rest = divmod(steps, length)
        return [length] * whole + ([rest] if rest else [])
    generator = np.random.default_rng([seed, epoch])
    found: list[int] = []
    left = steps
    while left > 0:
        base = length / 2 if generator.random() < SHARE_OF_HALVES else length
        drawn = max(LEAST, round(generator.normal(base, SPREAD)))
        found.append(min(drawn, left))
        left -= found[-1]
    return found


def pieces(rows: Rows, sizes: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets of each piece."""
    yield from zip(rows.inputs.split(sizes), rows.targets.split(sizes), strict=True)

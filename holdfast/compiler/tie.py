"""Gates whose rows are not all their own: one row for several units, or another gate's rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from holdfast.errors import CellError


@dataclass(frozen=True)
class Tie:
    """How the H rows of a gate are made of those that a layer keeps.

    units: how many neighboring units one row serves. source: the gate whose rows these are; the
    gate's own where empty. seed: of the order in which they are taken, in blocks of `width` rows.
    """

    units: int = 1
    source: str = ""
    seed: int = 0
    width: int = 1


def shared(units: int) -> Tie:
    """One row of a gate for so many neighboring units, which so have the same pre-activation.

    >>> shared(2)
    Tie(units=2, source='', seed=0, width=1)

    Errors: `CellError` for fewer than 1.
    """
    if units < 1:
        raise CellError(f"shared({units!r}): expected a number of units, 1 or more")
    return Tie(units=units)


def permuted(source: str, seed: int, width: int = 1) -> Tie:
    """The rows of another gate in an order of their own, the same in every layer of that size.

    >>> permuted("r", seed=1, width=2)
    Tie(units=1, source='r', seed=1, width=2)

    Arguments:
        seed: what the order is drawn from. width: rows that stay together, 2 for pairs of units.
    """
    return Tie(source=source, seed=seed, width=width)


@cache
def rows(tie: Tie | None, hidden_size: int) -> np.ndarray:
    """Which of the kept rows each unit has, `[H]`.

    >>> rows(shared(2), 4).tolist()
    [0, 0, 1, 1]

    Errors: `CellError` where H cannot be cut so.
    """
    tie = tie or Tie()
    whole = max(tie.units, tie.width)
    if hidden_size % whole:
        raise CellError(
            f"a gate has one row, or one block of rows, for {whole} units, so H must be a multiple "
            f"of {whole}, got {hidden_size}"
        )
    units = np.arange(hidden_size)
    if not tie.source:
        return units // tie.units
    blocks = np.random.default_rng(tie.seed).permutation(hidden_size // tie.width)
    return (blocks[:, None] * tie.width + np.arange(tie.width)[None, :]).reshape(-1)

"""Pieces of music as piano rolls, in the three parts of the files that papers share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.data.optional import require
from holdfast.errors import DataError

KEYS = 88
"""Keys of a piano, from A0 to C8."""

PARTS = {"train": "traindata", "valid": "validdata", "test": "testdata"}
"""What the files call the three parts."""


@dataclass(frozen=True, eq=False)
class Rolls:
    """Pieces for training, validation and test, each a roll `[T, 88]` of 0 and 1, uint8."""

    train: tuple[Tensor, ...]
    valid: tuple[Tensor, ...]
    test: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Pieces:
    """Pieces side by side, to predict each step from those before it.

    x: `[T, B, 88]`, the step before; zero at the first step. y: `[T, B, 88]`, the step to predict.
    lengths: `[B]` int64; x and y are zero beyond.
    """

    x: Tensor
    y: Tensor
    lengths: Tensor

    @property
    def valid(self) -> Tensor:
        """Where a piece is still going on, `[T, B]` bool."""
        return torch.arange(len(self.x)).unsqueeze(1) < self.lengths


def read_rolls(path: str | os.PathLike[str]) -> Rolls:
    """The piano rolls of a MATLAB file such as `JSB_Chorales.mat`, in its own three parts.

    ```python
    rolls = read_rolls("JSB_Chorales.mat")
    len(rolls.train), rolls.train[0].shape  # 229, (129, 88)
    ```

    The file holds the variables `traindata`, `validdata` and `testdata`, each a cell array of
    matrices with a row for every time step and a column for every key.

    Errors: `DataError`, which names the file, where it is no such file; `MissingExtraError` without
    scipy.
    Source: Boulanger-Lewandowski, Bengio & Vincent 2012, in the form of Bai, Kolter & Koltun 2018.
    """
    path = Path(path)
    variables = _load(path)
    parts = {part: _pieces(variables, path, name) for part, name in PARTS.items()}
    return Rolls(**parts)


def stack(rolls: Sequence[Tensor], *, dtype: torch.dtype = torch.float32) -> Pieces:
    """Pieces of unequal length as one batch, with the step before each step as input.

    >>> pieces = stack([torch.ones(4, 88), torch.ones(2, 88)])
    >>> tuple(pieces.x.shape), pieces.lengths.tolist(), pieces.x[:, 1, 0].tolist()
    ((4, 2, 88), [4, 2], [0.0, 1.0, 0.0, 0.0])

    Arguments:
        rolls: each `[T, keys]`.

    Errors: `ValueError` without pieces.
    """
    if not rolls:
        raise ValueError("stack: got no pieces, expected at least one roll [T, keys]")
    y = torch.nn.utils.rnn.pad_sequence([roll.to(dtype) for roll in rolls])
    lengths = torch.tensor([len(roll) for roll in rolls])
    x = torch.cat([y.new_zeros(1, *y.shape[1:]), y[:-1]])
    going = torch.arange(len(y)).unsqueeze(1) < lengths
    return Pieces(x * going.unsqueeze(2), y, lengths)


def transpose(roll: Tensor, semitones: int) -> Tensor:
    """A roll `[T, keys]` some semitones higher, or lower where `semitones` is negative.

    >>> transpose(torch.eye(3), 1).tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]

    A note that would leave the keyboard is lost; `room` says how far nothing is.
    """
    moved = torch.zeros_like(roll)
    keys = roll.shape[1]
    if semitones >= 0:
        moved[:, semitones:] = roll[:, : max(0, keys - semitones)]
    else:
        moved[:, :semitones] = roll[:, -semitones:]
    return moved


def room(roll: Tensor) -> tuple[int, int]:
    """How many semitones lower and higher a roll `[T, keys]` can go and keep every note.

    >>> room(torch.tensor([[0, 0, 1, 0], [0, 1, 0, 0]]))
    (1, 1)
    """
    used = roll.any(0).nonzero().flatten().tolist()
    if not used:
        return 0, 0
    return used[0], roll.shape[1] - 1 - used[-1]


def _load(path: Path) -> dict[str, Any]:
    io = require("scipy.io", "music")
    matlab = require("scipy.io.matlab", "music")
    try:
        with path.open("rb") as file:
            return io.loadmat(file)
    except OSError as error:
        if error.strerror is None:
            raise _unreadable(path, error) from error
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (ValueError, TypeError, NotImplementedError, matlab.MatReadError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(
        f"{path}: not a MATLAB file up to version 7.2 ({reason}); expected one with the variables "
        f"{', '.join(PARTS.values())}"
    )


def _pieces(variables: dict[str, Any], path: Path, name: str) -> tuple[Tensor, ...]:
    if name not in variables:
        there = ", ".join(key for key in variables if not key.startswith("__")) or "none"
        raise DataError(
            f"{path}: there is no variable {name!r}; the variables are {there}. Expected "
            f"{', '.join(PARTS.values())}"
        )
    array = variables[name]
    if array.dtype != object or not array.size:
        raise DataError(
            f"{path}: {name} should be a cell array of matrices [T, {KEYS}], got an array of "
            f"{array.dtype} with shape {array.shape}"
        )
    return tuple(_roll(piece, f"{path}: {name}[{n}]") for n, piece in enumerate(array.flat))


def _roll(piece: Any, where: str) -> Tensor:
    shape = np.shape(piece)
    if len(shape) != 2 or shape[1] != KEYS or not shape[0]:
        raise DataError(
            f"{where}: a piece should be a matrix [T, {KEYS}] with at least one step, got the "
            f"shape {shape}"
        )
    if not np.isin(piece, (0, 1)).all():
        raise DataError(f"{where}: a piece should hold 0 and 1 only, a key up or down")
    return torch.from_numpy(np.ascontiguousarray(piece, dtype=np.uint8))

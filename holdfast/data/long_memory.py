"""One long series, cut by position and scaled as in papers on long memory."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from holdfast.errors import DataError


@dataclass(frozen=True)
class Split:
    """How many predictions are for training and for validation; the rest is the test."""

    train: int
    valid: int


SPLITS = {
    "arfima": Split(2000, 1200),
    "dji": Split(2500, 1500),
    "traffic": Split(1400, 200),
    "tree": Split(2500, 1000),
}
"""The four series of Zhao et al. 2020: simulated, returns, road traffic and tree rings.

The authors' code trains on 1,200 values of traffic; with 1,400 the published means of that series
come out (MRNN's within .03), so that is what we take their table to have been made with.
"""


@dataclass(frozen=True, eq=False)
class LongSeries:
    """A series in its own unit, `[N]` float64, to be predicted one step ahead.

    There are N - 1 predictions: value n + 1 from the values up to n.
    """

    values: Tensor
    split: Split

    @property
    def low(self) -> float:
        """The smallest value of the whole series, which becomes 0."""
        return float(self.values.min())

    @property
    def span(self) -> float:
        """The largest value less the smallest, which becomes 1."""
        return float(self.values.max()) - self.low

    @property
    def scaled(self) -> Tensor:
        """The series between 0 and 1, `[N]` float64; the test part takes part in the scaling."""
        return (self.values - self.low) / self.span

    @property
    def parts(self) -> tuple[slice, slice, slice]:
        """Where the predictions for training, validation and test are."""
        first, second = self.split.train, self.split.train + self.split.valid
        return slice(0, first), slice(first, second), slice(second, len(self.values) - 1)


def read_series(
    path: str | os.PathLike[str], split: Split | None = None, *, column: str = "x"
) -> LongSeries:
    """A column of a CSV file as one series, with the split that its name stands for.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "toy.csv"
    >>> _ = path.write_text("day,x\\n1,2\\n2,3.5\\n3,5\\n4,2\\n")
    >>> series = read_series(path, Split(train=1, valid=1))
    >>> series.scaled.tolist()
    [0.0, 0.5, 1.0, 0.0]

    Arguments:
        split: by default that of `SPLITS` for the name of the file.
        column: the column that is taken.

    Errors: `DataError`, which names the file and the line.
    Source: Zhao et al. 2020, "Do RNN and LSTM have Long Memory?", and the authors' code.
    """
    path = Path(path)
    if split is None:
        if path.stem not in SPLITS:
            raise DataError(
                f"{path}: no split is known for {path.stem!r}, only for {', '.join(SPLITS)}; give "
                "one with split="
            )
        split = SPLITS[path.stem]
    values = _column(path, column)
    needed = split.train + split.valid + 2
    if len(values) < needed:
        raise DataError(
            f"{path}: got {len(values)} values; a split of {split.train} and {split.valid} "
            f"predictions and a test needs at least {needed}"
        )
    series = LongSeries(torch.tensor(values, dtype=torch.float64), split)
    if not series.span > 0:
        raise DataError(f"{path}: all values of {column!r} are equal, so they cannot be scaled")
    return series


def _column(path: Path, column: str) -> list[float]:
    values = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if column not in (rows.fieldnames or ()):
                there = ", ".join(map(repr, rows.fieldnames or ())) or "none"
                raise DataError(f"{path}: there is no column {column!r}; the columns are {there}")
            for row in rows:
                values.append(_number(row[column], f"{path}:{rows.line_num}", column))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text in UTF-8"
        raise DataError(f"{path}: cannot be read ({reason}); check the path") from error
    return values


def _number(text: str | None, where: str, column: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if value - value != 0:
        raise DataError(f"{where}: {column!r} should be a finite number, got {text!r}")
    return value

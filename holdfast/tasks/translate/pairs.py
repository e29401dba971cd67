"""Pairs of texts: from two files, from a table, or from lists, checked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.data.text.lines import read_lines, read_parallel
from holdfast.data.text.tables import read_table
from holdfast.errors import DataError


@dataclass(frozen=True, eq=False)
class Pairs:
    """Sources and their targets, one of each a pair.

    >>> pairs = Pairs(["yes", "no"], ["ja", "nein"], "lists")
    >>> len(pairs), pairs.take([1]).targets
    (2, ['nein'])

    name: the files or the table. numbers: where each pair stood there, from 1.
    """

    sources: list[str]
    targets: list[str]
    name: str
    numbers: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sources)

    def number(self, place: int) -> int:
        """Line or row of a pair, from 1."""
        return self.numbers[place] if self.numbers else place + 1

    def take(self, places: Sequence[int]) -> Pairs:
        """The pairs at these places, in this order."""
        return Pairs(
            [self.sources[place] for place in places],
            [self.targets[place] for place in places],
            self.name,
            [self.number(place) for place in places],
        )

    def whole(self) -> Pairs:
        """Those pairs of which no side is blank."""
        both = enumerate(zip(self.sources, self.targets, strict=True))
        return self.take([place for place, (s, t) in both if s.strip() and t.strip()])

    def split(self, share: float, seed: int) -> tuple[Pairs, Pairs]:
        """Pairs to train on, and a `share` of all, drawn by `seed`, to watch.

        Errors: `DataError` where either part would be empty.
        """
        count = max(1, round(share * len(self)))
        if count >= len(self):
            raise DataError(
                f"{self.name}: {len(self)} pairs, of which validation={share} leaves none to train "
                "on; give more pairs, or pairs to watch"
            )
        order = np.random.default_rng([seed, 1]).permutation(len(self))
        return self.take(sorted(order[count:].tolist())), self.take(sorted(order[:count].tolist()))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all texts in their order."""
        found = hashlib.sha256()
        for text in (*self.sources, *self.targets):
            content = text.encode("utf-8", "surrogatepass")
            found.update(len(content).to_bytes(8, "little") + content)
        return found.hexdigest()


def read_pairs(
    X: Any, y: Any = None, columns: tuple[str, str] = ("source", "target"), encoding: str = "utf-8"
) -> Pairs:
    """Pairs from two files, from one table, or from two lists of texts.

    >>> read_pairs(["yes", "no"], ["ja", "nein"]).targets
    ['ja', 'nein']

    Arguments:
        X: a file with a source a line, or a list of sources; without `y` a table with both columns.
        y: a file with as many lines, or a list of as many targets.
        columns: of a table, source and target.
        encoding: of files of text.

    Errors: `DataError` for files and tables that cannot be read, unequal counts, and no pairs.
    """
    if isinstance(X, Pairs):
        return X
    if y is None:
        table = read_table(X, columns, encoding=encoding)
        return _some(Pairs(table[columns[0]], table[columns[1]], table.name))
    if _is_path(X) and _is_path(y):
        found = read_parallel(X, y, encoding=encoding)
        name = f"{Path(X).name}, {Path(y).name}"
        return _some(Pairs([s for s, _ in found], [t for _, t in found], name))
    if _is_path(X) or _is_path(y):
        raise DataError("one of source and target is a file; give two files, or two lists of texts")
    sources, targets = texts_of(X, "source"), texts_of(y, "target")
    if len(sources) != len(targets):
        raise DataError(
            f"got {len(sources)} sources and {len(targets)} targets; each source needs its target"
        )
    return _some(Pairs(sources, targets, "lists"))


def read_sources(X: Any, column: str = "source", encoding: str = "utf-8") -> list[str]:
    """Sources from a file with one a line, a table, a frame, or a list of texts.

    Errors: as `read_pairs`.
    """
    if _is_path(X):
        name = Path(X).name.lower().removesuffix(".gz").removesuffix(".xz")
        if name.endswith((".csv", ".tsv", ".parquet", ".pq", ".jsonl", ".ndjson")):
            return read_table(X, [column], encoding=encoding)[column]
        return read_lines(X, encoding=encoding)
    if hasattr(X, "columns"):
        return read_table(X, [column])[column]
    return texts_of(X, "source")


def texts_of(values: Iterable[Any], what: str) -> list[str]:
    """Values as a list, each of them a text.

    Errors: `DataError` for another value, with its number.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise DataError(f"{what}: got {type(values).__name__}, expected a list of texts")
    found = list(values)
    for number, value in enumerate(found, 1):
        if not isinstance(value, str):
            raise DataError(f"{what} {number}: got {type(value).__name__}, expected a text")
    return found


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike))


def _some(pairs: Pairs) -> Pairs:
    if not len(pairs):
        raise DataError(f"{pairs.name}: there are no pairs; expected a source and a target a line")
    return pairs

"""Word vectors from a local text file: GloVe, word2vec and fastText write such."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from holdfast.data.text.lines import Source, numbered
from holdfast.data.text.vocabulary import Vocabulary
from holdfast.errors import DataError


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Words and their vectors.

    words: in the order of the file. values: `[N, D]` float32. name: the file.
    """

    words: tuple[str, ...]
    values: Tensor
    name: str

    def __len__(self) -> int:
        return len(self.words)

    def matrix(
        self, vocabulary: Vocabulary, *, lower: bool = True, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """A row for every entry of a vocabulary, `[V, D]`, and which of them are known, `[V]` bool.

        Entries without a vector are drawn from N(0, s²), s the standard deviation of the known
        ones; a padding in front, `<pad>`, is zero.

        Arguments:
            vocabulary: of words.
            lower: take the vector of the word in small letters where it has none itself.
            seed: of the draws.
        """
        at = {word: number for number, word in enumerate(self.words)}
        rows = [
            at.get(word, at.get(word.lower(), -1) if lower else -1) for word in vocabulary.words
        ]
        index = torch.tensor(rows)
        index[: vocabulary.specials] = -1
        known = index >= 0
        spread = float(self.values.std(correction=0)) if len(self) else 0.1
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(len(rows), self.values.shape[1], generator=generator) * spread
        if vocabulary.specials and vocabulary.words[0] == "<pad>":
            drawn[0] = 0.0
        if len(self):
            drawn[known] = self.values[index[known]]
        return drawn, known


def read_vectors(
    path: Source, words: Iterable[str] | None = None, *, encoding: str = "utf-8"
) -> WordVectors:
    """The vectors of a text file with a word and its numbers on each line.

    >>> from pathlib import Path
    >>> _ = Path("two.txt").write_text("2 3\\nyes 1 0 0.5\\nno -1 2 3\\n")
    >>> vectors = read_vectors("two.txt", words=["no"])
    >>> vectors.words, vectors.values.tolist()
    (('no',), [[-1.0, 2.0, 3.0]])

    A first line of two whole numbers says how many words and dimensions follow, as word2vec and
    fastText write it; GloVe has none. Where a word comes twice, the first vector counts. A word may
    hold blanks where the number of dimensions is known.

    Arguments:
        path: the file, also .gz or .xz; never fetched.
        words: those that are wanted, with their spellings in small letters; by default all.
        encoding: as in `read_lines`.

    Errors: `DataError`, with file and line, for a line with another number of dimensions, for what
    is not a finite number, and where the file does not hold as many words as it says.
    """
    wanted = None if words is None else {form for word in words for form in (word, word.lower())}
    promised = size = seen = 0
    found: dict[str, np.ndarray] = {}
    for number, line in numbered(path, encoding=encoding):
        fields = line.rstrip(" \t").replace("\t", " ").split(" ")
        if number == 1 and len(fields) == 2 and all(field.isdigit() for field in fields):
            promised, size = int(fields[0]), int(fields[1])
            continue
        if not line.strip(" \t"):
            continue
        place = f"{path}:{number}"
        size = size or len(fields) - 1
        word = _word(place, fields, size)
        seen += 1
        if word not in found and (wanted is None or word in wanted):
            found[word] = _numbers(place, fields[-size:])
    if not seen:
        raise DataError(f"{path}: there is no vector; expected a word and its numbers on each line")
    if promised and promised != seen:
        raise DataError(f"{path}:1: says {promised} words, but {seen} follow; the file is cut off")
    values = np.stack(list(found.values())) if found else np.zeros((0, size), np.float32)
    return WordVectors(tuple(found), torch.from_numpy(values), str(path))


def _word(place: str, fields: list[str], size: int) -> str:
    if size < 1 or len(fields) < size + 1:
        raise DataError(
            f"{place}: got {len(fields) - 1} numbers after the word, expected {max(size, 1)}"
        )
    if len(fields) > size + 1 and _is_number(fields[-size - 1]) and _is_number(fields[1]):
        raise DataError(f"{place}: got {len(fields) - 1} numbers after the word, expected {size}")
    return " ".join(fields[:-size])


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _numbers(place: str, fields: list[str]) -> np.ndarray:
    try:
        values = np.array(fields, dtype=np.float32)
    except ValueError:
        wrong = next(field for field in fields if not _is_number(field))
        raise DataError(f"{place}: {wrong!r} is not a number") from None
    if not np.isfinite(values).all():
        raise DataError(f"{place}: a vector should hold finite numbers, got NaN or infinity")
    return values

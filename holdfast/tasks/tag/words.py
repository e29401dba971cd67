"""Distinct words of sentences: how they are looked up, spelled, and what their spelling shows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from holdfast.data.text import Vocabulary

DIGIT = re.compile(r"\d")
MOST_CHARACTERS = 32
"""Characters of a word that are read: of a longer one the first and the last half of these."""


@dataclass(frozen=True)
class Normal:
    """What words are looked up as: in small letters, digits as 0, or as they are.

    >>> Normal(lower=True, digits=True)("Flight-747")
    'flight-000'
    """

    lower: bool
    digits: bool

    def __call__(self, word: str) -> str:
        if self.lower:
            word = word.lower()
        return DIGIT.sub("0", word) if self.digits else word


@dataclass(frozen=True, eq=False)
class Forms:
    """The distinct words of some sentences, F of them, as numbers.

    names: as they are written. words: in the vocabulary, `[F]`. characters: those of all words in a
    row; starts: where each word's begin, `[F + 1]`. looked_up: the words as they are looked up.
    """

    names: list[str]
    words: np.ndarray
    characters: np.ndarray
    starts: np.ndarray
    looked_up: list[str]

    def hashes(self) -> np.ndarray:
        """Of the words as they are looked up, `[F]` uint64."""
        return np.array([hashed(word) for word in self.looked_up], np.uint64)

    def spelled(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The characters of some words side by side, `[L, U]`, and how many, `[U]`."""
        lengths = self.starts[numbers + 1] - self.starts[numbers]
        steps = np.arange(max(1, int(lengths.max(initial=1))))[:, None]
        there = steps < lengths
        at = np.where(there, self.starts[numbers] + steps, 0)
        return np.where(there, self.characters[at], 0), lengths


def number_forms(
    sentences: Iterable[Sequence[str]], normal: Normal, words: Vocabulary, characters: Vocabulary
) -> tuple[Forms, np.ndarray]:
    """The distinct words of sentences, and for every token which of them it is, `[N]`."""
    known: dict[str, int] = {}
    setdefault = known.setdefault
    tokens = [setdefault(word, len(known)) for row in sentences for word in row]
    names = list(known)
    looked_up = [normal(name) for name in names]
    spelled = [_cut(name) for name in names]
    starts = np.zeros(len(names) + 1, np.int64)
    np.cumsum([len(name) for name in spelled], out=starts[1:])
    forms = Forms(
        names,
        np.array(words.encode(looked_up), np.int64),
        # One more than there are, so that padding has something to point at.
        np.append(_codes("".join(spelled), characters), 0),
        starts,
        looked_up,
    )
    return forms, np.array(tokens, np.int64)


def _codes(text: str, characters: Vocabulary) -> np.ndarray:
    """The numbers of the characters of a text; each distinct one is looked up once."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    distinct, at = np.unique(points, return_inverse=True)
    return np.array(characters.encode(map(chr, distinct.tolist())), np.int64)[at.ravel()]


def _cut(word: str) -> str:
    if len(word) <= MOST_CHARACTERS:
        return word
    half = MOST_CHARACTERS // 2
    return word[:half] + word[-half:]


def hashed(text: str) -> int:
    """A number of 64 bits for a text, the same on every machine."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def spelling(word: str) -> list[str]:
    """What the spelling of a word shows, as texts.

    >>> spelling("I.B.M.")[:3], spelling("D56y-3")[-2:]
    (['capital', 'no small', 'capital inside'], ['pattern A00a-0', 'summary A0a-0'])

    Source: Huang, Xu & Yu 2015, section 4.2.1: capitals at the beginning, everywhere, nowhere or
    inside; letters with digits; marks; an apostrophe with s; beginnings and ends of two to five
    characters; letters alone, the rest alone; the pattern of kinds of characters, and the same
    without repetitions.
    """
    found = []
    lower, upper = word.lower(), word.upper()
    if word[:1].isupper():
        found.append("capital")
    if word == upper != lower:
        found.append("no small")
    if word == lower != upper:
        found.append("no capital")
    if any(character.isupper() for character in word[1:]):
        found.append("capital inside")
    letters = "".join(filter(str.isalpha, word))
    if letters and any(map(str.isdigit, word)):
        found.append("letters and digits")
    if not word.isalnum():
        found.append("marks")
    if lower.endswith(("'s", "’s")):
        found.append("apostrophe s")
    for size in range(2, 6):
        if len(word) >= size:
            found += [f"begin {lower[:size]}", f"end {lower[-size:]}"]
    pattern = "".join(map(_kind, word))
    found.append(f"letters {letters}")
    found.append("others " + "".join(c for c in word if not c.isalpha()))
    found.append(f"pattern {pattern}")
    found.append("summary " + re.sub(r"(.)\1+", r"\1", pattern))
    return found


def _kind(character: str) -> str:
    if character.isdigit():
        return "0"
    if character.isupper():
        return "A"
    return "a" if character.isalpha() else character

"""Texts as bags of words and of pieces of words, so that a text never seen before still speaks.

A text's words, and every three neighboring characters of each word, are hashed to numbers; a
network has a learned vector for each number and averages those of a text (as fastText does:
Bojanowski et al. 2017).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np

# Numbers that words are hashed to; 0 is left for nothing.
BUCKETS = 4096
# A longer text is known by its first words.
LONGEST = 256


def bag(text: str) -> list[int]:
    """The numbers of a text's words and of their pieces, from 1 on.

    >>> len(bag("Rain")), bag("RAIN") == bag("rain"), bag(" ")
    (5, True, [])
    """
    found: list[int] = []
    for word in re.findall(r"\w+", text.casefold()):
        marked = f"<{word}>"
        pieces = [marked[at : at + 3] for at in range(len(marked) - 2)]
        found += [1 + zlib.crc32(piece.encode()) % (BUCKETS - 1) for piece in (marked, *pieces)]
    return found[:LONGEST]


def bags(texts: Sequence[str]) -> np.ndarray:
    """The bags of `texts` below each other (len(texts) + 1, K) int32, filled up with 0.

    The first row is that of an unknown text, and empty.

    >>> bags(["rain", "no"]).shape
    (3, 5)
    """
    found = [[], *(bag(text) for text in texts)]
    width = max(1, *map(len, found))
    return np.array([one + [0] * (width - len(one)) for one in found], dtype=np.int32)

"""Words and characters of a text, by a rule that is written down here."""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache


def split_words(text: str) -> list[str]:
    """The words of a text, and every other mark alone.

    >>> split_words("Don't stop: it's a well-known rock'n'roll band (3.5 stars)!")
    ["Don't", 'stop', ':', "it's", 'a', 'well-known', "rock'n'roll", 'band', '(', '3.5', 'stars',
     ')', '!']
    >>> split_words("  ")
    []

    The rule: a word is a run of letters, digits, underscores and the marks that belong to letters.
    A hyphen or an apostrophe stays inside it with such characters on both sides, a full stop, a
    comma or a colon with digits on both sides. Every other character that is not white space is a
    word of its own. Nothing is changed: no letter is made small.
    """
    return _pattern().findall(text)


def split_characters(text: str) -> list[str]:
    """The characters of a text, a letter together with the marks that belong to it.

    >>> split_characters("ab c")
    ['a', 'b', ' ', 'c']
    >>> len(split_characters("e\\u0301"))
    1

    A mark without a letter before it is a character of its own. Joined, they are the text.
    """
    found: list[str] = []
    for character in text:
        if found and unicodedata.category(character).startswith("M"):
            found[-1] += character
        else:
            found.append(character)
    return found


@cache
def _pattern() -> re.Pattern[str]:
    # `\\w` knows letters and digits, but not the vowel signs of Hindi nor an accent of its own.
    letter = rf"[\w{_marks()}]"
    inside = rf"(?:[-'’](?={letter})|(?<=\d)[.,:](?=\d))"
    return re.compile(rf"{letter}+(?:{inside}{letter}+)*|\S")


def _marks() -> str:
    """All marks of Unicode as ranges of a character class."""
    ranges: list[list[int]] = []
    for code in range(0x300, sys.maxunicode + 1):
        if code == 0x20000:  # nothing but ideographs and private use from here to the selectors
            break
        if unicodedata.category(chr(code)).startswith("M"):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)

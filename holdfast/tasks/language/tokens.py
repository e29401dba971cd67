"""Texts as numbers of tokens: characters, words or subwords; and back, token by token."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.data.text.subwords import Subwords
from holdfast.data.text.vocabulary import UNKNOWN, Vocabulary
from holdfast.data.text.words import split_words
from holdfast.errors import DataError

LEVELS = ("character", "word", "subword")
SPLITS = ("auto", "marks", "spaces")
ENDS = ("lines", "paragraphs")
END = "<eos>"
VOCABULARY = "vocabulary.json"
# Marks that stand right behind a word, and those that stand right before one.
_CLOSING = frozenset(".,;:!?)]}’”%")
_OPENING = frozenset("([{‘“$£")


class Tokens(ABC):
    """What a language model reads and says: numbers for the tokens of texts.

    `end` is the number of the end of a line, which also stands before every text; `unknown` that of
    tokens which training never met.
    """

    end: int
    unknown: int = 0

    @abstractmethod
    def __len__(self) -> int:
        """How many tokens there are."""

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """The numbers of a text's tokens (n,) int64."""

    @abstractmethod
    def piece(self, token: int, before: int) -> str:
        """A token as text, behind the token `before`."""

    @abstractmethod
    def strange(self, text: str) -> list[str]:
        """The tokens of a text that training never met, each once."""

    @abstractmethod
    def as_bytes(self) -> bytes:
        """All of it, as a file of the model folder."""

    def decode(self, tokens: list[int]) -> str:
        """The text of numbers that follow the end of a line."""
        before = [self.end, *tokens]
        return "".join(self.piece(token, was) for token, was in zip(tokens, before, strict=False))


class Characters(Tokens):
    """A token a character (a code point of Unicode).

    >>> characters = Characters(Vocabulary.build(["abba\\n"], specials=(UNKNOWN,)))
    >>> characters.encode("baz").tolist()
    [2, 1, 0]
    """

    def __init__(self, words: Vocabulary) -> None:
        self.words = words
        self.end = words.ids.get("\n", self.unknown)
        codes = np.array([ord(word) for word in words.words[words.specials :]], dtype=np.int64)
        self._numbers = np.zeros(int(codes.max()) + 2, dtype=np.int64)
        self._numbers[codes] = np.arange(words.specials, len(words))

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, text: str) -> np.ndarray:
        """The numbers of the characters."""
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        return self._numbers[np.minimum(codes, len(self._numbers) - 1)]

    def piece(self, token: int, before: int) -> str:
        """The character; the sign of replacement for an unknown one."""
        return "\ufffd" if token == self.unknown else self.words.words[token]

    def strange(self, text: str) -> list[str]:
        """The characters that training never met."""
        return list(dict.fromkeys(c for c in text if c not in self.words.ids))

    def as_bytes(self) -> bytes:
        """The vocabulary as JSON."""
        return self.words.to_json().encode("utf-8", "surrogatepass")


class Words(Tokens):
    """A token a word; the end of a line is one, too.

    `split` is ``"marks"`` (`holdfast.data.text.split_words`: punctuation is apart) or
    ``"spaces"``; `lower` makes letters small; with `ends` ``"paragraphs"`` only a line that is
    followed by a blank one ends, as in books whose lines are broken.

    >>> words = Words.learn("a b, a\\n", None, 1, "marks", "lines", lower=False)
    >>> words.encode("a c\\n").tolist(), words.decode([2, 3])
    ([2, 0, 1], 'a,')
    """

    def __init__(self, words: Vocabulary, split: str, ends: str, lower: bool) -> None:
        self.words, self.split, self.ends, self.lower = words, split, ends, lower
        self.end = words.id(END)

    @classmethod
    def learn(
        cls, text: str, size: int | None, least: int, split: str, ends: str, lower: bool
    ) -> Words:
        """The words of a text, at most `size`, of those that occur `least` times."""
        lines = word_lines(text, split, ends, lower)
        specials = (UNKNOWN, END)
        found = Vocabulary.build(lines, min_count=least, max_size=size, specials=specials)
        return cls(found, split, ends, lower)

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, text: str) -> np.ndarray:
        """The numbers of the words, with one for the end of each line that ends."""
        get, found = self.words.ids.get, []
        lines = word_lines(text, self.split, self.ends, self.lower)
        for line in lines:
            found += [get(word, 0) for word in line]
            found.append(self.end)
        if found and not text.endswith("\n"):
            found.pop()
        return np.array(found, dtype=np.int64)

    def piece(self, token: int, before: int) -> str:
        """The word behind a space, where there is one between the two."""
        if token == self.end:
            return "\n"
        word, was = self.words.words[token], self.words.words[before]
        close = before == self.end
        if self.split == "marks":
            close = close or word in _CLOSING or was in _OPENING
        return word if close else f" {word}"

    def strange(self, text: str) -> list[str]:
        """The words that training never met."""
        lines = word_lines(text, self.split, self.ends, self.lower)
        return list(dict.fromkeys(w for line in lines for w in line if w not in self.words.ids))

    def as_bytes(self) -> bytes:
        """The vocabulary as JSON."""
        return self.words.to_json().encode("utf-8", "surrogatepass")


class SubwordTokens(Tokens):
    """A token a subword, learned from the text; the end of a line is one, too."""

    def __init__(self, subwords: Subwords) -> None:
        self.subwords = subwords
        self.end, self.unknown = subwords.id(END), subwords.id(UNKNOWN)
        self._pieces = [subwords.token(number) for number in range(len(subwords))]

    @classmethod
    def learn(cls, text: str, size: int, kind: str = "bpe") -> SubwordTokens:
        """The subwords of a text."""
        lines = text.removesuffix("\n").split("\n")
        return cls(Subwords.train(lines, size=size, kind=kind, specials=(UNKNOWN, END)))

    def __len__(self) -> int:
        return len(self.subwords)

    def encode(self, text: str) -> np.ndarray:
        """The numbers of the subwords, with one for the end of each line that ends."""
        found = []
        for ids in self.subwords.encode_all(text.removesuffix("\n").split("\n")):
            found += [*ids, self.end]
        if not text.endswith("\n"):
            found.pop()
        return np.array(found, dtype=np.int64)

    def piece(self, token: int, before: int) -> str:
        """The subword, with a space where it begins a word."""
        if token == self.end:
            return "\n"
        if token == self.unknown:
            return "\ufffd"
        text = self._pieces[token].replace("▁", " ")
        return text.removeprefix(" ") if before == self.end else text

    def strange(self, text: str) -> list[str]:
        """The characters that training never met."""
        return [c for c in dict.fromkeys(text) if c != "\n" and self.unknown in self.encode(c)]

    def as_bytes(self) -> bytes:
        """The subwords as JSON."""
        return self.subwords.to_json().encode()


def word_lines(text: str, split: str, ends: str, lower: bool) -> list[list[str]]:
    """The words of each line, or of each paragraph."""
    if lower:
        text = text.lower()
    lines = text.removesuffix("\n").split("\n")
    if ends == "paragraphs":
        lines = [part for part in re.split(r"\n\s*\n", text) if part.strip()]
    if split == "marks":
        return [split_words(line) for line in lines]
    return [line.split() for line in lines]


def learn_tokens(text: str, settings: dict[str, Any], folder: bool) -> Tokens:
    """The tokens of a text to train on, as the settings want them.

    Errors: `DataError` where nothing can be learned.
    """
    level, size, least = (settings[key] for key in ("level", "vocabulary_size", "min_count"))
    if level == "character":
        words = Vocabulary.build([text], min_count=least, max_size=size, specials=(UNKNOWN,))
        return Characters(words)
    if level == "subword":
        return SubwordTokens.learn(text, size or 8000, settings["subwords"])
    split, ends, lower = (settings[key] for key in ("split", "ends", "lower"))
    if split == "auto":
        split = "spaces" if folder else "marks"
    return Words.learn(text, size, least, split, ends, lower)


def load_tokens(folder: Path, level: str, facts: dict[str, Any]) -> Tokens:
    """The tokens of a model folder.

    Errors: `ModelError` where the file is missing or damaged.
    """
    file = folder / VOCABULARY
    if level == "subword":
        return SubwordTokens(Subwords.load(file))
    words = Vocabulary.load(file)
    if level == "character":
        return Characters(words)
    return Words(words, facts["split"], facts["ends"], facts["lower"])


def check_known(tokens: Tokens, text: str, what: str) -> None:
    """Refuse a text with tokens that training never met, naming them.

    Errors: `DataError`.
    """
    strange = tokens.strange(text)
    if strange:
        shown = ", ".join(map(repr, strange[:5])) + (" and more" if len(strange) > 5 else "")
        raise DataError(
            f"{what}: {shown} was never seen in training; leave it out, or write something the "
            "model knows"
        )

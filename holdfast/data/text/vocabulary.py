"""Words and their numbers: which of them are known, and what becomes of the others."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from holdfast.data.atomic import write_file
from holdfast.data.text.lines import Source
from holdfast.errors import DataError, ModelError, did_you_mean

PADDING, UNKNOWN = "<pad>", "<unk>"

SHOWN = 12
"""Words of a vocabulary that a message lists."""


@dataclass(frozen=True)
class Vocabulary:
    """Numbers for words, and words for numbers: specials first, then words by falling count.

    >>> words = Vocabulary.build([["the", "cat", "the", "dog"]], min_count=1)
    >>> words.words
    ('<pad>', '<unk>', 'the', 'cat', 'dog')
    >>> words.encode(["the", "bird"])
    [2, 1]
    >>> words.decode([2, 4])
    ['the', 'dog']
    >>> tags = Vocabulary.build([["B-NP", "O"]], specials=(), unknown=None)
    >>> tags.encode(["O", "B-NP"])
    [1, 0]

    words: all entries, the specials in front. specials: how many of them are specials. unknown: the
    entry that stands for every word that is not known; with None such a word is an error.

    A word of a text that is spelled like a special is not it: it counts as unknown.
    """

    words: tuple[str, ...]
    specials: int = 0
    unknown: str | None = None

    def __post_init__(self) -> None:
        twice = [word for word, count in Counter(self.words).items() if count > 1]
        if twice:
            raise DataError(f"a vocabulary holds each word once, got {twice[0]!r} twice")
        if self.unknown is not None and self.unknown not in self.words:
            raise DataError(f"the unknown word {self.unknown!r} is not among the words")

    @classmethod
    def build(
        cls,
        sentences: Iterable[Iterable[str]],
        *,
        min_count: int = 1,
        max_size: int | None = None,
        specials: Sequence[str] = (PADDING, UNKNOWN),
        unknown: str | None = UNKNOWN,
    ) -> Vocabulary:
        """The words of sentences, by falling count; equally frequent ones by their characters.

        Arguments:
            sentences: words; characters of words make a vocabulary of characters.
            min_count: how often a word must occur.
            max_size: most entries, specials included; by default any number.
            specials: entries that come first, whatever occurs.
            unknown: the one of them that stands for other words, or None.

        Errors: `DataError` for counts and sizes below what is possible, and for nothing to learn.
        """
        if min_count < 1:
            raise DataError(f"min_count should be at least 1, got {min_count}")
        if max_size is not None and max_size <= len(specials):
            raise DataError(
                f"max_size should be more than the {len(specials)} specials, got {max_size}"
            )
        counts = Counter(word for sentence in sentences for word in sentence)
        for special in specials:
            counts.pop(special, None)
        kept = [word for word, count in counts.items() if count >= min_count]
        if not kept:
            raise DataError(
                f"no word occurs {min_count} times, so there is no vocabulary; give more text, or "
                "a lower min_count"
            )
        kept.sort(key=lambda word: (-counts[word], word))
        room = None if max_size is None else max_size - len(specials)
        return cls((*specials, *kept[:room]), len(specials), unknown)

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self.ids

    @cached_property
    def ids(self) -> dict[str, int]:
        """The number of each word that a text may hold, without the specials."""
        return {word: at for at, word in enumerate(self.words) if at >= self.specials}

    def id(self, word: str) -> int:
        """The number of an entry, specials included.

        Errors: `DataError` for what is no entry.
        """
        if word not in self.words:
            raise DataError(f"there is no entry {word!r} in the vocabulary")
        return self.words.index(word)

    def encode(self, words: Iterable[str], *, where: str = "") -> list[int]:
        """The numbers of words.

        Arguments:
            words: of one sentence.
            where: file and line, for the message.

        Errors: `DataError` for a word that is not known, where no entry stands for those.
        """
        if self.unknown is not None:
            get, other = self.ids.get, self._other
            return [get(word, other) for word in words]
        try:
            return [self.ids[word] for word in words]
        except KeyError as error:
            word = str(error.args[0])
            hint = did_you_mean(word, self.ids)
            some = ", ".join(map(repr, list(self.ids)[:SHOWN]))
            more = f" and {len(self.ids) - SHOWN} more" if len(self.ids) > SHOWN else ""
            raise DataError(
                f"{where}{': ' if where else ''}{word!r} was never seen in training{hint}; known "
                f"are {some}{more}"
            ) from None

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The words of numbers.

        Errors: `DataError` for a number that no word has.
        """
        found = []
        for number in ids:
            if not 0 <= number < len(self.words):
                raise DataError(f"got the number {number}, expected 0 to {len(self.words) - 1}")
            found.append(self.words[number])
        return found

    def to_json(self) -> str:
        """Everything as text."""
        content = {"words": self.words, "specials": self.specials, "unknown": self.unknown}
        return json.dumps(content, ensure_ascii=False, indent=0)

    @classmethod
    def from_json(cls, text: str, name: str = "vocabulary") -> Vocabulary:
        """What `to_json` wrote.

        Errors: `ModelError` for other text.
        """
        try:
            content: Any = json.loads(text)
            words, specials, unknown = (content[key] for key in ("words", "specials", "unknown"))
            right = all(isinstance(word, str) for word in words) and isinstance(specials, int)
        except (ValueError, TypeError, KeyError):
            right = False
            words, specials, unknown = (), 0, None
        if not right:
            raise ModelError(f"{name}: not a vocabulary; expected one that `save` has written")
        return cls(tuple(words), specials, unknown)

    def save(self, path: Source) -> None:
        """Write it to a file of JSON, whole or not at all."""
        write_file(path, self.to_json().encode("utf-8", "surrogatepass"))

    @classmethod
    def load(cls, path: Source) -> Vocabulary:
        """Read what `save` wrote.

        Errors: `ModelError` where the file cannot be read, or is no vocabulary.
        """
        try:
            text = Path(path).read_bytes().decode("utf-8", "surrogatepass")
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise ModelError(f"{path}: not a vocabulary ({error})") from error
        return cls.from_json(text, str(path))

    @cached_property
    def _other(self) -> int:
        assert self.unknown is not None
        return self.words.index(self.unknown)

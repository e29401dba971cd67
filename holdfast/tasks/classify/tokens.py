"""Texts as numbers: words, characters or subwords, and where each of them stands in its text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast.data.text.subwords import Subwords
from holdfast.data.text.vocabulary import Vocabulary
from holdfast.data.text.words import split_characters, split_words

KINDS = ("words", "characters", "subwords")
UNKNOWN = 1
FILES = {"words": "words.json", "characters": "words.json", "subwords": "subwords.json"}


@dataclass(frozen=True)
class Tokens:
    """How texts become numbers.

    >>> tokens = Tokens.learn(["A cat sat.", "A dog ran."], kind="words")
    >>> tokens.encode("a bird sat"), tokens.pieces("A cat!")
    ([3, 1, 7], [('', 'A'), (' ', 'cat'), ('', '!')])

    kind: one of `KINDS`. lower: letters are made small. table: the vocabulary, or the subwords.
    """

    kind: str
    lower: bool
    table: Vocabulary | Subwords

    @classmethod
    def learn(
        cls,
        texts: Sequence[str],
        kind: str = "words",
        lower: bool = True,
        min_count: int = 1,
        size: int = 30_000,
    ) -> Tokens:
        """Learn from the texts of training.

        Errors: `DataError` where there is nothing to learn.
        """
        if kind == "subwords":
            small = [text.lower() for text in texts] if lower else texts
            return cls(kind, lower, Subwords.train(small, size=size))
        rows = (_forms(_split(text, kind), lower) for text in texts)
        return cls(kind, lower, Vocabulary.build(rows, min_count=min_count, max_size=size))

    def __len__(self) -> int:
        return len(self.table)

    def encode(self, text: str, most: int | None = None) -> list[int]:
        """The numbers of a text, of which at most the first so many."""
        if isinstance(self.table, Subwords):
            return self.table.encode(text.lower() if self.lower else text)[:most]
        return self.table.encode(_forms(_split(text, self.kind)[:most], self.lower))

    def encode_all(self, texts: Iterable[str], most: int | None = None) -> list[list[int]]:
        """The same for many texts."""
        return [self.encode(text, most) for text in texts]

    def pieces(self, text: str) -> list[tuple[str, str]]:
        """The tokens as they stand in the text, each with what is between it and the one before.

        Subwords stand in the text's normal form, and a mark for a blank is one.
        """
        if isinstance(self.table, Subwords):
            small = text.lower() if self.lower else text
            return [("", token.replace("▁", " ")) for token in self.table.tokens(small)]
        found, at = [], 0
        for token in _split(text, self.kind):
            start = text.index(token, at)
            found.append((text[at:start], token))
            at = start + len(token)
        return found

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The words or characters that are known; None for subwords."""
        return self.table if isinstance(self.table, Vocabulary) else None

    def files(self) -> dict[str, bytes]:
        """What a model folder keeps of it."""
        content = self.table.to_json().encode("utf-8", "surrogatepass")
        return {FILES[self.kind]: content}

    @classmethod
    def load(cls, folder: Path, settings: Mapping[str, object]) -> Tokens:
        """What `files` wrote. Errors: `ModelError` for a damaged file."""
        kind = str(settings["tokens"])
        kept = Subwords if kind == "subwords" else Vocabulary
        return cls(kind, bool(settings["lower"]), kept.load(folder / FILES[kind]))


def _split(text: str, kind: str) -> list[str]:
    return split_characters(text) if kind == "characters" else split_words(text)


def _forms(tokens: list[str], lower: bool) -> list[str]:
    """The tokens as they are looked up; made small after the split, which it could move."""
    return [token.lower() for token in tokens] if lower else tokens

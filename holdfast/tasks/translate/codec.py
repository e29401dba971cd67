"""Texts as numbers of subwords, words or characters, and back."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.data.text.subwords import Subwords
from holdfast.data.text.vocabulary import PADDING, UNKNOWN, Vocabulary
from holdfast.data.text.words import split_characters, split_words
from holdfast.errors import ModelError

LEVELS = ("subwords", "words", "characters")
SPECIALS = (PADDING, UNKNOWN, "<s>", "</s>")
PAD, UNK, BEGIN, END = range(len(SPECIALS))

_BEFORE = re.compile(r" (?=[.,;:!?…)\]}%](?:\s|$))")
_AFTER = re.compile(r"(?<=[(\[{]) ")


@dataclass(frozen=True, eq=False)
class Codec:
    """One side of the pairs: how its texts are cut, and the number of every piece.

    >>> codec = Codec.learn(["a cat", "a dog"], "words")
    >>> codec.encode_all(["a dog, a cow"])
    [[4, 6, 1, 4, 1]]
    >>> codec.decode([4, 5])
    'a cat'

    Texts are in the normal form NFC, without white space at their ends, and in small letters where
    `lower_case` says so. The first numbers are those of `SPECIALS`, which no text holds.

    level: "subwords", "words" (by `holdfast.data.text.split_words`) or "characters". units: the
    subwords, or the vocabulary.
    """

    level: str
    units: Any
    lower_case: bool = False

    @classmethod
    def learn(
        cls,
        texts: Sequence[str],
        level: str,
        *,
        size: int = 8000,
        kind: str = "bpe",
        min_count: int = 1,
        lower_case: bool = False,
    ) -> Codec:
        """Learn the pieces of texts.

        Arguments:
            texts: of one side, or of both.
            level: one of `LEVELS`.
            size: most pieces, specials included.
            kind: of subwords, "bpe" or "unigram".
            min_count: how often a word or character must occur to have a number.

        Errors: `DataError` where nothing can be learned from the texts.
        """
        clean = [_clean(text, lower_case) for text in texts]
        if level == "subwords":
            units: Any = Subwords.train(clean, size=size, kind=kind, specials=SPECIALS)
        else:
            cut = map(_cutter(level), clean)
            units = Vocabulary.build(cut, min_count=min_count, max_size=size, specials=SPECIALS)
        return cls(level, units, lower_case)

    def __len__(self) -> int:
        return len(self.units)

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """The numbers of each text's pieces; none for a blank text."""
        clean = [_clean(text, self.lower_case) for text in texts]
        if self.level == "subwords":
            return self.units.encode_all(clean)
        cut = _cutter(self.level)
        return [self.units.encode(cut(text)) for text in clean]

    def pieces(self, text: str) -> list[str]:
        """The pieces of a text, one for each number, as they are written."""
        clean = _clean(text, self.lower_case)
        if self.level == "subwords":
            return self.units.tokens(clean)
        return _cutter(self.level)(clean)

    def spelled(self, ids: Sequence[int]) -> list[str]:
        """The pieces of these numbers."""
        if self.level == "subwords":
            return self.units.spelled(ids)
        return self.units.decode(ids)

    def decode(self, ids: Sequence[int], instead: Sequence[str] = ()) -> str:
        """The text of numbers.

        Arguments:
            instead: what to write for each unknown piece, in their order; not for subwords.
        """
        if self.level == "subwords":
            return self.units.decode(ids)
        pieces, given = self.spelled(ids), iter(instead)
        pieces = [next(given, p) if n == UNK else p for n, p in zip(ids, pieces, strict=True)]
        return join_words(pieces) if self.level == "words" else "".join(pieces)

    def to_json(self) -> str:
        """Everything as text."""
        content = {
            "level": self.level,
            "lower_case": self.lower_case,
            "units": json.loads(self.units.to_json()),
        }
        return json.dumps(content, ensure_ascii=False, indent=0)

    @classmethod
    def from_json(cls, text: str, name: str) -> Codec:
        """What `to_json` wrote.

        Errors: `ModelError` for other text.
        """
        try:
            content = json.loads(text)
            level, units = content["level"], json.dumps(content["units"], ensure_ascii=False)
            kind: Any = Subwords if level == "subwords" else Vocabulary
            return cls(level, kind.from_json(units, name), bool(content["lower_case"]))
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(f"{name}: damaged ({error}); train or copy the model again") from error


def join_words(words: Sequence[str]) -> str:
    """Words as a text: a space between them, but none before marks that close, nor behind opening.

    >>> join_words(["Yes", ",", "(", "he", "said", ")", "it", "is", "."])
    'Yes, (he said) it is.'
    """
    return _AFTER.sub("", _BEFORE.sub("", " ".join(words)))


def _cutter(level: str) -> Any:
    return split_words if level == "words" else split_characters


def _clean(text: str, lower_case: bool) -> str:
    text = unicodedata.normalize("NFC", text).strip()
    return text.lower() if lower_case else text

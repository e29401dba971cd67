"""Subwords, learned from texts at hand with Hugging Face's tokenizers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from holdfast.data.atomic import write_file
from holdfast.data.optional import require
from holdfast.data.text.lines import Source
from holdfast.data.text.vocabulary import PADDING, UNKNOWN
from holdfast.errors import DataError, ModelError

KINDS = ("bpe", "unigram")


class Subwords:
    """Texts as numbers of subwords, and back; learned by `train`, never downloaded.

    >>> texts = ["low lower lowest", "new newer newest"] * 20
    >>> subwords = Subwords.train(texts, size=30, kind="bpe")
    >>> ids = subwords.encode("newest low")
    >>> subwords.decode(ids)
    'newest low'
    >>> subwords.tokens("lower")
    ['▁lower']

    A space is the character `▁` before the next subword; one stands before the first, too. What
    comes back is the text in the normal form NFC, without a space at its beginning, and without
    the characters that were never seen: those are `<unk>`. What is spelled like a special in a text
    is text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.encode_special_tokens = True
        self._size: int = tokenizer.get_vocab_size()

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        size: int = 8000,
        kind: str = "bpe",
        specials: Sequence[str] = (PADDING, UNKNOWN),
    ) -> Subwords:
        """Learn subwords from texts.

        Arguments:
            texts: any number; for translation those of both languages, if they are to share.
            size: most subwords, specials included; small texts give fewer.
            kind: `"bpe"` for byte pair encoding (Sennrich et al. 2016), or `"unigram"` (Kudo 2018).
                Both are the same whenever the texts are.
            specials: the first entries, `<unk>` among them.

        Errors: `DataError` for an unknown kind, texts without characters, and a size that the
        characters alone exceed; `MissingExtraError` without the extra `text`.
        """
        if kind not in KINDS:
            raise DataError(f"kind should be one of {', '.join(KINDS)}, got {kind!r}")
        if UNKNOWN not in specials:
            raise DataError(
                f"specials should hold {UNKNOWN!r}, got {', '.join(specials) or 'none'}"
            )
        short = [special for special in specials if len(special) < 2]
        if short:
            raise DataError(f"specials need at least two characters, got {short[0]!r}")
        given = _Watched(texts)
        tokenizer = _untrained(kind, specials)
        options = {"vocab_size": size, "special_tokens": list(specials), "show_progress": False}
        trainers = require("tokenizers.trainers", "text")
        if kind == "bpe":
            trainer = trainers.BpeTrainer(**options)
        else:
            trainer = trainers.UnigramTrainer(unk_token=UNKNOWN, **options)
        try:
            tokenizer.train_from_iterator(iter(given), trainer)
        except Exception as error:  # the library raises nothing narrower
            raise DataError(f"subwords cannot be learned from these texts ({error})") from error
        if not given.characters:
            raise DataError("there is no character in the texts to learn subwords from")
        if tokenizer.get_vocab_size() > size:
            raise DataError(
                f"the characters of the texts and the specials alone are "
                f"{tokenizer.get_vocab_size()} subwords, got size={size}; raise it"
            )
        if kind == "unigram":
            tokenizer = _settled(tokenizer, specials)
        return cls(tokenizer)

    def __len__(self) -> int:
        return self._size

    def id(self, token: str) -> int:
        """The number of a subword or a special.

        Errors: `DataError` for what is none.
        """
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise DataError(f"there is no subword {token!r}")
        return number

    def token(self, number: int) -> str:
        """The subword or special with a number.

        Errors: `DataError` for a number that none has.
        """
        found = self._tokenizer.id_to_token(number)
        if found is None:
            raise DataError(f"got the number {number}, expected 0 to {len(self) - 1}")
        return found

    def encode(self, text: str) -> list[int]:
        """The numbers of a text's subwords; none for an empty text."""
        return self._tokenizer.encode(text).ids

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """The same for many texts at once, which is faster."""
        return [one.ids for one in self._tokenizer.encode_batch(list(texts))]

    def tokens(self, text: str) -> list[str]:
        """A text's subwords."""
        return self._tokenizer.encode(text).tokens

    def spelled(self, ids: Sequence[int]) -> list[str]:
        """The subwords of numbers, specials included.

        Errors: `DataError` for a number that no subword has.
        """
        self._check(ids)
        return [self._tokenizer.id_to_token(number) for number in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of numbers; specials are left out.

        Errors: `DataError` for a number that no subword has.
        """
        self._check(ids)
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def _check(self, ids: Sequence[int]) -> None:
        wrong = [number for number in ids if not 0 <= number < len(self)]
        if wrong:
            raise DataError(f"got the number {wrong[0]}, expected 0 to {len(self) - 1}")

    def to_json(self) -> str:
        """Everything, in the library's own JSON."""
        return self._tokenizer.to_str(pretty=True)

    @classmethod
    def from_json(cls, text: str, name: str = "subwords") -> Subwords:
        """What `to_json` wrote, or any other tokenizer of the library.

        Errors: `ModelError` for other text.
        """
        library = require("tokenizers", "text")
        try:
            return cls(library.Tokenizer.from_str(text))
        except Exception as error:  # the library raises nothing narrower
            raise ModelError(f"{name}: not a tokenizer's JSON ({error})") from error

    def save(self, path: Source) -> None:
        """Write it to a file, whole or not at all."""
        write_file(path, self.to_json().encode())

    @classmethod
    def load(cls, path: Source) -> Subwords:
        """Read what `save` wrote.

        Errors: `ModelError` where the file cannot be read, or is no tokenizer.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{path}: cannot be read ({error})") from error
        return cls.from_json(text, str(path))


class _Watched:
    """Texts on their way into the library, and whether there was anything in them."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = texts
        self.characters = False

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            self.characters = self.characters or bool(text.strip())
            yield text


def _untrained(kind: str, specials: Sequence[str]) -> Any:
    library = require("tokenizers", "text")
    models = library.models
    model = models.BPE(unk_token=UNKNOWN) if kind == "bpe" else models.Unigram()
    tokenizer = library.Tokenizer(model)
    tokenizer.normalizer = library.normalizers.NFC()
    parts = library.pre_tokenizers
    # Cut behind their first character, specials in a text can never be one subword.
    begin = "".join(sorted({re.escape(special[0]) for special in specials}))
    split = parts.Split(library.Regex(f"[{begin}]"), "isolated")
    tokenizer.pre_tokenizer = parts.Sequence([parts.Metaspace(), split])
    tokenizer.decoder = library.decoders.Metaspace()
    return tokenizer


DIGITS = 9
"""Digits of a score that do not depend on the order of summation."""

STEP = 1e-4
"""By how much the library parts the scores of characters that it adds in no fixed order."""


def _settled(tokenizer: Any, specials: Sequence[str]) -> Any:
    """A unigram tokenizer that is the same from run to run.

    The library adds the characters that learning has dropped in the order of a hash table.
    """
    content = json.loads(tokenizer.to_str())
    pieces = {piece: round(score, DIGITS) for piece, score in content["model"]["vocab"]}
    for special in specials:
        pieces.pop(special, None)
    added: list[str] = []
    low = min(pieces.values(), default=0.0)
    for piece, score in sorted(pieces.items(), key=lambda pair: pair[1]):
        if len(piece) == 1 and score - low < STEP * (len(added) + 1.5):
            added.append(piece)
    scores = sorted(pieces[piece] for piece in added)
    pieces |= dict(zip(sorted(added), scores, strict=True))
    ordered = sorted(pieces.items(), key=lambda pair: (-pair[1], pair[0]))
    content["model"]["vocab"] = [*([special, 0.0] for special in specials), *ordered]
    content["model"]["unk_id"] = list(specials).index(UNKNOWN)
    return require("tokenizers", "text").Tokenizer.from_str(json.dumps(content))

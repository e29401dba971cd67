"""Tags as the user writes them, and tags as the network learns them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from holdfast.data.text import Vocabulary, convert_tags, find_chunks, find_scheme, write_tags
from holdfast.data.text.schemes import TagError
from holdfast.errors import DataError
from holdfast.nn import allowed_transitions
from holdfast.nn.tag_schemes import Allowed, scheme_named, split_tag
from holdfast.tasks.tag.sentences import Sentences

AUTO, INSIDE, CRF = "auto", "BIOES", "crf"


@dataclass(frozen=True)
class Labels:
    """The tags of a training, in the scheme of the user and in the one inside.

    tags: those that the network knows, K of them. scheme: of the user's files, None where tags are
    no chunks. inside: what `tags` are written in.
    """

    tags: tuple[str, ...]
    scheme: str | None
    inside: str | None

    @classmethod
    def learn(cls, sentences: Sentences, scheme: str | None, output: str) -> Labels:
        """The labels of training data; `scheme` is a name, None or ``"auto"``.

        The scheme inside is the user's where some tags are not known, for then chunks cannot be
        rewritten; and without a CRF, for what reads forward alone cannot know where a chunk ends.

        Raises `DataError` for tags that are none of the scheme, with file and line.
        """
        rows = sentences.known()
        partial = any(tag is None for row in rows for tag in row)
        if scheme == AUTO:
            scheme = None if partial else detect(sentences)
        scheme = None if scheme is None else scheme_named(scheme)
        inside = scheme if partial or scheme is None or output != CRF else INSIDE
        blank = cls((), scheme, inside)
        found = [[tag for tag in row if tag] for row in blank.inward(sentences)]
        if not any(found):
            raise DataError(f"{sentences.name}: there is no token with a tag to learn from")
        words = Vocabulary.build(found, specials=(), unknown=None).words
        for tag in words if scheme is not None else ():
            _check(tag, sentences, scheme)
        return cls(words, scheme, inside)

    @cached_property
    def ids(self) -> dict[str, int]:
        """The number of each tag."""
        return {tag: number for number, tag in enumerate(self.tags)}

    @property
    def chunked(self) -> bool:
        """Whether all tags are written as those of chunks, whatever the scheme."""
        return any(tag != "O" for tag in self.tags) and all(map(_is_chunk, self.tags))

    @property
    def allowed(self) -> Allowed | None:
        """What may follow what, where tags are chunks."""
        return None if self.inside is None else allowed_transitions(self.tags, self.inside)

    def inward(self, sentences: Sentences) -> list[list[str | None]]:
        """The tags of sentences in the scheme inside.

        Raises `DataError` for tags that are none of the user's scheme, with file and line.
        """
        rows = sentences.known()
        if self.scheme == self.inside:
            return rows
        assert self.scheme is not None
        assert self.inside is not None
        turned: list[list[str | None]] = []
        for number, row in enumerate(rows):
            whole: Any = row
            try:
                turned.append([*convert_tags(whole, self.scheme, self.inside)])
            except TagError as error:
                place = sentences.table.place(number, error.at)
                raise DataError(f"{place}: {error}") from None
        return turned

    def encode(self, rows: Sequence[Sequence[str | None]]) -> np.ndarray:
        """Tags of the scheme inside as numbers, all in a row; -1 for what is not known."""
        get = self.ids.get
        return np.array([get(tag, -1) if tag else -1 for row in rows for tag in row], np.int64)

    @cached_property
    def outer(self) -> tuple[str, ...]:
        """What each tag is called outside, token by token; with IOB1, what it is called in BIO."""
        if self.inside != INSIDE or self.scheme == INSIDE:
            return self.tags
        plain = str.maketrans({"E": "I", "S": "B"})
        return tuple(tag[0].translate(plain) + tag[1:] for tag in self.tags)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The tags that probabilities are told of: the user's, or with IOB1 those of BIO."""
        return tuple(dict.fromkeys(self.outer))

    @cached_property
    def folds(self) -> np.ndarray:
        """For each tag the class that it belongs to, `[K]`."""
        return np.array([self.classes.index(tag) for tag in self.outer])

    def fold(self, shares: np.ndarray) -> np.ndarray:
        """Probabilities of tags, `[n, K]`, as those of classes, `[n, C]`."""
        if len(self.classes) == len(self.tags):
            return shares[:, np.argsort(self.folds)]
        found = np.zeros((len(shares), len(self.classes)), shares.dtype)
        np.add.at(found.T, self.folds, shares.T)
        return found

    def outward(self, ids: np.ndarray, whole: bool) -> list[str]:
        """The tags of a sentence as the user writes them, from their numbers.

        Arguments:
            whole: they are right in the scheme inside, as a CRF makes them; what is not is read by
                the rules of conlleval.
        """
        if self.scheme == self.inside or (whole and self.scheme == "BIO"):
            outer = self.outer
            return [outer[number] for number in ids]
        assert self.scheme is not None
        named = [self.tags[number] for number in ids]
        return write_tags(find_chunks(named), len(named), self.scheme)

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Labels:
        """What `as_json` gave."""
        return cls(tuple(content["tags"]), content["scheme"], content["inside"])


def detect(sentences: Sentences) -> str | None:
    """The scheme in which all tags are right; None where they are no chunks.

    Raises `DataError` where all are tags of chunks, but right in no scheme.
    """
    rows: Any = sentences.known()
    scheme = find_scheme(rows)
    tags = {tag for row in rows for tag in row}
    if scheme is not None or not tags or not all(map(_is_chunk, tags)):
        return scheme
    for number, row in enumerate(rows):
        try:
            convert_tags(row, "BIOES" if any(tag[0] in "ES" for tag in tags) else "BIO", "BIO")
        except TagError as error:
            raise DataError(
                f"{sentences.table.place(number, error.at)}: the tags look like chunks, but fit no "
                f"scheme: {error}; or pass scheme=None (--scheme none) to learn them as they are"
            ) from None
    return None


def is_chunks(tags: Sequence[Sequence[str | None]]) -> bool:
    """Whether all of these are tags of chunks."""
    return all(_is_chunk(tag) for row in tags for tag in row)


def _is_chunk(tag: str | None) -> bool:
    try:
        split_tag(tag or "")
    except ValueError:
        return False
    return True


def _check(tag: str, sentences: Sentences, scheme: str | None) -> None:
    try:
        split_tag(tag)
    except ValueError as error:
        raise DataError(
            f"{sentences.name}: {error}; pass scheme=None (--scheme none) where tags are no chunks "
            f"(got {scheme})"
        ) from None

"""Chunks from tags and tags from chunks, and from one scheme of tags into another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from holdfast.errors import DataError
from holdfast.nn.tag_schemes import PREFIXES, may_follow, scheme_named, split_tag


class Chunk(NamedTuple):
    """Some tokens that belong together: from `start` up to but without `end`, and their type."""

    start: int
    end: int
    kind: str


class TagError(DataError):
    """A tag that cannot stand where it does; `at` is its number in the sentence."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at


def find_chunks(tags: Sequence[str]) -> list[Chunk]:
    """The chunks of any tags, right or wrong, by the rules of conlleval.

    >>> find_chunks(["B-NP", "I-NP", "O", "I-VP", "I-NP"])
    [Chunk(start=0, end=2, kind='NP'), Chunk(start=3, end=4, kind='VP'), ...(start=4, end=5, ...)]

    A chunk begins with B and S, with any tag after O, E and S, and wherever the type changes. It
    ends where another begins, and before O. conlleval itself knows no S; the rest of its rules for
    B, I, E and O is kept, apart from B after E, which begins a chunk here and none there.

    Errors: `DataError` for what is no tag of a chunk.
    """
    found: list[Chunk] = []
    start, last, kind = 0, "O", ""
    for at, tag in enumerate([*tags, "O"]):
        prefix, other = _split(tag, at)
        alone = last in "OES" or prefix in "BS"
        if last != "O" and (prefix == "O" or alone or other != kind):
            found.append(Chunk(start, at, kind))
        if prefix != "O" and (alone or other != kind):
            start = at
        last, kind = prefix, other
    return found


def find_whole_chunks(tags: Sequence[str], scheme: str) -> list[Chunk]:
    """Only the chunks that are written as the scheme wants it, from their first tag to their last.

    >>> find_whole_chunks(["B-NP", "I-NP", "O", "I-VP"], "BIO")
    [Chunk(start=0, end=2, kind='NP')]
    >>> find_whole_chunks(["B-NP", "I-NP", "O", "S-VP"], "BIOES")
    [Chunk(start=3, end=4, kind='VP')]

    Errors: `DataError` for what is no tag of a chunk; `ValueError` for an unknown scheme.
    """
    scheme = scheme_named(scheme)
    if scheme == "IOB1":
        return find_chunks(tags)
    ends = "ES" if scheme == "BIOES" else "BI"
    whole = []
    for chunk in find_chunks(tags):
        first, last = tags[chunk.start][0], tags[chunk.end - 1][0]
        inner = {tag[0] for tag in tags[chunk.start + 1 : chunk.end - 1]}
        right = first == "S" if chunk.end - chunk.start == 1 else first == "B"
        if scheme == "BIO":
            right = first == "B"
        if right and last in ends and inner <= {"I"}:
            whole.append(chunk)
    return whole


def write_tags(chunks: Iterable[Chunk], length: int, scheme: str) -> list[str]:
    """The tags of a sentence with these chunks.

    >>> write_tags([Chunk(0, 2, "NP"), Chunk(2, 3, "NP")], 4, "IOB1")
    ['I-NP', 'I-NP', 'B-NP', 'O']

    Arguments:
        chunks: without overlap, in any order.
        length: tokens of the sentence.
        scheme: `"IOB1"`, `"BIO"` or `"BIOES"`.

    Errors: `ValueError` for an unknown scheme, chunks that overlap, and chunks beyond the end.
    """
    scheme = scheme_named(scheme)
    tags = ["O"] * length
    before = Chunk(0, 0, "")
    for chunk in sorted(chunks):
        if not before.end <= chunk.start < chunk.end <= length:
            raise ValueError(f"{chunk} does not fit behind {before} into {length} tokens")
        size = chunk.end - chunk.start
        touches = before.end == chunk.start and before.kind == chunk.kind and before.end > 0
        first = "I" if scheme == "IOB1" and not touches else "B"
        prefixes = [first] + ["I"] * (size - 1)
        if scheme == "BIOES":
            prefixes = ["S"] if size == 1 else ["B", *["I"] * (size - 2), "E"]
        suffix = f"-{chunk.kind}" if chunk.kind else ""
        tags[chunk.start : chunk.end] = [prefix + suffix for prefix in prefixes]
        before = chunk
    return tags


def convert_tags(tags: Sequence[str], source: str, target: str) -> list[str]:
    """The tags of a sentence in another scheme.

    >>> convert_tags(["I-NP", "I-NP", "B-NP", "O"], "IOB1", "BIOES")
    ['B-NP', 'E-NP', 'S-NP', 'O']

    Errors: `DataError` with the number of the first tag that is none of the source scheme, or may
    not follow the one before it; `ValueError` for an unknown scheme.
    """
    source, target = scheme_named(source), scheme_named(target)
    before = "O"
    for at, tag in enumerate([*tags, "O"]):
        try:
            fits = may_follow(before, tag, source)
        except ValueError as error:
            raise TagError(f"token {at + 1}: {error} ({source})", at) from None
        if not fits:
            end = at == len(tags)
            said = "the sentence may not end" if end else f"{tag!r} may not stand"
            begin = at == 0
            where = "at the beginning" if begin else f"after {before!r}"
            raise TagError(
                f"token {min(at + 1, len(tags))}: in {source} {said} {where}; correct the tag, or "
                "name the scheme that the file has",
                min(at, len(tags) - 1),
            )
        before = tag
    return write_tags(find_chunks(tags), len(tags), target)


def find_scheme(sentences: Iterable[Sequence[str]]) -> str | None:
    """The scheme in which all these tags are right: BIO, BIOES or IOB1, in this order, else None.

    >>> find_scheme([["I-NP", "O"], ["I-NP", "B-NP"]])
    'IOB1'
    >>> find_scheme([["NN", "VB"]]) is None
    True
    """
    pairs = {pair for tags in sentences for pair in zip(["O", *tags], [*tags, "O"], strict=True)}
    for scheme in ("BIO", "BIOES", "IOB1"):
        try:
            if all(may_follow(before, after, scheme) for before, after in pairs):
                return scheme
        except ValueError:
            continue
    return None


def _split(tag: str, at: int) -> tuple[str, str]:
    try:
        return split_tag(tag, PREFIXES["BIOES"])
    except ValueError as error:
        raise TagError(f"token {at + 1}: {error}", at) from None

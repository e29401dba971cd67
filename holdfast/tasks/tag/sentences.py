"""What may be given to a tagger: files, tables, lists of tokens; one form for all of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from holdfast.data.text import TokenTable, read_conll
from holdfast.data.text.columns import FORMATS
from holdfast.errors import DataError

WORD_COLUMNS = ("word", "form", "token")
"""What a column of words is called, unless it is said."""


@dataclass(frozen=True)
class Layout:
    """Which columns a tagger reads: words, further inputs, and the one that it learns.

    columns: those of files, from the left, or the name of a format.
    """

    columns: str | tuple[str, ...]
    word: str
    inputs: tuple[str, ...]
    target: str

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Layout:
        """The layout in a tagger's settings.

        Raises `DataError` for a format or a column that is not there.
        """
        given = settings["columns"]
        columns = given if isinstance(given, str) else tuple(given)
        names = FORMATS.get(columns) if isinstance(columns, str) else columns
        if names is None:
            raise DataError(
                f"columns={columns!r}: there is no such format; there are {', '.join(FORMATS)}, or "
                "give the names of the columns"
            )
        word = settings["word_column"]
        if word is None:
            word = next((name for name in WORD_COLUMNS if name in names), names[0])
        layout = cls(columns, word, tuple(settings["inputs"]), settings["column"])
        for name in (word, *layout.inputs, layout.target):
            if name not in names:
                raise DataError(
                    f"there is no column {name!r} among {', '.join(map(repr, names))}; name the "
                    "columns of the file with columns="
                )
        if layout.target in (word, *layout.inputs):
            raise DataError(f"column {layout.target!r} cannot be learned and read at once")
        return layout

    def places(self, target: bool) -> dict[str, int]:
        """The numbers of the columns that are read, with that of the tags or without."""
        names = FORMATS[self.columns] if isinstance(self.columns, str) else self.columns
        wanted = (self.word, *self.inputs, *((self.target,) if target else ()))
        return {name: names.index(name) for name in wanted}


@dataclass(frozen=True, eq=False)
class Sentences:
    """Sentences as lists of texts: words, further columns by name, and tags if they are known.

    tags: None for a tag that is not known. table: where they came from, for messages.
    """

    words: list[list[str]]
    inputs: dict[str, list[list[str]]]
    tags: list[list[str | None]] | None
    table: TokenTable

    def __len__(self) -> int:
        return len(self.words)

    @property
    def name(self) -> str:
        """The file, or X."""
        return self.table.name

    @property
    def tokens(self) -> int:
        """How many tokens there are."""
        return sum(map(len, self.words))

    def known(self) -> list[list[str | None]]:
        """The tags.

        Raises `DataError` where there are none.
        """
        if self.tags is None:
            raise DataError(f"{self.name}: there are no tags; give y, or a table that has them")
        return self.tags

    def take(self, numbers: Sequence[int]) -> Sentences:
        """The sentences of these numbers."""

        def of(rows: list[Any]) -> list[Any]:
            return [rows[number] for number in numbers]

        columns = {name: of(column) for name, column in self.table.columns.items()}
        return Sentences(
            of(self.words),
            {name: of(column) for name, column in self.inputs.items()},
            None if self.tags is None else of(self.tags),
            replace(self.table, columns=columns, lines=of(self.table.lines)),
        )

    def __getitem__(self, part: slice) -> Sentences:
        return self.take(range(len(self))[part])


def as_sentences(
    X: Any, layout: Layout, y: Any = None, *, target: bool = False, missing: str | None = None
) -> Sentences:
    """Sentences from a path, a `TokenTable`, a mapping of columns, or lists of tokens with `y`.

    Arguments:
        target: the tags must be there.
        missing: the text that stands for a tag that is not known; in `y` it may be None as well.

    Raises `DataError` for what is not there or does not fit together, with file and line.
    """
    if isinstance(X, (str, os.PathLike)):
        table = read_conll(X, layout.columns if _whole(layout) else layout.places(target))
    elif isinstance(X, TokenTable):
        table = X
    elif isinstance(X, Mapping):
        columns = {name: [list(row) for row in column] for name, column in X.items()}
        table = _table(columns, layout)
    else:
        if layout.inputs:
            raise DataError(
                f"this tagger reads the columns {', '.join(map(repr, layout.inputs))}, too; give a "
                f"mapping, such as {{{layout.word!r}: [[...]], {layout.inputs[0]!r}: [[...]]}}"
            )
        table = _table({layout.word: [_tokens(row, n) for n, row in enumerate(X)]}, layout)
    words = table[layout.word]
    inputs = {name: table[name] for name in layout.inputs}
    tags: Any = None
    if y is not None:
        tags = [list(row) for row in y]
        _same_shape(words, tags, "y")
    elif layout.target in table.columns or (target and len(table.columns) > 1):
        tags = table[layout.target]
    elif target:
        raise DataError(f"{table.name}: there are no tags; give y, or a table that has them")
    if tags is not None and missing is not None:
        tags = [[None if tag == missing else tag for tag in row] for row in tags]
    for name, column in inputs.items():
        _same_shape(words, column, name)
    return Sentences(words, inputs, tags, table)


def _whole(layout: Layout) -> bool:
    """CoNLL-U has lines that are no tokens, which its reader knows by the name of the format."""
    return layout.columns == "conllu"


def _table(columns: dict[str, list[list[str]]], layout: Layout) -> TokenTable:
    if layout.word not in columns:
        raise DataError(f"X: there is no column {layout.word!r}; there are {', '.join(columns)}")
    words = columns[layout.word]
    for name, column in columns.items():
        _same_shape(words, column, name)
    return TokenTable(columns, [list(range(1, len(row) + 1)) for row in words], "X")


def _tokens(row: Any, number: int) -> list[str]:
    if isinstance(row, str) or not isinstance(row, Iterable):
        raise DataError(
            f"X: sentence {number} is {row!r:.60}, expected a list of tokens; split it, for "
            "example with holdfast.data.text.split_words"
        )
    found = list(row)
    for at, token in enumerate(found):
        if not isinstance(token, str):
            raise DataError(f"X: sentence {number}, token {at}: got {token!r}, expected a text")
    return found


def _same_shape(words: Sequence[Any], other: Sequence[Any], name: str) -> None:
    if len(words) != len(other):
        raise DataError(f"{name}: got {len(other)} sentences, expected {len(words)} as in X")
    for number, (row, beside) in enumerate(zip(words, other, strict=True)):
        if len(row) != len(beside):
            raise DataError(
                f"{name}: sentence {number}: got {len(beside)} items for {len(row)} tokens"
            )

"""Files with a token a line and its labels in columns: CoNLL-2000, CoNLL-2003, CoNLL-U and such."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from holdfast.data.text.lines import Source, numbered
from holdfast.data.text.schemes import TagError, convert_tags, find_scheme
from holdfast.errors import DataError, did_you_mean

FORMATS: dict[str, tuple[str, ...]] = {
    "conll2000": ("word", "pos", "chunk"),
    "conll2003": ("word", "pos", "chunk", "ner"),
    "conllu": (
        *("id", "form", "lemma", "upos", "xpos"),
        *("feats", "head", "deprel", "deps", "misc"),
    ),
}
"""Columns of well-known files, by the name of the format."""


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Sentences as columns: for every name a list of sentences, each a list of texts.

    columns: by name, all of the same shape. lines: for each sentence the numbers of its lines in
    the file. name: the file.
    """

    columns: dict[str, list[list[str]]]
    lines: list[list[int]]
    name: str

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, column: str) -> list[list[str]]:
        """The sentences of a column.

        Errors: `DataError` that lists the columns.
        """
        if column not in self.columns:
            known = ", ".join(map(repr, self.columns))
            hint = did_you_mean(column, self.columns)
            raise DataError(f"{self.name}: there is no column {column!r}{hint}; there are {known}")
        return self.columns[column]

    def place(self, sentence: int, token: int) -> str:
        """File and line of a token, for messages."""
        return f"{self.name}:{self.lines[sentence][token]}"

    def convert(self, column: str, target: str, source: str | None = None) -> TokenTable:
        """The same table with the tags of a column in another scheme.

        Arguments:
            column: which.
            target: `"IOB1"`, `"BIO"` or `"BIOES"`.
            source: the scheme of the file; by default the one that all its tags fit, see
                `find_scheme`.

        Errors: `DataError`, with file and line, for tags that are none of the scheme.
        """
        tags = self[column]
        found = source or find_scheme(tags)
        if found is None:
            raise DataError(
                f"{self.name}: column {column!r} holds tags of no scheme; expected O, B-TYPE, "
                "I-TYPE, and with BIOES also E-TYPE and S-TYPE"
            )
        turned = []
        for number, sentence in enumerate(tags):
            try:
                turned.append(convert_tags(sentence, found, target))
            except TagError as error:
                raise DataError(f"{self.place(number, error.at)}: {error}") from None
        return replace(self, columns={**self.columns, column: turned})


def read_conll(
    path: Source,
    columns: str | Sequence[str] | Mapping[str, int] = "conll2000",
    *,
    separator: str | None = None,
    encoding: str = "utf-8",
) -> TokenTable:
    """The sentences of a file with a token a line and a blank line between sentences.

    >>> from pathlib import Path
    >>> _ = Path("a.txt").write_text("He PRP B-NP\\nran VBD B-VP\\n\\nYes UH O\\n")
    >>> table = read_conll("a.txt", ["word", "pos", "chunk"])
    >>> table["word"], table["chunk"]
    ([['He', 'ran'], ['Yes']], [['B-NP', 'B-VP'], ['O']])
    >>> read_conll("a.txt", {"word": 0, "tag": -1})["tag"]
    [['B-NP', 'B-VP'], ['O']]

    Blank lines may be many, and the last line need not end. Sentences of `-DOCSTART-` are left out.
    In `"conllu"` comments, words of several tokens (`1-2`) and empty nodes (`1.1`) are left out.

    Arguments:
        path: the file, also .gz or .xz.
        columns: the names of the columns from the left, or each with its number (-1 is the last);
            or one of the `FORMATS`.
        separator: between columns; by default any number of blanks and tabs (a tab in CoNLL-U).
        encoding: as in `read_lines`.

    Errors: `DataError`, with file and line, for a line with another number of columns than the
    first, or fewer than there are names, and for a file without any sentence.
    """
    places = _places(columns)
    found = list(conll_sentences(path, columns, separator=separator, encoding=encoding))
    if not found:
        raise DataError(f"{path}: there is no sentence; expected a token a line, in columns")
    read = {name: [[row[at] for row in rows] for rows, _ in found] for name, at in places.items()}
    return TokenTable(read, [lines for _, lines in found], str(path))


def conll_sentences(
    path: Source,
    columns: str | Sequence[str] | Mapping[str, int] = "conll2000",
    *,
    separator: str | None = None,
    encoding: str = "utf-8",
) -> Iterator[tuple[list[list[str]], list[int]]]:
    """Sentence by sentence, while the file is being read: all fields of each line, and its number.

    >>> from pathlib import Path
    >>> _ = Path("a.txt").write_text("He PRP\\nran VBD\\n\\nYes UH\\n")
    >>> next(conll_sentences("a.txt", ["word"]))
    ([['He', 'PRP'], ['ran', 'VBD']], [1, 2])

    Arguments and errors: as `read_conll`, but that a file without any sentence has none.
    """
    universal = columns == "conllu"
    places = _places(columns)
    separator = "\t" if universal and separator is None else separator
    rows: list[list[str]] = []
    lines: list[int] = []
    width = 0
    for number, line in numbered(path, encoding=encoding):
        if not line.strip(" \t"):
            if lines:
                yield rows, lines
                rows, lines = [], []
            continue
        if universal and line.startswith("#"):
            continue
        fields = _split(line, separator)
        if len(fields) != width:
            _check_width(f"{path}:{number}", len(fields), width, places)
            width = len(fields)
        if universal and not fields[0].isdigit():
            continue
        if fields[0] == "-DOCSTART-":
            continue
        rows.append(fields)
        lines.append(number)
    if lines:
        yield rows, lines


def _places(columns: str | Sequence[str] | Mapping[str, int]) -> dict[str, int]:
    if isinstance(columns, str):
        if columns not in FORMATS:
            raise DataError(
                f"there is no format {columns!r}; there are {', '.join(FORMATS)}, or give the "
                "names of the columns as a list"
            )
        columns = FORMATS[columns]
    if isinstance(columns, Mapping):
        return dict(columns)
    if len(set(columns)) < len(columns):
        raise DataError(f"columns need different names, got {', '.join(columns)}")
    return {name: at for at, name in enumerate(columns)}


def _split(line: str, separator: str | None) -> list[str]:
    if separator is not None:
        return line.split(separator)
    # Not line.split(): a no-break space may stand within a word.
    fields = line.replace("\t", " ").split(" ")
    return [field for field in fields if field] if "" in fields else fields


def _check_width(place: str, found: int, width: int, places: Mapping[str, int]) -> None:
    """Refuse a line that is unlike the first, which has `width` 0, and names of no column."""
    if width:
        raise DataError(
            f"{place}: got {found} columns, expected {width} as in the first line; sentences end "
            "with a blank line"
        )
    for name, at in places.items():
        if not -found <= at < found:
            raise DataError(
                f"{place}: got {found} columns, so there is no column {at} to be {name!r}; name "
                "the columns that the file has"
            )

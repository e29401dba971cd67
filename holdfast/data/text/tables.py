"""Texts and labels from tables: CSV, TSV, Parquet, JSON lines, pandas and polars frames."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.data.optional import require
from holdfast.data.text.lines import Source, numbered, opened
from holdfast.errors import DataError, did_you_mean


@dataclass(frozen=True, eq=False)
class TextTable:
    """Columns of a table as texts: for every name a list, all equally long.

    columns: by name. name: the file, or `table`.
    """

    columns: dict[str, list[str]]
    name: str

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, column: str) -> list[str]:
        return self.columns[column]


def read_table(
    data: Any, columns: Sequence[str] = ("text", "label"), *, encoding: str = "utf-8"
) -> TextTable:
    """Columns of a table, each value as text.

    >>> from pathlib import Path
    >>> _ = Path("a.csv").write_text('text,label\\n"good, really",1\\nbad,0\\n')
    >>> table = read_table("a.csv")
    >>> table["text"], table["label"]
    (['good, really', 'bad'], ['1', '0'])

    Texts may be empty; a value that is missing is refused. In a CSV file a field that is empty is
    missing, and `""` is an empty text. Numbers and truths become their spelling in JSON.

    Arguments:
        data: a file: .csv, .tsv, .parquet or .pq, .jsonl or .ndjson, of which texts may be packed
            as .gz or .xz; or a pandas or polars frame.
        columns: which.
        encoding: of files of text.

    Errors: `DataError`, naming file and line or row, for a missing file, column or value, for an
    empty table, and for what cannot be read.
    """
    if not columns:
        raise DataError("name at least one column to read")
    if not isinstance(data, (str, os.PathLike)):
        return _from_frame(_native(data), columns, "table")
    name = Path(data).name.lower().removesuffix(".gz").removesuffix(".xz")
    if name.endswith((".jsonl", ".ndjson")):
        return _from_json(data, columns, encoding)
    return _from_frame(_read_frame(data, name, encoding), columns, str(data))


def _native(data: Any) -> Any:
    nw = require("narwhals", "text")
    try:
        return nw.from_native(data, eager_only=True)
    except TypeError as error:
        raise DataError(
            f"got {type(data).__name__}; expected a path to a CSV, TSV, Parquet or JSONL file, or "
            "a pandas or polars DataFrame"
        ) from error


def _read_frame(path: Source, name: str, encoding: str) -> Any:
    polars = require("polars", "text")
    nw = require("narwhals", "text")
    parquet = name.endswith((".parquet", ".pq"))
    if not parquet and not name.endswith((".csv", ".tsv")):
        raise DataError(f"{path}: expected a file that ends in .csv, .tsv, .parquet or .jsonl")
    try:
        if parquet:
            with opened(path) as file:
                return nw.from_native(polars.read_parquet(io.BytesIO(file.read())), eager_only=True)
        lines = [line for _, line in numbered(path, encoding=encoding)]
        if not any(line.strip() for line in lines):
            raise DataError(f"{path}: the file is empty; expected a table with a header")
        content = "\n".join(lines).rstrip("\n").encode()
        separator = "\t" if name.endswith(".tsv") else ","
        table = polars.read_csv(
            io.BytesIO(content),
            infer_schema=False,
            separator=separator,
        )
    except polars.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: not a readable table ({reason})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    return nw.from_native(table, eager_only=True)


def _from_frame(frame: Any, columns: Sequence[str], name: str) -> TextTable:
    for column in columns:
        _require_column(name, column, frame.columns)
    if not len(frame):
        raise DataError(f"{name}: the table has no rows")
    found = {}
    for column in columns:
        values = frame[column].to_list()
        found[column] = [
            _as_text(f"{name}: row {row}", column, value) for row, value in enumerate(values, 1)
        ]
    return TextTable(found, name)


def _from_json(path: Source, columns: Sequence[str], encoding: str) -> TextTable:
    found: dict[str, list[str]] = {column: [] for column in columns}
    for number, line in numbered(path, encoding=encoding):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{place}: not JSON ({error}); expected an object a line") from None
        if not isinstance(row, Mapping):
            raise DataError(f"{place}: got {type(row).__name__}, expected an object a line")
        for column in columns:
            _require_column(place, column, row)
            found[column].append(_as_text(place, column, row[column]))
    if not found[columns[0]]:
        raise DataError(f"{path}: there is no row; expected an object of JSON on each line")
    return TextTable(found, str(path))


def _require_column(place: str, column: str, known: Any) -> None:
    if column not in known:
        there = ", ".join(map(repr, known)) or "none"
        hint = did_you_mean(column, known)
        raise DataError(f"{place}: there is no column {column!r}{hint}; the columns are {there}")


def _as_text(place: str, column: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or value != value:
        raise DataError(f"{place}: column {column!r} is missing; fill it, or leave the row out")
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    raise DataError(f"{place}: column {column!r} holds {type(value).__name__}, expected a text")

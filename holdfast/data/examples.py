"""Examples to be classified: texts, sequences of numbers, or both; from tables and from memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from holdfast.data.tables import check_columns, load_frame
from holdfast.data.text.tables import read_table
from holdfast.data.values import Ids, as_texts, read_ids, read_numbers, read_times
from holdfast.errors import DataError


@dataclass(frozen=True)
class Fields:
    """What the columns of a table are called.

    text: of words. label: of the class; several names are columns of 0 and 1. id: of the example
    that a row belongs to; None where each row is one. time: what the rows of an example are sorted
    by. values: of numbers, the channels. encoding: of files of text.
    """

    text: str | None = "text"
    label: str | tuple[str, ...] = "label"
    id: str | None = None
    time: str | None = None
    values: tuple[str, ...] = ()
    encoding: str = "utf-8"

    @property
    def labels(self) -> tuple[str, ...]:
        """The columns of labels."""
        return (self.label,) if isinstance(self.label, str) else tuple(self.label)


@dataclass(frozen=True, eq=False)
class Examples:
    """What is classified, one after the other.

    >>> examples = read_examples(["good", "rather bad"])
    >>> len(examples), examples.place(1)
    (2, 'example 2')

    texts: one of each, or None. series: numbers of each, `[T, I]` float64, or None. channels: names
    of the I columns. ids: what the examples are called, or nothing. name: the table's, for
    messages.
    """

    texts: list[str] | None
    series: list[np.ndarray] | None
    channels: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    name: str = ""

    def __len__(self) -> int:
        return len(self.texts if self.texts is not None else self.series or ())

    def take(self, places: Iterable[int]) -> Examples:
        """Some of them, in that order."""
        chosen = list(places)
        return replace(
            self,
            texts=None if self.texts is None else [self.texts[at] for at in chosen],
            series=None if self.series is None else [self.series[at] for at in chosen],
            ids=tuple(self.ids[at] for at in chosen) if self.ids else (),
        )

    def place(self, at: int) -> str:
        """An example as messages name it."""
        return place(self.name, self.ids, at)

    @property
    def digest(self) -> str:
        """The SHA-256 of all texts and numbers."""
        found = hashlib.sha256()
        for text in self.texts or ():
            found.update(text.encode("utf-8", "surrogatepass") + b"\0")
        for values in self.series or ():
            found.update(f"{values.shape}".encode() + np.ascontiguousarray(values).tobytes())
        return found.hexdigest()


def place(name: str, ids: Sequence[str], at: int) -> str:
    """An example as messages name it."""
    front = f"{name}: " if name else ""
    return f"{front}id {ids[at]!r}" if ids else f"{front}example {at + 1}"


def read_examples(X: Any, fields: Fields | None = None) -> Examples:
    """The examples in a table or in memory.

    >>> read_examples([[1.0, 2.0], [3.0]]).series[0].shape
    (2, 1)

    Arguments:
        X: texts; an array `[n, T, I]` (`[n, T]` for one channel); a sequence of arrays `[T, I]` or
            `[T]` of any lengths; a sequence of pairs of a text and such an array; or a table, as a
            path or a frame, by its `fields`: a row an example, or, with an id, a row an example and
            step.
        fields: the columns.

    Errors: `DataError` for what is none of these, for tables that lack a column, and for rows of
    one example with different texts.
    """
    if isinstance(X, Examples):
        return X
    if is_table(X):
        return _from_table(X, fields or Fields())
    if isinstance(X, np.ndarray) or type(X).__module__.partition(".")[0] == "torch":
        array = np.asarray(X)
        if array.dtype.kind in "fiub" and array.ndim not in (2, 3):
            raise DataError(f"got an array of shape {array.shape}; expected [n, T, I] or [n, T]")
    given = list(X) if isinstance(X, Iterable) else None
    if given is None:
        raise DataError(
            f"got {type(X).__name__}; expected texts, arrays, pairs of both, a path or a frame"
        )
    if not given:
        raise DataError("there is no example; expected at least one")
    if isinstance(given[0], str):
        return Examples(_texts(given), None)
    if isinstance(given[0], tuple) and len(given[0]) == 2 and isinstance(given[0][0], str):
        return _pairs(given)
    return _of_series(None, given)


def is_table(X: Any) -> bool:
    """Whether X is a path or a frame."""
    return isinstance(X, (str, os.PathLike)) or hasattr(X, "columns")


def _texts(given: Sequence[Any]) -> list[str]:
    for at, text in enumerate(given):
        if not isinstance(text, str):
            raise DataError(f"example {at + 1}: got {type(text).__name__}, expected a text")
    return [str(text) for text in given]


def _pairs(given: Sequence[Any]) -> Examples:
    for at, pair in enumerate(given):
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise DataError(f"example {at + 1}: expected a pair of a text and an array")
    texts, series = zip(*given, strict=True)
    return _of_series(_texts(texts), list(series))


def _of_series(texts: list[str] | None, given: list[Any]) -> Examples:
    found = []
    for at, one in enumerate(given):
        try:
            values = np.asarray(one, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"example {at + 1}: not an array of numbers ({error})") from None
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2:
            raise DataError(f"example {at + 1}: got the shape {values.shape}, expected [T, I]")
        if found and values.shape[1] != found[0].shape[1]:
            raise DataError(
                f"example {at + 1}: got {values.shape[1]} channels, expected {found[0].shape[1]} "
                "as in the first"
            )
        found.append(values)
    return Examples(texts, found, tuple(f"x{n}" for n in range(found[0].shape[1])))


def _from_table(X: Any, fields: Fields) -> Examples:
    """A table: a row an example, or several rows of one id."""
    if not fields.values:
        if fields.text is None:
            raise DataError("name the column of texts (text=), or those of numbers (values=)")
        columns = [fields.text, *([fields.id] if fields.id else [])]
        table = read_table(X, columns, encoding=fields.encoding)
        ids = tuple(table[fields.id]) if fields.id else ()
        name = table.name if isinstance(X, (str, os.PathLike)) else ""
        return Examples(table[fields.text], None, ids=ids, name=name)
    frame, ids, order, starts = _rows(X, fields)
    values = np.stack([read_numbers(frame[name], ids) for name in fields.values], axis=1)[order]
    texts = None
    if fields.text is not None and fields.text in frame.columns:
        texts = _one_each(frame, fields.text, ids, order, starts)
    series = np.split(values, starts[1:])
    name = ids.name if isinstance(X, (str, os.PathLike)) else ""
    return Examples(texts, list(series), fields.values, ids.names, name)


def read_labels(X: Any, fields: Fields) -> dict[str, list[str]]:
    """The labels in a table, by column, one for each example in the order of `read_examples`.

    Errors: `DataError` for a label that is missing, or that differs within an example.
    """
    if not fields.values:
        table = read_table(X, fields.labels, encoding=fields.encoding)
        return {name: table[name] for name in fields.labels}
    frame, ids, order, starts = _rows(X, fields, fields.labels)
    return {name: _one_each(frame, name, ids, order, starts) for name in fields.labels}


def read_labels_by_id(y: Any, fields: Fields, ids: Sequence[str]) -> dict[str, list[str]]:
    """The labels in a table of its own, which has a row for each id.

    Errors: `DataError` for an id without a row, or with two.
    """
    if fields.id is None or not ids:
        raise DataError("a table of labels needs an id column in both tables; name it in id_column")
    table = read_table(y, [fields.id, *fields.labels], encoding=fields.encoding)
    rows: dict[str, int] = {}
    for row, id in enumerate(table[fields.id]):
        if id in rows:
            raise DataError(f"{table.name}: row {row + 1}: id {id!r} stands there twice")
        rows[id] = row
    for id in ids:
        if id not in rows:
            raise DataError(f"{table.name}: there is no label for id {id!r}; add a row")
    return {name: [table[name][rows[id]] for id in ids] for name in fields.labels}


def _rows(
    X: Any, fields: Fields, more: Sequence[str] = ()
) -> tuple[Any, Ids, np.ndarray, np.ndarray]:
    """A long table, its ids, its rows in order, and where in that order each example begins."""
    frame, name = load_frame(X)
    if fields.id is None:
        raise DataError(f"{name}: rows of numbers need an id of their example; name id_column")
    wanted = [fields.id, *fields.values, *([fields.time] if fields.time else []), *more]
    check_columns(frame, wanted, name)
    if not len(frame):
        raise DataError(f"{name}: the table is empty; it needs a header and at least some rows")
    ids = read_ids(frame[fields.id], name)
    order = np.argsort(ids.codes, kind="stable")
    if fields.time:
        column = frame[fields.time]
        numeric = column.dtype.is_numeric()
        times = read_numbers(column, ids) if numeric else read_times(column, ids)
        order = np.lexsort((times, ids.codes))
        same = (np.diff(ids.codes[order]) == 0) & (times[order][1:] == times[order][:-1])
        if same.any():
            row = order[1:][same][0]
            raise DataError(
                f"{ids.where(row)}: the time {times[row]} stands there twice; keep one of the rows"
            )
    starts = np.searchsorted(ids.codes[order], np.arange(len(ids.names)))
    return frame, ids, order, starts


def _one_each(
    frame: Any, column: str, ids: Ids, order: np.ndarray, starts: np.ndarray
) -> list[str]:
    """What a column says of each example; it must say the same in all of its rows."""
    check_columns(frame, [column], ids.name)
    texts = np.array(as_texts(frame[column]).to_list(), dtype=object)[order]
    first = texts[starts][ids.codes[order]]
    for at in np.flatnonzero(texts != first)[:1]:
        raise DataError(
            f"{ids.where(order[at])}: column {column!r} holds {texts[at]!r}, but {first[at]!r} in "
            "an earlier row of this id; an example has one"
        )
    for at in [n for n, text in enumerate(texts[starts]) if text is None][:1]:
        raise DataError(f"{ids.where(order[starts[at]])}: column {column!r} is missing")
    return texts[starts].tolist()

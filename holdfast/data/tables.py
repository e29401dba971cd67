"""Long tables, a row a series and time: files, and frames of pandas, polars and Arrow.

The columns are those of the field: ``unique_id``, ``ds``, ``y``; other names can be given, and a
table with one series needs no id. What cannot be used is refused here, naming the row.
"""

from __future__ import annotations

import gzip
import io
import lzma
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.data.optional import require
from holdfast.data.plain import plain_columns
from holdfast.data.values import (
    Ids,
    Origin,
    few_ids,
    no_ids,
    read_ids,
    read_labels,
    read_numbers,
    read_times,
)
from holdfast.errors import DataError

ID, TIME, TARGET = "unique_id", "ds", "y"
# What messages call a table that is no file.
TABLE = "table"
BACKENDS = ("pandas", "polars", "pyarrow")


@dataclass(frozen=True)
class Columns:
    """What the columns are called, and what is known when; `id` None means `unique_id` if there.

    `past` names columns whose future is not known at a forecast, `future` those whose future is,
    `static` those with one value for each series. They hold numbers, but for those that
    `categorical` names (labels) and those that `text` names (words).
    """

    id: str | None = None
    time: str = TIME
    target: str = TARGET
    past: tuple[str, ...] = ()
    future: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    text: tuple[str, ...] = ()

    @property
    def covariates(self) -> tuple[str, ...]:
        """Every column beside id, time and target."""
        return (*self.past, *self.future, *self.static)

    def kind(self, name: str) -> str:
        """``"number"``, ``"category"`` or ``"text"``."""
        if name in self.text:
            return "text"
        return "category" if name in self.categorical else "number"

    def check(self) -> None:
        """Raises `DataError` for a column that is named twice, or of which nothing is known."""
        seen = {self.time: "the time", self.target: "the target"}
        if self.id:
            seen[self.id] = "the id"
        for role in ("past", "future", "static"):
            for name in getattr(self, role):
                if name in seen:
                    raise DataError(
                        f"column {name!r} is named twice, as {seen[name]} and in `{role}`; name "
                        "it once"
                    )
                seen[name] = f"one of `{role}`"
        for name in (*self.categorical, *self.text):
            if name not in self.covariates:
                raise DataError(
                    f"{name!r} is named in `categorical` or `text`, but in none of `past`, "
                    "`future` and `static`; name it there too"
                )
            if name in self.categorical and name in self.text:
                raise DataError(
                    f"column {name!r} is named in `categorical` and in `text`; name it in one"
                )


@dataclass(frozen=True)
class Part:
    """Rows of several files as one polars frame; `origin` gives the file and row of each."""

    frame: Any
    name: str
    origin: Origin


@dataclass(frozen=True)
class Rows:
    """A parsed table: ids, times (N,) datetime64[us], target (N,) and covariates by name.

    A covariate is (N,) float64 with NaN where it is empty; that of a label or a text holds its
    place in `labels`.
    """

    ids: Ids
    times: np.ndarray
    target: np.ndarray
    covariates: dict[str, np.ndarray]
    labels: dict[str, tuple[str, ...]]
    has_ids: bool
    backend: str

    @property
    def name(self) -> str:
        """The table, for messages."""
        return self.ids.name


def read_rows(data: Any, columns: Columns, *, optional: tuple[str, ...] = ()) -> Rows:
    """The rows of a CSV or Parquet file (also .gz, .xz), or of a pandas, polars or Arrow table.

    Columns that `optional` names may be missing; a missing target is NaN, a missing covariate is
    left out.

    Raises `DataError` for a missing file or column, an empty table, and a value that cannot be
    read.
    """
    plain = _plain_rows(data, columns)
    if plain is not None:
        return plain
    frame, name = load_frame(data)
    wanted = [columns.time, columns.target, *columns.covariates]
    wanted += [columns.id] if columns.id else []
    check_columns(frame, [one for one in wanted if one not in optional], name)
    if not len(frame):
        raise DataError(f"{name}: the table is empty; it needs a header and at least some rows")
    id_column = columns.id or (ID if ID in frame.columns else None)
    ids = read_ids(frame[id_column], name) if id_column else no_ids(len(frame), name)
    ids = replace(ids, origin=data.origin) if isinstance(data, Part) else ids
    covariates, labels = read_covariates(frame, columns, ids)
    there = columns.target in frame.columns
    nothing = np.full(len(frame), np.nan)
    return Rows(
        ids=ids,
        times=read_times(frame[columns.time], ids),
        target=read_numbers(frame[columns.target], ids) if there else nothing,
        covariates=covariates,
        labels=labels,
        has_ids=id_column is not None,
        backend=frame.implementation.value,
    )


def _plain_rows(data: Any, columns: Columns) -> Rows | None:
    """The rows of a small frame whose columns need no conversion; None for any other table."""
    if columns.categorical or columns.text or isinstance(data, (str, os.PathLike, Part)):
        return None
    id = columns.id or (ID if ID in getattr(data, "columns", ()) else None)
    numbers = [columns.target, *columns.covariates]
    found = plain_columns(data, id, columns.time, numbers)
    if found is None:
        return None
    texts, times, values, backend = found
    return Rows(
        ids=no_ids(len(times), TABLE) if texts is None else few_ids(texts, TABLE),
        times=times,
        target=values[0],
        covariates=dict(zip(numbers[1:], values[1:], strict=True)),
        labels={},
        has_ids=id is not None,
        backend=backend,
    )


def check_columns(frame: Any, wanted: list[str], name: str) -> None:
    """Raises `DataError` for a column that is not there, or there twice."""
    for column in wanted:
        if column not in frame.columns:
            raise DataError(
                f"{name}: there is no column {column!r}; the columns are "
                f"{', '.join(map(repr, frame.columns)) or 'none'}"
            )
        # So polars names the second one of a file.
        if f"{column}_duplicated_0" in frame.columns:
            raise DataError(f"{name}: column {column!r} stands there twice; rename one of them")


def read_covariates(
    frame: Any, columns: Columns, ids: Ids
) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]]]:
    """The covariates that `frame` (of narwhals) has, and the labels that their codes stand for."""
    covariates: dict[str, np.ndarray] = {}
    labels: dict[str, tuple[str, ...]] = {}
    for column in columns.covariates:
        if column not in frame.columns:
            continue
        if columns.kind(column) == "number":
            covariates[column] = read_numbers(
                frame[column], ids, "; or name it in `categorical` or `text`"
            )
        else:
            covariates[column], labels[column] = read_labels(frame[column])
    return covariates, labels


def make_frame(columns: dict[str, Any], backend: str) -> Any:
    """A native frame (``"pandas"``, ``"polars"``, or a table of ``"pyarrow"``)."""
    known = backend if backend in BACKENDS else "polars"
    library: Any = require(known)
    texts = {name for name, values in columns.items() if _are_texts(values)}
    plain = all(isinstance(v, np.ndarray) or name in texts for name, v in columns.items())
    if plain and known == "polars":
        return library.DataFrame(columns)
    if plain and known == "pandas":
        named = {name: np.array(columns[name], dtype=object) for name in texts}
        return library.DataFrame({**columns, **named}, copy=False)
    return require("narwhals").from_dict(columns, backend=known).to_native()


def _are_texts(values: Any) -> bool:
    """Whether a column is a list of texts alone."""
    return isinstance(values, list) and all(type(value) is str for value in values)


def load_frame(data: Any) -> tuple[Any, str]:
    """The table as a frame of narwhals, and its name for messages."""
    nw = require("narwhals")
    if isinstance(data, Part):
        return nw.from_native(data.frame, eager_only=True), data.name
    if not isinstance(data, (str, os.PathLike)):
        try:
            return nw.from_native(data, eager_only=True), TABLE
        except TypeError as error:
            raise DataError(
                f"got {type(data).__name__}; expected a path to a CSV or Parquet file, or a table "
                "of pandas, polars or Arrow"
            ) from error
        except nw.exceptions.DuplicateError as error:
            raise DataError(f"table: a column stands there twice ({error}); rename one") from error
    path = Path(data)
    polars = require("polars")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if not content.strip():
        raise DataError(f"{path}: the file is empty; expected a table with a header")
    try:
        names = path.name.lower()
        if names.endswith(".xz"):
            content, names = lzma.decompress(content), names[:-3]
        elif names.endswith(".gz"):
            content, names = gzip.decompress(content), names[:-3]
        if names.endswith((".parquet", ".pq")):
            frame = polars.read_parquet(io.BytesIO(content))
        else:
            frame = polars.read_csv(io.BytesIO(content), infer_schema_length=None)
    except (polars.exceptions.PolarsError, OSError, EOFError, lzma.LZMAError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: not a readable CSV or Parquet table ({reason})") from error
    return nw.from_native(frame, eager_only=True), str(path)

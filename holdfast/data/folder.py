"""Folders of Parquet files, also larger than memory: read in groups of series, kept on disk.

Files may be named anyhow and lie in folders within; a folder ``unique_id=abc`` gives its files a
column (as Hive writes them). A first pass counts the rows of every id, then each group of ids is
read, checked and written to temporary files, from which windows are drawn.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.data.beside import Labels, merge_labels, read_future, read_static
from holdfast.data.covariates import ROLES, Covariate, Schema, recode
from holdfast.data.frequency import Frequency
from holdfast.data.on_disk import Growing, disk_array
from holdfast.data.optional import require
from holdfast.data.panel import Panel, Series, digest_of, read_panel
from holdfast.data.tables import ID, Columns, Part
from holdfast.errors import DataError

SUFFIXES = (".parquet", ".pq")
# Rows that are read at a time.
GROUP_ROWS = 1 << 19
FILE, ROW = "holdfast file", "holdfast row"


@dataclass(frozen=True)
class Reading:
    """How far reading is: rows and series of all."""

    rows: int
    all_rows: int
    series: int
    all_series: int


def is_folder(data: Any) -> bool:
    """Whether `data` is the path of a folder."""
    return isinstance(data, (str, os.PathLike)) and Path(data).is_dir()


def read_folder(
    path: str | os.PathLike[str],
    columns: Columns | None = None,
    *,
    missing: str = "error",
    static: Any = None,
    future: Any = None,
    frequency: Frequency | None = None,
    rows: int | None = None,
    report: Callable[[Reading], None] | None = None,
) -> Panel:
    """The `Panel` of a folder of Parquet files, its series on disk; else as `read_panel`.

    At most about `rows` rows (`GROUP_ROWS`) are in memory at a time, more where one series has
    more. The series are in the order of their ids. `report` is called after every group.

    Raises `DataError` as `read_panel`, naming the file and its row.
    """
    folder = Folder(Path(path), columns or Columns(), rows or GROUP_ROWS)
    options = folder.options(missing, static, future, frequency)
    return hold(folder, folder.panels(options, report))


def read_shards(
    path: str | os.PathLike[str],
    columns: Columns | None = None,
    *,
    missing: str = "error",
    static: Any = None,
    future: Any = None,
    frequency: Frequency | None = None,
    rows: int | None = None,
    report: Callable[[Reading], None] | None = None,
) -> Iterator[Panel]:
    """The same series as `read_folder`, group by group, each a `Panel` in memory."""
    folder = Folder(Path(path), columns or Columns(), rows or GROUP_ROWS)
    return folder.panels(folder.options(missing, static, future, frequency), report)


@dataclass(frozen=True)
class _File:
    """A file, the columns its folders give it, and the ids it has, from the first to the last."""

    path: Path
    given: dict[str, str]
    first: str = ""
    last: str = ""

    def scan(self) -> Any:
        """Its rows, not read yet, with the columns of its folders."""
        pl = require("polars")
        frame = pl.scan_parquet(self.path, row_index_name=ROW, hive_partitioning=False)
        return frame.with_columns(**{name: pl.lit(text) for name, text in self.given.items()})


class Folder:
    """A folder of files, the ids in it, and groups of these."""

    def __init__(self, path: Path, columns: Columns, rows: int) -> None:
        self.path, self.columns = path, columns
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        found = [p for p in found if not p.name.startswith((".", "_"))]
        if not found:
            raise DataError(f"{path}: no Parquet file is in this folder; expected *.parquet")
        self.files = [_File(file, _given(file.relative_to(path))) for file in found]
        self.id = self._id_column()
        self.counts: dict[str, int] = {}
        self.files = [self._counted(file) for file in self.files]
        self.ids = sorted(self.counts)
        if not self.ids:
            raise DataError(f"{path}: the tables in this folder are empty; they need some rows")
        before = np.cumsum([0, *(self.counts[id] for id in self.ids)])
        number = before[:-1] // rows
        bounds = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(self.ids)]
        self.groups = [self.ids[one:other] for one, other in pairwise(bounds)]

    def _id_column(self) -> str | None:
        names = self._names(self.files[0])
        if self.columns.id is not None and self.columns.id not in names:
            raise DataError(
                f"{self.files[0].path}: there is no column {self.columns.id!r}; the columns are "
                f"{', '.join(map(repr, names)) or 'none'}"
            )
        return self.columns.id or (ID if ID in names else None)

    def _names(self, file: _File) -> list[str]:
        return [
            name for name in self._read(file, lambda f: f.collect_schema().names()) if name != ROW
        ]

    def _read(self, file: _File, what: Callable[[Any], Any]) -> Any:
        """What is asked of a file's rows; a file that cannot be read is named."""
        pl = require("polars")
        try:
            return what(file.scan())
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"{file.path}: not a readable Parquet table ({reason})") from error

    def _counted(self, file: _File) -> _File:
        """The file with its first and last id; its rows are added to `counts`."""
        pl = require("polars")
        if self.id is None:
            count = self._read(file, lambda f: f.select(pl.len()).collect().item())
            self.counts[""] = self.counts.get("", 0) + count
            return file
        key = pl.col(self.id).cast(pl.String).alias("id")
        if self.id in file.given:
            counts = self._read(
                file, lambda f: f.select(key, pl.len().alias("n")).head(1).collect()
            )
        else:
            counts = self._read(
                file,
                lambda f: (
                    f.group_by(key)
                    .agg(pl.len().alias("n"), pl.col(ROW).min().alias("row"))
                    .collect(engine="streaming")
                ),
            )
        empty = counts.filter(pl.col("id").is_null() | (pl.col("id") == ""))
        if len(empty):
            raise DataError(
                f"{file.path}: row {empty['row'].min() + 1}: column {self.id!r} has no id; fill it "
                "or leave the row out"
            )
        for id, count in zip(counts["id"].to_list(), counts["n"].to_list(), strict=True):
            self.counts[id] = self.counts.get(id, 0) + count
        ids = counts["id"].to_list()
        return replace(file, first=min(ids, default="~"), last=max(ids, default=""))

    def part(self, ids: Sequence[str]) -> Part:
        """The rows of neighboring `ids` as one table that knows where its rows come from."""
        pl = require("polars")
        frames, paths = [], []
        for file in self.files:
            if self.id is not None and (file.last < ids[0] or file.first > ids[-1]):
                continue
            frame = self._read(file, lambda f: self._chosen(f, ids).collect(engine="streaming"))
            frames.append(frame.with_columns(pl.lit(len(paths), pl.UInt32).alias(FILE)))
            paths.append(str(file.path))
        try:
            table = pl.concat(frames, how="vertical_relaxed")
        except pl.exceptions.PolarsError as error:
            raise DataError(
                f"{self.path}: the files' columns differ ({str(error).splitlines()[0]}); write "
                "them with the same columns and types"
            ) from error
        files, rows = table[FILE].to_numpy(), table[ROW].to_numpy()
        return Part(
            table.drop(FILE, ROW), str(self.path), lambda row: (paths[files[row]], int(rows[row]))
        )

    def _chosen(self, frame: Any, ids: Sequence[str]) -> Any:
        """The columns that are wanted, of the rows of some ids."""
        pl = require("polars")
        if self.id is not None:
            key = pl.col(self.id).cast(pl.String)
            frame = frame.filter(key.is_between(pl.lit(ids[0]), pl.lit(ids[-1])))
        wanted = [self.id, self.columns.time, self.columns.target, *self.columns.covariates]
        there = frame.collect_schema().names()
        return frame.select([name for name in wanted if name in there] + [ROW])

    def frequency(self) -> Frequency:
        """That of the series with the most rows."""
        longest = max(self.ids, key=lambda id: self.counts[id])
        alone = {"past": (), "future": (), "static": (), "categorical": (), "text": ()}
        columns = replace(self.columns, **alone)
        return read_panel(self.part([longest]), columns, missing="fill").frequency

    def group(self, ids: Sequence[str], **options: Any) -> Panel:
        """A group of series as a panel in memory; `options` are those of `read_panel`."""
        return read_panel(self.part(ids), self.columns, by_id=True, **options)

    def options(
        self, missing: str, static: Any, future: Any, frequency: Frequency | None
    ) -> dict[str, Any]:
        """The options of every `group`: tables are read once, all groups have one frequency."""
        known: dict[str, Any] = {"frequency": frequency or self.frequency()}
        if frequency is None:
            known["like"] = "others are"
        beside, after = read_static(static, self.columns), read_future(future, self.columns)
        return {"missing": missing, "static": beside, "future": after, **known}

    def panels(
        self,
        options: dict[str, Any],
        report: Callable[[Reading], None] | None,
        read: Callable[[dict[str, Any]], Iterator[Panel]] | None = None,
    ) -> Iterator[Panel]:
        """Each group as a panel in memory; `read` reads them elsewhere, in order."""
        total, rows, series = sum(self.counts.values()), 0, 0
        panels = (self.group(ids, **options) for ids in self.groups)
        for ids, panel in zip(self.groups, read(options) if read else panels, strict=True):
            yield panel
            rows += sum(self.counts[id] for id in ids)
            series += len(ids)
            if report is not None:
                report(Reading(rows, total, series, len(self.ids)))


def hold(folder: Folder, panels: Iterator[Panel]) -> Panel:
    """The panels of a folder as one, on disk."""
    held = Held(folder.columns)
    with contextlib.ExitStack() as stack:
        for growing in held.growing.values():
            stack.callback(growing.close)
        for panel in panels:
            held.add(panel)
        return held.panel(str(folder.path))


def _given(path: Path) -> dict[str, str]:
    """The columns that the folders of a file name, as in ``unique_id=abc``."""
    pairs = (part.partition("=") for part in path.parts[:-1] if "=" in part)
    return {name: text for name, _, text in pairs}


class StoredSeries(Sequence[Series]):
    """Series that lie one after the other in arrays on disk."""

    def __init__(self, ids: list[str], arrays: dict[str, np.ndarray], bounds: np.ndarray) -> None:
        self.ids, self.arrays, self.bounds = ids, arrays, bounds

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        at = range(len(self))[place]
        (row, ahead), (end, last) = self.bounds[at].tolist(), self.bounds[at + 1].tolist()
        part = {name: self.arrays[name][row:end] for name in ("times", "y", "observed", "past")}
        future, static = self.arrays["future"][ahead:last], self.arrays["static"][at]
        return Series(id=self.ids[at], future=future, static=static, **part)


class Held:
    """Panels, one after the other, on disk."""

    def __init__(self, columns: Columns) -> None:
        widths = {role: len(getattr(columns, role)) for role in ROLES}
        self.columns = columns
        self.growing = {
            "times": Growing("datetime64[us]"),
            "y": Growing(np.float64),
            "observed": Growing(np.bool_),
            **{role: Growing(np.float64, widths[role]) for role in ROLES},
        }
        self.ids: list[str] = []
        self.bounds: list[tuple[int, int]] = [(0, 0)]
        self.gaps: set[tuple[str, str]] = set()
        # The labels of each group, and where its rows begin in the arrays of each role.
        self.labels: list[tuple[Labels, dict[str, int]]] = []
        self.last: Panel | None = None

    def add(self, panel: Panel) -> None:
        """Write a panel behind the others."""
        self.labels.append(
            (
                {c.name: c.labels for c in panel.schema.covariates},
                {role: self.growing[role].rows for role in ROLES},
            )
        )
        self.gaps |= {(c.role, c.name) for c in panel.schema.covariates if c.gaps}
        for name, growing in self.growing.items():
            parts = [getattr(one, name) for one in panel.series]
            growing.add(np.stack(parts) if name == "static" else np.concatenate(parts))
        for one in panel.series:
            row, ahead = self.bounds[-1]
            self.ids.append(one.id)
            self.bounds.append((row + len(one), ahead + len(one.future)))
        # Its series are written; only what it says of all of them is needed.
        self.last = replace(panel, series=())

    def panel(self, name: str) -> Panel:
        """Everything that was added, as one panel."""
        assert self.last is not None
        arrays = {name: growing.finish() for name, growing in self.growing.items()}
        labels = merge_labels(*(own for own, _ in self.labels))
        schema = Schema(
            tuple(
                Covariate(c.name, c.role, c.kind, labels[c.name], (c.role, c.name) in self.gaps)
                for c in self.last.schema.covariates
            )
        )
        self._recode(arrays, schema)
        series = StoredSeries(self.ids, arrays, np.array(self.bounds))
        return replace(
            self.last,
            series=series,
            schema=schema,
            name=name,
            digest=digest_of(series),
            array=disk_array,
        )

    def _recode(self, arrays: dict[str, np.ndarray], schema: Schema) -> None:
        """Labels of every group, coded as those of all."""
        starts = [begin for _, begin in self.labels]
        ends = [*starts[1:], {role: len(arrays[role]) for role in ROLES}]
        for (own, begin), end in zip(self.labels, ends, strict=True):
            for role in ROLES:
                part = arrays[role][begin[role] : end[role]]
                for place, covariate in enumerate(schema.of(role)):
                    if covariate.kind != "number":
                        mine = own[covariate.name]
                        part[:, place] = recode(part[:, place], mine, covariate.labels)

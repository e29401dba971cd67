"""What an experiment leaves: a table for people, one line of JSON, and a part of a page."""

from __future__ import annotations

import dataclasses
import datetime
import json
import statistics
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.papers.registry import Experiment, Row, Settings
from benchmarks.report import machine, versions

RECORD = Path(__file__).parent.parent / "results" / "papers.jsonl"
PAGE = Path(__file__).parent.parent.parent / "docs" / "papers.md"

NOTHING = "No run is recorded yet.\n"

HEAD = (
    f"{'task':34} {'model':34} {'solved':>7} {'sequences, median (mean)':>26} "
    f"{'as published':>13} {'CPU':>8}"
)

VERDICTS = {True: "reached", False: "NOT REACHED", None: ""}


def timed(experiment: Experiment, settings: Settings) -> Iterator[Row]:
    """The rows of an experiment as they come, each with its processor time."""
    before = time.process_time()
    for row in experiment.run(settings):
        now = time.process_time()
        yield dataclasses.replace(row, seconds=round(now - before, 1))
        before = time.process_time()


def lines(row: Row) -> Iterator[str]:
    """The lines of a row on a terminal.

    >>> line, published = lines(Row("adding", "lstm", 2, 1, (100,), published="74,000"))
    >>> line.split(), published.strip()
    (['adding', 'lstm', '1/2', '100', '0', 's'], 'published: 74,000')
    """
    line = (
        f"{row.task:34} {row.model:34} {solved(row):>7} {sequences(row):>26} "
        f"{VERDICTS[row.reached]:>13} {row.seconds:6.0f} s"
    )
    yield line.rstrip()
    others = {row.measure: values(row), "published": row.published, "note": row.note}
    for name, text in others.items():
        if name and text:
            yield from textwrap.wrap(
                f"{name}: {text}", 120, initial_indent="    ", subsequent_indent="      "
            )


def solved(row: Row) -> str:
    """How many of the seeds met the criterion."""
    return "" if row.solved is None else f"{row.solved}/{row.seeds}"


def sequences(row: Row) -> str:
    """Median of the sequences to success, and the mean where it says more.

    >>> sequences(Row("", "", 3, 3, (1000, 2000, 6000)))
    '2,000 (3,000)'
    """
    median, mean = row.median_sequences, row.mean_sequences
    if median is None or mean is None:
        return ""
    return f"{median:,.0f}" if len(row.sequences) == 1 else f"{median:,.0f} ({mean:,.0f})"


def values(row: Row) -> str:
    """Mean of the other result, with its standard deviation from four seeds on, and its range.

    >>> values(Row("", "", 3, measure="NLL", values=(8.5, 8.7, 8.6)))
    '8.6 (8.5 .. 8.7)'
    >>> values(Row("", "", 4, measure="NLL", values=(1, 3, 1, 3)))
    '2 ± 1 (1 .. 3)'
    """
    if not row.values:
        return ""
    mean = _figure(statistics.fmean(row.values))
    if len(row.values) == 1:
        return mean
    spread = f" ± {_figure(statistics.pstdev(row.values))}" if len(row.values) > 3 else ""
    return f"{mean}{spread} ({_figure(min(row.values))} .. {_figure(max(row.values))})"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def record(experiment: Experiment, rows: Sequence[Row], settings: Settings, threads: int) -> str:
    """The run of an experiment as one line of JSON."""
    content = {
        "benchmark": "papers",
        "experiment": experiment.name,
        "title": experiment.title,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "threads": threads,
        "options": dataclasses.asdict(settings),
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def newest(path: Path) -> list[dict[str, Any]]:
    """The last run of each experiment, in the order in which they were first recorded.

    >>> newest(Path("no such file"))
    []
    """
    if not path.exists():
        return []
    runs = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return list({run["experiment"]: run for run in runs}.values())


def render(runs: Iterable[dict[str, Any]]) -> str:
    """Runs as Markdown: for each a table, and below it what is to be said about its rows.

    >>> render([])
    'No run is recorded yet.\\n'
    """
    parts = ["\n".join(_section(run)) + "\n" for run in runs]
    return "\n".join(parts) or NOTHING


def _section(run: dict[str, Any]) -> Iterator[str]:
    rows = [_row(data) for data in run["rows"]]
    yield f"### {run['title']}"
    yield ""
    seeds = run["options"]["seeds"]
    chosen = "" if seeds is None else f" --seeds {seeds}"
    yield f"`python -m benchmarks papers {run['experiment']}{chosen}`, {run['date'][:10]}."
    yield ""
    yield "| task | model | solved | sequences, median (mean) | other | published | | CPU s |"
    yield "|---|---|---:|---:|---|---|---|---:|"
    for row in rows:
        other = f"{row.measure}: {values(row)}" if row.values else ""
        cells = (
            row.task,
            row.model,
            solved(row),
            sequences(row),
            other,
            row.published,
            VERDICTS[row.reached].lower(),
            f"{row.seconds:.0f}",
        )
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    noted = [row for row in rows if row.note]
    if noted:
        yield ""
    for row in noted:
        yield f"- {row.task}, {row.model}: {row.note}"


def _row(data: dict[str, Any]) -> Row:
    fields: dict[str, Any] = dict(data)
    for name in ("sequences", "values"):
        fields[name] = tuple(fields[name])
    return Row(**fields)

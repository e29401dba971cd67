"""What a contest leaves: a table for people, one line of JSON, a part of a page."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import statistics
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contests import Amount, Experiment, Row
from benchmarks.report import RESULTS, about, entry, short, threads_text

PAGES = {
    "scores": Path(__file__).parent.parent / "docs" / "results.md",
    "speed": Path(__file__).parent.parent / "docs" / "performance.md",
}
"""The page that shows the records of a kind."""

LIBRARIES = {
    "forecast": ("neuralforecast", "darts", "statsforecast", "utilsforecast"),
    "text": ("scikit-learn", "tokenizers", "sacrebleu"),
}
"""Libraries that take part, by verb."""

USUAL: dict[str, Any] = {
    "seeds": None,
    "steps": 1000,
    "peer_seeds": None,
    "peers": ("neuralforecast", "darts"),
}
"""Options of commands, and what they are unless a command says otherwise."""


def file(verb: str, kind: str, folder: Path = RESULTS) -> Path:
    """Where runs of a kind are recorded.

    >>> file("forecast", "speed").name
    'forecast_speed.jsonl'
    """
    return folder / f"{verb}_{kind}.jsonl"


def lines(row: Row) -> Iterator[str]:
    """The lines of a row on a terminal.

    >>> list(lines(Row("naive", {"MAE": (2.0, 4.0)}, "a note")))
    ['naive                         MAE 3 (2 .. 4)', '    a note']
    """
    figures = ", ".join(f"{name} {figure(values)}" for name, values in row.figures.items())
    yield f"{row.contender:29} {figures}".rstrip()
    if row.note:
        yield from textwrap.wrap(row.note, 120, initial_indent="    ", subsequent_indent="      ")


def figure(values: Sequence[float]) -> str:
    """The mean of the values, and their range where there are several.

    >>> figure([12345.678]), figure([0.5, 0.75])
    ('12,346', '0.625 (0.5 .. 0.75)')
    """
    mean = _one(statistics.fmean(values))
    if len(values) == 1:
        return mean
    return f"{mean} ({_one(min(values))} .. {_one(max(values))})"


def _one(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def libraries(verb: str) -> dict[str, str]:
    """Versions of the libraries that take part, where they are installed."""
    found = {}
    for name in LIBRARIES[verb]:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def record(
    verb: str, experiment: Experiment, rows: Sequence[Row], settings: Amount, threads: int
) -> str:
    """The run of an experiment as one line of JSON."""
    data = []
    for row in rows:
        figures = {name: [short(v) for v in values] for name, values in row.figures.items()}
        data.append({"contender": row.contender, "figures": figures, "note": row.note})
    return entry(
        verb,
        threads,
        data,
        [],
        experiment=experiment.name,
        title=experiment.title,
        published=experiment.published,
        rivals=libraries(verb),
        options=dataclasses.asdict(settings),
    )


def newest(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last run of each experiment, in the order in which they were first recorded."""
    return list({run["experiment"]: run for run in runs}.values())


def _changed(options: Mapping[str, Any]) -> Iterator[str]:
    """What a command said beyond its defaults."""
    for name, usual in USUAL.items():
        value = options.get(name, usual)
        # A tuple comes back from JSON as a list.
        if isinstance(usual, tuple):
            value, usual = ",".join(value) or "none", ",".join(usual)
        if value != usual:
            yield f" --{name.replace('_', '-')} {value}"


def section(run: Mapping[str, Any]) -> Iterator[str]:
    """Lines of Markdown for one run."""
    more = "".join(_changed(run["options"]))
    columns = list(dict.fromkeys(name for row in run["rows"] for name in row["figures"]))
    yield f"### {run['title']}"
    yield ""
    yield f"`python -m benchmarks {run['benchmark']} {run['experiment']}{more}`,"
    yield f"{threads_text(run['threads'])}, {about(run)}"
    if run["published"]:
        yield ""
        yield f"Published: {run['published']}."
    yield ""
    yield f"| | {' | '.join(columns)} |"
    yield f"|---|{'---:|' * len(columns)}"
    for row in run["rows"]:
        cells = [figure(row["figures"][n]) if n in row["figures"] else "" for n in columns]
        yield f"| {row['contender']} | {' | '.join(cells)} |"
    noted = [row for row in run["rows"] if row["note"]]
    if noted:
        yield ""
    for row in noted:
        yield f"- {row['contender']}: {row['note']}"

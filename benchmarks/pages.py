"""Recorded runs as parts of a page: `python -m benchmarks pages` writes them anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import (
    cells_report,
    contests_report,
    layers_report,
    memory,
    options_report,
    roofline,
    scaling,
    stream_report,
    summary,
)
from benchmarks.report import newest, runs

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"

RESULTS_PAGE = PAGE.with_name("results.md")

BEGIN = "<!-- written by `python -m benchmarks pages` -->"
END = "<!-- end of what is written -->"

NOTHING = "No run is recorded yet.\n"

FILES = ("layers", "cells", "options", "variants", "stream", "memory", "threads")
"""Recorded runs, as `NAME.jsonl` in the folder of results."""

Section = Callable[[dict[str, Any]], Iterator[str]]


def marks(name: str) -> tuple[str, str]:
    """The lines between which a part stands.

    >>> marks("cells")[1]
    '<!-- end of cells -->'
    """
    return f"<!-- {name}, written by `python -m benchmarks pages` -->", f"<!-- end of {name} -->"


def render(found: Iterable[dict[str, Any]], section: Section) -> str:
    """Runs as Markdown: for each what `section` says of it.

    >>> render([], options_report.section)
    'No run is recorded yet.\\n'
    """
    parts = ["\n".join(section(run)) + "\n" for run in found]
    return "\n".join(parts) or NOTHING


def _newest(name: str, section: Section) -> Callable[[Path], str]:
    return lambda folder: render(newest(folder / f"{name}.jsonl"), section)


def _summary(folder: Path) -> str:
    every: Mapping[str, Any] = {name: runs(folder / f"{name}.jsonl") for name in FILES}
    return "\n".join(summary.table(summary.Records(**every))) + "\n"


def _layers(folder: Path) -> str:
    text = "\n".join(layers_report.sections(runs(folder / "layers.jsonl")))
    return f"{text.rstrip()}\n" if text else NOTHING


def _roofline(folder: Path) -> str:
    if not roofline.ceilings(runs(folder / "layers.jsonl")):
        return NOTHING
    return f"![What was reached under the roofs of this machine]({roofline.PICTURE.name})\n"


def contests(verb: str, kind: str) -> Callable[[Path], str]:
    """The last recorded runs of a verb and kind as a text, from the folder of results."""

    def text(folder: Path) -> str:
        found = contests_report.newest(runs(contests_report.file(verb, kind, folder)))
        return render(found, contests_report.section)

    return text


PARTS: dict[str, Callable[[Path], str]] = {
    "summary": _summary,
    "roofline": _roofline,
    "layers": _layers,
    "stream": _newest("stream", stream_report.section),
    "memory": _newest("memory", memory.section),
    "threads": _newest("threads", scaling.section),
    "options": _newest("options", options_report.section),
    "forecast": contests("forecast", "speed"),
    "text": contests("text", "speed"),
    "cells": _newest("cells", cells_report.section),
}
"""Parts of the page by name: each a text from the folder of results."""


def write_all(page: Path, folder: Path) -> None:
    """Every part of the page, and the picture beside it."""
    for name, part in PARTS.items():
        write(page, part(folder), *marks(name))
    roofline.draw(runs(folder / "layers.jsonl"), page.parent / roofline.PICTURE.name)


def write_results(page: Path, folder: Path) -> None:
    """The recorded scores of forecasts and of the jobs on text, into the page of results."""
    write(page, contests("forecast", "scores")(folder))
    write(page, contests("text", "scores")(folder), *marks("text"))


def write(page: Path, text: str, begin: str = BEGIN, end: str = END) -> None:
    """Put a text between two marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(begin + "\n")
    _, mark, after = rest.partition(end)
    if not mark:
        raise ValueError(f"{page} has no two lines {begin} and {end} to write between")
    page.write_text(f"{before}{begin}\n\n{text}\n{end}{after}", encoding="utf-8")


def written(page: Path, begin: str = BEGIN, end: str = END) -> str:
    """The text between two marks of a page."""
    rest = page.read_text(encoding="utf-8").partition(begin + "\n\n")[2]
    return rest.partition("\n" + end)[0]

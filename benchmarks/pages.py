"""Recorded runs as a part of a page: `python -m benchmarks pages` writes it anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.registry import PASSES
from benchmarks.report import duration

RECORD = Path(__file__).parent / "results" / "options.jsonl"
PAGE = Path(__file__).parent.parent / "docs" / "performance.md"

BEGIN = "<!-- written by `python -m benchmarks pages` -->"
END = "<!-- end of what is written -->"

NOTHING = "No run is recorded yet.\n"


def newest(path: Path) -> list[dict[str, Any]]:
    """The last run of each number of threads, one thread first; none without a file.

    >>> newest(Path("no such file"))
    []
    """
    if not path.exists():
        return []
    runs = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    last = {run["threads"]: run for run in runs}
    return [last[threads] for threads in sorted(last)]


def render(
    runs: Iterable[dict[str, Any]],
    section: Callable[[dict[str, Any]], Iterator[str]] | None = None,
) -> str:
    """Runs as Markdown: for each what `section` says of it.

    >>> render([])
    'No run is recorded yet.\\n'

    Arguments:
        section: lines of one run; those of `options` where None.
    """
    parts = ["\n".join((section or options_section)(run)) + "\n" for run in runs]
    return "\n".join(parts) or NOTHING


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


def options_section(run: dict[str, Any]) -> Iterator[str]:
    """Lines of Markdown for a run over the options: a table with a row for each."""
    threads, machine, day = run["threads"], run["machine"], run["date"][:10]
    versions = ", ".join(f"{name} {run['versions'][name]}" for name in ("python", "torch"))
    yield f"### {threads} thread{'s' if threads > 1 else ''}"
    yield ""
    yield f"{run['shape']}, {run['options']['rounds']} rounds, {day}, on {machine['cpu']}"
    yield f"({machine['llvm_cpu']}) with {machine['cores']} cores, {versions}."
    yield f"Plain layer: {_plain(run)}."
    yield ""
    yield "| option | mode | cost, forward | f+b | limit | | beside | peer ÷ ours, forward | f+b |"
    yield "|---|---|---:|---:|---:|---|---|---:|---:|"
    for name in dict.fromkeys(row["option"] for row in run["rows"]):
        rows = {row["pass"]: row for row in run["rows"] if row["option"] == name}
        yield _line(*(rows[which] for which in PASSES))
    for refused in run["refused"]:
        yield f"\n{refused['option']} was not measured: {refused['reason']}."


def _plain(run: dict[str, Any]) -> str:
    """The plain layer's time in both passes, beside the first option that it is compared with."""
    medians = {}
    for row in run["rows"]:
        if row["plain_layers"] == 1:
            medians.setdefault(row["pass"], duration(row["plain_median_s"]))
    return ", ".join(f"{which} {time}" for which, time in medians.items())


def _line(forward: dict[str, Any], both: dict[str, Any]) -> str:
    above = [row["pass"] for row in (forward, both) if row["verdict"] == "above"]
    limit = forward["limit"]
    verdict = "" if limit is None else f"above ({', '.join(above)})" if above else "within"
    cells = (
        f"`{forward['option']}`",
        forward["mode"],
        _ratio(forward["cost"]),
        _ratio(both["cost"]),
        "" if limit is None else f"{limit:.2f}",
        verdict,
        forward["peer"],
        _ratio(forward["peer_ratio"]),
        _ratio(both["peer_ratio"]),
    )
    return f"| {' | '.join(cells)} |"


def _ratio(ratio: dict[str, Any]) -> str:
    low, high = ratio["interval"]
    return f"{ratio['median']:.2f} [{low:.2f}..{high:.2f}]"

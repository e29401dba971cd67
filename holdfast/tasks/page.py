"""Pages that need nothing but themselves: no network, no script, pictures inside.

Headings come in order, tables say what their columns are, pictures what they show, and whatever is
wider than a telephone scrolls by itself and can be reached with the keyboard.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from holdfast.tasks import plots

STYLE = """
:root { color-scheme: light; --ink: #1f2933; --quiet: #52606d; --line: #e4e7eb; --ours: #0b6e99; }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  color: var(--ink); background: #f7f9fa; margin: 0; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.15rem; margin: 0 0 .6rem; }
p { margin: 0 0 .8rem; max-width: 46rem; overflow-wrap: break-word; }
.lead { color: var(--quiet); font-size: 1.05rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 1rem;
  margin: 1.6rem 0; padding: 0; list-style: none; }
.card, section { background: #fff; border: 1px solid var(--line); border-radius: .6rem; }
.card { padding: 1rem 1.1rem; }
.card b { display: block; font-size: 1.7rem; color: var(--ours); line-height: 1.2; }
.card span { color: var(--quiet); font-size: .88rem; }
section { padding: 1.3rem 1.4rem; margin: 0 0 1.2rem; }
.warning { border-left: .35rem solid #b44d12; background: #fff8f1; }
.warning ul { margin: 0; padding-left: 1.2rem; }
figure { margin: 0 0 .8rem; }
.scroll { overflow-x: auto; }
.end { direction: rtl; }
.end > * { direction: ltr; }
.scroll:focus-visible { outline: 3px solid var(--ours); outline-offset: 2px; }
img { display: block; width: 100%; height: auto; }
img.wide { min-width: 42rem; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr));
  gap: 1.2rem; margin-bottom: 1.2rem; }
.two section { margin: 0; min-width: 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); font-size: .88rem; padding-bottom: .4rem; }
th, td { text-align: right; padding: .38rem .6rem; border-bottom: 1px solid var(--line); }
th { color: var(--quiet); font-weight: 600; font-size: .85rem; white-space: nowrap; }
th[scope=row] { color: inherit; font-weight: 400; font-size: 1em; white-space: normal; }
th:first-child, td:first-child { text-align: left; }
tr.ours td, tr.ours th { color: var(--ours); font-weight: 600; }
td.best { background: #e6f4fa; }
.facts th, .facts td { text-align: left; vertical-align: top; }
.facts th { color: var(--quiet); width: 14rem; }
code { font: .86em/1.4 ui-monospace, "Cascadia Code", Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
footer, .note { color: var(--quiet); font-size: .88rem; }
.note { margin-top: .8rem; }
@media (max-width: 40rem) {
  main { padding: 1.4rem .8rem 3rem; }
  section { padding: 1rem .9rem; }
  .cards { grid-template-columns: 1fr 1fr; gap: .6rem; }
  .card b { font-size: 1.35rem; }
  .facts th { width: 8rem; }
}
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""


def page(title: str, lead: str, parts: Iterable[str], footer: str = "") -> str:
    """The whole page as a string; `parts` are sections of HTML, the rest is text."""
    foot = f"<footer><p>{text(footer)}</p></footer>" if footer else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body><main>
<h1>{text(title)}</h1>
<p class="lead">{text(lead)}</p>
{"".join(part for part in parts if part)}
{foot}</main></body>
</html>
"""


def text(words: Any) -> str:
    """Words as they are, whatever signs are among them."""
    return html.escape(str(words))


def cards(facts: Iterable[tuple[str, str]]) -> str:
    """Numbers to see first, each with what it is."""
    boxes = "".join(
        f'<li class="card"><b>{text(number)}</b><span>{text(meaning)}</span></li>'
        for number, meaning in facts
    )
    return f'<ul class="cards">{boxes}</ul>'


def section(title: str, *parts: str, kind: str = "") -> str:
    """A part of the page under a heading; nothing where nothing is in it."""
    body = "".join(parts)
    shown = f' class="{kind}"' if kind else ""
    return f"<section{shown}><h2>{text(title)}</h2>{body}</section>\n" if body else ""


def beside(*sections: str) -> str:
    """Sections beside each other, where there is room."""
    body = "".join(sections)
    return f'<div class="two">{body}</div>' if body else ""


def picture(figure: Any, meaning: str, *, wide: bool = True, end: bool = False) -> str:
    """A figure inside the page, and what it shows for those who do not see it.

    Where a `wide` one has to be scrolled, its right `end` is seen first if that is what matters.
    """
    kind = ' class="wide"' if wide else ""
    image = f'<img{kind} alt="{text(meaning)}" src="{plots.inline(figure)}">'
    shown = _scrolling(image, meaning, "scroll end" if end else "scroll") if wide else image
    return f"<figure>{shown}</figure>"


def note(words: str) -> str:
    """A remark."""
    return f'<p class="note">{text(words)}</p>'


def paragraph(words: str) -> str:
    """A paragraph."""
    return f"<p>{text(words)}</p>"


def warnings_section(found: Sequence[str]) -> str:
    """What to beware of, or nothing."""
    points = "".join(f"<li>{text(words)}</li>" for words in found)
    return section("Beware", f"<ul>{points}</ul>", kind="warning") if found else ""


def table(
    meaning: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    best: Iterable[tuple[int, int]] = (),
    ours: int | None = None,
) -> str:
    """A table whose first column names its rows; `best` cells (row, column) are shaded."""
    shaded = set(best)
    lines = []
    for place, row in enumerate(rows):
        cells = "".join(
            f"<td{' class=best' if (place, column) in shaded else ''}>{text(cell)}</td>"
            for column, cell in enumerate(row[1:], 1)
        )
        kind = ' class="ours"' if place == ours else ""
        lines.append(f'<tr{kind}><th scope="row">{text(row[0])}</th>{cells}</tr>')
    top = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    body = (
        f"<table><caption>{text(meaning)}</caption><thead><tr>{top}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )
    return _scrolling(body, meaning)


def markdown_table(meaning: str, lines: str) -> str:
    """A table that is written in Markdown."""
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in lines.strip().splitlines()
    ]
    return table(meaning, rows[0], rows[2:]) if len(rows) > 2 else ""


def facts(rows: dict[str, Any]) -> str:
    """Names and values, one a row."""
    lines = "".join(
        f'<tr><th scope="row">{text(name)}</th><td><code>{text(value)}</code></td></tr>'
        for name, value in rows.items()
    )
    return f'<table class="facts"><tbody>{lines}</tbody></table>'


def _scrolling(body: str, meaning: str, kind: str = "scroll") -> str:
    """Something that may be wider than the page, and can be scrolled with the keyboard."""
    label = text(meaning)
    return f'<div class="{kind}" role="region" tabindex="0" aria-label="{label}">{body}</div>'

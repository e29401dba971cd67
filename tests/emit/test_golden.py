"""The texts of every cell of the catalogue are those that were reviewed.

A file holds the graph, the backward graph and the plan of a cell, and how often each of its kernels
uses each instruction; of one cell the LLVM text is kept whole. `HOLDFAST_ACCEPT=1` writes the texts
of today instead of comparing; the diff is then to be read.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from holdfast.cells import CELLS
from holdfast.compiler.build import stages
from holdfast.compiler.emit.target import TARGETS

FOLDER = Path(__file__).resolve().parent.parent / "golden"
EXPECTED = [*(f"{name}.txt" for name in CELLS), "lstm.llvm.txt"]


def _text(file: str) -> str:
    name, _, stage = file.removesuffix(".txt").partition(".")
    if stage:
        return _stage(name, stage, "train").rstrip("\n") + "\n"
    sections = {read: _stage(name, read, "train") for read in ("graph", "backward", "plan")}
    counts = (_instructions(name, mode) for mode in ("infer", "train", "backward"))
    sections["instructions"] = "".join(counts)
    texts = (f"# {section}\n{text.rstrip()}\n" for section, text in sections.items())
    return "\n".join(texts)


def _stage(name: str, stage: str, mode: str) -> str:
    target = TARGETS["avx2"]
    texts = stages(CELLS[name], mode, input_size=3, hidden_size=5, target=target, only=stage)
    return texts[stage]


def _instructions(name: str, mode: str) -> str:
    """How often each instruction, or called function, stands in one kernel."""
    counted: Counter[str] = Counter()
    for line in _stage(name, "llvm", mode).splitlines():
        found = re.match(r"\s+(?:%\S+ = )?(?:tail )?([a-z]+)\b", line)
        if found:
            called = re.search(r'@"?([\w.]+)', line) if found[1] == "call" else None
            counted[f"call {called[1]}" if called else found[1]] += 1
    return "".join(f"{mode}: {count} {kind}\n" for kind, count in sorted(counted.items()))


@pytest.mark.parametrize("file", EXPECTED)
def test_the_text_is_the_reviewed_one(file: str) -> None:
    text = _text(file)
    path = FOLDER / file
    if os.environ.get("HOLDFAST_ACCEPT") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    reviewed = path.read_text(encoding="utf-8") if path.exists() else ""
    difference = difflib.unified_diff(
        reviewed.splitlines(), text.splitlines(), file, "now", lineterm=""
    )
    assert reviewed == text, (
        "\n".join(difference) + "\nif this is meant, run once with HOLDFAST_ACCEPT=1 and review"
    )


def test_nothing_else_is_kept() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("file", EXPECTED)
def test_a_text_names_no_path(file: str) -> None:
    text = (FOLDER / file).read_text(encoding="utf-8")
    assert str(FOLDER.parent.parent) not in text
    places = [line.partition("  # ")[2] for line in text.splitlines() if "  # " in line]
    assert not [place for place in places if "/" in place]

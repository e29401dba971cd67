"""Documentation runs: every Python block of a page and every example of a docstring."""

from __future__ import annotations

import doctest
import importlib
import linecache
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(?P<info>.*)\n(?P<text>(?:.*\n)*?)```$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block of a page: ``python`` or ``console``, its text and the line it starts on."""

    language: str
    remark: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    source = page.read_text(encoding="utf-8")
    found = []
    for fence in FENCE.finditer(source):
        language, _, remark = fence["info"].strip().partition(" ")
        line = source.count("\n", 0, fence.start("text")) + 1
        found.append(Block(language, remark.strip(), fence["text"], line))
    return found


def run(page: Path) -> int:
    """Execute the Python blocks of a page in one namespace; returns how many ran.

    A block is left out by a visible ``python notest: reason`` only.
    """
    namespace: dict[str, Any] = {"__name__": "__docs__"}
    count = 0
    for block in blocks(page):
        if block.language != "python":
            continue
        if block.remark:
            reason = re.fullmatch(r"notest: \S.*", block.remark)
            assert reason, f"{page.name}:{block.line - 1}: want `python` or `python notest: reason`"
            continue
        # Blank lines in front put the page's own line numbers into tracebacks and cell errors.
        code = compile("\n" * (block.line - 1) + block.text, str(page), "exec", dont_inherit=True)
        exec(code, namespace)
        count += 1
    return count


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_python_blocks_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run(page)
    wanted = [block for block in blocks(page) if (block.language, block.remark) == ("python", "")]
    assert ran == len(wanted)


def test_a_wrong_block_is_seen_with_its_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n\n```python\none = 1\n```\n\ntext\n\n```python\nassert one == 2\n```\n"
    )
    linecache.checkcache(str(page))
    with pytest.raises(AssertionError) as caught:
        run(page)
    assert caught.traceback[-1].lineno + 1 == 10


def test_a_block_is_left_out_only_with_a_reason(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python notest: needs a GPU\n1 / 0\n```\n")
    assert run(page) == 0
    page.write_text("```python notest\n1 / 0\n```\n")
    with pytest.raises(
        AssertionError, match=r"page.md:1: want `python` or `python notest: reason`"
    ):
        run(page)


MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    for path in (ROOT / "holdfast").rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(importlib.import_module(name), optionflags=flags)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples failed; see above"

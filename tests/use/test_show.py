"""The verbs `cells` and `show`."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast import show
from holdfast.cells import CELLS
from holdfast.cli import main
from holdfast.compiler.build import STAGES
from holdfast.nn.structures import listing
from holdfast.show import catalogue, measured, memories

OWN = """from __future__ import annotations
from holdfast import cell, tanh

@cell(gates="a")
def own(a):
    return tanh(2 * a)

number = 3
"""


def test_cells_lists_every_cell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cells"]) == 0
    table, *notes, structures = capsys.readouterr().out.split("\n\n")
    assert structures == listing(128)
    head, *lines = table.splitlines()
    assert bool(notes) == bool(measured()["cells"])
    assert all(note.startswith("time, f+b: ") for note in notes)
    assert head.split()[:5] == ["cell", "states", "I=H=128", "time", "f+b"]
    assert [line.split()[0] for line in lines] == list(CELLS)
    for line, one in zip(lines, CELLS.values(), strict=True):
        states = memories(one)
        assert line.split()[1 : 1 + len(states)] == states
        assert line.endswith(one.doc.splitlines()[0].removesuffix("."))


def test_cells_shows_how_long_each_takes_where_that_is_known() -> None:
    times = {"gru": {"forward": 0.875, "forward+backward": 0.75}}
    lines = {line.split()[0]: line.split() for line in catalogue(times).splitlines()}
    assert lines["gru"][1:5] == ["h", "98,816", "0.88", "0.75"]
    assert lines["lstm"][1:6] == ["h", "c", "131,584", "-", "-"]


def test_cells_says_where_times_come_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"cells": {"gru": {"forward": 0.5}}, "shape": "B1-T2-I3-H4", "threads": 1}
    found |= {"cpu": "abacus", "date": "2026-11-21T10:00:00"}
    monkeypatch.setattr(show, "measured", lambda: found)
    assert main(["cells"]) == 0
    assert "(B1-T2-I3-H4, 1 thread(s), abacus, 2026-11-21)" in capsys.readouterr().out


EXPECTED = {
    "cell": "def peephole(i, f, g, o, c, p_i, p_f, p_o):",
    "graph": "return c = new",
    "backward": "return d_weight p_o = ",
    "plan": "keep the sequence of c",
    "llvm": "define void",
    "asm": ".globl",
}


@pytest.mark.parametrize("stage", STAGES)
def test_show_prints_each_stage(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--inputs", "2", "--hidden", "3", "--target", "avx2"]
    assert main(["show", "peephole", "--stage", stage, *sizes]) == 0
    assert EXPECTED[stage] in capsys.readouterr().out


def test_show_prints_the_stages_before_emission_in_order(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["show", "gru"]) == 0
    lines = capsys.readouterr().out.splitlines()
    heads = [line for line in lines if line in [f"# {stage}" for stage in STAGES]]
    assert heads == ["# cell", "# graph", "# backward", "# plan"]


def test_show_of_a_cell_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.py"
    path.write_text(OWN, encoding="utf-8")
    assert main(["show", f"{path}:own", "--stage", "graph"]) == 0
    assert "t2 = tanh(t1)  # mine.py:6" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("lsmt", "there is no cell `lsmt` (did you mean lstm or slstm?); `holdfast cells` "),
        ("yak", "there is no cell `yak`; `holdfast cells` lists them all"),
        ("mine.py:other", "mine.py has nothing named `other`"),
        ("mine.py:number", "mine.py has a int named `number`"),
        ("away.py:own", "there is no file away.py"),
        ("mine.txt:own", "there is no cell"),
    ],
)
def test_show_of_no_cell_is_one_line_and_status_2(
    name: str,
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mine.py").write_text(OWN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["show", name]) == 2
    captured = capsys.readouterr()
    assert problem in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize("option", [["--hidden", "0"], ["--stage", "tape"], ["--target", "vax"]])
def test_a_wrong_option_is_refused(option: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["show", "lstm", *option])

"""The benchmark of the cells runs, gates, judges by its limits, and fills page and package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import cells, cells_report, gate, pages, registry, report, timing
from benchmarks.__main__ import main
from benchmarks.cells import SMALL, Problem, Row, gate_products
from benchmarks.registry import Shape
from holdfast import cell, tanh
from holdfast.cells import CELLS
from holdfast.nn import passes
from holdfast.nn.direct import Direct

TINY = f"B2-T4-I{SMALL.I}-H{SMALL.H}"
"""As wide as the problem of the gate, so that both run the same kernels."""
SOME = "gru,rnn"


@cell(gates="a", weights="p", inputs="u")
def given(a: Any, u: Any, x: Any, h: Any, p: Any) -> Any:
    """Takes x and a further sequence unit by unit."""
    return tanh(a + p * x) + u * h


@pytest.fixture
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock is a second after the one before, so every turn takes one second."""
    ticks = count()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(ticks)))


@pytest.fixture
def _apart() -> Iterator[None]:
    with cells.apart():
        yield


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Where a recorded run and the package's figures go."""
    record, speed = tmp_path / "cells.jsonl", tmp_path / "speed.json"
    monkeypatch.setattr(cells_report, "RECORD", record)
    monkeypatch.setattr(cells_report, "SPEED", speed)
    return record, speed


def _run(*more: str) -> int:
    return main(["cells", "--quick", "--threads", "1", "--shape", TINY, *more])


def _last_line(text: str) -> dict[str, Any]:
    return json.loads(text.rstrip("\n").rpartition("\n")[2])


def _row(name: str, each: float | None, speedup: float, which: str = "forward") -> Row:
    second = timing.Spread(1.0, 0.5, 1.5)
    product = None if each is None else timing.Spread(each, each / 2, each * 2)
    faster = timing.Spread(speedup, speedup / 2, speedup * 2)
    return Row(name, 3.0, which, second, second, second, second, product, faster)


@pytest.mark.usefixtures("_clock", "two_threads")
def test_table_and_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, files: tuple[Path, Path]
) -> None:
    before = torch.get_num_threads(), torch.get_rng_state()
    file = tmp_path / "runs" / "cells.jsonl"
    assert _run("--only", SOME, "--json", str(file)) == 0
    assert not any(path.exists() for path in files), "nobody asked for a record"
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1]), "the global random state was touched"
    text = capsys.readouterr().out
    line = _last_line(text)
    assert json.loads(file.read_text(encoding="utf-8")) == line
    assert (line["benchmark"], line["shape"], line["threads"]) == ("cells", TINY, 1)
    assert line["refused"] == []
    assert line["limits"] == {"each": 1.15, "speedup": {"forward": 4.0, "forward+backward": 6.0}}
    keys = [(row["cell"], row["pass"]) for row in line["rows"]]
    assert keys == [(name, which) for name in SOME.split(",") for which in registry.PASSES]
    # Every call takes a second, so a gate-product of the GRU takes a third and not a quarter.
    for row, each in zip(line["rows"], (4 / 3, 4 / 3, 4.0, 4.0), strict=True):
        assert row["median_s"] == row["plain_median_s"] == row["eager_median_s"] == 1.0
        assert row["time"]["median"] == row["speedup"]["median"] == 1.0
        assert row["each"]["median"] == pytest.approx(each, rel=1e-4)
        times = "4" if row["pass"] == "forward" else "6"
        eager = f"less than {times} times as fast as eager"
        assert row["beyond"] == ["more than 1.15 a gate-product", eager]
    assert text.count("BEYOND: ") == 4


@pytest.mark.usefixtures("_clock")
def test_a_record_is_what_page_and_package_show(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.__main__.CELLS", {"rnn": CELLS["rnn"]})
    record, speed = files
    for _ in range(2):
        assert _run("--record") == 0
    assert len(record.read_text(encoding="utf-8").splitlines()) == 2
    found = json.loads(speed.read_text(encoding="utf-8"))
    assert found["cells"] == {"rnn": {"forward": 1.0, "forward+backward": 1.0}}
    assert found["shape"] == TINY
    assert set(found) == {"date", "cpu", "threads", "shape", "cells"}
    speed.unlink()
    page = tmp_path / "page.md"
    marks = ["\n\n".join(pages.marks(name)) for name in pages.PARTS]
    page.write_text("\n\n".join(["before", *marks, "after"]), encoding="utf-8")
    arguments = ["--results", str(record.parent), "--speed", str(speed)]
    assert main(["pages", *arguments, "--page", str(page)]) == 0
    assert json.loads(speed.read_text(encoding="utf-8")) == found
    text = pages.written(page, *pages.marks("cells"))
    (line,) = (line for line in text.splitlines() if line.startswith("| `rnn` | 1.00 | 1.00 s |"))
    assert line.count("| 1.00 [1.00..1.00] | 4.00 [4.00..4.00] | 1.00 [1.00..1.00] |") == 2
    assert "forward+backward: more than 1.15 a gate-product, less than 6 times" in line
    assert pages.written(page, *pages.marks("options")) == pages.NOTHING


def test_the_package_agrees_with_the_record() -> None:
    runs = report.newest(cells_report.RECORD)
    shown = cells_report.SPEED.read_text(encoding="utf-8")
    assert shown == cells_report.speeds(runs), "run: python -m benchmarks pages"


def test_verdicts_are_plain() -> None:
    kept, slow, free = _row("gru", 1.15, 4.0), _row("gru", 1.16, 3.9), _row("gru", None, 9.0)
    both = _row("gru", 1.0, 5.9, "forward+backward")
    assert [row.beyond for row in (kept, free)] == [[], []]
    assert slow.beyond == ["more than 1.15 a gate-product", "less than 4 times as fast as eager"]
    assert both.beyond == ["less than 6 times as fast as eager"]
    lines = list(cells_report.lines([kept, slow, free]))
    assert ["BEYOND" in line for line in lines] == [False, True, False]
    assert lines[2].split()[-9:] == [
        "1.00",
        "[0.50",
        "..",
        "1.50]",
        "-",
        "9.00",
        "[4.50",
        "..",
        "18.00]",
    ]


def test_products_of_a_step() -> None:
    shape = Shape(1, 1, 3, 5)
    found = {name: gate_products(CELLS[name], shape) for name in ("lstm", "gru", "rnn", "gru_2014")}
    assert found == {"lstm": 4.0, "gru": 3.0, "rnn": 1.0, "gru_2014": 3.0}
    # Beside the gate, a matrix from 3 inputs to 5 units.
    assert gate_products(given, shape) == 1 + 3 / 8
    assert gate_products(given, Shape(1, 1, 5, 5)) == 1.0


@pytest.mark.usefixtures("_apart")
def test_a_cell_with_further_inputs_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "CELLS", {"given": given, "lstm": CELLS["lstm"]})
    (found,) = cells.measure(["given"], Shape(2, 3, SMALL.I, SMALL.H), 3, 0.001)
    assert isinstance(found, list)
    assert [row.which for row in found] == list(registry.PASSES)
    assert set(Problem.of("given", SMALL).extra) == {"u"}


@pytest.mark.usefixtures("_apart")
def test_a_cell_with_tied_gates_infers_and_trains() -> None:
    """In this order: what the first pass keeps must do for the second."""
    assert CELLS["rot_lstm"].ties
    cells.check("rot_lstm")


@pytest.mark.usefixtures("_apart")
def test_the_gate_compares_with_the_eager_target(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem.of("lstm", SMALL)
    monkeypatch.setattr(Direct, "__call__", lambda *_: None)  # every call goes the general way
    with monkeypatch.context() as patch:
        patch.setattr(passes, "infer", None)
        patch.setattr(passes, "train", None)
        assert problem.eager().results((problem.weighting,)).keys()
        with pytest.raises(TypeError):
            problem.ours().results((problem.weighting,))
    real = passes.infer
    monkeypatch.setattr(
        passes, "infer", lambda *given, **more: [1.001 * one for one in real(*given, **more)]
    )
    with pytest.raises(gate.GateError, match="ours: inferred output 0 is not the definition's"):
        cells.check("lstm")


@pytest.mark.usefixtures("_clock")
def test_what_is_refused_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def chosen(one: Any, *_: Any) -> tuple[str, str]:
        return ("eager", "it is slow") if one.name == "gru" else ("llvm", "it is fast")

    monkeypatch.setattr(cells.operators, "select", chosen)
    assert _run("--only", "gru,rnn") == 1
    text = capsys.readouterr().out
    line = _last_line(text)
    assert line["refused"] == [{"cell": "gru", "reason": "not on the fast path: it is slow"}]
    assert {row["cell"] for row in line["rows"]} == {"rnn"}
    assert "REFUSED: not on the fast path: it is slow" in text
    page = pages.render([line], cells_report.section)
    assert "`gru` was not measured: not on the fast path: it is slow." in page


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--only", "gru,gruu"], "no cell 'gruu'; there are "),
        (["--only", "gru", "--record"], "not allowed with argument --only"),
        (["--shape", f"{TINY},{TINY}"], "expected one shape"),
    ],
)
def test_bad_options_are_named(
    more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["cells", *more])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err

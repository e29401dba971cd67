"""The page is what the records say: aims met or not, newest rows, the picture of the roofs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import layers_report, pages, roofline, summary
from benchmarks.registry import SHAPES
from benchmarks.summary import Aim, Records

MACHINE = {"cpu": "some processor", "llvm_cpu": "some", "cores": 2}
CEILING = {
    "gflops": {"float32": 100.0, "float64": 50.0},
    "bandwidth": {"L1": 200.0, "memory": 20.0},
    "sizes": {"L1": 32768},
}


def _run(rows: list[dict[str, Any]], threads: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "date": "2026-01-02T03:04:05+00:00",
        "machine": MACHINE,
        "versions": {"python": "3", "torch": "2"},
        "threads": threads,
        "options": {"rounds": 5},
        "rows": rows,
        "refused": [],
        **more,
    }


def _row(shape: str, ratio: float, which: str = "forward", **more: Any) -> dict[str, Any]:
    values = {"median": ratio, "interval": [ratio, ratio]}
    return {
        "cell": "lstm",
        "shape": shape,
        "pass": which,
        "contender": "ours",
        "median_s": 0.001,
        "gflops": 10.0,
        "ratios": {"torch": values},
        **more,
    }


def _line(records: Records, begin: str, threads: int = 1) -> str:
    (line,) = (
        line
        for line in summary.table(records)
        if line.startswith(f"| {begin} |") and f" | {threads} | " in line
    )
    return line


def test_aims_are_judged_plainly() -> None:
    aim = Aim(least=2.0, each=1.0)
    assert aim.text == "≥ 2, none below 1"
    assert [aim.met(values) for values in ([2.0, 2.0], [1.0, 3.9], [0.99, 9.0])] == [
        True,
        False,
        False,
    ]
    most = Aim(most=1.0)
    assert most.text == "≤ 1"
    assert [most.met(values) for values in ([1.0, 0.1], [1.01, 0.1])] == [True, False]


def test_every_line_is_there_without_a_record() -> None:
    lines = list(summary.table(Records()))[2:]
    assert len(lines) == 27
    assert all(line.endswith("| | not recorded | |") for line in lines)


def test_means_are_taken_over_the_core_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    far = _row("B7-T7-I7-H7", 100.0)
    rows = [_row(str(SHAPES[0]), 1.0), _row(str(SHAPES[1]), 4.0), far]
    records = Records(layers=[_run(rows)])
    line = _line(records, "plain LSTM, inference | torch")
    assert line.endswith("| 1 | 2.00 (least 1.00, B1-T1-I32-H128) | yes |")
    worse = [_run(rows), _run([_row(str(SHAPES[0]), 0.5)])]
    line = _line(Records(layers=worse), "plain LSTM, inference | torch")
    assert line.endswith("| 1.41 (least 0.50, B1-T1-I32-H128) | **no** |"), "the newest row counts"
    monkeypatch.setitem(summary.CAUSES, "plain LSTM, inference, torch", "a reason")
    line = _line(Records(layers=worse), "plain LSTM, inference | torch")
    assert line.endswith("| **no**: a reason |")


def test_other_records_have_their_lines() -> None:
    gain = {"median": 1.8, "interval": [1.7, 1.9]}
    threads = {"shape": "B32-T1-I1-H8", "pass": "forward", "contender": "ours", "gain": gain}
    torch = threads | {"contender": "torch", "gain": {"median": 9.0, "interval": [9, 9]}}
    peaks = [
        {"shape": "B1-T1-I1-H1", "contender": name, "bytes": size}
        for name, size in (("ours", 9), ("ours, recompute", 5), ("torch", 10))
    ]
    ratios = {
        name: {"median": value, "interval": [value, value]}
        for name, value in (("torch", 13.0), ("onnxruntime", 1.5), ("ours, stepper bf16", 0.5))
    }
    steps = [
        {"shape": shape, "contender": "ours, stepper", "ratios": ratios}
        for shape in ("B1-T1-I32-H128", "B1-T1-I128-H512")
    ]
    speedup = {"median": 7.5, "interval": [7, 8]}
    option = {"option": "zoneout", "pass": "forward+backward", "peer_ratio": speedup}
    peephole = {"cell": "peephole", "pass": "forward+backward", "speedup": speedup}
    records = Records(
        threads=[_run([threads, torch], threads=2)],
        memory=[_run(peaks)],
        stream=[_run(steps)],
        cells=[_run([peephole])],
        options=[_run([option | {"peer_ratio": gain}])],
        variants=[_run([option])],
    )
    found = {
        "the plain LSTM, B ≥ 32 | one thread | ≥ 1.7 | 2": "1.80 | yes |",
        "peak memory in training | torch | ≤ 1 | 1": "0.90 | yes |",
        "peak memory in training, recomputed | torch | ≤ 0.6 | 1": "0.50 | yes |",
        "one carried-state step, B=1, H=128 | torch | ≥ 12 | 1": "13.00 | yes |",
        "one carried-state step, B=1, H=128 | onnxruntime | ≥ 2 | 1": "1.50 | **no** |",
        "single stream, H=512, bf16 weights | our float32 | ≥ 1.5 | 1": "2.00 | yes |",
        "peephole LSTM, training | its loop in PyTorch | ≥ 7 | 1": "7.50 | yes |",
        "zoneout, training | its loop in PyTorch | ≥ 7 | 1": "7.50 | yes |",
    }
    lines = list(summary.table(records))
    for begin, end in found.items():
        assert f"| {begin} | {end}" in lines


def test_a_newer_run_replaces_whole_places() -> None:
    old = [_row("B1-T1-I1-H8", 1.0), _row("B1-T1-I1-H8", 1.0, contender="torch")]
    new = [_row("B1-T1-I1-H8", 2.0)]
    rows = layers_report.rows_of([_run(old), _run(new), _run(old, threads=2)])
    assert [(row["threads"], row["contender"]) for row in rows] == [
        (1, "ours"),
        (2, "ours"),
        (2, "torch"),
    ]
    assert rows[0]["ratios"]["torch"]["median"] == 2.0


def test_tables_of_the_layers() -> None:
    share: dict[str, Any] = {"ceiling_share": 0.5, "intensity": 4.0}
    rows = [
        _row("B64-T1-I1-H8", 3.0, source="some paper"),
        _row(str(SHAPES[1]), 1.5, **share),
        _row(str(SHAPES[1]), 2.5, "forward+backward", ratios={}),
    ]
    absent = {"cell": "lstm", "contender": "jax", "reason": "not installed"}
    text = "\n".join(layers_report.sections([_run(rows, ceiling=CEILING, absent=[absent])]))
    lines = text.splitlines()
    assert "#### Plain LSTM, 1 thread" in lines
    first = lines.index("| shape | forward ours | ceiling | torch ÷ ours | f+b ours | ceiling |")
    assert lines[first + 2 : first + 4] == [
        "| B1-T100-I32-H128 | 1.00 ms | 50% | 1.50 [1.50..1.50] | 1.00 ms |  |",
        "| B64-T1-I1-H8 (some paper) | 1.00 ms |  | 3.00 [3.00..3.00] |  |  |",
    ]
    assert "Ceiling: 100 GFLOP/s in float32, 50 in float64;" in text
    assert "jax is left out in places: not installed." in text


def test_the_picture_of_the_roofs(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "roofline.svg"
    rows = [_row(str(SHAPES[1]), 1.5, intensity=0.5), _row("B7-T7-I7-H7", 1.0, intensity=1.0)]
    assert roofline.draw([_run(rows)], file) is False
    assert not file.exists()
    runs = [_run(rows, ceiling=CEILING), _run(rows, threads=2, ceiling=CEILING)]
    assert roofline.draw(runs, file) is True
    text = file.read_text(encoding="utf-8")
    for shown in ("L1, 200 GB/s", "100 GFLOP/s", str(SHAPES[1]), "1 thread", "2 threads"):
        assert shown in text
    assert "B7-T7-I7-H7" not in text
    assert roofline.draw(runs, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text(encoding="utf-8") == text


def test_parts_say_when_nothing_is_recorded(tmp_path: Path) -> None:
    for name, part in pages.PARTS.items():
        text = part(tmp_path)
        assert text == pages.NOTHING or name == "summary"

"""Streams, memory and threads are measured, gated and recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import memory, memory_step, scaling, stream
from benchmarks.__main__ import main
from benchmarks.problem import Problem, make_problem
from benchmarks.registry import Shape
from holdfast.cells import lstm
from holdfast.nn import LSTM

TINY = "B1-T1-I4-H8"


def _stream(*more: str) -> int:
    return main(["stream", "--quick", "--threads", "1", "--shapes", TINY, *more])


def _last_line(text: str) -> dict[str, Any]:
    return json.loads(text.rstrip("\n").rpartition("\n")[2])


class Stepper:
    """What `layer.stepper()` gives: a call takes `[B, I]`, the state is carried."""

    def __init__(self, layer: nn.Module, wrong: float = 0.0) -> None:
        self.layer, self.wrong = layer, wrong
        self.states: Any = None

    def __call__(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            out, self.states = self.layer(x[None], self.states)
        return out[0] + self.wrong


@pytest.fixture
def _steppers(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(self: LSTM, batch: int = 1, precision: str = "float32") -> Stepper:
        return Stepper(self, 0.0 if precision == "float32" else 0.01)

    monkeypatch.setattr(LSTM, "stepper", make, raising=False)


@pytest.mark.usefixtures("_steppers")
def test_streams_and_their_errors(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.stream_report.RECORD", tmp_path / "stream.jsonl")
    assert _stream("--peers", "torch,keras", "--record") == 0
    line = _last_line(capsys.readouterr().out)
    assert json.loads((tmp_path / "stream.jsonl").read_text(encoding="utf-8")) == line
    rows = {row["contender"]: row for row in line["rows"]}
    steppers = ["ours, stepper", "ours, stepper bf16", "ours, stepper int8"]
    assert list(rows) == ["ours", *steppers, "torch", "torch cell"]
    assert set(rows["ours, stepper"]["ratios"]) == set(rows) - {"ours, stepper"}
    assert rows["ours"]["ratios"] == {}
    assert rows["ours, stepper"]["error"] < 1e-5
    assert 1e-3 < rows["ours, stepper int8"]["error"] < 1
    assert [one["contender"] for one in line["absent"]] == ["keras"]


def test_a_wrong_stream_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(problem: Problem) -> stream.Stream:
        made = stream.torch_cell(problem)

        def step(x: Any) -> Any:
            made.reset()
            return made.step(x)

        return stream.Stream(made.reset, step, made.inputs, made.read)

    monkeypatch.setitem(stream.CONTENDERS, "torch cell", forgetful)
    assert _stream() == 1
    line = _last_line(capsys.readouterr().out)
    assert line["rows"] == []
    (refused,) = line["refused"]
    assert refused["reason"].startswith("torch cell: out is not the definition's")


def test_onnxruntime_carries_its_state() -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    problem = make_problem(lstm, Shape(1, 9, 4, 8))
    made, absent = stream._streams(problem, ("onnxruntime",))
    assert (list(made)[-1], absent) == ("onnxruntime", [])
    assert stream.check(problem, made)["onnxruntime"] < 1e-5


@pytest.mark.slow
def test_jax_carries_its_state() -> None:
    pytest.importorskip("jax")
    problem = make_problem(lstm, Shape(1, 9, 4, 8))
    made, _ = stream._streams(problem, ("jax",))
    assert stream.check(problem, made)["jax"] < 1e-5


def test_threads_are_compared_in_turn(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before, file = torch.get_num_threads(), tmp_path / "threads.jsonl"
    shape = ["--shapes", "B2-T3-I4-H5", "--json", str(file)]
    assert main(["threads", "--quick", "--threads", "2", *shape]) == 0
    assert torch.get_num_threads() == before
    line = json.loads(file.read_text(encoding="utf-8"))
    assert line["threads"] == 2
    found = [(row["pass"], row["contender"]) for row in line["rows"]]
    passes = ("forward", "forward+backward")
    assert found == [(which, name) for which in passes for name in ("ours", "torch")]
    text = "\n".join(scaling.section(line))
    assert text.count("| B2-T3-I4-H5 |") == 1
    assert "REFUSED" not in capsys.readouterr().out


@pytest.mark.skipif(not memory.sys.platform.startswith("linux"), reason="only Linux tells it")
def test_memory_of_a_known_size_is_found() -> None:
    """32 MiB that are held for a moment, and freed before the process ends."""
    row = memory.measured(memory_step.KNOWN, Shape(32, 64, 1, 4096), 1)
    assert row.reason == ""
    assert row.peak == pytest.approx(32 << 20, abs=1 << 20)


def test_memory_is_recorded_and_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks: dict[str, int | None] = {"ours": 30, "ours, recompute": None, "torch": 40, "eager": 50}

    def measured(name: str, shape: Shape, threads: int) -> memory.Row:
        peak = peaks[name]
        reason = "not measured: no such option" if peak is None else ""
        return memory.Row(shape, name, None if peak is None else peak * 1_000_000, reason)

    monkeypatch.setattr(memory, "measured", measured)
    monkeypatch.setattr(memory, "RECORD", tmp_path / "memory.jsonl")
    assert main(["memory", "--shapes", "B2-T3-I4-H5", "--record"]) == 0
    text = capsys.readouterr().out
    assert "not measured: no such option" in text
    line = json.loads((tmp_path / "memory.jsonl").read_text(encoding="utf-8"))
    shown = "\n".join(memory.section(line))
    assert "| B2-T3-I4-H5 | 30.0 |  | 40.0 | 50.0 | ours 0.75, eager 1.25 |" in shown
    assert "ours, recompute: not measured: no such option." in shown


def test_a_failed_process_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    row = memory.measured("ours", Shape(2, 3, 4, 5), 1)
    assert (row.peak, row.reason) == (None, "not measured: only Linux tells a process's peak")


def test_contenders_of_memory_compute_both_passes() -> None:
    problem = make_problem(lstm, Shape(2, 3, 4, 5))
    for name in (*memory_step.CONTENDERS, memory_step.KNOWN):
        call = memory_step.step(name, problem)
        assert call is not None or name == "ours, recompute"
        if call is not None:
            call()

"""The benchmark of the layers runs, reports what it measured, and refuses what is wrong."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import gate, layers, layers_report, problem, registry, report, settings, timing
from benchmarks.__main__ import main
from benchmarks.registry import SHAPES, Shape
from holdfast.cells import CELLS

TINY = "B2-T3-I4-H5"
CONTENDERS = {
    "lstm": {"ours", "torch"},
    "gru": {"ours", "torch", "eager"},
    "peephole": {"ours", "torch-lstm", "eager"},
    "coupled": {"ours", "torch-lstm", "eager"},
}


def _run(*options: str) -> int:
    return main(["layers", "--quick", "--threads", "1", "--shapes", TINY, *options])


def _last_line(text: str) -> dict[str, Any]:
    return json.loads(text.rstrip("\n").rpartition("\n")[2])


@pytest.mark.usefixtures("two_threads")
def test_table_and_line_of_every_cell(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = torch.get_num_threads(), torch.get_rng_state()
    file = tmp_path / "runs" / "layers.jsonl"
    assert _run("--json", str(file)) == 0
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1]), "the global random state was touched"
    text = capsys.readouterr().out
    line = _last_line(text)
    found = {(row["cell"], row["pass"], row["contender"]) for row in line["rows"]}
    expected = {
        (cell, which, name)
        for cell, names in CONTENDERS.items()
        for which in registry.PASSES
        for name in names
    }
    assert found == expected
    assert len(line["rows"]) == len(expected)
    assert sum(TINY in row for row in text.splitlines()[:-1]) == len(expected)
    assert (line["threads"], line["refused"]) == (1, [])
    assert set(line["machine"]) >= {"cpu", "cores", "llvm_cpu", "vector_bytes"}
    assert set(line["versions"]) == {"python", "torch", "llvmlite", "holdfast", "numpy"}
    for row in line["rows"]:
        low, high = row["spread_s"]
        assert 0 < low <= row["median_s"] <= high
        others = CONTENDERS[row["cell"]] - {"ours"} if row["contender"] == "ours" else set()
        assert set(row["ratios"]) == others
    assert _run("--cells", "lstm", "--json", str(file)) == 0
    runs = [json.loads(run) for run in file.read_text(encoding="utf-8").splitlines()]
    assert [len(run["rows"]) for run in runs] == [len(expected), 4]
    assert runs[0] == line


@pytest.mark.parametrize("wrong", ["out", "gradient of bias_hh_l0", "inferred out"])
def test_the_gate_refuses_a_wrong_result(
    wrong: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = problem.Runner.results

    def spoiled(self: problem.Runner, weighting: Tensor) -> dict[str, Tensor]:
        found = real(self, weighting)
        if weighting.dtype == torch.float32 and self.note == "spoiled":
            found[wrong] = found[wrong] + 1e-3 * found[wrong].abs().max()
        return found

    def ours(given: problem.Problem) -> problem.Runner:
        return dataclasses.replace(layers.ours(given), note="spoiled")

    monkeypatch.setattr(problem.Runner, "results", spoiled)
    monkeypatch.setitem(layers.CONTENDERS, "ours", ours)
    assert _run("--cells", "gru") == 1
    text = capsys.readouterr().out
    line = _last_line(text)
    assert line["rows"] == []
    (refused,) = line["refused"]
    assert (refused["cell"], refused["shape"]) == ("gru", TINY)
    assert refused["reason"].startswith(f"ours: {wrong} is not the definition's")
    assert "REFUSED: ours" in text


def test_the_gate_wants_every_tensor_in_its_shape() -> None:
    reference = {"out": torch.rand(2, 3, dtype=torch.float64), "h": torch.zeros(0)}
    right = {name: value.float() for name, value in reference.items()}
    gate.check("ours", right, reference)
    more = right | {"c": right["h"]}
    for wrong in ({"out": right["out"]}, right | {"out": right["out"].T}, more):
        with pytest.raises(gate.GateError, match="ours"):
            gate.check("ours", wrong, reference)
    with pytest.raises(gate.GateError, match="out is not"):
        gate.check("ours", right | {"out": right["out"] * float("nan")}, reference)


def test_every_contender_gets_the_same_numbers() -> None:
    given = problem.make_problem(CELLS["gru"], Shape(2, 3, 4, 5))
    made, absent = layers.runners(given)
    assert not absent
    assert made["ours"].note == "", "the compiled target does not run"
    weights = [one.parameters for one in made.values() if isinstance(one, problem.Runner)]
    assert len(weights) == len(made) == 3
    for name, value in given.weights.items():
        assert all(torch.equal(one[name], value) for one in weights)
        assert value.unique().numel() == value.numel()


def test_a_slower_result_is_called_slower() -> None:
    def row(name: str, ratios: dict[str, timing.Spread]) -> layers.Row:
        spread = timing.Spread(2e-3, 1e-3, 3e-3)
        return layers.Row("gru", SHAPES[0], "forward", name, spread, 1.0, 1, 3, ratios=ratios)

    ratios = {"torch": timing.Spread(0.5, 0.4, 0.6), "eager": timing.Spread(2.0, 1.5, 2.5)}
    rows = [row("ours", ratios), row("torch", {}), row("eager", {})]
    mine, torch_line, eager_line = layers_report.lines(rows)
    assert mine.endswith(" 1.0          1.00")
    assert torch_line.endswith("0.50 [0.40 .. 0.60] ours is slower")
    assert eager_line.endswith("2.00 [1.50 .. 2.50]")


def test_contenders_take_turns_in_alternating_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that only the contenders move: `slow` needs two seconds a call, `fast` one eighth."""
    now, order = [0.0], []

    def contender(name: str, seconds: float) -> timing.Call:
        def call() -> None:
            now[0] += seconds
            order.append(name)

        return call

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    calls = {"fast": contender("fast", 0.125), "slow": contender("slow", 2.0)}
    found = timing.alternate(calls, rounds=5, seconds=0.25)
    assert sorted(found["fast"].rounds) == [0, 1, 2, 3, 4]
    assert sorted(found["slow"].rounds) == [0, 2, 4]
    assert (found["fast"].calls, found["slow"].calls) == (2, 1)
    assert found["fast"].seconds == timing.Spread(0.125, 0.125, 0.125)
    assert found["fast"].ratio(found["slow"]) == timing.Spread(16.0, 16.0, 16.0)
    pair = ["fast", "fast"]
    assert order[-13:] == [*pair, "slow", *pair, *pair, "slow", *pair, *pair, "slow"]
    even = timing.alternate({"a": contender("a", 0.125), "b": contender("b", 0.125)}, 3, 0.125)
    assert len(even["b"].rounds) == 3
    assert order[-6:] == ["a", "b", "b", "a", "a", "b"]


def test_operations_count_the_products() -> None:
    shape = Shape(2, 3, 4, 5)
    steps = 2 * shape.B * shape.T
    assert settings.operations(CELLS["lstm"], shape, "forward") == steps * 4 * 5 * (4 + 5)
    assert settings.operations(CELLS["gru"], shape, "forward") == steps * 3 * 5 * (4 + 5)
    both = steps * 4 * 5 * ((4 + 5) + (4 + 5) + 5)
    assert settings.operations(CELLS["lstm"], shape, "forward+backward") == both


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cells", "lstm,lsmt"], "no cell 'lsmt'"),
        (["--shapes", "B0-T1-I1-H1"], "is no shape"),
        (["--shapes", "32x100"], "is no shape"),
        (["--threads", "0"], "at least 1"),
    ],
)
def test_bad_options_are_named(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["layers", *options])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2.5, "2.50 s"),
        (0.106, "106 ms"),
        (0.00248, "2.48 ms"),
        (3e-6, "3.00 µs"),
        (2e-8, "0.02 µs"),
    ],
)
def test_durations_have_three_figures(seconds: float, text: str) -> None:
    assert report.duration(seconds) == text

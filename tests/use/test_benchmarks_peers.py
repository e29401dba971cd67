"""Settings, grids and other libraries beside the layers: the same numbers, or said to be gone."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import arguments, layers, registry, rival_onnxruntime, settings
from benchmarks.__main__ import main
from benchmarks.gate import GateError
from benchmarks.problem import Absent, make_problem
from benchmarks.registry import GRIDS, SHAPES, Point, Shape
from benchmarks.settings import SETTINGS
from holdfast.cells import CELLS
from holdfast.errors import MissingExtraError
from tests.conftest import ROOT

TINY = "B2-T3-I4-H5"
SMALL = Shape(2, 3, 4, 5)


def _run(*options: str) -> int:
    return main(["layers", "--quick", "--threads", "1", "--shapes", TINY, *options])


def _last_line(text: str) -> dict[str, Any]:
    return json.loads(text.rstrip("\n").rpartition("\n")[2])


def test_every_setting_passes_the_gate(capsys: pytest.CaptureFixture[str]) -> None:
    every = ",".join(SETTINGS)
    before = torch.get_rng_state()
    assert _run("--cells", "lstm", "--settings", every, "--peers", "torch") == 0
    assert torch.equal(torch.get_rng_state(), before), "the global random state was touched"
    line = _last_line(capsys.readouterr().out)
    assert {row["setting"] for row in line["rows"]} == set(SETTINGS)
    for row in line["rows"]:
        assert set(row["ratios"]) == ({"torch"} if row["contender"] == "ours" else set())
        assert row["note"] == "", "the compiled target does not run"


def test_a_setting_changes_the_layer() -> None:
    assert make_problem(CELLS["lstm"], SMALL, SETTINGS["float64"]).x.dtype == torch.float64
    ragged = make_problem(CELLS["lstm"], Shape(9, 8, 2, 3), SETTINGS["ragged"])
    assert ragged.lengths is not None
    assert (int(ragged.lengths.min()), int(ragged.lengths.max())) == (4, 8)
    assert ragged.share == pytest.approx(0.75, abs=0.02)
    widths = {"projection": 2, "bidirectional": 10, "layers": 5, "plain": 5}
    for name, width in widths.items():
        assert make_problem(CELLS["lstm"], SMALL, SETTINGS[name]).weighting.shape == (3, 2, width)


def test_a_cell_without_the_setting_is_passed_over() -> None:
    points = [Point(SMALL, "projection")]
    assert list(layers.measure(["gru"], points, 3, 0.001, ("torch",))) == []


def test_operations_of_settings() -> None:
    I, H, steps = SMALL.I, SMALL.H, 2 * SMALL.B * SMALL.T
    cell = CELLS["lstm"]

    def count(name: str, which: str = "forward", share: float = 1.0) -> int:
        return settings.operations(cell, SMALL, which, SETTINGS[name], share)

    assert count("bidirectional") == 2 * count("plain")
    assert count("ragged", share=0.5) == count("plain") / 2
    P = H // 2
    assert count("projection") == steps * (4 * H * (I + P) + P * H)
    assert count("layers") == steps * 4 * H * ((I + H) + (H + H) + (H + H))
    both = steps * 4 * H * ((2 * I + 3 * H) + 2 * (3 * H + 3 * H))
    assert count("layers", "forward+backward") == both


def test_grids_are_what_they_are_named_after() -> None:
    assert tuple(point.shape for point in GRIDS["core"]) == SHAPES
    every = [point for grid in GRIDS.values() for point in grid]
    assert {point.setting for point in every} <= set(SETTINGS)
    assert len(set(every)) == len(every)
    assert all(point.source for name in ("wide", "large") for point in GRIDS[name])


def test_points_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def points(**given: Any) -> tuple[Point, ...]:
        usual: dict[str, Any] = {"grid": "core", "shapes": None, "settings": None}
        return arguments.points(arguments.argparse.Namespace(**usual | given))

    wide = (Point(SMALL), Point(SMALL, "layers", "some paper"))
    monkeypatch.setitem(registry.GRIDS, "wide", wide)
    assert points() == GRIDS["core"]
    assert points(grid="wide") == wide
    assert points(grid="wide", settings=("ragged",)) == (Point(SMALL, "ragged"),)
    both = points(shapes=(SMALL,), settings=("plain", "float64"))
    assert both == (Point(SMALL), Point(SMALL, "float64"))


def test_long_computations_are_compared_on_fewer_steps() -> None:
    problem = make_problem(CELLS["lstm"], Shape(256, 100, 8, 32))
    assert problem.gated().shape == problem.shape
    large = make_problem(CELLS["lstm"], Shape(128, 50, 512, 512), SETTINGS["ragged"])
    small = large.gated()
    assert (small.shape.B, small.shape.T) == (128, 9)
    assert small.x.shape == (9, 128, 512)
    assert small.weighting.shape == (9, 128, 512)
    assert small.weights is large.weights
    assert small.lengths is not None
    assert int(small.lengths.max()) == 9


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("setting", ["plain", "bidirectional", "layers"])
def test_onnxruntime_computes_the_same(cell: str, setting: str) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    problem = make_problem(CELLS[cell], SMALL, SETTINGS[setting])
    made, absent = layers.runners(problem, ("onnxruntime",))
    assert (list(made), absent) == (["ours", "onnxruntime"], ())
    layers.check(problem, made)


@pytest.mark.parametrize(("cell", "order"), [("lstm", "ifog"), ("gru", "zrn")])
def test_the_gate_refuses_a_peer_with_other_gates(
    cell: str, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    monkeypatch.setitem(rival_onnxruntime.OURS, cell.upper(), order)
    problem = make_problem(CELLS[cell], SMALL)
    made, _ = layers.runners(problem, ("onnxruntime",))
    with pytest.raises(GateError, match="onnxruntime: inferred out is not the definition's"):
        layers.check(problem, made)


def test_what_is_missing_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def require(module: str, extra: str) -> Any:
        raise MissingExtraError(extra, module)

    for name in ("rival_onnxruntime", "rival_jax", "rival_keras"):
        monkeypatch.setattr(f"benchmarks.{name}.require", require)
    assert _run("--cells", "lstm", "--peers", "torch,onnxruntime,jax,keras") == 0
    text = capsys.readouterr().out
    line = _last_line(text)
    reasons = {one["contender"]: one["reason"] for one in line["absent"]}
    assert list(reasons) == ["onnxruntime", "jax", "keras"]
    for reason in reasons.values():
        assert reason.startswith("not installed: ")
        assert 'pip install "holdfast[bench]"' in reason
    assert text.count("not installed: ") == 2 * len(reasons)
    assert {row["contender"] for row in line["rows"]} == {"ours", "torch"}


def test_what_does_not_apply_is_said() -> None:
    problem = make_problem(CELLS["peephole"], SMALL)
    _, absent = layers.runners(problem, ("onnxruntime", "jax", "keras"))
    assert all(isinstance(one, Absent) and "peephole" in one.reason for one in absent)
    assert len(absent) == 3
    double = make_problem(CELLS["lstm"], SMALL, SETTINGS["float64"])
    _, absent = layers.runners(double, ("onnxruntime",))
    assert [one.reason for one in absent] == ["its recurrent operators are float32 only"]


@pytest.mark.slow
def test_jax_and_keras_compute_the_same(tmp_path: Path) -> None:
    """In a process of its own: both read the environment once, and JAX has threads."""
    for module in ("jax", "keras"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    file = tmp_path / "layers.jsonl"
    options = ["--quick", "--threads", "1", "--shapes", TINY, "--peers", "jax,keras"]
    every = ["--settings", "plain,bidirectional,layers", "--cells", "lstm,gru"]
    command = [sys.executable, "-m", "benchmarks", "layers", *options, *every, "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    line = json.loads(file.read_text(encoding="utf-8"))
    assert set(line["rivals"]) == {"jax", "keras"}
    names = ("cell", "setting", "pass", "contender")
    found = {tuple(row[name] for name in names) for row in line["rows"]}
    for cell in ("lstm", "gru"):
        assert (cell, "plain", "forward", "keras") in found
        for setting in ("plain", "bidirectional", "layers"):
            assert (cell, setting, "forward+backward", "jax") in found
    notes = {row["note"] for row in line["rows"] if row["contender"] == "jax"}
    assert notes == {"lax.scan; XLA limited to 1 thread by NPROC and XLA_FLAGS"}

"""The benchmark of the options runs, gates both sides, judges by its limits, and fills the page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import gate, options, options_report, pages, peers, registry, report, timing
from benchmarks.__main__ import main
from benchmarks.options import SMALL, Problem, Row, table
from benchmarks.registry import Shape
from holdfast.nn import passes

TINY = "B2-T4-I3-H8"
SOME = "zoneout,ragged,residual"


@pytest.fixture
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock is a second after the one before, so every turn takes one second."""
    ticks = count()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(ticks)))


@pytest.fixture
def _apart() -> Iterator[None]:
    with options.apart():
        yield


def _run(*more: str) -> int:
    return main(["options", "--quick", "--threads", "1", "--shape", TINY, *more])


def _last_line(text: str) -> dict[str, Any]:
    return json.loads(text.rstrip("\n").rpartition("\n")[2])


def _row(name: str, cost: float, peer_ratio: float = 2.0, which: str = "forward") -> Row:
    second = timing.Spread(1.0, 0.5, 1.5)
    ours, theirs = (timing.Spread(ratio, ratio / 2, ratio * 2) for ratio in (cost, peer_ratio))
    return Row(table(SMALL)[name], which, second, second, second, ours, theirs)


@pytest.mark.usefixtures("_clock", "two_threads")
def test_table_and_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = torch.get_num_threads(), torch.get_rng_state()
    file = tmp_path / "runs" / "options.jsonl"
    assert _run("--options", SOME, "--json", str(file)) == 0
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1]), "the global random state was touched"
    text = capsys.readouterr().out
    line = _last_line(text)
    assert json.loads(file.read_text(encoding="utf-8")) == line
    assert (line["benchmark"], line["shape"], line["threads"]) == ("options", TINY, 1)
    assert line["refused"] == []
    assert set(line["machine"]) >= {"cpu", "cores", "load"}
    assert set(line["versions"]) >= {"python", "torch", "holdfast"}
    names = SOME.split(",")
    keys = [(row["option"], row["pass"]) for row in line["rows"]]
    assert keys == [(name, which) for name in names for which in registry.PASSES]
    for row in line["rows"]:
        assert row["median_s"] == row["plain_median_s"] == row["peer_median_s"] == 1.0
        assert row["peer_ratio"]["median"] == 1.0
        assert row["note"] == "", "the compiled target does not run"
        assert sum(row["option"] in one for one in text.splitlines()[:-1]) == 2
    zoneout, _, ragged, _, residual, _ = line["rows"]
    assert (zoneout["mode"], zoneout["verdict"], zoneout["limit"]) == ("training", "within", 1.15)
    assert (residual["verdict"], residual["limit"], residual["plain_layers"]) == ("", None, 2)
    assert residual["cost"] == {"median": 1.0, "interval": [1.0, 1.0]}
    # Lengths 2 and 4 of 4 steps, in the time of the dense batch.
    assert ragged["share"] == 0.75
    assert ragged["cost"] == {"median": 1.3333, "interval": [1.3333, 1.3333]}
    assert ragged["verdict"] == "above"


def test_times_become_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {"plain": (2.0, 4.0, 2.0), "ours": (3.0, 3.0, 4.0), "peer": (6.0, 3.0, 4.0)}

    def alternate(calls: Any, *_: Any) -> dict[str, timing.Timing]:
        return {name: timing.Timing(dict(enumerate(taken[name])), 1) for name in calls}

    monkeypatch.setattr(timing, "alternate", alternate)
    monkeypatch.setattr(options, "check", lambda option: None)
    resets, ragged = options.measure(["resets", "ragged"], Shape(2, 4, 3, 8), 3, 0.1)
    assert isinstance(resets, list)
    assert isinstance(ragged, list)
    for row in resets:
        assert (row.plain.median, row.ours.median, row.peer.median) == (2.0, 3.0, 4.0)
        assert row.cost == timing.Spread(1.5, 0.75, 2.0)
        assert row.peer_ratio == timing.Spread(1.0, 1.0, 2.0)
    assert ragged[0].cost == timing.Spread(2.0, 1.0, 2.0 / 0.75)
    assert ragged[0].peer_ratio == resets[0].peer_ratio


def test_limits_are_those_that_were_set() -> None:
    masks = ("input_dropout", "output_dropout", "recurrent_dropout", "candidate_dropout")
    expected = dict.fromkeys((*masks, "zoneout", "zoneout_evaluation", "weight_dropout"), 1.15)
    expected |= {"layer_norm": 1.35, "resets": 1.1, "return_cells": 1.05, "ragged": 1.15}
    expected |= {"bidirectional": 2.05, "bidirectional_sum": 2.05}
    found = table(options.SHAPE)
    assert {name: one.limit for name, one in found.items() if one.limit} == expected
    assert str(options.SHAPE) == "B32-T100-I32-H128"
    assert found["tbptt"].call == {"tbptt": 25}
    trains = {name for name, one in found.items() if one.training}
    assert trains == {*masks, "zoneout", "weight_dropout", "dropout"}


@pytest.mark.parametrize("name", options.NAMES)
@pytest.mark.usefixtures("_apart")
def test_every_option_and_its_peer_pass_the_gate(name: str) -> None:
    option = table(SMALL)[name]
    options.check(option)
    problem = Problem.of(option, SMALL)
    peer = option.peer(problem.given)
    seen = {"ours": problem.ours(problem.layer, problem.given.x), "peer": peer}
    for who, runner in seen.items():
        first, second = runner.forward(), runner.forward()
        same = all(torch.equal(*pair) for pair in zip(first, second, strict=True))
        assert same != option.training, f"{who} draws masks in training, and only there"


@pytest.mark.usefixtures("_apart")
def test_the_gate_compares_with_the_eager_target(monkeypatch: pytest.MonkeyPatch) -> None:
    option = table(SMALL)["zoneout"]
    problem = Problem.of(option, SMALL)
    assert problem.layer.backend == "llvm"
    gradients = (torch.ones(SMALL.T, SMALL.B, SMALL.H),)
    with monkeypatch.context() as patch:
        patch.setattr(passes, "infer", None)
        patch.setattr(passes, "train", None)
        assert options._defined(problem, gradients)["output 0"].dtype == torch.float64
        with pytest.raises(TypeError):
            problem.ours(problem.layer, problem.given.x).results(gradients)
    real = options._defined

    def other(problem: Problem, gradients: tuple[Tensor, ...]) -> dict[str, Tensor]:
        monkeypatch.setattr(options, "SEED", options.SEED + 1)
        return real(problem, gradients)

    monkeypatch.setattr(options, "_defined", other)
    with pytest.raises(gate.GateError, match="ours: inferred output 0 is not the definition's"):
        options.check(option)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("zoneout_evaluation", "inferred output 0"),
        ("clip", "inferred output 0"),
        ("state_clip", "inferred output 0"),
        ("resets", "inferred output 0"),
        ("ragged", "inferred output 0"),
        ("learned_start", "inferred output 0"),
        ("tbptt", "gradient of weight_ih_l0"),
    ],
)
@pytest.mark.usefixtures("_apart")
def test_the_gate_refuses_a_peer_without_the_option(name: str, wrong: str) -> None:
    option = dataclasses.replace(table(SMALL)[name], peer=peers.stock({}))
    with pytest.raises(gate.GateError, match=f"torch: {wrong} is not the definition's"):
        options.check(option)


@pytest.mark.usefixtures("_clock")
def test_what_is_refused_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(option: options.Option) -> None:
        if option.name == "ragged":
            raise gate.GateError("torch: out is wrong")

    monkeypatch.setattr(options, "check", refuse)
    assert _run("--options", SOME) == 1
    text = capsys.readouterr().out
    line = _last_line(text)
    assert line["refused"] == [{"option": "ragged", "reason": "torch: out is wrong"}]
    assert {row["option"] for row in line["rows"]} == {"zoneout", "residual"}
    assert "REFUSED: torch: out is wrong" in text
    assert "ragged was not measured: torch: out is wrong." in pages.render(
        [line], options_report.section
    )


def test_verdicts_are_plain() -> None:
    within, above, free = _row("resets", 1.1), _row("resets", 1.1001, 0.5), _row("clip", 9.0)
    assert [row.verdict for row in (within, above, free)] == ["within", "above", ""]
    first, second, third = options_report.lines([within, above, free])
    assert " 1.10 within " in first
    assert first.endswith("2.00 [1.00 .. 4.00] a loop over nn.LSTMCell")
    assert " 1.10 above " in second
    assert second.endswith("a loop over nn.LSTMCell, ours is slower")
    assert "within" not in third


def test_the_page_is_written_from_the_newest_runs(tmp_path: Path) -> None:
    def recorded(cost: float, threads: int) -> str:
        both = _row("resets", cost), _row("resets", 1.0, 0.5, "forward+backward")
        return options_report.record([list(both)], SMALL, threads, {"rounds": 3})

    record, page = tmp_path / "options.jsonl", tmp_path / "page.md"
    begin, end = pages.marks("options")
    lines = [recorded(1.2, 2), recorded(5.0, 1), recorded(1.05, 1)]
    record.write_text("\n".join(lines) + "\n", encoding="utf-8")
    others = ["\n".join(pages.marks(name)) for name in pages.PARTS if name != "options"]
    old = f"before\n\n{begin}\n\nold\n\n{end}\n\nafter\n"
    page.write_text("\n".join([*others, old]), encoding="utf-8")
    aside = ["--results", str(tmp_path), "--speed", str(tmp_path / "speed.json")]
    for _ in range(2):
        assert main(["pages", "--page", str(page), *aside]) == 0
    text = page.read_text(encoding="utf-8")
    expected = pages.render(report.newest(record), options_report.section)
    assert pages.written(page, begin, end) == expected
    text = text[text.index("before") :]
    assert text.startswith(f"before\n\n{begin}\n\n### 1 thread\n")
    assert text.endswith(f"|\n\n{end}\n\nafter\n")
    assert (text.count("### "), text.count("old")) == (2, 0)
    one, two = (line for line in text.splitlines() if line.startswith("| `resets`"))
    cells = "1.05 [0.53..2.10] | 1.00 [0.50..2.00] | 1.10 | within | a loop over nn.LSTMCell"
    assert one == f"| `resets` | evaluation | {cells} | 2.00 [1.00..4.00] | 0.50 [0.25..1.00] |"
    assert "| above (forward) |" in two
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match="has no two lines"):
        pages.write(page, "text")


def test_the_page_and_the_records_agree() -> None:
    for name, part in pages.PARTS.items():
        found = pages.written(pages.PAGE, *pages.marks(name))
        assert found == part(report.RESULTS), "run: python -m benchmarks pages"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--options", "zoneout,zonout"], "no option 'zonout'; there are input_dropout, "),
        (["--shape", "B2-T4-I3-H6"], "got H6, expected a multiple of 4"),
        (["--shape", f"{TINY},{TINY}"], "expected one shape"),
        (["--shape", "H8"], "is no shape"),
    ],
)
def test_bad_options_are_named(
    more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["options", *more])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_problem_is_what_it_says() -> None:
    problem = Problem.of(table(options.SHAPE)["ragged"], Shape(32, 100, 32, 128))
    assert (int(problem.given.lengths.min()), int(problem.given.lengths.max())) == (50, 100)
    assert problem.share == pytest.approx(0.75, abs=0.01)
    assert problem.given.lengths.tolist() != sorted(problem.given.lengths.tolist())
    assert 0.005 < float(problem.given.resets.float().mean()) < 0.015
    assert all(value.unique().numel() > 1 for value in problem.given.weights.values())
    for name, layers in (("residual", 2), ("resets", 1)):
        problem = Problem.of(table(SMALL)[name], SMALL)
        assert (problem.plain.num_layers, problem.plain.options.changed) == (layers, {})

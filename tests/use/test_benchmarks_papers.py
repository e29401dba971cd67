"""The benchmark of the papers: names, rows, records, and the page that is written from them."""

from __future__ import annotations

import dataclasses
import doctest
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from benchmarks import pages
from benchmarks.__main__ import main
from benchmarks.papers import (
    catalogue,
    counting,
    gers,
    hochreiter,
    network,
    recall,
    registry,
    report,
    training,
)
from benchmarks.papers.network import Model, Network, biases
from benchmarks.papers.registry import Row, Settings
from tests.helpers import assert_same

ROW = Row(
    "adding, T=100",
    "lstm, H=4",
    seeds=3,
    solved=2,
    sequences=(1000, 4000),
    measure="error",
    values=(0.25, 0.5, 0.75),
    published="74,000 [K?]",
    reached=False,
    note="one | seed fell short",
)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two experiments instead of all; the second yields nothing but what it was asked for."""
    monkeypatch.setattr(registry, "EXPERIMENTS", {})
    monkeypatch.setattr(catalogue, "EXPERIMENTS", registry.EXPERIMENTS)

    @registry.experiment("first", "The first")
    def first(settings: Settings) -> Iterator[Row]:
        yield ROW

    @registry.experiment("second", "The second")
    def second(settings: Settings) -> Iterator[Row]:
        seeds = settings.range(10)
        yield Row("task", "model", len(seeds), solved=0, note=f"quick: {settings.quick}")


@pytest.mark.parametrize("module", [registry, report, network, training])
def test_examples_run(module: ModuleType) -> None:
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted
    assert not result.failed


@pytest.mark.usefixtures("two")
def test_a_run_prints_its_rows_and_is_recorded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before, file = torch.get_num_threads(), tmp_path / "papers.jsonl"
    assert main(["papers", "--seeds", "4", "--record", str(file)]) == 0
    assert torch.get_num_threads() == before
    text = capsys.readouterr().out
    for part in (
        "2/3              2,500 (2,500)   NOT REACHED",
        "error: 0.5 (0.25 .. 0.75)",
        "published: 74,000 [K?]",
        "note: one | seed fell short",
    ):
        assert part in text
    runs = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [run["experiment"] for run in runs] == ["first", "second"]
    assert runs[0]["options"] == {"seeds": 4, "quick": False}
    assert runs[0]["threads"] == 1
    assert runs[0]["rows"][0]["sequences"] == [1000, 4000]
    assert runs[1]["rows"][0]["seeds"] == 4
    assert set(runs[0]["versions"]) >= {"torch", "holdfast"}


@pytest.mark.usefixtures("two")
def test_one_experiment_runs_alone_for_a_moment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["papers", "second", "--quick"]) == 0
    text = capsys.readouterr().out
    assert "note: quick: True" in text
    assert "adding" not in text
    assert main(["papers", "--list"]) == 0
    assert capsys.readouterr().out.split("\n")[0] == "first            The first"


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["third"], "no experiment 'third'; there are first, second"),
        (["--quick", "--record"], "not allowed with"),
        (["--seeds", "0"], "got 0, expected at least 1"),
    ],
)
def test_what_cannot_be_run_is_refused(
    wrong: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["papers", *wrong])
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("two")
def test_names_are_given_once() -> None:
    with pytest.raises(ValueError, match="there is an experiment 'first' already"):
        registry.experiment("first", "Again")(lambda settings: [])
    with pytest.raises(ValueError, match="no experiment 'x'; there are first, second"):
        list(registry.chosen(["x"]))


@pytest.mark.usefixtures("two")
def test_the_last_run_of_each_experiment_is_written_into_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, page = tmp_path / "papers.jsonl", tmp_path / "page.md"
    page.write_text(f"before\n\n{pages.BEGIN}\n\nold\n\n{pages.END}\n\nafter\n", encoding="utf-8")
    command = ["pages", "papers", "--record", str(record), "--page", str(page)]
    assert main(command) == 0
    assert pages.written(page) == report.NOTHING
    for seeds in (2, 5):
        main(["papers", "--seeds", str(seeds), "--record", str(record)])
    assert main(command) == 0
    assert main(command) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n\n{pages.BEGIN}\n\n### The first\n")
    assert text.endswith(f"\n\n{pages.END}\n\nafter\n")
    assert text.count("### ") == 2
    assert (
        "| adding, T=100 | lstm, H=4 | 2/3 | 2,500 (2,500) | error: 0.5 (0.25 .. 0.75) "
        "| 74,000 [K?] | not reached |"
    ) in text
    assert "- adding, T=100, lstm, H=4: one | seed fell short" in text
    assert "| 0/5 |" in text
    assert "| 0/2 |" not in text


def test_the_page_is_what_was_recorded() -> None:
    expected = report.render(report.newest(report.RECORD))
    assert pages.written(report.PAGE) == expected, "run: python -m benchmarks pages papers"


def test_recorded_runs_are_real_ones() -> None:
    for run in report.newest(report.RECORD):
        assert run["experiment"] in catalogue.EXPERIMENTS
        assert not run["options"]["quick"]
        assert run["rows"]


FAST = ("order_6a", "multiplication")

OWN = [
    name
    for name, one in catalogue.EXPERIMENTS.items()
    if one.run.__module__ in {module.__name__ for module in (counting, gers, hochreiter, recall)}
]
"""Experiments on generated data; those on files have tests of their own."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in OWN],
)
def test_every_experiment_yields_rows(name: str) -> None:
    before = torch.get_rng_state()
    rows = list(report.timed(catalogue.EXPERIMENTS[name], Settings(quick=True)))
    assert torch.equal(torch.get_rng_state(), before), "the global random state was touched"
    assert rows
    assert len({(row.task, row.model) for row in rows}) == len(rows), "two rows are not told apart"
    for row in rows:
        assert row.seeds == (0 if row.note.startswith("not run") else 1)
        assert row.task
        assert row.model
        assert row.solved is None or len(row.sequences) == row.solved <= row.seeds
        assert bool(row.measure) >= bool(row.values)
        assert list(report.lines(row))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "model", "published"),
    [
        (hochreiter.reber_task(8_440), hochreiter.REBER_MODEL, 8_440),
        (hochreiter.order_task(2, 31_390), hochreiter.ORDER_MODELS[1], 31_390),
        (hochreiter.adding_task(100, 74_000), hochreiter.ADDING_MODELS[0], 74_000),
    ],
    ids=["reber", "temporal order", "adding"],
)
def test_solved_in_fewer_sequences_than_published(
    task: training.Task, model: Model, published: int
) -> None:
    count, network = training.train(task, model, seed=3)
    assert count is not None
    assert count <= published
    if task.test is not None:
        with torch.inference_mode():
            assert task.test(network, 3) <= 10


@pytest.mark.slow
def test_a_plain_network_does_not_learn_to_add() -> None:
    task = hochreiter.adding_task(100, 20_000)
    assert training.train(task, Model("rnn", 8, lr=0.01, batch=32), seed=0)[0] is None


def test_a_look_up_is_the_product_with_one_hot_inputs() -> None:
    model = Model("lstm", 3, lookup=True, direct=True, **biases(f=2.0))
    table = Network(model, 9, 4, seed=0)
    dense = Network(dataclasses.replace(model, lookup=False), 9, 4, seed=0)
    symbols = torch.randint(9, (6, 5), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([6, 1, 3, 4, 2])
    one_hot = torch.nn.functional.one_hot(symbols, 9).float()
    with torch.no_grad():
        for name in ("readout", "past"):
            getattr(dense, name).load_state_dict(getattr(table, name).state_dict())
    outs = [table.every(symbols, lengths), dense.every(one_hot, lengths)]
    assert_same(outs[0], outs[1])
    for out in outs:
        out.square().sum().backward()
    assert table.table is not None
    assert table.table.grad is not None
    assert_same(table.table.grad.T, dense.layer.get_parameter("weight_ih_l0").grad)
    assert len(table.trained()) == len(dense.trained())


def test_the_criterion_of_1997_wants_all_of_the_last_right_and_a_small_mean() -> None:
    stop = training.LastRight(3, right=0.5, mean=0.2)
    seen = [stop(None, 0, torch.tensor([error])) for error in (0.0, 0.0, 0.4, 0.4, 0.4, 0.0, 0.0)]
    assert seen == [False, False, True, False, False, False, True]
    some = training.LastRight(3, right=0.5, mean=1.0, wrong=1)
    assert [some(None, 0, torch.tensor([0.9, 0.0])), some(None, 0, torch.tensor([0.0]))] == [
        False,
        True,
    ]

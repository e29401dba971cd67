"""The verbs: what they write, and that naming them costs nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from holdfast.cli import build_parser, main
from holdfast.data import load_metro_traffic
from holdfast.tasks import Forecaster, evaluate
from holdfast.tasks.forecast.demo_report import demo_report
from holdfast.tasks.forecast.evaluate import show_score
from holdfast.tasks.forecast.speed import compare_layers
from tests.conftest import ROOT
from tests.tasks.small import csv, several

FIT = ("--horizon", "7", "--window", "14", "--hidden-size", "4", "--max-epochs", "2")
PNG = b"\x89PNG\r\n\x1a\n"


def test_fit_predict_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = csv(several().rename({"unique_id": "shop", "y": "sold"}), tmp_path / "table.csv")
    names = ("--id", "shop", "--target", "sold")
    model, out, plot = (str(tmp_path / name) for name in ("model", "f.csv", "f.png"))
    assert main(["forecast", "fit", table, "--out", model, *names, *FIT, "--holdout", "14"]) == 0
    printed = capsys.readouterr()
    assert "\nHoldfast  " in printed.out
    assert "epoch 1: held-out error" in printed.err
    assert "| Holdfast |" in (tmp_path / "model" / "card.md").read_text()
    assert main(["forecast", "predict", model, table, "--out", out, "--plot", plot]) == 0
    written = pl.read_csv(out)
    assert written.columns == ["shop", "ds", "forecast"]
    expected = Forecaster.load(model).predict(table)
    assert written["forecast"].to_list() == expected["forecast"].to_list()
    assert Path(plot).read_bytes().startswith(PNG)
    capsys.readouterr()
    assert main(["forecast", "predict", model, table]) == 0
    assert capsys.readouterr().out == Path(out).read_text()
    assert main(["forecast", "evaluate", model, table, "--no-autoets"]) == 0
    scores = capsys.readouterr().out
    assert scores.startswith("4 forecasts of 7 rows")
    assert "AutoETS" not in scores


def test_the_parser_imports_nothing_heavy() -> None:
    script = (
        "import sys; from holdfast.cli import build_parser; build_parser().format_help(); "
        "print([m for m in ('sklearn', 'polars', 'matplotlib') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_help_names_every_verb() -> None:
    text = build_parser().format_help()
    assert "forecast" in text
    assert "demo" in text


def test_layers_are_timed_on_the_same_step() -> None:
    speed = compare_layers(2, 3, 4, 5, rounds=1)
    assert speed.ours > 0 < speed.torch
    assert "B=2, T=3, I=4, H=5" in speed.describe()


def self_contained(page: str) -> bool:
    """Whether the page has its three pictures inside and asks for nothing outside."""
    outside = re.search(r"(src|href)=.?(http|/|\.)", page)
    return page.count("data:image/png;base64,") == 3 and outside is None


def test_the_report_is_self_contained_and_tells_every_score() -> None:
    table = several(("only",))
    model = Forecaster(7, window=14, hidden_size=4, max_epochs=2).fit(table[:130])
    evaluation = evaluate(model, table)
    page = demo_report(model, evaluation, compare_layers(1, 2, 3, 4, rounds=1), 1.5)
    assert self_contained(page)
    for method, scores in evaluation.scores.items():
        assert f">{method}</th>" in page
        assert show_score(scores["RMSE"]) in page
    for words in ("CC BY 4.0", model.data_["sha256"], "torch.nn.LSTM", "validation"):
        assert words in page


@pytest.mark.slow
def test_the_demo_writes_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--out", str(tmp_path), "--max-epochs", "1"]) == 0
    printed = capsys.readouterr().out
    for method in ("Holdfast", "last week", "yesterday", "last value", "AutoETS", "torch.nn.LSTM"):
        assert method in printed
    page = (tmp_path / "report.html").read_text()
    assert self_contained(page)
    assert Forecaster.load(tmp_path / "model").data_["sha256"] in page
    assert (tmp_path / "forecast.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_the_demo_beats_last_week_by_a_wide_margin(tmp_path: Path) -> None:
    table = load_metro_traffic()
    model = Forecaster(24, missing="fill").fit(table[:-1680])
    scores = evaluate(model, table, autoets=False).scores
    ours, week = (row["MAE"] for row in list(scores.values())[:2])
    assert week == pytest.approx(218.3, abs=0.1)
    assert ours < 0.80 * week

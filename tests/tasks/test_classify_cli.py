"""The verb `classify`: from a table of reviews to a scored model, and its mistakes on one line."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from holdfast.cli import main
from holdfast.tasks import SequenceClassifier
from holdfast.tasks.classify import commands
from holdfast.verbs.classify_settings import SETTINGS
from tests.tasks.test_classify import reviews, waves

FIT = (
    "--hidden-size",
    "5",
    "--embedding-size",
    "6",
    "--max-epochs",
    "3",
    "--batch-size",
    "8",
    "--learning-rate",
    "0.05",
)
PNG = b"\x89PNG\r\n\x1a\n"


def table(path: Path, times: int = 6) -> str:
    texts, said = reviews(times)
    ids = [f"r{n}" for n in range(len(texts))]
    pl.DataFrame({"id": ids, "text": texts, "label": said}).write_csv(path)
    return str(path)


def test_fit_predict_evaluate_explain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, model = table(tmp_path / "t.csv"), str(tmp_path / "model")
    out, plot, page = (str(tmp_path / name) for name in ("p.csv", "p.png", "p.html"))
    fit = ["classify", "fit", data, "--out", model, "--id", "id", "--pooling", "max,attention"]
    assert main([*fit, *FIT, "--test", data]) == 0
    printed = capsys.readouterr()
    assert "\nHoldfast  " in printed.out
    assert "epoch 1: held-out error" in printed.err
    assert "| TF-IDF + logistic regression |" in (tmp_path / "model" / "card.md").read_text()
    assert SequenceClassifier.load(model).pooling == ("max", "attention")
    assert main(["classify", "predict", model, data, "--out", out, "--top", "2"]) == 0
    written = pl.read_csv(out)
    assert written.columns == ["id", "label", "probability", "label-2", "probability-2"]
    expected = SequenceClassifier.load(model)
    assert written["label"].to_list() == expected.predict(data).tolist()
    assert written["probability"].to_list() == expected.predict_proba(data).max(1).tolist()
    capsys.readouterr()
    assert (
        main(
            ["classify", "evaluate", model, data, "--train", data, "--plot", plot, "--report", page]
        )
        == 0
    )
    scores = capsys.readouterr().out
    for words in ("TF-IDF + logistic regression", "most frequent class", "macro F1", "precision"):
        assert words in scores
    assert Path(plot).read_bytes().startswith(PNG)
    assert "<h2>Reliability</h2>" in Path(page).read_text()
    assert main(["classify", "explain", model, "a good film", "--top", "2"]) == 0
    said = capsys.readouterr().out
    assert "probability 0." in said or "probability 1." in said
    assert "attributions" in said
    assert "\x1b[" not in said


def test_predict_reads_a_text_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model"
    SequenceClassifier(hidden_size=5, embedding_size=6, max_epochs=1).fit(*reviews()).save(model)
    (tmp_path / "texts.txt").write_text("good film\n\nbad film")
    assert main(["classify", "predict", str(model), str(tmp_path / "texts.txt")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_sequences_of_numbers_and_a_table_of_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series, labels = waves()
    rows = [
        {"run": n, "t": t, "a": float(a), "b": float(b)}
        for n, values in enumerate(series)
        for t, (a, b) in enumerate(values)
    ]
    runs = [{"run": n, "label": f"k{label}"} for n, label in enumerate(labels)]
    data, kinds, model, plot = (str(tmp_path / n) for n in ("t.csv", "l.csv", "m", "p.png"))
    pl.DataFrame(rows).write_csv(data)
    pl.DataFrame(runs).write_csv(kinds)
    columns = ("--id", "run", "--time", "t", "--values", "a,b", "--labels", kinds)
    assert main(["classify", "fit", data, "--out", model, *columns, *FIT, "--test", data]) == 0
    assert "mean, std, min, max + logistic regression" in capsys.readouterr().out
    out = str(tmp_path / "p.parquet")
    assert main(["classify", "predict", model, data, "--out", out]) == 0
    assert pl.read_parquet(out)["run"].to_list()[:2] == ["0", "1"]
    explain = ["classify", "explain", model, "--data", data, "--example", "3", "--plot", plot]
    assert main(explain) == 0
    assert " at step " in capsys.readouterr().out
    assert Path(plot).read_bytes().startswith(PNG)


def test_several_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, model = str(tmp_path / "t.jsonl"), str(tmp_path / "model")
    texts = ["red", "blue", "red blue", "none"] * 8
    pl.DataFrame(
        {"text": texts, "r": ["red" in t for t in texts], "b": ["blue" in t for t in texts]}
    ).write_ndjson(path)
    fit = ["classify", "fit", path, "--out", model, "--label", "r,b", "--threshold", "best"]
    assert main([*fit, *FIT]) == 0
    capsys.readouterr()
    assert main(["classify", "predict", model, path]) == 0
    assert capsys.readouterr().out.startswith("labels,probability-r,probability-b\n")


def test_an_interrupted_command_goes_on_to_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(progress: Any) -> None:
        if progress.epochs == 2:
            raise KeyboardInterrupt

    data, out = table(tmp_path / "t.csv"), tmp_path / "model"
    fit = ["classify", "fit", data, *FIT, "--out"]
    assert main([*fit, str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(commands, "training_bar", lambda _: nullcontext(stop))
        assert main([*fit, str(out)]) == 130
    assert "--resume to go on" in capsys.readouterr().err
    assert not out.exists()
    assert main([*fit, str(out), "--resume"]) == 0
    for name in ("model.safetensors", "config.json", "words.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    capsys.readouterr()
    assert main([*fit, str(out), "--resume"]) == 0
    assert "nothing to resume" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "{data}", "--out", "{out}", "--label", "labl"], "did you mean label"),
        (["fit", "{data}", "--out", "{out}", "--report", "r.html"], "--report needs scores"),
        (["fit", "{data}", "--out", "{out}", "--pooling", "maxx"], "did you mean max"),
        (["fit", "missing.csv", "--out", "{out}"], "missing.csv"),
        (["predict", "{out}", "{data}", "--out", "p.txt"], "--out p.txt: expected a name"),
        (["explain", "{out}"], "there is no such model folder"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"data": table(tmp_path / "t.csv", 2), "out": str(tmp_path / "model")}
    assert main(["classify", *(one.format(**names) for one in arguments)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_every_setting_is_an_option_with_the_same_default() -> None:
    settings = SequenceClassifier().get_params()
    assert {one.name for one in SETTINGS} == set(settings)
    for one in SETTINGS:
        known = settings[one.name]
        assert one.default == known, one.name

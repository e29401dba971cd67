"""The command line of language models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from holdfast.cli import main
from holdfast.tasks import LanguageModel
from holdfast.tasks.language import commands, figures
from holdfast.tasks.language.settings import PRESETS
from holdfast.verbs.language_settings import SETTINGS

TEXT = "the cat sat on the mat\na dog ran to the cat\n" * 12
SIZE = ["--hidden-size", "6", "--batch-size", "4", "--steps", "20", "--max-epochs", "2"]


@pytest.fixture
def text(tmp_path: Path) -> str:
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    return str(file)


def test_from_a_text_to_a_model_a_score_and_more_of_it(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plot = tmp_path / "model", tmp_path / "curve.png"
    fit = ["language", "fit", text, "--out", str(out), "--preset", "char-small", *SIZE]
    assert main([*fit, "--test", text, "--plot", str(plot)]) == 0
    said = capsys.readouterr().out
    assert "trained 2 epochs" in said
    assert "nats per character" in said
    assert "On `" in (out / "card.md").read_text()
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*.checkpoint"))
    assert LanguageModel.load(out).averaging == 0.998

    assert main(fit) == 2
    assert "exists already" in capsys.readouterr().err

    score = ["language", "score", str(out), text]
    assert main([*score, "--plot", str(plot)]) == 0
    assert f"{len(TEXT):,}" in capsys.readouterr().out
    assert main([*score, "--cache", "50", "--dynamic-rate", "0.05"]) == 0
    assert "perplexity" in capsys.readouterr().out

    write = ["language", "generate", str(out), "--prefix", "the ", "--length", "9", "--seed", "1"]
    assert main(write) == 0
    said = capsys.readouterr().out
    assert said.startswith("the ")
    assert len(said) == len("the ") + 9 + 1
    assert main([*write, "--samples", "2"]) == 0
    assert capsys.readouterr().out.count("---") == 2
    assert main([*write[:3], "--prefix", "\u20ac"]) == 2
    assert "never seen in training" in capsys.readouterr().err


def test_a_model_is_gone_on_with(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["language", "fit", text, "--out", str(first), *SIZE]) == 0
    go_on = ["language", "fit", text, "--out", str(second), "--start", str(first)]
    assert main([*go_on, "--averaging", "mean", "--max-epochs", "1"]) == 0
    model = LanguageModel.load(second)
    assert (model.averaging, model.hidden_size) == ("mean", LanguageModel.load(first).hidden_size)
    assert "start" in model.data_
    out = ["language", "fit", text, "--out", str(tmp_path / "third"), "--start", str(first)]
    assert main([*out, "--hidden-size", "9"]) == 2
    assert "this LanguageModel has 9" in capsys.readouterr().err


def test_a_folder_is_trained_watched_and_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train", "valid", "test"):
        (tmp_path / f"{part}.txt").write_text(" the <unk> cat sat \n" * 20)
    out = tmp_path / "model"
    fit = ["language", "fit", str(tmp_path), "--out", str(out), "--preset", "zaremba-small"]
    assert main([*fit, *SIZE]) == 0
    assert "test.txt" in capsys.readouterr().out
    assert LanguageModel.load(out).tokens_.decode([1]) == "\n"
    (tmp_path / "valid.txt").unlink()
    assert main([*fit[:-3], str(tmp_path / "other"), *fit[-2:]]) == 2
    assert "there is no valid.txt" in capsys.readouterr().err


def test_an_interrupted_training_goes_on(
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "model"
    fit = ["language", "fit", text, "--out", str(out), *SIZE]
    usual = commands.LanguageModel.fit

    def interrupted(self: LanguageModel, *args: object, **more: object) -> None:
        more["report"] = lambda progress: (_ for _ in ()).throw(KeyboardInterrupt)
        usual(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(commands.LanguageModel, "fit", interrupted)
    assert main(fit) == 130
    assert "--resume to go on" in capsys.readouterr().err
    monkeypatch.setattr(commands.LanguageModel, "fit", usual)
    assert main(fit) == 2
    assert "pass --resume" in capsys.readouterr().err
    assert main([*fit, "--resume"]) == 0
    whole = LanguageModel(hidden_size=6, batch_size=4, steps=20, max_epochs=2).fit(text)
    assert LanguageModel.load(out).history_ == whole.history_
    assert main([*fit, "--resume"]) == 0
    assert "nothing to resume" in capsys.readouterr().out


def test_the_table_of_settings_is_the_estimators() -> None:
    own = LanguageModel().get_params()
    assert {one.name: one.default for one in SETTINGS} == {
        name: value for name, value in own.items() if name != "betas"
    }


def test_presets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["language", "presets"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n{name} " in said for name in PRESETS)
    assert set(commands.WHAT) == set(PRESETS)


@pytest.mark.parametrize("words", [["--plot", "a.jpg"], ["--preset", "awdd"], ["--level", "x"]])
def test_mistakes_are_refused_in_one_line(
    words: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["language", "fit", text, "--out", str(tmp_path / "m"), *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("holdfast: error: ")
    assert said.count("\n") == 1


def test_the_picture_of_surprise_shows_every_token_in_its_place() -> None:
    pieces = ["ab", "\n", "\n", "\n", "c" * figures.COLUMNS, "d"]
    found = figures._cells(pieces, np.arange(6.0))
    assert [cell[:3] for cell in found[:5]] == [
        (0, 0, "a"),
        (0, 1, "b"),
        (0, 2, "\u00b6"),
        (0, 3, "\u00b6"),
        (0, 4, "\u00b6"),
    ]
    assert found[5] == (1, 0, "c", 4.0)
    assert found[-1] == (2, 0, "d", 5.0)
    assert max(line for line, *_ in figures._cells(["x"] * 5000, np.zeros(5000))) == 13

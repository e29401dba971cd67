"""`holdfast tag`: from files to a model, to tags and to scores."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from holdfast.cli import main
from holdfast.data.text import read_conll
from holdfast.tasks import Tagger
from holdfast.tasks.checkpoint import Progress
from holdfast.tasks.tag import commands
from holdfast.verbs.tag_settings import SETTINGS
from tests.tasks.tagged import SMALL, columns, conll

SIZE = ["--hidden-size", "8", "--word-size", "8", "--characters", "none", "--batch-size", "8"]
SIZE += ["--max-epochs", "4", "--averaging", "0", "--dropout", "0.1", "--learning-rate", "0.03"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, the file that it was trained on, and one that it has not seen."""
    folder = tmp_path_factory.mktemp("tag")
    train, new = conll(folder / "train.txt"), conll(folder / "new.txt", 6, seed=1)
    out = ["--out", str(folder / "model")]
    assert main(["tag", "fit", train, *out, *SIZE, "--valid", new]) == 0
    return folder


def test_options_are_the_settings() -> None:
    defaults = Tagger().get_params()
    assert [one.name for one in SETTINGS if one.name not in defaults] == []
    assert {one.name for one in SETTINGS} == defaults.keys()
    assert [one.name for one in SETTINGS if one.default != defaults[one.name]] == []


def test_fit_says_what_came_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, train = tmp_path / "model", str(folder / "train.txt")
    assert main(["tag", "fit", train, "--out", str(model), *SIZE]) == 0
    said = capsys.readouterr().out
    assert "trained 4 epochs, best" in said
    assert "on the sentences held out; see card.md there" in said
    assert main(["tag", "fit", train, "--out", str(model), *SIZE]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["tag", "fit", train, "--out", str(model), *SIZE, "--resume"]) == 0
    assert "nothing to resume" in capsys.readouterr().out
    assert sorted(os.listdir(model)) == [
        *("card.md", "characters.json", "config.json"),
        *("features.safetensors", "model.safetensors", "words.json"),
    ]


def test_predict_writes_lines_with_a_tag_behind(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = folder / "new.txt"
    assert main(["tag", "predict", str(folder / "model"), str(new)]) == 0
    written = capsys.readouterr().out
    lines = [" ".join(line.split()[:-1]) for line in written.splitlines()]
    assert lines == [*new.read_text().splitlines(), ""]
    (folder / "out.txt").write_text(written)
    table = read_conll(folder / "out.txt", ["word", "pos", "chunk", "found"])
    assert table["found"] == Tagger.load(folder / "model").predict(new)
    out = folder / "again.txt"
    assert main(["tag", "predict", str(folder / "model"), str(new), "--out", str(out)]) == 0
    assert out.read_text() == written


def test_predict_needs_no_tags_and_tells_how_sure_it_is(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare.txt"
    bare.write_text("the\ndog\n\ncat")
    assert main(["tag", "predict", str(folder / "model"), str(bare), "--confidence"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[:1] for row in rows] == [["the"], ["dog"], [], ["cat"], []]
    assert all(0 < float(row[2]) <= 1 for row in rows if row)


def test_plain_text_is_cut_into_words(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the dog, the cat.\n\nthe tree")
    assert main(["tag", "predict", str(folder / "model"), str(text), "--text"]) == 0
    rows = [line.split()[:1] for line in capsys.readouterr().out.splitlines()]
    first = [["the"], ["dog"], [","], ["the"], ["cat"], ["."]]
    assert rows == [*first, [], [], ["the"], ["tree"], []]


def test_n_best(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = tmp_path / "bare.txt"
    bare.write_text("the\ndog\n")
    assert main(["tag", "predict", str(folder / "model"), str(bare), "--n-best", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[::4]] == [["#", "0"], ["#", "1"]]
    shares = [float(line.split()[2]) for line in lines[::4]]
    assert shares[0] > shares[1] > 0
    assert lines[1].split()[0] == lines[5].split()[0] == "the"


def test_evaluate_prints_the_table_of_conlleval(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    plot, page = tmp_path / "a.png", tmp_path / "a.html"
    asked = ["tag", "evaluate", str(folder / "model"), str(folder / "new.txt")]
    assert main([*asked, "--plot", str(plot), "--report", str(page)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("processed ")
    assert "strictly by BIO: precision: " in said
    assert "words seen in training: " in said
    assert plot.read_bytes().startswith(b"\x89PNG")
    shown = page.read_text()
    for part in ("Tagger of chunk", "Which tags are confused", "Learning curve", "Where it hesi"):
        assert part in shown
    assert "http" not in shown.replace("http://www.w3.org", "")


WRONG = [
    (["fit", "new.txt", "--out", "m", "--column", "ner"], "there is no column 'ner'"),
    (["fit", "new.txt", "--out", "m", "--report", "a.pdf"], "--report a.pdf: expected a name"),
    (["fit", "new.txt", "--out", "m", "--report", "a.html"], "give --valid FILE"),
    (["fit", "gone.txt", "--out", "m"], "gone.txt: cannot be read"),
    (["predict", "model", "gone.txt"], "gone.txt: cannot be read"),
    (["predict", "gone", "new.txt"], "gone: there is no such model folder"),
    (["evaluate", "model", "new.txt", "--plot", "a.svg"], "--plot a.svg: expected a name"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_refusals_are_one_line(
    words: list[str],
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    assert main(["tag", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("holdfast: error: ")
    assert message in said
    assert said.count("\n") == 1


def test_tags_without_a_column_for_them_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare.txt"
    bare.write_text("the DT\n")
    assert main(["tag", "evaluate", str(folder / "model"), str(bare)]) == 2
    assert "got 2 columns, so there is no column 2 to be 'chunk'" in capsys.readouterr().err


def test_plain_text_has_no_further_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Tagger(**{**SMALL, "max_epochs": 1}, inputs=("pos",), input_size=8).fit(columns(10))
    model.save(tmp_path / "model")
    file = conll(tmp_path / "a.txt", 3)
    assert main(["tag", "predict", str(tmp_path / "model"), file, "--text"]) == 2
    assert "reads the columns pos, which plain text has not" in capsys.readouterr().err
    assert main(["tag", "predict", str(tmp_path / "model"), file]) == 0


def test_universal_dependencies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.conllu"
    made = columns(8)
    file.write_text(
        "".join(
            "# a comment\n1-2\tthe dog"
            + "\t_" * 8
            + "\n"
            + "".join(
                "\t".join([str(n), word, "_", pos, *"______"]) + "\n"
                for n, (word, pos) in enumerate(zip(words, tags, strict=True), 1)
            )
            + "\n"
            for words, tags in zip(made["word"], made["pos"], strict=True)
        )
    )
    fit = ["tag", "fit", str(file), "--columns", "conllu", "--column", "upos", *SIZE]
    assert main([*fit, "--out", str(tmp_path / "m"), "--scheme", "none"]) == 0
    capsys.readouterr()
    assert main(["tag", "predict", str(tmp_path / "m"), str(file)]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert {len(row) for row in rows if row != [""]} == {11}
    assert main(["tag", "evaluate", str(tmp_path / "m"), str(file)]) == 0
    assert capsys.readouterr().out.startswith("accuracy: ")


def test_an_interrupted_command_goes_on_to_the_same_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def report(progress: Progress) -> None:
        if progress.epochs == 2:
            raise KeyboardInterrupt

    train, new, out = str(folder / "train.txt"), str(folder / "new.txt"), tmp_path / "model"
    fit = ["tag", "fit", train, "--out", str(out), *SIZE, "--valid", new]

    def shown(_: Any) -> Any:
        return nullcontext(report)

    with monkeypatch.context() as patch:
        patch.setattr(commands, "training_bar", shown)
        assert main(fit) == 130
    assert os.listdir(tmp_path) == ["model.checkpoint"]
    assert main([*fit, "--resume"]) == 0
    for name in ("model.safetensors", "config.json"):
        assert (out / name).read_bytes() == (folder / "model" / name).read_bytes()
    assert os.listdir(tmp_path) == ["model"]

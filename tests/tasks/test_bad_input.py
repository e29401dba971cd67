"""What cannot be used is refused in one line that names the place, with exit status 2 and no "
"model."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from holdfast.cli import main
from tests.tasks.small import csv, daily, edit, several

FIT = ("--horizon", "7", "--window", "14", "--hidden-size", "4", "--max-epochs", "1")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line on stderr of a command that must be refused."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith("epoch")]
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("holdfast: error: ")
    return lines[0]


def rows(*lines: str) -> str:
    return "\n".join(("ds,y", *lines)) + "\n"


TABLES = {
    "no target column": ("ds,z\n2024-01-01,1\n", r"no column 'y'"),
    "no time column": ("t,y\n2024-01-01,1\n", r"no column 'ds'"),
    "text in the target": (rows("2024-01-01,1", "2024-01-02,many"), r"row 2: column 'y' .*'many'"),
    "text in the time": (rows("2024-01-01,1", "someday,2"), r"row 2: column 'ds' .*'someday'"),
    "empty time": (rows("2024-01-01,1", ",2"), r"row 2: column 'ds'"),
    "numbers as time": (rows("1,1", "2,2"), r"column 'ds' holds numbers"),
    "empty file": ("", r"the file is empty"),
    "header only": ("ds,y\n", r"the table is empty"),
    "one row": (rows("2024-01-01,1"), r"only 1 row"),
    "ragged rows": ("ds,y\n2024-01-01,1,7,8\n", r"not a readable"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_unreadable_tables(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, pattern = TABLES[kind]
    path = tmp_path / "table.csv"
    path.write_text(text)
    line = refused(capsys, "forecast", "fit", path, "--out", tmp_path / "model", *FIT)
    assert re.search(pattern, line), line
    assert "table.csv" in line
    assert os.listdir(tmp_path) == ["table.csv"]


TIMES = daily()["ds"]
CHANGED = {
    "duplicate time": (edit(daily(), 9, "ds", TIMES[8]), r"row 10: the same time .* as row 9"),
    "gap": (daily().filter(pl.col("ds") != TIMES[40]), r"row 41: a gap: 1 .*--missing fill"),
    "NaN": (edit(daily(), 20, "y", None), r"row 21: column 'y' is empty .*--missing fill"),
    "infinity": (edit(daily(), 20, "y", np.inf), r"row 21: column 'y' is infinite"),
    "constant": (daily().with_columns(y=pl.lit(5.0)), r"'y' is constant \(5\)"),
    "short": (daily(25), r"25 rows are too few to train; needs"),
    "mixed": (
        edit(daily(), 30, "ds", TIMES[30].replace(hour=7)),
        r"row 31: mixed frequency: most rows are 1 day apart",
    ),
    "slower later": (
        pl.concat([daily(80), daily(600, start="2024-03-21")[::3]]),
        r"mixed frequency",
    ),
    "nothing at all": (daily().with_columns(y=pl.lit(None, dtype=pl.Float64)), r"is empty"),
}


@pytest.mark.parametrize("kind", CHANGED)
def test_unusable_tables(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, pattern = CHANGED[kind]
    path = csv(table, tmp_path / "table.csv")
    line = refused(capsys, "forecast", "fit", path, "--out", tmp_path / "model", *FIT)
    assert re.search(pattern, line), line
    assert "table.csv" in line
    assert os.listdir(tmp_path) == ["table.csv"]


def test_fill_accepts_gaps_and_nan_but_not_infinity(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holes = edit(daily(), 20, "y", None).filter(pl.col("ds") != TIMES[40])
    fill = ("--missing", "fill", *FIT)
    path = csv(holes, tmp_path / "holes.csv")
    assert main(["forecast", "fit", path, "--out", str(tmp_path / "model"), *fill]) == 0
    path = csv(edit(holes, 3, "y", -np.inf), tmp_path / "inf.csv")
    line = refused(capsys, "forecast", "fit", path, "--out", tmp_path / "other", *fill)
    assert "row 4: column 'y' is infinite" in line


def test_the_series_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = several()
    path = csv(edit(table, 170, "y", None), tmp_path / "t.csv")
    line = refused(capsys, "forecast", "fit", path, "--out", tmp_path / "model", *FIT)
    assert "row 171 (series 'a')" in line
    no_id = csv(table.drop("unique_id"), tmp_path / "t.csv")
    line = refused(capsys, "forecast", "fit", no_id, "--out", tmp_path / "model", *FIT)
    assert "name the id column" in line


def test_two_frequencies_in_two_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = several(("b",), 400)[::2].with_columns(unique_id=pl.lit("slow"))
    path = csv(pl.concat([several(("a",)), slow]), tmp_path / "t.csv")
    line = refused(capsys, "forecast", "fit", path, "--out", tmp_path / "model", *FIT)
    assert "series 'a' is 1 day apart, series 'slow' 2 days" in line


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--device", "abacus", "device='abacus' cannot be used here"),
        ("--cell", "elephant", "elephant"),
        ("--learning-rate", "-1", "learning_rate=-1.0; expected"),
        ("--learning-rate", "1e30", "training diverged in epoch 1"),
        ("--seed", "-4", "seed=-4; expected"),
        ("--past", "temp", "no column 'temp'"),
        ("--model", "dirct", "model='dirct'; expected one of"),
        ("--option", "color=red", "options: 'color' is unknown"),
        ("--output", "neither", "output='neither'; expected one of"),
        ("--augment", "stretch", "augment: 'stretch' is unknown"),
        ("--categorical", "shop", "'shop' is named in `categorical`"),
        ("--report", "page.txt", "--report page.txt: expected a name that ends in .html"),
        ("--start", "nothing", "nothing: there is no such model folder"),
    ],
)
def test_unusable_settings(
    option: str, value: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = csv(daily(), tmp_path / "table.csv")
    out = ("--out", tmp_path / "model")
    line = refused(capsys, "forecast", "fit", path, *out, *FIT, f"{option}={value}")
    assert message in line
    assert os.listdir(tmp_path) == ["table.csv"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--hiden-size", "8"), "--hiden-size is no option here (did you mean --hidden-size"),
        (("--horizon", "0"), "--horizon: got '0', expected a whole number from 1 on"),
        (("--dropout", "much"), "--dropout: got 'much', expected a number"),
        (("--option", "segment"), "--option: got 'segment', expected KEY=VALUE"),
        (("--resume", "--restart"), "not allowed with argument"),
    ],
)
def test_words_that_are_no_command(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["forecast", "fit", "table.csv", "--out", "model", *words])
    lines = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert len(lines) == 1
    assert lines[0].startswith("holdfast: error: ")
    assert message in lines[0]
    assert "holdfast forecast fit --help" in lines[0]


def test_no_such_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "forecast", "fit", tmp_path / "no.csv", "--out", tmp_path / "m", *FIT)
    assert "no.csv: cannot be read" in line


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model folder, and its table beside it as table.csv."""
    path = csv(several(), tmp_path / "table.csv")
    folder = tmp_path / "model"
    assert main(["forecast", "fit", path, "--out", str(folder), "--holdout", "14", *FIT]) == 0
    return folder


def predict(capsys: pytest.CaptureFixture[str], model: Path, table: str | Path) -> str:
    return refused(capsys, "forecast", "predict", model, table)


def test_predicting_what_the_model_does_not_know(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = model.parent
    weekly = csv(several(rows=700)[::7], folder / "weekly.csv")
    assert "rows are 7 days apart, the model was trained on 1 day" in predict(capsys, model, weekly)
    table = folder / "table.csv"
    for words, message in (
        (("--levels", "80"), "point forecasts; fit with output="),
        (("--levels", "120"), "levels=120.0; expected a percentage"),
        (("--quantiles", "2"), "quantiles=2.0; expected a share"),
        (("--samples", "3"), "point forecasts; fit with output="),
        (("--out", "f.xlsx"), "--out f.xlsx: expected a name that ends in .csv"),
        (("--plot", "f.gif"), "--plot f.gif: expected a name that ends in .png"),
    ):
        assert message in refused(capsys, "forecast", "predict", model, table, *words)
    other = csv(several().rename({"y": "z"}), folder / "other.csv")
    assert "no column 'y'" in predict(capsys, model, other)


def test_scoring_rows_of_training_is_refused(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = csv(several(rows=146), model.parent / "old.csv")
    line = refused(capsys, "forecast", "evaluate", model, old)
    assert "0 row(s) to score" in line
    assert "--last" in line


def test_wrong_model_folders(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = model.parent / "table.csv"
    assert "no such model folder" in predict(capsys, model.parent / "nothing", table)
    assert "not a model folder" in predict(capsys, model.parent, table)
    weights, config = model / "model.safetensors", model / "config.json"
    good_weights, good_config = weights.read_bytes(), config.read_text()
    weights.write_bytes(good_weights[:-100])
    assert "model.safetensors: truncated or damaged" in predict(capsys, model, table)
    weights.write_bytes(b"")
    assert "model.safetensors: truncated or damaged" in predict(capsys, model, table)
    weights.unlink()
    assert "model.safetensors: cannot be read" in predict(capsys, model, table)
    weights.write_bytes(good_weights)
    for change, message in (
        ({"format_version": 99}, "format version 99, this Holdfast reads up to 1; upgrade"),
        ({"format": "something else"}, "holds format 'something else'"),
        ({"scaling": None}, "incomplete"),
        ({"calendar": 99}, "weights and configuration belong to different models"),
    ):
        config.write_text(json.dumps(json.loads(good_config) | change))
        assert message in predict(capsys, model, table)
    config.write_text(good_config[:50])
    assert "config.json: damaged" in predict(capsys, model, table)
    config.write_text(good_config)
    assert main(["forecast", "predict", str(model), str(table)]) == 0


def full_disk(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """From now on the disk is full when a file whose path contains `name` is synced."""
    sync = os.fsync

    def fail(descriptor: int) -> None:
        if name in Path(os.readlink(f"/proc/self/fd/{descriptor}")).name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)


def test_a_full_disk_leaves_no_half_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = csv(daily(), tmp_path / "table.csv")
    full_disk(monkeypatch, "config.json")
    line = refused(capsys, "forecast", "fit", path, "--out", tmp_path / "model", *FIT)
    assert "No space left on device" in line
    assert sorted(os.listdir(tmp_path)) == ["model.checkpoint", "table.csv"]
    monkeypatch.undo()
    resume = ["forecast", "fit", path, "--out", str(tmp_path / "model"), *FIT, "--resume"]
    assert main(resume) == 0
    assert sorted(os.listdir(tmp_path)) == ["model", "table.csv"]


def test_a_full_disk_keeps_the_older_model_and_checkpoint(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table, before = model.parent / "table.csv", sorted(os.listdir(model.parent))
    weights = (model / "model.safetensors").read_bytes()
    restart = ("forecast", "fit", table, "--out", model, *FIT, "--restart", "--seed", "9")
    full_disk(monkeypatch, "checkpoint")
    assert "model.checkpoint: could not be written" in refused(capsys, *restart)
    assert sorted(os.listdir(model.parent)) == before
    monkeypatch.undo()
    full_disk(monkeypatch, "card.md")
    assert "model: could not be written" in refused(capsys, *restart)
    assert (model / "model.safetensors").read_bytes() == weights
    assert not [name for name in os.listdir(model.parent) if name.startswith(".")]
    monkeypatch.undo()
    full_disk(monkeypatch, "forecast.csv")
    out = model.parent / "forecast.csv"
    line = refused(capsys, "forecast", "predict", model, table, "--out", out)
    assert "forecast.csv: could not be written" in line
    assert not out.exists()


def test_nothing_is_overwritten_unasked(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = str(model.parent / "table.csv")
    again = ("forecast", "fit", table, "--out", model, *FIT)
    assert "exists already" in refused(capsys, *again)
    assert main([str(argument) for argument in (*again, "--resume")]) == 0
    assert "nothing to resume" in capsys.readouterr().out
    assert main([str(argument) for argument in (*again, "--restart")]) == 0
    precious = model.parent / "precious"
    precious.mkdir()
    line = refused(capsys, "forecast", "fit", table, "--out", precious, *FIT, "--restart")
    assert "no model folder" in line
    assert precious.is_dir()

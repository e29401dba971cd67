"""A training that was killed goes on to the result it would have had."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from holdfast.cli import main
from holdfast.errors import ModelError
from holdfast.tasks import Forecaster
from holdfast.tasks.checkpoint import Progress
from holdfast.tasks.forecast import commands
from tests.conftest import ROOT
from tests.tasks.small import SMALL, csv, daily

EPOCHS = {**SMALL, "max_epochs": 6, "num_layers": 2, "dropout": 0.2, "patience": 6}


class PowerCutError(Exception):
    """Ends a training in the middle."""


def stop_after(epochs: int):
    def report(progress: Progress) -> None:
        if progress.epochs == epochs:
            raise PowerCutError

    return report


@pytest.mark.parametrize("epochs", [1, 4])
def test_resume_equals_an_uninterrupted_run(epochs: int, tmp_path: Path) -> None:
    whole = Forecaster(**EPOCHS).fit(daily())
    file = tmp_path / "checkpoint"
    with pytest.raises(PowerCutError):
        Forecaster(**EPOCHS).fit(daily(), checkpoint=file, report=stop_after(epochs))
    resumed = Forecaster(**EPOCHS).fit(daily(), checkpoint=file, resume=True)
    assert resumed.history_ == whole.history_
    assert resumed.best_epoch_ == whole.best_epoch_
    theirs = whole.net_.state_dict()
    for name, tensor in resumed.net_.state_dict().items():
        assert tensor.equal(theirs[name]), name


def test_resume_after_early_stopping_trains_no_further(tmp_path: Path) -> None:
    settings = {**EPOCHS, "max_epochs": 30, "patience": 1, "learning_rate": 0.5}
    file = tmp_path / "checkpoint"
    first = Forecaster(**settings).fit(daily(), checkpoint=file)
    again = Forecaster(**settings).fit(daily(), checkpoint=file, resume=True)
    assert again.history_ == first.history_


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    Forecaster(**SMALL).fit(daily(), checkpoint=file)
    with pytest.raises(ModelError, match=r"made with hidden_size = 6, now 5"):
        Forecaster(**{**SMALL, "hidden_size": 5}).fit(daily(), checkpoint=file, resume=True)
    with pytest.raises(ModelError, match=r"made with data = "):
        Forecaster(**SMALL).fit(daily(seed=1), checkpoint=file, resume=True)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    Forecaster(**SMALL).fit(daily(), checkpoint=file)
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ModelError, match="damaged"):
        Forecaster(**SMALL).fit(daily(), checkpoint=file, resume=True)


def command(table: str, out: Path, *more: str) -> list[str]:
    fit = ["forecast", "fit", table, "--out", str(out), "--horizon", "7", "--window", "14"]
    size = ["--hidden-size", "32", "--max-epochs", "8", "--batch-size", "2"]
    return [sys.executable, "-m", "holdfast.cli", *fit, *size, *more]


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline, f"no {path.name} after two minutes"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of a training that nobody killed; its table is beside it."""
    folder = tmp_path_factory.mktemp("whole")
    table = csv(daily(400), folder / "table.csv")
    subprocess.run(command(table, folder / "model"), cwd=ROOT, check=True, capture_output=True)
    return folder / "model"


def test_an_interrupted_command_goes_on_to_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def report(progress: Progress) -> None:
        if progress.epochs == 3:
            raise KeyboardInterrupt

    table, out = csv(daily(), tmp_path / "table.csv"), tmp_path / "interrupted"
    assert main(command(table, tmp_path / "whole")[3:]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(commands, "training_bar", lambda _: nullcontext(report))
        assert main(command(table, out)[3:]) == 130
    assert "--resume to go on" in capsys.readouterr().err
    assert not out.exists()
    assert main(command(table, out, "--resume")[3:]) == 0
    for name in ("model.safetensors", "config.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["interrupted", "table.csv", "whole"]


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_killed_command_loses_at_most_an_epoch(
    how: signal.Signals, whole: Path, tmp_path: Path
) -> None:
    table, broken = str(whole.parent / "table.csv"), tmp_path / "broken"
    process = subprocess.Popen(
        command(table, broken), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    wait_for(tmp_path / "broken.checkpoint", process)
    process.send_signal(how)
    _, err = process.communicate(timeout=120)
    assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    assert b"Traceback" not in err
    if how == signal.SIGINT:
        assert b"--resume" in err
    assert not broken.exists()
    subprocess.run(command(table, broken, "--resume"), cwd=ROOT, check=True, capture_output=True)
    assert (broken / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    ours, theirs = (json.loads((m / "config.json").read_text()) for m in (broken, whole))
    assert ours == theirs
    assert sorted(os.listdir(tmp_path)) == ["broken"]

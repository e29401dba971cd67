"""The tagger's benchmark: its plain rival is the same network, and experiments run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gate import GateError
from benchmarks.text import tagging
from benchmarks.text.registry import EXPERIMENTS, Amount
from holdfast.tasks import Tagger
from tests.tasks.tagged import columns

SIZE: dict[str, Any] = {"hidden_size": 8, "word_size": 8, "character_size": 8, "character_units": 8}


def race() -> tagging.Race:
    model = Tagger(**SIZE, batch_size=8, validation=6)
    return tagging.Race(model, model.read(columns(), target=True))


def test_the_plain_tagger_is_the_same_network_and_both_run() -> None:
    contest = race()
    contest.agree()
    for calls in (contest.training(), contest.decoding()):
        assert calls.keys() == {"ours", "plain"}
        for call in calls.values():
            call()


def test_a_plain_tagger_that_differs_is_not_measured() -> None:
    contest = race()
    with torch.no_grad():
        contest.net.bias[0] += 0.5
    contest.agree()  # it takes the weights as they are
    assert contest.net.layer is not None
    contest.net.layer.register_forward_hook(lambda _, __, found: (1.1 * found[0], found[1]))
    with pytest.raises(GateError, match="ours: loss is not the definition's"):
        contest.agree()


def test_what_is_not_there_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOLDFAST_DATA", raising=False)
    for name in ("tag-conll2000", "tag-ewt", "tag-speed"):
        (row,) = EXPERIMENTS[name].run(Amount(quick=True))
        assert row.note.startswith("not run: there is no ")


def test_kept_trainings_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tagging.KEEP, str(tmp_path / "kept"))
    file = tmp_path / "a.txt"
    rows = zip(*columns(12).values(), strict=True)
    file.write_text(
        "\n".join("".join(f"{w} {p} {c}\n" for w, p, c in zip(*row, strict=True)) for row in rows)
    )
    settings = {**SIZE, "characters": None, "max_epochs": 1, "seed": 0}
    first = tagging.trained("a row", settings, file)
    monkeypatch.setattr(Tagger, "fit", None)
    assert tagging.trained("a row", settings, file).history_ == first.history_
    assert [path.name[:9] for path in (tmp_path / "kept").iterdir()] == ["tag-a-row"]

"""The automatic choice: on rows nobody was trained on, within its time, with a reason."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from holdfast.errors import DataError
from holdfast.tasks import Forecaster
from holdfast.tasks.forecast import auto
from tests.tasks.small import SMALL, daily, edit, several

TINY = {**SMALL, "max_epochs": 1, "hidden_size": 4}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "ROUNDS", (1, 2))
    monkeypatch.setattr(auto, "NETS", {"direct": None, "places": None})


def ticking(step: float = 1.0) -> Callable[[], float]:
    """A clock that moves on with every look at it."""
    counter = itertools.count()
    return lambda: step * next(counter)


@pytest.mark.usefixtures("quick")
def test_the_best_of_what_was_tried_is_chosen() -> None:
    model = Forecaster(**TINY, model="auto")
    told = []
    choice = auto.choose(
        model, model.read(several()), budget=25, report=told.append, clock=ticking()
    )
    assert told == choice.trials
    assert {"direct", "places"} <= {trial.changes["model"] for trial in told}
    best = min(trial.error for trial in told if not trial.refused)
    chosen = [trial for trial in told if trial.changes == choice.changes]
    assert min(trial.error for trial in chosen) == best
    assert np.isfinite(choice.naive)
    for words in ("its error on the last 28 rows", "next is", "the value a season ago has"):
        assert words in choice.reason
    assert choice.table().count("\n") == len(told) + 2


@pytest.mark.usefixtures("quick")
def test_a_spent_budget_tries_one_candidate() -> None:
    model = Forecaster(**TINY, model="auto")
    choice = auto.choose(model, model.read(daily()), budget=1e-9, clock=ticking())
    assert len(choice.trials) == 1


@pytest.mark.usefixtures("quick")
def test_held_out_rows_train_nobody() -> None:
    """A spike in the scored rows moves errors, and no training."""
    losses = []
    for value in (20.0, 1e6):
        model = Forecaster(**TINY, model="auto")
        panel = model.read(edit(daily(), 155, "y", value))
        choice = auto.choose(model, panel, budget=1e-9, clock=ticking())
        losses.append(choice.trials[0].error)
        trained = Forecaster(**TINY).fit(panel.map(lambda series: series[: len(series) - 28]))
        losses.append(trained.history_)  # type: ignore[arg-type]
    assert losses[1] == losses[3]
    assert losses[0] < losses[2]


@pytest.mark.usefixtures("quick")
def test_an_automatic_model_says_what_it_is(tmp_path: Path) -> None:
    model = Forecaster(**TINY, model="auto", budget=1e-9).fit(daily())
    assert model.model == "auto"
    assert model.chosen_["changes"]["model"] == "direct"
    assert "direct" in model.chosen_["reason"]
    expected = model.predict(daily())
    model.save(tmp_path / "model")
    loaded = Forecaster.load(tmp_path / "model")
    assert loaded.model == "direct"
    assert loaded.chosen_ == model.chosen_
    assert loaded.predict(daily()).equals(expected)
    assert model.chosen_["reason"] in (tmp_path / "model" / "card.md").read_text()


@pytest.mark.usefixtures("quick")
def test_optuna_searches_in_what_is_left() -> None:
    pytest.importorskip("optuna")
    model = Forecaster(**TINY, model="auto")
    choice = auto.choose(model, model.read(daily()), budget=40, clock=ticking())
    searched = [trial for trial in choice.trials if "learning_rate" in trial.changes]
    assert searched
    assert f"{len(searched)} of them searched" in choice.reason


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(DataError, match="budget=0"):
        Forecaster(**TINY, model="auto", budget=0).fit(daily())
    with pytest.raises(DataError, match="no model could be tried"):
        Forecaster(**{**TINY, "cell": "elephant"}, model="auto", budget=1e-9).fit(
            daily().with_columns(unique_id=pl.lit("a"))
        )

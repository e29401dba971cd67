"""Few rows: what an earlier model knows, changed copies of windows, several networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from holdfast.data import read_panel
from holdfast.data.covariates import Schema
from holdfast.data.scaling import fit_scales
from holdfast.data.windows import Batch, Recipe, make_windows
from holdfast.errors import DataError, TransferWarning
from holdfast.tasks import Forecaster
from holdfast.tasks.forecast.augment import CHANGES, augmented
from tests.helpers import assert_same
from tests.tasks.small import SMALL, daily, several


@pytest.fixture(scope="module")
def earlier() -> Forecaster:
    return Forecaster(**{**SMALL, "max_epochs": 12, "patience": 12}).fit(several())


def batch() -> Batch:
    panel = read_panel(daily(80))
    recipe = Recipe(window=14, horizon=7, seasons=(7,), lags=(7, 14))
    scaling = fit_scales(panel, {"": 80})
    windows = make_windows(panel, scaling, recipe, Schema(), {"": 0})
    return windows.batch(np.array([[0, 40], [0, 55], [0, 60], [0, 70]]), span=3)


def test_training_goes_on_from_an_earlier_model(earlier: Forecaster, tmp_path: Path) -> None:
    short = daily(60, seed=1)
    settings = {**SMALL, "max_epochs": 1, "learning_rate": 1e-9, "averaging": 0.0}
    earlier.save(tmp_path / "model")
    once = Forecaster(**settings).fit(short, start=earlier)
    again = Forecaster(**settings).fit(short, start=tmp_path / "model")
    assert once.recipe_ == earlier.recipe_
    theirs = earlier.net_.state_dict()
    for name, tensor in once.net_.state_dict().items():
        assert_same(tensor, theirs[name], name)
    assert once.history_ == again.history_


def test_what_cannot_go_on_is_refused(earlier: Forecaster) -> None:
    with pytest.raises(DataError, match="hidden_size=6, this Forecaster has 5"):
        Forecaster(**{**SMALL, "hidden_size": 5}).fit(daily(), start=earlier)
    weekly = daily(900)[::7]
    with pytest.raises(DataError, match="1 day apart"):
        Forecaster(**SMALL).fit(weekly, start=earlier)


def test_what_begins_anew_is_named(earlier: Forecaster) -> None:
    table = daily().with_columns(temp=pl.lit(1.0) + pl.col("y"))
    with pytest.warns(TransferWarning, match=r"recurrent.weight_ih_l0.* begin anew"):
        Forecaster(**{**SMALL, "max_epochs": 1}, past=["temp"]).fit(table, start=earlier)


@pytest.mark.parametrize("name", CHANGES)
def test_changes_touch_what_they_say(name: str) -> None:
    before = batch()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        after = augmented(before, (name,))
    changed = {
        field
        for field, value in vars(before).items()
        if isinstance(value, torch.Tensor) and not value.equal(getattr(after, field))
    }
    allowed = {
        "jitter": {"y"},
        "resize": {"y", "target"},
        "mix": {"y", "target"},
        "shorten": {"y", "there", "observed"},
    }
    assert changed == allowed[name]
    if name == "resize":
        assert_same(after.y[:, -1], before.y[:, -1])
    if name == "shorten":
        gone = after.there == 0
        first = after.y[torch.arange(4), gone.sum(1)]
        assert_same(after.y[gone], first[:, None].expand_as(gone)[gone])


def test_members_are_averaged(tmp_path: Path) -> None:
    settings = {**SMALL, "max_epochs": 2}
    both = Forecaster(**settings, members=2, augment=("jitter",)).fit(daily())
    assert len(both.nets_) == 2
    parts = []
    for member in (0, 1):
        alone = Forecaster(**settings, augment=("jitter",)).fit(daily())
        alone.nets_ = both.nets_[member : member + 1]
        parts.append(alone.predict(daily())["forecast"].to_numpy())
    assert not np.array_equal(*parts)
    mean = both.predict(daily())["forecast"].to_numpy()
    assert_same(mean.astype(np.float32), np.mean(parts, axis=0).astype(np.float32))
    both.save(tmp_path / "model")
    loaded = Forecaster.load(tmp_path / "model")
    assert np.array_equal(loaded.predict(daily())["forecast"].to_numpy(), mean)


def test_unknown_changes_are_refused() -> None:
    with pytest.raises(DataError, match="'blur' is unknown; there are 'jitter'"):
        Forecaster(**SMALL, augment=("blur",)).fit(daily())

"""The music experiments: losses, batches, training, and the rows that come out."""

from __future__ import annotations

import dataclasses
import doctest
import math
import os
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import Tensor
from torch.nn import functional

from benchmarks.papers import folder, music, music_net, odyssey
from benchmarks.papers.music_net import MusicNet, Recipe, batches, evaluate, losses, shifted, train
from benchmarks.papers.registry import Settings
from holdfast.data.music import Rolls, read_rolls, stack
from tests.helpers import assert_same

TINY = Recipe(hidden=6, lr=1e-2, batch=2, epochs=3)


def pieces(generator: torch.Generator, *lengths: int) -> tuple[Tensor, ...]:
    """Random notes in the middle of the keyboard."""
    rolls = []
    for steps in lengths:
        roll = torch.zeros(steps, 88, dtype=torch.uint8)
        roll[:, 30:50] = torch.rand(steps, 20, generator=generator).round().to(torch.uint8)
        rolls.append(roll)
    return tuple(rolls)


@pytest.fixture
def rolls(generator: torch.Generator) -> Rolls:
    """A few short pieces."""
    return Rolls(pieces(generator, 5, 3, 7, 4), pieces(generator, 6), pieces(generator, 2, 8))


@pytest.mark.parametrize("module", [music_net, odyssey])
def test_examples_run(module: object) -> None:
    assert not doctest.testmod(module).failed  # pyright: ignore[reportArgumentType] -- a module


def test_a_score_is_the_loss_of_each_piece_alone(rolls: Rolls, generator: torch.Generator) -> None:
    net = MusicNet(TINY, generator)
    total = first = 0.0
    for roll in rolls.train:
        y = roll.float()
        x = torch.cat([torch.zeros(1, 88), y[:-1]])
        with torch.no_grad():
            logits = net.head(net.layer(x)[0])
        found = functional.binary_cross_entropy_with_logits(logits, y, reduction="none").sum(1)
        total += float(found.sum())
        first += float(found[0])
    assert_same(
        torch.tensor(evaluate(net, rolls.train)), torch.tensor([total / 19, (total - first) / 15])
    )
    assert net.training


def test_nothing_beyond_a_piece_counts(rolls: Rolls, generator: torch.Generator) -> None:
    batch = stack(rolls.train)
    logits = torch.randn(7, 4, 88, generator=generator)
    found = losses(logits, batch)
    assert found.bool().tolist() == batch.valid.tolist()


def test_every_piece_is_in_one_batch(rolls: Rolls, generator: torch.Generator) -> None:
    lengths = [sorted(one.lengths.tolist()) for one in batches(rolls.train, TINY, generator)]
    assert len(lengths) == 2
    assert sorted(chain(*lengths)) == [3, 4, 5, 7]
    cut = dataclasses.replace(TINY, window=3)
    lengths = [one.lengths.tolist() for one in batches(rolls.train, cut, generator)]
    assert sorted(chain(*lengths)) == [1, 1, 2, 3, 3, 3, 3, 3]
    moved = dataclasses.replace(TINY, shift=2)
    notes = sum(int(one.y.sum()) for one in batches(rolls.train, moved, generator))
    assert notes == sum(int(roll.sum()) for roll in rolls.train)


def test_a_piece_moves_as_far_as_there_is_room(generator: torch.Generator) -> None:
    roll = torch.zeros(3, 88)
    roll[:, 1] = roll[:, 80] = 1
    lowest = {int(shifted(roll, 4, generator).any(0).nonzero()[0]) for _ in range(100)}
    assert lowest == {0, 1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    "recipe",
    [
        TINY,
        dataclasses.replace(TINY, dropout=0.5, average=0.5, cell="gru"),
        dataclasses.replace(TINY, options={"recurrent_dropout": 0.5, "input_dropout": 0.5}),
    ],
)
def test_a_run_repeats_and_leaves_the_global_seed_alone(rolls: Rolls, recipe: Recipe) -> None:
    before = torch.random.get_rng_state()
    score = train(rolls, recipe, seed=1)
    assert train(rolls, recipe, seed=1) == score
    assert train(rolls, recipe, seed=2) != score
    assert torch.equal(torch.random.get_rng_state(), before)
    assert score.epochs == 3
    assert all(math.isfinite(value) for value in (score.valid, score.test, score.without_first))


def test_the_best_epoch_on_the_validation_is_scored(
    rolls: Rolls, monkeypatch: pytest.MonkeyPatch
) -> None:
    valid, scored = iter([5.0, 3.0, 4.0, 6.0, 9.0, 1.0]), []

    def watch(net: MusicNet, part: tuple[Tensor, ...]) -> tuple[float, float]:
        scored.append((part, net.head.bias.detach().clone()))
        return (7.0, 8.0) if part is rolls.test else (next(valid), 0.0)

    monkeypatch.setattr(music_net, "evaluate", watch)
    score = train(rolls, dataclasses.replace(TINY, epochs=6, patience=2), seed=0)
    assert (score.valid, score.test, score.without_first) == (3.0, 7.0, 8.0)
    assert (score.epoch, score.epochs) == (2, 4)
    assert [part is rolls.test for part, _ in scored] == [False] * 4 + [True]
    assert_same(scored[-1][1], scored[1][1])


def write(path: Path, rolls: Rolls) -> None:
    parts = {}
    for name, part in vars(rolls).items():
        array = np.empty((1, len(part)), dtype=object)
        for n, roll in enumerate(part):
            array[0, n] = roll.numpy()
        parts[f"{name}data"] = array
    path.parent.mkdir(exist_ok=True)
    savemat(path, parts)


@pytest.fixture
def _chorales(tmp_path: Path, rolls: Rolls, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of data with a toy in the place of the chorales and nothing else."""
    write(tmp_path / music.FILES["JSB chorales"], rolls)
    monkeypatch.setenv(folder.VARIABLE, str(tmp_path))


def fake(rolls: Rolls, recipe: Recipe, seed: int) -> music_net.Score:
    """A score without training; wide networks are worse."""
    return music_net.Score(8.0 + recipe.hidden, 8.3 + seed, 8.4, 1, 1, 1234)


@pytest.mark.usefixtures("_chorales")
def test_music_has_a_row_for_every_model_and_says_what_was_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(music, "train", fake)
    rows = list(music.chorales(Settings(seeds=1)))
    models = [row.model.partition(",")[0] for row in rows]
    assert models == ["rnn", "gru", "lstm", "lstm", "lstm"]
    assert "pieces moved" in rows[4].model
    assert [row.values for row in rows] == [(8.3,)] * 5
    assert all(row.reached for row in rows)
    rows = list(music.chorales(Settings(seeds=2)))
    assert [row.reached for row in rows] == [True, False, False, False, False]
    (missing,) = music.nottingham(Settings())
    assert missing.note.startswith("not run: there is no polyphonic_music/Nottingham.mat")
    os.link(
        folder.find(music.FILES["JSB chorales"]) or "",
        Path(os.environ[folder.VARIABLE]) / music.FILES["Nottingham"],
    )
    rows = list(music.nottingham(Settings()))
    assert [row.model.partition(",")[0] for row in rows] == ["rnn", "gru", "lstm", "lstm"]
    assert [row.reached for row in rows] == [False] * 4


@pytest.mark.usefixtures("_chorales")
def test_the_odyssey_has_a_row_for_every_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(odyssey, "train", fake)
    there = {
        "V": ("peephole", "all"),
        "NFG": ("lstm_1997", "no forget gate"),
        "NP": ("lstm", "no peepholes"),
        "XX": ("none", "nothing"),
    }
    monkeypatch.setattr(odyssey, "VARIANTS", there)
    rows = list(odyssey.odyssey(Settings(seeds=3)))
    assert [row.model.partition(":")[0] for row in rows] == list(there)
    assert [len(row.values) for row in rows] == [3, 3, 3, 0]
    assert [row.reached for row in rows] == [None, False, True, None]
    assert rows[1].note.endswith("1,234 parameters; +0.000 against V")
    assert rows[3].note == "not run: there is no cell none"


def test_worse_means_two_standard_errors() -> None:
    def scores(*tests: float) -> list[music_net.Score]:
        return [music_net.Score(0.0, test, 0.0, 1, 1, 1) for test in tests]

    plain = scores(8.4, 8.5, 8.6)
    assert odyssey.worse(scores(8.8, 8.9, 9.0), plain) is True
    assert odyssey.worse(scores(8.5, 8.6, 8.7), plain) is False
    assert odyssey.worse(scores(8.0, 8.1, 8.2), plain) is False
    assert odyssey.worse(scores(9.0), plain) is None


def test_the_search_takes_the_best_validation(
    rolls: Rolls, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []

    def watch(rolls: Rolls, recipe: Recipe, seed: int) -> music_net.Score:
        runs.append((recipe.hidden, recipe.cell, seed))
        return music_net.Score(abs(recipe.hidden - 70), 1.0, 1.0, 1, 1, 1)

    monkeypatch.setattr(odyssey, "train", watch)
    recipe, scores = odyssey.search(rolls, "gru", Settings())
    widths = [trial.hidden for trial in odyssey.trials(odyssey.TRIALS)]
    assert recipe.hidden == min(widths, key=lambda wide: abs(wide - 70))
    assert len(scores) == odyssey.SEEDS
    assert runs[: len(widths)] == [(wide, "gru", 0) for wide in widths]
    assert runs[len(widths) :] == [(recipe.hidden, "gru", seed) for seed in (1, 2, 3)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "epochs", "bound"), [("JSB chorales", 12, 10.49), ("Nottingham", 3, 5.2)]
)
def test_a_few_epochs_beat_what_each_key_did_before(
    data_dir: Path, name: str, epochs: int, bound: float
) -> None:
    rolls = read_rolls(data_dir / music.FILES[name])
    score = train(rolls, dataclasses.replace(music.PLAIN[name], hidden=64, epochs=epochs), seed=0)
    assert score.test < bound

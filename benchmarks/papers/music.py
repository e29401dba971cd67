"""Polyphonic music: the probability of the next notes, on chorales and on folk tunes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from benchmarks.papers.folder import find, missing
from benchmarks.papers.music_net import Recipe, Score, train
from benchmarks.papers.registry import Row, Settings, experiment
from holdfast.data.music import Rolls, read_rolls

FILES = {
    "JSB chorales": "polyphonic_music/JSB_Chorales.mat",
    "Nottingham": "polyphonic_music/Nottingham.mat",
}
"""The sets of pieces, and where they are in the folder of data."""

MEASURE = "NLL, nats a step"

PUBLISHED = {
    ("JSB chorales", "rnn"): 9.10,
    ("JSB chorales", "gru"): 8.54,
    ("JSB chorales", "lstm"): 8.67,
    ("Nottingham", "rnn"): 3.13,
    ("Nottingham", "gru"): 3.23,
    ("Nottingham", "lstm"): 3.20,
}
"""One layer of tanh units, GRU and LSTM: Chung et al. 2014, table 2."""

PLAIN = {
    "JSB chorales": Recipe(lr=5e-3, batch=8, epochs=60, dropout=0.5, average=0.98),
    "Nottingham": Recipe(lr=1e-2, batch=8, epochs=12, dropout=0.2, average=0.98, window=100),
}

RATES = {"rnn": 1e-3}
"""Where the rate of the others makes training unstable."""

SEEDS = {"JSB chorales": 2, "Nottingham": 1}

BEST_PUBLISHED = 8.38
"""The best of 200 LSTMs on the chorales: Greff et al. 2017."""

BEST = {
    "JSB chorales": Recipe(
        hidden=300,
        lr=5e-3,
        batch=8,
        epochs=60,
        dropout=0.5,
        average=0.98,
        options={"layer_norm": True, "input_dropout": 0.1, "recurrent_dropout": 0.3},
    ),
    "Nottingham": Recipe(
        lr=1e-2,
        batch=8,
        epochs=20,
        dropout=0.2,
        average=0.98,
        window=100,
        options={"layer_norm": True, "recurrent_dropout": 0.1},
    ),
}
"""What was best on the validation, among some twenty recipes on the chorales and six on the other.
"""


def load(name: str) -> Rolls | None:
    """A set of pieces by its name, None where its file is not there."""
    path = find(FILES[name])
    return None if path is None else read_rolls(path)


def short(rolls: Rolls, recipe: Recipe, quick: bool) -> tuple[Rolls, Recipe]:
    """The same, or for a quick look a few pieces and a small network."""
    if not quick:
        return rolls, recipe
    few = Rolls(rolls.train[:4], rolls.valid[:2], rolls.test[:2])
    return few, dataclasses.replace(recipe, hidden=8, epochs=2)


def row(
    task: str, model: str, scores: Sequence[Score], published: str, bound: float | None, note: str
) -> Row:
    """A row from the scores of all seeds; reached where their mean is at most the bound."""
    tests = tuple(round(score.test, 4) for score in scores)
    mean = sum(tests) / len(tests)
    reached = None if bound is None else mean <= bound
    return Row(
        task,
        model,
        len(tests),
        measure=MEASURE,
        values=tests,
        published=published,
        reached=reached,
        note=note,
    )


@experiment("chorales", "JSB chorales: Chung et al. 2014; the best LSTM of Greff et al. 2017")
def chorales(settings: Settings) -> Iterator[Row]:
    """One layer of each cell, then what an LSTM with options reaches, in one key and in several."""
    name = "JSB chorales"
    rolls = load(name)
    if rolls is None:
        yield Row(name, "all", 0, note=missing(FILES[name]))
        return
    yield from _plain(name, rolls, settings)
    recipe = BEST[name]
    model = f"lstm, H={recipe.hidden}, layer norm, dropouts, averaged weights"
    text = f"{BEST_PUBLISHED} [K?]"
    yield _run(name, rolls, recipe, settings, model, text, BEST_PUBLISHED)
    recipe = dataclasses.replace(recipe, shift=2)
    model = f"{model}; training pieces moved up to ±2 semitones"
    once = Settings(settings.seeds or 1, settings.quick)
    yield _run(name, rolls, recipe, once, model, text, BEST_PUBLISHED)


@experiment("nottingham", "Nottingham folk tunes: Chung et al. 2014")
def nottingham(settings: Settings) -> Iterator[Row]:
    """One layer of each cell, then what an LSTM with options reaches."""
    name = "Nottingham"
    rolls = load(name)
    if rolls is None:
        yield Row(name, "all", 0, note=missing(FILES[name]))
        return
    yield from _plain(name, rolls, settings)
    recipe, bound = BEST[name], PUBLISHED[name, "rnn"]
    model = f"lstm, H={recipe.hidden}, layer norm, dropouts, averaged weights"
    yield _run(name, rolls, recipe, settings, model, f"{bound:.2f}, tanh units [K?]", bound)


def _plain(name: str, rolls: Rolls, settings: Settings) -> Iterator[Row]:
    for cell in ("rnn", "gru", "lstm"):
        plain = PLAIN[name]
        recipe = dataclasses.replace(plain, cell=cell, lr=RATES.get(cell, plain.lr))
        published = PUBLISHED[name, cell]
        text = f"{published:.2f} [K?]"
        yield _run(name, rolls, recipe, settings, f"{cell}, H={recipe.hidden}", text, published)


def _run(
    name: str,
    rolls: Rolls,
    recipe: Recipe,
    settings: Settings,
    model: str,
    published: str,
    bound: float | None,
) -> Row:
    pieces, recipe = short(rolls, recipe, settings.quick)
    scores = [train(pieces, recipe, seed) for seed in settings.range(SEEDS[name])]
    return row(name, model, scores, published, bound, _about(scores))


def _about(scores: Sequence[Score]) -> str:
    """What the table has no column for: means over the seeds."""
    valid, without = (
        sum(getattr(score, name) for score in scores) / len(scores)
        for name in ("valid", "without_first")
    )
    return (
        f"{scores[0].parameters:,} parameters; validation {valid:.2f}; "
        f"{without:.2f} without the first step of each piece"
    )

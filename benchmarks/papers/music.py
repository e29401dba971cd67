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

PLAIN = Recipe(lr=5e-3, batch=8, epochs=60, dropout=0.5)

RATES = {"rnn": 1e-3}
"""Where the rate of the others makes training unstable."""

SEEDS = {"JSB chorales": 3, "Nottingham": 1}

BEST_PUBLISHED = 8.38
"""The best of 200 LSTMs on the chorales: Greff et al. 2017."""

BEST = Recipe(
    hidden=300,
    lr=5e-3,
    batch=8,
    epochs=60,
    dropout=0.5,
    average=0.98,
    options={"layer_norm": True, "input_dropout": 0.1, "recurrent_dropout": 0.3},
)
"""What was best on the validation among some twenty recipes."""


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


@experiment("music", "Polyphonic music: Chung et al. 2014; the best LSTM of Greff et al. 2017")
def music(settings: Settings) -> Iterator[Row]:
    """One layer of each cell on both sets, then what a layer with options reaches on the first."""
    for name in FILES:
        rolls = load(name)
        if rolls is None:
            yield Row(name, "all", 0, note=missing(FILES[name]))
            continue
        for cell in ("rnn", "gru", "lstm"):
            recipe = dataclasses.replace(PLAIN, cell=cell, lr=RATES.get(cell, PLAIN.lr))
            published = PUBLISHED[name, cell]
            pieces, recipe = short(rolls, recipe, settings.quick)
            scores = [train(pieces, recipe, seed) for seed in settings.range(SEEDS[name])]
            text = f"{published:.2f} [K?]"
            yield row(name, f"{cell}, H={recipe.hidden}", scores, text, published, _about(scores))
    rolls = load("JSB chorales")
    if rolls is not None:
        yield from _best(rolls, settings)


def _best(rolls: Rolls, settings: Settings) -> Iterator[Row]:
    """The best recipe as it is, and with training pieces moved to other keys."""
    for shift, usual in ((0, 3), (2, 1)):
        pieces, recipe = short(rolls, dataclasses.replace(BEST, shift=shift), settings.quick)
        scores = [train(pieces, recipe, seed) for seed in settings.range(usual)]
        moved = f", pieces moved up to ±{shift} semitones" if shift else ""
        model = f"lstm, H={recipe.hidden}, layer norm, dropouts, averaged weights{moved}"
        text = f"{BEST_PUBLISHED} [K?]"
        yield row("JSB chorales", model, scores, text, BEST_PUBLISHED, _about(scores))


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

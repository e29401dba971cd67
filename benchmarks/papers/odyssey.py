"""The LSTM with peepholes, and eight times without one of its parts (Greff et al. 2017)."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator

import torch

from benchmarks.papers.folder import missing
from benchmarks.papers.music import FILES, load, row, short
from benchmarks.papers.music_net import Recipe, Score, train
from benchmarks.papers.registry import Row, Settings, experiment
from holdfast.cells import CELLS
from holdfast.data.music import Rolls

TASK = "JSB chorales"

VARIANTS = {
    "V": ("peephole", "the LSTM that the others are compared with"),
    "NIG": ("odyssey_nig", "no input gate"),
    "NFG": ("odyssey_nfg", "no forget gate"),
    "NOG": ("odyssey_nog", "no output gate"),
    "NIAF": ("odyssey_niaf", "no input activation function"),
    "NOAF": ("odyssey_noaf", "no output activation function"),
    "CIFG": ("odyssey_cifg", "coupled input and forget gate"),
    "NP": ("lstm", "no peepholes"),
    "FGR": ("odyssey_fgr", "full gate recurrence"),
}
"""The paper's names, the cells, and what each lacks or has more."""

WORSE = ("NFG", "NOAF")
"""Significantly worse than V on every set, as the paper says; the others are not on this one."""

BUDGET = Recipe(batch=8, epochs=25, patience=5)
"""What every variant gets; learning rate and width come from the search."""

TRIALS = 2
SEEDS = 4


def trials(count: int) -> list[Recipe]:
    """The same random recipes for every variant: widths and rates uniform in their logarithms.

    >>> [recipe.hidden for recipe in trials(2)] == [recipe.hidden for recipe in trials(3)][:2]
    True
    """
    generator = torch.Generator().manual_seed(6)
    found = []
    for _ in range(count):
        wide, fast = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        hidden = round(math.exp(math.log(50) + wide * math.log(150 / 50)))
        rate = math.exp(math.log(3e-3) + fast * math.log(1e-2 / 3e-3))
        found.append(dataclasses.replace(BUDGET, hidden=hidden, lr=float(f"{rate:.2g}")))
    return found


@experiment("odyssey", "Eight variants of the LSTM with the same budget: Greff et al. 2017")
def odyssey(settings: Settings) -> Iterator[Row]:
    """V and its variants, each with the best of the same recipes on the validation."""
    rolls = load(TASK)
    if rolls is None:
        yield Row(TASK, "all", 0, note=missing(FILES[TASK]))
        return
    plain: list[Score] = []
    for name, (cell, about) in VARIANTS.items():
        model = f"{name}: {about}"
        if cell not in CELLS:
            yield Row(TASK, model, 0, note=f"not run: there is no cell {cell}")
            continue
        recipe, scores = search(rolls, cell, settings)
        plain = plain or scores
        yield _row(name, f"{model} (`{cell}`)", recipe, scores, plain)


def search(rolls: Rolls, cell: str, settings: Settings) -> tuple[Recipe, list[Score]]:
    """The recipe with the best validation, and its scores with every seed."""
    seeds = settings.range(SEEDS)
    tried = []
    for trial in trials(1 if settings.quick else TRIALS):
        pieces, recipe = short(rolls, dataclasses.replace(trial, cell=cell), settings.quick)
        tried.append((train(pieces, recipe, seeds[0]), recipe, pieces))
    first, recipe, pieces = min(tried, key=lambda one: one[0].valid)
    return recipe, [first, *(train(pieces, recipe, seed) for seed in seeds[1:])]


def worse(scores: list[Score], plain: list[Score]) -> bool | None:
    """Whether the test is worse than that of V by more than two standard errors.

    None where one seed cannot tell.
    """
    if min(len(scores), len(plain)) < 2:
        return None
    ours, theirs = ([score.test for score in group] for group in (scores, plain))
    error = math.sqrt(sum(statistics.variance(group) / len(group) for group in (ours, theirs)))
    return statistics.fmean(ours) - statistics.fmean(theirs) > 2 * error


def _row(name: str, model: str, recipe: Recipe, scores: list[Score], plain: list[Score]) -> Row:
    about = f"H={recipe.hidden}, rate {recipe.lr:g}, {scores[0].parameters:,} parameters"
    if name == "V":
        return row(TASK, model, scores, "8.38 at best, of 200 trials [K?]", None, about)
    published = "worse than V [K?]" if name in WORSE else "not worse than V [K?]"
    tests = [[score.test for score in group] for group in (scores, plain)]
    apart = statistics.fmean(tests[0]) - statistics.fmean(tests[1])
    found = row(TASK, model, scores, published, None, f"{about}; {apart:+.3f} against V")
    hurts = worse(scores, plain)
    reached = None if hurts is None else hurts == (name in WORSE)
    return dataclasses.replace(found, reached=reached)

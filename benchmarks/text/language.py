"""Language models on War and Peace, and the speed of training beside PyTorch's example."""

from __future__ import annotations

import lzma
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.papers.folder import find, missing
from benchmarks.text.registry import Amount, Row, experiment
from benchmarks.text.word_language_model import NARROW, OURS, THEIRS, Size, loops
from benchmarks.timing import alternate
from holdfast.tasks.language.estimator import LanguageModel
from holdfast.tasks.language.scoring import Dynamic
from holdfast.tasks.progress import Lines

FILE = "war_and_peace/war_and_peace.txt.xz"
MODELS = "HOLDFAST_MODELS"
"""Names the folder that trained models, and checkpoints, are kept in; none are without it."""

# The test is read after as much of the text before it, so that it does not begin from nothing.
BEFORE = 5_000


@dataclass(frozen=True)
class Contender:
    """A model on trial: a preset and what is changed of it."""

    name: str
    preset: str
    changes: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    dynamic: Dynamic | None = None
    """How the model goes on learning while it is scored once more."""

    def run(self, parts: tuple[str, str, str], seeds: range, *, quick: bool) -> Row:
        """Train with every seed, and score on the test part."""
        figures: dict[str, list[float]] = {}
        _, valid, test = parts
        for seed in seeds:
            model, minutes = self.trained(parts, seed, quick=quick)
            found = model.evaluate(test, after=valid[-BEFORE:])
            adapted = None
            if self.dynamic is not None:
                how = {"after": valid[-BEFORE:], "dynamic": self.dynamic}
                adapted = model.evaluate(test, **how).nats
            for column, value in (
                (f"test nats per {model.level}", found.nats),
                ("with dynamic evaluation", adapted),
                ("test perplexity", found.perplexity),
                ("watched nats", min(row["valid_loss"] for row in model.history_)),
                ("parameters", float(sum(p.numel() for p in model.net_.parameters()))),
                ("epochs", float(len(model.history_))),
                ("minutes", minutes),
            ):
                if value is not None:
                    figures.setdefault(column, []).append(value)
        return Row(self.name, {key: tuple(v) for key, v in figures.items()}, self.note)

    def trained(
        self, parts: tuple[str, str, str], seed: int, *, quick: bool
    ) -> tuple[LanguageModel, float | None]:
        """A trained model, and its minutes; None where it went on from what was there."""
        kept = os.environ.get(MODELS)
        name = f"war_and_peace-{self.name.replace(' ', '-')}-{seed}"
        place = Path(kept, name) if kept and not quick else None
        if place is not None and place.is_dir():
            found = LanguageModel.load(place)
            return found, found.data_.get("minutes")
        checkpoint = None if place is None else place.with_name(f"{place.name}.checkpoint")
        begun = checkpoint is not None and checkpoint.exists()
        few = {"max_epochs": 1, "batch_size": 8} if quick else {}
        model = LanguageModel.preset(self.preset, **{**self.changes, **few, "seed": seed})
        train, valid, _ = parts
        began = time.monotonic()
        watcher = Lines(model.max_epochs)
        model.fit(train, valid=valid, checkpoint=checkpoint, resume=True, report=watcher)
        minutes = None if begun else (time.monotonic() - began) / 60
        if place is not None and checkpoint is not None:
            model.data_["minutes"] = minutes
            model.save(place)
            checkpoint.unlink()
        return model, minutes


_NARROW = {"precision": "bfloat16"}
# Dynamic evaluation (Krause et al. 2018) with its defaults; beside the score without.
CHARACTERS = (
    Contender("char-medium", "char-medium", _NARROW, "1 x 512 units", Dynamic()),
    Contender("char-large", "char-large", _NARROW, "2 x 512 units", Dynamic()),
)

_WORDS: dict[str, Any] = {"ends": "paragraphs", "max_epochs": 12, **_NARROW}
_RECIPE: dict[str, Any] = {
    **_WORDS,
    "dropout_embedding": 0.1,
    "ar": 2.0,
    "tar": 1.0,
    "random_steps": True,
    "averaging": 0.998,
}
# 3.1 million parameters each. Plain: as in Zaremba et al., two tables of vectors, dropout drawn
# anew at every step. The others share one table and have the recipe of Merity et al., with Adam.
WORDS = (
    Contender(
        "plain",
        "word-small",
        {
            **_WORDS,
            "hidden_size": 146,
            "tied": False,
            "variational": False,
            "weight_dropout": 0.0,
        },
        "LSTM of 146 units, own vectors for the output, dropout of numbers",
    ),
    Contender("awd recipe", "word-small", _RECIPE, "LSTM of 256 units, tied, weight-drop, AR, TAR"),
    Contender(
        "mogrifier",
        "word-small",
        {**_RECIPE, "cell": "mogrifier", "hidden_size": 238},
        "the same recipe, 238 units, five rounds",
    ),
    Contender(
        "persistence memory",
        "word-small",
        {**_RECIPE, "cell": "persistent", "hidden_size": 250, "options": {"window": 35}},
        "the same recipe, 250 units beside the mean of the last 35 outputs",
    ),
)


def war_and_peace(*, quick: bool = False) -> tuple[str, str, str] | None:
    """The text in parts of 80, 10 and 10 percent by position, or None where it is not there."""
    file = find(FILE)
    if file is None:
        return None
    with lzma.open(file) as packed:
        text = packed.read().decode()
    if quick:
        text = text[400_000:440_000]
    first, second = round(0.8 * len(text)), round(0.9 * len(text))
    return text[:first], text[first:second], text[second:]


def _contest(contenders: tuple[Contender, ...], amount: Amount, usual: int) -> Iterator[Row]:
    parts = war_and_peace(quick=amount.quick)
    for contender in contenders:
        if parts is None:
            yield Row(contender.name, note=missing(FILE))
            continue
        yield contender.run(parts, amount.range(usual), quick=amount.quick)


@experiment(
    "war-and-peace-characters",
    "War and Peace, characters, one layer",
    published="Karpathy, Johnson & Fei-Fei 2015, table 1: 1 x 512 1.161 nats (a longer text)",
)
def characters(amount: Amount) -> Iterator[Row]:
    """Nats a character of the last tenth, which nothing is trained on or chosen by."""
    yield from _contest(CHARACTERS[:1], amount, usual=1)


@experiment(
    "war-and-peace-deep",
    "War and Peace, characters, two layers",
    published="Karpathy, Johnson & Fei-Fei 2015, table 1: 2 x 512 1.092 nats (a longer text)",
)
def deep(amount: Amount) -> Iterator[Row]:
    """The same from two layers, which take about three times as long."""
    yield from _contest(CHARACTERS[1:], amount, usual=1)


@experiment("war-and-peace-words", "War and Peace, 10,000 words, 3.1 million parameters each")
def words(amount: Amount) -> Iterator[Row]:
    """Perplexity of the last tenth; words beyond the 10,000 most frequent are one."""
    yield from _contest(WORDS, amount, usual=1)


SIZES = {
    "10,000 words, 2 x 200": Size(words=10_000),
    "33,278 words, 2 x 200": Size(),
    "10,000 words, 2 x 650": Size(words=10_000, features=650, units=650),
    "101 characters, 1 x 512": Size(101, 64, 512, 1, 100, 32, 0.1),
    "101 characters, 2 x 512": Size(101, 64, 512, 2, 100, 32, 0.1),
}
ROUNDS, TURN = 5, 2.0
GATES = (1e-3, 5e-2)
"""How far losses may be apart in float32, and of bfloat16 from those."""


@experiment("language-speed", "A training step of a language model", kind="speed")
def speed(amount: Amount) -> Iterator[Row]:
    """The loop of PyTorch's example with its `torch.nn.LSTM`, and with our network, in turns.

    Each in float32, and under autocast to bfloat16. All begin with the same weights; without
    dropout, their losses have to agree for three steps.
    """
    for name, size in SIZES.items():
        if amount.quick:
            size = replace(size, words=50, units=8, features=8, steps=13)
        _compare(name, size)
        turn = 0.01 if amount.quick else TURN
        times = alternate(loops(size), 3 if amount.quick else ROUNDS, turn)
        figures: dict[str, tuple[float, ...]] = {}
        for end in ("", f", {NARROW}"):
            ours, theirs = times[OURS + end], times[THEIRS + end]
            both = sorted(ours.rounds.keys() & theirs.rounds.keys())
            figures |= {
                f"{OURS}{end}, ms": tuple(1e3 * ours.rounds[n] for n in both),
                f"{THEIRS}{end}, ms": tuple(1e3 * theirs.rounds[n] for n in both),
                f"times{end}": tuple(theirs.rounds[n] / ours.rounds[n] for n in both),
            }
        yield Row(
            name,
            figures,
            f"{size.rows} rows of {size.steps} steps; the same weights, losses equal to "
            f"{GATES[0]:g}, and of bfloat16 (both under autocast) to {GATES[1]:g}",
        )


def _compare(name: str, size: Size) -> None:
    """Three steps without dropout, after which all have to have had the same losses."""
    losses = [[loop() for _ in range(3)] for loop in loops(replace(size, dropout=0.0)).values()]
    for found, gate in zip(losses[1:], (GATES[0], GATES[1], GATES[1]), strict=True):
        far = max(abs(one - other) for one, other in zip(found, losses[0], strict=True))
        if not far < gate:
            raise ValueError(f"{name}: the losses differ by {far:g}, so they are not compared")

"""English to German on Multi30k: ours, several of ours together, and rules without learning."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.papers.folder import find, missing
from benchmarks.text.registry import Amount, Row, experiment
from holdfast.data.optional import require
from holdfast.tasks import Translator
from holdfast.tasks.translate.pairs import Pairs, read_pairs
from holdfast.tasks.translate.scores import Score, bleu, chrf

DATA, TEST, SEEDS = "multi30k", "test_2016_flickr", 3

MODELS = "HOLDFAST_MODELS"
"""A variable that names a folder where trained models stay: what is there is not trained again, and
what was interrupted goes on."""

QUICK: dict[str, Any] = {"vocabulary": 300, "embedding_size": 16, "hidden_size": 32}
QUICK = {**QUICK, "max_epochs": 1}
QUICK_PAIRS = 200


def model(seed: int, quick: bool = False) -> Translator:
    """The translator that is measured: the defaults of its class."""
    return Translator(seed=seed, **(QUICK if quick else {}))


def read(part: str) -> Pairs:
    """The pairs of a part, English and German, as they are."""
    folder = find(DATA)
    assert folder is not None
    return read_pairs(folder / f"{part}.en.gz", folder / f"{part}.de.gz")


def first(pairs: Pairs, count: int) -> Pairs:
    """So many pairs at most."""
    return pairs.take(range(min(count, len(pairs))))


def trained(seed: int, quick: bool = False) -> tuple[Translator, float | None]:
    """A trained translator, and its minutes; None where it went on from what was there."""
    kept = os.environ.get(MODELS)
    place = Path(kept) / f"{DATA}-{seed}" if kept and not quick else None
    if place is not None and place.is_dir():
        found = Translator.load(place)
        return found, found.data_.get("minutes")
    pairs, watched = read("train"), read("val")
    if quick:
        pairs, watched = first(pairs, QUICK_PAIRS), first(watched, QUICK_PAIRS)
    checkpoint = None if place is None else place.with_name(f"{place.name}.checkpoint")
    begun = checkpoint is not None and checkpoint.exists()
    began = time.monotonic()
    found = model(seed, quick)
    found.fit(pairs, valid=watched, checkpoint=checkpoint, resume=True)
    minutes = None if begun else (time.monotonic() - began) / 60
    if place is not None and checkpoint is not None:
        found.data_["minutes"] = minutes
        found.save(place)
        checkpoint.unlink()
    return found, minutes


@experiment(
    "translate-multi30k",
    "Multi30k, English to German: BLEU on test 2016",
    published="recurrent networks with attention, text alone: BLEU 33 to 38 (WMT 2016 to 2018)",
)
def multi30k(amount: Amount) -> Iterator[Row]:
    """Rules first, then each seed alone, then all seeds together."""
    if find(DATA) is None:
        yield Row("Holdfast", note=missing(DATA))
        return
    test = read(TEST)
    if amount.quick:
        test = first(test, 50)
    yield row("the source as it is", [test.sources], test)
    yield row(
        "the target of the nearest source",
        [nearest(read("train"), test.sources)],
        test,
        note="of the training pairs, by TF-IDF of words (scikit-learn)",
    )
    models, minutes = [], []
    for seed in amount.range(SEEDS):
        one, took = trained(seed, amount.quick)
        models.append(one)
        minutes += [] if took is None else [took]
    results = [one.evaluate(test) for one in models]
    said = [list(result.said) for result in results]
    more = {"perplexity": tuple(result.perplexity for result in results)}
    if minutes:
        more["minutes"] = tuple(minutes)
    lower = bleu(said[0], test.targets, lower_case=True)
    note = f"the defaults of Translator, letters as they are, beam {models[0].beam}"
    yield row("Holdfast", said, test, more, f"{note}; lower case is {lower.signature}")
    greedy = [one.set_params(beam=1).predict(test.sources) for one in models]
    yield row("Holdfast, greedy", greedy, test)
    if len(models) > 1:
        for one in models:
            one.set_params(beam=5)
        joined = Translator.joined(models).evaluate(test)
        name = f"Holdfast, {len(models)} networks together"
        more = {"perplexity": (joined.perplexity,)}
        yield row(name, [list(joined.said)], test, more)


def row(
    name: str,
    said: Sequence[Sequence[str]],
    test: Pairs,
    more: dict[str, tuple[float, ...]] | None = None,
    note: str = "",
) -> Row:
    """BLEU with and without case, and chrF, of one set of translations a seed."""
    cased = [bleu(one, test.targets) for one in said]
    lower = [bleu(one, test.targets, lower_case=True) for one in said]
    characters = [chrf(one, test.targets) for one in said]
    figures = {
        "BLEU": _values(cased),
        "BLEU, lower case": _values(lower),
        "chrF": _values(characters),
        **(more or {}),
    }
    signed = f"BLEU is {cased[0].signature}"
    return Row(name, figures, f"{signed}; {note}" if note else signed)


def nearest(training: Pairs, sources: Sequence[str]) -> list[str]:
    """The target of the training source that is most like each source."""
    kind = require("sklearn.feature_extraction.text", "text").TfidfVectorizer
    words = kind(token_pattern=r"\w+|[^\w\s]").fit(training.sources)
    likeness = words.transform(sources) @ words.transform(training.sources).T
    return [training.targets[int(place)] for place in likeness.argmax(1).ravel().tolist()[0]]


def _values(scores: Sequence[Score]) -> tuple[float, ...]:
    return tuple(one.score for one in scores)

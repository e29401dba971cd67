"""The experiment on Multi30k: its rows, what is kept, and what is said without the data."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from benchmarks.contests import Amount
from benchmarks.text import translating
from benchmarks.text.catalogue import EXPERIMENTS


@pytest.fixture
def multi30k(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the form of the data set: sentences, and the same in capital letters."""
    draw = random.Random(0)
    words = ["a", "man", "woman", "dog", "runs", "sits", "on", "grass", "street", "red"]
    folder = tmp_path / "multi30k"
    folder.mkdir()
    for part, count in (("train", 220), ("val", 20), ("test_2016_flickr", 12)):
        lines = [" ".join(draw.choices(words, k=draw.randint(2, 5))) for _ in range(count)]
        for name, texts in (("en", lines), ("de", [line.upper() for line in lines])):
            content = "".join(f"{text}\n" for text in texts).encode()
            (folder / f"{part}.{name}.gz").write_bytes(gzip.compress(content))
    monkeypatch.setenv("HOLDFAST_DATA", str(tmp_path))
    return tmp_path


def test_rows_of_the_experiment(multi30k: Path) -> None:
    rows = list(EXPERIMENTS["translate-multi30k"].run(Amount(seeds=2, quick=True)))
    assert [row.contender for row in rows] == [
        "the source as it is",
        "the target of the nearest source",
        "Holdfast",
        "Holdfast, greedy",
        "Holdfast, 2 networks together",
    ]
    copied, near, ours, _, joined = (row.figures for row in rows)
    assert copied["BLEU"] != copied["BLEU, lower case"] == (100.0,)
    assert near["BLEU"][0] > 0
    assert len(ours["BLEU"]) == len(ours["minutes"]) == len(ours["perplexity"]) == 2
    assert joined["perplexity"][0] <= max(ours["perplexity"])
    assert "tok:13a" in rows[2].note
    assert "case:mixed" in rows[2].note


def test_kept_models_are_not_trained_again(multi30k: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(translating.MODELS, str(multi30k / "models"))
    monkeypatch.setattr(
        translating, "model", lambda seed, quick: translating.Translator(**translating.QUICK)
    )
    first, minutes = translating.trained(0)
    assert minutes is not None
    again, took = translating.trained(0)
    assert took == minutes
    assert again.predict(["a dog runs"]) == first.predict(["a dog runs"])
    assert [path.name for path in (multi30k / "models").iterdir()] == ["multi30k-0"]


def test_without_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOLDFAST_DATA", raising=False)
    (row,) = EXPERIMENTS["translate-multi30k"].run(Amount())
    assert "not run" in row.note

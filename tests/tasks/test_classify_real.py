"""The classifier on real data, by the experiments that are recorded."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from benchmarks.text.classifying import motions, sst2
from benchmarks.text.registry import Amount
from holdfast.tasks.classify.baselines import NUMBERS


def test_without_data_the_experiments_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOLDFAST_DATA", raising=False)
    for run in (motions, sst2):
        (row,) = run(Amount())
        assert row.note.startswith("not run: there is no ")


@pytest.mark.slow
def test_motions(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_DATA", str(data_dir))
    rows = {row.contender: row.figures["accuracy"] for row in motions(Amount(seeds=1))}
    assert statistics.mean(rows["Holdfast"]) >= 90
    assert rows[NUMBERS][0] >= 95


@pytest.mark.slow
def test_sentiment_is_learned_from_two_hundred_sentences(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_DATA", str(data_dir))
    one, _, linear = sst2(Amount(quick=True))
    assert one.figures["log loss"][0] < 0.75
    assert linear.figures["accuracy"][0] > 55

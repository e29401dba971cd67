"""Scores are scikit-learn's, probabilities are calibrated, and simple methods stand beside."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch.nn import functional

from holdfast.data.examples import read_examples
from holdfast.errors import BaselineWarning, DataError
from holdfast.tasks import SequenceClassifier, plots
from holdfast.tasks.classify import figures
from holdfast.tasks.classify.answers import chances, mean_scores
from holdfast.tasks.classify.baselines import LinearBaseline, statistics
from holdfast.tasks.classify.calibration import (
    best_thresholds,
    calibrate,
    calibration_error,
    reliability,
    temperature,
)
from holdfast.tasks.classify.evaluate import OURS, evaluate
from holdfast.tasks.classify.metrics import all_scores, by_class, confusion
from holdfast.tasks.classify.report import report
from holdfast.tasks.classify.training import Goal
from tests.helpers import assert_same
from tests.tasks.test_classify import SMALL, reviews, waves

theirs: Any = metrics


def answers(rows: int = 200, several: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities `(n, 4)`, answers and a truth that they know something of; class 3 is none."""
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(rows, 4))
    scores[:, 3] = -9
    found = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    if several:
        truth = (generator.random((rows, 4)) < found).astype(np.int64)
        return found, (found >= 0.4).astype(np.int64), truth
    truth = np.array([generator.choice(4, p=row) for row in found])
    return found, found.argmax(1), truth


@pytest.mark.parametrize("several", [False, True])
def test_scores_are_those_of_scikit_learn(several: bool) -> None:
    found, said, truth = answers(several=several)
    ours = all_scores(found, said, truth)
    kept = [0, 1, 2] if several else None
    f1 = theirs.f1_score(truth, said, average="macro", labels=kept)
    assert_same(ours["accuracy"], theirs.accuracy_score(truth, said))
    assert_same(ours["macro F1"], float(f1))
    if several:
        loss = np.mean([theirs.log_loss(truth[:, k], found[:, k], labels=[0, 1]) for k in range(4)])
    else:
        loss = theirs.log_loss(truth, found, labels=[0, 1, 2, 3])
        expected = theirs.confusion_matrix(truth, said, labels=[0, 1, 2, 3])
        assert confusion(said, truth, 4).tolist() == expected.tolist()
    assert_same(ours["log loss"], float(loss))
    parts: Any = theirs.precision_recall_fscore_support(
        truth, said, labels=[0, 1, 2, 3], zero_division=0.0
    )
    for row, *wanted in zip(by_class(said, truth, 4), *parts, strict=True):
        if row is None:
            assert wanted[3] == 0
        else:
            mine = [row.precision, row.recall, row.f1, row.support]
            assert_same(mine, [float(value) for value in wanted[:3]] + [int(wanted[3])])


def test_the_temperature_is_that_of_the_least_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2000, 3, generator=generator)
    targets = torch.distributions.Categorical(logits=logits).probs.multinomial(
        1, generator=generator
    )[:, 0]
    found = temperature(3 * logits, targets)
    losses = [
        float(functional.cross_entropy(3 * logits / t, targets))
        for t in (found * 0.98, found, found * 1.02)
    ]
    assert losses[1] < min(losses[0], losses[2])
    assert found == pytest.approx(3.0, rel=0.15)
    whole = calibrate(3 * logits, targets)
    assert whole.temperature == found
    assert whole.after < 0.3 * whole.before


def test_the_calibration_error_is_the_gap_by_bins() -> None:
    found, _, truth = answers(500)
    sure, right = found.max(1), found.argmax(1) == truth
    expected, edges = 0.0, np.linspace(0, 1, 16)
    for low, high in itertools.pairwise(edges):
        inside = (sure > low) & (sure <= high)
        if inside.any():
            expected += inside.mean() * abs(sure[inside].mean() - right[inside].mean())
    targets = torch.from_numpy(truth)
    assert_same(calibration_error(torch.from_numpy(found), targets), float(expected))
    bins = reliability(torch.from_numpy(found), targets)
    assert_same(sum(one.share for one in bins), 1.0)


def test_few_examples_do_not_calibrate() -> None:
    found = calibrate(torch.randn(10, 2), torch.zeros(10, dtype=torch.long))
    assert (found.temperature, found.examples) == (1.0, 10)
    assert np.isnan(found.before)


def test_thresholds_have_the_best_f1() -> None:
    found, _, truth = answers(60, several=True)
    cut = best_thresholds(torch.from_numpy(found), torch.from_numpy(truth))
    for column, wanted, threshold in zip(found.T[:3], truth.T[:3], cut, strict=False):
        best = max(
            theirs.f1_score(wanted, column >= at, zero_division=0.0) for at in np.unique(column)
        )
        assert_same(theirs.f1_score(wanted, column >= threshold), best)
    assert cut[3] == 0.5


@pytest.mark.parametrize("several", [False, True])
def test_joint_scores_mean_mean_probabilities(several: bool, generator: torch.Generator) -> None:
    one, two = 4 * torch.randn(2, 5, 3, generator=generator)
    as_chances = torch.sigmoid if several else (lambda x: x.softmax(1))
    joint = chances(mean_scores([one, two], several), 1.0, several)
    assert_same(torch.from_numpy(joint).float(), (as_chances(one) + as_chances(two)) / 2)


def test_what_is_held_out_is_measured_without_weights_and_smoothing() -> None:
    scores, targets = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    goal = Goal(torch.tensor([3.0, 1.0]), 0.1)
    assert_same(goal(scores, targets, plain=True), functional.cross_entropy(scores, targets))
    assert float(goal(scores, targets)) > float(goal(scores, targets, plain=True))
    many = Goal(torch.tensor([3.0, 1.0]), 0.1)
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    expected = functional.binary_cross_entropy_with_logits(
        scores, 0.9 * labels + 0.05, pos_weight=torch.tensor([3.0, 1.0])
    )
    assert_same(many(scores, labels), expected)


def test_statistics_leave_missing_values_out() -> None:
    found = statistics([np.array([[1.0, np.nan], [3.0, np.nan]])])
    assert_same(found, np.array([[2, np.nan, 1, np.nan, 1, np.nan, 3, np.nan]], dtype=float))


def test_baselines_learn() -> None:
    texts, said = reviews()
    targets = torch.tensor([one == "-" for one in said]).long()
    words = LinearBaseline(several=False).fit(read_examples(texts), targets)
    assert (words.predict_proba(read_examples(texts), 2).argmax(1) == targets.numpy()).all()
    x, labels = waves()
    x = [values * (1 + label) for values, label in zip(x, labels, strict=True)]
    numbers = LinearBaseline(several=False).fit(read_examples(x), torch.tensor(labels))
    found = numbers.predict_proba(read_examples(x), 3)
    assert (found.argmax(1) == labels).mean() > 0.9
    assert (found[:, 2] == 0).all()
    both = LinearBaseline(several=True)
    pairs = read_examples(list(zip(["a"] * 40, x, strict=True)))
    columns = torch.stack([torch.tensor(labels), torch.ones(40, dtype=torch.long)], 1)
    chance = both.fit(pairs, columns).predict_proba(pairs, 2)
    assert ((chance[:, 0] > 0.5) == labels).mean() > 0.9
    assert (chance[:, 1] == 1).all()


def small(several: bool = False, epochs: int = 1) -> tuple[SequenceClassifier, Any, Any]:
    """A model of a moment, and examples for it."""
    texts, said = reviews()
    given: Any = [[one] for one in said] if several else said
    return SequenceClassifier(**{**SMALL, "max_epochs": epochs}).fit(texts, given), texts, given


def test_an_evaluation_has_every_method_and_warns_where_a_simple_one_wins() -> None:
    model, texts, said = small(epochs=8)
    wrong = ["-" if one == "+" else "+" for one in said]
    with pytest.warns(BaselineWarning, match="a baseline is at least as good: TF-IDF"):
        result = evaluate(model, texts, wrong, train=(texts, wrong))
    assert list(result.scores) == [
        OURS,
        "TF-IDF + logistic regression",
        "most frequent class",
    ]
    assert result.scores["TF-IDF + logistic regression"]["accuracy"] == 1.0
    assert result.scores[OURS]["accuracy"] == pytest.approx(model.score(texts, wrong))
    text = result.text()
    assert "is \\ said" in text
    assert "accuracy ±" in text
    assert "| TF-IDF + logistic regression | 100.00 |" in result.table()
    alone = evaluate(model, texts, said)
    assert alone.notes
    assert list(alone.scores) == [OURS, "most frequent class"]
    assert alone.verdict == ""
    with pytest.raises(DataError, match="was never seen in training"):
        evaluate(model, texts[:2], ["+", "?"])


@pytest.mark.parametrize("several", [False, True])
def test_the_report_is_self_contained(several: bool, tmp_path: Path) -> None:
    model, texts, said = small(several)
    result = evaluate(model, texts, said, train=(texts, said))
    page = report(model, result, ["some warning"])
    assert re.search(r"(src|href)=.?(http|/|\.)", page) is None
    assert page.count("data:image/png;base64,") == 3
    for words in ("Some warning.", "TF-IDF", model.data_["sha256"], "Least sure", "title='"):
        assert words in page
    assert plots.png(figures.evaluation_figure(result)).startswith(b"\x89PNG")


def test_the_report_of_numbers_shows_their_channels() -> None:
    x, labels = waves()
    model = SequenceClassifier(**{**SMALL, "max_epochs": 1}).fit(x, labels)
    page = report(model, evaluate(model, x, labels, train=(x, labels)))
    assert page.count("the channels of an example") >= 2 * 3

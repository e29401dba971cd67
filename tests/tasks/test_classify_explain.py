"""What speaks for a label adds up, streams say what batches say, poolings see what they should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from holdfast.errors import DataError
from holdfast.tasks import SequenceClassifier
from holdfast.tasks.classify.attribution import Explanation
from holdfast.tasks.classify.network import Inputs
from holdfast.tasks.classify.pooling import POOLINGS, Pooling
from tests.helpers import assert_same, unequal_
from tests.tasks.test_classify import SMALL, WAYS, assert_near, reviews, waves


@pytest.fixture(scope="module")
def of_texts() -> Any:
    settings = {**SMALL, "max_epochs": 8}
    return SequenceClassifier(**settings, pooling=WAYS).fit(*reviews())


def log_odds(model: SequenceClassifier, probability: float) -> float:
    return model.calibration_.temperature * float(np.log(probability / (1 - probability)))


def test_attributions_add_up_to_the_log_odds(of_texts: Any) -> None:
    text = "A good film, not bad."
    (found,) = of_texts.explain([text])
    assert found.label == of_texts.predict([text])[0]
    assert_near(found.value, log_odds(of_texts, found.probability))
    assert abs(found.error) <= 0.01 * abs(found.value - found.baseline)
    assert_same(float(found.scores.sum()), found.value - found.baseline + found.error)
    (rough,) = of_texts.explain([text], steps=1)
    (fine,) = of_texts.explain([text], steps=1024)
    assert abs(fine.error) < abs(rough.error)
    assert (rough.steps, fine.steps) == (1, 1024)


def test_attributions_are_gradients_in_the_middle_of_every_interval(of_texts: Any) -> None:
    batch = of_texts.encode(of_texts.read(["a bad film"])).batch([0])
    inputs = of_texts.net_.embed(batch)
    words = inputs.words.detach()
    total = torch.zeros_like(words)
    for share in (1 / 8, 3 / 8, 5 / 8, 7 / 8):
        point = (share * words).requires_grad_()
        scores = of_texts.net_.classify(Inputs(point, inputs.counts, None, None))
        total += torch.autograd.grad(scores[0, 1] - scores[0, 0], point)[0]
    (found,) = of_texts.explain(["a bad film"], "-", steps=4)
    assert_near(found.scores, (words * total / 4).sum(2)[:, 0])


def test_the_words_that_decide_stand_first(of_texts: Any) -> None:
    (found,) = of_texts.explain(["film bad and"])
    assert found.label == "-"
    assert found.top(1)[0][0] == "bad"
    (other,) = of_texts.explain(["film bad and"], "+")
    assert_near(other.scores, -found.scores)
    assert other.probability == pytest.approx(1 - found.probability)
    with pytest.raises(DataError, match="there is no label 'good'; there are"):
        of_texts.explain(["film"], "good")
    with pytest.raises(DataError, match="steps=0"):
        of_texts.explain(["film"], steps=0)


def test_attention_is_what_the_pooling_attends_to(of_texts: Any) -> None:
    found = of_texts.explain(["a good film", ""])
    assert found[0].attention.shape == (3,)
    assert_same(float(found[0].attention.sum()), 1.0)
    assert found[1].scores.shape == (0,)
    assert found[1].error == 0.0
    plain: Any = SequenceClassifier(**{**SMALL, "max_epochs": 1}).fit(*reviews())
    assert plain.explain(["a good film"])[0].attention is None


def test_lines_are_colored_or_marked_and_html_is_escaped() -> None:
    tokens = (("", "good"), (" ", "<b>"), ("\n ", "bad"))
    found: Any = Explanation("+", 0.9, 2.0, 0.0, 8, tokens, np.array([2.0, 0.01, -0.8]))
    assert found.line(color=False) == "good++++ <b>  bad-"
    colored = found.line()
    assert colored.count("\x1b[38;5;16;48;5;") == 2
    assert colored.count("\x1b[0m") == 2
    assert "&lt;b&gt;" in found.html()
    assert "<b>" not in found.html()
    assert "rgba(11,110,153,0.75)" in found.html()
    assert found.error == pytest.approx(-0.79)


def test_numbers_are_attributed_by_step_and_channel() -> None:
    x, labels = waves()
    x[1][0, 1] = np.nan
    settings = {**SMALL, "max_epochs": 12, "missing": "mask"}
    model: Any = SequenceClassifier(**settings).fit(x, labels)
    total = np.zeros(2)
    found: Any = None
    for at, found in enumerate(model.explain(x[:3])):
        assert found.numbers.shape == x[at].shape
        assert abs(found.error) <= 0.011 * max(abs(found.value - found.baseline), 0.1)
        total += np.abs(found.numbers).sum(0)
    assert total[0] > total[1]
    assert found.top(1)[0][0].startswith("x0 at step ")


def test_several_networks_and_both_kinds_add_up() -> None:
    series, labels = waves()
    pairs = list(zip(["up" if up else "down" for up in labels], series, strict=True))
    model: Any = SequenceClassifier(**{**SMALL, "max_epochs": 2}, members=2).fit(pairs, labels)
    (found,) = model.explain(pairs[:1])
    assert found.scores.shape == (1,)
    assert found.numbers.shape == series[0].shape
    parts = float(found.scores.sum() + found.numbers.sum())
    assert_same(parts, found.value - found.baseline + found.error)
    assert abs(found.error) <= 0.011 * max(abs(found.value - found.baseline), 0.1)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_stream_says_what_the_batch_says(layers: int) -> None:
    series, labels = waves()
    settings = {**SMALL, "max_epochs": 2, "bidirectional": False, "num_layers": layers}
    model: Any = SequenceClassifier(**settings, pooling=WAYS, members=2).fit(series, labels)
    stream = model.stream()
    for values in series[:3]:
        stream.reset()
        for step in range(len(values)):
            found = stream.push(values[step])
            expected = model.predict_proba([values[: step + 1]])[0]
            assert_near(found, expected)


def test_a_stream_of_words(of_texts: Any) -> None:
    settings = {**SMALL, "max_epochs": 3, "bidirectional": False}
    model: Any = SequenceClassifier(**settings, pooling=("mean", "max"), max_tokens=4).fit(
        *reviews()
    )
    stream = model.stream()
    assert_near(stream.probabilities, model.predict_proba([""])[0])
    for words, so_far in (("a", "a"), ("good, really", "a good, really")):
        assert_near(stream.push(words), model.predict_proba([so_far])[0])
    full = stream.push(text="good")
    assert np.array_equal(stream.push(text="bad bad"), full)
    with pytest.raises(DataError, match="trained without numbers"):
        stream.push(np.zeros(2))
    with pytest.raises(DataError, match="bidirectional=False"):
        of_texts.stream()


def test_a_stream_of_both() -> None:
    series, labels = waves()
    pairs = list(zip(["up" if up else "down" for up in labels], series, strict=True))
    settings = {**SMALL, "max_epochs": 1, "bidirectional": False}
    model: Any = SequenceClassifier(**settings).fit(pairs, labels)
    stream = model.stream()
    found = stream.push(text="up")
    for step in series[1]:
        found = stream.push(step)
    assert_near(found, model.predict_proba(pairs[1:2])[0])
    with pytest.raises(DataError, match="step 1 of 'x1' is nan"):
        stream.push([0.0, np.nan])
    with pytest.raises(DataError, match="got 3 numbers, expected 2"):
        stream.push([0.0, 0.0, 0.0])


def test_subwords_do_not_stream() -> None:
    settings = {**SMALL, "max_epochs": 1, "bidirectional": False, "vocabulary_size": 40}
    model: Any = SequenceClassifier(**settings, tokens="subwords").fit(*reviews())
    with pytest.raises(DataError, match="the next characters may change a subword"):
        model.stream()


@pytest.mark.parametrize("directions", [1, 2])
def test_poolings_are_what_they_say(directions: int, generator: torch.Generator) -> None:
    out = torch.randn(5, 3, 4, generator=generator)
    lengths = torch.tensor([5, 0, 2])
    out[lengths[2] :, 2] = 0.0
    out[:, 1] = 0.0
    pool = unequal_(Pooling(POOLINGS, 4, directions), generator)
    last, mean, most, attended = pool(out, lengths).split(4, 1)
    assert_same(mean[2], out[:2, 2].mean(0))
    assert_same(most[2], out[:2, 2].amax(0))
    assert_same(last[2, :2], out[1, 2, :2])
    assert_same(last[2, 2:], out[0, 2, 2:] if directions == 2 else out[1, 2, 2:])
    scores = torch.tanh(out[:2, 2] @ pool.hidden.weight.T + pool.hidden.bias)
    weights = (scores @ pool.score.weight[0]).softmax(0)
    assert_same(attended[2], weights @ out[:2, 2])
    for part in (last, mean, most, attended):
        assert_same(part[1], torch.zeros(4))


def test_padding_does_not_reach_the_answer(generator: torch.Generator) -> None:
    pool: Any = unequal_(Pooling(POOLINGS, 4, 1), generator)
    out = torch.randn(3, 1, 4, generator=generator)
    padded = torch.cat([out, torch.full((2, 1, 4), 0.0)])
    assert_same(pool(padded, torch.tensor([3])), pool(out, torch.tensor([3])))

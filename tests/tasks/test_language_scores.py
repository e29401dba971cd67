"""Scores and texts of a language model: every token once, caches, learning on, generation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from holdfast.errors import DataError
from holdfast.tasks import LanguageModel
from holdfast.tasks.language.net import LanguageNet, Shape
from holdfast.tasks.language.scoring import (
    Cache,
    Dynamic,
    Score,
    adapted_losses,
    gradient_squares,
    stream_losses,
)
from tests.helpers import assert_same

TEXT = "the cat sat on the mat\na dog ran to the cat\n" * 12
SMALL: dict[str, Any] = {"hidden_size": 6, "batch_size": 4, "steps": 20, "max_epochs": 3}


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(**SMALL, learning_rate=0.02).fit(TEXT)


@pytest.fixture
def net() -> LanguageNet:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        found = LanguageNet(Shape(tokens=5, hidden_size=6)).eval()
        for parameter in found.parameters():
            torch.nn.init.normal_(parameter)
    return found


@pytest.fixture
def stream(generator: torch.Generator) -> np.ndarray:
    return torch.randint(5, (300,), generator=generator).numpy()


def whole_losses(net: LanguageNet, stream: np.ndarray) -> torch.Tensor:
    """The loss of every token by one pass over all of them."""
    targets = torch.from_numpy(stream)
    inputs = torch.cat([torch.zeros(1, dtype=torch.int64), targets[:-1]]).unsqueeze(1)
    with torch.no_grad():
        log_probs = net.log_probs(net(inputs).said).squeeze(1)
    return -log_probs.gather(1, targets.unsqueeze(1)).squeeze(1)


def test_every_token_is_scored_once_with_all_before_it(
    net: LanguageNet, stream: np.ndarray
) -> None:
    assert_same(stream_losses(net, stream, 0), whole_losses(net, stream))


@pytest.mark.parametrize("rows", [2, 7, 299, 300])
def test_rows_side_by_side_are_texts_of_their_own(
    rows: int, net: LanguageNet, stream: np.ndarray
) -> None:
    found = stream_losses(net, stream, 0, rows)
    assert found.shape == (300,)
    first = math.ceil(300 / rows)
    assert_same(found[:first], whole_losses(net, stream[:first]))
    if rows == 7:
        # A later row begins with the token before it, and no state.
        second = stream[first : first + 5]
        before = torch.from_numpy(np.concatenate([stream[first - 1 : first], second[:-1]]))
        with torch.no_grad():
            said = net.log_probs(net(before.unsqueeze(1)).said).squeeze(1)
        wanted = -said.gather(1, torch.from_numpy(second).unsqueeze(1)).squeeze(1)
        assert_same(found[first : first + 5], wanted)


def test_scores_are_sums_over_the_text(model: LanguageModel) -> None:
    score = model.evaluate(TEXT)
    assert len(score.losses) == score.characters == len(TEXT)
    assert score.nats == pytest.approx(-model.score(TEXT))
    assert score.bits == pytest.approx(score.nats / math.log(2))
    assert score.perplexity == pytest.approx(math.exp(score.nats))
    assert score.bits_per_character == pytest.approx(score.bits)
    assert (model.log_probs(TEXT) == -score.losses).all()
    pieces, same = model.read(TEXT)
    assert "".join(pieces) == TEXT
    assert same.nats == score.nats
    words = Score(np.full(4, math.log(4)), characters=16, unknown=0, level="word")
    assert words.bits_per_character == pytest.approx(0.5)


def test_a_text_may_follow_another(model: LanguageModel) -> None:
    half = TEXT.index("\n", 200) + 1
    whole = model.evaluate(TEXT).losses
    found = model.evaluate(TEXT[half:], after=TEXT[:half]).losses
    np.testing.assert_array_equal(found, whole[half:])
    assert not np.array_equal(model.evaluate(TEXT[half:]).losses, found)


def test_unknown_characters_are_counted(model: LanguageModel) -> None:
    assert model.evaluate(["the €at \u00df"]).unknown == 2
    assert model.evaluate(TEXT).unknown == 0


def test_a_cache_is_the_papers_formula(net: LanguageNet, stream: np.ndarray) -> None:
    how = Cache(size=20, weight=0.3, flatness=0.7)
    found = adapted_losses(net, stream, 0, cache=how)
    targets = torch.from_numpy(stream)
    inputs = torch.cat([torch.zeros(1, dtype=torch.int64), targets[:-1]]).unsqueeze(1)
    with torch.no_grad():
        said = net(inputs).said.squeeze(1)
        chances = net.log_probs(said).exp()
    for t in (0, 1, 15, 20, 21, 260, 299):
        wanted = float(chances[t, targets[t]])
        seen = range(max(0, t - 20), t)
        if seen:
            weights = [math.exp(0.7 * float(said[t] @ said[i])) for i in seen]
            same = [w for w, i in zip(weights, seen, strict=True) if targets[i] == targets[t]]
            wanted = 0.7 * wanted + 0.3 * sum(same) / sum(weights)
        assert_same(found[t], torch.tensor(-math.log(wanted)))


def test_a_cache_and_learning_on_help_where_a_text_repeats_itself(model: LanguageModel) -> None:
    new = "zebras to zoos\n" * 40
    plain = model.evaluate(new).nats
    assert model.evaluate(new, cache=100).nats < plain
    assert model.evaluate(new, dynamic=True).nats < plain
    assert model.evaluate(new).nats == plain


def test_learning_on_is_gradient_descent_after_the_score(
    net: LanguageNet, stream: np.ndarray
) -> None:
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    how = Dynamic(learning_rate=0.5, decay=0.1, steps=10, clip=0.0)
    found = adapted_losses(net, stream[:20], 0, dynamic=how)
    assert_same(found[:10], whole_losses(net, stream)[:10])
    inputs = torch.from_numpy(np.concatenate([[0], stream[:19]])).unsqueeze(1)
    first = net(inputs[:10])
    net.losses(first.said.squeeze(1), torch.from_numpy(stream[:10])).mean().backward()
    with torch.no_grad():
        for parameter in net.parameters():
            assert parameter.grad is not None
            parameter -= 0.5 * parameter.grad  # the way back is none, since nothing has moved
        second = net(inputs[10:], first.states).said.squeeze(1)
        wanted = net.losses(second, torch.from_numpy(stream[10:20]))
    assert_same(found[10:], wanted)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(before[name])


def test_statistics_scale_each_weights_steps(net: LanguageNet, stream: np.ndarray) -> None:
    squares = gradient_squares(net, stream, 0, 10)
    assert set(squares) == {name for name, _ in net.named_parameters()}
    how = Dynamic(learning_rate=0.01, steps=10)
    scaled = adapted_losses(net, stream, 0, dynamic=how, squares=squares)
    assert not scaled.equal(adapted_losses(net, stream, 0, dynamic=how))
    assert scaled[10:].mean() < whole_losses(net, stream)[10:].mean()


def test_the_weights_are_the_trained_ones_after_an_error(net: LanguageNet) -> None:
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    with pytest.raises(IndexError):
        adapted_losses(net, np.array([1, 2, 3, 9]), 0, dynamic=Dynamic(steps=2))
    for name, parameter in net.named_parameters():
        assert parameter.equal(before[name]), name
        assert parameter.grad is None


@pytest.mark.parametrize("how", [{"after": TEXT}, {"cache": 10}, {"dynamic": True}])
def test_rows_begin_anew_and_do_not_go_with_memories(
    how: dict[str, Any], model: LanguageModel
) -> None:
    with pytest.raises(DataError, match="rows=2 begin anew"):
        model.evaluate(TEXT, rows=2, **how)
    with pytest.raises(DataError, match="rows=0; expected"):
        model.evaluate(TEXT, rows=0)


@pytest.mark.parametrize("settings", [{}, {"cell": "persistent", "num_layers": 2}])
def test_generation_carries_the_state(settings: dict[str, Any]) -> None:
    model = LanguageModel(**SMALL, **settings).fit(TEXT)
    prefix, drawn = "the cat", ""
    for piece in model.generate(prefix, 25, temperature=0):
        stream = model.tokens_.encode(prefix + drawn)
        inputs = torch.from_numpy(np.concatenate([[model.tokens_.end], stream])).unsqueeze(1)
        with torch.no_grad():
            likeliest = int(model.net_.log_probs(model.net_(inputs).said)[-1, 0, 1:].argmax()) + 1
        assert piece == model.tokens_.piece(likeliest, 0)
        drawn += piece
    assert model.predict([prefix, "a dog"])[0] == drawn[0]


def test_texts_come_from_the_seed_and_stream(model: LanguageModel) -> None:
    texts = ["".join(model.generate("the ", 40, seed=seed)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0]) == 40
    pieces = model.generate(length=10**9)  # no token is drawn before it is asked for
    assert len([next(pieces) for _ in range(3)]) == 3


def test_samples_are_drawn_side_by_side_as_each_alone(model: LanguageModel) -> None:
    texts = model.sample(3, "the ", 30, seed=1)
    assert len(set(texts)) == 3
    assert {len(text) for text in texts} == {30}
    assert model.sample(1, "the ", 30, seed=4)[0] == "".join(model.generate("the ", 30, seed=4))
    cold = model.sample(2, "the ", 12, temperature=0)
    assert cold[0] == cold[1] == "".join(model.generate("the ", 12, temperature=0))


def test_draws_follow_the_model_and_its_narrowing(model: LanguageModel) -> None:
    drawn = model.sample(4000, "the ca", 1, seed=1)
    inputs = model.tokens_.encode("\nthe ca")
    with torch.no_grad():
        said = model.net_(torch.from_numpy(inputs).unsqueeze(1)).said[-1]
        chances = model.net_.log_probs(said).exp().squeeze(0)
    chances = chances / (1 - chances[0])  # <unk> is never drawn
    for token in (1, 2, 3):
        share = drawn.count(model.tokens_.piece(token, 0)) / 4000
        assert share == pytest.approx(float(chances[token]), abs=0.03)
    best = int(chances[1:].argmax()) + 1
    assert set(model.sample(50, "the ca", 1, top_k=1)) == {model.tokens_.piece(best, 0)}
    assert set(model.sample(50, "the ca", 1, top_p=1e-6)) == {model.tokens_.piece(best, 0)}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"prefix": "the €"}, "the prefix: '€' was never seen in training"),
        ({"length": 0}, "length=0; expected"),
        ({"temperature": -1.0}, "temperature should be"),
        ({"top_p": 0.0}, "top_p should be"),
        ({"top_k": -1}, "top_k should be"),
        ({"seed": -1}, "seed=-1; expected"),
    ],
)
def test_impossible_texts_are_refused_before_they_begin(
    how: dict[str, Any], message: str, model: LanguageModel
) -> None:
    with pytest.raises(DataError, match=message):
        model.generate(**how)


def test_what_is_no_list_of_texts_is_refused(model: LanguageModel) -> None:
    with pytest.raises(DataError, match="put it into a list"):
        model.predict("the cat")
    with pytest.raises(DataError, match="n=0; expected"):
        model.sample(0)

"""Attention: every score and window against its formula, one position at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from holdfast.nn.attention import Attention, Memory, coverage_loss
from holdfast.nn.scores import SCORES
from tests.helpers import assert_same, unequal_

Q, D, A, B, S, T = 5, 5, 3, 3, 7, 4
LENGTHS = [7, 1, 4]

KINDS: dict[str, dict[str, Any]] = {
    "additive": {"score": "additive", "size": A},
    "dot": {"score": "dot"},
    "dot-scaled": {"score": "dot", "scaled": True},
    "general": {"score": "general"},
    "concat": {"score": "concat", "size": A},
    "location": {"score": "location", "positions": 5},
    "predictive": {"score": "general", "window": "predictive", "width": 2, "size": A},
    "predictive-additive": {"score": "additive", "window": "predictive", "width": 1},
    "monotonic": {"score": "general", "window": "monotonic", "width": 1},
    "coverage": {"score": "additive", "size": A, "coverage": True},
    "coverage-concat": {"score": "concat", "coverage": True},
}


def make(
    name: str, generator: torch.Generator, dtype: torch.dtype = torch.float64, **more: Any
) -> Attention:
    return unequal_(Attention(Q, D, **(KINDS[name] | more), dtype=dtype), generator)


def draws(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def score(attention: Attention, q: Tensor, k: Tensor, s: int, had: Tensor) -> Tensor:
    """The score of one position, as the papers write it."""
    own = dict(attention.score.named_parameters())
    if attention.kind == "dot":
        return (q * k).sum() / (math.sqrt(D) if attention.scaled else 1.0)
    if attention.kind == "general":
        return q @ own["key.weight"] @ k
    if attention.kind == "location":
        return own["place.weight"][s] @ q if s < 5 else q.new_tensor(-math.inf)
    if attention.kind == "concat":
        hidden = own["weight"] @ torch.cat([q, k])
    else:
        hidden = own["query.weight"] @ q + own["key.weight"] @ k
    if attention.coverage:
        hidden = hidden + own["w"] * had
    return own["v"] @ torch.tanh(hidden)


def reference(attention: Attention, queries: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Contexts `[T, D]` and weights `[T, S]` of one source without padding."""
    count = len(values)
    had = values.new_zeros(count)
    contexts, weights = [], []
    for step, q in enumerate(queries):
        place: Any = None
        if attention.window == "monotonic":
            place = min(step, count - 1)
        elif attention.place is not None:
            first, second = (one for _, one in attention.place.named_parameters())
            place = count * torch.sigmoid(second[0] @ torch.tanh(first @ q))
        inside = list(range(count))
        if place is not None:
            inside = [s for s in inside if abs(s - place) <= attention.width]
        found = torch.stack([score(attention, q, values[s], s, had[s]) for s in inside]).softmax(0)
        weight = values.new_zeros(count)
        for s, one in zip(inside, found, strict=True):
            sigma = attention.width / 2
            gauss = 1.0
            if attention.place is not None and place is not None:
                gauss = math.exp(-((s - place) ** 2) / (2 * sigma**2))
            weight[s] = one * gauss
        had = had + weight
        weights.append(weight)
        contexts.append(weight @ values)
    return torch.stack(contexts), torch.stack(weights)


@pytest.mark.parametrize("name", KINDS)
def test_steps_together_are_the_papers_formulas(name: str, generator: torch.Generator) -> None:
    attention = make(name, generator)
    queries, values = draws(generator, B, T, Q), draws(generator, B, S, D)
    memory = attention.remember(values, LENGTHS)
    context, weights, coverage = attention(queries, memory)
    for row, length in enumerate(LENGTHS):
        with torch.no_grad():
            wanted, shares = reference(attention, queries[row], values[row, :length])
        assert_same(context[row], wanted, f"context of source {row}")
        assert_same(weights[row, :, :length], shares, f"weights of source {row}")
        assert not weights[row, :, length:].any()
    if attention.coverage:
        assert_same(coverage, weights.sum(1))
    else:
        assert coverage is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", KINDS)
def test_one_step_at_a_time_is_the_same(
    name: str, dtype: torch.dtype, generator: torch.Generator
) -> None:
    attention = make(name, generator, dtype)
    queries = draws(generator, B, T, Q, dtype=dtype)
    memory = attention.remember(draws(generator, B, S, D, dtype=dtype), torch.tensor(LENGTHS))
    context, weights, _ = attention(queries, memory)
    coverage = None
    for step in range(T):
        found = attention(queries[:, step], memory, coverage, step)
        assert_same(found.context, context[:, step], f"context of step {step}")
        assert_same(found.weights, weights[:, step], f"weights of step {step}")
        coverage = found.coverage


@pytest.mark.parametrize("name", KINDS)
def test_padding_does_not_matter_whatever_stands_there(
    name: str, generator: torch.Generator
) -> None:
    attention = make(name, generator)
    queries, values = draws(generator, B, T, Q), draws(generator, B, S, D)
    results = []
    for fill in (0.0, math.nan, math.inf):
        filled = torch.cat([values, values], 1)  # twice as long
        for row, length in enumerate(LENGTHS):
            filled[row, length:] = fill
        filled.requires_grad_()
        attention.zero_grad()
        found = attention(queries, attention.remember(filled, LENGTHS))
        found.context.sin().sum().backward()
        weights = found.weights[:, :, :S]
        own = {n: one.grad for n, one in attention.named_parameters()}
        results.append((found.context, weights, filled.grad, own))
    plain = attention(queries, attention.remember(torch.nan_to_num(values), LENGTHS))
    assert_same((plain.context, plain.weights), results[0][:2])
    assert_same(results[1], results[0], "with NaN at padding")
    assert_same(results[2], results[0], "with infinity at padding")


@pytest.mark.parametrize("name", KINDS)
def test_gradients(name: str, generator: torch.Generator) -> None:
    attention = make(name, generator)
    queries = draws(generator, 2, 2, Q).requires_grad_()
    values = draws(generator, 2, 4, D).requires_grad_()
    parameters = tuple(attention.parameters())

    def run(queries: Tensor, values: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        found = attention(queries, attention.remember(values, [4, 2]))
        return found.context, found.weights

    assert torch.autograd.gradcheck(run, (queries, values, *parameters), fast_mode=False)


@pytest.mark.parametrize("name", KINDS)
def test_hypotheses_share_the_memory_of_their_source(name: str, generator: torch.Generator) -> None:
    attention = make(name, generator)
    queries, had = draws(generator, B, 3, Q), draws(generator, B, 3, S).abs()
    values = draws(generator, B, S, D)
    memory = attention.remember(values, LENGTHS)
    seen = had if attention.coverage else None
    context, weights = attention.attend(queries, memory, seen, 2, together=True)
    repeated = memory.select(torch.arange(B).repeat_interleave(3))
    own = had.flatten(0, 1) if attention.coverage else None
    wanted = attention(queries.flatten(0, 1), repeated, own, 2)
    assert_same(context.flatten(0, 1), wanted.context)
    assert_same(weights.flatten(0, 1), wanted.weights)


def test_a_memory_without_lengths_is_whole(generator: torch.Generator) -> None:
    attention = make("general", generator)
    values, queries = draws(generator, B, S, D), draws(generator, B, T, Q)
    whole = attention.remember(values)
    assert isinstance(whole, Memory)
    assert whole.bias is None
    assert bool(whole.valid().all())
    assert_same(
        attention(queries, whole)[:2], attention(queries, attention.remember(values, [S] * B))[:2]
    )


def test_coverage_loss_is_the_attention_that_comes_again(generator: torch.Generator) -> None:
    weights = draws(generator, B, T, S).softmax(2)
    total, had = 0.0, torch.zeros(B, S, dtype=torch.float64)
    for step in range(T):
        total += float(torch.minimum(weights[:, step], had).sum())
        had += weights[:, step]
    assert_same(coverage_loss(weights), torch.tensor(total / (B * T), dtype=torch.float64))
    valid = torch.tensor([[True] * T, [True] + [False] * (T - 1), [False] * T])
    first = coverage_loss(weights[:1])
    assert_same(coverage_loss(weights, valid), first * T / (T + 1))


def test_empty_sources_are_refused(generator: torch.Generator) -> None:
    attention = make("general", generator)
    with pytest.raises(ValueError, match=r"source 1 has length 0.*leave empty sources out"):
        attention.remember(draws(generator, 2, S, D), [3, 0])
    with pytest.raises(ValueError, match="no positions"):
        attention.remember(draws(generator, 2, 0, D))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": "generall"}, r"did you mean general\?"),
        ({"window": "local"}, "window should be None, monotonic or predictive"),
        ({"score": "location"}, "needs positions"),
        ({"score": "location", "positions": 3, "window": "predictive"}, "knows no window"),
        ({"score": "dot", "coverage": True}, "take 'additive' or 'concat'"),
        ({"score": "concat", "scaled": True}, "scaled divides products"),
        ({"score": "dot", "memory_size": 4}, "same size, got: 5 and 4"),
        ({"width": 0}, "width must be greater than zero"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"query_size": Q, "memory_size": D} | options
    with pytest.raises(ValueError, match=message):
        Attention(**given)


def test_wrong_tensors_are_refused(generator: torch.Generator) -> None:
    attention = make("general", generator)
    with pytest.raises(RuntimeError, match=r"expected values \[B, S, 5\], got \[2, 7, 4\]"):
        attention.remember(draws(generator, 2, S, 4))
    with pytest.raises(ValueError, match="does not match that of the weights"):
        attention.remember(draws(generator, 2, S, D, dtype=torch.float32))
    with pytest.raises(TypeError, match="expected values to be a Tensor, got list"):
        attention.remember([[1.0]])  # pyright: ignore[reportArgumentType] (that is what is tested)
    memory = attention.remember(draws(generator, 2, S, D))
    with pytest.raises(RuntimeError, match=r"expected query \[2, 5\] or \[2, T, 5\]"):
        attention(draws(generator, 3, Q), memory)


def test_every_score_is_in_the_table_of_tests() -> None:
    assert {options["score"] for options in KINDS.values()} == set(SCORES)

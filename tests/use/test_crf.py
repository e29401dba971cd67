"""The CRF beside the sum over all K^T paths, and at the edges: closed ways, large scores."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks import crf as benchmark
from holdfast.nn import CRF, allowed_transitions, chains
from holdfast.nn.tag_schemes import Allowed, may_follow
from tests.helpers import assert_same, unequal_

TAGS = ["O", "B-A", "I-A", "B-B", "I-B"]
SIZES = [(1, 1, 1), (1, 3, 2), (3, 2, 5), (4, 3, 3)]


class Paths(NamedTuple):
    """Every path of a row, `[N, T]`, and its score, `[N]`."""

    tags: Tensor
    scores: Tensor


def enumerate_paths(crf: CRF, emissions: Tensor, allowed: Allowed | None = None) -> Paths:
    """Every path over `[T, K]`, one by one: no recursion."""
    T, K = emissions.shape
    paths = list(itertools.product(range(K), repeat=T))
    start, ways, end = crf.start_transitions, crf.transitions, crf.end_transitions
    found = []
    for path in paths:
        pairs = list(itertools.pairwise(path))
        score = start[path[0]] + end[path[-1]]
        score = score + sum(emissions[t, tag] for t, tag in enumerate(path))
        score = score + sum(ways[pair] for pair in pairs)
        legal = allowed is None or (
            allowed.start[path[0]]
            and allowed.end[path[-1]]
            and all(allowed.transitions[pair] for pair in pairs)
        )
        found.append(score if legal else torch.full_like(score, -math.inf))
    return Paths(torch.tensor(paths).view(-1, T), torch.stack(found))


def problem(
    generator: torch.Generator, T: int, B: int, K: int, *, scale: float = 1.0, **options: Any
) -> tuple[CRF, Tensor, list[int]]:
    """A CRF in float64, emissions `[T, B, K]`, and lengths: T, 1, 0, T - 1."""
    crf = unequal_(CRF(K, dtype=torch.float64, **options), generator)
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.mul_(scale)
    emissions = scale * torch.randn(T, B, K, generator=generator, dtype=torch.float64)
    return crf, emissions, [T, 1, 0, max(1, T - 1)][:B]


def check_everything(
    crf: CRF, emissions: Tensor, lengths: list[int], allowed: Allowed | None = None
) -> None:
    """Partition, marginals, the best path, n-best and likelihoods of each row, by enumeration."""
    n, K = 4, crf.num_tags
    with torch.no_grad():
        log_z = crf.log_partition(emissions, lengths=lengths)
        marginals = crf.marginals(emissions, lengths=lengths)
        best, top = (
            crf.decode(emissions, lengths=lengths),
            crf.n_best(emissions, n, lengths=lengths),
        )
    for row, length in enumerate(lengths):
        assert bool((best[length:, row] == -1).all())
        assert bool((top.tags[:, length:, row] == -1).all())
        assert not marginals[length:, row].any()
        if length == 0:
            assert_same(log_z[row], 0.0 * log_z[row])
            continue
        paths = enumerate_paths(crf, emissions[:length, row], allowed)
        total = torch.logsumexp(paths.scores, 0)
        assert_same(log_z[row], total.detach(), "partition")
        chances = torch.exp(paths.scores - total)
        for t in range(length):
            wanted = torch.stack([chances[paths.tags[:, t] == tag].sum() for tag in range(K)])
            assert_same(marginals[t, row], wanted.detach(), f"marginals of step {t}")
        assert_same(best[:length, row], paths.tags[int(paths.scores.argmax())], "best")
        ordered = paths.scores.sort(descending=True)
        few = min(n, int(paths.scores.isfinite().sum()))
        assert_same(top.tags[:few, :length, row], paths.tags[ordered.indices[:few]], "n best")
        reached = top.log_probs[:few, row] + log_z[row]
        assert_same(reached, ordered.values[:few].detach(), "probabilities of the n best")
        assert bool(top.log_probs[few:, row].isneginf().all())
        assert bool((top.tags[few:, :, row] == -1).all())


@pytest.mark.parametrize(("T", "B", "K"), SIZES)
@pytest.mark.parametrize("scale", [1.0, 8.0, 300.0])
def test_all_paths_one_by_one(
    generator: torch.Generator, T: int, B: int, K: int, scale: float
) -> None:
    crf, emissions, lengths = problem(generator, T, B, K, scale=scale)
    check_everything(crf, emissions, lengths)


@pytest.mark.parametrize("scheme", ["IOB1", "BIO", "BIOES"])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_forbidden_paths_have_no_share(
    generator: torch.Generator, scheme: str, scale: float
) -> None:
    tags = ["O", "B-A", "I-A", "E-A", "S-A"] if scheme == "BIOES" else TAGS
    allowed = allowed_transitions(tags, scheme)
    crf, emissions, lengths = problem(generator, 4, 4, 5, scale=scale, allowed=allowed)
    check_everything(crf, emissions, lengths, allowed)


def test_forbidden_scores_are_not_read(generator: torch.Generator) -> None:
    allowed = allowed_transitions(TAGS, "BIO")
    crf, emissions, lengths = problem(generator, 4, 3, 5, allowed=allowed)
    wanted = crf.log_partition(emissions, lengths=lengths)
    with torch.no_grad():
        crf.transitions.masked_fill_(~allowed.transitions, math.nan)
        crf.start_transitions.masked_fill_(~allowed.start, math.inf)
    found = crf.log_partition(emissions, lengths=lengths)
    assert_same(found, wanted)
    found.sum().backward()
    grads = [parameter.grad for parameter in crf.parameters()]
    assert all(grad is not None and bool(grad.isfinite().all()) for grad in grads)
    assert crf.transitions.grad is not None
    assert not crf.transitions.grad[~allowed.transitions].any()


def _likelihood(crf: CRF, emissions: Tensor, mask: Tensor) -> Tensor:
    """The log-likelihood of sets `[T, K]` of one row, by enumeration."""
    paths = enumerate_paths(crf, emissions)
    inside = mask[torch.arange(len(mask)), paths.tags].all(1)
    return torch.logsumexp(paths.scores[inside], 0) - torch.logsumexp(paths.scores, 0)


def test_known_unknown_and_half_known_tags(generator: torch.Generator) -> None:
    crf, emissions, _ = problem(generator, 4, 2, 3)
    tags = torch.randint(3, (4, 2), generator=generator)
    tags[1, 0], tags[3, 1] = -1, -1
    sets = torch.rand(4, 2, 3, generator=generator) < 0.5
    sets[..., 1] = True
    for given_ in (tags.clamp_min(0), tags, sets):
        mask = given_
        if given_.dtype != torch.bool:
            mask = (given_.unsqueeze(2) == torch.arange(3)) | (given_ < 0).unsqueeze(2)
        found = crf(emissions, given_)
        wanted = torch.stack([_likelihood(crf, emissions[:, b], mask[:, b]) for b in range(2)])
        assert_same(found, wanted)
        mine = torch.autograd.grad(found.sum(), list(crf.parameters()))
        assert_same(mine, torch.autograd.grad(wanted.sum(), list(crf.parameters())))
    nothing = crf(emissions, torch.full((4, 2), -1))
    assert_same(nothing, torch.zeros_like(nothing))


@pytest.mark.parametrize("unknown", [False, True])
def test_gradients_and_their_gradients(generator: torch.Generator, unknown: bool) -> None:
    allowed = allowed_transitions(TAGS[:3], "BIO")
    crf, emissions, lengths = problem(generator, 3, 3, 3, allowed=allowed)
    tags = torch.tensor([[1, 1, 0], [2, 0, 0], [1, 1, 0]])
    if unknown:
        tags[1, 0] = -1

    def likelihood(emissions: Tensor, *parameters: Tensor) -> Tensor:
        names = [name for name, _ in crf.named_parameters()]
        given_ = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(crf, given_, (emissions, tags), {"lengths": lengths})

    inputs = [value.detach().clone().requires_grad_() for value in (emissions, *crf.parameters())]
    assert torch.autograd.gradcheck(likelihood, inputs)
    assert torch.autograd.gradgradcheck(likelihood, inputs)


def test_gradients_of_the_partition(generator: torch.Generator) -> None:
    crf, emissions, lengths = problem(generator, 3, 3, 3)
    emissions.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: crf.log_partition(x, lengths=lengths), emissions)


@pytest.mark.parametrize("scale", [1.0, 10.0, 1000.0])
def test_both_ways_of_summing_agree(generator: torch.Generator, scale: float) -> None:
    crf, emissions, lengths = problem(generator, 200, 4, 7, scale=scale)
    crf.requires_grad_(False)
    scores = crf._scores(emissions, torch.tensor(lengths))
    assert (chains.plan(scores, 1) is None) == (scale == 1000.0)
    slow = chains._in_logs(scores, both=True)
    assert_same(chains.differentiable(scores), slow.log_z)
    assert_same(chains.run(scores, reach=1, both=True), slow)
    assert_same(chains.run(scores, reach=1, both=False).log_z, slow.log_z)


def test_products_are_not_trusted_where_ways_are_closed(generator: torch.Generator) -> None:
    """Then every step may add to the distance between sums, and 200 steps are too many."""
    crf, emissions, _ = problem(generator, 200, 2, 3, allowed=allowed_transitions(TAGS[:3], "BIO"))
    scores = crf.requires_grad_(False)._scores(emissions, None)
    assert crf.reach == 2
    assert chains.plan(scores, 2) is not None
    assert chains.plan(scores, None) is None
    emissions[7, 0, 1] = -math.inf
    assert chains.plan(scores, 1) is not None
    assert chains.plan(scores, 2) is None


def test_the_benchmark_runs() -> None:
    rows = list(benchmark.measure([(3, 4, 5)], rounds=3, seconds=0.001))
    assert [row.what for row in rows] == ["train", "decode"] * 2
    assert json.loads(benchmark.record(rows, 1, {}))["rows"][0]["shape"] == "B3-T4-K5"
    assert "B3-T4-K5" in next(benchmark.lines(rows[0]))


def test_every_step_makes_sums_smaller() -> None:
    """Emissions want what transitions do not: 600 steps make exp(-1200), which is no number."""
    crf = CRF(2, dtype=torch.float64).requires_grad_(False)
    crf.transitions.copy_(8 * torch.eye(2))
    emissions = 4.0 * torch.eye(2, dtype=torch.float64).repeat(300, 1).unsqueeze(1)
    scores = crf._scores(emissions, None)
    assert chains.plan(scores, 1) is not None
    assert_same(chains.run(scores, reach=1, both=True), chains._in_logs(scores, both=True))


def test_a_row_of_many_steps_in_float32(generator: torch.Generator) -> None:
    crf, emissions, _ = problem(generator, 3000, 1, 4)
    wanted = crf.log_partition(emissions)
    found = crf.float().log_partition(emissions.float())
    assert_same(found, wanted, dtype=torch.float32)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    T=st.integers(1, 4),
    K=st.integers(1, 4),
    scale=st.sampled_from([0.1, 3.0, 50.0, 2000.0]),
    closed=st.floats(0.0, 0.6),
)
def test_any_chain_with_any_constraints(
    seed: int, T: int, K: int, scale: float, closed: float
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        mask = torch.rand(shape, generator=generator) >= closed
        mask.view(-1)[int(torch.randint(mask.numel(), (), generator=generator))] = True
        return mask

    allowed = Allowed(drawn(K), drawn(K, K), drawn(K))
    crf, emissions, lengths = problem(generator, T, 3, K, scale=scale, allowed=allowed)
    possible = [
        length == 0
        or bool(enumerate_paths(crf, emissions[:length, row], allowed).scores.isfinite().any())
        for row, length in enumerate(lengths)
    ]
    with torch.no_grad():
        log_z = crf.log_partition(emissions, lengths=lengths)
        marginals = crf.marginals(emissions, lengths=lengths)
    assert log_z.isfinite().tolist() == possible
    assert bool(marginals.isfinite().all())
    if all(possible):
        check_everything(crf, emissions, lengths, allowed)
    emissions.requires_grad_()
    crf.log_partition(emissions, lengths=lengths).sum().backward()
    grads = [emissions.grad, *(parameter.grad for parameter in crf.parameters())]
    assert all(grad is not None and bool(grad.isfinite().all()) for grad in grads)


def test_a_path_that_products_would_lose(generator: torch.Generator) -> None:
    """The only allowed path is exp(-1000) of what the emissions favor."""
    allowed = Allowed(
        torch.tensor([True, False]),
        torch.tensor([[True, False], [True, True]]),
        torch.tensor([True, True]),
    )
    crf = unequal_(CRF(2, allowed=allowed), generator)
    emissions = torch.tensor([[0.0, 500.0], [0.0, 500.0]])
    assert_same(crf(emissions, torch.tensor([0, 0])), torch.tensor(0.0))


def test_emissions_that_forbid(generator: torch.Generator) -> None:
    crf, emissions, lengths = problem(generator, 4, 3, 3)
    emissions[1, 0, 2] = -math.inf
    emissions.requires_grad_()
    found = crf.log_partition(emissions, lengths=lengths)
    paths = enumerate_paths(crf, emissions[:, 0])
    assert_same(found[0], torch.logsumexp(paths.scores, 0))
    found.sum().backward()
    assert emissions.grad is not None
    assert bool(emissions.grad.isfinite().all())
    assert emissions.grad[1, 0, 2] == 0


def test_what_stands_beyond_the_end_is_not_read(generator: torch.Generator) -> None:
    crf, emissions, _ = problem(generator, 5, 2, 3)
    tags = torch.randint(3, (5, 2), generator=generator)
    wanted = crf(emissions[:3], tags[:3])
    emissions[3:], tags[3:] = math.nan, 99
    found = crf(emissions, tags, lengths=[3, 3])
    assert_same(found, wanted)
    assert_same(crf.decode(emissions, lengths=[3, 3])[:3], crf.decode(emissions[:3]))
    emissions.requires_grad_()
    crf(emissions, tags, lengths=[3, 3]).sum().backward()
    assert emissions.grad is not None
    assert not emissions.grad[3:].any()


def test_layouts(generator: torch.Generator) -> None:
    crf, emissions, lengths = problem(generator, 4, 3, 3)
    first = CRF(3, batch_first=True, dtype=torch.float64)
    first.load_state_dict(crf.state_dict())
    tags = torch.randint(3, (4, 3), generator=generator)
    turned = emissions.transpose(0, 1)
    assert_same(first(turned, tags.T, lengths=lengths), crf(emissions, tags, lengths=lengths))
    for name in ("decode", "marginals"):
        wanted = getattr(crf, name)(emissions, lengths=lengths).transpose(0, 1)
        assert_same(getattr(first, name)(turned, lengths=lengths), wanted)
    mine, theirs = first.n_best(turned, 2), crf.n_best(emissions, 2)
    assert_same(mine.tags, theirs.tags.transpose(1, 2))
    alone = crf.n_best(emissions[:, 1], 2)
    assert_same(tuple(alone), (theirs.tags[:, :, 1], theirs.log_probs[:, 1]))
    assert_same(crf(emissions[:, 1], tags[:, 1]), crf(emissions, tags)[1])
    assert_same(crf.decode(emissions[:, 1]), crf.decode(emissions)[:, 1])
    assert_same(crf.marginals(emissions[:, 1]), crf.marginals(emissions)[:, 1])


def test_gradients_through_marginals(generator: torch.Generator) -> None:
    crf, emissions, _ = problem(generator, 3, 2, 3)
    emissions.requires_grad_()
    assert_same(crf.marginals(emissions), crf.marginals(emissions.detach()).detach())
    assert torch.autograd.gradcheck(crf.marginals, emissions)


def test_transforms(generator: torch.Generator) -> None:
    crf, emissions, _ = problem(generator, 3, 2, 3)
    tags = torch.randint(3, (3, 2), generator=generator)
    wanted = crf(emissions, tags)
    found = torch.func.vmap(lambda x, y: crf(x, y), in_dims=1)(emissions, tags)
    assert_same(found, wanted)
    grad = torch.func.grad(lambda x: crf(x, tags).sum())(emissions)
    emissions.requires_grad_()
    assert_same(grad, torch.autograd.grad(crf(emissions, tags).sum(), emissions)[0])


def test_fewer_bits(generator: torch.Generator) -> None:
    crf, emissions, lengths = problem(generator, 6, 3, 4)
    tags = torch.randint(4, (6, 3), generator=generator)
    rounded = emissions.bfloat16()
    wanted = crf.float()(rounded.float(), tags, lengths=lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = crf(rounded, tags, lengths=lengths)
        found.sum().backward()
    assert_same(found, wanted)
    assert crf.transitions.grad is not None
    assert_same(crf.transitions.grad, torch.autograd.grad(wanted.sum(), crf.transitions)[0])
    crf.bfloat16()
    assert crf(rounded, tags, lengths=lengths).dtype == torch.float32
    assert_same(crf.decode(rounded), crf.float().decode(rounded.float()))


@pytest.mark.parametrize(
    ("scheme", "before", "after", "allowed"),
    [
        ("IOB1", "I-A", "B-A", True),
        ("IOB1", "O", "B-A", False),
        ("IOB1", "I-B", "B-A", False),
        ("IOB1", "O", "I-A", True),
        ("BIO", "I-A", "I-A", True),
        ("BIO", "O", "I-A", False),
        ("BIO", "I-A", "B-B", True),
        ("IOBES", "B-A", "E-A", True),
        ("IOBES", "B-A", "S-A", False),
        ("IOBES", "E-A", "I-A", False),
        ("IOBES", "S-A", "B-A", True),
    ],
)
def test_what_may_follow_what(scheme: str, before: str, after: str, allowed: bool) -> None:
    assert may_follow(before, after, scheme) is allowed


def test_gold_tags_against_the_constraints() -> None:
    crf = CRF(5, allowed=allowed_transitions(TAGS, "BIO"))
    emissions = torch.zeros(3, 2, 5)
    good, bad = torch.tensor([0, 1, 2]), torch.tensor([0, 1, 4])
    with pytest.raises(ValueError, match=r"row 1: .* those of step 2 cannot follow"):
        crf(emissions, torch.stack([good, bad], 1))
    with pytest.raises(ValueError, match=r"row 0: .* those of step 0 cannot come first"):
        crf(emissions, torch.stack([good.flip(0), good], 1))
    ended = CRF(5, allowed=allowed_transitions(["O", "B-A", "I-A", "E-A", "S-A"], "BIOES"))
    with pytest.raises(ValueError, match=r"those of step 2 cannot come last"):
        ended(emissions[:, 0], torch.tensor([0, 0, 1]))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda crf, x: crf(x, torch.zeros(3, 2)), TypeError, "integers, or bool sets"),
        (lambda crf, x: crf(x, torch.zeros(2, 2).long()), RuntimeError, r"size \(3, 2\)"),
        (lambda crf, x: crf(x, torch.full((3, 2), 5)), ValueError, "row 0, step 0: got the tag 5"),
        (lambda crf, x: crf(x[..., :4], torch.zeros(3, 2).long()), RuntimeError, "number of tags"),
        (lambda crf, x: crf.decode(x.double()), ValueError, "dtype of emissions"),
        (lambda crf, x: crf.decode(x[:0]), RuntimeError, "larger than 0"),
        (lambda crf, x: crf.decode(x, lengths=[4, 1]), ValueError, "row 0"),
        (lambda crf, x: crf.decode([x]), TypeError, "emissions to be a Tensor"),
        (lambda crf, x: crf.decode(x[0, 0]), ValueError, "got 1D"),
        (lambda crf, x: crf.n_best(x, 0), ValueError, "n must be"),
        (lambda crf, x: CRF(0), ValueError, "num_tags"),
        (lambda crf, x: CRF(4, allowed=allowed_transitions(TAGS, "BIO")), ValueError, "shape"),
        (lambda crf, x: allowed_transitions(["O", "O"], "BIO"), ValueError, "'O' twice"),
        (lambda crf, x: allowed_transitions(["NN"], "BIO"), ValueError, "'NN' is not a tag"),
        (lambda crf, x: allowed_transitions(["E-A"], "BIO"), ValueError, "'E-A' is not a tag"),
        (lambda crf, x: allowed_transitions(["O"], "BILOU"), ValueError, "scheme should be"),
    ],
)
def test_what_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(CRF(5), torch.zeros(3, 2, 5))

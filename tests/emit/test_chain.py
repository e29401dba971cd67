"""Compiled chains beside PyTorch's operations: sums, nodes, edges and best paths."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from holdfast.compiler import build
from holdfast.compiler.emit.llvm import FORMATS
from holdfast.compiler.emit.llvm_chain import KINDS, emit_chain, padded, scratch_size
from holdfast.compiler.emit.target import TARGETS, host
from holdfast.errors import BuildError
from holdfast.nn import chain_kernels, chains, memory, viterbi
from holdfast.nn.chains import Scores, Sums
from tests.emit.fresh import fresh
from tests.helpers import assert_same

SIZES = [(1, 1, 1), (1, 3, 2), (2, 1, 16), (7, 5, 17), (63, 4, 5), (12, 33, 22), (5, 3, 100)]
DTYPES = [torch.float32, torch.float64]


def draw(
    generator: torch.Generator, size: tuple[int, int, int], dtype: torch.dtype, *, closed: bool
) -> Scores:
    """Scores of rows of unequal length, one of them without steps; NaN where none may look."""
    T, B, K = size

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    parts = [random(K), random(K, K), random(K)]
    if closed:
        for part in parts[:2]:
            part.masked_fill_(torch.rand(part.shape, generator=generator) < 0.3, -math.inf)
    lengths = torch.randint(0, T + 1, (B,), generator=generator)
    lengths[0] = T
    lengths[B // 2 :][:1] = 0 if B > 1 else T
    emissions = random(T, B, K)
    emissions[torch.arange(T).unsqueeze(1) >= lengths] = 0.0
    return Scores(emissions, *parts, counts=lengths)


def rounded(scores: Scores) -> Scores:
    """The same in whole numbers, whose sums are exact."""
    parts = (scores.emissions, scores.start, scores.transitions, scores.end)
    return Scores(*(part.round() for part in parts), counts=scores.counts)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Working memory and results begin as NaN, and as numbers that are no tags."""
    lent, made, empty = memory.borrow, Tensor.new_empty, torch.empty

    def borrow(like: Tensor, *sizes: int) -> list[Tensor]:
        return [piece.fill_(math.nan) for piece in lent(like, *sizes)]

    def fill(found: Tensor) -> Tensor:
        return found.fill_(math.nan if found.is_floating_point() else 10**9)

    monkeypatch.setattr(chain_kernels, "borrow", borrow)
    monkeypatch.setattr(Tensor, "new_empty", lambda self, *a, **k: fill(made(self, *a, **k)))
    monkeypatch.setattr(chain_kernels.torch, "empty", lambda *a, **k: fill(empty(*a, **k)))


def by_operations(scores: Scores, *, both: bool) -> Sums:
    """The definition, and what PyTorch's differentiation makes of it."""
    parts = [scores.emissions, scores.start, scores.transitions, scores.end]
    if not both:
        return Sums(chains.differentiable(scores))
    wide = [part.double().requires_grad_() for part in parts]
    rows = []
    log_z = chains.differentiable(Scores(wide[0], wide[1], wide[2], wide[3], scores.counts))
    for row in log_z:
        rows.append(torch.autograd.grad(row, wide, retain_graph=True, materialize_grads=True))
    nodes = torch.stack([row[0] for row in rows]).sum(0)
    return Sums(log_z.detach(), nodes, torch.stack([row[2] for row in rows]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("both", [False, True])
def test_sums(
    generator: torch.Generator,
    poisoned: None,
    size: tuple[int, int, int],
    dtype: torch.dtype,
    both: bool,
) -> None:
    scores = draw(generator, size, dtype, closed=False)
    found = chains._compiled(scores, dtype, both)
    reference = by_operations(scores, both=both)
    assert found.log_z.dtype == torch.float64
    assert_same(found.log_z.to(dtype), reference.log_z, "log_z", dtype=dtype)
    assert (found.nodes is None) == (found.edges is None) == (not both)
    if both:
        assert_same(found.nodes, reference.nodes, "nodes", dtype=dtype)
        assert_same(found.edges, reference.edges, "edges", dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_chains_with_closed_ways(
    generator: torch.Generator, poisoned: None, dtype: torch.dtype
) -> None:
    scores = draw(generator, (9, 6, 19), dtype, closed=True)
    found = chains._compiled(scores, dtype, both=True)
    reference = chains._scaled(scores, dtype, every=1, both=True)
    assert found.edges is not None
    assert_same(found.log_z.to(dtype), reference.log_z, "log_z", dtype=dtype)
    assert_same(found.nodes, reference.nodes, "nodes")
    assert_same(found.edges, reference.edges, "edges")
    assert bool((found.edges[:, scores.transitions.isneginf()] == 0).all())


def test_no_path_at_all(poisoned: None) -> None:
    closed = torch.full((3, 3), -math.inf)
    scores = Scores(torch.zeros(2, 2, 3), torch.zeros(3), closed, torch.zeros(3))
    for emissions in (scores.emissions, torch.full((2, 2, 3), -math.inf)):
        parts = (emissions, torch.ones(3), torch.zeros(3, 3), torch.ones(3), scores.steps)
        log_z, nodes, _ = chain_kernels.sums(*parts, both=True)
        assert bool(log_z.isneginf().all())
        assert nodes is not None
        assert not nodes.isnan().any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("closed", [False, True])
def test_best_paths_are_those_of_operations(
    generator: torch.Generator,
    poisoned: None,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int, int],
    dtype: torch.dtype,
    closed: bool,
) -> None:
    scores = draw(generator, size, dtype, closed=closed)
    if size[2] == 17:  # sums of whole numbers: many paths are equally good
        scores = rounded(scores)
    path, total = viterbi.best(scores)
    monkeypatch.setattr(viterbi, "plain", lambda *tensors: False)
    expected, best = viterbi.best(scores)
    assert path.tolist() == expected.tolist()
    assert_same(total, best, "total")


@pytest.mark.parametrize("kind", ["sums", "best"])
def test_threads_change_nothing(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    scores = draw(generator, (12, 33, 22), torch.float32, closed=False)

    def run() -> list[Tensor]:
        if kind == "best":
            return list(viterbi.best(scores))
        found = chains._compiled(scores, torch.float32, True)
        return [one for one in found if one is not None]

    alone = run()
    for count in (2, 5):
        monkeypatch.setattr(chain_kernels.threads, "shared", lambda operations, n=count: n)
        for one, other in zip(alone, run(), strict=True):
            assert torch.equal(one, other)


def test_layouts_that_are_not_contiguous(generator: torch.Generator) -> None:
    scores = draw(generator, (6, 4, 5), torch.float64, closed=False)
    turned = scores.emissions.transpose(0, 1).contiguous().transpose(0, 1)
    ways = scores.transitions.t().contiguous().t()
    other = Scores(turned, scores.start, ways, scores.end, scores.counts)
    one, two = (chains._compiled(each, torch.float64, True) for each in (scores, other))
    assert_same(tuple(one), tuple(two))
    assert torch.equal(viterbi.best(scores)[0], viterbi.best(other)[0])


def test_scores_that_lie_far_apart_are_summed_in_float64(generator: torch.Generator) -> None:
    scores = draw(generator, (7, 3, 5), torch.float32, closed=False)
    scores = Scores(8 * scores.emissions, *(scores.start, scores.transitions, scores.end))
    way = chains.plan(scores, 1)
    assert way is not None
    assert way[0] == torch.float64
    found = chains.run(scores, reach=1, both=True)
    reference = by_operations(scores, both=True)
    assert found.nodes is not None
    assert found.nodes.dtype == torch.float32
    assert_same(found.log_z.float(), reference.log_z.float(), "log_z")
    assert_same(found.nodes, reference.nodes, "nodes", dtype=torch.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", TARGETS)
def test_kernels_of_other_targets_assemble(target: str, kind: str) -> None:
    for form in FORMATS.values():
        text = emit_chain(kind, form, TARGETS[target])
        try:
            code = build.assemble(text, TARGETS[target])
        except BuildError as error:
            if "cannot emit for" not in str(error):
                raise
            pytest.skip(str(error))
        assert code.startswith(b"\x7fELF")
        assert b"\0whole\0" in code


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
@pytest.mark.parametrize("dtype", DTYPES)
def test_kernels_of_other_widths_run_here(
    generator: torch.Generator, tmp_path: Path, vector_bytes: int, dtype: torch.dtype
) -> None:
    scores = draw(generator, (7, 5, 11), dtype, closed=False)
    whole = rounded(scores)
    alone = chains._compiled(scores, dtype, both=True), viterbi.best(whole)
    with fresh(tmp_path, replace(host(), vector_bytes=vector_bytes)):
        assert build.chain("best", dtype).tile.lanes == vector_bytes // dtype.itemsize
        found = chains._compiled(scores, dtype, both=True), viterbi.best(whole)
    assert_same(tuple(found[0]), tuple(alone[0]))
    assert torch.equal(found[1][0], alone[1][0])


def test_working_memory() -> None:
    assert [padded(K, 16) for K in (1, 16, 17)] == [16, 16, 32]
    assert [scratch_size(kind, 3, 17, 16) for kind in KINDS] == [64, 32 * 25, 96]


def test_kernels_are_made_once() -> None:
    kernels: list[Any] = [build.chain("best", torch.float32) for _ in range(2)]
    assert kernels[0] is kernels[1]

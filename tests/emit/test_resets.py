"""Rows that begin anew within a sequence, against sequences that were cut there by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from holdfast import Cell
from holdfast.cells import CELLS
from holdfast.compiler.emit import eager
from holdfast.compiler.emit.eager import Resets
from holdfast.compiler.vary import Variation, vary
from tests.emit.problems import Problem, problem
from tests.emit.user_cells import ALL_CELLS
from tests.helpers import Shape, assert_same

SHAPE = Shape(4, 6, 2, 5)
LENGTHS = torch.tensor([6, 0, 3, 5])
STARTS = pytest.mark.parametrize("starts", ["zero", "learned"])
RAGGED = pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])

VARIED: dict[str, Cell] = {
    "masked": vary(
        CELLS["lstm"],
        Variation(recurrent_mask=True, candidate_mask=True, zoneout=("h", "c")),
    ),
    "masked_gru": vary(CELLS["gru"], Variation(recurrent_mask=True, zoneout=("h",))),
    "normed": vary(CELLS["lstm"], Variation(layer_norm=True, clip=0.9)),
    "diagonal": vary(CELLS["lstm"], Variation(diagonal=True, recurrent_mask=True)),
}
EVERY = {**ALL_CELLS, **VARIED}


def _alone(given: Problem, row: int, first: int, last: int) -> Problem:
    """Steps of one row; its masks count on from where the row was cut."""
    cut = given.rows(slice(row, row + 1), last)
    noise = cut.noise
    if noise is not None:
        steps = torch.zeros_like(noise.seeds) if noise.steps is None else noise.steps
        noise = replace(noise, steps=steps + first)
    return cut._replace(x=cut.x[first:], noise=noise, at=None, starts=())


def _row(given: Problem, row: int, length: int) -> list[Tensor]:
    """One row in pieces: out and sequences padded to T, the last h and states."""
    assert given.at is not None
    T, count = given.x.shape[0], len(given.states)
    h, states = given.h[row : row + 1], tuple(state[row : row + 1] for state in given.states)
    fresh = given.starts or tuple(torch.zeros_like(one[0]) for one in (h, *states))
    cuts = [step for step in range(length) if given.at[step, row]]
    pieces: list[list[Tensor]] = []
    for first, last in zip([0, *cuts], [*cuts, length], strict=True):
        if first in cuts:
            h, *others = (start.unsqueeze(0) for start in fresh)
            states = tuple(others)
        if first < last:
            piece = _alone(given, row, first, last)._replace(h=h, states=states)
            out, h, *rest = piece.run("eager", sequences=True)
            states = tuple(rest[:count])
            pieces.append([out, *rest[count:]])
    widths = [h.shape[1], *(state.shape[1] for state in states)]
    rests = [given.x.new_zeros((T - length, 1, width)) for width in widths]
    out, *sequences = (
        torch.cat([*(piece[number] for piece in pieces), rest]) for number, rest in enumerate(rests)
    )
    return [out, h, *states, *sequences]


def _by_hand(given: Problem, lengths: Tensor | None) -> list[Tensor]:
    """Out, last h, last states and sequences, row by row and piece by piece."""
    T, B = given.x.shape[:2]
    counts = [T] * B if lengths is None else lengths.tolist()
    rows = [_row(given, row, length) for row, length in enumerate(counts)]
    return [torch.cat(parts, -2) for parts in zip(*rows, strict=True)]


@RAGGED
@STARTS
@pytest.mark.parametrize("name", EVERY)
def test_a_reset_is_a_cut(
    name: str, starts: str, lengths: Tensor | None, generator: torch.Generator
) -> None:
    given = problem(EVERY[name], SHAPE, generator, resets=starts)
    assert given.at is not None
    given.at[0, 3] = given.at[5, 0] = True
    given.at[2:4, 2] = True
    given.at[:, 1] = torch.tensor([False, False, True, False, False, True])
    mine, reference = given.run("eager", lengths=lengths, sequences=True), _by_hand(given, lengths)
    assert_same(mine, reference, "outputs")
    incoming = [torch.rand(one.shape, generator=generator, dtype=one.dtype) for one in reference]
    found = given.gradients(mine, incoming)
    assert_same(found, given.gradients(reference, incoming), "gradients")


@STARTS
def test_with_a_projection_or_heads(starts: str, generator: torch.Generator) -> None:
    for heads, projection in ((1, 3), (2, 0)):
        given = problem(
            CELLS["lstm"],
            SHAPE._replace(H=6),
            generator,
            heads=heads,
            projection=projection,
            resets=starts,
        )
        mine, reference = given.run("eager", sequences=True), _by_hand(given, None)
        assert_same(mine, reference, f"{heads} heads, projection {projection}")


def test_a_learned_start_gets_the_gradient_of_every_reset(generator: torch.Generator) -> None:
    given = problem(CELLS["lstm"], SHAPE, generator, resets="learned")
    assert given.at is not None
    given.at.zero_()
    given.at[0] = True
    out = given.run("eager")[0]
    h, c = (one.detach().repeat(SHAPE.B, 1).requires_grad_() for one in given.starts)
    plain = given._replace(h=h, states=(c,), at=None)
    reference = plain.run("eager")[0]
    assert_same(out, reference)
    found = torch.autograd.grad(out.sum(), given.starts)
    wanted = torch.autograd.grad(reference.sum(), (h, c))
    assert_same(found, tuple(gradient.sum(0) for gradient in wanted), "sums over the rows")


def test_what_was_before_a_reset_gets_no_gradient(generator: torch.Generator) -> None:
    given = problem(CELLS["lstm"], SHAPE, generator, resets="zero")
    assert given.at is not None
    given.at.zero_()
    given.at[3, 1] = True
    out = given.run("eager")[0]
    d_x, d_h = torch.autograd.grad(out[3:].square().sum(), [given.x, given.h])
    assert not d_x[:3, 1].any()
    assert not d_h[1].any()
    assert d_x[:3, 0].any()
    assert d_h[0].any()


def test_a_wrong_number_before_a_reset_does_not_cross_it(generator: torch.Generator) -> None:
    given = problem(CELLS["lstm"], SHAPE, generator, resets="zero")
    assert given.at is not None
    given.at.zero_()
    given.at[3] = True
    wanted = given.run("eager")[0][3:]
    with torch.no_grad():
        given.x[1] = float("nan")
        given.h[2] = float("inf")
    out = given.run("eager")[0]
    assert out[2].isnan().all()
    assert_same(out[3:], wanted)


@RAGGED
def test_no_reset_is_no_reset(lengths: Tensor | None, generator: torch.Generator) -> None:
    given = problem(CELLS["gru"], SHAPE, generator, resets="learned")
    plain = given._replace(at=None, starts=())
    never = given._replace(at=torch.zeros(SHAPE.T, SHAPE.B, dtype=torch.bool))
    assert_same(never.run("eager", lengths=lengths), plain.run("eager", lengths=lengths))


def test_a_reset_behind_the_end_has_no_effect(generator: torch.Generator) -> None:
    given = problem(CELLS["lstm"], SHAPE, generator, resets="learned")
    assert given.at is not None
    valid = torch.arange(SHAPE.T).unsqueeze(1) < LENGTHS
    mine = given._replace(at=given.at & valid).run("eager", lengths=LENGTHS)
    assert_same(given._replace(at=given.at | ~valid).run("eager", lengths=LENGTHS), mine)


def test_zeros_are_the_start_where_none_is_given(generator: torch.Generator) -> None:
    given = problem(CELLS["lstm"], SHAPE, generator, resets="zero")
    zeros = tuple(torch.zeros(SHAPE.H, dtype=torch.float64) for _ in range(2))
    assert_same(given._replace(starts=zeros).run("eager"), given.run("eager"))


@pytest.mark.parametrize("name", VARIED)
@pytest.mark.parametrize("cut", [1, 4])
def test_a_sequence_in_chunks_draws_the_same_masks(
    name: str, cut: int, generator: torch.Generator
) -> None:
    given = problem(VARIED[name], SHAPE, generator, resets="zero")
    assert given.at is not None
    whole = given.run("eager", sequences=True)
    count = len(given.states)
    first = given._replace(x=given.x[:cut], at=given.at[:cut])
    out, h, *rest = first.run("eager", sequences=True)
    noise = given.noise
    if noise is not None and noise.steps is not None:
        noise = replace(noise, steps=noise.steps + cut)
    second = given._replace(
        x=given.x[cut:], at=given.at[cut:], h=h, states=tuple(rest[:count]), noise=noise
    )
    later = second.run("eager", sequences=True)
    assert_same(torch.cat([out, later[0]]), whole[0], "out")
    assert_same(later[1 : 2 + count], whole[1 : 2 + count], "last states")


@pytest.mark.parametrize("name", ["lstm", "gru", "masked", "normed"])
def test_gradcheck_with_resets_masks_and_lengths(name: str, generator: torch.Generator) -> None:
    given = problem(EVERY[name], Shape(3, 3, 2, 2), generator, resets="learned")
    lengths = torch.tensor([3, 0, 2])

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(given.with_inputs(inputs).run("eager", lengths=lengths, sequences=True))

    assert torch.autograd.gradcheck(run, given.inputs)


def test_resets_of_packed_input_are_refused(generator: torch.Generator) -> None:
    given = problem(CELLS["lstm"], SHAPE, generator)
    arguments = (given.cell, given.x.flatten(0, 1), given.parameters, given.h, given.states)
    at = torch.zeros(SHAPE.T, SHAPE.B, dtype=torch.bool)
    sizes = torch.full((SHAPE.T,), SHAPE.B)
    with pytest.raises((ValueError, RuntimeError)):
        eager.run(*arguments, batch_sizes=sizes, resets=Resets(at))

"""The definition itself: cells against their papers' equations, lengths, packing, sequences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from holdfast.cells import CELLS
from holdfast.compiler.emit import eager
from holdfast.nn.untie import untie
from tests.emit.problems import Problem, problem
from tests.emit.references import REFERENCES
from tests.emit.user_cells import ALL_CELLS
from tests.helpers import Shape, assert_same

SHAPE = Shape(3, 4, 2, 5)


def _loop(given: Problem) -> list[Tensor]:
    """All outputs of a full batch by the equations above: out, last h, last states, sequences."""
    h, states = given.h, given.states
    out, kept = [], []
    for x_t in given.x:
        h, states = REFERENCES[given.cell.name](x_t, h, states, given.parameters)
        out.append(h)
        kept.append(states)
    sequences = [torch.stack(values) for values in zip(*kept, strict=True)]
    return [torch.stack(out), h, *states, *sequences]


def _kept(given: Problem) -> Problem:
    """The problem with the parameters that a layer keeps: of a tied gate not all rows."""
    _, size = given.cell.measure(given.parameters)
    sizes = given.cell.stored(SHAPE.I, size)
    kept = {
        name: value.detach()[: sizes[name][0]].requires_grad_()
        for name, value in given.parameters.items()
    }
    return given._replace(parameters=kept)


def test_equations_belong_to_cells() -> None:
    """A cell may be without a second statement of its equations; one without a cell is a slip."""
    assert set(REFERENCES) <= set(CELLS)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_cell_is_its_equations(name: str, generator: torch.Generator) -> None:
    given = _kept(problem(CELLS[name], SHAPE, generator))
    with torch.no_grad():
        for state in given.states:
            state.mul_(3.0)  # so that what is bounded reaches its bound
    whole = untie(given.cell, given.parameters, given.h.shape[1])
    mine = given._replace(parameters=whole).run("eager", sequences=True)
    reference = _loop(given)
    assert_same(mine, reference, name)
    incoming = [torch.rand(one.shape, generator=generator, dtype=one.dtype) for one in reference]
    assert_same(given.gradients(mine, incoming), given.gradients(reference, incoming), name)


LENGTHS = torch.tensor([4, 0, 2])


@pytest.mark.parametrize("name", ALL_CELLS)
def test_lengths_are_each_row_alone(name: str, generator: torch.Generator) -> None:
    given = problem(ALL_CELLS[name], SHAPE, generator)
    out, h, *rest = given.run("eager", lengths=LENGTHS, sequences=True)
    count = len(given.states)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = given.rows(slice(row, row + 1), length)
        reference = alone.run("eager", sequences=True)
        assert_same(out[:length, row : row + 1], reference[0], f"out, row {row}")
        assert_same(h[row : row + 1], reference[1], f"last h, row {row}")
        assert not out[length:, row].any(), "zero behind the end"
        for last, alone_last in zip(rest[:count], reference[2 : 2 + count], strict=True):
            assert_same(last[row : row + 1], alone_last, f"last state, row {row}")
        for kept, alone_kept in zip(rest[count:], reference[2 + count :], strict=True):
            assert_same(kept[:length, row : row + 1], alone_kept, f"sequence, row {row}")
            assert not kept[length:, row].any(), "zero behind the end"


def test_what_stands_behind_the_end_has_no_effect(generator: torch.Generator) -> None:
    given = problem(CELLS["peephole"], SHAPE, generator)
    before = given.run("eager", lengths=LENGTHS)
    wanted = given.gradients(before, [torch.ones_like(one) for one in before])
    with torch.no_grad():
        for row, length in enumerate(LENGTHS.tolist()):
            given.x[length:, row] = float("nan")
    after = given.run("eager", lengths=LENGTHS)
    assert_same(after, before)
    assert_same(given.gradients(after, [torch.ones_like(one) for one in after]), wanted)


@pytest.mark.parametrize("name", ALL_CELLS)
def test_packed_is_the_padded_result_without_padding(name: str, generator: torch.Generator) -> None:
    given = problem(ALL_CELLS[name], SHAPE, generator)
    lengths = torch.tensor([4, 3, 1])
    packed = pack_padded_sequence(given.x, lengths)
    out, *rest = given._replace(x=packed.data).run(
        "eager", batch_sizes=packed.batch_sizes, sequences=True
    )
    padded_out, *padded_rest = given.run("eager", lengths=lengths, sequences=True)
    count = 1 + len(given.states)
    assert_same(out, pack_padded_sequence(padded_out, lengths).data, "out")
    assert_same(rest[:count], padded_rest[:count], "last h and states")
    for kept, padded in zip(rest[count:], padded_rest[count:], strict=True):
        assert_same(kept, pack_padded_sequence(padded, lengths).data, "sequence")


def test_no_steps_at_all(generator: torch.Generator) -> None:
    given = problem(CELLS["lstm"], SHAPE, generator)
    out, h, c, sequence = given._replace(x=given.x[:0]).run("eager", sequences=True)
    assert out.shape == sequence.shape == (0, 3, 5)
    assert_same((h, c), (given.h, *given.states))


def test_sequences_only_where_they_are_asked_for(generator: torch.Generator) -> None:
    given = problem(CELLS["lstm"], SHAPE, generator)
    arguments = (given.cell, given.x, given.parameters, given.h, given.states)
    assert eager.run(*arguments).sequences is None
    kept = eager.run(*arguments, sequences=True).sequences
    assert kept is not None
    assert_same(kept[0][-1], eager.run(*arguments).states[0])


def test_a_projection_maps_h_after_every_step(generator: torch.Generator) -> None:
    given = problem(CELLS["lstm"], SHAPE, generator)
    reference = torch.nn.LSTM(SHAPE.I, SHAPE.H, proj_size=2, dtype=torch.float64)
    with torch.no_grad():
        for parameter in reference.parameters():
            values = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(2 * values - 1)
    parameters = {name.removesuffix("_l0"): value for name, value in reference.named_parameters()}
    h = torch.rand(SHAPE.B, 2, generator=generator, dtype=torch.float64)
    out, (last, c) = reference(given.x, (h[None], given.states[0][None]))
    mine = eager.run(given.cell, given.x, parameters, h, given.states)
    assert_same((mine.out, mine.h, *mine.states), (out, last[0], c[0]))

"""The compiled target gives what the definition gives: outputs, last states, every gradient.

The reference is always the definition in float64, on the very numbers that the target gets. One
size of each cell of `ALL_CELLS` runs by default, such that every size and both dtypes have their
cells; the rest are slow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from holdfast import Cell
from holdfast.cells import CELLS
from tests.emit.compare import compare, compiled, incoming, ragged_lengths
from tests.emit.problems import Problem, problem
from tests.emit.user_cells import ALL_CELLS, EVERY_CELL, OTHERS
from tests.helpers import SHAPES, Shape, assert_same

KINDS = (torch.float32, torch.float64)
SIZES = [*(one.values[0] for one in SHAPES), Shape(33, 2, 3, 16), Shape(33, 7, 5, 5)]


@pytest.fixture(params=[1, 2], ids=["threads1", "threads2"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """A number of threads for the batch, and the old one afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def _combinations() -> list[Any]:
    combined = []
    for number, cell in enumerate(ALL_CELLS.values()):
        for position, size in enumerate(SIZES):
            for index, dtype in enumerate(KINDS):
                often = (position, index) == (5 * number % len(SIZES), number % len(KINDS))
                kind = str(dtype).removeprefix("torch.")
                name = f"{cell.name}-{size}-{kind}"
                marks = () if often else (pytest.mark.slow,)
                combined.append(pytest.param(cell, size, dtype, id=name, marks=marks))
    for number, cell in enumerate(OTHERS.values()):
        for position, size in enumerate(SIZES):
            dtype = KINDS[(number + position) % len(KINDS)]
            name = f"{cell.name}-{size}-{str(dtype).removeprefix('torch.')}"
            combined.append(pytest.param(cell, size, dtype, id=name, marks=pytest.mark.slow))
    return combined


EVERY = pytest.mark.parametrize(("cell", "size", "dtype"), _combinations())
CELL = pytest.mark.parametrize("cell", EVERY_CELL)


@EVERY
def test_full_batch(
    cell: Cell, size: Shape, dtype: torch.dtype, generator: torch.Generator
) -> None:
    given = problem(cell, size, generator, dtype)
    compiled(given)
    compare(given, generator)


@EVERY
def test_ragged_batch(
    cell: Cell, size: Shape, dtype: torch.dtype, generator: torch.Generator
) -> None:
    given = problem(cell, size, generator, dtype)
    compiled(given)
    compare(given, generator, lengths=ragged_lengths(size, generator))


@EVERY
def test_packed_batch(
    cell: Cell, size: Shape, dtype: torch.dtype, generator: torch.Generator
) -> None:
    given = problem(cell, size, generator, dtype)
    compiled(given)
    lengths = ragged_lengths(size, generator).clamp(min=1).sort(descending=True).values
    packed = pack_padded_sequence(given.x.detach(), lengths)
    given = given._replace(x=packed.data.requires_grad_())
    compare(given, generator, batch_sizes=packed.batch_sizes)


@pytest.mark.parametrize("B", [1, 2, 3, 8, 33])
@pytest.mark.parametrize("name", ["lstm", "gru", "three_states"])
def test_threads_share_the_batch(
    name: str, B: int, threads: int, generator: torch.Generator
) -> None:
    size = Shape(B, 5, 3, 16)
    given = problem(ALL_CELLS[name], size, generator, torch.float32)
    compiled(given)
    compare(given, generator)
    compare(given, generator, lengths=ragged_lengths(size, generator))
    assert torch.get_num_threads() == threads


@CELL
def test_a_wrong_number_spoils_its_row_and_no_other(cell: Cell, generator: torch.Generator) -> None:
    """NaN and infinities go where the definition lets them go.

    Infinities stand in x only: a target may saturate a gate at 1e-308, which times infinity is
    infinity, where the definition's 0 times infinity is NaN. So they stand in cells only that are
    known to squash what a gate multiplies.
    """
    size = Shape(8, 4, 3, 5)
    given = problem(cell, size, generator)
    compiled(given)
    with torch.no_grad():
        for place, value in (((1, 0, 1), "nan"), ((2, 2, 0), "inf"), ((0, 4, 2), "-inf")):
            given.x[place] = float("nan" if cell.name in OTHERS else value)
        given.h[5, 3] = float("nan")
        for state in given.states:
            state[7, 2] = float("nan")
        reference = given.run("eager", sequences=True)
        assert_same(given.run("llvm", sequences=True), reference, "training")
        assert_same(given.run("llvm"), reference[: 2 + len(given.states)], "inference")
    clean = [row for row in range(size.B) if row in (1, 3)]
    assert torch.isfinite(reference[0][:, clean]).all()


@CELL
@pytest.mark.parametrize(
    "ragged",
    [pytest.param(False, id="full", marks=pytest.mark.slow), pytest.param(True, id="ragged")],
)
def test_gradcheck_of_the_compiled_target(
    cell: Cell, ragged: bool, generator: torch.Generator
) -> None:
    given = problem(cell, Shape(3, 2, 3, 5), generator)
    compiled(given)
    lengths = torch.tensor([2, 0, 1]) if ragged else None
    count = len(given.states)

    def run(x: Tensor, h: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        parameters = dict(zip(given.parameters, rest[count:], strict=True))
        states = tuple(rest[:count])
        varied = Problem(cell, x, parameters, h, states)
        return tuple(varied.run("llvm", lengths=lengths, sequences=True))

    assert torch.autograd.gradcheck(run, given.inputs)


SMALL = Shape(3, 4, 3, 5)


@CELL
def test_gradients_of_each_output_alone(cell: Cell, generator: torch.Generator) -> None:
    """The others then have no gradient at all, which is not the same as one that is zero."""
    given = problem(cell, SMALL, generator)
    compiled(given)
    mine, reference = (given.run(name, sequences=True) for name in ("llvm", "eager"))
    for number, gradient in enumerate(incoming(mine, generator)):
        if reference[number].requires_grad:
            found, wanted = (
                given.gradients([outputs[number]], [gradient], again=True)
                for outputs in (mine, reference)
            )
            assert_same(found, wanted, f"gradients of output {number}")


@pytest.mark.parametrize("kept", ["x", "h", "states", "parameters"])
def test_gradients_of_some_inputs_only(kept: str, generator: torch.Generator) -> None:
    given = problem(CELLS["peephole"], SMALL, generator)
    compiled(given)
    for tensor in given.inputs:
        tensor.requires_grad_(False)
    value = getattr(given, kept)
    parts = list(value.values()) if isinstance(value, dict) else value
    wanted = [parts] if isinstance(parts, Tensor) else list(parts)
    for tensor in wanted:
        tensor.requires_grad_()
    gradients = []
    for name in ("llvm", "eager"):
        out, _, c = given.run(name)
        gradients.append(torch.autograd.grad((out * out).sum() + c.sum(), wanted))
    assert_same(gradients[0], gradients[1], kept)


@CELL
def test_without_the_biases_of_the_gates(cell: Cell, generator: torch.Generator) -> None:
    given = problem(cell, SMALL, generator)
    weights = {
        name: value
        for name, value in given.parameters.items()
        if name not in ("bias_ih", "bias_hh")
    }
    given = given._replace(parameters=weights)
    compiled(given)
    compare(given, generator)


def test_tensors_need_not_be_contiguous(generator: torch.Generator) -> None:
    given = problem(CELLS["peephole"], SMALL, generator)
    compiled(given)
    B, T, I, H = SMALL.B, SMALL.T, SMALL.I, SMALL.H

    def values(*size: int) -> Tensor:
        return torch.rand(size, generator=generator, dtype=torch.float64) - 0.5

    strange = given._replace(
        x=values(B, I, T).permute(2, 0, 1).requires_grad_(),
        h=values(1, H).expand(B, H).requires_grad_(),
        states=(values(H, B).T.requires_grad_(),),
        parameters={
            name: (
                value.detach().T.contiguous().T if value.dim() == 2 else value.detach()
            ).requires_grad_()
            for name, value in given.parameters.items()
        },
    )
    plain = strange.double()
    mine, reference = strange.run("llvm", sequences=True), plain.run("eager", sequences=True)
    assert_same(mine, reference)
    gradients = [
        one.transpose(0, -1).contiguous().transpose(0, -1) for one in incoming(mine, generator)
    ]
    assert_same(strange.gradients(mine, gradients), plain.gradients(reference, gradients))


def test_lengths_of_every_integer_kind(generator: torch.Generator) -> None:
    given = problem(CELLS["lstm"], SMALL, generator)
    compiled(given)
    reference = given.run("eager", lengths=torch.tensor([4, 0, 2]))
    for dtype in (torch.int64, torch.int32, torch.int16, torch.uint8):
        lengths = torch.tensor([4, 0, 2], dtype=dtype)
        assert_same(given.run("llvm", lengths=lengths), reference, str(dtype))


def test_what_stands_behind_the_end_has_no_effect(generator: torch.Generator) -> None:
    given = problem(CELLS["gru"], SMALL, generator)
    compiled(given)
    lengths = torch.tensor([4, 0, 2])
    reference = given.run("eager", lengths=lengths)
    wanted = given.gradients(reference, [torch.ones_like(one) for one in reference])
    with torch.no_grad():
        for row, length in enumerate(lengths.tolist()):
            given.x[length:, row] = float("nan")
    mine = given.run("llvm", lengths=lengths)
    assert_same(mine, reference)
    assert_same(given.gradients(mine, [torch.ones_like(one) for one in mine]), wanted)


def test_the_inputs_stay_as_they_were(generator: torch.Generator) -> None:
    given = problem(CELLS["peephole"], SMALL, generator)
    compiled(given)
    before = [tensor.detach().clone() for tensor in given.inputs]
    mine = given.run("llvm", sequences=True)
    given.gradients(mine, incoming(mine, generator))
    assert_same([tensor.detach() for tensor in given.inputs], before)

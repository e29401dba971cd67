"""PyTorch's transforms and checks with masks and resets: the definition, and the operators."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from holdfast import Cell
from holdfast.cells import CELLS
from holdfast.compiler.emit.eager import Resets
from holdfast.compiler.noise import Noise
from holdfast.compiler.vary import vary
from holdfast.nn import library, operators
from tests.emit.problems import Problem, problem, variations
from tests.helpers import Shape, assert_same

SHAPE = Shape(3, 4, 2, 5)
LENGTHS = torch.tensor([4, 0, 3])
VARIED: dict[str, Cell] = {
    f"{cell}-{name}": vary(CELLS[cell], variations(CELLS[cell])[name])
    for cell, name in (("lstm", "masks"), ("lstm", "layer_norm"), ("gru", "masks_diagonal"))
}
NEEDS = [
    pytest.param((True, True), id="x-and-h"),
    pytest.param((False, False), id="weights"),
]
EVERY = pytest.mark.parametrize("cell", VARIED.values(), ids=VARIED)


def _out(given: Problem, x: Tensor, noise: Noise | None = None) -> Tensor:
    """The output by the target that is chosen where the call stands."""
    backend = operators.select(given.cell, x, given.parameters)[0]
    resets = None if given.at is None else Resets(given.at, given.starts)
    return operators.run(
        backend,
        given.cell,
        x,
        given.parameters,
        given.h,
        given.states,
        lengths=LENGTHS,
        noise=noise or given.noise,
        resets=resets,
    ).out


def _frozen(cell: Cell, generator: torch.Generator) -> Problem:
    given = problem(cell, SHAPE, generator, resets="learned")
    for tensor in given.inputs:
        tensor.requires_grad_(False)
    return given


@EVERY
def test_gradient_of_a_function(cell: Cell, generator: torch.Generator) -> None:
    given = _frozen(cell, generator)

    def loss(x: Tensor) -> Tensor:
        return _out(given, x).square().sum()

    x = given.x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(x), x)
    assert_same(torch.func.grad(loss)(given.x), expected)


@EVERY
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_forward_mode_is_the_transpose_of_reverse_mode(
    cell: Cell, generator: torch.Generator
) -> None:
    given = _frozen(cell, generator)
    tangent = torch.rand(given.x.shape, generator=generator, dtype=given.x.dtype)
    out, pushed, *_ = torch.func.jvp(lambda x: _out(given, x), (given.x,), (tangent,))
    x = given.x.clone().requires_grad_()
    reference = _out(given, x)
    assert_same(out, reference, "value")
    incoming = torch.rand(out.shape, generator=generator, dtype=out.dtype)
    (pulled,) = torch.autograd.grad(reference, x, incoming)
    assert_same((pushed * incoming).sum(), (pulled * tangent).sum(), "inner products")


@EVERY
def test_many_inputs_at_once(cell: Cell, generator: torch.Generator) -> None:
    """The masks stay those of the rows, whichever member of the ensemble looks at them."""
    given = _frozen(cell, generator)
    many = torch.rand((4, *given.x.shape), generator=generator, dtype=given.x.dtype)
    mapped = torch.func.vmap(lambda x: _out(given, x))(many)
    assert_same(mapped, torch.stack([_out(given, x) for x in many]))


def test_many_seeds_at_once(generator: torch.Generator) -> None:
    given = _frozen(VARIED["lstm-masks"], generator)
    table = given.noise.table if given.noise else None
    assert table is not None
    seeds = torch.arange(5 * SHAPE.B).view(5, SHAPE.B)
    mapped = torch.func.vmap(lambda one: _out(given, given.x, Noise(one, table)))(seeds)
    assert_same(mapped, torch.stack([_out(given, given.x, Noise(one, table)) for one in seeds]))
    assert not torch.equal(mapped[0], mapped[1])


def _arguments(given: Problem) -> tuple[Any, ...]:
    tensors = [given.parameters[name] for name in library.names(given.cell, True)]
    bias = "bias_ih" in given.parameters
    groups = (list(given.states), list(given.starts), tensors)
    noise = given.noise
    drawn = (None, None, None) if noise is None else (noise.seeds, noise.steps, noise.table)
    return (given.x, given.h, *groups, bias, LENGTHS, None, given.at, *drawn, False, given.cell.key)


@EVERY
@pytest.mark.plain_memory
def test_opcheck_of_training(cell: Cell, generator: torch.Generator) -> None:
    given = problem(cell, SHAPE, generator, resets="learned")
    torch.library.opcheck(torch.ops.holdfast.train.default, _arguments(given))


@EVERY
@pytest.mark.plain_memory
@pytest.mark.parametrize("sequences", [False, True])
def test_opcheck_of_inference(cell: Cell, sequences: bool, generator: torch.Generator) -> None:
    given = _frozen(cell, generator)
    torch.library.opcheck(torch.ops.holdfast.infer.default, (*_arguments(given), sequences))


@EVERY
@pytest.mark.plain_memory
@pytest.mark.parametrize("needs", NEEDS)
def test_opcheck_of_the_backward_pass(
    cell: Cell, needs: tuple[bool, bool], generator: torch.Generator
) -> None:
    given = _frozen(cell, generator)
    out, *kept = torch.ops.holdfast.train(*_arguments(given))
    d_out = torch.rand(out.shape, generator=generator, dtype=out.dtype)
    arriving = (d_out, [None] * (len(kept) - 1), *needs)
    arguments = (*_arguments(given), out, kept[:-1], kept[-1], *arriving)
    torch.library.opcheck(torch.ops.holdfast.backward.default, arguments)

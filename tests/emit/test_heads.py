"""A block-diagonal recurrence: the dense one with zeros between the heads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from holdfast import Cell
from holdfast.compiler.vary import Variation, vary
from holdfast.nn import operators
from tests.emit.problems import Problem, problem
from tests.emit.user_cells import ALL_CELLS
from tests.helpers import Shape, assert_same

SHAPE = Shape(3, 5, 4, 12)
DENSE = {name: made for name, made in ALL_CELLS.items() if "weight_hh" in made.shapes(1, 1)}
VARIED: dict[str, Cell] = {
    "masked": vary(ALL_CELLS["lstm"], Variation(recurrent_mask=True, zoneout=("h", "c"))),
    "masked_gru_2014": vary(ALL_CELLS["gru_2014"], Variation(recurrent_mask=True)),
    "normed": vary(ALL_CELLS["lstm"], Variation(layer_norm=True)),
}
EVERY = {**DENSE, **VARIED}
SLOW = [pytest.param(heads, marks=pytest.mark.slow) for heads in (1, 12)]
HEADS = pytest.mark.parametrize("heads", [2, 3, *SLOW])


def _dense(weight: Tensor, width: int) -> Tensor:
    """R with zeros outside of the blocks, gate by gate: `[G * H, width]`."""
    columns = weight.shape[1]
    gates = weight.reshape(-1, SHAPE.H, columns)
    whole = torch.zeros(len(gates), SHAPE.H, width, dtype=weight.dtype)
    per_head = SHAPE.H * columns // width
    for head in range(width // columns):
        rows = slice(head * per_head, (head + 1) * per_head)
        whole[:, rows, head * columns : (head + 1) * columns] = gates[:, rows]
    return whole.flatten(0, 1)


def _pair(given: Problem) -> Problem:
    """The same problem with a dense R, made of the very leaves of the first."""
    weight = _dense(given.parameters["weight_hh"], given.h.shape[1])
    return given._replace(parameters={**given.parameters, "weight_hh": weight})


@HEADS
@pytest.mark.parametrize("lengths", [None, torch.tensor([5, 0, 3])], ids=["full", "ragged"])
@pytest.mark.parametrize("name", EVERY)
def test_heads_do_not_see_each_other(
    name: str, lengths: Tensor | None, heads: int, generator: torch.Generator
) -> None:
    given = problem(EVERY[name], SHAPE, generator, heads=heads)
    gates = sum(acc.h for acc in given.cell.accumulators)
    assert given.parameters["weight_hh"].shape == (gates * SHAPE.H, SHAPE.H // heads)
    mine = given.run("eager", lengths=lengths, sequences=True)
    reference = _pair(given).run("eager", lengths=lengths, sequences=True)
    assert_same(mine, reference, "outputs")
    incoming = [torch.rand(one.shape, generator=generator, dtype=one.dtype) for one in reference]
    assert_same(given.gradients(mine, incoming), given.gradients(reference, incoming), "gradients")


def test_a_head_depends_on_its_own_units_only(generator: torch.Generator) -> None:
    given = problem(ALL_CELLS["lstm"], SHAPE, generator, heads=3)
    out = given.run("eager")[0]
    for head in range(3):
        units = slice(4 * head, 4 * head + 4)
        (d_h,) = torch.autograd.grad(out[:, :, units].square().sum(), given.h, retain_graph=True)
        others = torch.ones(SHAPE.H, dtype=torch.bool)
        others[units] = False
        assert d_h[:, units].all()
        assert not d_h[:, others].any()


def test_as_many_heads_as_units_are_a_diagonal_recurrence(generator: torch.Generator) -> None:
    lstm = ALL_CELLS["lstm"]
    given = problem(lstm, SHAPE, generator, heads=SHAPE.H)
    weights = dict(given.parameters)
    blocks = weights.pop("weight_hh").squeeze(1).chunk(4)
    weights |= {f"u_{gate}": block for gate, block in zip("ifgo", blocks, strict=True)}
    weights["bias_ih"] = weights["bias_ih"] + weights.pop("bias_hh")
    diagonal = given._replace(cell=vary(lstm, Variation(diagonal=True)), parameters=weights)
    mine, reference = given.run("eager"), diagonal.run("eager")
    assert_same(mine, reference, "outputs")
    incoming = [torch.rand(one.shape, generator=generator, dtype=one.dtype) for one in reference]
    assert_same(given.gradients(mine, incoming), given.gradients(reference, incoming), "gradients")


@pytest.mark.parametrize("name", ["lstm", "gru", "gru_2014"])
def test_gradcheck_of_heads(name: str, generator: torch.Generator) -> None:
    given = problem(ALL_CELLS[name], Shape(2, 2, 2, 4), generator, heads=2)

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(given.with_inputs(inputs).run("eager", sequences=True))

    assert torch.autograd.gradcheck(run, given.inputs)


@pytest.mark.parametrize("projection", [6, 1])
def test_a_projection_without_heads(projection: int, generator: torch.Generator) -> None:
    given = problem(ALL_CELLS["lstm"], SHAPE, generator, projection=projection)
    assert given.h.shape == (SHAPE.B, projection)
    out, h, c = given.run("eager")
    assert out.shape == (SHAPE.T, SHAPE.B, projection)
    assert (h.shape, c.shape) == ((SHAPE.B, projection), (SHAPE.B, SHAPE.H))
    assert_same(h, out[-1])
    assert_same((out, h, c), tuple(_pair(given).run("eager")))


@pytest.mark.parametrize("backend", ["eager", "llvm"])
def test_heads_of_a_projection_are_refused(backend: str, generator: torch.Generator) -> None:
    given = problem(ALL_CELLS["lstm"], SHAPE, generator, heads=2, projection=6)
    with pytest.raises((RuntimeError, ValueError), match="heads and a projection"):
        given.run(backend)


@pytest.mark.parametrize("backend", ["eager", "selected"])
@HEADS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["lstm", "gru", "three_states", "masked"])
def test_the_target_that_is_chosen(
    name: str, dtype: torch.dtype, heads: int, backend: str, generator: torch.Generator
) -> None:
    """In the dtype of the problem against the dense definition in float64."""
    given = problem(EVERY[name], SHAPE, generator, dtype, heads=heads)
    chosen = operators.select(given.cell, given.x, given.parameters)[0]
    twin = given.double()
    mine = given.run(chosen if backend == "selected" else backend, sequences=True)
    reference = _pair(twin).run("eager", sequences=True)
    assert_same(mine, reference, "outputs", dtype=dtype)
    incoming = [torch.rand(one.shape, generator=generator, dtype=one.dtype) for one in mine]
    assert_same(
        given.gradients(mine, incoming),
        twin.gradients(reference, [one.double() for one in incoming]),
        "gradients",
        dtype=dtype,
    )

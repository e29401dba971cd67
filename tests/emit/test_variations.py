"""The compiled target gives what the definition gives for varied cells, and so do its gradients.

Masks, norms, clips and activations; rows of unequal length, packed, or beginning anew; heads and a
projection. The reference is always the definition in float64, on the very numbers that the target
gets. What the compiled target does not run is skipped with its reason. Each variation runs by
default with one cell and size; the rest are slow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from holdfast import Cell
from holdfast.cells import CELLS
from holdfast.compiler.vary import Variation, vary
from holdfast.errors import CellError
from holdfast.nn import operators
from tests.emit.problems import Problem, noise_of, problem, variations
from tests.emit.user_cells import ALL_CELLS, CORE
from tests.helpers import SIZES, Shape, assert_same

KINDS = (torch.float32, torch.float64)
SHAPES = (
    Shape(3, 7, 3, 5),
    Shape(8, 4, 3, 40),
    Shape(33, 3, 2, 16),
    Shape(1, 5, 4, 33),
    *(size for size in SIZES if size.H > 1),
)
SMALL = Shape(3, 4, 3, 5)


def _compiled(given: Problem) -> None:
    chosen, reason = operators.select(given.cell, given.x, given.parameters)
    if chosen != "llvm":
        pytest.skip(f"the compiled target does not run: {reason}")


@pytest.fixture(params=[1, 2], ids=["threads1", "threads2"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """A number of threads for the batch, and the old one afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def _kinds_of(made: Cell) -> dict[str, Variation]:
    """The variations that are not just another activation by name."""
    listed = ("gate_", "candidate_")
    return {
        name: options
        for name, options in variations(made).items()
        if not name.startswith(listed) or name == "candidate_mask"
    }


FEW: dict[tuple[str, str], torch.dtype] = {
    ("lstm", "masks"): torch.float64,
    ("lstm", "masks_norm"): torch.float32,
    ("gru", "layer_norm"): torch.float64,
    ("gru_2014", "recurrent_mask"): torch.float32,
    ("peephole", "masks_diagonal"): torch.float64,
}
"""What runs by default: a kernel takes about a second to compile, so the tests share these."""


def _combinations() -> list[Any]:
    """Each variation with each cell in one size; other activations by name with one cell only."""
    combined = []
    for number, made in enumerate(ALL_CELLS.values()):
        kinds = variations(made) if made.name == "lstm" else _kinds_of(made)
        for position, (name, options) in enumerate(kinds.items()):
            often = (made.name, name) in FEW
            size = SHAPES[0 if often else (5 * number + position) % len(SHAPES)]
            dtype = FEW.get((made.name, name), KINDS[(number + position) % len(KINDS)])
            if options.layer_norm and size.I == 1:
                # The norm of `W x` then hardly depends on x: its gradient is a rounding error.
                dtype = torch.float64
            text = f"{made.name}-{name}-{size}-{str(dtype).removeprefix('torch.')}"
            marks = () if often else (pytest.mark.slow,)
            combined.append(pytest.param(made, options, size, dtype, id=text, marks=marks))
    return combined


EVERY = pytest.mark.parametrize(("base", "options", "size", "dtype"), _combinations())


def _some(*cells: str) -> list[Any]:
    """The variations of some cells, in float64."""
    return [
        pytest.param(
            CELLS[cell],
            options,
            id=f"{cell}-{name}",
            marks=() if FEW.get((cell, name)) == torch.float64 else (pytest.mark.slow,),
        )
        for cell in cells
        for name, options in _kinds_of(CELLS[cell]).items()
    ]


SOME = pytest.mark.parametrize(("base", "options"), _some(*CORE))


def _incoming(outputs: list[Tensor], generator: torch.Generator) -> list[Tensor]:
    return [
        torch.rand(one.shape, generator=generator, dtype=torch.float64).to(one.dtype) - 0.3
        for one in outputs
    ]


def _compare(
    made: Problem, generator: torch.Generator, backend: str = "llvm", **layout: Any
) -> None:
    """Training with gradients, then inference with and without sequences."""
    dtype = made.x.dtype
    twin = made.double()
    mine = made.run(backend, sequences=True, **layout)
    reference = twin.run("eager", sequences=True, **layout)
    assert_same(mine, reference, "training", dtype=dtype)
    incoming = _incoming(mine, generator)
    assert_same(
        made.gradients(mine, incoming),
        twin.gradients(reference, [one.double() for one in incoming]),
        f"gradients of x, h, {made.cell.states}, {list(made.parameters)}, starts",
        dtype=dtype,
    )
    with torch.no_grad():
        count = 2 + len(made.states)
        assert_same(made.run(backend, **layout), reference[:count], "inference", dtype=dtype)
        kept = made.run(backend, sequences=True, **layout)
        assert_same(kept, reference, "inference with sequences", dtype=dtype)


def _ragged_lengths(size: Shape, generator: torch.Generator) -> Tensor:
    """Lengths from 0 to T, in no order; the last row is whole where there are several."""
    lengths = torch.randint(0, size.T + 1, (size.B,), generator=generator)
    lengths[0] = 0 if size.B > 1 else size.T
    lengths[-1] = size.T
    return lengths


def _packed(made: Problem, size: Shape, generator: torch.Generator) -> tuple[Problem, Tensor]:
    lengths = _ragged_lengths(size, generator).clamp(min=1).sort(descending=True).values
    packed = pack_padded_sequence(made.x.detach(), lengths)
    return made._replace(x=packed.data.requires_grad_()), packed.batch_sizes


@EVERY
def test_full_batch(
    base: Cell, options: Variation, size: Shape, dtype: torch.dtype, generator: torch.Generator
) -> None:
    made = problem(vary(base, options), size, generator, dtype)
    _compiled(made)
    _compare(made, generator)


@EVERY
def test_ragged_batch(
    base: Cell, options: Variation, size: Shape, dtype: torch.dtype, generator: torch.Generator
) -> None:
    made = problem(vary(base, options), size, generator, dtype)
    _compiled(made)
    _compare(made, generator, lengths=_ragged_lengths(size, generator))


@EVERY
def test_packed_batch(
    base: Cell, options: Variation, size: Shape, dtype: torch.dtype, generator: torch.Generator
) -> None:
    made = problem(vary(base, options), size, generator, dtype)
    _compiled(made)
    made, batch_sizes = _packed(made, size, generator)
    _compare(made, generator, batch_sizes=batch_sizes)


@EVERY
@pytest.mark.parametrize("resets", ["zero", "learned"])
def test_resets(
    base: Cell,
    options: Variation,
    size: Shape,
    dtype: torch.dtype,
    resets: str,
    generator: torch.Generator,
) -> None:
    made = problem(vary(base, options), size, generator, dtype, resets=resets)
    _compiled(made)
    _compare(made, generator)
    _compare(made, generator, lengths=_ragged_lengths(size, generator))


@pytest.mark.parametrize("resets", ["zero", "learned"])
@pytest.mark.parametrize(
    "dtype",
    [
        pytest.param(torch.float32, id="float32"),
        pytest.param(torch.float64, id="float64", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "name",
    [name if name == "lstm" else pytest.param(name, marks=pytest.mark.slow) for name in ALL_CELLS],
)
def test_resets_of_plain_cells(
    name: str, dtype: torch.dtype, resets: str, generator: torch.Generator
) -> None:
    size = Shape(9, 8, 3, 17)
    made = problem(ALL_CELLS[name], size, generator, dtype, resets=resets)
    _compiled(made)
    _compare(made, generator)
    _compare(made, generator, lengths=_ragged_lengths(size, generator))


@SOME
def test_the_masks_of_evaluation(
    base: Cell, options: Variation, generator: torch.Generator
) -> None:
    """Values that are the same for every unit: nothing is drawn, zoneout mixes."""
    cell = vary(base, options)
    if not cell.masks:
        pytest.skip("the variation has no masks")
    made = problem(cell, SMALL, generator)
    _compiled(made)
    _compare(made._replace(noise=noise_of(cell, SMALL.B, training=False)), generator)


@pytest.mark.parametrize(
    "dtype",
    [
        pytest.param(torch.float32, id="float32"),
        pytest.param(torch.float64, id="float64", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    ("heads", "projection", "varied"),
    [
        (2, 0, "plain"),
        pytest.param(12, 0, "plain", marks=pytest.mark.slow),
        (1, 4, "plain"),
        pytest.param(1, 1, "plain", marks=pytest.mark.slow),
        pytest.param(1, 17, "clip", marks=pytest.mark.slow),
        pytest.param(2, 0, "layer_norm", marks=pytest.mark.slow),
        pytest.param(3, 0, "masks", marks=pytest.mark.slow),
        pytest.param(4, 0, "recurrent_mask", marks=pytest.mark.slow),
        pytest.param(1, 5, "recurrent_mask", marks=pytest.mark.slow),
        pytest.param(1, 5, "layer_norm", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", ["lstm", pytest.param("peephole", marks=pytest.mark.slow)])
def test_heads_and_projections(
    name: str,
    heads: int,
    projection: int,
    varied: str,
    dtype: torch.dtype,
    generator: torch.Generator,
) -> None:
    options = Variation() if varied == "plain" else variations(CELLS[name])[varied]
    size = Shape(5, 4, 3, 12)
    cell = vary(CELLS[name], options)
    made = problem(cell, size, generator, dtype, heads=heads, projection=projection)
    _compiled(made)
    _compare(made, generator)
    _compare(made, generator, lengths=_ragged_lengths(size, generator))
    packed, batch_sizes = _packed(made, size, generator)
    _compare(packed, generator, batch_sizes=batch_sizes)
    resets = problem(
        cell, size, generator, dtype, heads=heads, projection=projection, resets="learned"
    )
    _compare(resets, generator)


def test_packed_heads_of_a_single_step(generator: torch.Generator) -> None:
    """No row of h was multiplied by R but the first."""
    size = Shape(2, 1, 3, 8)
    made = problem(CELLS["lstm"], size, generator, heads=2)
    _compiled(made)
    made, batch_sizes = _packed(made, size, generator)
    _compare(made, generator, batch_sizes=batch_sizes)


@pytest.mark.parametrize("B", [1, 2, 3, 8, 33])
@pytest.mark.parametrize(
    "varied",
    [
        "masks_norm",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("masks", "masks_diagonal")),
    ],
)
@pytest.mark.parametrize("name", ["lstm", pytest.param("gru", marks=pytest.mark.slow)])
def test_threads_share_the_batch(
    name: str, varied: str, B: int, threads: int, generator: torch.Generator
) -> None:
    size = Shape(B, 5, 3, 16)
    cell = vary(CELLS[name], variations(CELLS[name])[varied])
    made = problem(cell, size, generator, torch.float32, resets="learned")
    _compiled(made)
    _compare(made, generator)
    _compare(made, generator, lengths=_ragged_lengths(size, generator))
    assert torch.get_num_threads() == threads


def test_values_that_float32_cannot_hold(generator: torch.Generator) -> None:
    cell = vary(CELLS["lstm"], variations(CELLS["lstm"])["masks"])
    made = problem(cell, SMALL, generator)
    _compiled(made)
    assert made.noise is not None
    table = made.noise.table.clone()
    table[:, 1] = 1 / 0.9
    _compare(made._replace(noise=replace(made.noise, table=table)), generator)


def test_rows_draw_the_same_alone_and_together(generator: torch.Generator) -> None:
    """Which rows stand beside a row, and in which tile, has no effect on its masks."""
    cell = vary(CELLS["lstm"], variations(CELLS["lstm"])["masks"])
    made = problem(cell, Shape(13, 5, 3, 19), generator)
    _compiled(made)
    whole = made.run("llvm", sequences=True)
    for row in (0, 5, 12):
        alone = made.rows(slice(row, row + 1), 5).run("llvm", sequences=True)
        pairs = [
            (one, other[..., row : row + 1, :]) for one, other in zip(alone, whole, strict=True)
        ]
        for one, other in pairs:
            assert_same(one, other, f"row {row}")


@SOME
def test_gradients_of_each_output_alone(
    base: Cell, options: Variation, generator: torch.Generator
) -> None:
    """The others then have no gradient at all, which is not the same as one that is zero."""
    made = problem(vary(base, options), SMALL, generator, resets="learned")
    _compiled(made)
    mine, reference = (made.run(name, sequences=True) for name in ("llvm", "eager"))
    for number, incoming in enumerate(_incoming(mine, generator)):
        found, wanted = (
            made.gradients([outputs[number]], [incoming], again=True)
            for outputs in (mine, reference)
        )
        assert_same(found, wanted, f"gradients of output {number}")


TINY = Shape(2, 3, 2, 3)


def _chosen(made: Problem) -> str:
    return operators.select(made.cell, made.x, made.parameters)[0]


@SOME
def test_gradcheck(base: Cell, options: Variation, generator: torch.Generator) -> None:
    """Finite differences on the target that runs, with masks, lengths and learned starts."""
    made = problem(vary(base, options), TINY, generator, resets="learned")
    backend = _chosen(made)

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        varied = made.with_inputs(inputs)
        return tuple(varied.run(backend, lengths=torch.tensor([3, 2]), sequences=True))

    assert torch.autograd.gradcheck(run, made.inputs, fast_mode=True)


@pytest.mark.parametrize(("base", "options"), _some("lstm", "gru"))
def test_second_derivatives(base: Cell, options: Variation, generator: torch.Generator) -> None:
    made = problem(vary(base, options), TINY, generator, resets="learned")
    backend = _chosen(made)

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(made.with_inputs(inputs).run(backend))

    assert torch.autograd.gradgradcheck(run, made.inputs, fast_mode=True)


@st.composite
def _options(draw: Any) -> tuple[Cell, Variation]:
    made = draw(st.sampled_from(list(CELLS.values())))
    states = st.lists(st.sampled_from(("h", *made.states)), unique=True)
    bounds = st.sampled_from([0.0, 0.0, 0.7])
    return made, Variation(
        recurrent_mask=draw(st.booleans()),
        candidate_mask=draw(st.booleans()),
        zoneout=tuple(draw(states)),
        layer_norm=draw(st.booleans()),
        norm_bias=draw(st.booleans()),
        clip=draw(bounds),
        state_clip=draw(bounds),
        diagonal=draw(st.booleans()),
    )


def _any_problem(
    drawn: st.DataObject, base: Cell, options: Variation, kinds: tuple[torch.dtype, ...] = KINDS
) -> tuple[Problem, torch.Generator, dict[str, Any]]:
    """A problem of any size, dtype and layout; the seed of its numbers comes first."""
    try:
        cell = vary(base, options)
    except CellError:
        assume(False)
        raise
    source = torch.Generator().manual_seed(drawn.draw(st.integers(0, 2**31), "seed"))
    # The variance of one or two units may be next to nothing, and what is divided by it is noise;
    # the norm of a product with a single input hardly depends on it, so its gradient is noise too.
    smallest, inputs = (5, 3) if options.layer_norm else (1, 1)
    size = Shape(
        B=drawn.draw(st.integers(1, 9), "B"),
        T=drawn.draw(st.integers(1, 12), "T"),
        I=drawn.draw(st.integers(inputs, 9), "I"),
        H=drawn.draw(st.integers(smallest, 40), "H"),
    )
    dtype = drawn.draw(st.sampled_from(kinds), "dtype")
    divisors = [heads for heads in (1, 1, 1, 2, 3, 4) if size.H % heads == 0]
    heads = drawn.draw(st.sampled_from(divisors), "heads")
    layout = drawn.draw(st.sampled_from(["full", "ragged", "packed"]), "layout")
    choices = ["", "zero", "learned"] if layout != "packed" else [""]
    resets = drawn.draw(st.sampled_from(choices), "resets")
    made = problem(cell, size, source, dtype, heads=heads, resets=resets)
    if layout == "ragged":
        return made, source, {"lengths": _ragged_lengths(size, source)}
    if layout == "packed":
        made, batch_sizes = _packed(made, size, source)
        return made, source, {"batch_sizes": batch_sizes}
    return made, source, {}


UNHURRIED = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)


@settings(max_examples=4, deadline=None, suppress_health_check=UNHURRIED)
@given(st.sampled_from(list(FEW)), st.data())
def test_any_size_of_a_few_variations(chosen: tuple[str, str], drawn: Any) -> None:
    base = CELLS[chosen[0]]
    options = variations(base)[chosen[1]]
    made, source, layout = _any_problem(drawn, base, options, (FEW[chosen],))
    _compare(made, source, _chosen(made), **layout)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=UNHURRIED)
@given(_options(), st.data())
def test_any_size_of_any_variation(chosen: tuple[Cell, Variation], drawn: Any) -> None:
    made, source, layout = _any_problem(drawn, *chosen)
    _compare(made, source, _chosen(made), **layout)

"""Products of bfloat16 under autocast: what eager does with rounded factors, sums in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from holdfast.cells import CELLS
from holdfast.compiler.build import assemble, planned
from holdfast.compiler.emit import llvm as emit
from holdfast.compiler.emit.llvm_loops import Sizes
from holdfast.compiler.emit.llvm_math import FLOAT32
from holdfast.compiler.emit.llvm_pairs import PAIRS
from holdfast.compiler.emit.llvm_softmax import emit_softmax
from holdfast.compiler.emit.target import Target, host
from holdfast.nn import LSTM, Recurrent, passes
from holdfast.nn.narrow import paired
from tests.helpers import Shape, assert_same, unequal_
from tests.use.layers import drawn, initial, observed, target
from tests.use.optioned import CALL, every, inputs, made

needed = pytest.mark.skipif(not host().pairs, reason="this processor multiplies no bfloat16")
COOPERLAKE = Target("x86_64-unknown-linux-gnu", "cooperlake", "+avx512bf16", 64, 32)
SIZES = (
    Shape(3, 1, 1, 1),
    Shape(3, 2, 17, 5),
    Shape(4, 63, 3, 100),
    Shape(7, 2, 17, 64),
    Shape(33, 5, 16, 16),
)


@contextmanager
def narrow() -> Iterator[list[str]]:
    """Autocast to bfloat16; what is yielded holds how each pass stored its weights."""
    seen: list[str] = []
    stored = passes._stored

    def spy(call: passes.Call, heads: int) -> str:
        found = stored(call, heads)
        seen.append(found)
        return found

    with mock.patch.object(passes, "_stored", spy), torch.autocast("cpu", torch.bfloat16):
        yield seen


def both(layer: Recurrent, x: Any, hx: Any = None, **call: Any) -> tuple[Any, Any]:
    """Everything a pass shows in bfloat16, and by the definition."""
    with narrow() as seen:
        found = observed(layer, x, hx, **call)
    assert PAIRS in seen
    with target("eager"):
        return found, observed(layer, x, hx, **call)


PROBLEMS = [("lstm", shape) for shape in SIZES]
PROBLEMS += [(name, SIZES[n]) for name in ("gru", "rnn", "peephole", "gru_2014") for n in (1, 4)]


@needed
@pytest.mark.parametrize(("name", "shape"), PROBLEMS, ids=str)
def test_results_and_all_gradients(name: str, shape: Shape, generator: torch.Generator) -> None:
    B, T, I, H = shape
    layer = unequal_(Recurrent(name, I, H), generator)
    x = drawn((T, B, I), generator, torch.float32)
    hx = initial(layer, B, generator, torch.float32)
    if name == "gru" and H % 2:
        # Pairs would straddle gates that are not neighbors: everything is of float32.
        with narrow() as seen:
            found = observed(layer, x, hx)
        assert set(seen) == {""}
        assert_same(found, observed(layer, x, hx))
        return
    found, reference = both(layer, x, hx)
    assert_same(found, reference, factors=torch.bfloat16)


# Where an activation has a kink, a number that is rounded to its other side has another gradient.
_KINKS = {"associative", "rnn_relu"}
# Cells with sweeps, several runs of R, gates that are called, products of x alone, no R.
_SOME = {"gru_2014", "ind_rnn", "layer_norm_lstm", "min_lstm", "mut_1", "slstm"}
EVERY = [
    pytest.param(name, marks=[] if name in _SOME else [pytest.mark.slow])
    for name in sorted(CELLS.keys() - _KINKS)
]


@needed
@pytest.mark.parametrize("name", EVERY)
def test_every_cell(name: str, generator: torch.Generator) -> None:
    cell = CELLS[name]
    if cell.inputs:
        pytest.skip("what is given unit by unit has a test of its own")
    layer = unequal_(Recurrent(name, 6, 6), generator)
    x = drawn((4, 5, 6), generator, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = observed(layer, x, seed=3) if cell.masks else observed(layer, x)
    with target("eager"):
        reference = observed(layer, x, seed=3) if cell.masks else observed(layer, x)
    assert_same(found, reference, factors=torch.bfloat16)


@needed
@every("heads", "diagonal")
def test_options_and_rows_that_end_and_begin_anew(case: str, generator: torch.Generator) -> None:
    layer = made(case, generator, torch.float32)
    x = inputs(generator, torch.float32)
    found, reference = both(layer, x, **CALL)
    assert_same(found, reference, factors=torch.bfloat16)


@needed
@pytest.mark.parametrize("case", ["heads", "diagonal"])
def test_what_has_no_whole_matrix_stays_as_precise(case: str, generator: torch.Generator) -> None:
    layer = made(case, generator, torch.float32)
    x = inputs(generator, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = observed(layer, x, **CALL)
    with target("eager"):
        reference = observed(layer, x, **CALL)
    assert_same(found, reference, factors=torch.bfloat16)


@needed
def test_packed_sequences(generator: torch.Generator) -> None:
    layer = unequal_(LSTM(3, 5, bidirectional=True), generator)
    x = drawn((6, 9, 3), generator, torch.float32)
    packed = pack_padded_sequence(x, torch.tensor([6, 6, 5, 5, 4, 3, 3, 2, 1]))
    found, reference = both(layer, packed)
    assert_same(found, reference, factors=torch.bfloat16)


@needed
@pytest.mark.parametrize("option", ["full", "none"])
def test_values_that_are_computed_again(option: str, generator: torch.Generator) -> None:
    layer = unequal_(LSTM(3, 37, recompute=option), generator)
    x = drawn((70, 4, 3), generator, torch.float32)
    found, reference = both(layer, x, initial(layer, 4, generator, torch.float32))
    assert_same(found, reference, factors=torch.bfloat16)


@needed
def test_results_are_those_of_rounded_factors(generator: torch.Generator) -> None:
    """One step from zeros, whose only products are exact in float64."""
    layer = unequal_(LSTM(17, 5), generator)
    x = drawn((1, 4, 17), generator, torch.float32)
    with narrow() as seen:
        found, _ = layer(x)
    assert PAIRS in seen
    rounded = LSTM(17, 5, dtype=torch.float64)
    rounded.load_state_dict(
        {
            name: value.bfloat16() if value.dim() == 2 else value
            for name, value in layer.state_dict().items()
        }
    )
    assert_same(found, rounded(x.bfloat16().double())[0], dtype=torch.float32)


@needed
def test_bits_do_not_depend_on_threads(generator: torch.Generator) -> None:
    layer = unequal_(LSTM(17, 64, num_layers=2), generator)
    x = drawn((5, 33, 17), generator, torch.float32)
    before = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            with narrow():
                results.append(layer(x.requires_grad_())[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[1], results[2])


@needed
def test_few_rows_and_evaluation_stay_as_precise(generator: torch.Generator) -> None:
    layer = unequal_(LSTM(3, 5), generator)
    few = drawn((7, 2, 3), generator, torch.float32)
    many = drawn((7, 4, 3), generator, torch.float32)
    with narrow() as seen:
        found = observed(layer, few)
        with torch.no_grad():
            quiet = layer(many)
    assert set(seen) == {""}
    assert_same(found, observed(layer, few))
    assert_same(quiet, layer(many))


def test_a_processor_without_them_is_as_precise_as_ever(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Target(host().triple, host().cpu, "", host().vector_bytes, host().registers)
    monkeypatch.setattr(passes, "host", lambda: plain)
    layer = unequal_(LSTM(3, 5), generator)
    x = drawn((7, 4, 3), generator, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = observed(layer, x)
    assert_same(found, observed(layer, x))


@needed
def test_second_derivatives_are_those_of_the_definition(generator: torch.Generator) -> None:
    layer = unequal_(LSTM(3, 6), generator)
    x = drawn((3, 4, 3), generator, torch.float32).requires_grad_()

    def twice() -> Tensor:
        out, _ = layer(x)
        (first,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    with torch.autocast("cpu", torch.bfloat16):
        found = twice()
    assert_same(found, twice(), factors=torch.bfloat16)


def test_numbers_are_rounded_to_nearest_and_paired() -> None:
    numbers = torch.tensor([1.0, 1.00390625, -1.01171875, 3e-39, torch.inf, torch.nan, 7.0])
    words = paired(numbers.view(1, 7, 1).expand(2, 7, 3))
    assert words.shape == (2, 4, 3)
    found = words[0, :, 1].contiguous().view(torch.bfloat16)
    expected = torch.cat([numbers.bfloat16(), torch.zeros(1, dtype=torch.bfloat16)])
    assert torch.equal(found.view(torch.int16), expected.view(torch.int16))


@pytest.mark.parametrize("mode", ["train", "backward"])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_code_is_made_of_the_instruction(name: str, mode: str) -> None:
    """On any machine: LLVM knows the processors that have it."""
    sizes = Sizes(5, 36, narrow=PAIRS)
    text = emit.emit(planned(CELLS[name]), mode, FLOAT32, sizes, COOPERLAKE)
    assert b"vdpbf16ps" in assemble(text, COOPERLAKE, assembly=True)


def test_the_loss_is_assembled_for_them() -> None:
    text = emit_softmax(FLOAT32, COOPERLAKE, narrow=True)
    assert b"vcvtneps2bf16" in assemble(text, COOPERLAKE, assembly=True)

"""Rows of unequal length: each row is as if it ran alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from holdfast.cells import CELLS
from holdfast.nn import LSTM, Recurrent
from tests.emit.user_cells import CATALOGUE
from tests.helpers import assert_same, unequal_
from tests.use.layers import drawn, initial, observed, target, tensors

LENGTHS = [[5, 5, 5], [1, 5, 3], [0, 4, 2], [0, 0, 0], [2, 0, 1]]
BOTH_WAYS = pytest.mark.parametrize("two_way", [False, True], ids=["forward", "bidirectional"])


def alone(layer: Recurrent, x: Tensor, lengths: list[int], hx: Any) -> list[Tensor]:
    """Output, last states and cells, made by running each row by itself without any padding."""
    steps, states = x.shape[0], tensors(hx)
    rows = []
    for b, length in enumerate(lengths):
        start = tuple(state[:, b : b + 1] for state in states)
        if not length:
            widths = [states[0].shape[-1], *(state.shape[-1] for state in states[1:])]
            two = 2 if layer.bidirectional else 1
            courses = [x.new_zeros(steps, 1, two * width) for width in widths]
            rows.append([courses[0], *start, *courses[1:]])
            continue
        result = layer(
            x[:length, b : b + 1],
            start if layer.cell.states else start[0],
            return_cells=bool(layer.cell.states),
        )
        out, *rest = tensors(result)
        last, cells = rest[: len(states)], rest[len(states) :]
        out, *cells = (
            torch.nn.functional.pad(course, (0, 0, 0, 0, 0, steps - length))
            for course in (out, *cells)
        )
        rows.append([out, *last, *cells])
    return [torch.cat(values, 1) for values in zip(*rows, strict=True)]


def ragged(layer: Recurrent, x: Tensor, lengths: Any, hx: Any) -> list[Tensor]:
    return tensors(layer(x, hx, lengths=lengths, return_cells=bool(layer.cell.states)))


def made(cell: str, generator: torch.Generator, *args: Any, **options: Any) -> Any:
    return unequal_(Recurrent(cell, *args, dtype=torch.float64, **options), generator)


class Alone(torch.nn.Module):
    """Runs the rows of a layer one by one, so that the gradients can be compared too."""

    def __init__(self, layer: Recurrent, lengths: list[int]) -> None:
        super().__init__()
        self.layer = layer
        self.lengths = lengths

    def named_parameters(self, *args: Any, **options: Any) -> Any:
        return self.layer.named_parameters(*args, **options)

    def forward(self, x: Tensor, hx: Any) -> list[Tensor]:
        return alone(self.layer, x, self.lengths, hx)


@pytest.mark.parametrize("cell", CATALOGUE)
@pytest.mark.parametrize("lengths", [[1, 5, 3], [0, 4, 2]], ids=str)
@pytest.mark.parametrize(
    ("name", "two_way"),
    [("eager", False), ("eager", True), ("default", True)],
    ids=["eager-forward", "eager-bidirectional", "default-bidirectional"],
)
def test_each_row_is_as_if_alone(
    cell: str, lengths: list[int], name: str, two_way: bool, generator: torch.Generator
) -> None:
    layer = made(cell, generator, 10, 5, 2, bidirectional=two_way)
    x = drawn((5, 3, 10), generator)
    hx = initial(layer, 3, generator, torch.float64)
    options = {"lengths": lengths, "return_cells": bool(layer.cell.states)}
    with target(name):
        assert_same(observed(layer, x, hx, **options), observed(Alone(layer, lengths), x, hx))


@BOTH_WAYS
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("options", [{}, {"proj_size": 3}], ids=["plain", "projected"])
def test_lengths_in_every_form(
    two_way: bool, lengths: list[int], options: dict[str, int], generator: torch.Generator
) -> None:
    layer = made("lstm", generator, 10, 5, 2, bidirectional=two_way, **options)
    x = drawn((5, 3, 10), generator)
    hx = initial(layer, 3, generator, torch.float64)
    expected = alone(layer, x, lengths, hx)
    for form in (
        lengths,
        tuple(lengths),
        torch.tensor(lengths),
        torch.tensor(lengths, dtype=torch.int32),
        torch.tensor(lengths, dtype=torch.uint8),
    ):
        assert_same(ragged(layer, x, form, hx), expected, str(form))
    layer.batch_first = True
    first = ragged(layer, x.transpose(0, 1), lengths, hx)
    first[0] = first[0].transpose(0, 1)
    first[3] = first[3].transpose(0, 1)
    assert_same(first, expected, "batch_first")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@BOTH_WAYS
@pytest.mark.parametrize("H", [1, 5, 100])
@pytest.mark.usefixtures("two_threads")
def test_lengths_equal_a_packed_sequence(
    H: int, two_way: bool, dtype: torch.dtype, generator: torch.Generator
) -> None:
    layer = unequal_(LSTM(3, H, bidirectional=two_way, dtype=dtype), generator)
    lengths = torch.tensor([2, 63, 1, 40])
    x = drawn((63, 4, 3), generator, dtype)
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    out, last, cells = layer(packed, return_cells=True)
    padded = pad_packed_sequence(out)[0], last, pad_packed_sequence(cells)[0]
    assert_same(layer(x, lengths=lengths, return_cells=True), padded)


@BOTH_WAYS
def test_what_lies_beyond_a_row_does_not_matter(two_way: bool, generator: torch.Generator) -> None:
    layer = made("lstm", generator, 10, 5, 2, bidirectional=two_way)
    x = drawn((5, 3, 10), generator)
    other = x.clone()
    other[2:, 1] = torch.inf
    assert_same(layer(other, lengths=[5, 2, 4]), layer(x, lengths=[5, 2, 4]))


def test_a_row_without_steps_keeps_its_initial_state(generator: torch.Generator) -> None:
    layer = made("lstm", generator, 10, 5, 2, bidirectional=True)
    hx = initial(layer, 3, generator, torch.float64)
    out, last = layer(drawn((5, 3, 10), generator), hx, lengths=[0, 5, 0])
    for state, start in zip(last, hx, strict=True):
        assert torch.equal(state[:, [0, 2]], start[:, [0, 2]])
        assert not torch.equal(state[:, 1], start[:, 1])
    assert torch.equal(out[:, [0, 2]], torch.zeros(5, 2, 10, dtype=torch.float64))


def test_a_single_sequence_may_have_a_length(generator: torch.Generator) -> None:
    layer = made("lstm", generator, 10, 5, bidirectional=True)
    x = drawn((5, 10), generator)
    out, last = layer(x[:3])
    padded = torch.nn.functional.pad(out, (0, 0, 0, 2))
    assert_same(layer(x, lengths=[3]), (padded, last))


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ([1, 6, 2], ValueError, r"range 0 to 5, .* got 6 for row 1"),
        ([1, 2, -1], ValueError, r"range 0 to 5, .* got -1 for row 2"),
        ([1, 2], RuntimeError, r"Expected lengths size \(3,\), got \[2\]"),
        ([[1], [2], [3]], RuntimeError, r"Expected lengths size \(3,\), got \[3, 1\]"),
        ([1.0, 2.0, 3.0], TypeError, "integers, got torch.float32"),
        (torch.tensor([True, True, False]), TypeError, "integers, got torch.bool"),
    ],
    ids=["too long", "negative", "too few", "2-D", "float", "bool"],
)
def test_wrong_lengths(lengths: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LSTM(2, 4)(torch.zeros(5, 3, 2), lengths=lengths)


def test_packed_input_brings_its_lengths() -> None:
    packed = pack_padded_sequence(torch.zeros(2, 1, 2), torch.tensor([2]))
    with pytest.raises(ValueError, match="leave out lengths="):
        LSTM(2, 4)(packed, lengths=[2])


ANY_SIZE = sorted(
    name for name, cell in CELLS.items() if cell.multiple == 1 and set(cell.inputs) <= {"x"}
)
"""Cells that take a layer's input and no more, with any number of units."""
COMPILED = ("gru", "peephole", "slstm")
"""What is compiled takes a second for each cell, I and H; every cell has ragged rows elsewhere."""


@pytest.mark.parametrize("name", ["eager", "default"])
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_any_shape_is_row_by_row(name: str, data: st.DataObject) -> None:
    eager = name == "eager"
    steps = data.draw(st.integers(1, 7), "T")
    lengths = data.draw(st.lists(st.integers(0, steps), min_size=1, max_size=4), "lengths")
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99), "seed"))
    layer = made(
        data.draw(st.sampled_from(ANY_SIZE if eager else COMPILED), "cell"),
        generator,
        data.draw(st.integers(1, 5) if eager else st.sampled_from([1, 3]), "I"),
        data.draw(st.integers(1, 5) if eager else st.just(3), "H"),
        data.draw(st.integers(1, 3), "layers"),
        bias=data.draw(st.booleans(), "bias"),
        bidirectional=data.draw(st.booleans(), "bidirectional"),
    )
    x = drawn((steps, len(lengths), layer.input_size), generator)
    hx = initial(layer, len(lengths), generator, torch.float64)
    with target(name):
        assert_same(ragged(layer, x, lengths, hx), alone(layer, x, lengths, hx))

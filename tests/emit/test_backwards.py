"""Rows read from last to first without turning them: the same as turning them by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from holdfast.cells import CELLS
from holdfast.compiler.cell import Cell
from holdfast.compiler.emit.eager import Resets
from holdfast.compiler.vary import Variation, vary
from holdfast.nn import operators
from holdfast.nn.ragged import Rows
from tests.emit.problems import problem
from tests.helpers import Shape, assert_same

SIZE = Shape(5, 7, 3, 20)
LENGTHS = torch.tensor([7, 0, 3, 7, 1])
COUNTS = torch.tensor([5, 4, 4, 2, 2, 1, 1])
LSTM = CELLS["lstm"]
CELLS_HERE = {
    "lstm": LSTM,
    "gru": CELLS["gru"],
    "gru_2014": CELLS["gru_2014"],
    "masks": vary(LSTM, Variation(recurrent_mask=True, zoneout=("h", "c"))),
    "norm": vary(LSTM, Variation(layer_norm=True)),
}


def _rows(kind: str) -> Rows:
    if kind == "packed":
        return Rows.from_batch_sizes(COUNTS, torch.device("cpu"))
    return Rows.from_lengths(LENGTHS, SIZE.T) if kind == "ragged" else Rows()


def _run(given: Any, backend: str, rows: Rows, *, sequences: bool) -> list[Tensor]:
    resets = None if given.at is None else Resets(given.at, given.starts)
    arguments = (backend, given.cell, given.x, given.parameters, given.h, given.states)
    options: dict[str, Any] = {"noise": given.noise, "resets": resets, "sequences": sequences}
    found = operators.run_backwards(*arguments, rows, **options)
    return [found.out, found.h, *found.states, *(found.sequences or ())]


@pytest.mark.parametrize("resets", ["", "learned"], ids=["whole", "resets"])
@pytest.mark.parametrize("kind", ["dense", "ragged", "packed"])
@pytest.mark.parametrize("cell", CELLS_HERE.values(), ids=CELLS_HERE)
def test_compiled_agrees_with_turned_rows(
    cell: Cell, kind: str, resets: str, generator: torch.Generator
) -> None:
    if kind == "packed" and resets:
        pytest.skip("packed input has no resets")
    given = problem(cell, SIZE, generator, resets=resets)
    if kind == "packed":
        packed = torch.randn(int(COUNTS.sum()), SIZE.I, generator=generator, dtype=torch.float64)
        given = given._replace(x=packed.requires_grad_())
    rows = _rows(kind)
    mine, reference = (_run(given, name, rows, sequences=True) for name in ("llvm", "eager"))
    assert_same(mine, reference, "training")
    incoming = [torch.randn(one.shape, generator=generator, dtype=one.dtype) for one in mine]
    gradients = [given.gradients(found, incoming) for found in (mine, reference)]
    assert_same(gradients[0], gradients[1], "gradients")
    with torch.no_grad():
        for sequences in (False, True):
            found = _run(given, "llvm", rows, sequences=sequences)
            assert_same(found, reference[: len(found)], "inference")


def test_second_derivatives(generator: torch.Generator) -> None:
    given = problem(LSTM, Shape(3, 4, 2, 3), generator)
    rows = Rows.from_lengths(torch.tensor([4, 0, 2]), 4)

    def out(x: Tensor) -> Tensor:
        return _run(given._replace(x=x), "llvm", rows, sequences=False)[0]

    assert torch.autograd.gradgradcheck(out, (given.x,))

"""One and two rows have kernels of their own: the same results, the same numbers bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from holdfast.cells import CELLS
from holdfast.compiler import threads
from holdfast.compiler.cell import Cell
from holdfast.compiler.emit.llvm_ahead import AHEAD
from holdfast.compiler.vary import Variation, vary
from holdfast.nn import operators
from holdfast.nn.ragged import Rows
from tests.emit.problems import problem
from tests.helpers import Shape, assert_same

LSTM = CELLS["lstm"]
FEW = {
    "lstm": LSTM,
    "gru": CELLS["gru"],
    "peephole": CELLS["peephole"],
    "gru_2014": CELLS["gru_2014"],
    "slim_1": CELLS["slim_1"],
    "slstm": CELLS["slstm"],
    "masks": vary(LSTM, Variation(recurrent_mask=True, zoneout=("h", "c"))),
    "norm": vary(LSTM, Variation(layer_norm=True)),
}


@pytest.mark.parametrize("size", [(1, 3), (1, 4), (1, 2 * AHEAD + 3), (2, AHEAD + 1)], ids=str)
@pytest.mark.parametrize("cell", FEW.values(), ids=FEW)
def test_few_rows_agree_with_the_definition(
    cell: Cell, size: tuple[int, int], generator: torch.Generator
) -> None:
    given = problem(cell, Shape(*size, 3, 20), generator)
    mine, reference = (given.run(name, sequences=True) for name in ("llvm", "eager"))
    with torch.no_grad():
        kept, inferred = given.run("llvm", sequences=True), given.run("llvm")
    assert_same(mine, reference)
    assert_same(kept, reference)
    assert_same(inferred, reference[: len(inferred)])
    incoming = [torch.randn(one.shape, generator=generator, dtype=one.dtype) for one in reference]
    assert_same(given.gradients(mine, incoming), given.gradients(reference, incoming))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("cell", FEW.values(), ids=FEW)
def test_a_row_has_the_same_bits_alone_as_beside_others(
    cell: Cell, count: int, generator: torch.Generator
) -> None:
    given = problem(cell, Shape(5, 31, 3, 20), generator)
    with torch.no_grad():
        whole = given.run("llvm", sequences=True)
        some = given.rows(slice(1, 1 + count), 31).run("llvm", sequences=True)
    states = 1 + len(given.states)
    for number, (all_rows, few) in enumerate(zip(whole, some, strict=True)):
        last = 1 <= number <= states
        expected = all_rows[1 : 1 + count] if last else all_rows[:, 1 : 1 + count]
        assert torch.equal(few, expected)


@pytest.mark.parametrize("count", [1, 2])
def test_few_rows_are_read_backwards(count: int, generator: torch.Generator) -> None:
    given = problem(LSTM, Shape(count, AHEAD + 5, 3, 20), generator)
    arguments = (given.cell, given.x, given.parameters, given.h, given.states, Rows())
    results = [operators.run_backwards(name, *arguments) for name in ("llvm", "eager")]
    mine, reference = ([one.out, one.h, *one.states] for one in results)
    assert_same(mine, reference)


@pytest.mark.parametrize("by_block", [False, True], ids=["rows", "units"])
@pytest.mark.parametrize("count", [1, 2])
def test_threads_share_few_rows(
    count: int, by_block: bool, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_block and threads.pool() != "openmp":
        pytest.skip("units are shared by OpenMP's threads only, and there is no OpenMP here")
    given = problem(LSTM, Shape(count, AHEAD + 5, 3, 40), generator)
    alone = given.run("llvm", sequences=True)

    def team(*_: Any) -> threads.Team:
        return threads.Team(2, by_block=by_block) if by_block else threads.Team(count)

    monkeypatch.setattr(threads, "team", team)
    for mine, reference in zip(given.run("llvm", sequences=True), alone, strict=True):
        assert torch.equal(mine, reference)

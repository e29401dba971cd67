"""Each cell of the catalogue: its time beside the plain LSTM's, and beside its own eager loop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks import gate, timing
from benchmarks.peers import Runner
from benchmarks.registry import PASSES, Shape
from holdfast.cells import CELLS
from holdfast.compiler.cell import Cell
from holdfast.compiler.emit import eager
from holdfast.compiler.emit.eager import Result
from holdfast.nn import Recurrent, operators

SHAPE = Shape(32, 100, 32, 128)
"""Where cells are measured."""

SMALL = Shape(5, 13, 7, 36)
"""Where they are compared with the definition."""

SEED = 7

PLAIN = "lstm"
"""The cell that all others are compared with."""

MOST = 1.15
"""The most that a gate-product may take, as a multiple of what it takes in the plain LSTM."""

LEAST = dict(zip(PASSES, (4.0, 6.0), strict=True))
"""The least time of the eager loop in each pass, as a multiple of ours."""


def gate_products(cell: Cell, shape: Shape) -> float:
    """Matrix products of a step, in units of one gate's `W x + R h`.

    >>> from holdfast.cells import gru, lstm
    >>> gate_products(lstm, SHAPE), gate_products(gru, SHAPE)
    (4.0, 3.0)

    A part of a gate counts with its share of the (I + H) H multiply-adds of a row, so does a gate
    that is called, and the matrix that makes `x` as wide as the layer.
    """
    columns = sum(acc.x * shape.I + acc.h * shape.H for acc in cell.accumulators)
    if "x" in cell.inputs and shape.I != shape.H:
        columns += shape.I
    return columns / (shape.I + shape.H)


@dataclass(frozen=True)
class Row:
    """One cell and pass. Seconds are those of one call.

    products: gate-products of a step. time: seconds of ours by those of the plain LSTM, round by
    round. each: the same, for each gate-product; None without any. speedup: seconds of the cell's
    own eager loop by ours.
    """

    cell: str
    products: float
    which: str
    ours: timing.Spread
    plain: timing.Spread
    eager: timing.Spread
    time: timing.Spread
    each: timing.Spread | None
    speedup: timing.Spread
    calls: int = 1

    @property
    def beyond(self) -> list[str]:
        """The limits that are not kept, in words."""
        found = []
        if self.each is not None and self.each.median > MOST:
            found.append(f"more than {MOST:.2f} a gate-product")
        if self.speedup.median < LEAST[self.which]:
            found.append(f"less than {LEAST[self.which]:g} times as fast as eager")
        return found


@dataclass(frozen=True)
class Refusal:
    """A cell that is not reported: it is not compiled, or failed the gate."""

    cell: str
    reason: str


@dataclass(frozen=True, eq=False)
class Problem:
    """A layer with a cell, and what it gets."""

    layer: Recurrent
    x: Tensor
    """`[T, B, I]`"""
    extra: dict[str, Tensor]
    """What the cell declares as inputs, `[T, B, 1]` each."""
    weighting: Tensor
    """The gradient of the output, `[T, B, H]`."""

    @classmethod
    def of(cls, name: str, shape: Shape) -> Problem:
        """Random numbers from a seed of the benchmark's own; call it in `apart`."""
        torch.manual_seed(SEED)
        layer = Recurrent(CELLS[name], shape.I, shape.H)
        generator = torch.Generator().manual_seed(SEED)
        x = 2 * torch.rand((shape.T, shape.B, shape.I), generator=generator) - 1
        extra = {
            one: torch.rand((shape.T, shape.B, 1), generator=generator)
            for one in layer.cell.inputs
            if one != "x"
        }
        weighting = 2 * torch.rand((shape.T, shape.B, shape.H), generator=generator) - 1
        return cls(layer, x, extra, weighting)

    def ours(self) -> Runner:
        """The layer as it is."""
        call: dict[str, Any] = {"extra": self.extra} if self.extra else {}
        return Runner(lambda: (self.layer(self.x, **call)[0],), self._parameters)

    def eager(self) -> Runner:
        """The same layer, with the definition in the compiled target's place."""
        forward = self.ours().forward

        def loop() -> tuple[Tensor, ...]:
            with operators.instead(_eagerly):
                return forward()

        return Runner(loop, self._parameters)

    def double(self) -> Problem:
        """The same numbers in float64."""
        extra = {name: value.double() for name, value in self.extra.items()}
        layer = copy.deepcopy(self.layer).double()
        return Problem(layer, self.x.double(), extra, self.weighting.double())

    @property
    def _parameters(self) -> dict[str, Tensor]:
        return dict(self.layer.named_parameters())


def _eagerly(backend: str, *arguments: Any, **options: Any) -> Result:
    return eager.run(*arguments, **options)


@contextmanager
def apart() -> Iterator[None]:
    """The global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        yield


def check(name: str) -> None:
    """Compare ours with the definition in float64; call it in `apart`.

    Errors: `GateError`, also for a cell that is not compiled.
    """
    problem = Problem.of(name, SMALL)
    if problem.layer.backend != "llvm":
        raise gate.GateError(f"not on the fast path: {problem.layer.backend_reason}")
    twin = problem.double()
    gate.check(
        "ours",
        problem.ours().results((problem.weighting,)),
        twin.eager().results((twin.weighting,)),
    )


def measure(
    names: Sequence[str], shape: Shape, rounds: int, seconds: float
) -> Iterator[list[Row] | Refusal]:
    """Rows of one cell at a time, or why there are none."""
    with apart():
        for name in names:
            try:
                check(name)
            except gate.GateError as error:
                yield Refusal(name, str(error))
                continue
            yield _rows(name, shape, rounds, seconds)


def _rows(name: str, shape: Shape, rounds: int, seconds: float) -> list[Row]:
    plain, mine = Problem.of(PLAIN, shape), Problem.of(name, shape)
    contenders = {"plain": plain.ours(), "ours": mine.ours(), "eager": mine.eager()}
    products, usual = (gate_products(CELLS[one], shape) for one in (name, PLAIN))
    rows = []
    for which in PASSES:
        calls: dict[str, Callable[[], object]] = {
            one: runner.call(which, (mine.weighting,)) for one, runner in contenders.items()
        }
        times = timing.alternate(calls, rounds, seconds)
        time = times["plain"].ratio(times["ours"])
        rows.append(
            Row(
                name,
                products,
                which,
                times["ours"].seconds,
                times["plain"].seconds,
                times["eager"].seconds,
                time,
                _scaled(time, usual / products) if products else None,
                times["ours"].ratio(times["eager"]),
                times["ours"].calls,
            )
        )
    return rows


def _scaled(ratio: timing.Spread, factor: float) -> timing.Spread:
    return timing.Spread(ratio.median * factor, ratio.low * factor, ratio.high * factor)

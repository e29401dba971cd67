"""One layer over sequences: ours, PyTorch's and the eager loop, at every shape of the grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks import gate, registry, timing
from benchmarks.registry import PASSES, Shape
from holdfast.cells import CELLS
from holdfast.compiler.cell import Cell
from holdfast.nn import Recurrent, operators


@dataclass(frozen=True, eq=False)
class Problem:
    """What all contenders get: the same numbers, float32, made outside the timing."""

    cell: Cell
    shape: Shape
    x: Tensor
    """`[T, B, I]`"""
    weights: dict[str, Tensor]
    """By the name that the parameter has in the first layer: `weight_ih_l0`, ..."""
    weighting: Tensor
    """The gradient of `out`, `[T, B, H]`."""


@dataclass(frozen=True, eq=False)
class Runner:
    """A contender, ready to run: `forward()` gives `out`, `[T, B, H]`."""

    forward: Callable[[], Tensor]
    parameters: Mapping[str, Tensor]
    same: bool = True
    """Whether it computes this very cell; another one is a yardstick and passes no gate."""
    note: str = ""

    def call(self, which: str, weighting: Tensor) -> Callable[[], object]:
        """What is timed: one of `PASSES`."""
        if which == "forward":

            def forward() -> Tensor:
                with torch.inference_mode():
                    return self.forward()

            return forward
        parameters = list(self.parameters.values())
        return lambda: torch.autograd.grad([self.forward()], parameters, [weighting])

    def results(self, weighting: Tensor) -> dict[str, Tensor]:
        """Outputs of both passes and every gradient."""
        with torch.inference_mode():
            inferred = self.forward().clone()
        out = self.forward()
        gradients = torch.autograd.grad([out], list(self.parameters.values()), [weighting])
        named = zip((f"gradient of {name}" for name in self.parameters), gradients, strict=True)
        return {"inferred out": inferred, "out": out.detach(), **dict(named)}


def ours(problem: Problem) -> Runner:
    """The compiled layer."""
    shape = problem.shape
    layer = Recurrent(problem.cell, shape.I, shape.H)
    layer.load_state_dict(problem.weights)
    note = "" if layer.backend == "llvm" else f"{layer.backend}: {layer.backend_reason}"
    return Runner(lambda: layer(problem.x)[0], dict(layer.named_parameters()), note=note)


def torch_layer(problem: Problem) -> Runner | None:
    """PyTorch's layer with the same weights, where it has the cell."""
    kinds: dict[str, Callable[[int, int], nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU}
    if problem.cell.name not in kinds:
        return None
    layer = kinds[problem.cell.name](problem.shape.I, problem.shape.H)
    layer.load_state_dict(problem.weights)
    return Runner(lambda: layer(problem.x)[0], dict(layer.named_parameters()))


def torch_lstm(problem: Problem) -> Runner | None:
    """PyTorch's plain LSTM beside a cell that PyTorch lacks: other mathematics, a yardstick."""
    if problem.cell.name in ("lstm", "gru"):
        return None
    layer = nn.LSTM(problem.shape.I, problem.shape.H)
    parameters = dict(layer.named_parameters())
    return Runner(lambda: layer(problem.x)[0], parameters, same=False, note="another cell")


def eager(problem: Problem) -> Runner:
    """The definition: one PyTorch operation after the other, in a Python loop over the steps."""
    cell, shape, x = problem.cell, problem.shape, problem.x
    parameters = {name: value.clone().requires_grad_() for name, value in problem.weights.items()}
    named = {name.removesuffix("_l0"): value for name, value in parameters.items()}

    def forward() -> Tensor:
        zeros = x.new_zeros(shape.B, shape.H)
        states = tuple(zeros for _ in cell.states)
        return operators.run("eager", cell, x, named, zeros, states).out

    return Runner(forward, parameters)


CONTENDERS: dict[str, Callable[[Problem], Runner | None]] = {
    "ours": ours,
    "torch": torch_layer,
    "torch-lstm": torch_lstm,
    "eager": eager,
}
"""Who is measured: a function from the problem to a runner, or to None where it does not apply."""

UNMEASURED = {("lstm", "eager")}
"""Cells beside which a contender says nothing new: who wants a plain LSTM takes PyTorch's."""


@dataclass(frozen=True)
class Row:
    """One contender at one cell, shape and pass."""

    cell: str
    shape: Shape
    which: str
    contender: str
    seconds: timing.Spread
    gflops: float
    calls: int
    rounds: int
    note: str = ""
    ratios: dict[str, timing.Spread] = field(default_factory=dict)
    """Of ours: how many times as long each other contender took."""


@dataclass(frozen=True)
class Refusal:
    """A cell and shape that is not reported, because a contender failed the gate."""

    cell: str
    shape: Shape
    reason: str


def make_problem(cell: Cell, shape: Shape) -> Problem:
    """Random numbers from a seed of the benchmark's own."""
    generator = torch.Generator().manual_seed(7)

    def values(*size: int, bound: float) -> Tensor:
        return (2 * torch.rand(size, generator=generator) - 1) * bound

    weights = {
        f"{name}_l0": values(*size, bound=shape.H**-0.5)
        for name, size in cell.shapes(shape.I, shape.H).items()
    }
    x = values(shape.T, shape.B, shape.I, bound=1.0)
    weighting = values(shape.T, shape.B, shape.H, bound=1.0)
    return Problem(cell, shape, x, weights, weighting)


def runners(problem: Problem) -> dict[str, Runner]:
    """Every contender that applies; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        made = {
            name: make(problem)
            for name, make in CONTENDERS.items()
            if (problem.cell.name, name) not in UNMEASURED
        }
    return {name: runner for name, runner in made.items() if runner is not None}


def check(problem: Problem, contenders: dict[str, Runner]) -> None:
    """Let no contender pass that computes something else than the definition in float64."""
    double = Problem(
        problem.cell,
        problem.shape,
        problem.x.double(),
        {name: value.double() for name, value in problem.weights.items()},
        problem.weighting.double(),
    )
    reference = eager(double).results(double.weighting)
    for name, runner in contenders.items():
        if runner.same:
            gate.check(name, runner.results(problem.weighting), reference)


def measure(
    cells: Sequence[str], shapes: Sequence[Shape], rounds: int, seconds: float
) -> Iterator[list[Row] | Refusal]:
    """Rows of one cell, shape and pass at a time, or why there are none."""
    for name in cells:
        for shape in shapes:
            problem = make_problem(CELLS[name], shape)
            contenders = runners(problem)
            try:
                check(problem, contenders)
            except gate.GateError as error:
                yield Refusal(name, shape, str(error))
                continue
            for which in PASSES:
                yield _rows(problem, contenders, which, rounds, seconds)


def _rows(
    problem: Problem, contenders: dict[str, Runner], which: str, rounds: int, seconds: float
) -> list[Row]:
    calls = {name: runner.call(which, problem.weighting) for name, runner in contenders.items()}
    times = timing.alternate(calls, rounds, seconds)
    rows = []
    for name, found in times.items():
        others = {key: value for key, value in times.items() if key != name and name == "ours"}
        rows.append(
            Row(
                problem.cell.name,
                problem.shape,
                which,
                name,
                found.seconds,
                _gflops(problem, contenders[name], which, found.seconds.median),
                found.calls,
                len(found.rounds),
                contenders[name].note,
                {key: found.ratio(value) for key, value in others.items()},
            )
        )
    return rows


def _gflops(problem: Problem, runner: Runner, which: str, seconds: float) -> float:
    cell = problem.cell if runner.same else CELLS["lstm"]
    return registry.operations(cell, problem.shape, which) / seconds / 1e9

"""One layer over sequences: ours, PyTorch's, other libraries', the eager loop."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks import gate, rival_jax, rival_keras, rival_onnxruntime, timing
from benchmarks.ceiling import Ceiling
from benchmarks.problem import Absent, Contender, Problem, Runner, make_problem
from benchmarks.registry import PASSES, Point, Shape
from benchmarks.settings import SETTINGS, Setting, operations
from holdfast.cells import CELLS
from holdfast.compiler.emit import eager as definition
from holdfast.compiler.emit.eager import Result
from holdfast.nn import Recurrent, operators


def ours(problem: Problem) -> Runner:
    """The compiled layer."""
    layer = _layer(problem)
    note = "" if layer.backend == "llvm" else f"{layer.backend}: {layer.backend_reason}"
    return Runner(_forward(layer, problem), dict(layer.named_parameters()), note=note)


def _layer(problem: Problem) -> Recurrent:
    layer = problem.setting.layer(problem.cell, problem.shape).to(problem.x.dtype)
    layer.load_state_dict(problem.weights)
    return layer


def _forward(layer: Recurrent, problem: Problem) -> Callable[[], Tensor]:
    if problem.lengths is None:
        return lambda: layer(problem.x)[0]
    return lambda: layer(problem.x, lengths=problem.lengths)[0]


def defined(problem: Problem) -> Runner:
    """The same layer with the definition in the compiled target's place."""
    layer = _layer(problem)
    forward = _forward(layer, problem)

    def loop() -> Tensor:
        with operators.instead(_eagerly):
            return forward()

    return Runner(loop, dict(layer.named_parameters()))


def _eagerly(backend: str, *arguments: Any, **options: Any) -> Result:
    return definition.run(*arguments, **options)


def torch_layer(problem: Problem) -> Runner | None:
    """PyTorch's layer with the same weights, where it has the cell."""
    kinds: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU}
    if problem.cell.name not in kinds:
        return None
    I, H = problem.shape.I, problem.shape.H
    layer = kinds[problem.cell.name](I, H, dtype=problem.setting.dtype, **problem.options)
    layer.load_state_dict(problem.weights)
    forward = _packed(layer, problem) if problem.setting.ragged else lambda: layer(problem.x)[0]
    return Runner(forward, dict(layer.named_parameters()))


def _packed(layer: nn.RNNBase, problem: Problem) -> Callable[[], Tensor]:
    """`pack_padded_sequence` before the layer, `pad_packed_sequence` behind it."""
    lengths = problem.lengths
    assert lengths is not None

    def forward() -> Tensor:
        packed = pack_padded_sequence(problem.x, lengths, enforce_sorted=False)
        return pad_packed_sequence(layer(packed)[0], total_length=problem.shape.T)[0]

    return forward


def torch_lstm(problem: Problem) -> Runner | None:
    """PyTorch's plain LSTM beside a cell that PyTorch lacks: other mathematics, a yardstick."""
    if problem.cell.name in ("lstm", "gru") or problem.setting.name != "plain":
        return None
    with torch.random.fork_rng(devices=[]):
        layer = nn.LSTM(problem.shape.I, problem.shape.H)
    parameters = dict(layer.named_parameters())
    return Runner(lambda: layer(problem.x)[0], parameters, same=False, note="another cell")


def eager(problem: Problem) -> Runner | None:
    """The definition: one PyTorch operation after the other, in a Python loop over the steps."""
    if problem.setting.name != "plain":
        return None
    cell, shape, x = problem.cell, problem.shape, problem.x
    parameters = {name: value.clone().requires_grad_() for name, value in problem.weights.items()}
    named = {name.removesuffix("_l0"): value for name, value in parameters.items()}

    def forward() -> Tensor:
        zeros = x.new_zeros(shape.B, shape.H)
        states = tuple(zeros for _ in cell.states)
        return operators.run("eager", cell, x, named, zeros, states).out

    return Runner(forward, parameters)


CONTENDERS: dict[str, Callable[[Problem], Contender | Absent | None]] = {
    "ours": ours,
    "torch": torch_layer,
    "torch-lstm": torch_lstm,
    rival_onnxruntime.NAME: rival_onnxruntime.make,
    rival_jax.NAME: rival_jax.make,
    rival_keras.NAME: rival_keras.make,
    "eager": eager,
}
"""Who is measured: a function from the problem to a contender, to why it takes no part, or to None
where nobody would expect it."""

PEERS: dict[str, tuple[str, ...]] = {
    "torch": ("torch", "torch-lstm"),
    **{name: (name,) for name in CONTENDERS if name not in ("ours", "torch", "torch-lstm")},
}
"""Contenders beside ours by the names that the command line takes."""

USUAL = ("torch", "eager")

UNMEASURED = {("lstm", "eager")}
"""Cells beside which a contender says nothing new: who wants a plain LSTM takes PyTorch's."""


@dataclass(frozen=True)
class Row:
    """One contender at one cell, point and pass.

    cores: that were really used. share: of the ceiling. ratios: of ours, how many times as long
    each other contender took.
    """

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
    setting: str = "plain"
    source: str = ""
    cores: float = 1.0
    share: float | None = None


@dataclass(frozen=True)
class Refusal:
    """A cell and point that is not reported, because a contender failed the gate."""

    cell: str
    shape: Shape
    reason: str
    setting: str = "plain"


@dataclass(frozen=True)
class Gone:
    """Contenders that take no part at a cell and point."""

    cell: str
    shape: Shape
    setting: str
    absent: tuple[Absent, ...]


Found = list[Row] | Refusal | Gone


@contextmanager
def apart() -> Iterator[None]:
    """PyTorch keeps what it says of projections."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LSTM with projections is not supported with oneDNN")
        yield


def runners(
    problem: Problem, peers: Sequence[str] = USUAL
) -> tuple[dict[str, Contender], tuple[Absent, ...]]:
    """Every contender that applies, and those that are missing; the global random state stays."""
    wanted = ["ours", *(name for peer in PEERS if peer in peers for name in PEERS[peer])]
    made: dict[str, Contender] = {}
    absent = []
    with torch.random.fork_rng(devices=[]):
        for name in wanted:
            if (problem.cell.name, name) in UNMEASURED:
                continue
            found = CONTENDERS[name](problem)
            if isinstance(found, Absent):
                absent.append(found)
            elif found is not None:
                made[name] = found
    return made, tuple(absent)


def check(problem: Problem, contenders: Mapping[str, Contender]) -> None:
    """Let no contender pass that computes something else than the definition in float64."""
    double = problem.double()
    reference = defined(double).results(double.weighting)
    for name, contender in contenders.items():
        if contender.same:
            found = contender.results(problem.weighting)
            whole = isinstance(contender, Runner)
            wanted = {key: reference[key] for key in reference if whole or key in found}
            gate.check(name, found, wanted, problem.setting.dtype)


def measure(
    cells: Sequence[str],
    points: Sequence[Point],
    rounds: int,
    seconds: float,
    peers: Sequence[str] = USUAL,
    ceiling: Ceiling | None = None,
) -> Iterator[Found]:
    """Rows of one cell, point and pass at a time, or why there are none."""
    for name in cells:
        for point in points:
            setting = SETTINGS[point.setting]
            if setting.cells and name not in setting.cells:
                continue
            with apart():
                yield from _measured(name, point, setting, rounds, seconds, peers, ceiling)


def _measured(
    name: str,
    point: Point,
    setting: Setting,
    rounds: int,
    seconds: float,
    peers: Sequence[str],
    ceiling: Ceiling | None,
) -> Iterator[Found]:
    problem = make_problem(CELLS[name], point.shape, setting)
    small = problem.gated()
    contenders, absent = runners(small, peers)
    if absent:
        yield Gone(name, point.shape, setting.name, absent)
    try:
        check(small, contenders)
    except gate.GateError as error:
        yield Refusal(name, point.shape, str(error), setting.name)
        return
    if small.shape != problem.shape:
        contenders, _ = runners(problem, peers)
    for which in PASSES:
        yield _rows(problem, contenders, which, rounds, seconds, ceiling, point.source)


def _rows(
    problem: Problem,
    contenders: Mapping[str, Contender],
    which: str,
    rounds: int,
    seconds: float,
    ceiling: Ceiling | None,
    source: str,
) -> list[Row]:
    every = {name: one.call(which, problem.weighting) for name, one in contenders.items()}
    times = timing.alternate(
        {name: call for name, call in every.items() if call is not None}, rounds, seconds
    )
    rows = []
    for name, found in times.items():
        others = {key: value for key, value in times.items() if key != name and name == "ours"}
        median = found.seconds.median
        rows.append(
            Row(
                problem.cell.name,
                problem.shape,
                which,
                name,
                found.seconds,
                _gflops(problem, contenders[name], which, median),
                found.calls,
                len(found.rounds),
                contenders[name].note,
                {key: found.ratio(value) for key, value in others.items()},
                problem.setting.name,
                source,
                found.cores,
                _share(problem, contenders[name], which, median, ceiling),
            )
        )
    return rows


def _gflops(problem: Problem, contender: Contender, which: str, seconds: float) -> float:
    cell = problem.cell if contender.same else CELLS["lstm"]
    count = operations(cell, problem.shape, which, problem.setting, problem.share)
    return count / seconds / 1e9


def _share(
    problem: Problem, contender: Contender, which: str, seconds: float, ceiling: Ceiling | None
) -> float | None:
    """The least time that the ceiling allows, by the time that was taken."""
    if ceiling is None or not contender.same:
        return None
    least = ceiling.seconds(problem.cell, problem.shape, which, problem.setting, problem.share)
    return least / seconds

"""What each option of a layer costs: over the plain layer, and beside `torch.nn`."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks import gate, loops, peers, timing
from benchmarks.peers import CLIP, DROPOUT, HEADS, STATE_CLIP, ZONEOUT, Given, Peer, Runner
from benchmarks.registry import PASSES, Shape
from holdfast.compiler.emit import eager
from holdfast.compiler.emit.eager import Result
from holdfast.nn import LSTM, operators

SHAPE = Shape(32, 100, 32, 128)
"""Where options are measured."""

SMALL = Shape(5, 13, 7, 36)
"""Where they are compared with the definition."""

RESETS = 0.01
"""Share of the steps at which a row begins anew."""

SMALL_RESETS, SMALL_SCALE = 0.2, 10.0
"""In the comparison rows begin anew more often, and inputs are so large that clips act."""

SEED = 7

MASKS, NORM, RESET, CELLS, BOTH, RAGGED = 1.15, 1.35, 1.1, 1.05, 2.05, 1.15
"""The most that an option may cost, as a multiple of the plain layer."""


@dataclass(frozen=True)
class Option:
    """One option: how our layer is made and called, its peer, and the most that it may cost.

    settings: of the layer. call: what else the call gets, of `lengths`, `resets`, `tbptt` and
    `return_cells`. training: masks are drawn. layers: of the plain layer beside it. beside: the
    peer, in words.
    """

    name: str
    settings: Mapping[str, Any]
    peer: Peer
    beside: str
    limit: float | None = None
    training: bool = False
    layers: int = 1
    call: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mode(self) -> str:
        """The mode in which the layer, the plain one and the peer run."""
        return "training" if self.training else "evaluation"


def table(shape: Shape) -> dict[str, Option]:
    """Every option, for layers of a shape.

    >>> table(SHAPE)["projection"].settings
    {'proj_size': 64}
    """
    every = (*_masks(), *_steps(), *_sequences(shape), *_stacks(shape))
    return {option.name: option for option in every}


def _masks() -> Iterator[Option]:
    def option(name: str, settings: Mapping[str, Any], peer: Peer, beside: str) -> Option:
        return Option(name, settings, peer, beside, limit=MASKS, training=True)

    h = {"recurrent_dropout": DROPOUT}
    lstm, cell = "nn.LSTM", "a loop over nn.LSTMCell"
    inputs, outputs = peers.locked(inputs=DROPOUT), peers.locked(outputs=DROPOUT)
    yield option("input_dropout", {"input_dropout": DROPOUT}, inputs, f"{lstm} behind a mask")
    yield option("output_dropout", {"output_dropout": DROPOUT}, outputs, f"{lstm} before a mask")
    yield option("recurrent_dropout", h, loops.cells(loops.masked_h), cell)
    yield option(
        "candidate_dropout",
        h | {"recurrent_dropout_on": "candidate"},
        loops.operations(dropout=DROPOUT),
        "a loop over operations",
    )
    yield option("zoneout", {"zoneout": ZONEOUT}, loops.cells(loops.zoneout), cell)
    yield Option(
        "zoneout_evaluation", {"zoneout": ZONEOUT}, loops.cells(loops.zoneout), cell, limit=MASKS
    )
    dropped = peers.dropped_weights
    yield option("weight_dropout", {"weight_dropout": DROPOUT}, dropped, f"{lstm}, R dropped out")


def _steps() -> Iterator[Option]:
    def option(name: str, settings: Mapping[str, Any], peer: Peer, limit: Any = None) -> Option:
        return Option(name, settings, peer, "a loop over operations", limit)

    lines = {"gate": "hard_sigmoid", "candidate": "hard_tanh", "output": "hard_tanh"}
    yield option("layer_norm", {"layer_norm": True}, loops.layer_norm, NORM)
    yield option("clip", {"clip": CLIP}, loops.clipped())
    yield option("state_clip", {"state_clip": STATE_CLIP}, loops.state_clipped())
    yield option("activations", {"activations": lines}, loops.hard())
    yield option("diagonal", {"recurrence": "diagonal"}, loops.diagonal)
    yield Option("heads", {"recurrence": HEADS}, peers.heads, f"{HEADS} nn.LSTM side by side")


def _sequences(shape: Shape) -> Iterator[Option]:
    cell = "a loop over nn.LSTMCell"
    resets, every = loops.cells(loops.reset), loops.cells(loops.plain, keep=True)
    yield Option("resets", {}, resets, cell, RESET, call={"resets": True})
    yield Option("return_cells", {}, every, cell, CELLS, call={"return_cells": True})
    packed = "nn.LSTM, packed and padded"
    yield Option("ragged", {}, peers.ragged, packed, RAGGED, call={"lengths": True})
    start = "nn.LSTM with expanded parameters"
    yield Option("learned_start", {"learned_start": True}, peers.learned_start, start)
    steps = max(1, shape.T // 4)
    chunks = "nn.LSTM in chunks"
    yield Option("tbptt", {}, peers.truncated(steps), chunks, call={"tbptt": steps})


def _stacks(shape: Shape) -> Iterator[Option]:
    projection = {"proj_size": shape.H // 2}
    projected = peers.stock(projection)
    yield Option("projection", projection, projected, "nn.LSTM(proj_size=...)")
    both = {"bidirectional": True}
    summed = peers.stock(both, peers.halves)
    two, stack = {"num_layers": 2}, "two nn.LSTM"
    yield Option("bidirectional", both, peers.stock(both), "nn.LSTM(bidirectional=True)", BOTH)
    yield Option("bidirectional_sum", both | {"merge": "sum"}, summed, "the same, summed", BOTH)
    between = {"dropout": DROPOUT} | two
    stock = peers.stock(between)
    yield Option("dropout", between, stock, "nn.LSTM(dropout=...)", None, True, layers=2)
    yield Option("residual", {"residual": True} | two, peers.residual, f"{stack} and +", layers=2)
    gate = f"{stack} and nn.Linear"
    yield Option("highway", {"highway": True} | two, peers.highway, gate, layers=2)
    halved = {"hidden_size": (shape.H, shape.H // 2)}
    yield Option("sizes", halved, peers.sizes, stack, layers=2)


NAMES = tuple(table(SHAPE))
"""Of every option."""


@dataclass(frozen=True)
class Row:
    """One option and pass. Seconds are those of one call.

    cost: seconds of ours by those of the plain layer and by `share`, round by round. share: of the
    steps that are alive. peer_ratio: seconds of the peer by ours.
    """

    option: Option
    which: str
    ours: timing.Spread
    plain: timing.Spread
    peer: timing.Spread
    cost: timing.Spread
    peer_ratio: timing.Spread
    share: float = 1.0
    calls: int = 1
    note: str = ""

    @property
    def verdict(self) -> str:
        """Within or above the limit; empty where there is none."""
        if self.option.limit is None:
            return ""
        return "within" if self.cost.median <= self.option.limit else "above"


@dataclass(frozen=True)
class Refusal:
    """An option that is not reported, because a contender failed the gate."""

    option: Option
    reason: str


@dataclass(frozen=True, eq=False)
class Problem:
    """An option at a shape: our layer, the plain one, and what both and the peer get."""

    option: Option
    layer: LSTM
    plain: LSTM
    given: Given

    @classmethod
    def of(
        cls, option: Option, shape: Shape, resets: float = RESETS, scale: float = 1.0
    ) -> Problem:
        """Random numbers from a seed of the benchmark's own; no parameter is constant."""
        generator = torch.Generator().manual_seed(SEED)
        settings: dict[str, Any] = {"hidden_size": shape.H} | dict(option.settings)
        layer = LSTM(shape.I, **settings).train(option.training)
        plain = LSTM(shape.I, shape.H, option.layers).train(option.training)
        for one in (layer, plain):
            _fill(one, shape.H**-0.5, generator)
        x = scale * (2 * torch.rand((shape.T, shape.B, shape.I), generator=generator) - 1)
        lengths = torch.linspace((shape.T + 1) // 2, shape.T, shape.B).round().to(torch.int64)
        given = Given(
            shape,
            x,
            lengths[torch.randperm(shape.B, generator=generator)],
            torch.rand((shape.T, shape.B), generator=generator) < resets,
            layer.state_dict(),
            option.training,
        )
        return cls(option, layer, plain, given)

    @property
    def share(self) -> float:
        """Of the steps that are alive."""
        if "lengths" not in self.option.call:
            return 1.0
        return float(self.given.lengths.sum()) / (self.given.shape.T * self.given.shape.B)

    def ours(self, layer: LSTM, x: Tensor, seed: int | None = None) -> Runner:
        """Our layer with the option; without a seed every call draws other masks."""
        tensors = {"lengths": self.given.lengths, "resets": self.given.resets}
        call = {name: tensors.get(name, value) for name, value in self.option.call.items()}

        def forward() -> tuple[Tensor, ...]:
            out, _, *cells = layer(x, seed=seed, **call)
            return out, *cells

        return Runner(forward, dict(layer.named_parameters()))

    def without(self) -> Runner:
        """The plain layer."""
        return Runner(lambda: (self.plain(self.given.x)[0],), dict(self.plain.named_parameters()))


def _fill(layer: LSTM, bound: float, generator: torch.Generator) -> None:
    """Values around 1 for gains, around 0 for all else."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.uniform_(-bound, bound, generator=generator)
            parameter.add_(1.0 if name.startswith("gain_") else 0.0)


def weightings(runner: Runner) -> tuple[Tensor, ...]:
    """The gradients of a runner's outputs."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.inference_mode():
        outs = runner.forward()
    return tuple(2 * torch.rand(out.shape, generator=generator) - 1 for out in outs)


@contextmanager
def apart() -> Iterator[None]:
    """The global random state stays as it was, and PyTorch keeps what it says of projections."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LSTM with projections is not supported with oneDNN")
        yield


def _eagerly(backend: str, *arguments: Any, **options: Any) -> Result:
    return eager.run(*arguments, **options)


def check(option: Option) -> None:
    """Compare ours with the definition in float64, and the peer with it where no mask is drawn.

    Call it in `apart`.

    Errors: `GateError`.
    """
    problem = Problem.of(option, SMALL, SMALL_RESETS, SMALL_SCALE)
    ours = problem.ours(problem.layer, problem.given.x, SEED)
    gradients = weightings(ours)
    # Dropout between layers draws from PyTorch's generator, as in PyTorch.
    torch.manual_seed(SEED)
    gate.check("ours", ours.results(gradients), _defined(problem, gradients))
    quiet = replace(option, training=False)
    problem = Problem.of(quiet, SMALL, SMALL_RESETS, SMALL_SCALE)
    found = option.peer(problem.given).results(gradients)
    reference = _defined(problem, gradients)
    same = [name for name in reference if name in found]
    gate.check("torch", {name: found[name] for name in same}, {n: reference[n] for n in same})


def _defined(problem: Problem, gradients: tuple[Tensor, ...]) -> dict[str, Tensor]:
    twin = copy.deepcopy(problem.layer).double()
    torch.manual_seed(SEED)
    with operators.instead(_eagerly):
        runner = problem.ours(twin, problem.given.x.double(), SEED)
        return runner.results(tuple(value.double() for value in gradients))


def measure(
    names: Sequence[str], shape: Shape, rounds: int, seconds: float
) -> Iterator[list[Row] | Refusal]:
    """Rows of one option at a time, or why there are none."""
    options = table(shape)
    small = table(SMALL)
    with apart():
        for name in names:
            try:
                check(small[name])
            except gate.GateError as error:
                yield Refusal(options[name], str(error))
                continue
            yield _rows(Problem.of(options[name], shape), rounds, seconds)


def _rows(problem: Problem, rounds: int, seconds: float) -> list[Row]:
    contenders = {
        "plain": problem.without(),
        "ours": problem.ours(problem.layer, problem.given.x),
        "peer": problem.option.peer(problem.given),
    }
    gradients = {name: weightings(runner) for name, runner in contenders.items()}
    rows = []
    for which in PASSES:
        calls = {name: one.call(which, gradients[name]) for name, one in contenders.items()}
        times = timing.alternate(calls, rounds, seconds)
        plain, ours, peer = times.values()
        rows.append(
            Row(
                problem.option,
                which,
                ours.seconds,
                plain.seconds,
                peer.seconds,
                _share(plain.ratio(ours), problem.share),
                ours.ratio(peer),
                problem.share,
                ours.calls,
                _note(problem.layer),
            )
        )
    return rows


def _share(ratio: timing.Spread, share: float) -> timing.Spread:
    return timing.Spread(ratio.median / share, ratio.low / share, ratio.high / share)


def _note(layer: LSTM) -> str:
    """Where something else than the compiled target runs, and why."""
    slow = [f"{name}: {reason}" for name, reason in layer.backends if name != "llvm"]
    return slow[0] if slow else ""

"""One step of one stream with a carried state: ours, PyTorch's, ONNX Runtime's and JAX's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import gate, layers, rival_jax, rival_onnxruntime, timing
from benchmarks.problem import Absent, Problem, make_problem, missing
from benchmarks.registry import Shape
from holdfast.cells import lstm
from holdfast.data.optional import require
from holdfast.errors import MissingExtraError
from holdfast.nn import LSTM

SHAPES = (Shape(1, 1, 32, 128), Shape(1, 1, 128, 512))
"""Where streams are measured."""

STEPS = 64
"""Steps over which contenders are compared with the definition."""

PRECISIONS = ("bf16", "int8")
"""Formats of weights that a stepper may take beside its own."""


@dataclass(frozen=True, eq=False)
class Stream:
    """A contender: `reset()` forgets the state, `step(x)` takes one input, in its own form.

    inputs: one for each step. read: what a step gave, as `[H]`. same: it computes in float32, so it
    has to pass the gate.
    """

    reset: Callable[[], None]
    step: Callable[[Any], Any]
    inputs: Sequence[Any]
    read: Callable[[Any], Tensor]
    note: str = ""
    same: bool = True

    def call(self) -> Callable[[], object]:
        """What is timed: a step on the same input, from the state that the last one left."""
        self.reset()
        step, x = self.step, self.inputs[0]
        return lambda: step(x)

    def outputs(self) -> Tensor:
        """Every output of the stream, `[T, H]`."""
        self.reset()
        return torch.stack([self.read(self.step(x)).clone() for x in self.inputs])


def _layer(make: Callable[[int, int], nn.Module], problem: Problem) -> Stream:
    layer = make(problem.shape.I, problem.shape.H)
    layer.load_state_dict(problem.weights)
    state: dict[str, Any] = {}

    def step(x: Tensor) -> Tensor:
        with torch.inference_mode():
            out, state["now"] = layer(x, state.get("now"))
        return out

    return Stream(state.clear, step, problem.x.split(1), lambda out: out[0, 0])


def ours(problem: Problem) -> Stream:
    """Our layer, called under `inference_mode` with the state that it returned."""
    return _layer(LSTM, problem)


def torch_layer(problem: Problem) -> Stream:
    """`torch.nn.LSTM`, called in the same way."""
    return _layer(nn.LSTM, problem)


def torch_cell(problem: Problem) -> Stream:
    """`torch.nn.LSTMCell`, called in the same way."""
    cell = nn.LSTMCell(problem.shape.I, problem.shape.H)
    cell.load_state_dict({name: problem.weights[f"{name}_l0"] for name in cell.state_dict()})
    state: dict[str, Any] = {}

    def step(x: Tensor) -> Tensor:
        with torch.inference_mode():
            state["now"] = cell(x, state.get("now"))
        return state["now"][0]

    return Stream(state.clear, step, problem.x.unbind(), lambda h: h[0])


def stepper(problem: Problem, precision: str = "") -> Stream | None:
    """`layer.stepper()`, where layers have one, and have the precision."""
    layer = LSTM(problem.shape.I, problem.shape.H)
    layer.load_state_dict(problem.weights)
    make = getattr(layer, "stepper", None)
    if make is None or (precision and "precision" not in inspect.signature(make).parameters):
        return None
    options = {"precision": precision} if precision else {}
    state = {"stepper": make(batch=1, **options)}

    def reset() -> None:
        state["stepper"] = make(batch=1, **options)

    def step(x: Tensor) -> Tensor:
        return state["stepper"](x)

    read: Callable[[Tensor], Tensor] = torch.flatten
    return Stream(reset, step, problem.x.unbind(), read, same=not precision)


def onnxruntime(problem: Problem) -> Stream | Absent:
    """A session whose outputs are fed to the next call."""
    try:
        session = rival_onnxruntime.make_session(_carried(problem))
    except MissingExtraError as error:
        return missing(rival_onnxruntime.NAME, error)
    H = problem.shape.H
    zeros = torch.zeros(1, 1, H).numpy()
    state: dict[str, Any] = {}

    def step(x: Any) -> Any:
        h, c = session.run(["h", "c"], {"x": x, **state})
        state.update(h0=h, c0=c)
        return h

    def reset() -> None:
        state.update(h0=zeros, c0=zeros)

    inputs = [x.numpy() for x in problem.x.split(1)]
    return Stream(reset, step, inputs, lambda h: torch.from_numpy(h)[0, 0])


def _carried(problem: Problem) -> Any:
    onnx = require("onnx", "bench")
    H, I = problem.shape.H, problem.shape.I
    parts = rival_onnxruntime.node_weights("LSTM", problem.weights, "_l0")
    given = [
        onnx.numpy_helper.from_array(part[None].contiguous().numpy(), name)
        for part, name in zip(parts, "WRB", strict=True)
    ]
    inputs = ["x", "W", "R", "B", "", "h0", "c0"]
    node = onnx.helper.make_node("LSTM", inputs, ["", "h", "c"], hidden_size=H)
    one = [1, 1, H]
    taken = {"x": [1, 1, I], "h0": one, "c0": one}
    return rival_onnxruntime.model([node], taken, {"h": one, "c": one}, given)


def jax(problem: Problem) -> Stream | Absent:
    """A jitted step; each waits for its result."""
    try:
        note = rival_jax.begin()
    except MissingExtraError as error:
        return missing(rival_jax.NAME, error)
    given = {name: rival_jax.array(value) for name, value in problem.weights.items()}
    zeros = rival_jax.array(torch.zeros(1, problem.shape.H))

    def one(weights: Mapping[str, Any], x: Any, h: Any, c: Any) -> Any:
        bias = weights["bias_ih_l0"] + weights["bias_hh_l0"]
        gates = x @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T + bias
        return rival_jax.lstm(gates, c)

    jitted = require("jax", "bench").jit(one)
    state: dict[str, Any] = {}

    def step(x: Any) -> Any:
        state["now"] = jitted(given, x, *state["now"])
        return state["now"][0].block_until_ready()

    def reset() -> None:
        state["now"] = zeros, zeros

    inputs = [rival_jax.array(x) for x in problem.x.unbind()]
    return Stream(reset, step, inputs, lambda h: rival_jax.tensor(h)[0], note)


CONTENDERS: dict[str, Callable[[Problem], Stream | Absent | None]] = {
    "ours": ours,
    "ours, stepper": stepper,
    **{f"ours, stepper {name}": lambda p, name=name: stepper(p, name) for name in PRECISIONS},
    "torch": torch_layer,
    "torch cell": torch_cell,
    "onnxruntime": onnxruntime,
    "jax": jax,
    "keras": lambda problem: Absent("keras", "no step with a carried state is written for it"),
}
"""Who is measured; the stepper where layers have one."""

PEERS = {
    "torch": ("torch", "torch cell"),
    **{name: (name,) for name in ("onnxruntime", "jax", "keras")},
}
"""Contenders by the names that the command line takes."""


@dataclass(frozen=True)
class Row:
    """One contender at one shape.

    error: its largest distance from the definition, by the definition's largest value. ratios: of
    ours, how many times as long each other contender took.
    """

    shape: Shape
    contender: str
    seconds: timing.Spread
    error: float
    calls: int
    rounds: int
    note: str = ""
    ratios: dict[str, timing.Spread] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """A shape that is not reported."""

    shape: Shape
    reason: str


Found = list[Row] | Refusal | Absent


def measure(
    shapes: Sequence[Shape], rounds: int, seconds: float, peers: Sequence[str]
) -> Iterator[Found]:
    """Rows of one shape at a time, those that are absent, or why there are none."""
    for shape in shapes:
        problem = make_problem(lstm, shape._replace(B=1, T=STEPS))
        with torch.random.fork_rng(devices=[]):
            made, absent = _streams(problem, peers)
        yield from absent
        try:
            errors = check(problem, made)
        except gate.GateError as error:
            yield Refusal(shape, str(error))
            continue
        yield _rows(shape, made, errors, rounds, seconds)


def _streams(problem: Problem, peers: Sequence[str]) -> tuple[dict[str, Stream], list[Absent]]:
    others = [name for peer in PEERS if peer in peers for name in PEERS[peer]]
    made: dict[str, Stream] = {}
    absent = []
    for name, make in CONTENDERS.items():
        if not name.startswith("ours") and name not in others:
            continue
        found = make(problem)
        if isinstance(found, Absent):
            absent.append(found)
        elif found is not None:
            made[name] = found
    return made, absent


def check(problem: Problem, streams: Mapping[str, Stream]) -> dict[str, float]:
    """Compare every stream with the definition in float64; returns each one's error.

    Errors: `GateError` for a contender in float32 that differs.
    """
    with torch.no_grad():
        reference = layers.defined(problem.double()).forward()[:, 0]
    errors = {}
    for name, stream in streams.items():
        found = stream.outputs().detach()
        if stream.same:
            gate.check(name, {"out": found}, {"out": reference})
        distance = (found.double() - reference).abs().max() / reference.abs().max()
        errors[name] = float(distance)
    return errors


def lead(names: Sequence[str]) -> str:
    """The contender that others are compared with: our fastest way of stepping in float32.

    >>> lead(["ours", "ours, stepper", "torch"]), lead(["ours", "torch"])
    ('ours, stepper', 'ours')
    """
    return "ours, stepper" if "ours, stepper" in names else "ours"


def _rows(
    shape: Shape,
    streams: Mapping[str, Stream],
    errors: Mapping[str, float],
    rounds: int,
    seconds: float,
) -> list[Row]:
    calls = {name: stream.call() for name, stream in streams.items()}
    times = timing.alternate(calls, rounds, seconds)
    ours = [lead(list(times)), *(name for name in times if streams[name].same is False)]
    rows = []
    for name, found in times.items():
        ratios = {}
        if name in ours:
            ratios = {other: found.ratio(value) for other, value in times.items() if other != name}
        row = Row(
            shape,
            name,
            found.seconds,
            errors[name],
            found.calls,
            len(found.rounds),
            streams[name].note,
            ratios,
        )
        rows.append(row)
    return rows

"""The recorder against the eager definition, and what it sees against autograd."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from holdfast import Cell, cell, tanh
from holdfast.cells import CELLS
from holdfast.compiler.emit import eager
from holdfast.compiler.emit.eager import Resets
from holdfast.compiler.noise import Noise
from holdfast.compiler.vary import Variation, vary
from holdfast.lens.activations import watch
from holdfast.lens.trace import _Recorder, record
from holdfast.nn import LSTM, operators
from tests.emit import user_cells
from tests.helpers import assert_same, unequal_

USERS = {name: value for name, value in vars(user_cells).items() if isinstance(value, Cell)}
EVERY = {**USERS, **CELLS}
B, T, I, H = 3, 5, 2, 4


def _problem(cell: Cell, generator: torch.Generator, **sizes: int) -> dict[str, Any]:
    """Random arguments of a pass; `heads` blocks of R, or h projected to `features`."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64) / 2

    shapes = cell.shapes(I, H)
    width = sizes.get("features", H)
    if "weight_hh" in shapes:
        rows = shapes["weight_hh"][0]
        shapes["weight_hh"] = (rows, width // sizes.get("heads", 1))
    if "features" in sizes:
        shapes["weight_hr"] = (width, H)
    return {
        "x": draw(T, B, cell.widths(I, H)[0]),
        "parameters": {name: draw(*shape) for name, shape in shapes.items()},
        "h": draw(B, width),
        "states": tuple(draw(B, H) for _ in cell.states),
    }


def _compare(cell: Cell, problem: dict[str, Any], **options: Any) -> _Recorder:
    """Results and gradients of the recorder and of the eager definition."""
    recorder, found = _Recorder(), []
    for run in (eager.run, lambda *a, **k: recorder.run("llvm", *a, **k)):
        x = problem["x"].clone().requires_grad_()
        arguments = {**problem, **options, "x": x, "sequences": True}
        result = run(cell, **arguments)
        total = result.out.square().sum() + result.h.sum()
        (gradient,) = torch.autograd.grad(total, x)
        found.append((result.out, result.h, result.states, result.sequences, gradient))
    assert_same(found[1], found[0])
    return recorder


@pytest.mark.parametrize("name", sorted(EVERY))
def test_a_recorded_pass_is_the_definitions(name: str, generator: torch.Generator) -> None:
    cell = EVERY[name]
    problem = _problem(cell, generator)
    _compare(cell, problem)
    _compare(cell, problem, lengths=torch.tensor([2, 0, 5]))
    at = torch.rand(T, B, generator=generator) < 0.4
    starts = tuple(torch.full((H,), 0.5, dtype=torch.float64) for _ in ("h", *cell.states))
    course = _compare(cell, problem, resets=Resets(at)).courses[0]
    assert_same(course.fresh, at)
    lengths = torch.tensor([2, 0, 5])
    course = _compare(cell, problem, resets=Resets(at, starts), lengths=lengths).courses[0]
    assert_same(course.fresh, at & (torch.arange(T).unsqueeze(1) < lengths))


def test_packed_rows_masks_heads_and_projection(generator: torch.Generator) -> None:
    lstm = CELLS["lstm"]
    problem = _problem(lstm, generator)
    packed = {**problem, "x": torch.randn(9, I, generator=generator, dtype=torch.float64)}
    _compare(lstm, packed, batch_sizes=torch.tensor([3, 3, 2, 1]))
    _compare(lstm, _problem(lstm, generator, heads=2))
    _compare(lstm, _problem(lstm, generator, features=2))
    noisy = vary(lstm, Variation(recurrent_mask=True, candidate_mask=True, zoneout=("h", "c")))
    table = torch.tensor([[0.5, 2.0, 0.0]] * len(noisy.masks), dtype=torch.float64)
    for steps in (None, torch.tensor([4, 0, 9])):
        noise = Noise(torch.arange(B), table, steps)
        _compare(noisy, _problem(noisy, generator), noise=noise)
    normal = vary(lstm, Variation(layer_norm=True, clip=1.0))
    _compare(normal, _problem(normal, generator))


WHOLE = [name for name in sorted(EVERY) if not any(acc.inner for acc in EVERY[name].accumulators)]


@pytest.mark.parametrize("name", WHOLE)
def test_retention_is_the_derivative_with_the_sums_given(
    name: str, generator: torch.Generator
) -> None:
    cell = EVERY[name]
    problem = _problem(cell, generator)
    course = _compare(cell, problem).courses[0]
    parameters, h, states = problem["parameters"], problem["h"], problem["states"]
    own = ("h", *cell.states)
    for t, x in enumerate(problem["x"]):
        sums = eager.gates(cell, x, parameters, h)
        weights = {("weight", weight): parameters[weight] for weight in cell.weights}
        for state, seen in course.retention.items():
            old = {name: value.clone() for name, value in zip(own, (h, *states), strict=True)}
            old[state].requires_grad_()
            leaves = {("state", name): value for name, value in old.items()} | weights | sums
            leaves |= eager.given(cell, x, parameters, H)
            new = eager.evaluate(cell, leaves, parameters)[own.index(state)].expand(B, H)
            expected = torch.zeros_like(new)
            if new.requires_grad:
                (expected,) = torch.autograd.grad(new.sum(), old[state], materialize_grads=True)
            assert_same(seen[t], expected, f"{state} at step {t}")
        h, states = eager.step(cell, x, parameters, h, states)


def test_what_a_called_gate_carries_is_no_memory_of_the_unit(generator: torch.Generator) -> None:
    course = _compare(CELLS["gru_2014"], _problem(CELLS["gru_2014"], generator)).courses[0]
    assert_same(dict(course.retention), {"h": course.activations["z"]})


def test_activations_are_those_of_the_step(generator: torch.Generator) -> None:
    cell = CELLS["peephole"]
    problem = _problem(cell, generator)
    course = _compare(cell, problem).courses[0]
    parameters = problem["parameters"]
    before = torch.cat([problem["states"][0].unsqueeze(0), course.states["c"][:-1]])
    for t, x in enumerate(problem["x"]):
        h = course.h[t - 1] if t else problem["h"]
        sums = {name: value for (_, name), value in eager.gates(cell, x, parameters, h).items()}
        c = course.states["c"][t]
        expected = {
            "i": torch.sigmoid(sums["i"] + parameters["p_i"] * before[t]),
            "f": torch.sigmoid(sums["f"] + parameters["p_f"] * before[t]),
            "g": torch.tanh(sums["g"]),
            "o": torch.sigmoid(sums["o"] + parameters["p_o"] * c),
        }
        assert_same({name: value[t] for name, value in course.activations.items()}, expected)


@pytest.mark.parametrize(
    "variation",
    [
        Variation(layer_norm=True),
        Variation(diagonal=True),
        Variation(clip=3.0, state_clip=2.0, zoneout=("h", "c"), recurrent_mask=True),
        Variation(activations=(("gate", "hard_sigmoid"),), candidate_mask=True),
    ],
)
def test_gates_are_found_in_varied_cells(variation: Variation) -> None:
    assert list(watch(vary(CELLS["lstm"], variation)).activations) == ["i", "f", "g", "o"]


def test_activations_without_ends_are_left_out() -> None:
    unbounded = vary(CELLS["lstm"], Variation(activations=(("candidate", "identity"),)))
    assert list(watch(unbounded).activations) == ["i", "f", "o"]
    assert watch(CELLS["rnn_relu"]).activations == {"a": (0.0, float("inf"))}


@cell(gates="r n")
def raw(r, n, h):
    """A gate that is called with another gate's sum in the operand."""
    return tanh(n(r * h))


def test_the_operand_of_a_called_gate_is_not_a_part_of_it() -> None:
    assert list(watch(raw).activations) == ["n"]
    assert watch(raw).kept == ()


def test_the_recorder_takes_what_the_operators_take() -> None:
    taken = inspect.signature(_Recorder().run)
    assert taken.parameters.keys() == inspect.signature(operators.run).parameters.keys()


def test_other_threads_go_the_ordinary_way() -> None:
    layer, x, seen = LSTM(I, H), torch.ones(T, B, I), []

    def run() -> None:
        seen.append(layer(x)[0].detach())

    recorder = _Recorder()
    with operators.instead(recorder.run):
        other = threading.Thread(target=run)
        other.start()
        other.join()
        assert recorder.courses == []
        run()
    assert len(recorder.courses) == 1
    assert_same(seen[0], seen[1])
    with pytest.raises(ValueError, match="2 or 3"), operators.instead(recorder.run):
        raise ValueError("2 or 3")
    run()
    assert len(recorder.courses) == 1


@pytest.mark.plain_memory
def test_a_compiled_layer_is_recorded_as_the_layer_it_was(generator: torch.Generator) -> None:
    layer = LSTM(I, H)
    x = torch.randn(T, B, I, generator=generator)
    compiled: Any = torch.compile(layer, backend="aot_eager")
    whole: Any = torch.nn.Sequential(LSTM(I, H))
    whole[0].load_state_dict(layer.state_dict())
    whole[0].compile(backend="aot_eager")
    expected = compiled(x)[0]
    for module in (compiled, whole):
        recording = record(module, x)
        assert len(recording.courses) == 1
        assert_same(recording.courses[0].h, expected)


def test_a_recording_keeps_gates_and_states(generator: torch.Generator) -> None:
    layer = LSTM(I, H, num_layers=2, dtype=torch.float64)
    x = torch.randn(T, B, I, generator=generator, dtype=torch.float64)
    recording = record(layer, x)
    lower, upper = recording.courses
    out, _, cells = layer(x, return_cells=True)
    assert_same(upper.h, out)
    assert_same(upper.states["c"], cells)
    assert_same(recording.out, out)
    for course in (lower, upper):
        assert course.alive.all()
        assert list(course.activations) == ["i", "f", "g", "o"]
        assert_same(dict(course.retention), {"c": course.activations["f"]})


OPTIONS: dict[str, Mapping[str, Any]] = {
    "sizes": {"hidden_size": [4, 6], "num_layers": 2},
    "residual": {"num_layers": 2, "bidirectional": True, "merge": "sum", "residual": True},
    "highway": {"num_layers": 2, "highway": True, "learned_start": True},
    "heads": {"recurrence": 2, "zoneout": 0.25, "clip": 2.0},
    "diagonal": {"recurrence": "diagonal", "state_clip": 0.5, "proj_size": 0},
    "norm": {"layer_norm": True, "num_layers": 2, "bidirectional": True},
    "projection": {"proj_size": 2, "num_layers": 2, "batch_first": True},
    "dropouts": {
        "num_layers": 2,
        "dropout": 0.5,
        "input_dropout": 0.5,
        "output_dropout": 0.5,
        "recurrent_dropout": 0.5,
        "weight_dropout": 0.5,
    },
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_layers_options_are_recorded(name: str, generator: torch.Generator) -> None:
    layer = LSTM(**{"input_size": I, "hidden_size": H, "dtype": torch.float64, **OPTIONS[name]})
    unequal_(layer, generator)
    x = torch.randn(T, B, I, generator=generator, dtype=torch.float64)
    x = x.transpose(0, 1) if layer.batch_first else x
    options = {"lengths": [5, 2, 0]}
    recording = record(layer, x, **options)
    out, (h, _) = layer.eval()(x, **options)
    assert_same(recording.out, out)
    last = len(recording.last) // layer.num_layers
    expected = list(h)[-last:] if isinstance(h, Tensor) else list(h[-1])
    assert_same(list(recording.last[-last:]), expected)
    for course in recording.courses:
        assert list(course.activations) == ["i", "f", "g", "o"]
        assert course.lengths.tolist() == [5, 2, 0]


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_layers_resets_are_recorded(bidirectional: bool, generator: torch.Generator) -> None:
    layer = LSTM(I, H, bidirectional=bidirectional, dtype=torch.float64)
    unequal_(layer, generator)
    x = torch.randn(T, B, I, generator=generator, dtype=torch.float64)
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[3, 0] = resets[1, 1] = resets[4, 1] = True
    recording = record(layer, x, resets=resets)
    assert_same(recording.out, layer(x, resets=resets)[0])
    assert_same(recording.courses[0].fresh, resets)

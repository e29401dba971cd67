"""The short way of a call: for the ordinary case, equal to the general way, never for others."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from holdfast.compiler import build
from holdfast.nn import GRU, LSTM, RNN, Recurrent, direct, operators
from tests.helpers import assert_same, unequal_
from tests.use.layers import drawn

T, B, I, H = 5, 3, 4, 18
LAYERS: dict[str, Callable[..., Any]] = {
    "lstm": lambda **more: LSTM(I, H, **more),
    "gru": lambda **more: GRU(I, H, **more),
    "rnn": lambda **more: RNN(I, H, **more),
    "layer norm": lambda **more: Recurrent("layer_norm_lstm", I, H, **more),
    "zoneout": lambda **more: LSTM(I, H, zoneout=0.2, **more),
    "heads": lambda **more: LSTM(I, H, recurrence=2, **more),
    "projection": lambda **more: LSTM(I, H, proj_size=3, **more),
    "learned start": lambda **more: LSTM(I, H, learned_start=True, **more),
}
STACKS: dict[str, dict[str, Any]] = {
    "one": {},
    "three": {"num_layers": 3, "dropout": 0.5},
    "both directions": {"num_layers": 2, "bidirectional": True},
    "batch first": {"batch_first": True},
    "float64": {"dtype": torch.float64},
}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each call of a layer, whether it went the short way."""
    found: list[bool] = []
    run = direct.Direct.__call__

    def watched(self: Any, *arguments: Any) -> Any:
        result = run(self, *arguments)
        found.append(result is not None)
        return result

    monkeypatch.setattr(direct.Direct, "__call__", watched)
    return found


def _flat(result: Any) -> list[Tensor]:
    return (
        [result] if isinstance(result, Tensor) else [one for part in result for one in _flat(part)]
    )


def _layer(kind: str, stack: str, generator: torch.Generator) -> Any:
    return unequal_(LAYERS[kind](**STACKS[stack]), generator).eval()


@pytest.mark.parametrize(
    ("kind", "stack"), [*((kind, "one") for kind in LAYERS), *(("lstm", name) for name in STACKS)]
)
def test_equals_the_general_way(
    kind: str,
    stack: str,
    taken: list[bool],
    generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(direct, "_train_way", lambda *_: None)
    layer = _layer(kind, stack, generator)
    dtype = next(layer.parameters()).dtype
    for shape in ((T, B, I), (1, 1, I), (T, I), (1, B, I)):
        x = drawn(shape, generator, dtype)
        with torch.enable_grad():
            expected = [layer(x), layer(x, layer(x)[1])]
        taken.clear()
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                found = [layer(x), layer(x, expected[0][1])]
                assert_same(_flat(found), [one.detach() for one in _flat(expected)])
                assert [one.is_inference() for one in _flat(found)].count(
                    mode is torch.no_grad
                ) == 0
        turned = stack == "batch first" and shape == (T, B, I)
        assert all(taken[1::2]) != turned
        assert all(taken[::2]) != (turned or kind == "learned start")


def test_results_are_separate_memory(generator: torch.Generator) -> None:
    layer = _layer("lstm", "one", generator)
    x = drawn((1, 1, I), generator, torch.float32)
    with torch.no_grad():
        start = layer(x)[1]
        before = [one.clone() for one in start]
        out, (h, c) = layer(x, start)
        again = layer(x, start)[0]
        for one in (h, c, out):
            one.fill_(9.0)
        assert_same(list(start), before)
        assert_same(layer(x, start)[0], again)


class _Seeing(TorchFunctionMode):
    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return function(*args, **(kwargs or {}))


class _SeeingAll(TorchDispatchMode):
    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return function(*args, **(kwargs or {}))


class _Named(Tensor):
    """A subclass that says nothing new."""


def test_what_is_watched_goes_the_general_way(
    taken: list[bool], generator: torch.Generator
) -> None:
    layer = _layer("lstm", "one", generator)
    x = drawn((T, B, I), generator, torch.float32)
    seen = []

    def watch(*arguments: Any, **options: Any) -> Any:
        seen.append(arguments)
        return operators.eager.run(*arguments[1:], **options)

    with torch.no_grad():
        expected = layer(x)[0]
        layer(x)
        assert taken.pop()
        taken.clear()
        with _Seeing():
            layer(x)
        with _SeeingAll():
            layer(x)
        with operators.instead(watch):
            layer(x)
        with torch.autocast("cpu"):
            layer(x)
        layer(x.as_subclass(_Named))
        found = vmap(lambda one: layer(one)[0])(torch.stack([x, x]))
        assert_same(found[1], expected)
        layer(x, lengths=[T] * B)
        layer(x, seed=1)
        assert not any(taken)
        assert len(seen) == 1


def test_modules_that_change(taken: list[bool], generator: torch.Generator) -> None:
    """Hooks, parametrized weights, training mode: all as they would be without a short way."""
    layer = _layer("lstm", "three", generator)
    x = drawn((T, B, I), generator, torch.float32)
    with torch.no_grad():
        layer(x)
        called = []
        handle = layer.register_forward_hook(lambda *_: called.append(1))
        layer(x)
        handle.remove()
        assert called == [1]
        taken.clear()
        first, second = layer.train()(x)[0], layer(x)[0]
        assert not any(taken)
        assert not torch.equal(first, second)
        layer.eval()

        class Double(nn.Module):
            def forward(self, weight: Tensor) -> Tensor:
                return 2 * weight

        expected = copy.deepcopy(layer)
        expected.weight_hh_l0.mul_(2)
        parametrize.register_parametrization(layer, "weight_hh_l0", Double())
        assert_same(layer(x)[0], expected(x)[0])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda layer: layer(torch.zeros(T, B, I + 1)),
        lambda layer: layer(torch.zeros(T, B, I, dtype=torch.float64)),
        lambda layer: layer(torch.zeros(T, B, I, 1)),
        lambda layer: layer(torch.zeros(0, B, I)),
        lambda layer: layer([1.0]),
        lambda layer: layer(torch.zeros(T, B, I), torch.zeros(1, B, H)),
        lambda layer: layer(torch.zeros(T, B, I), (torch.zeros(1, B, H),)),
        lambda layer: layer(torch.zeros(T, B, I), (torch.zeros(1, B, H), torch.zeros(1, 1, H))),
        lambda layer: layer(torch.zeros(T, B, I), (torch.zeros(1, B, H), None)),
        lambda layer: layer(torch.zeros(T, B, I), seed="a"),
    ],
)
def test_errors_are_those_of_the_general_way(
    wrong: Callable[[Any], Any], generator: torch.Generator
) -> None:
    layer = _layer("lstm", "one", generator)
    found = []
    for mode in (torch.enable_grad, torch.no_grad):
        with mode(), pytest.raises((RuntimeError, ValueError, TypeError)) as error:
            wrong(layer)
        found.append((error.type, str(error.value)))
    assert found[0] == found[1]


def test_other_batches_and_lengths_build_nothing(
    monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    layer = _layer("lstm", "one", generator)

    def run(steps: int, rows: int) -> None:
        x = drawn((steps, rows, I), generator, torch.float32)
        with torch.no_grad():
            layer(x)
        layer(x)[0].sum().backward()
        stepper = layer.stepper(rows)
        stepper(x[0])
        stepper.run(x)

    run(T, B)
    run(1, B)
    run(9, 1)

    def refuse(*_: Any) -> Any:
        raise AssertionError("a kernel was asked for that is not in memory")

    monkeypatch.setattr(build, "_build", refuse)
    for steps, rows in ((T + 1, B), (1, 1), (1, 9), (40, 2), (17, 50)):
        run(steps, rows)


def test_copies_and_pickles_prepare_their_own(generator: torch.Generator) -> None:
    layer = _layer("lstm", "one", generator)
    x = drawn((T, B, I), generator, torch.float32)
    with torch.no_grad():
        expected = layer(x)[0]
        for twin in (copy.deepcopy(layer), copy.copy(layer), pickle.loads(pickle.dumps(layer))):
            assert_same(twin(x)[0], expected)
        twin = copy.deepcopy(layer)
        twin.weight_ih_l0.zero_()
        assert not torch.equal(twin(x)[0], layer(x)[0])
        assert_same(layer(x)[0], expected)


def test_threads_with_programs_of_their_own_data(generator: torch.Generator) -> None:
    layer = _layer("lstm", "three", generator)
    inputs = [drawn((T, B, I), generator, torch.float32) for _ in range(16)]
    expected = [layer(x)[0].detach() for x in inputs]

    def run(x: Tensor) -> Tensor:
        with torch.no_grad():
            return [layer(x)[0] for _ in range(20)][-1]

    with ThreadPoolExecutor(4) as pool:
        assert_same(list(pool.map(run, inputs)), expected)

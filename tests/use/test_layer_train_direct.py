"""The short way of a training call: the values and gradients of the general way, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from holdfast.nn import GRU, LSTM, Recurrent, direct, train_direct, train_slots
from tests.helpers import assert_same, unequal_
from tests.use.layers import drawn

I, H = 3, 5
LAYERS: dict[str, Callable[[], Any]] = {
    "lstm": lambda: LSTM(I, H),
    "gru": lambda: GRU(I, H),
    "peephole": lambda: Recurrent("peephole", I, H),
    "slim": lambda: Recurrent("slim_1", I, H),
    "layer norm": lambda: Recurrent("layer_norm_lstm", I, H),
    "one unit": lambda: LSTM(I, 1),
    "one feature": lambda: LSTM(1, H),
    "wide": lambda: LSTM(I, 100),
    "projection": lambda: LSTM(I, H, proj_size=2),
    "stack": lambda: LSTM(I, H, num_layers=2, bidirectional=True),
    "batch first": lambda: LSTM(I, H, batch_first=True),
    "no bias": lambda: GRU(I, H, bias=False),
    "float64": lambda: LSTM(I, H, dtype=torch.float64),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The short way is for one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What every call of a prepared pass gave."""
    found: list[Any] = []
    run = train_direct.TrainWay.run

    def watched(self: Any, *arguments: Any) -> Any:
        found.append(run(self, *arguments))
        return found[-1]

    monkeypatch.setattr(train_direct.TrainWay, "run", watched)
    return found


def _lstm(generator: torch.Generator) -> Any:
    return unequal_(LSTM(I, H), generator)


def _results(layer: Any, steps: int, given: str, frozen: bool, used: slice) -> list[Any]:
    """Values of a call, and all gradients of some of them."""
    generator = torch.Generator().manual_seed(7)
    dtype, batch = next(layer.parameters()).dtype, 2 if steps > 2 else 3
    shape = (batch, steps) if layer.batch_first else (steps, batch)
    x = drawn((*shape, layer.input_size), generator, dtype).requires_grad_(not frozen)
    states = layer._sizes.states(len(layer.cell.states), batch)
    first = [drawn(one[0], generator, dtype) for one in states] if given else []
    first = [one.requires_grad_(given == "learned") for one in first]
    hx = None if not first else first[0] if len(first) == 1 else tuple(first)
    for n, parameter in enumerate(layer.parameters()):
        parameter.grad = None
        parameter.requires_grad_(not frozen or n % 2 == 0)
    out, last = layer(x, hx)
    values = [out, *([last] if isinstance(last, Tensor) else last)]
    gradients = [drawn(tuple(one.shape), generator, dtype) for one in values]
    torch.autograd.backward(values[used], gradients[used])
    leaves = [x, *layer.parameters(), *first]
    return [*(one.detach() for one in values), *(one.grad for one in leaves)]


@pytest.mark.parametrize("kind", LAYERS)
def test_equals_the_general_way(
    kind: str, made: list[Any], generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = unequal_(LAYERS[kind](), generator)
    for steps in (1, 2, 63):
        for given, frozen, used in (
            ("", False, slice(0, 1)),
            ("", True, slice(0, 9)),
            ("given", False, slice(1, 9)),
            ("given", True, slice(0, 9)),
            ("learned", False, slice(0, 9)),
        ):
            made.clear()
            found = _results(layer, steps, given, frozen, used)
            assert len(made) == 1
            assert made[0] is not None
            with monkeypatch.context() as patch:
                patch.setattr(direct.Direct, "__call__", lambda *_: None)
                expected = _results(layer, steps, given, frozen, used)
            for one, other in zip(found, expected, strict=True):
                assert (one is None) == (other is None)
                assert one is None or torch.equal(one, other)


def test_nothing_flows_or_something_is_unusual(made: list[Any], generator: torch.Generator) -> None:
    layer = _lstm(generator)
    x = drawn((5, 2, I), generator, torch.float32)
    layer(x, lengths=[5, 3])
    layer(x, resets=torch.zeros(5, 2, dtype=torch.bool))
    layer(x, tbptt=2)
    layer(x[:, 0])
    LSTM(I, H, recompute="full")(x)
    LSTM(I, H, zoneout=0.2)(x)
    LSTM(I, H, learned_start=True)(x)
    assert not made
    layer.requires_grad_(False)(x)
    assert made == [None]


def test_gradients_of_gradients(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer: Any = unequal_(LSTM(I, H, dtype=torch.float64), generator)
    x = drawn((4, 2, I), generator, torch.float64).requires_grad_()

    def second() -> list[Tensor]:
        out, (h, c) = layer(x)
        value = (out**2).sum() + (h**3).sum() + (c**3).sum()
        (first,) = torch.autograd.grad(value, x, create_graph=True)
        return list(torch.autograd.grad((first**2).sum(), [x, *layer.parameters()]))

    found = second()
    monkeypatch.setattr(direct.Direct, "__call__", lambda *_: None)
    assert_same(found, second())


def test_weights_that_change_between_the_passes(generator: torch.Generator) -> None:
    layer = _lstm(generator)
    x = drawn((4, 2, I), generator, torch.float32)
    before = layer(x)[0]
    layer.weight_hh_l0.data.mul_(2)
    after = layer(x)[0]
    assert not torch.equal(before, after)
    assert_same(layer(x, lengths=[4, 4])[0], after)
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        after.sum().backward()
    out, (h, _) = layer(x)
    kept = out.detach().clone()
    with torch.no_grad():
        h.zero_()
    assert_same(out.detach(), kept)
    out.sum().backward(retain_graph=True)
    first = layer.weight_hh_l0.grad.clone()
    out.sum().backward()
    assert_same(layer.weight_hh_l0.grad, 2 * first)


def test_frozen_weights_cost_no_product(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []
    run = train_slots.Product.__call__

    def watched(self: Any, memories: Any, result: Tensor, *others: Any) -> None:
        shapes.append(tuple(result.shape))
        run(self, memories, result, *others)

    monkeypatch.setattr(train_slots.Product, "__call__", watched)
    layer: Any = LSTM(3, 5, proj_size=2)
    layer.weight_hh_l0.requires_grad_(False)
    x = drawn((4, 2, 3), generator, torch.float32)
    layer(x)[0].sum().backward()
    assert shapes == [(20, 3), (2, 5)]
    shapes.clear()
    layer.requires_grad_(False)(x.requires_grad_())[0].sum().backward()
    assert shapes == [(4, 2, 3)]


def test_threads_train_at_the_same_time(generator: torch.Generator) -> None:
    layer = _lstm(generator)
    inputs = [drawn((9, 2, I), generator, torch.float32) for _ in range(8)]
    weights = list(layer.parameters())

    def run(x: Tensor) -> list[Tensor]:
        return [list(torch.autograd.grad(layer(x)[0].sum(), weights)) for _ in range(20)][-1]

    expected = [run(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(pool.map(run, inputs), expected, strict=True):
            assert_same(one, other)

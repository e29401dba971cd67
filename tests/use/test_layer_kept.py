"""Packed weights are kept from call to call, and never stale, whoever changed a weight and how."""

from __future__ import annotations

import copy
import gc
import io
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from holdfast.nn import (
    LSTM,
    Recurrent,
    backward,
    kept,
    passes,
    program,
    train_backward,
    train_direct,
)
from tests.helpers import assert_same, unequal_
from tests.use.layers import drawn, target

T, B, I, H = 4, 3, 3, 20
PLAIN = torch.float32


def _layer(generator: torch.Generator, cell: str = "lstm", **options: Any) -> Any:
    layer = Recurrent(cell, I, H, **options)
    unequal_(layer, generator)
    return layer


def _pass(layer: Any, x: Tensor, mode: str) -> list[Tensor]:
    """Everything that a call shows, for training with the gradients."""
    hx = None
    if layer.cell.name == "lstm":
        hx = [
            torch.full(shape, 0.5, dtype=x.dtype)
            for (shape, *_) in layer._sizes.states(1, x.shape[1])
        ]
    if mode == "infer":
        with torch.inference_mode():
            out, last = layer(x, hx)
        return [out, *(last if isinstance(last, tuple) else (last,))]
    parameters = list(layer.parameters())
    x = x.clone().requires_grad_()
    out, _ = layer(x, hx)
    return [out, *torch.autograd.grad(out.square().sum(), [x, *parameters])]


def _expected(layer: Any, x: Tensor, mode: str) -> list[Tensor]:
    """The same by the definition, which keeps nothing."""
    with target("eager"):
        return _pass(layer, x, mode)


def _by_optimizer(layer: Any) -> None:
    optimizer = torch.optim.SGD(layer.parameters(), 0.3)
    layer(torch.ones(2, 1, I))[0].sum().backward()
    optimizer.step()


def _by_state_dict(layer: Any) -> None:
    layer.load_state_dict({name: 2 * value for name, value in layer.state_dict().items()})


def _by_data(layer: Any) -> None:
    layer.weight_hh_l0.data.mul_(0.5)


def _by_data_of_bias(layer: Any) -> None:
    layer.bias_hh_l0.data[-1] += 1.0


def _by_new_data(layer: Any) -> None:
    layer.weight_ih_l0.data = layer.weight_ih_l0.data.flip(0)


def _by_numpy(layer: Any) -> None:
    layer.weight_ih_l0.detach().numpy()[5, 1] = 2.0


def _by_exchange(layer: Any) -> None:
    weight = layer.weight_hh_l0.detach()
    weight[[0, 1]] = weight[[1, 0]]


def _by_set(layer: Any) -> None:
    with torch.no_grad():
        layer.weight_hh_l0.set_(torch.full((4 * H, H), 0.1).untyped_storage(), 0, (4 * H, H))


def _by_signs(layer: Any) -> None:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.neg_()


def _by_new_parameter(layer: Any) -> None:
    layer.weight_ih_l0 = nn.Parameter(torch.full((4 * H, I), 0.2))


def _by_vector(layer: Any) -> None:
    values = torch.linspace(-0.3, 0.3, sum(p.numel() for p in layer.parameters()))
    nn.utils.vector_to_parameters(values, layer.parameters())


CHANGES = [value for name, value in sorted(globals().items()) if name.startswith("_by_")]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__[4:])
@pytest.mark.parametrize("mode", ["infer", "train"])
@pytest.mark.parametrize("steps", [1, T])
def test_a_change_is_seen(
    change: Callable[[Any], None], mode: str, steps: int, generator: torch.Generator
) -> None:
    layer = _layer(generator)
    x = drawn((steps, B, I), generator, PLAIN)
    before = _pass(layer, x, mode)
    change(layer)
    after = _pass(layer, x, mode)
    assert_same(after, _expected(layer, x, mode))
    assert not torch.equal(before[0], after[0])


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was packed, in order."""
    found: list[str] = []

    def watch(name: str, *modules: ModuleType) -> None:
        pack = getattr(modules[0], name)

        def watched(*arguments: Any) -> Any:
            found.append(name)
            return pack(*arguments)

        for module in modules:
            monkeypatch.setattr(module, name, watched)

    watch("pack_forward", passes, program, train_direct)
    watch("pack_backward", backward, train_backward)
    return found


def test_what_has_not_changed_is_not_packed_again(
    packed: list[str], generator: torch.Generator
) -> None:
    layer = _layer(generator)
    for rows in (B, 1, B + 1):
        _pass(layer, drawn((T, rows, I), generator, PLAIN), "infer")
        _pass(layer, drawn((T, rows, I), generator, PLAIN), "train")
    assert packed == ["pack_forward", "pack_backward"]


def test_each_layer_and_direction_keeps_its_own(
    packed: list[str], generator: torch.Generator
) -> None:
    layer = _layer(generator, num_layers=2, bidirectional=True)
    x = drawn((T, B, I), generator, PLAIN)
    first = _pass(layer, x, "infer")
    assert_same(_pass(layer, x, "infer"), first)
    assert len(packed) == 4
    assert_same(first, _expected(layer, x, "infer"))


@pytest.mark.parametrize("cell", ["gru", "peephole", "layer_norm_gru", "rnn"])
def test_every_slot_of_weights_is_kept(cell: str, generator: torch.Generator) -> None:
    layer = _layer(generator, cell)
    x = drawn((T, B, I), generator, PLAIN)
    for mode in ("infer", "train", "infer", "train"):
        assert_same(_pass(layer, x, mode), _expected(layer, x, mode))


@pytest.mark.parametrize("options", [{"proj_size": 5}, {"recurrence": 4}, {"bias": False}])
def test_options_that_shape_weights(options: dict[str, Any], generator: torch.Generator) -> None:
    layer = _layer(generator, **options)
    x = drawn((T, B, I), generator, PLAIN)
    for mode in ("infer", "train", "infer", "train"):
        assert_same(_pass(layer, x, mode), _expected(layer, x, mode))
    layer.weight_hh_l0.data.mul_(0.5)
    assert_same(_pass(layer, x, "train"), _expected(layer, x, "train"))


def test_another_dtype_is_packed_anew(generator: torch.Generator) -> None:
    layer = _layer(generator)
    x = drawn((T, B, I), generator, torch.float64)
    for dtype in (torch.float32, torch.float64, torch.float32):
        layer.to(dtype)
        assert_same(_pass(layer, x.to(dtype), "infer"), _expected(layer, x.to(dtype), "infer"))


def test_layers_with_shared_weights(packed: list[str], generator: torch.Generator) -> None:
    first, second = _layer(generator), _layer(generator)
    x = drawn((T, B, I), generator, PLAIN)
    second.weight_hh_l0 = first.weight_hh_l0
    second.weight_ih_l0 = first.weight_ih_l0
    found = [_pass(layer, x, "infer") for layer in (first, second, first, second)]
    assert len(packed) == 2
    assert_same(found[2:], found[:2])
    first.weight_hh_l0.data.mul_(0.5)
    for layer in (first, second):
        assert_same(_pass(layer, x, "infer"), _expected(layer, x, "infer"))


def test_a_copy_keeps_its_own(generator: torch.Generator) -> None:
    layer = _layer(generator)
    x = drawn((T, B, I), generator, PLAIN)
    before = _pass(layer, x, "infer")
    twins = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    twins.append(torch.load(file, weights_only=False))
    layer.weight_ih_l0.data.zero_()
    for twin in twins:
        assert_same(_pass(twin, x, "infer"), before)
    assert_same(_pass(layer, x, "infer"), _expected(layer, x, "infer"))


def test_the_average_of_weights_that_trains_beside(generator: torch.Generator) -> None:
    """`average.data.mul_(d).add_(p)`, which autograd's counters do not see."""
    layer = _layer(generator)
    average = copy.deepcopy(layer)
    optimizer = torch.optim.Adam(layer.parameters(), 0.05)
    x = drawn((T, B, I), generator, PLAIN)
    for _ in range(3):
        layer(x)[0].square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        for mine, theirs in zip(average.parameters(), layer.parameters(), strict=True):
            mine.data.mul_(0.9).add_(theirs.data, alpha=0.1)
        assert_same(_pass(average, x, "infer"), _expected(average, x, "infer"))


def test_weights_given_for_a_call(generator: torch.Generator) -> None:
    layer, other = _layer(generator), _layer(generator)
    x = drawn((T, B, I), generator, PLAIN)
    before = _pass(layer, x, "infer")
    given: dict[str, Tensor] = dict(other.named_parameters())
    with torch.no_grad():
        out, _ = functional_call(layer, given, (x,))
        assert_same(out, other(x)[0])
    assert_same(_pass(layer, x, "infer"), before)


def test_inside_torch_compile(generator: torch.Generator) -> None:
    layer = _layer(generator)
    compiled = torch.compile(layer, backend="eager")
    x = drawn((T, B, I), generator, PLAIN)
    for change in (_by_data, _by_numpy, _by_state_dict):
        assert_same(_pass(compiled, x, "infer"), _expected(layer, x, "infer"))
        change(layer)
        assert_same(_pass(compiled, x, "infer"), _expected(layer, x, "infer"))


def test_threads_share_a_layer(generator: torch.Generator) -> None:
    layer = _layer(generator)
    inputs = [drawn((steps, B, I), generator, PLAIN) for steps in (1, 2, 5, 1)] * 4
    expected = [_expected(layer, x, "infer") for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            layer.bias_ih_l0.data.copy_(layer.bias_ih_l0.data.clone())
            found = list(pool.map(lambda x: _pass(layer, x, "infer"), inputs))
            assert_same(found, expected)


def test_nothing_is_kept_of_a_layer_that_is_gone(generator: torch.Generator) -> None:
    layer = LSTM(I, H)
    _pass(layer, drawn((T, B, I), generator, PLAIN), "train")
    number = id(layer.weight_ih_l0)
    assert number in kept._kept
    del layer
    gc.collect()
    assert number not in kept._kept


def test_what_is_kept_does_not_grow(generator: torch.Generator) -> None:
    """Biases that are new in every call beside the same first weight."""
    layer: Any = LSTM(I, H)
    for _ in range(30):
        layer.bias_hh_l0 = nn.Parameter(torch.rand(4 * H, generator=generator))
        _pass(layer, drawn((T, B, I), generator, PLAIN), "infer")
    assert len(kept._kept[id(layer.weight_ih_l0)]) <= kept._MOST


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 160, 1000])
def test_a_digest_follows_every_number(count: int, generator: torch.Generator) -> None:
    values = torch.rand(count, generator=generator)
    others = torch.ones(3)
    weights = kept.Weights([values, others])
    first = weights.digest()
    found = {first}
    for place in range(count):
        before = values[place].clone()
        values[place] += 1e-6
        found.add(weights.digest())
        values[place] = before
        assert weights.digest() == first
    assert len(found) == count + 1


@pytest.mark.parametrize(
    "change", [lambda x: x * 2, lambda x: -x, lambda x: x.flip(0), lambda x: x.roll(16)]
)
def test_a_digest_follows_changes_of_all(
    change: Callable[[Tensor], Tensor], generator: torch.Generator
) -> None:
    values = torch.rand(512, generator=generator)
    weights = kept.Weights([values])
    first = weights.digest()
    values.copy_(change(values))
    assert weights.digest() != first


def test_a_digest_follows_changes_that_could_undo_each_other(generator: torch.Generator) -> None:
    """Pairs of numbers, one a bit more and one a bit less, at every distance."""
    values = torch.rand(512, generator=generator)
    bits = values.view(torch.int32)
    weights = kept.Weights([values])
    found = {weights.digest()}
    for first in (0, 1, 200, 201):
        for second in range(first + 1, 512):
            bits[first] += 17
            bits[second] -= 17
            found.add(weights.digest())
            bits[first] -= 17
            bits[second] += 17
    assert len(found) == 1 + sum(511 - first for first in (0, 1, 200, 201))


def test_a_digest_knows_where_parts_end(generator: torch.Generator) -> None:
    values = torch.rand(64, generator=generator)
    parts = [kept.Weights([values[:n], values[n:]]).digest() for n in (0, 1, 16, 32, 48, 64)]
    assert len(set(parts)) == len(parts)

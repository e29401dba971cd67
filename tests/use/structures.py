"""What the tests of structures share: the paper's loop under the layer's own weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tests.helpers import assert_same
from tests.use.layers import observed, target, tensors

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class Plain(nn.Module):
    """Runs a function `(layer, x, hx, **options)` with the parameters of a layer."""

    def __init__(self, layer: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.layer = layer
        self.function = function

    def named_parameters(self, *args: Any, **options: Any) -> Any:
        return self.layer.named_parameters(*args, **options)

    def forward(self, x: Any, hx: Any = None, **options: Any) -> Any:
        return self.function(self.layer, x, hx, **options)


def floats(value: Any) -> Any:
    """The same in float32."""
    if isinstance(value, (tuple, list)):
        return tuple(map(floats, value))
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def compare(
    layer: nn.Module, function: Callable[..., Any], x: Tensor, hx: Any = None, **options: Any
) -> None:
    """Results and all gradients of a layer, in float64 and float32, are those of the function."""
    reference = observed(Plain(layer, function), x, hx, **options)
    assert_same(observed(layer, x, hx, **options), reference)
    single = copy.deepcopy(layer).float()
    rounded = {name: floats(value) for name, value in reference.items()}
    assert_same(observed(single, floats(x), floats(hx), **options), rounded, "float32")


def check_gradients(layer: nn.Module, x: Tensor, *states: Tensor, **options: Any) -> None:
    """Finite differences agree with the gradients of inputs, states and parameters.

    LSTMs inside run eagerly: what is compiled has its own tests.
    """
    names = [name for name, _ in layer.named_parameters()]
    values = [value.detach().clone().requires_grad_() for value in layer.parameters()]

    def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        hx = tuple(rest[: len(states)]) or None
        if hx is not None and len(hx) == 1:
            hx = hx[0]
        weights = dict(zip(names, rest[len(states) :], strict=True))
        found = torch.func.functional_call(layer, weights, (x, hx), options)
        return tuple(one for one in tensors(found) if one.is_floating_point())

    leaves = [one.detach().clone().requires_grad_() for one in (x, *states)]
    with target("eager"):
        assert torch.autograd.gradcheck(run, (*leaves, *values))


def lstm_by_hand(weights: dict[str, Tensor], prefix: str, x: Tensor, h: Tensor, c: Tensor) -> Any:
    """A layer of an LSTM, gate by gate: its outputs `[T, B, H]`, and the last h and c."""
    layer = prefix.rpartition(".")[2]
    names = {name: f"{prefix.removesuffix(layer)}{name}_{layer}" for name in NAMES}
    units = h.shape[1]
    wanted = {name: weights[full] for name, full in names.items() if full in weights}
    out = []
    for step in x:
        sums = step @ wanted["weight_ih"].T + h @ wanted["weight_hh"].T
        for bias in ("bias_ih", "bias_hh"):
            sums = sums + wanted.get(bias, torch.zeros(()))
        i, f, g, o = (sums[:, k * units : (k + 1) * units] for k in range(4))
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        out.append(h)
    return torch.stack(out), h, c


def check_rows(layer: nn.Module, x: Tensor, hx: tuple[Tensor, ...], at: Sequence[int]) -> None:
    """Rows of lengths 2, 0 and T are as if each ran alone, whatever stands beyond their end.

    Arguments:
        x: `[T, 3, ...]`.
        hx: initial states, `at`: the dimension of the batch in each.
    """
    lengths = [2, 0, x.shape[0]]
    found = observed(layer, x, hx, lengths=lengths)
    spoiled = x.clone()
    for b, length in enumerate(lengths):
        spoiled[length:, b] = torch.nan
    assert_same(observed(layer, spoiled, hx, lengths=lengths), found, "padding")
    out, *last = found["results"]
    for b, length in enumerate(lengths):
        start = tuple(state.narrow(dim, b, 1) for state, dim in zip(hx, at, strict=True))
        alone, ended = layer(x[:length, b : b + 1], start) if length else (out[:0, :1], start)
        mine = [state.narrow(dim, b, 1) for state, dim in zip(last, at, strict=True)]
        assert_same(mine, list(ended), f"states of row {b}")
        assert_same(out[:length, b : b + 1], alone, f"row {b}")
        assert not out[length:, b].any()
    assert not found["gradient of the input"][spoiled.isnan()].any()


def check_layouts(make: Callable[..., Any], x: Tensor, at: Sequence[int]) -> None:
    """A layer takes `[B, T, ...]`, single rows, and a sequence in two pieces.

    Arguments:
        make: the layer with a `batch_first`; its weights are made equal here.
        x: `[T, B, ...]`. at: the dimension of the batch in each state.
    """
    layer, turned = make(batch_first=False), make(batch_first=True)
    turned.load_state_dict(layer.state_dict())
    out, last = layer(x)
    mine, states = turned(x.transpose(0, 1))
    assert_same([mine.transpose(0, 1), *states], [out, *last], "batch_first")
    row, states = layer(x[:, 1])
    assert_same(row, out[:, 1], "a single row")
    rows = [state.select(dim, 1) for state, dim in zip(last, at, strict=True)]
    assert_same(list(states), rows, "states of a single row")
    first, states = layer(x[:2, 1])
    second, states = layer(x[2:, 1], states)
    assert_same([torch.cat([first, second]), *states], [row, *rows], "two pieces")

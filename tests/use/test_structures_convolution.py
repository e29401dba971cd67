"""LSTMs over maps, beside the paper's equations with convolutions written out tap by tap."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from holdfast.nn import LSTM, ConvLSTM1d, ConvLSTM2d, ConvLSTM3d
from tests.helpers import assert_same, unequal_
from tests.use.layers import drawn
from tests.use.structures import check_gradients, check_rows, compare

B, T, I, C = 2, 3, 2, 3
LAYERS: dict[int, Any] = {1: ConvLSTM1d, 2: ConvLSTM2d, 3: ConvLSTM3d}
MAPS = {1: (7,), 2: (5, 4), 3: (4, 3, 5)}


def taps(x: Tensor, weight: Tensor, dilation: tuple[int, ...], mode: str = "constant") -> Tensor:
    """The convolution that keeps the size, as a sum of shifted maps."""
    kernel, spatial = weight.shape[2:], x.shape[2:]
    around = [d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True)]
    x = functional.pad(x, [size for size in reversed(around) for _ in range(2)], mode)
    total: Any = 0.0
    for tap in itertools.product(*map(range, kernel)):
        part = x
        for dim, (at, step, size) in enumerate(zip(tap, dilation, spatial, strict=True)):
            part = part.narrow(2 + dim, at * step, size)
        total = total + torch.einsum("oi,bi...->bo...", weight[(..., *tap)], part)
    return total


def by_hand(layer: Any, x: Tensor, hx: Any) -> Any:
    """Equation 3 of Shi et al. 2015, gate by gate and step by step."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    weights, last = dict(layer.named_parameters()), []
    spatial = (1,) * layer.dims

    def convolved(x: Tensor, name: str, gate: int) -> Tensor:
        return taps(x, weights[name].chunk(4)[gate], layer.dilation, mode)

    for k in range(layer.num_layers):
        h, c = hx[0][k], hx[1][k]
        maps = []
        for step in x:
            sums = [
                convolved(step, f"weight_ih_l{k}", gate) + convolved(h, f"weight_hh_l{k}", gate)
                for gate in range(4)
            ]
            if layer.bias:
                biases = weights[f"bias_l{k}"].chunk(4)
                sums = [s + b.view(-1, *spatial) for s, b in zip(sums, biases, strict=True)]
            peep = [weights.get(f"p_{gate}_l{k}", torch.zeros(())) for gate in "ifo"]
            i = torch.sigmoid(sums[0] + peep[0] * c)
            f = torch.sigmoid(sums[1] + peep[1] * c)
            c = f * c + i * torch.tanh(sums[2])
            h = torch.sigmoid(sums[3] + peep[2] * c) * torch.tanh(c)
            maps.append(h)
        x = torch.stack(maps)
        last.append((h, c))
    return x, tuple(map(torch.stack, zip(*last, strict=True)))


def made(dims: int, generator: torch.Generator, kernel: Any = 3, **options: Any) -> Any:
    if options.get("peepholes"):
        options["spatial_size"] = MAPS[dims]
    return unequal_(LAYERS[dims](I, C, kernel, dtype=torch.float64, **options), generator)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 2, "bias": False},
        {"peepholes": True},
        {"num_layers": 2, "peepholes": True, "dilation": 2, "padding_mode": "circular"},
    ],
    ids=str,
)
def test_equals_the_equations(
    dims: int, options: dict[str, Any], generator: torch.Generator
) -> None:
    layer = made(dims, generator, **options)
    x = drawn((T, B, I, *MAPS[dims]), generator)
    shape = (layer.num_layers, B, C, *MAPS[dims])
    compare(layer, by_hand, x, (drawn(shape, generator), drawn(shape, generator)))


def test_one_place_and_one_tap_is_an_lstm(generator: torch.Generator) -> None:
    layer = made(1, generator, 1, num_layers=2)
    lstm = LSTM(I, C, num_layers=2, dtype=torch.float64)
    weights = dict(layer.named_parameters())
    with torch.no_grad():
        for name, parameter in lstm.named_parameters():
            kind, k = name.rsplit("_", 1)
            source = f"bias_{k}" if kind == "bias_ih" else name
            parameter.copy_(0 * parameter if kind == "bias_hh" else weights[source].squeeze(-1))
    x = drawn((T, B, I), generator)
    out, last = layer(x.unsqueeze(-1))
    expected, states = lstm(x)
    assert_same([out.squeeze(-1), *(s.squeeze(-1) for s in last)], [expected, *states])


@pytest.mark.parametrize("mode", ["zeros", "replicate"])
def test_a_kernel_of_unequal_sides(mode: str, generator: torch.Generator) -> None:
    layer = made(2, generator, (3, 1), dilation=(2, 1), padding_mode=mode)
    shape = (1, B, C, *MAPS[2])
    hx = (drawn(shape, generator), drawn(shape, generator))
    compare(layer, by_hand, drawn((T, B, I, *MAPS[2]), generator), hx)


def test_finite_differences(generator: torch.Generator) -> None:
    layer = LAYERS[1](1, 2, 3, peepholes=True, spatial_size=3, dtype=torch.float64)
    unequal_(layer, generator)
    states = [drawn((1, 1, 2, 3), generator) for _ in "hc"]
    check_gradients(layer, drawn((2, 1, 1, 3), generator), *states)


@pytest.mark.parametrize("options", [{"padding": 0}, {"stride": 2}, {"stride": 2, "padding": 1}])
def test_the_first_convolution_may_change_the_size(
    options: dict[str, Any], generator: torch.Generator
) -> None:
    layer = made(2, generator, num_layers=2, **options)
    x = drawn((T, B, I, 7, 6), generator)
    first = functional.conv2d(
        x[0], layer.weight_ih_l0, stride=layer.stride, padding=options.get("padding", 1)
    )
    out, (h, c) = layer(x)
    assert out.shape[3:] == first.shape[2:]
    assert h.shape == c.shape == (2, B, C, *first.shape[2:])
    again, _ = layer(x, (0 * h, 0 * c))
    assert_same(again, out)


def test_layouts_are_the_same_numbers(generator: torch.Generator) -> None:
    layer, first = made(2, generator, num_layers=2), made(2, generator, batch_first=True)
    one = made(2, generator)
    one.load_state_dict(first.state_dict())
    x = drawn((T, B, I, *MAPS[2]), generator)
    out, states = first(x.transpose(0, 1))
    expected, last = one(x)
    assert_same([out.transpose(0, 1), *states], [expected, *last])
    out, last = layer(x)
    alone = [layer(x[:, b]) for b in range(B)]
    assert_same(torch.stack([row[0] for row in alone], 1), out)
    assert_same(torch.stack([row[1][1] for row in alone], 1), last[1])
    again, _ = layer(x[1:, 0], tuple(state for state in layer(x[:1, 0])[1]))
    assert_same(again, out[1:, 0])


def test_ragged_rows_are_as_if_alone(generator: torch.Generator) -> None:
    hx = tuple(drawn((2, 3, C, *MAPS[1]), generator) for _ in "hc")
    x = drawn((T, 3, I, *MAPS[1]), generator)
    check_rows(made(1, generator, num_layers=2), x, hx, [1, 1])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kernel_size": 2}, ValueError, r"kernel_size should be odd .* got: \(2, 2\)"),
        ({"kernel_size": (3, 3, 3)}, ValueError, r"each of the 2 dimensions, got: \(3, 3, 3\)"),
        ({"hidden_channels": 0}, ValueError, "hidden_channels must be greater than zero, got: 0"),
        ({"in_channels": 1.5}, TypeError, "in_channels should be of type int, got: float"),
        ({"peepholes": True}, ValueError, "peepholes are maps of weights, so they need spatial"),
        ({"padding": -1}, ValueError, "padding should be a whole number from 0 on"),
        ({"padding_mode": "wrap"}, ValueError, "padding_mode should be one of .* got: 'wrap'"),
        ({"bias": 1}, TypeError, "bias should be of type bool, got: int"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    given: dict[str, Any] = {"in_channels": I, "hidden_channels": C, "kernel_size": 3, **options}
    with pytest.raises(error, match=message):
        ConvLSTM2d(**given)


@pytest.mark.parametrize(
    ("shape", "hx", "error", "message"),
    [
        ((T, B, I), None, ValueError, "Expected input to be 4D .* or 5D .* got 3D"),
        ((T, B, I + 1, 5, 4), None, RuntimeError, r"sizes \[2, any, any\], got \[3, 5, 4\]"),
        ((0, B, I, 5, 4), None, RuntimeError, "sequence length to be larger than 0"),
        ((T, B, I, 5, 4), (1, B, C, 5, 5), RuntimeError, r"Expected hidden\[0\] size"),
    ],
)
def test_wrong_inputs(shape: Any, hx: Any, error: type[Exception], message: str) -> None:
    states = hx and (torch.zeros(hx), torch.zeros(hx))
    with pytest.raises(error, match=message):
        ConvLSTM2d(I, C, 3)(torch.zeros(shape), states)


def test_maps_smaller_than_the_kernel_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r"maps of size \(2, 2\) are smaller than the kernel"):
        ConvLSTM2d(I, C, 3, padding=0)(torch.zeros(T, B, I, 2, 2))

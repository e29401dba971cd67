"""Layers as their papers have them, beside loops that are written from the papers' equations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from holdfast.nn import QRNN, BlockLSTM, DepthGatedLSTM
from tests.helpers import assert_same, unequal_
from tests.use.layers import drawn
from tests.use.structures import check_gradients, check_layouts, check_rows, compare

# Few sizes, so that few kernels are compiled.
B, T, I, H = 3, 6, 4, 4


def in_blocks(layer: Any, x: Tensor, hx: Any) -> Any:
    """Hochreiter & Schmidhuber 1997, unit by unit: every net is a sum over all that is seen."""
    weights = dict(layer.named_parameters())
    size, blocks = layer.block_size, layer.blocks
    cells = blocks * size
    h, c, y_in, y_out = hx
    out = []
    for step in x:
        seen = torch.cat([h, y_in, y_out], 1)
        nets = step @ weights["weight_ih"].T + seen @ weights["weight_hh"].T
        if layer.bias == "gates":
            nets = torch.cat([nets[:, :cells], nets[:, cells:] + weights["bias_ih"]], 1)
        elif layer.bias:
            nets = nets + weights["bias_ih"]
        y_in = torch.sigmoid(nets[:, cells : cells + blocks])
        y_out = torch.sigmoid(nets[:, cells + blocks :])
        inner, outer = [], []
        for v in range(cells):
            taken = 4 * torch.sigmoid(nets[:, v]) - 2
            inner.append(c[:, v] + y_in[:, v // size] * taken)
            outer.append(y_out[:, v // size] * (2 * torch.sigmoid(inner[-1]) - 1))
        h, c = torch.stack(outer, 1), torch.stack(inner, 1)
        out.append(h)
    return torch.stack(out), (h, c, y_in, y_out)


def blocked(generator: torch.Generator, blocks: int, size: int, **options: Any) -> Any:
    return unequal_(BlockLSTM(I, blocks, size, dtype=torch.float64, **options), generator)


def of_blocks(generator: torch.Generator, blocks: int, size: int) -> Any:
    shapes = [(B, blocks * size)] * 2 + [(B, blocks)] * 2
    return tuple(drawn(shape, generator) for shape in shapes)


@pytest.mark.parametrize(
    ("blocks", "size", "bias"), [(3, 2, "gates"), (2, 3, True), (6, 1, False)], ids=str
)
def test_blocks_equal_the_equations(
    blocks: int, size: int, bias: Any, generator: torch.Generator
) -> None:
    layer = blocked(generator, blocks, size, bias=bias)
    assert layer.backend == "llvm"
    hx = of_blocks(generator, blocks, size)
    compare(layer, in_blocks, drawn((T, B, I), generator), hx)


def test_blocks_of_rows(generator: torch.Generator) -> None:
    x = drawn((T, B, I), generator)
    check_rows(blocked(generator, 3, 2), x, of_blocks(generator, 3, 2), [0] * 4)
    check_layouts(lambda **more: blocked(generator, 3, 2, **more), x, [0] * 4)


@pytest.mark.parametrize(
    ("sizes", "outputs", "bias", "count"),
    [
        ((7, 4, 1), 7, "gates", 264),  # 1, embedded Reber grammar
        ((7, 3, 2), 7, "gates", 276),
        ((54, 2, 1), 2, False, 364),  # 2c, p = 50
        ((1004, 2, 1), 2, False, 6064),  # 2c, p = 1000
        ((1, 3, 1), 1, "hidden", 102),  # 3a, two sequences
        ((2, 2, 2), 1, True, 93),  # 4, adding; 5, multiplication
        ((8, 2, 2), 4, True, 156),  # 6a, temporal order
        ((8, 3, 2), 8, True, 308),  # 6b
    ],
    ids=str,
)
def test_weights_are_as_many_as_in_1997(sizes: Any, outputs: int, bias: Any, count: int) -> None:
    layer = BlockLSTM(*sizes, bias=True if bias == "hidden" else bias, device="meta")
    readout = nn.Linear(layer.hidden_size, outputs, bias is True, "meta")
    assert count == sum(one.numel() for part in (layer, readout) for one in part.parameters())


def test_the_ninth_count_is_another_network() -> None:
    """Task 2a, 101 inputs and outputs, one cell without output gate: into cell and input gate, out
    of the cell, and from the inputs to the outputs; nothing recurrent."""
    assert 2 * 101 + 101 + 101 * 101 == 10_504
    rows = BlockLSTM(101, 1, bias=False, device="meta").weight_ih
    assert rows.shape == (3, 101), "here there always is an output gate"


def depth_gated(layer: Any, x: Tensor, hx: Any) -> Any:
    """Zhang et al. 2015, gate by gate."""
    weights, last, below = dict(layer.named_parameters()), [], None
    none = torch.zeros(5 * H, dtype=x.dtype)
    for k in range(layer.num_layers):

        def of(name: str, k: int = k) -> Any:
            return weights.get(f"layers.{k}.{name}_l0", none)

        h, c = hx[0][k], hx[1][k]
        outs, cells = [], []
        for t, step in enumerate(x):
            sums = step @ of("weight_ih").T + of("bias_ih")[: len(of("weight_ih"))]
            rest = h @ of("weight_hh").T + of("bias_hh")[: 4 * H]
            i, f, g, o = (sums[:, : 4 * H] + rest).chunk(4, 1)
            new = torch.sigmoid(f + of("p_f")[:H] * c) * c
            new = new + torch.sigmoid(i + of("p_i")[:H] * c) * torch.tanh(g)
            if below is not None:
                d = sums[:, 4 * H :] + of("w_c") * c + of("w_l") * below[t]
                new = new + torch.sigmoid(d) * below[t]
            c = new
            h = torch.sigmoid(o + of("p_o")[:H] * c) * torch.tanh(c)
            outs.append(h)
            cells.append(c)
        x, below = torch.stack(outs), cells
        last.append((h, c))
    return x, tuple(map(torch.stack, zip(*last, strict=True)))


def linked(generator: torch.Generator, **options: Any) -> Any:
    return unequal_(DepthGatedLSTM(I, H, dtype=torch.float64, **options), generator)


@pytest.mark.parametrize("options", [{"num_layers": 3}, {"num_layers": 2, "bias": False}], ids=str)
def test_depth_gates_equal_the_equations(options: Any, generator: torch.Generator) -> None:
    layer = linked(generator, **options)
    assert layer.backend == "llvm"
    hx = tuple(drawn((layer.num_layers, B, H), generator) for _ in "hc")
    compare(layer, depth_gated, drawn((T, B, I), generator), hx)


def test_depth_gates_of_rows(generator: torch.Generator) -> None:
    x = drawn((T, B, I), generator)
    hx = tuple(drawn((3, B, H), generator) for _ in "hc")
    check_rows(linked(generator, num_layers=3), x, hx, [1, 1])
    check_layouts(lambda **more: linked(generator, num_layers=3, **more), x, [1, 1])


def quasi(layer: Any, x: Tensor, hx: Any) -> Any:
    """Bradbury et al. 2017: at every step a sum over the steps that a convolution sees."""
    weights, wide = dict(layer.named_parameters()), layer.kernel_size
    memories, pasts, at = [], [], 0
    for k in range(layer.num_layers):
        features = x.shape[2]
        before = hx[1][:, :, at : at + features]
        course = [*before, *x]
        at += features
        weight = weights[f"layers.{k}.weight_ih_l0"]
        bias = weights.get(f"layers.{k}.bias_ih_l0", torch.zeros(3 * H, dtype=x.dtype))
        c, outs = hx[0][k], []
        for t in range(len(x)):
            sums = bias
            for tap in range(wide):
                columns = weight[:, tap * features : (tap + 1) * features]
                sums = sums + course[t + tap] @ columns.T
            f, z, o = sums.chunk(3, 1)
            c = torch.sigmoid(f) * c + (1 - torch.sigmoid(f)) * torch.tanh(z)
            outs.append(torch.sigmoid(o) * c)
        pasts.append(torch.stack(course[len(x) :]) if wide > 1 else before)
        memories.append(c)
        x = torch.stack(outs)
    return x, (torch.stack(memories), torch.cat(pasts, 2))


def convolved(generator: torch.Generator, **options: Any) -> Any:
    return unequal_(QRNN(I, H, dtype=torch.float64, **options), generator)


def of_convolutions(layer: Any, generator: torch.Generator) -> Any:
    layers, wide = layer.num_layers, layer.kernel_size
    past = drawn((wide - 1, B, I + (layers - 1) * H), generator)
    return drawn((layers, B, H), generator), past


@pytest.mark.parametrize(
    "options",
    [{"kernel_size": 1}, {"num_layers": 2, "bias": False}, {"kernel_size": 8, "num_layers": 2}],
    ids=str,
)
def test_quasi_recurrence_equals_the_equations(options: Any, generator: torch.Generator) -> None:
    layer = convolved(generator, **options)
    assert layer.backend == "llvm"
    hx = of_convolutions(layer, generator)
    compare(layer, quasi, drawn((T, B, I), generator), hx)


@pytest.mark.parametrize("wide", [1, 2, 4])
def test_quasi_recurrence_of_rows(wide: int, generator: torch.Generator) -> None:
    options: dict[str, Any] = {"kernel_size": wide, "num_layers": 2}
    layer, x = convolved(generator, **options), drawn((T, B, I), generator)
    check_rows(layer, x, of_convolutions(layer, generator), [1, 1])
    check_layouts(lambda **more: convolved(generator, **options, **more), x, [1, 1])


def test_convolutions_are_those_of_torch(generator: torch.Generator) -> None:
    layer, x = convolved(generator, kernel_size=3), drawn((T, B, I), generator)
    weight = layer.layers[0].weight_ih_l0.unflatten(1, (3, I)).transpose(1, 2)  # [3 H, I, K]
    lines = nn.functional.pad(x.permute(1, 2, 0), (2, 0))
    sums = nn.functional.conv1d(lines, weight, layer.layers[0].bias_ih_l0).permute(2, 0, 1)
    f, z, o = sums[0].chunk(3, 1)
    first = torch.sigmoid(o) * (1 - torch.sigmoid(f)) * torch.tanh(z)
    assert_same(layer(x)[0][0], first)


@pytest.mark.parametrize(
    "make",
    [
        lambda: BlockLSTM(1, 1, 2, bias="gates", dtype=torch.float64),
        lambda: DepthGatedLSTM(1, 2, dtype=torch.float64),
        lambda: QRNN(1, 2, num_layers=2, dtype=torch.float64),
    ],
    ids=["blocks", "depth", "quasi"],
)
def test_finite_differences(make: Any, generator: torch.Generator) -> None:
    check_gradients(unequal_(make(), generator), drawn((3, 1, 1), generator))


WRONG: Any = "cells"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: BlockLSTM(I, 0), ValueError, "blocks must be greater than zero, got: 0"),
        (lambda: BlockLSTM(I, 2, bias=WRONG), ValueError, "False or 'gates', got: 'cells'"),
        (lambda: DepthGatedLSTM(I, H, 0), ValueError, "num_layers must be greater than zero"),
        (lambda: QRNN(I, H, 0), ValueError, "kernel_size must be greater than zero, got: 0"),
        (lambda: QRNN(I, H, bias=WRONG), TypeError, "bias should be of type bool, got: str"),
    ],
)
def test_wrong_options(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()

"""Layers as their papers have them, beside loops that are written from the papers' equations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from holdfast.nn import BlockLSTM
from tests.helpers import unequal_
from tests.use.layers import drawn
from tests.use.structures import check_gradients, check_layouts, check_rows, compare

# Few sizes, so that few kernels are compiled.
B, T, I = 3, 6, 4


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


def test_finite_differences_of_blocks(generator: torch.Generator) -> None:
    layer = unequal_(BlockLSTM(1, 1, 2, bias="gates", dtype=torch.float64), generator)
    check_gradients(layer, drawn((3, 1, 1), generator))


WRONG: Any = "cells"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: BlockLSTM(I, 0), ValueError, "blocks must be greater than zero, got: 0"),
        (lambda: BlockLSTM(I, 2, bias=WRONG), ValueError, "False or 'gates', got: 'cells'"),
    ],
)
def test_wrong_options(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()

"""The large products after the loop: compiled, for every size, and the choice beside PyTorch's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from holdfast.compiler import build
from holdfast.compiler.emit.llvm_outer import ORDERS, PIECE
from holdfast.compiler.emit.target import host
from holdfast.nn import products
from tests.emit.fresh import fresh
from tests.helpers import assert_same

KINDS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
BOTH = pytest.mark.parametrize("order", ORDERS)

# Rows, columns and terms: tiles with every remainder, one and several pieces, nothing at all.
SIZES = (
    (1, 1, 1),
    (1, 17, 3),
    (8, 48, PIECE),
    (7, 5, PIECE - 1),
    (13, 33, PIECE + 1),
    (21, 49, 2 * PIECE + 5),
    (31, 300, 40),
    (40, 8, 1000),
    (9, 20, 0),
)


def _random(generator: torch.Generator, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """A part of a wider matrix, with NaN around it."""
    wide = torch.full((rows + 2, columns + 7), torch.nan, dtype=dtype)
    part = wide[1 : rows + 1, 3 : columns + 3]
    return part.copy_(torch.rand(rows, columns, generator=generator, dtype=dtype) - 0.3)


def _operands(
    order: str, size: tuple[int, int, int], dtype: torch.dtype, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    rows, columns, depth = size
    shape = (depth, rows) if order == "outer" else (rows, depth)
    return _random(generator, *shape, dtype), _random(generator, depth, columns, dtype)


def _wanted(order: str, left: Tensor, right: Tensor) -> Tensor:
    formula = "nr,nc->rc" if order == "outer" else "rn,nc->rc"
    return torch.einsum(formula, left.double(), right.double())


@KINDS
@BOTH
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_products_of_every_size(
    order: str, dtype: torch.dtype, size: tuple[int, int, int], generator: torch.Generator
) -> None:
    left, right = _operands(order, size, dtype, generator)
    whole = torch.full((size[0] + 2, size[1] + 3), 7.0, dtype=dtype)
    result = whole[1:-1, 1:-2].fill_(torch.nan)
    products.multiply(order, left, right, result, add=False)
    wanted = _wanted(order, left, right)
    assert_same(result, wanted, "the product", dtype=dtype)
    products.multiply(order, left, right, result, add=True)
    assert_same(result, 2 * wanted, "added", dtype=dtype)
    result.fill_(7.0)
    assert bool((whole == 7.0).all()), "something beside the result was written"


@BOTH
def test_nan_in_a_row_stays_there(order: str, generator: torch.Generator) -> None:
    left, right = _operands(order, (21, 49, 300), torch.float32, generator)
    row = (5, 20) if order == "outer" else (20, 5)
    left[row] = torch.nan
    result = torch.empty(21, 49)
    products.multiply(order, left, right, result, add=False)
    assert_same(result, _wanted(order, left, right), "the product", dtype=torch.float32)
    assert int(result.isnan().sum()) == 49


@BOTH
def test_threads_change_no_bit(order: str, generator: torch.Generator) -> None:
    left, right = _operands(order, (213, 149, 3000), torch.float32, generator)
    before = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3, 2, 3):
            torch.set_num_threads(count)
            result = torch.empty(213, 149)
            products.multiply(order, left, right, result, add=False)
            found.append(result)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])


@KINDS
@pytest.mark.parametrize("add", [False, True], ids=["into", "added"])
@pytest.mark.parametrize(
    "size", [(3, 4, 5), (700, 260, 5), (700, 200, 48), (40, 130, 100), (0, 4, 5)], ids=str
)
@pytest.mark.usefixtures("two_threads")
def test_whichever_multiplies_the_gradient_is_right(
    size: tuple[int, int, int], add: bool, dtype: torch.dtype, generator: torch.Generator
) -> None:
    N, G, K = size
    left, right = _random(generator, N, G, dtype), _random(generator, N, K, dtype)
    before = torch.ones(G, K, dtype=dtype) if add else torch.full((G, K), torch.nan, dtype=dtype)
    result = before.clone()
    products.gradient_product(left, right, result, add=add)
    wanted = _wanted("outer", left, right) + float(add)
    assert_same(result, wanted, "the gradient", dtype=dtype)
    weight = _random(generator, G, K, dtype)
    through = torch.ones(N, K, dtype=dtype) if add else torch.full((N, K), torch.nan, dtype=dtype)
    products.rows_product(left, weight, through, add=add)
    assert_same(through, _wanted("rows", left, weight) + float(add), "through", dtype=dtype)


def test_a_matrix_of_columns_is_multiplied_too(generator: torch.Generator) -> None:
    left, right = _operands("outer", (200, 100, 100), torch.float32, generator)
    result = torch.empty(200, 100)
    products.gradient_product(left.t().contiguous().t(), right, result, add=False)
    assert_same(result, _wanted("outer", left, right), "the gradient", dtype=torch.float32)


@BOTH
@pytest.mark.parametrize(
    ("vector_bytes", "registers"),
    [
        pytest.param(16, 16, id="sse", marks=pytest.mark.slow),
        pytest.param(16, 32, id="neon"),
        pytest.param(32, 16, id="avx2"),
    ],
)
def test_products_of_other_shapes_run_here(
    order: str, vector_bytes: int, registers: int, generator: torch.Generator, tmp_path: Path
) -> None:
    target = replace(host(), vector_bytes=vector_bytes, registers=registers)
    left, right = _operands(order, (21, 349, PIECE + 5), torch.float32, generator)
    result = torch.empty(21, 349)
    with fresh(tmp_path, target):
        products.multiply(order, left, right, result, add=False)
        assert build.multiplier(order, torch.float32).tile.lanes == vector_bytes // 4
    assert_same(result, _wanted(order, left, right), "the product", dtype=torch.float32)

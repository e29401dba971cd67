"""The loss over a vocabulary, computed together with its gradients."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from holdfast.compiler.emit.target import host
from holdfast.nn import readout
from tests.helpers import assert_same

WORDS, UNITS = 37, 5


def problem(
    rows: int, dtype: torch.dtype, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()

    return drawn(rows, UNITS), drawn(WORDS, UNITS), drawn(WORDS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [3, 256, 700])
def test_loss_and_gradients_are_those_of_cross_entropy(
    rows: int, dtype: torch.dtype, generator: torch.Generator
) -> None:
    inputs = problem(rows, dtype, generator)
    targets = torch.randint(WORDS, (rows,), generator=generator)
    # 700 rows are three parts, the last of them smaller.
    with mock.patch.object(readout, "_NUMBERS", 300 * WORDS):
        found = readout.readout_loss(*inputs, targets)
        mine = torch.autograd.grad(3.0 * found, inputs)
    wanted = functional.cross_entropy(functional.linear(*inputs), targets)
    assert_same(found, wanted)
    theirs = torch.autograd.grad(3.0 * wanted, inputs)
    for one, other in zip(mine, theirs, strict=True):
        assert_same(one, other)


def test_gradients_are_given_where_they_are_wanted(generator: torch.Generator) -> None:
    x, weight, bias = problem(300, torch.float64, generator)
    targets = torch.randint(WORDS, (300,), generator=generator)
    readout.readout_loss(x.detach(), weight, bias.detach(), targets).backward()
    assert weight.grad is not None
    assert x.grad is bias.grad is None
    with torch.no_grad():
        quiet = readout.readout_loss(x, weight, bias, targets)
    assert_same(quiet, functional.cross_entropy(functional.linear(x, weight, bias), targets))


def test_a_second_derivative_is_refused(generator: torch.Generator) -> None:
    inputs = problem(300, torch.float64, generator)
    loss = readout.readout_loss(*inputs, torch.zeros(300, dtype=torch.int64))
    (first,) = torch.autograd.grad(loss, inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.autograd.grad(first.sum(), inputs[1])


@pytest.mark.skipif(not host().pairs, reason="this processor multiplies no bfloat16")
@pytest.mark.parametrize("rows", [3, 256, 700])
def test_products_of_bfloat16_under_autocast(rows: int, generator: torch.Generator) -> None:
    inputs = problem(rows, torch.float32, generator)
    targets = torch.randint(WORDS, (rows,), generator=generator)
    with mock.patch.object(readout, "_NARROW", 300 * WORDS):
        with torch.autocast("cpu", torch.bfloat16):
            found = readout.readout_loss(*inputs, targets)
        mine = torch.autograd.grad(3.0 * found, inputs)
    wanted = functional.cross_entropy(functional.linear(*inputs), targets)
    theirs = torch.autograd.grad(3.0 * wanted, inputs)
    assert_same((found, *mine), (wanted, *theirs), factors=torch.bfloat16)


@pytest.mark.parametrize("target", [-1, WORDS])
def test_a_target_that_is_no_word_is_refused(target: int, generator: torch.Generator) -> None:
    inputs = problem(300, torch.float32, generator)
    with pytest.raises(IndexError, match=f"expected numbers from 0 to {WORDS - 1}"):
        readout.readout_loss(*inputs, torch.full((300,), target))


@pytest.mark.parametrize("number", [torch.inf, torch.nan])
def test_a_number_that_is_none_makes_the_loss_none(
    number: float, generator: torch.Generator
) -> None:
    x, weight, bias = problem(300, torch.float32, generator)
    x = x.detach().clone()
    x[7, 2] = number
    loss = readout.readout_loss(x, weight, bias, torch.zeros(300, dtype=torch.int64))
    assert loss.isnan()

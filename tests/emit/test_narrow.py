"""Narrow weights: the results of the rounded weights, to the accuracy of float32."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from holdfast.cells import CELLS
from holdfast.compiler.emit.llvm_products import IN_A_LANE
from holdfast.nn import passes
from holdfast.nn.layout import lay_out
from tests.emit.problems import Problem, problem
from tests.helpers import Shape, assert_same


def _rounded(weight: Tensor, narrow: str) -> Tensor:
    """The weight as its narrow form means it."""
    if narrow == "int8":
        steps = weight.abs().amax(1, keepdim=True) / 127
        return (weight / steps).round() * steps
    even = weight[:, 0::2].bfloat16().float()
    result = weight.detach().clone()
    result[:, 0::2] = even
    lower = even[:, : weight.shape[1] // 2].contiguous().view(torch.int32) >> 16 & 0xFFFF
    odd = weight[:, 1::2].contiguous()
    upper = odd.detach().view(torch.int32) & ~0xFFFF
    near = torch.stack([upper + (n << 16) | lower for n in (-1, 0, 1)])
    choices, bits = near.view(torch.float32), odd.detach().view(torch.int32)
    best = (near.long() - bits.long()).abs().argmin(0, keepdim=True)
    result[:, 1::2] = choices.gather(0, best)[0]
    assert ((result - weight).abs() <= weight.abs() * 2.0**-8).all()
    return result


def _infer(given: Problem, narrow: str) -> list[Tensor]:
    layout = lay_out(given.x, given.h.shape[0], None, None)
    arguments = (given.cell, given.x, given.h, given.states, given.parameters, layout)
    return passes.infer(passes.Call(*arguments, narrow=narrow), sequences=True)


@pytest.mark.parametrize("narrow", IN_A_LANE)
@pytest.mark.parametrize("size", [(1, 1), (1, 29), (2, 6), (7, 3)], ids=str)
@pytest.mark.parametrize(
    "name", ["lstm", "gru", "peephole", "slim_1", "rnn", "ind_rnn", "gru_2014"]
)
def test_results_are_those_of_the_rounded_weights(
    name: str, size: tuple[int, int], narrow: str, generator: torch.Generator
) -> None:
    given = problem(CELLS[name], Shape(*size, 5, 37), generator, torch.float32)
    narrowed = {"weight_ih", "weight_hh"} - ({"weight_hh"} if name == "gru_2014" else set())
    rounded = {
        key: _rounded(value, narrow) if key in narrowed else value
        for key, value in given.parameters.items()
    }
    if name == "gru_2014":
        # The gate that is called multiplies inside the step, where nothing is narrow.
        weight = given.parameters["weight_hh"]
        outer = _rounded(weight[: 2 * 37], narrow)
        rounded["weight_hh"] = torch.cat([outer, weight[2 * 37 :]])
    with torch.no_grad():
        found = _infer(given, narrow)
        reference = given._replace(parameters=rounded).run("eager", sequences=True)
    sequences = [reference[0], *reference[2 + len(given.states) :]]
    assert_same(found, sequences)

"""Narrow weights: the results of the rounded weights, to the accuracy of float32."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from holdfast.cells import CELLS
from holdfast.compiler.build import assemble, planned
from holdfast.compiler.emit import llvm as emit
from holdfast.compiler.emit.llvm_loops import Sizes
from holdfast.compiler.emit.llvm_math import FLOAT32
from holdfast.compiler.emit.target import TARGETS, Target, host
from holdfast.errors import BuildError
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


@pytest.mark.parametrize("dots", [False, True], ids=["", "dots"])
@pytest.mark.parametrize("narrow", ["bfloat16", "int8"])
@pytest.mark.parametrize("size", [(1, 1), (1, 29), (2, 6), (7, 3)], ids=str)
@pytest.mark.parametrize(
    "name", ["lstm", "gru", "peephole", "slim_1", "rnn", "ind_rnn", "gru_2014"]
)
def test_results_are_those_of_the_rounded_weights(
    name: str,
    size: tuple[int, int],
    narrow: str,
    dots: bool,
    generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if dots and (narrow != "int8" or not host().dots):
        pytest.skip("this processor has no dot products of such numbers")
    if not dots:
        monkeypatch.setattr(passes, "_stored", lambda call, heads: call.narrow)
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
    if dots:
        # A row of h has 16 bits there.
        for mine, theirs in zip(found, sequences, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0.0, atol=1e-4)
    else:
        assert_same(found, sequences)


def test_dots_pass_on_what_is_no_number(generator: torch.Generator) -> None:
    given = problem(CELLS["rnn"], Shape(2, 4, 5, 37), generator, torch.float32)
    h = given.h.detach().clone()
    h[1, 20] = torch.nan
    with torch.no_grad():
        found = _infer(given._replace(h=h), "int8")[0]
    assert found[:, 1].isnan().all()
    assert found[:, 0].isfinite().all()


@pytest.mark.parametrize("mode", ["infer", "step"])
def test_dots_assemble_for_a_processor_that_has_them(mode: str) -> None:
    target = Target("x86_64-unknown-linux-gnu", "cascadelake", "+avx512vnni", 64, 32)
    assert target.dots
    assert not TARGETS["avx512"].dots
    plan = planned(CELLS["lstm"])
    text = emit.emit(plan, mode, FLOAT32, Sizes(5, 37, narrow="dot8"), target)
    try:
        code = assemble(text, target, assembly=True).decode()
    except BuildError as error:
        pytest.skip(str(error))
    assert "vpdpbusd" in code

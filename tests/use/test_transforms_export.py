"""Layers with options as graphs: `torch.compile` in one piece, `torch.export` at other sizes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from tests.helpers import assert_same
from tests.use.layers import drawn, tensors
from tests.use.optioned import CALL, LENGTHS, RESETS, I, every, inputs, made

# Memory filled with NaN is an operation that graphs refuse.
pytestmark = pytest.mark.plain_memory
OTHER_SIZES = [(4, 3), (7, 5), (2, 2), (1, 1), (9, 1), (1, 4)]
"""Steps and rows at which an exported program runs."""


def _both(layer: Any, x: Tensor, call: dict[str, Any]) -> list[Any]:
    """Results and gradients, compiled and plain, with the same random numbers."""
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    found = []
    with torch.random.fork_rng():
        before = torch.get_rng_state()
        for function in (compiled, layer):
            torch.set_rng_state(before)
            value = x.clone().requires_grad_()
            results = tensors(function(value, **call))
            loss = torch.stack([one.float().square().sum() for one in results]).sum()
            leaves = [value, *layer.parameters()]
            found.append((results, torch.autograd.grad(loss, leaves, materialize_grads=True)))
    return found


@pytest.mark.parametrize("seed", ["number", "drawn"])
@pytest.mark.parametrize("case", ["masks", "candidate", "norm"])
def test_compiled_in_one_graph(case: str, seed: str, generator: torch.Generator) -> None:
    call = {**CALL, "seed": 3 if seed == "number" else None, "return_cells": True}
    compiled, plain = _both(made(case, generator), inputs(generator), call)
    assert_same(compiled, plain)


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["rows", "number", "drawn"])
@every()
def test_every_option_compiled(case: str, seed: str, generator: torch.Generator) -> None:
    seeds = {"rows": torch.tensor([5, 6, 7]), "number": 3, "drawn": None}
    if (case, seed) == ("candidate", "rows"):
        pytest.skip("weight_dropout has one mask for all rows")
    compiled, plain = _both(made(case, generator), inputs(generator), {**CALL, "seed": seeds[seed]})
    assert_same(compiled, plain)


@pytest.mark.parametrize("case", ["norm", "masks"])
def test_the_eager_target_compiled(case: str, generator: torch.Generator) -> None:
    layer = made(case, generator).bfloat16()
    compiled, plain = _both(layer, inputs(generator, torch.bfloat16), CALL)
    assert torch.allclose(compiled[0][0], plain[0][0], atol=2**-5)


class Called(nn.Module):
    """A layer with a call whose tensors are arguments by position, as `torch.export` likes them."""

    def __init__(self, layer: nn.Module, names: Sequence[str], more: dict[str, Any]) -> None:
        super().__init__()
        self.layer, self.names, self.more = layer, names, more

    def forward(self, x: Tensor, *given: Tensor) -> Any:
        return self.layer(x, **dict(zip(self.names, given, strict=True)), **self.more)


def _exported(layer: Any, more: dict[str, Any], *, strict: bool, generator: Any) -> None:
    module = Called(layer, ("lengths", "resets"), more)
    steps, rows = Dim("steps"), Dim("rows")
    two = {0: rows, 1: steps} if layer.batch_first else {0: steps, 1: rows}

    def arguments(T: int, B: int) -> tuple[Tensor, ...]:
        x = drawn((T, B, I), generator, torch.float32)
        lengths = torch.randint(0, T + 1, (B,), generator=generator)
        resets = torch.rand(T, B, generator=generator) < 0.3
        if layer.batch_first:
            return x.transpose(0, 1), lengths, resets.t()
        return x, lengths, resets

    with torch.no_grad():
        program = torch.export.export(
            module, arguments(4, 3), dynamic_shapes=(two, ({0: rows}, two)), strict=strict
        )
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    for run in (program.module(), torch.export.load(file).module()):
        for size in OTHER_SIZES:
            given = arguments(*size)
            with torch.no_grad():
                assert_same(tensors(run(*given)), tensors(module(*given)), str(size))


@pytest.mark.parametrize("case", ["norm", "two", "sizes"])
def test_exported_for_any_batch_and_time(case: str, generator: torch.Generator) -> None:
    layer = made(case, generator, torch.float32).eval()
    _exported(layer, {}, strict=False, generator=generator)


@pytest.mark.slow
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@every()
def test_every_option_exported(
    case: str, batch_first: bool, strict: bool, generator: torch.Generator
) -> None:
    layer = made(case, generator, torch.float32, batch_first=batch_first).eval()
    _exported(layer, {"return_cells": True}, strict=strict, generator=generator)
    _exported(layer.train(), {"seed": 3}, strict=strict, generator=generator)


def test_one_graph_holds_one_operator_a_pass(generator: torch.Generator) -> None:
    """Not an unrolled loop, whatever the options."""
    module = Called(made("masks", generator), ("lengths", "resets"), {"seed": 3})
    with torch.no_grad():
        program = torch.export.export(module, (inputs(generator), LENGTHS, RESETS), strict=False)
    calls = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert [name for name in calls if "holdfast" in name] == ["holdfast.infer.default"]

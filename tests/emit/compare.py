"""A target beside the definition: outputs, last states, every gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from holdfast.nn import operators
from tests.emit.problems import Problem
from tests.helpers import Shape, assert_same


def compiled(given: Problem) -> None:
    """Skip the test where the compiled target does not run."""
    chosen, reason = operators.select(given.cell, given.x, given.parameters)
    if chosen != "llvm":
        pytest.skip(f"the compiled target does not run: {reason}")


def incoming(outputs: list[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Random gradients of all outputs."""
    return [
        torch.rand(one.shape, generator=generator, dtype=torch.float64).to(one.dtype) - 0.3
        for one in outputs
    ]


def compare(given: Problem, generator: torch.Generator, **layout: Any) -> None:
    """Training with gradients, then inference, against the definition."""
    dtype = given.x.dtype
    twin = given.double()
    mine = given.run("llvm", sequences=True, **layout)
    reference = twin.run("eager", sequences=True, **layout)
    assert_same(mine, reference, "training", dtype=dtype)
    gradients = incoming(mine, generator)
    doubled = [one.double() for one in gradients]
    assert_same(
        given.gradients(mine, gradients),
        twin.gradients(reference, doubled),
        f"gradients of x, h, {given.cell.states}, {list(given.parameters)}",
        dtype=dtype,
    )
    with torch.no_grad():
        count = 2 + len(given.states)
        assert_same(given.run("llvm", **layout), reference[:count], "inference", dtype=dtype)


def ragged_lengths(size: Shape, generator: torch.Generator) -> Tensor:
    """Lengths from 0 to T, in no order; the last row is whole where there are several."""
    lengths = torch.randint(0, size.T + 1, (size.B,), generator=generator)
    lengths[0] = 0 if size.B > 1 else size.T
    lengths[-1] = size.T
    return lengths

"""The definition agrees with PyTorch's own layers: outputs, last states and every gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from holdfast.cells import CELLS
from tests.emit.problems import Problem, problem
from tests.helpers import SHAPES, Shape, assert_same

MODULES = {
    "lstm": lambda I, H: torch.nn.LSTM(I, H, dtype=torch.float64),
    "gru": lambda I, H: torch.nn.GRU(I, H, dtype=torch.float64),
    "rnn": lambda I, H: torch.nn.RNN(I, H, dtype=torch.float64),
    "rnn_relu": lambda I, H: torch.nn.RNN(I, H, nonlinearity="relu", dtype=torch.float64),
}


def _by_torch(given: Problem, shape: Shape) -> list[Tensor]:
    """Out, last h and last states of PyTorch's layer with the problem's own tensors."""
    module = MODULES[given.cell.name](shape.I, shape.H)
    weights = {f"{name}_l0": value for name, value in given.parameters.items()}
    states = [given.h[None], *(state[None] for state in given.states)]
    first = tuple(states) if len(states) > 1 else states[0]
    out, last = torch.func.functional_call(module, weights, (given.x, first))
    return [out, *(state[0] for state in (last if isinstance(last, tuple) else (last,)))]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MODULES)
def test_eager_is_the_layer_of_torch(name: str, shape: Shape, generator: torch.Generator) -> None:
    given = problem(CELLS[name], shape, generator)
    mine, reference = given.run("eager"), _by_torch(given, shape)
    assert_same(mine, reference, name)
    incoming = [torch.rand(one.shape, generator=generator, dtype=one.dtype) for one in reference]
    assert_same(given.gradients(mine, incoming), given.gradients(reference, incoming), name)

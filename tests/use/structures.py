"""What the tests of structures share: the paper's loop under the layer's own weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.helpers import assert_same
from tests.use.layers import observed, tensors


class Plain(nn.Module):
    """Runs a function `(layer, x, hx, **options)` with the parameters of a layer."""

    def __init__(self, layer: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.layer = layer
        self.function = function

    def named_parameters(self, *args: Any, **options: Any) -> Any:
        return self.layer.named_parameters(*args, **options)

    def forward(self, x: Any, hx: Any = None, **options: Any) -> Any:
        return self.function(self.layer, x, hx, **options)


def floats(value: Any) -> Any:
    """The same in float32."""
    if isinstance(value, (tuple, list)):
        return tuple(map(floats, value))
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def compare(
    layer: nn.Module, function: Callable[..., Any], x: Tensor, hx: Any = None, **options: Any
) -> None:
    """Results and all gradients of a layer, in float64 and float32, are those of the function."""
    reference = observed(Plain(layer, function), x, hx, **options)
    assert_same(observed(layer, x, hx, **options), reference)
    single = copy.deepcopy(layer).float()
    rounded = {name: floats(value) for name, value in reference.items()}
    assert_same(observed(single, floats(x), floats(hx), **options), rounded, "float32")


def check_gradients(layer: nn.Module, x: Tensor, *states: Tensor, **options: Any) -> None:
    """Finite differences agree with the gradients of inputs, states and parameters."""
    names = [name for name, _ in layer.named_parameters()]
    values = [value.detach().clone().requires_grad_() for value in layer.parameters()]

    def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        hx = tuple(rest[: len(states)]) or None
        if hx is not None and len(hx) == 1:
            hx = hx[0]
        weights = dict(zip(names, rest[len(states) :], strict=True))
        found = torch.func.functional_call(layer, weights, (x, hx), options)
        return tuple(one for one in tensors(found) if one.is_floating_point())

    leaves = [one.detach().clone().requires_grad_() for one in (x, *states)]
    assert torch.autograd.gradcheck(run, (*leaves, *values))

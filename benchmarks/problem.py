"""What all contenders of a measurement get, and what a contender is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from benchmarks.registry import Shape
from benchmarks.settings import SETTINGS, Setting, operations
from holdfast.compiler.cell import Cell
from holdfast.errors import MissingExtraError

SEED = 7

GATED = 4_000_000_000
"""Floating-point operations of a forward pass from which contenders are compared on fewer steps."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What all contenders get: the same numbers, made outside the timing."""

    cell: Cell
    shape: Shape
    x: Tensor
    """`[T, B, I]`"""
    weights: dict[str, Tensor]
    """By the name that the parameter has in our layer: `weight_ih_l0`, ..."""
    weighting: Tensor
    """The gradient of `out`, `[T, B, ...]`."""
    setting: Setting = SETTINGS["plain"]
    lengths: Tensor | None = None
    """`[B]`, where rows are of unequal length."""

    @property
    def options(self) -> dict[str, Any]:
        """Of the layer, by the names that `torch.nn.LSTM` has for them."""
        return self.setting.options(self.shape)

    @property
    def share(self) -> float:
        """Of the steps that are alive."""
        if self.lengths is None:
            return 1.0
        return float(self.lengths.sum()) / (self.shape.T * self.shape.B)

    def operations(self, which: str) -> int:
        """Floating-point operations of one call."""
        return operations(self.cell, self.shape, which, self.setting, self.share)

    def double(self) -> Problem:
        """The same numbers in float64."""
        weights = {name: value.double() for name, value in self.weights.items()}
        return replace(self, x=self.x.double(), weights=weights, weighting=self.weighting.double())

    def gated(self) -> Problem:
        """The problem on which contenders are compared: these rows and weights, and of a very long
        computation the first steps."""
        each = self.operations("forward") / self.shape.T
        T = min(self.shape.T, max(2, int(GATED / each)))
        lengths = None if self.lengths is None else self.lengths.clamp(max=T)
        return replace(
            self,
            shape=self.shape._replace(T=T),
            x=self.x[:T].contiguous(),
            weighting=self.weighting[:T].contiguous(),
            lengths=lengths,
        )


def make_problem(cell: Cell, shape: Shape, setting: Setting = SETTINGS["plain"]) -> Problem:
    """Random numbers from a seed of the benchmark's own; the global random state stays as it was.

    >>> from holdfast.cells import lstm
    >>> make_problem(lstm, Shape(2, 3, 4, 5), SETTINGS["bidirectional"]).weighting.shape
    torch.Size([3, 2, 10])
    """
    generator = torch.Generator().manual_seed(SEED)
    dtype = setting.dtype

    def values(*size: int, bound: float) -> Tensor:
        return (2 * torch.rand(size, generator=generator, dtype=dtype) - 1) * bound

    state = setting.layer(cell, shape).state_dict()
    weights = {name: values(*value.shape, bound=shape.H**-0.5) for name, value in state.items()}
    options = setting.options(shape)
    features = options.get("proj_size", 0) or shape.H
    features *= 1 + bool(options.get("bidirectional", False))
    x = values(shape.T, shape.B, shape.I, bound=1.0)
    weighting = values(shape.T, shape.B, features, bound=1.0)
    lengths = None
    if setting.ragged:
        spaced = torch.linspace((shape.T + 1) // 2, shape.T, shape.B).round().to(torch.int64)
        lengths = spaced[torch.randperm(shape.B, generator=generator)]
    return Problem(cell, shape, x, weights, weighting, setting, lengths)


class Contender(Protocol):
    """What can be measured."""

    @property
    def same(self) -> bool:
        """Whether it computes this very cell; another one is a yardstick and passes no gate."""
        ...

    @property
    def note(self) -> str:
        """What a reader of the table must know."""
        ...

    def call(self, which: str, weighting: Tensor) -> Callable[[], object] | None:
        """What is timed: one of `PASSES`; None where it has no such pass."""
        ...

    def results(self, weighting: Tensor) -> dict[str, Tensor]:
        """Outputs, and gradients where it has any, by name."""
        ...


@dataclass(frozen=True, eq=False)
class Runner:
    """A contender in PyTorch, ready to run: `forward()` gives `out`, `[T, B, ...]`."""

    forward: Callable[[], Tensor]
    parameters: Mapping[str, Tensor]
    same: bool = True
    note: str = ""

    def call(self, which: str, weighting: Tensor) -> Callable[[], object] | None:
        """What is timed: one of `PASSES`."""
        if which == "forward":

            def forward() -> Tensor:
                with torch.inference_mode():
                    return self.forward()

            return forward
        parameters = list(self.parameters.values())
        return lambda: torch.autograd.grad([self.forward()], parameters, [weighting])

    def results(self, weighting: Tensor) -> dict[str, Tensor]:
        """Outputs of both passes and every gradient."""
        with torch.inference_mode():
            inferred = self.forward().clone()
        out = self.forward()
        gradients = torch.autograd.grad([out], list(self.parameters.values()), [weighting])
        named = zip((f"gradient of {name}" for name in self.parameters), gradients, strict=True)
        return {"inferred out": inferred, "out": out.detach(), **dict(named)}


@dataclass(frozen=True, eq=False)
class Foreign:
    """A contender of another library, which holds its own copies of the numbers.

    infer: the forward pass; returns when all is computed. read: what it gave, as `[T, B, ...]`.
    train: forward and backward, where there is one. gradients: what it gave, by our names.
    """

    infer: Callable[[], Any]
    read: Callable[[Any], Tensor]
    train: Callable[[], Any] | None = None
    gradients: Callable[[Any], dict[str, Tensor]] = field(default=lambda found: {})
    note: str = ""
    same: bool = True

    def call(self, which: str, weighting: Tensor) -> Callable[[], object] | None:
        """What is timed: one of `PASSES`; None where it has no such pass."""
        return self.infer if which == "forward" else self.train

    def results(self, weighting: Tensor) -> dict[str, Tensor]:
        """The output, and the gradients where it has any."""
        found = {"inferred out": self.read(self.infer())}
        if self.train is not None:
            named = self.gradients(self.train()).items()
            found |= {f"gradient of {name}": value for name, value in named}
        return found


@dataclass(frozen=True)
class Absent:
    """A contender that takes no part, and why."""

    contender: str
    reason: str


def missing(contender: str, error: MissingExtraError) -> Absent:
    """The row of a library that is not installed."""
    return Absent(contender, f"not installed: {error}")

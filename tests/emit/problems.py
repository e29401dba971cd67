"""A cell with everything a pass over a sequence takes, and its gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from holdfast import Cell
from holdfast.nn import operators
from tests.helpers import Shape


class Problem(NamedTuple):
    """Input `[T, B, I]`, parameters, previous h `[B, H]` and states of one pass."""

    cell: Cell
    x: Tensor
    parameters: Mapping[str, Tensor]
    h: Tensor
    states: tuple[Tensor, ...]

    @property
    def inputs(self) -> list[Tensor]:
        """Everything that has a gradient."""
        return [self.x, self.h, *self.states, *self.parameters.values()]

    def run(
        self,
        backend: str,
        *,
        lengths: Tensor | None = None,
        batch_sizes: Tensor | None = None,
        sequences: bool = False,
    ) -> list[Tensor]:
        """The outputs of one target: out, last h, last states, then sequences if asked for."""
        result = operators.run(
            backend,
            self.cell,
            self.x,
            self.parameters,
            self.h,
            self.states,
            lengths=lengths,
            batch_sizes=batch_sizes,
            sequences=sequences,
        )
        return [result.out, result.h, *result.states, *(result.sequences or ())]

    def rows(self, rows: slice, steps: int) -> Problem:
        """Some rows of the batch for the first steps."""
        states = tuple(state[rows] for state in self.states)
        return self._replace(x=self.x[:steps, rows], h=self.h[rows], states=states)

    def gradients(
        self, outputs: Sequence[Tensor], incoming: Sequence[Tensor], *, again: bool = False
    ) -> list[Tensor]:
        """Gradients of all inputs; an unused one is zero. `again`: more will be asked for."""
        pairs = [pair for pair in zip(outputs, incoming, strict=True) if pair[0].requires_grad]
        return list(
            torch.autograd.grad(
                [output for output, _ in pairs],
                self.inputs,
                [gradient for _, gradient in pairs],
                retain_graph=again,
                allow_unused=True,
                materialize_grads=True,
            )
        )


def problem(
    cell: Cell, shape: Shape, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> Problem:
    """A problem of that shape with values that are all different."""
    T, B, I, H = shape.T, shape.B, shape.I, shape.H

    def values(*size: int, bound: float = 1.0) -> Tensor:
        uniform = torch.rand(size, generator=generator, dtype=torch.float64)
        return ((2 * uniform - 1) * bound).to(dtype).requires_grad_()

    parameters = {
        name: values(*size, bound=size[-1] ** -0.5 if len(size) == 2 else 0.5)
        for name, size in cell.shapes(I, H).items()
    }
    states = tuple(values(B, H) for _ in cell.states)
    return Problem(cell, values(T, B, I), parameters, values(B, H), states)

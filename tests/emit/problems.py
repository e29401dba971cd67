"""A cell with everything a pass over a sequence takes, and its gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from holdfast import Cell
from holdfast.compiler.emit.eager import Resets
from holdfast.compiler.noise import Noise
from holdfast.compiler.vary import ACTIVATIONS, Variation, vary
from holdfast.errors import CellError
from holdfast.nn import operators
from tests.helpers import Shape

SUMS = {("slstm", "n")}
"""States that are sums of positive numbers, and divided by: what begins below zero crosses it."""


class Problem(NamedTuple):
    """Input `[T, B, I]`, parameters, previous h `[B, H]` and states of one pass.

    noise: for a cell with masks. at: where rows begin anew, `[T, B]`. starts: the states there.
    """

    cell: Cell
    x: Tensor
    parameters: Mapping[str, Tensor]
    h: Tensor
    states: tuple[Tensor, ...]
    noise: Noise | None = None
    at: Tensor | None = None
    starts: tuple[Tensor, ...] = ()

    @property
    def inputs(self) -> list[Tensor]:
        """Everything that has a gradient."""
        return [self.x, self.h, *self.states, *self.parameters.values(), *self.starts]

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
            noise=self.noise,
            resets=None if self.at is None else Resets(self.at, self.starts),
        )
        return [result.out, result.h, *result.states, *(result.sequences or ())]

    def rows(self, rows: slice, steps: int) -> Problem:
        """Some rows of the batch for the first steps."""
        states = tuple(state[rows] for state in self.states)
        index = torch.arange(self.h.shape[0])[rows]
        return self._replace(
            x=self.x[:steps, rows],
            h=self.h[rows],
            states=states,
            noise=None if self.noise is None else self.noise.rows(index),
            at=None if self.at is None else self.at[:steps, rows],
        )

    def double(self) -> Problem:
        """The same numbers in float64, with gradients of their own."""

        def copy(tensor: Tensor) -> Tensor:
            return tensor.detach().double().requires_grad_(tensor.requires_grad)

        return self._replace(
            x=copy(self.x),
            parameters={name: copy(value) for name, value in self.parameters.items()},
            h=copy(self.h),
            states=tuple(map(copy, self.states)),
            starts=tuple(map(copy, self.starts)),
        )

    def with_inputs(self, inputs: Sequence[Tensor]) -> Problem:
        """The same problem with other values, in the order of `inputs`."""
        x, h, *rest = inputs
        count, names = len(self.states), list(self.parameters)
        weights = dict(zip(names, rest[count : count + len(names)], strict=True))
        starts = tuple(rest[count + len(names) :])
        states = tuple(rest[:count])
        return self._replace(x=x, h=h, states=states, parameters=weights, starts=starts)

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
    cell: Cell,
    shape: Shape,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
    *,
    heads: int = 1,
    projection: int = 0,
    resets: str = "",
) -> Problem:
    """A problem of that shape with values that are all different, and noise for the cell's masks.

    Arguments:
        heads: a number that divides H; above 1, the recurrence is block-diagonal.
        projection: width of h, where it is not H.
        resets: `zero` for rows that begin anew at zero, `learned` for starts with gradients.
    """
    T, B, I, H = shape.T, shape.B, shape.I, fit(cell, shape.H)
    width = projection or H

    def values(*size: int, bound: float = 1.0) -> Tensor:
        uniform = torch.rand(size, generator=generator, dtype=torch.float64)
        return ((2 * uniform - 1) * bound).to(dtype).requires_grad_()

    sizes = cell.shapes(I, H)
    if "weight_hh" in sizes:
        sizes["weight_hh"] = (sizes["weight_hh"][0], width // heads)
    if projection:
        sizes["weight_hr"] = (projection, H)
    parameters = {
        name: values(*size, bound=size[-1] ** -0.5 if len(size) == 2 else 0.5)
        for name, size in sizes.items()
    }
    states = tuple(values(B, H) for _ in cell.states)
    with torch.no_grad():
        for name, state in zip(cell.states, states, strict=True):
            if (cell.name, name) in SUMS:
                state.abs_()
    x = values(T, B, cell.widths(I, H)[0])
    given = Problem(cell, x, parameters, values(B, width), states)
    if cell.masks:
        given = given._replace(noise=noise_of(cell, B))
    if resets:
        at = torch.rand((T, B), generator=generator) < 0.3
        starts = (values(width), *(values(H) for _ in cell.states)) if resets == "learned" else ()
        given = given._replace(at=at, starts=starts)
    return given


def fit(cell: Cell, units: int) -> int:
    """The number of units, or the next one that the cell can have."""
    return -(-units // cell.multiple) * cell.multiple


def noise_of(cell: Cell, rows: int, *, training: bool = True, first: int = 100) -> Noise:
    """Noise with probabilities and values that differ from mask to mask.

    Arguments:
        training: otherwise the masks of evaluation: the same for every unit.
        first: seed of the first row; the others follow.
    """
    table = []
    for number, mask in enumerate(cell.masks):
        p = 0.125 * (1 + number % 4)
        keeps = mask.name.startswith("zoneout_")
        if training:
            table.append((p, 1.0 if keeps else 1.0 + p, 0.0))
        else:
            table.append((0.0, 1 - p, 1 - p) if keeps else (0.0, 1.0, 1.0))
    seeds = first + torch.arange(rows)
    steps = torch.arange(rows) % 3
    return Noise(seeds, torch.tensor(table, dtype=torch.float64), steps)


def bent(x: Any) -> Any:
    """An activation that a user might write."""
    return 2.0 * x / (1.0 + x * x)


def variations(cell: Cell) -> dict[str, Variation]:
    """Variations by name, as far as the cell has a place for them."""
    states = ("h", *cell.states)
    wanted = {
        "recurrent_mask": Variation(recurrent_mask=True),
        "candidate_mask": Variation(candidate_mask=True),
        "zoneout_h": Variation(zoneout=("h",)),
        "zoneout": Variation(zoneout=states),
        "layer_norm": Variation(layer_norm=True),
        "layer_norm_only": Variation(layer_norm=True, norm_bias=False),
        "clip": Variation(clip=0.3),
        "state_clip": Variation(state_clip=0.2),
        "diagonal": Variation(diagonal=True),
        "user_gate": Variation(activations=(("gate", bent),)),
        "user_candidate": Variation(activations=(("candidate", bent),)),
        "user_output": Variation(activations=(("output", bent),)),
        "masks": Variation(recurrent_mask=True, candidate_mask=True, zoneout=states),
        "masks_norm": Variation(
            recurrent_mask=True, zoneout=states, layer_norm=True, clip=0.8, state_clip=0.7
        ),
        "masks_diagonal": Variation(
            recurrent_mask=True, zoneout=states, diagonal=True, clip=0.8, state_clip=0.7
        ),
    }
    for name in ACTIVATIONS:
        wanted[f"candidate_{name}"] = Variation(activations=(("candidate", name),))
        wanted[f"gate_{name}"] = Variation(activations=(("gate", name),))
    return {name: one for name, one in wanted.items() if _possible(cell, one)}


def _possible(cell: Cell, variation: Variation) -> bool:
    try:
        vary(cell, variation)
    except CellError:
        return False
    return True

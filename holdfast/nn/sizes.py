"""How wide each layer of a stack is, and its states as one tensor or a tuple of tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Sizes:
    """Features that enter and leave each layer of a stack.

    >>> sizes = Sizes(3, (5, 7), directions=2)
    >>> [(sizes.features(layer), sizes.out(layer)) for layer in (0, 1)]
    [(3, 10), (10, 14)]

    inputs: features of the input. hidden: units of each layer. directions: 1 or 2. projection:
    features of h where it is projected, else 0. summed: the directions are added, not joined.
    """

    inputs: int
    hidden: tuple[int, ...]
    directions: int = 1
    projection: int = 0
    summed: bool = False

    @property
    def equal(self) -> bool:
        """Whether all layers have as many units, so that their states fit into one tensor."""
        return len(set(self.hidden)) == 1

    def width(self, layer: int) -> int:
        """Features of h in one direction."""
        return self.projection or self.hidden[layer]

    def out(self, layer: int) -> int:
        """Features that leave a layer."""
        return self.width(layer) * (1 if self.summed else self.directions)

    def features(self, layer: int) -> int:
        """Features that enter a layer."""
        return self.out(layer - 1) if layer else self.inputs

    def skips(self, layer: int) -> bool:
        """Whether a layer's input can be added to its output."""
        return self.features(layer) == self.out(layer)

    def states(self, count: int, batch: int) -> list[list[tuple[int, int, int]]]:
        """Shapes of h and `count` further states: `[L * D, B, H]`, or `[D, B, H]` each layer."""
        depths = [len(self.hidden) * self.directions] if self.equal else None
        depths = depths or [self.directions] * len(self.hidden)
        h = [(depth, batch, self.width(layer)) for layer, depth in enumerate(depths)]
        rest = [(depth, batch, self.hidden[layer]) for layer, depth in enumerate(depths)]
        return [h, *[rest] * count]


def each(states: tuple[Any, ...], function: Callable[[Tensor], Tensor]) -> tuple[Any, ...]:
    """States with the function applied to every tensor, whether one a state or one a layer."""
    return tuple(
        function(state) if isinstance(state, Tensor) else tuple(map(function, state))
        for state in states
    )


def pick(states: tuple[Any, ...], index: int, directions: int) -> tuple[Tensor, ...]:
    """The states of one layer and direction, `[B, H]` each; `index` counts directions first."""
    return tuple(
        state[index]
        if isinstance(state, Tensor)
        else state[index // directions][index % directions]
        for state in states
    )

"""From the course of a layer to numbers: gradients through time, half-lives, saturation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from holdfast.lens.trace import Course

VANISHED = 1e-4
"""A gradient is gone where its norm is below this part of the norm at the last step."""
EXPLODED = 1e3
"""A gradient explodes where its norm is above this multiple of the norm at the last step."""
SATURATED = 0.05
"""How near an end of its range, as a part of the range, an activation counts as saturated."""


@dataclass(frozen=True, eq=False)
class Saturation:
    """How often a gate is near the ends of its range: a share of the time for each unit, `[H]`."""

    low: Tensor
    high: Tensor

    @property
    def share(self) -> Tensor:
        """The share of the time near either end, `[H]`."""
        return self.low + self.high

    @property
    def dead(self) -> tuple[int, ...]:
        """The units that never leave one saturated end."""
        return _numbers((self.low == 1.0) | (self.high == 1.0))


@dataclass(frozen=True, eq=False)
class Direction:
    """What was found in one direction of one layer; tensors are float64 on the CPU.

    layer: its number. reverse: whether it reads backwards. features: P, those of h.
    gradient: `[T]`, the norm of d loss / d h_t over all rows, in the order of the input's steps.
    decay: `[T]`, the root mean square over rows of that norm k steps before the step that was
    computed last, relative to the last; steps before a reset do not count.
    half_life: in steps, `[H]` for each state (`h` in a cell without other states); empty where a
    step carries nothing from a unit to itself.
    saturation: for each gate. dead_units: the units of `h` and of each state that had one and the
    same value throughout.
    """

    layer: int
    reverse: bool
    features: int
    gradient: Tensor
    decay: Tensor
    half_life: Mapping[str, Tensor]
    saturation: Mapping[str, Saturation]
    dead_units: Mapping[str, tuple[int, ...]]

    @property
    def name(self) -> str:
        """`layer 0`, or `layer 0 reverse`."""
        return f"layer {self.layer}" + (" reverse" if self.reverse else "")

    @property
    def reach(self) -> int:
        """How many steps back at least `VANISHED` of the gradient is left: farther back is less."""
        left = (self.decay >= VANISHED).nonzero()
        return int(left[-1]) + 1 if len(left) else 0

    @property
    def vanishes(self) -> bool:
        """Whether less than `VANISHED` of the gradient at the last step arrives at the first."""
        return not self.unused and bool(self.decay[-1] < VANISHED)

    @property
    def unused(self) -> bool:
        """Whether no gradient arrives at any step."""
        return not bool(self.decay.any())

    @property
    def explodes(self) -> bool:
        """Whether the gradient grows beyond `EXPLODED`, or is not finite."""
        return not bool((self.decay <= EXPLODED).all())


def examine(course: Course, gradients: Sequence[Tensor], layer: int, side: int) -> Direction:
    """What a course shows, together with d loss / d h_t, `[B, P]`, for each of its steps.

    Arguments:
        layer: its number. side: 0 for the forward direction, 1 for the reverse one.
    """
    alive = course.alive.cpu()
    norms = torch.stack([_exact(gradient).norm(dim=1) for gradient in gradients])  # [T, B]
    norms = torch.where(alive, norms, 0.0)
    back = _from_the_end(norms, course.lengths.cpu())
    gradient = (back if side else norms).norm(dim=1)
    settled = alive & ~course.fresh.cpu()
    return Direction(
        layer,
        side == 1,
        course.h.shape[2],
        gradient,
        _decay(back, _from_the_end(_last_episode(course), course.lengths.cpu())),
        {name: _half_life(_exact(r)[settled]) for name, r in course.retention.items()},
        {
            name: _saturation(_exact(values)[alive], *course.ranges[name])
            for name, values in course.activations.items()
        },
        {
            name: _constant(_exact(values)[alive])
            for name, values in {"h": course.h, **course.states}.items()
        },
    )


def _exact(values: Tensor) -> Tensor:
    return values.detach().to("cpu", torch.float64)


def _numbers(chosen: Tensor) -> tuple[int, ...]:
    return tuple(int(number) for number in chosen.nonzero().flatten())


def _from_the_end(values: Tensor, lengths: Tensor) -> Tensor:
    """`values`, `[T, B]`, with each row's last valid step first; zero beyond a row's first step."""
    index = lengths - 1 - torch.arange(len(values)).unsqueeze(1)  # [T, B]
    return torch.where(index >= 0, values.gather(0, index.clamp(min=0)), 0)


def _last_episode(course: Course) -> Tensor:
    """Steps since a row began anew for the last time, `[T, B]`: across that nothing flows."""
    alive, episodes = course.alive.cpu(), course.fresh.cpu().cumsum(0)
    return alive & (episodes == episodes[-1])


def _decay(back: Tensor, valid: Tensor) -> Tensor:
    """Root mean square over the rows that have such a step, relative to the last step's."""
    counts = valid.sum(1)
    steps = int((counts > 0).sum())
    squares = torch.where(valid.bool(), back.square(), 0.0).sum(1)[:steps]
    norms = (squares / counts[:steps]).sqrt()
    felt = norms.nonzero()
    return norms / norms[felt[0]] if len(felt) else norms


def _half_life(retained: Tensor) -> Tensor:
    """Steps after which half of a state is left, `[H]`, from its retention at N steps, `[N, H]`."""
    if not len(retained):
        return torch.full((retained.shape[1],), math.nan, dtype=torch.float64)
    kept = retained.abs().log2().mean(0)  # the logarithm of the geometric mean
    return torch.where(kept >= 0, math.inf, -1.0 / kept)


def _saturation(values: Tensor, low: float, high: float) -> Saturation:
    """Shares of N values, `[N, H]`; a range without an upper end counts as one unit wide."""
    if high == math.inf:
        near = SATURATED
        return Saturation((values <= low + near).double().mean(0), torch.zeros(values.shape[1:]))
    near = SATURATED * (high - low)
    below, above = values <= low + near, values >= high - near
    return Saturation(below.double().mean(0), above.double().mean(0))


def _constant(values: Tensor) -> tuple[int, ...]:
    """The units whose N values, `[N, F]`, are all the same; none where there is but one value."""
    if len(values) < 2:
        return ()
    return _numbers(values.amax(0) == values.amin(0))

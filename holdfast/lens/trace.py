"""What happens inside a layer: every step of every cell, with gates, states and gradients.

The layer runs once more as it is, in evaluation mode, on a stand-in that shares its tensors. Where
it would run a kernel it runs the eager definition of the watched cell, one step at a time, and
every step is written down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.compiler.cell import Cell
from holdfast.compiler.emit import eager
from holdfast.compiler.emit.eager import Resets, Result
from holdfast.compiler.noise import Noise
from holdfast.lens.activations import Watched, watch
from holdfast.nn import operators


@dataclass(frozen=True, eq=False)
class Course:
    """One direction of one layer, step by step, in the order in which the steps were computed.

    T steps, B rows, H units; P features of h, which is H without a projection.

    cell: the cell that ran, with its variations. alive: `[T, B]`, where a row has a step. fresh:
    `[T, B]`, where a row began anew. h: `[T, B, P]`. states, activations: `[T, B, H]` by name of
    the state or gate. ranges: the ends of each activation. retention: `[T, B, H]` by name of the
    state, the derivative of the new state with respect to the old one, unit by unit. probes: zeros
    `[B, P]` that were added to h at each step; their gradients are those of h.
    """

    cell: Cell
    alive: Tensor
    fresh: Tensor
    h: Tensor
    states: Mapping[str, Tensor]
    activations: Mapping[str, Tensor]
    ranges: Mapping[str, tuple[float, float]]
    retention: Mapping[str, Tensor]
    probes: tuple[Tensor, ...] = field(repr=False)

    @property
    def lengths(self) -> Tensor:
        """The number of steps of each row, `[B]`."""
        return self.alive.sum(0)


@dataclass(frozen=True, eq=False)
class Recording:
    """A layer's results and the course of each of its directions, in the order they ran.

    out: the output as the layer returns it, still connected to the probes. last: the last h of each
    direction, `[B, P]`, connected too.
    """

    out: Any
    courses: tuple[Course, ...]
    last: tuple[Tensor, ...]


def record(layer: nn.Module, x: Any, *arguments: Any, **options: Any) -> Recording:
    """Run a layer in evaluation mode and write down every step; the layer stays as it is.

    >>> from holdfast.nn import LSTM
    >>> recording = record(LSTM(3, 5, num_layers=2), torch.zeros(7, 4, 3))
    >>> [tuple(course.activations["f"].shape) for course in recording.courses]
    [(7, 4, 5), (7, 4, 5)]

    Arguments: those of the layer's call.
    """
    recorder = _Recorder()
    stand_in = _evaluating(layer)
    devices = list({p.device.index or 0 for p in layer.parameters() if p.device.type == "cuda"})
    with (
        torch.random.fork_rng(devices),
        torch.inference_mode(False),
        torch.enable_grad(),
        operators.instead(recorder.run),
    ):
        if isinstance(x, Tensor) and x.is_inference():
            x = x.clone()
        out, *_ = stand_in.forward(x, *arguments, **options)
    return Recording(out, tuple(recorder.courses), tuple(recorder.last))


def _evaluating(module: nn.Module) -> nn.Module:
    """A module in evaluation mode that shares tensors with this one, but no flag and no list.

    What `torch.compile` made of a module is left aside: a compiled graph cannot be watched.
    """
    module = getattr(module, "_orig_mod", module)
    twin = type(module).__new__(type(module))
    twin.__dict__.update(module.__dict__)
    children = {
        name: None if child is None else _evaluating(child)
        for name, child in module.__dict__["_modules"].items()
    }
    twin.__dict__.update(_modules=children, training=False, _compiled_call_impl=None)
    return twin


class _Recorder:
    """Takes the place of `operators.run`, with its signature, and keeps what it sees."""

    def __init__(self) -> None:
        self.courses: list[Course] = []
        self.last: list[Tensor] = []

    def run(
        self,
        backend: str,
        cell: Cell,
        x: Tensor,
        parameters: Mapping[str, Tensor],
        h: Tensor,
        states: tuple[Tensor, ...] = (),
        *,
        lengths: Tensor | None = None,
        batch_sizes: Tensor | None = None,
        sequences: bool = False,
        noise: Noise | None = None,
        resets: Resets | None = None,
        recompute: str = "none",
        narrow: str = "",
    ) -> Result:
        """One layer, one direction, over a sequence; here every value is kept."""
        packed = None
        if batch_sizes is not None:
            *packed, lengths = _unpack(batch_sizes.to(x.device))
            padded = x.new_zeros(len(batch_sizes), h.shape[0], x.shape[-1])
            x = padded.index_put(tuple(packed), x)
        if lengths is None:
            lengths = torch.full((x.shape[1],), x.shape[0])
        steps = _Steps(watch(cell), parameters, lengths.to(x.device), noise, resets)
        result = steps.run(x, h, states)
        self.courses.append(steps.course(result))
        self.last.append(result.h)
        kept = result.sequences if sequences else None
        if packed is None:
            return replace(result, sequences=kept)
        t, b = packed
        kept = None if kept is None else tuple(values[t, b] for values in kept)
        return replace(result, out=result.out[t, b], sequences=kept)


def _unpack(batch_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Step and row of each packed position, `[N]` each, and the length of each row, `[B]`."""
    rows = torch.arange(int(batch_sizes[0]), device=batch_sizes.device)
    alive = batch_sizes.unsqueeze(1) > rows  # [T, B]
    t, b = alive.nonzero(as_tuple=True)
    return t, b, alive.sum(0)


class _Steps:
    """A watched cell over a sequence, by calls of the eager definition for one step each."""

    def __init__(
        self,
        watched: Watched,
        parameters: Mapping[str, Tensor],
        lengths: Tensor,
        noise: Noise | None,
        resets: Resets | None,
    ) -> None:
        self.watched = watched
        self.parameters = parameters
        self.lengths = lengths
        self.noise = noise
        self.resets = resets
        self.probes: list[Tensor] = []
        self.more: list[tuple[Tensor, ...]] = []
        self.alive = torch.zeros(0)

    def run(self, x: Tensor, h: Tensor, states: tuple[Tensor, ...]) -> Result:
        """As `eager.run`, with the own states' sequences."""
        own, cell = len(states), self.watched.cell
        units = _units(cell, self.parameters)
        looks = tuple(h.new_zeros(h.shape[0], units) for _ in cell.states[own:])
        steps = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
        self.alive = steps < self.lengths  # [T, B]
        out, kept = [], []
        for t in range(x.shape[0]):
            alive = self.alive[t].unsqueeze(1)
            result = eager.run(
                cell,
                x[t : t + 1],
                self.parameters,
                h,
                (*states, *looks),
                lengths=self.alive[t].long(),
                noise=self._noise(t),
                resets=self._resets(t, looks),
            )
            self.probes.append(torch.zeros_like(h).requires_grad_())
            h, states = result.h + self.probes[t], result.states[:own]
            self.more.append(tuple(value.detach() for value in result.states[own:]))
            out.append(torch.where(alive, h, 0.0))
            kept.append(tuple(torch.where(alive, state, 0.0) for state in states))
        sequences = tuple(torch.stack(values) for values in zip(*kept, strict=True))
        return Result(torch.stack(out), h, states, sequences)

    def _noise(self, t: int) -> Noise | None:
        if self.noise is None:
            return None
        first = self.noise.steps
        return replace(
            self.noise,
            steps=torch.full_like(self.noise.seeds, t) if first is None else first + t,
        )

    def _resets(self, t: int, looks: tuple[Tensor, ...]) -> Resets | None:
        if self.resets is None:
            return None
        starts = self.resets.starts
        starts = (*starts, *(torch.zeros_like(look[0]) for look in looks)) if starts else ()
        return Resets(self.resets.at[t : t + 1], starts)

    def course(self, result: Result) -> Course:
        """What was written down while `run` ran."""
        names = self.watched.cell.states
        sequences = result.sequences or ()
        looks = iter([torch.stack(values) for values in zip(*self.more, strict=True)])
        fresh = torch.zeros_like(self.alive)
        if self.resets is not None:
            fresh = self.resets.at.to(fresh.device) & self.alive
        return Course(
            self.watched.cell,
            self.alive,
            fresh,
            result.out.detach(),
            {name: value.detach() for name, value in zip(names, sequences, strict=False)},
            {name: next(looks) for name in self.watched.activations},
            self.watched.activations,
            {name: next(looks) for name in self.watched.kept},
            tuple(self.probes),
        )


def _units(cell: Cell, parameters: Mapping[str, Tensor]) -> int:
    """H, from the rows of the input matrix."""
    return cell.measure(parameters)[1]

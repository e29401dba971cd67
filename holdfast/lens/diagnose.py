"""Is a layer healthy? Gradients through time, memory in steps, gates that are stuck."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from holdfast.errors import DiagnosisWarning
from holdfast.lens.advice import on_gradients, on_units
from holdfast.lens.measure import Direction, examine
from holdfast.lens.table import table
from holdfast.lens.trace import Recording, record
from holdfast.nn.recurrent import Recurrent


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What `diagnose` found: `str` is a table with advice, `plot` a picture.

    cell: the cell's name. steps, rows: of the batch that was looked at. directions: one for each
    layer and direction, lower layers first. advice: what to do, one sentence or two each.
    """

    cell: str
    steps: int
    rows: int
    directions: tuple[Direction, ...]
    advice: tuple[str, ...]

    def __str__(self) -> str:
        return table(self.title, self.directions, self.advice)

    @property
    def title(self) -> str:
        """What was looked at."""
        return f"{self.cell}, {self.steps} steps, {self.rows} rows"

    def plot(self, path: str | Path | None = None) -> Any:
        """A figure: gradients through time, half-lives, saturation of each gate.

        Arguments:
            path: where to write it, as PNG, PDF or SVG; None for the matplotlib figure alone.

        Errors: `MissingExtraError` without matplotlib, which the extra `forecast` brings.
        """
        from holdfast.lens.picture import picture

        figure = picture(self.title, self.directions)
        if path is not None:
            figure.savefig(path)
        return figure


def diagnose(
    layer: Recurrent,
    x: Any,
    hx: Any = None,
    *,
    loss: Callable[[Any], Tensor] | None = None,
    **options: Any,
) -> Diagnosis:
    """Find out how far gradients reach, how long units remember and which gates are stuck.

    >>> from holdfast.nn import LSTM
    >>> diagnosis = diagnose(LSTM(3, 5), torch.randn(7, 4, 3))  # [T, B, I]
    >>> first = diagnosis.directions[0]
    >>> tuple(first.gradient.shape), tuple(first.half_life["c"].shape)
    ((7,), (5,))

    The layer is looked at in evaluation mode with the eager definition of its cell, and stays as it
    is: parameters, gradients, mode and random numbers.

    Arguments:
        layer: any layer of `holdfast.nn`.
        x: input of the layer's call; real data, scaled as in training, tell the truth.
        hx: initial states of the layer's call.
        loss: from the layer's output to a scalar. By default a fixed random projection of the last
            h of the last layer: for each direction, the h it computed last.
        options: further arguments of the layer's call, such as `lengths=`.

    Warns: `DiagnosisWarning` with advice where gradients vanish (at the first step less than 1e-4
    of the norm at the last), explode (anywhere more than 1e3 times that norm) or do not arrive.

    Errors: `TypeError` for what is not a layer of Holdfast, `ValueError` for a loss that is not a
    scalar made from the output or a batch without a step, and those of the layer's call.

    Vanishing and exploding gradients: Hochreiter 1991; Bengio, Simard & Frasconi 1994; Pascanu,
    Mikolov & Bengio 2013.
    """
    if not isinstance(layer, Recurrent):
        raise TypeError(
            f"diagnose got a {type(layer).__name__}, expected a layer of holdfast.nn; load the "
            "state dict of a torch.nn layer into the layer of the same name there"
        )
    recording = record(layer, x, hx, **options)
    courses = recording.courses
    if not any(course.alive.any() for course in courses):
        raise ValueError("diagnose got no row with a step, expected one at least; see lengths=")
    sides = 2 if layer.bidirectional else 1
    if len(courses) != layer.num_layers * sides:
        raise ValueError("diagnose looks at whole gradients; leave out tbptt=")
    gradients = iter(_gradients(recording, loss, sides))
    directions = tuple(
        examine(course, [next(gradients) for _ in course.probes], *divmod(number, sides))
        for number, course in enumerate(courses)
    )
    for_gradients = on_gradients(layer.cell, directions)
    steps, rows = courses[0].alive.shape
    advice = (*for_gradients, *on_units(directions))
    for text in for_gradients:
        warnings.warn(text, DiagnosisWarning, stacklevel=2)
    return Diagnosis(layer.cell.name, steps, rows, directions, advice)


def _gradients(
    recording: Recording, loss: Callable[[Any], Tensor] | None, sides: int
) -> Sequence[Tensor]:
    """d loss / d h_t, `[B, P]`, for every step of every course in turn."""
    probes = [probe for course in recording.courses for probe in course.probes]
    with torch.inference_mode(False), torch.enable_grad():
        value = _project(recording.last[-sides:]) if loss is None else loss(recording.out)
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"the loss should be a scalar tensor, got {got}; sum or average it")
        if not value.requires_grad:
            raise ValueError("the loss does not depend on the layer's output; compute it from that")
        return torch.autograd.grad(value.reshape(()), probes, materialize_grads=True)


def _project(last: Sequence[Tensor]) -> Tensor:
    """A weighted sum of the last h, with weights of a generator of its own."""
    generator = torch.Generator().manual_seed(0)
    total = last[0].new_zeros(())
    for h in last:
        weights = torch.randn(h.shape, generator=generator, dtype=torch.float64)
        total = total + (h * weights.to(h)).sum()
    return total

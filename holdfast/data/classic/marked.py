"""Marked numbers to add or multiply, and marked symbols whose order decides."""

from __future__ import annotations

import torch
from torch import Tensor

from holdfast.data.classic.batches import (
    Answers,
    alive,
    as_generator,
    at_least,
    encode,
    integers,
    uniform,
)

SYMBOLS = "EBabcdXY"
"""The eight symbols of temporal order, in the order of inputs."""

PLACES = {2: ((10, 20), (50, 60)), 3: ((10, 20), (33, 43), (66, 76))}
"""Where X or Y stand, for two and for three of them: first and last step, from 0."""


def adding(batch: int, T: int = 100, generator: torch.Generator | int = 0) -> Answers:
    """Pairs of a number and a marker: the sum of the two marked numbers, scaled to [0, 1].

    >>> x, target, lengths = adding(4, T=100, generator=0)
    >>> x.shape[2], tuple(target.shape), x[0, :, 1].tolist()
    (2, (4, 1), [-1.0, -1.0, -1.0, -1.0])

    Numbers are from U(-1, 1), lengths from T to T + T/10. One of the first ten pairs is marked by
    1, then one of the first T/2 - 1 that is not marked yet; markers are 0 elsewhere and -1 in the
    first and the last pair. The target `[B, 1]` is 0.5 + (X1 + X2) / 4, where a number that
    falls on the first pair, whose marker remains -1, counts as 0.
    Errors: `ValueError` for T below 20, where the places do not fit.
    Source: Hochreiter & Schmidhuber 1997, experiment 4.
    """
    generator = as_generator(generator)
    x, lengths, first, second = _marked(batch, T, -1.0, generator)
    chosen = [_at(x, place, 0.0) for place in (first, second)]
    return Answers(x, (0.5 + (chosen[0] + chosen[1]) / 4).unsqueeze(1), lengths)


def multiplication(batch: int, T: int = 100, generator: torch.Generator | int = 0) -> Answers:
    """As `adding`, with numbers from U(0, 1) and their product as the target.

    >>> x, target, lengths = multiplication(4, T=100, generator=0)
    >>> bool((x[..., 0] >= 0).all() and (target >= 0).all() and (target <= 1).all())
    True

    A number that falls on the first pair counts as 1.
    Source: Hochreiter & Schmidhuber 1997, experiment 5.
    """
    generator = as_generator(generator)
    x, lengths, first, second = _marked(batch, T, 0.0, generator)
    chosen = [_at(x, place, 1.0) for place in (first, second)]
    return Answers(x, (chosen[0] * chosen[1]).unsqueeze(1), lengths)


def _marked(
    batch: int, T: int, low: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, lengths and the two marked places; the first place is below 10, the second below T/2."""
    at_least(1, batch=batch)
    at_least(20, T=T)
    lengths = integers(T, T + T // 10, batch, generator)
    steps = int(lengths.max())
    numbers = uniform(low, 1.0, (steps, batch), generator)
    first = integers(0, 9, batch, generator)
    # The first T/2 - 1 pairs that are not marked yet: one place further from the marked one on.
    second = integers(0, T // 2 - 2, batch, generator)
    second += second >= first
    rows = torch.arange(batch)
    markers = torch.zeros(steps, batch)
    for place in (first, second):
        markers[place, rows] = 1
    markers[0] = -1
    markers[lengths - 1, rows] = -1
    x = torch.stack([numbers, markers], dim=2) * alive(lengths, steps).unsqueeze(2)
    return x, lengths, first, second


def _at(x: Tensor, place: Tensor, at_start: float) -> Tensor:
    """The numbers at some places, `[B]`, or another number where that is the first place."""
    numbers = x[place, torch.arange(len(place)), 0]
    return torch.where(place == 0, at_start, numbers)


def temporal_order(
    batch: int, marks: int = 2, generator: torch.Generator | int = 0, one_hot: bool = True
) -> Answers:
    """Among random letters stand two or three symbols X or Y: in which order?

    >>> x, target, lengths = temporal_order(3, marks=2, generator=0)
    >>> x.shape[2], "".join(SYMBOLS[k] for k in x[:12, 0].argmax(1).tolist()), target.tolist()
    (8, 'Eddaacdabbac', [2, 2, 2])

    A sequence begins with E, ends with B and has a length from 100 to 110. The class `[B]` is the
    number that the marks spell, X as 0 and Y as 1, the first one counting most: 4 classes with two
    marks (between steps 10 and 20, 50 and 60), 8 with three (10 and 20, 33 and 43, 66 and 76).
    Errors: `ValueError` for another number of marks.
    Source: Hochreiter & Schmidhuber 1997, experiments 6a and 6b.
    """
    generator = as_generator(generator)
    at_least(1, batch=batch)
    if marks not in PLACES:
        raise ValueError(f"marks should be 2 (experiment 6a) or 3 (6b), got: {marks}")
    lengths = integers(100, 110, batch, generator)
    symbols = 2 + torch.randint(4, (int(lengths.max()), batch), generator=generator)
    rows = torch.arange(batch)
    target = torch.zeros(batch, dtype=torch.int64)
    for low, high in PLACES[marks]:
        mark = integers(0, 1, batch, generator)
        symbols[integers(low, high, batch, generator), rows] = SYMBOLS.index("X") + mark
        target = 2 * target + mark
    symbols[0] = SYMBOLS.index("E")
    symbols[lengths - 1, rows] = SYMBOLS.index("B")
    return Answers(encode(symbols, lengths, len(SYMBOLS), one_hot), target, lengths)

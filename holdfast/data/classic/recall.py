"""Copying, adding as it is run today, and parity."""

from __future__ import annotations

import math

import torch

from holdfast.data.classic.batches import (
    Answers,
    Steps,
    alive,
    as_generator,
    at_least,
    integers,
    uniform,
)

COPIED = 10
"""Symbols that are to be copied."""

KINDS = 8
"""Kinds of symbols; beside them a blank and the signal to begin."""


def copy_memory(batch: int, T: int = 500, generator: torch.Generator | int = 0) -> Steps:
    """Ten symbols, T - 1 blanks, a signal, ten blanks: say the ten symbols in the last ten steps.

    >>> x, target, lengths, mask = copy_memory(2, T=30, generator=0)
    >>> tuple(x.shape), tuple(target.shape), target[-10:, 0].equal(x[:10, 0].argmax(1))
    ((50, 2, 10), (50, 2), True)

    x `[T + 20, B, 10]`: symbols 0 to 7, the blank 8, the signal 9. The target `[T + 20, B]` is the
    blank before the last ten steps. See `copy_baseline` for what can be had without memory.
    Source: Hochreiter & Schmidhuber 1997 in spirit; Arjovsky, Shah & Bengio 2016 in this form.
    """
    generator = as_generator(generator)
    at_least(1, batch=batch, T=T)
    steps = T + 2 * COPIED
    symbols = torch.full((steps, batch), KINDS)
    symbols[:COPIED] = torch.randint(KINDS, (COPIED, batch), generator=generator)
    symbols[COPIED + T - 1] = KINDS + 1
    target = torch.full((steps, batch), KINDS)
    target[-COPIED:] = symbols[:COPIED]
    x = torch.nn.functional.one_hot(symbols, KINDS + 2).float()
    lengths = torch.full((batch,), steps, dtype=torch.int64)
    return Steps(x, target, lengths, alive(lengths, steps))


def copy_baseline(T: int) -> float:
    """Cross entropy, in nats a step, of the best answer to `copy_memory` without memory.

    >>> round(copy_baseline(500), 4)
    0.04
    """
    return COPIED * math.log(KINDS) / (T + 2 * COPIED)


def adding_fixed(batch: int, T: int = 200, generator: torch.Generator | int = 0) -> Answers:
    """Adding in the form of chrono initialization: length T, numbers from U(0, 1), sum as target.

    >>> x, target, lengths = adding_fixed(3, T=20, generator=0)
    >>> tuple(x.shape), x[..., 1].sum(0).tolist()
    ((20, 3, 2), [2.0, 2.0, 2.0])

    One number of the first half and one of the second are marked by 1; the others have a 0. To
    answer 1 always has a mean squared error of 1/6. Target `[B, 1]`.
    Source: Arjovsky, Shah & Bengio 2016; Tallec & Ollivier 2018, section 3.
    """
    generator = as_generator(generator)
    at_least(1, batch=batch)
    at_least(2, T=T)
    numbers = uniform(0.0, 1.0, (T, batch), generator)
    markers = torch.zeros(T, batch)
    rows = torch.arange(batch)
    markers[integers(0, T // 2 - 1, batch, generator), rows] = 1
    markers[integers(T // 2, T - 1, batch, generator), rows] = 1
    target = (numbers * markers).sum(0).unsqueeze(1)
    lengths = torch.full((batch,), T, dtype=torch.int64)
    return Answers(torch.stack([numbers, markers], dim=2), target, lengths)


def parity(
    batch: int, shortest: int = 3, longest: int = 40, generator: torch.Generator | int = 0
) -> Steps:
    """Rows of random bits of different lengths: at each step, is the number of ones so far odd?

    >>> x, target, lengths, mask = parity(2, 3, 8, generator=0)
    >>> bool(target[1].equal((x[0].argmax(1) + x[1].argmax(1)) % 2))
    True

    x `[T, B, 2]` has a 1 at the bit's own place; the target `[T, B]` is 0 or 1. The parity of a
    row is the target at its last step.
    Errors: `ValueError` where `longest` is below `shortest`.
    Source: Beck et al. 2024 (xLSTM), formal languages.
    """
    generator = as_generator(generator)
    at_least(1, batch=batch, shortest=shortest)
    at_least(shortest, longest=longest)
    lengths = integers(shortest, longest, batch, generator)
    steps = int(lengths.max())
    mask = alive(lengths, steps)
    bits = torch.randint(2, (steps, batch), generator=generator)
    x = torch.nn.functional.one_hot(bits, 2).float() * mask.unsqueeze(2)
    return Steps(x, bits.cumsum(0) % 2 * mask, lengths, mask)

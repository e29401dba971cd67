"""Long time lags: the first symbol decides what comes at the end; two noisy classes."""

from __future__ import annotations

import torch
from torch import Tensor

from holdfast.data.classic.batches import (
    Answers,
    Steps,
    alive,
    as_generator,
    at_least,
    encode,
    integers,
)

NOISE = 0.2
"""Variance of the noise of the two-sequence problem."""

TARGET_NOISE = 0.1
"""Variance of the noise on the targets of experiment 3c."""


def noise_free_lag(
    batch: int, p: int = 100, generator: torch.Generator | int = 0, one_hot: bool = True
) -> Steps:
    """One of two sequences a row: x or y, then a_1 ... a_(p-1), then x or y again.

    >>> x, target, lengths, mask = noise_free_lag(2, p=5, generator=0)
    >>> tuple(x.shape), x.argmax(2)[:, 0].tolist(), target[:, 0].tolist()
    ((5, 2, 6), [4, 0, 1, 2, 3], [0, 1, 2, 3, 4])

    At each of the p steps the target is the next symbol, `[T, B]`: numbers 0 to p-2 for the a, p-1
    for x and p for y; inputs are `[p, B, p + 1]`.
    Source: Hochreiter & Schmidhuber 1997, experiment 2a.
    """
    return _lag(batch, p, generator, one_hot, random=False)


def random_filler_lag(
    batch: int, p: int = 100, generator: torch.Generator | int = 0, one_hot: bool = True
) -> Steps:
    """As `noise_free_lag`, with p - 1 random symbols between: only the last can be predicted.

    >>> x, target, lengths, mask = random_filler_lag(2, p=5, generator=0)
    >>> tuple(x.shape), mask.all().item()
    ((5, 2, 6), True)

    Source: Hochreiter & Schmidhuber 1997, experiment 2b.
    """
    return _lag(batch, p, generator, one_hot, random=True)


def _lag(
    batch: int, p: int, generator: torch.Generator | int, one_hot: bool, random: bool
) -> Steps:
    generator = as_generator(generator)
    at_least(1, batch=batch)
    at_least(2, p=p)
    ends = integers(p - 1, p, batch, generator)
    if random:
        filler = torch.randint(p - 1, (p - 1, batch), generator=generator)
    else:
        filler = torch.arange(p - 1).unsqueeze(1).expand(p - 1, batch)
    symbols = torch.cat([ends.unsqueeze(0), filler, ends.unsqueeze(0)])  # [p + 1, B]
    lengths = torch.full((batch,), p, dtype=torch.int64)
    x = encode(symbols[:-1], lengths, p + 1, one_hot)
    return Steps(x, symbols[1:], lengths, alive(lengths, p))


def very_long_lag(
    batch: int,
    q: int = 50,
    p: int = 50,
    generator: torch.Generator | int = 0,
    one_hot: bool = True,
) -> Answers:
    """b, then x or y, then at least q of p random distractors, then e: was it x or y?

    >>> x, target, lengths = very_long_lag(3, q=5, p=4, generator=1)
    >>> x.shape[2], x.argmax(2)[0].tolist(), target.tolist(), bool((lengths >= 8).all())
    (8, [4, 4, 4], [1, 1, 1], True)

    After the q distractors each further symbol is e with probability 1/10, so that the mean length,
    with the symbol that is to be predicted, is q + 13. Symbols are 0 to p-1 for the distractors,
    then b, e, x, y; inputs are `[T, B, p + 4]`. The target `[B]` is 0 for x and 1 for y.
    Source: Hochreiter & Schmidhuber 1997, experiment 2c.
    """
    generator = as_generator(generator)
    at_least(1, batch=batch, q=q, p=p)
    begin, end = p, p + 1
    tails = torch.empty(batch).geometric_(0.1, generator=generator).to(torch.int64) - 1
    lengths = q + 3 + tails
    steps = int(lengths.max())
    symbols = torch.randint(p, (steps, batch), generator=generator)
    target = integers(0, 1, batch, generator)
    symbols[0] = begin
    symbols[1] = target + p + 2
    symbols[lengths - 1, torch.arange(batch)] = end
    return Answers(encode(symbols, lengths, p + 4, one_hot), target, lengths)


def two_sequences(
    batch: int,
    T: int = 100,
    N: int = 3,
    variant: str = "3a",
    generator: torch.Generator | int = 0,
    clean_targets: bool = False,
) -> Answers:
    """Real-valued sequences of two classes; the first N numbers tell which, all others are noise.

    >>> x, target, lengths = two_sequences(2, T=100, N=3, generator=1)
    >>> x.shape[2], x[:3, 0, 0].tolist(), target[0].tolist(), bool((lengths <= 110).all())
    (1, [-1.0, -1.0, -1.0], [0.0], True)

    Lengths are from T to T + T/10. The numbers that tell are 1 for the first class and -1 for the
    second, the noise has variance 0.2. The target `[B, 1]` is 1 or 0.

    Arguments:
        variant: "3a"; "3b" adds noise of variance 0.2 to the numbers that tell; "3c" is 3a with
            targets 0.2 for the first class and 0.8 for the second, and noise of variance 0.1 on
            them.
        clean_targets: leave the noise of "3c" out, as its test does.

    Errors: `ValueError` for another variant, or for N above T.
    Source: Hochreiter & Schmidhuber 1997, experiments 3a to 3c; Bengio, Simard & Frasconi 1994.
    Reconstruction: that the numbers that tell are free of noise in 3c follows from the published
    error rates, which are below what noise would permit.
    """
    generator = as_generator(generator)
    at_least(1, batch=batch, N=N)
    at_least(N, T=T)
    if variant not in ("3a", "3b", "3c"):
        raise ValueError(f"variant should be '3a', '3b' or '3c', got: {variant!r}")
    lengths = integers(T, T + T // 10, batch, generator)
    steps = int(lengths.max())
    first = integers(0, 1, batch, generator).float()
    noise = torch.randn(steps, batch, generator=generator) * NOISE**0.5
    if variant != "3b":
        noise[:N] = 0
    noise[:N] += 2 * first - 1
    x = (noise * alive(lengths, steps)).unsqueeze(2)
    return Answers(x, _targets(first, variant, clean_targets, generator).unsqueeze(1), lengths)


def _targets(first: Tensor, variant: str, clean: bool, generator: torch.Generator) -> Tensor:
    if variant != "3c":
        return first
    noise = torch.randn(len(first), generator=generator) * TARGET_NOISE**0.5
    return 0.8 - 0.6 * first + (0 if clean else noise)

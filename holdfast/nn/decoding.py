"""What searching and sampling share: the form of their results, and what a sequence may hold.

Both drive a function `step(tokens [N], state) -> (logits [N, V], state)` and a state with `select`,
as those of `holdfast.nn.decoder`; any other model that has them can be driven as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from holdfast.nn import checks


class Carried(Protocol):
    """A state that rows can be taken from.

    Where attention is asked for it also has `weights`, `[N, S]`; for a coverage penalty
    `memory.valid()`, too, `[B, S]`.
    """

    def select(self, rows: Tensor, sources: Tensor | None = None) -> Any:
        """The rows with these numbers; `sources` are those that are left, where some are."""


Step = Callable[[Tensor, Any], tuple[Tensor, Any]]
"""Tokens `[N]` and a state to logits `[N, V]` and the state after them."""


@dataclass(frozen=True)
class Hypotheses:
    """Sequences for each of B sources, the best first.

    tokens: `[B, n, T]`, without begin and end marks; the end mark fills what is behind a sequence.
    lengths: `[B, n]`. scores: `[B, n]`, what they are ranked by; minus infinity where fewer than n
    were found. log_probs: `[B, n]`, the logarithm of the probability of a sequence and its end.
    weights: attention of each token, `[B, n, T, S]`, or None where it was not asked for.
    """

    tokens: Tensor
    lengths: Tensor
    scores: Tensor
    log_probs: Tensor
    weights: Tensor | None

    def best(self) -> list[list[int]]:
        """The first sequence of each source as a list of numbers."""
        return [rows[0] for rows in self.lists()]

    def lists(self) -> list[list[list[int]]]:
        """All sequences of each source that were found, as lists of numbers."""
        rows = zip(self.tokens.tolist(), self.lengths.tolist(), self.scores.tolist(), strict=True)
        return [
            [one[:length] for one, length, score in zip(*found, strict=True) if score > -math.inf]
            for found in rows
        ]


@dataclass(frozen=True)
class Rules:
    """Which tokens a sequence may hold, decided for all rows at once.

    end: the end mark. limit: most tokens before it, `[B]`. shortest: least tokens before it.
    banned: tokens that are never taken, `[n]`. repeat: n-grams of so many tokens stand at most
    once in a sequence; 0 for no such rule. forced: `[B, P]`, the first tokens of each row, -1 where
    there are none; they hold against every other rule.
    """

    end: int
    limit: Tensor
    shortest: int
    banned: Tensor
    repeat: int
    forced: Tensor

    @classmethod
    def of(
        cls,
        batch: int,
        end: int,
        longest: int | Tensor,
        shortest: int,
        banned: Sequence[int],
        repeat: int,
        prefix: Sequence[Sequence[int]] | None,
        device: torch.device,
    ) -> Rules:
        """Rules as a caller states them.

        Errors: `ValueError` for numbers that no sequence can obey.
        """
        limit = torch.as_tensor(longest, device=device).expand(batch)
        if bool((limit < max(1, shortest)).any()):
            raise ValueError(
                f"max_length should be at least min_length, {shortest}, and at least 1, got: "
                f"{int(limit.min())}"
            )
        rows = [list(one) for one in prefix or [[]] * batch]
        if len(rows) != batch:
            raise ValueError(
                f"prefix needs one sequence for each of {batch} sources, got {len(rows)}"
            )
        width = max(map(len, rows), default=0)
        for number, (row, most) in enumerate(zip(rows, limit.tolist(), strict=True)):
            if len(row) > most or end in row or min(row, default=0) < 0:
                raise ValueError(
                    f"prefix {number} should be at most max_length, {most}, tokens from 0 on "
                    f"without the end mark {end}, got: {row}"
                )
        forced = torch.tensor([row + [-1] * (width - len(row)) for row in rows], device=device)
        kept = torch.tensor([one for one in banned if one != end], dtype=torch.int64, device=device)
        return cls(end, limit, shortest, kept, repeat, forced.long().view(batch, width))

    @property
    def steps(self) -> int:
        """Steps after which every sequence has ended."""
        return int(self.limit.max()) + 1

    def select(self, rows: Tensor) -> Rules:
        """The rules of these rows, `[n]`."""
        limit, forced = self.limit.index_select(0, rows), self.forced.index_select(0, rows)
        return Rules(self.end, limit, self.shortest, self.banned, self.repeat, forced)

    def apply_(self, scores: Tensor, step: int, history: Tensor | None) -> None:
        """Put minus infinity into scores `[B, M, V]` where a token may not follow.

        Arguments:
            step: number of tokens before. history: these tokens, `[B, M, step]`, where `repeat`.
        """
        forced, own = None, None
        if step < self.forced.shape[1]:
            forced = self.forced[:, step].view(-1, 1, 1)  # [B, 1, 1]
            word = forced.clamp(min=0).expand(-1, scores.shape[1], 1)
            own = scores.gather(2, word)
        if len(self.banned):
            scores[:, :, self.banned] = -math.inf
        if step < self.shortest:
            scores[:, :, self.end] = -math.inf
        if self.repeat and history is not None:
            block_repeats_(scores, history, self.repeat)
        words = torch.arange(scores.shape[2], device=scores.device)
        over = (self.limit <= step).view(-1, 1, 1)
        if bool(over.any()):
            scores.masked_fill_(over & (words != self.end), -math.inf)
        if forced is not None and own is not None:
            scores.copy_(torch.where(words == forced, own, scores))
            scores.masked_fill_((forced >= 0) & (words != forced), -math.inf)


def block_repeats_(scores: Tensor, history: Tensor, size: int) -> None:
    """Put minus infinity where a token would end a run of `size` tokens for the second time.

    >>> import torch
    >>> scores = torch.zeros(1, 1, 4)
    >>> block_repeats_(scores, torch.tensor([[[1, 2, 3, 1]]]), 2)  # 1 2 stands there already
    >>> scores.tolist()
    [[[0.0, 0.0, -inf, 0.0]]]

    Arguments:
        scores: `[B, M, V]`, changed in place. history: `[B, M, T]`.
    """
    steps = history.shape[2]
    if steps < size:
        return
    runs = history.unfold(2, size, 1)  # [B, M, T - size + 1, size]
    last = history[:, :, steps - size + 1 :].unsqueeze(2)
    again = (runs[..., : size - 1] == last).all(3)
    found = torch.zeros_like(scores, dtype=torch.uint8)
    found.scatter_reduce_(2, runs[..., -1], again.to(torch.uint8), "amax")
    scores.masked_fill_(found.bool(), -math.inf)


def check_marks(begin: int, end: int, words: int) -> None:
    """Refuse marks that are no words of the model.

    Errors: `ValueError`.
    """
    for name, value in (("begin", begin), ("end", end)):
        if not 0 <= value < words:
            raise ValueError(f"{name} should be a word from 0 to {words - 1}, got: {value}")


def check_search(min_length: int, no_repeat: int) -> None:
    """Refuse numbers below 0.

    Errors: `TypeError` and `ValueError`.
    """
    for name, value in (("min_length", min_length), ("no_repeat", no_repeat)):
        checks.check_size(name, value + 1 if isinstance(value, int) else value)


def fewer(count: int, active: int) -> int:
    """How many of `count` rows to keep where `active` of them still run: a half, a quarter, ...

    Few different sizes, so that the programs prepared for them are found again.

    >>> fewer(64, 33), fewer(64, 20), fewer(64, 1)
    (64, 32, 1)
    """
    while count > 1 and -(-count // 2) >= active:
        count = -(-count // 2)
    return count

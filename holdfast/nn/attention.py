"""Attention: what a decoder takes from a source at each step, and from where.

A source is prepared once, `attention.remember(values, lengths)`; then every call scores queries
against it. A query is one step `[B, Q]`, or all steps of a sequence at once `[B, T, Q]`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from holdfast.errors import did_you_mean
from holdfast.nn import checks
from holdfast.nn.ragged import as_lengths
from holdfast.nn.scores import SCORES
from holdfast.nn.structure import check_place, check_tensor

WINDOWS = ("monotonic", "predictive")


@dataclass(frozen=True)
class Memory:
    """A source as attention sees it, made once by `Attention.remember`.

    values: `[B, S, D]`, zero at padding. keys: `[B, S, K]`, what the score has made of them. bias:
    `[B, 1, S]`, 0 at valid positions and minus infinity at padding, or None. lengths: `[B]`.
    """

    values: Tensor
    keys: Tensor
    bias: Tensor | None
    lengths: Tensor

    def select(self, rows: Tensor) -> Memory:
        """The sources with these numbers, `[n]`, in this order."""
        bias = None if self.bias is None else self.bias.index_select(0, rows)
        return Memory(
            self.values.index_select(0, rows),
            self.keys.index_select(0, rows),
            bias,
            self.lengths.index_select(0, rows),
        )

    def valid(self) -> Tensor:
        """Which positions are no padding, `[B, S]`."""
        return (
            torch.arange(self.values.shape[1], device=self.lengths.device) < self.lengths[:, None]
        )


class Attended(NamedTuple):
    """What attention found.

    context: `[B, D]`, or `[B, T, D]` for queries `[B, T, Q]`. weights: `[B, S]` or `[B, T, S]`.
    coverage: the sum of the weights of all steps so far, `[B, S]`, or None where it is not asked
    for.
    """

    context: Tensor
    weights: Tensor
    coverage: Tensor | None


class Attention(nn.Module):
    """Weigh the positions of a source by how well they fit a query, and average them.

    >>> import torch
    >>> attention = Attention(query_size=5, memory_size=4, score="additive")
    >>> memory = attention.remember(torch.randn(2, 7, 4), lengths=[7, 3])  # [B, S, D]
    >>> context, weights, _ = attention(torch.randn(2, 5), memory)  # one step, [B, Q]
    >>> tuple(context.shape), tuple(weights.shape), weights[1, 3:].sum().item()
    ((2, 4), (2, 7), 0.0)
    >>> context, weights, _ = attention(torch.randn(2, 6, 5), memory)  # all steps, [B, T, Q]
    >>> tuple(context.shape), tuple(weights.shape)
    ((2, 6, 4), (2, 6, 7))

    Arguments:
        query_size: Q, features of a query, such as H of the decoder.
        memory_size: D, features of each position of the source.
        score: "additive" (Bahdanau), "dot", "general", "concat", or "location": the score of a
            position is a function of the query and of the number of the position, not of what
            stands there (Luong's equation 8; needs `positions`).
        size: A, hidden units of the scores additive and concat; Q by default.
        positions: the longest source that the score location has weights for.
        window: None attends to the whole source. "predictive" (Luong's local-p) lets the query
            predict a place, p = S sigmoid(v . tanh(W q)), attends to positions within `width` of it
            only, and multiplies the weights by exp(-(s - p)^2 / (2 sigma^2)), sigma = width / 2.
            "monotonic" (local-m) attends to positions within `width` of the number of the step.
            Positions and steps count from 0.
        width: reach of the window to either side, in positions.
        coverage: the scores additive and concat also see how much attention each position has had;
            steps are then computed one after the other.
        scaled: the scores dot and general are divided by sqrt(K), the features of a key.

    Errors: `ValueError` for unknown names and options that do not go together.
    Source: Bahdanau, Cho & Bengio 2015; Luong, Pham & Manning 2015; See, Liu & Manning 2017.
    """

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        score: str = "general",
        size: int | None = None,
        *,
        positions: int = 0,
        window: str | None = None,
        width: int = 10,
        coverage: bool = False,
        scaled: bool = False,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        size = query_size if size is None else size
        sizes = {"query_size": query_size, "memory_size": memory_size, "size": size, "width": width}
        for name, value in sizes.items():
            checks.check_size(name, value)
        _check_choices(score, window, positions, coverage, scaled)
        self.query_size = query_size
        self.memory_size = memory_size
        self.kind = score
        self.window = window
        self.width = width
        self.coverage = coverage
        self.scaled = scaled
        kind: dict[str, Any] = {"device": device, "dtype": dtype}
        own = {"coverage": coverage} if "coverage" in SCORES[score].options else {}
        self.score = SCORES[score](query_size, memory_size, size, positions, **own, **kind)
        self.place = None
        if window == "predictive":
            self.place = nn.Sequential(
                nn.Linear(query_size, size, bias=False, **kind),
                nn.Tanh(),
                nn.Linear(size, 1, bias=False, **kind),
            )

    def remember(self, values: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Memory:
        """A source prepared for any number of queries.

        Arguments:
            values: `[B, S, D]`; what stands at padding does not matter.
            lengths: valid positions of each source, `[B]`, at least 1; all S by default.

        Errors: `ValueError` for a source of length 0, which nothing can be attended to in;
        `TypeError`, `ValueError` and `RuntimeError` for what is no such tensor.
        """
        name = type(self).__name__
        check_tensor(name, "values", values)
        check_place(name, "values", values, next(self.parameters(), values))
        if values.dim() != 3 or values.shape[2] != self.memory_size:
            raise RuntimeError(
                f"{name}: expected values [B, S, {self.memory_size}], got {list(values.shape)}"
            )
        counts = as_sources(lengths, values)
        memory = Memory(values, values, None, counts)
        bias = None
        if lengths is not None:
            valid = memory.valid()
            values = torch.where(valid.unsqueeze(2), values, 0.0)
            bias = torch.zeros_like(valid, dtype=values.dtype).masked_fill_(~valid, -math.inf)
            bias = bias.unsqueeze(1)
        keys = self.score.keys(values)
        if self.scaled:
            keys = keys / math.sqrt(keys.shape[2])
        return Memory(values, keys, bias, counts)

    def forward(
        self,
        query: Tensor,
        memory: Memory,
        coverage: Tensor | None = None,
        first_step: int = 0,
    ) -> Attended:
        """Context, weights and coverage of one step or of all steps.

        Arguments:
            query: `[B, Q]`, or `[B, T, Q]`.
            memory: what `remember` made of the source.
            coverage: `[B, S]`, attention of the steps before; zeros by default.
            first_step: number of the first step, which the monotonic window looks at.
        """
        _check_query(query, self.query_size, memory)
        many = query.dim() == 3
        queries = query if many else query.unsqueeze(1)
        if not self.coverage:
            context, weights = self.attend(queries, memory, None, first_step)
            after = None
        else:
            context, weights, after = self._attend_covered(queries, memory, coverage, first_step)
        if many:
            return Attended(context, weights, after)
        return Attended(context.squeeze(1), weights.squeeze(1), after)

    def attend(
        self,
        queries: Tensor,
        memory: Memory,
        coverage: Tensor | None = None,
        step: int = 0,
        *,
        together: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Context `[B, M, D]` and weights `[B, M, S]` of queries that do not see each other.

        Arguments:
            queries: `[B, M, Q]`: steps, or the hypotheses of each source.
            coverage: `[B, M, S]`, for attention with coverage.
            step: number of the first query's step.
            together: all queries belong to that one step, as those of hypotheses do.
        """
        own = {} if not self.coverage else {"coverage": coverage}
        if self.window is None:
            scores = self.score(queries, memory.keys, memory.bias, **own)
            weights = scores.softmax(2)
            return weights.bmm(memory.values), weights
        places = self._places(queries, memory, step, together)  # [B, M, 1] or [1, M, 1]
        distance = torch.arange(memory.values.shape[1], device=queries.device) - places
        bias = torch.zeros_like(distance).masked_fill_(distance.abs() > self.width, -math.inf)
        bias = bias if memory.bias is None else bias + memory.bias
        weights = (self.score(queries, memory.keys, None, **own) + bias).softmax(2)
        if self.place is not None:
            weights = weights * torch.exp(-2.0 * (distance / self.width).square())
        return weights.bmm(memory.values), weights

    def _places(self, queries: Tensor, memory: Memory, step: int, together: bool) -> Tensor:
        """Where in the source each query looks."""
        lengths = memory.lengths.view(-1, 1, 1).to(queries.dtype)
        if self.place is not None:
            return lengths * torch.sigmoid(self.place(queries))
        count = queries.shape[1]
        steps = torch.full((count,), step) if together else torch.arange(step, step + count)
        # Beyond the end of a short source the window stays at its last position.
        return torch.minimum(steps.to(lengths).view(1, -1, 1), lengths - 1)

    def _attend_covered(
        self, queries: Tensor, memory: Memory, coverage: Tensor | None, first_step: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step after the other: each sees the attention of all before it."""
        if coverage is None:
            coverage = queries.new_zeros(queries.shape[0], memory.values.shape[1])
        contexts, weights = [], []
        for step, query in enumerate(queries.split(1, 1), first_step):
            context, weight = self.attend(query, memory, coverage.unsqueeze(1), step)
            coverage = coverage + weight.squeeze(1)
            contexts.append(context)
            weights.append(weight)
        return torch.cat(contexts, 1), torch.cat(weights, 1), coverage

    def extra_repr(self) -> str:
        """The options that differ from their defaults."""
        words = [str(self.query_size), str(self.memory_size), f"score={self.kind!r}"]
        words += [f"window={self.window!r}, width={self.width}"] if self.window else []
        words += [f"{name}=True" for name in ("coverage", "scaled") if getattr(self, name)]
        return ", ".join(words)


def coverage_loss(weights: Tensor, valid: Tensor | None = None) -> Tensor:
    """How much attention goes where attention has already been, the mean over the valid steps.

    >>> import torch
    >>> coverage_loss(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])).item()  # [B, T, S]
    0.0
    >>> coverage_loss(torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])).item()
    0.5

    Arguments:
        weights: `[B, T, S]`. valid: which steps count, `[B, T]`; all by default.

    Source: See, Liu & Manning 2017, equation 12.
    """
    before = weights.cumsum(1) - weights
    again = torch.minimum(weights, before).sum(2)  # [B, T]
    if valid is None:
        return again.mean()
    return torch.where(valid, again, 0.0).sum() / valid.sum().clamp(min=1)


def as_sources(lengths: Tensor | Sequence[int] | None, values: Tensor) -> Tensor:
    """The lengths of sources `[B, S, ...]` as a checked `[B]` tensor, every one at least 1.

    Errors: `ValueError` naming the row of an empty source, or of a length beyond S.
    """
    batch, positions = values.shape[:2]
    if not positions:
        raise ValueError(
            f"the sources have no positions: got {list(values.shape)}, expected [B, S, ...] with S "
            "of at least 1; leave empty sources out"
        )
    if lengths is None:
        return torch.full((batch,), positions, device=values.device)
    counts = as_lengths(lengths, positions, batch, values)
    if not torch.compiler.is_compiling() and bool((counts == 0).any()):
        row = int((counts == 0).nonzero()[0])
        raise ValueError(
            f"source {row} has length 0, so there is nothing to attend to; leave empty sources "
            "out, or give them an end mark"
        )
    return counts


def _check_choices(
    score: str, window: str | None, positions: int, coverage: bool, scaled: bool
) -> None:
    if score not in SCORES:
        raise ValueError(
            f"score should be one of {', '.join(SCORES)}, got: {score!r}"
            f"{did_you_mean(str(score), SCORES)}"
        )
    if window not in (None, *WINDOWS):
        raise ValueError(f"window should be None, {' or '.join(WINDOWS)}, got: {window!r}")
    if score == "location" and positions < 1:
        raise ValueError(
            "the score location has a weight for each position, so it needs positions, the longest "
            f"source, got: {positions}"
        )
    if score == "location" and window is not None:
        raise ValueError("the score location knows no window; take another score, or window=None")
    if scaled and score not in ("dot", "general"):
        raise ValueError(f"scaled divides products, which {score!r} has none of; leave it out")
    if coverage and "coverage" not in SCORES[score].options:
        raise ValueError(
            f"coverage goes into the hidden units of a score, which {score!r} has none of; take "
            "'additive' or 'concat'"
        )


def _check_query(query: Tensor, size: int, memory: Memory) -> None:
    check_tensor("Attention", "query", query)
    batch = memory.values.shape[0]
    if query.dim() not in (2, 3) or query.shape[-1] != size or query.shape[0] != batch:
        raise RuntimeError(
            f"Attention: expected query [{batch}, {size}] or [{batch}, T, {size}] for {batch} "
            f"sources, got {list(query.shape)}"
        )

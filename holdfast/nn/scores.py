"""How well a decoder's state fits each position of a source: one table of score functions.

Every score is given queries `[B, M, Q]`, which are steps or hypotheses, and keys that were made
once for each source, and returns `[B, M, S]`. `bias`, `[B, 1, S]` or None, is added to it: 0 at
valid positions, minus infinity at padding.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional


class Score(nn.Module, ABC):
    """A score function; `keys` runs once for each source, `forward` at every step.

    Arguments:
        query_size: Q. memory_size: D. size: A, hidden units of the score, where it has any.
        positions: most positions of a source, where the score has a weight for each.
    """

    options: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, query_size: int, memory_size: int, size: int, positions: int, **kind: Any
    ) -> None:
        super().__init__()
        self.query_size = query_size
        self.memory_size = memory_size
        self.size = size
        self.positions = positions

    def keys(self, values: Tensor) -> Tensor:
        """What the score needs to know of the source: `[B, S, D]` to `[B, S, K]`."""
        return values

    @abstractmethod
    def forward(self, query: Tensor, keys: Tensor, bias: Tensor | None) -> Tensor:
        """Scores `[B, M, S]`."""

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.query_size}, {self.memory_size}"


def product(query: Tensor, keys: Tensor, bias: Tensor | None) -> Tensor:
    """Products of queries `[B, M, K]` and keys `[B, S, K]`, with the bias in the same pass."""
    turned = keys.transpose(1, 2)
    return query.bmm(turned) if bias is None else torch.baddbmm(bias, query, turned)


class Dot(Score):
    """score = q . k, which needs Q = D.

    >>> score = SCORES["dot"](5, 5, 0, 0)
    >>> tuple(score(torch.randn(2, 3, 5), score.keys(torch.randn(2, 7, 5)), None).shape)
    (2, 3, 7)

    Source: Luong, Pham & Manning 2015, section 3.1.
    """

    def __init__(
        self, query_size: int, memory_size: int, size: int, positions: int, **kind: Any
    ) -> None:
        if query_size != memory_size:
            raise ValueError(
                "the score dot multiplies a query with a memory unit by unit, so both need the "
                f"same size, got: {query_size} and {memory_size}; take 'general'"
            )
        super().__init__(query_size, memory_size, size, positions)

    def forward(self, query: Tensor, keys: Tensor, bias: Tensor | None) -> Tensor:
        """Scores `[B, M, S]`."""
        return product(query, keys, bias)


class General(Score):
    """score = q . W k, with W of `[Q, D]`; W k is made once for each source.

    Source: Luong, Pham & Manning 2015, section 3.1.
    """

    def __init__(
        self, query_size: int, memory_size: int, size: int, positions: int, **kind: Any
    ) -> None:
        super().__init__(query_size, memory_size, size, positions)
        self.key = nn.Linear(memory_size, query_size, bias=False, **kind)

    def keys(self, values: Tensor) -> Tensor:
        """`[B, S, Q]`."""
        return self.key(values)

    def forward(self, query: Tensor, keys: Tensor, bias: Tensor | None) -> Tensor:
        """Scores `[B, M, S]`."""
        return product(query, keys, bias)


class Additive(Score):
    """score = v . tanh(W q + U k), with A hidden units; U k is made once for each source.

    With a coverage u (how much attention each position has had so far) also `+ w u` inside tanh.

    Source: Bahdanau, Cho & Bengio 2015, appendix A.1.2; coverage: See, Liu & Manning 2017, (11).
    """

    options = ("coverage",)

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        size: int,
        positions: int,
        coverage: bool = False,
        **kind: Any,
    ) -> None:
        super().__init__(query_size, memory_size, size, positions)
        self._create_products(kind)
        self.v = nn.Parameter(torch.empty(size, **kind))
        self.w = nn.Parameter(torch.empty(size, **kind)) if coverage else None
        for parameter in (self.v, self.w):
            if parameter is not None:
                nn.init.uniform_(parameter, -1.0 / math.sqrt(size), 1.0 / math.sqrt(size))

    def _create_products(self, kind: Mapping[str, Any]) -> None:
        self.query = nn.Linear(self.query_size, self.size, bias=False, **kind)
        self.key = nn.Linear(self.memory_size, self.size, bias=False, **kind)

    def keys(self, values: Tensor) -> Tensor:
        """`[B, S, A]`."""
        return self.key(values)

    def queries(self, query: Tensor) -> Tensor:
        """`[B, M, A]`."""
        return self.query(query)

    def forward(
        self, query: Tensor, keys: Tensor, bias: Tensor | None, coverage: Tensor | None = None
    ) -> Tensor:
        """Scores `[B, M, S]`; `coverage` is `[B, M, S]`."""
        hidden = self.queries(query).unsqueeze(2) + keys.unsqueeze(1)  # [B, M, S, A]
        if self.w is not None and coverage is not None:
            hidden = torch.addcmul(hidden, coverage.unsqueeze(3), self.w)
        # In place: the sum is needed by nobody, and is the largest tensor of an attention.
        scores = hidden.tanh_() @ self.v
        return scores if bias is None else scores + bias


class Concat(Additive):
    """score = v . tanh(W [q; k]), the additive score with one matrix for both.

    Source: Luong, Pham & Manning 2015, section 3.1.
    """

    def _create_products(self, kind: Mapping[str, Any]) -> None:
        joined = self.query_size + self.memory_size
        self.weight = nn.Parameter(torch.empty(self.size, joined, **kind))
        nn.init.uniform_(self.weight, -1.0 / math.sqrt(joined), 1.0 / math.sqrt(joined))

    def keys(self, values: Tensor) -> Tensor:
        """`[B, S, A]`."""
        return functional.linear(values, self.weight[:, self.query_size :])

    def queries(self, query: Tensor) -> Tensor:
        """`[B, M, A]`."""
        return functional.linear(query, self.weight[:, : self.query_size])


class Location(Score):
    """score of position s = (W q)_s, from the query alone: the place counts, not what stands there.

    W has one row for each of the first `positions` positions; later ones are never attended to.

    Source: Luong, Pham & Manning 2015, equation 8.
    """

    def __init__(
        self, query_size: int, memory_size: int, size: int, positions: int, **kind: Any
    ) -> None:
        super().__init__(query_size, memory_size, size, positions)
        self.place = nn.Linear(query_size, positions, bias=False, **kind)

    def keys(self, values: Tensor) -> Tensor:
        """`[B, S, 0]`: only the number of positions matters."""
        return values[:, :, :0]

    def forward(self, query: Tensor, keys: Tensor, bias: Tensor | None) -> Tensor:
        """Scores `[B, M, S]`."""
        there = keys.shape[1]
        scores = functional.linear(query, self.place.weight[:there])
        if there > self.positions:
            scores = functional.pad(scores, (0, there - self.positions), value=-math.inf)
        return scores if bias is None else scores + bias


SCORES: Mapping[str, type[Score]] = MappingProxyType(
    {
        "additive": Additive,
        "dot": Dot,
        "general": General,
        "concat": Concat,
        "location": Location,
    }
)
"""Every score function by its name."""

"""One vector of a sequence: its last step, its mean, its maximum, or what attention picks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

POOLINGS = ("last", "mean", "max", "attention")


class Pooling(nn.Module):
    """The outputs of a layer, `[T, B, H]`, as one vector a row; several ways are joined.

    >>> pool = Pooling(("mean", "max"), hidden_size=6, directions=2)
    >>> tuple(pool(torch.randn(5, 3, 6), torch.tensor([5, 0, 2])).shape)
    (3, 12)

    A row of no steps becomes zeros. `last` is the last step, and of the backward direction the
    first. Attention weighs steps by softmax(v . tanh(W h)), as Yang et al. 2016, equations 5 to 7.

    Arguments:
        ways: of `POOLINGS`.
        hidden_size: H, both directions together.
        directions: 1 or 2.
    """

    def __init__(self, ways: Sequence[str], hidden_size: int, directions: int) -> None:
        super().__init__()
        self.ways = tuple(ways)
        self.directions = directions
        self.width = hidden_size * len(self.ways)
        if "attention" in self.ways:
            self.hidden = nn.Linear(hidden_size, hidden_size)
            self.score = nn.Linear(hidden_size, 1, bias=False)

    def forward(self, out: Tensor, lengths: Tensor) -> Tensor:
        """The vectors, `[B, width]`, of outputs `[T, B, H]` and the steps of each row, `[B]`."""
        return torch.cat([self._pool(way, out, lengths.to(out.device)) for way in self.ways], 1)

    def attention(self, out: Tensor, lengths: Tensor) -> Tensor:
        """The weight of every step, `[T, B]`, which sum to 1 in every row that has any."""
        scores = self.scores(out).masked_fill(~_valid(out, lengths), -torch.inf)
        scores = torch.where(lengths > 0, scores, torch.zeros_like(scores))
        return scores.softmax(0) * _valid(out, lengths)

    def scores(self, out: Tensor) -> Tensor:
        """The score of every step before the softmax, `[...]` of `[..., H]`."""
        return self.score(torch.tanh(self.hidden(out))).squeeze(-1)

    def _pool(self, way: str, out: Tensor, lengths: Tensor) -> Tensor:
        if way == "last":
            return self._last(out, lengths)
        if way == "mean":
            return out.sum(0) / lengths.clamp(min=1).unsqueeze(1)
        if way == "attention":
            return (out * self.attention(out, lengths).unsqueeze(2)).sum(0)
        # Beyond the end outputs are zero, which a maximum must not see.
        shown = out.masked_fill(~_valid(out, lengths).unsqueeze(2), -torch.inf)
        return torch.where(lengths.unsqueeze(1) > 0, shown.amax(0), 0.0)

    def _last(self, out: Tensor, lengths: Tensor) -> Tensor:
        rows = torch.arange(out.shape[1], device=out.device)
        last = out[(lengths - 1).clamp(min=0), rows]
        if self.directions == 1:
            return last
        half = out.shape[2] // 2
        return torch.cat([last[:, :half], out[0, :, half:]], 1)


def _valid(out: Tensor, lengths: Tensor) -> Tensor:
    """Which steps are before the end of their row, `[T, B]`."""
    return torch.arange(out.shape[0], device=out.device).unsqueeze(1) < lengths

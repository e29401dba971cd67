"""The CRF beside one in plain PyTorch: a training step, and decoding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import gate
from benchmarks.report import RESULTS, duration, entry, ratio, spread, times
from benchmarks.timing import Spread, alternate
from holdfast.nn import CRF

RECORD = RESULTS / "crf.jsonl"

SIZES = ((32, 25, 23), (32, 60, 23), (128, 25, 45), (128, 60, 45))
"""B, T and K: chunks of CoNLL-2000 and parts of speech of the Penn Treebank."""

SPREADS = (1.0, 6.0)
"""Standard deviations of the emissions: as training begins, and of a trained tagger."""

HEAD = (
    f"{'shape':16} {'spread':>6} {'what':8} {'ours':>10} {'plain':>10}  plain as a multiple of ours"
)


class PlainCRF(nn.Module):
    """The usual CRF: a loop over steps in logarithms, and rows followed back one by one."""

    def __init__(self, num_tags: int) -> None:
        super().__init__()
        self.start_transitions = nn.Parameter(torch.zeros(num_tags))
        self.transitions = nn.Parameter(torch.zeros(num_tags, num_tags))
        self.end_transitions = nn.Parameter(torch.zeros(num_tags))

    def forward(self, x: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Log-likelihoods, `[B]`, of emissions `[T, B, K]`, tags `[T, B]` and a mask `[T, B]`."""
        rows = torch.arange(x.shape[1])
        score = self.start_transitions[tags[0]] + x[0, rows, tags[0]]
        sums = self.start_transitions + x[0]
        for t in range(1, len(x)):
            step = self.transitions[tags[t - 1], tags[t]] + x[t, rows, tags[t]]
            score = score + step * mask[t]
            pairs = sums.unsqueeze(2) + self.transitions + x[t].unsqueeze(1)
            sums = torch.where(mask[t].unsqueeze(1), torch.logsumexp(pairs, 1), sums)
        final = tags[mask.long().sum(0) - 1, rows]
        score = score + self.end_transitions[final]
        return score - torch.logsumexp(sums + self.end_transitions, 1)

    @torch.no_grad()
    def decode(self, x: Tensor, mask: Tensor) -> list[list[int]]:
        """The best path of each row."""
        sums, came = self.start_transitions + x[0], []
        for t in range(1, len(x)):
            pairs = sums.unsqueeze(2) + self.transitions + x[t].unsqueeze(1)
            best, index = pairs.max(1)
            sums = torch.where(mask[t].unsqueeze(1), best, sums)
            came.append(index)
        tags, paths = (sums + self.end_transitions).argmax(1), []
        for row, length in enumerate(mask.long().sum(0).tolist()):
            path = [int(tags[row])]
            for index in reversed(came[: length - 1]):
                path.append(int(index[row, path[-1]]))
            paths.append(path[::-1])
        return paths


@dataclass(frozen=True)
class Row:
    """One size: how long both took for one thing."""

    shape: str
    spread: float
    what: str
    ours: Spread
    plain: Spread
    ratio: Spread


def measure(sizes: Iterable[tuple[int, int, int]], rounds: int, seconds: float) -> Iterator[Row]:
    """Training steps and decoding, after both have given the same numbers."""
    for B, T, K in sizes:
        for scale in SPREADS:
            yield from _one(B, T, K, scale, rounds, seconds)


def _one(B: int, T: int, K: int, scale: float, rounds: int, seconds: float) -> Iterator[Row]:
    generator = torch.Generator().manual_seed(0)
    ours, plain = CRF(K), PlainCRF(K)
    plain.load_state_dict(ours.state_dict())
    lengths = torch.randint(max(1, T * 4 // 5), T + 1, (B,), generator=generator)
    lengths[0] = T
    mask = torch.arange(T).unsqueeze(1) < lengths
    x = (torch.randn(T, B, K, generator=generator) * scale).requires_grad_()
    tags = torch.randint(K, (T, B), generator=generator)

    def clear() -> None:
        x.grad = None
        ours.zero_grad()
        plain.zero_grad()

    def train_ours() -> None:
        (-ours(x, tags, lengths=lengths).mean()).backward()
        clear()

    def train_plain() -> None:
        (-plain(x, tags, mask).mean()).backward()
        clear()

    _agree(ours, plain, x, tags, lengths, mask)
    jobs = {
        "train": (train_ours, train_plain),
        "decode": (lambda: ours.decode(x, lengths=lengths), lambda: plain.decode(x, mask)),
    }
    for what, (mine, theirs) in jobs.items():
        found = alternate({"ours": mine, "plain": theirs}, rounds, seconds)
        shown = found["ours"].seconds, found["plain"].seconds, found["ours"].ratio(found["plain"])
        yield Row(f"B{B}-T{T}-K{K}", scale, what, *shown)


def _agree(ours: CRF, plain: PlainCRF, x: Tensor, tags: Tensor, lengths: Tensor, mask: Any) -> None:
    """Refuse to measure where ours is not what the plain one gives in float64."""
    exact = PlainCRF(x.shape[2]).double()
    exact.load_state_dict(plain.state_dict())
    precise = x.detach().double().requires_grad_()
    gate.check(
        "ours",
        _values(ours(x, tags, lengths=lengths), x),
        _values(exact(precise, tags, mask), precise),
    )
    paths = ours.decode(x, lengths=lengths).T.tolist()
    short = [path[:length] for path, length in zip(paths, lengths.tolist(), strict=True)]
    if short != plain.decode(x, mask):
        raise gate.GateError("ours found other paths than the plain one")


def _values(found: Tensor, x: Tensor) -> dict[str, Tensor]:
    (gradient,) = torch.autograd.grad(found.sum(), x)
    return {"likelihood": found.detach(), "gradient": gradient}


def lines(row: Row) -> Iterator[str]:
    """A line of the table."""
    ours, plain = duration(row.ours.median), duration(row.plain.median)
    yield (
        f"{row.shape:16} {row.spread:6.1f} {row.what:8} {ours:>10} {plain:>10}  {spread(row.ratio)}"
    )


def record(rows: Iterable[Row], threads: int, options: dict[str, Any]) -> str:
    """The run as one line of JSON."""
    found = [
        {
            "shape": row.shape,
            "spread": row.spread,
            "what": row.what,
            **times("ours_", row.ours),
            **times("plain_", row.plain),
            "ratio": ratio(row.ratio),
        }
        for row in rows
    ]
    return entry("crf", threads, found, [], options=options)

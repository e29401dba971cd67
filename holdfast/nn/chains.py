"""Sums over all paths of a linear chain: forward and backward at once, scaled or in logarithms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from holdfast.nn import chain_kernels
from holdfast.nn.memory import borrow
from holdfast.nn.plain import plain
from holdfast.nn.ragged import Rows
from holdfast.nn.structure import calm

BUDGET = {torch.float32: 70.0, torch.float64: 660.0}
"""Nats between the largest and the smallest number that scaled sums may need.

That is log(1 / tiny) of the dtype, less what the smallest of them has to keep of its digits.
"""

FAR = -1e30
"""Stands for -inf where PyTorch differentiates, for it would give NaN for exp(-inf + inf)."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What a linear chain adds up, with -inf for what is forbidden.

    emissions: `[T, B, K]`, zero beyond the end of each row. start, end: `[K]`. transitions:
    `[K, K]`, from row to column. counts: steps of each row, `[B]`, or None where all have T.
    """

    emissions: Tensor
    start: Tensor
    transitions: Tensor
    end: Tensor
    counts: Tensor | None = None

    @cached_property
    def steps(self) -> Tensor:
        """How many steps each row has, `[B]`."""
        T, B = self.emissions.shape[:2]
        if self.counts is None:
            return torch.full((B,), T, device=self.emissions.device)
        return self.counts

    @cached_property
    def valid(self) -> Tensor:
        """Where rows are, `[T, B]` bool."""
        t = torch.arange(len(self.emissions), device=self.emissions.device).unsqueeze(1)
        return t < self.steps

    @cached_property
    def mirrored(self) -> Tensor:
        """For each step the one that stands there when each row is turned around, `[T, B]`."""
        source = Rows.from_lengths(self.steps, len(self.emissions)).source
        assert source is not None
        return source

    def reverse(self, x: Tensor) -> Tensor:
        """`[T, B, K]` backwards in time within each row."""
        return x.gather(0, self.mirrored.unsqueeze(2).expand_as(x))

    def last(self, x: Tensor) -> Tensor:
        """The last valid step of `[T, B, K]`, `[B, K]`; of a row without steps, the first."""
        if self.counts is None:
            return x[-1]
        at = (self.counts - 1).clamp_min(0)
        return x[at, torch.arange(len(at), device=at.device)]


class Sums(NamedTuple):
    """Sums over all paths, and what follows from them.

    log_z: their logarithms, `[B]` float64. nodes: the probability of each tag at each step,
    `[T, B, K]`, zero beyond a row's end. edges: the expected number of each transition in each
    row, `[B, K, K]`. The latter two are None where they were not asked for.
    """

    log_z: Tensor
    nodes: Tensor | None = None
    edges: Tensor | None = None


def run(scores: Scores, *, reach: int | None, both: bool) -> Sums:
    """The sums over all paths, scaled where that is safe.

    Arguments:
        reach: steps after which every tag can have followed every other; None where that never
            happens.
        both: what marginals need, too.
    """
    with calm(scores.emissions):
        way = plan(scores, reach)
        if way is None:
            return _in_logs(scores, both)
        if plain(scores.emissions, scores.start, scores.transitions, scores.end):
            return _compiled(scores, way[0], both)
        return _scaled(scores, *way, both)


def plan(scores: Scores, reach: int | None) -> tuple[torch.dtype, int] | None:
    """The dtype of scaled sums and how many steps may pass between two scalings, or None.

    Numbers of one step differ by at most the spread of all scores, so long as every tag can follow
    every other; else by the spread over as many steps as it takes until it can.
    """
    emissions = scores.emissions
    spread = float((emissions.amax(-1) - emissions.amin(-1)).max())
    if math.isinf(spread):  # some emissions are -inf: ways are closed, for some steps
        low = emissions.masked_fill(emissions.isneginf(), math.inf).amin(-1)
        spread = float((emissions.amax(-1) - low).max().clamp_min(0.0))
        reach = 1 if reach == 1 else None
    for part in (scores.start, scores.transitions, scores.end):
        low = part.masked_fill(part.isneginf(), math.inf).min()
        spread += float((part.max() - low).clamp_min(0.0))
    steps, _, K = emissions.shape
    unit = spread + math.log(K) + 1e-3
    reach = steps if reach is None else min(reach, steps)
    for dtype in (torch.float32, torch.float64):
        if dtype == torch.float32 and emissions.dtype == torch.float64:
            continue
        every = (BUDGET[dtype] / unit - reach - 1) / 2
        if every >= 1:  # never so for NaN
            return dtype, int(every)
    return None


def top_of(part: Tensor) -> Tensor:
    """The largest of scores, or zero where all are -inf."""
    top = part.max()
    return torch.where(top.isneginf(), 0.0, top)


def _exponentials(scores: Scores, dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    """exp(start), exp(transitions) and exp(end), the largest of each 1, and what that took off the
    logarithm of each row, `[B]` float64."""
    parts = (scores.start, scores.transitions, scores.end)
    start, ways, end = tops = [top_of(part) for part in parts]
    taken = start + (scores.steps - 1) * ways.double() + end
    pairs = zip(parts, tops, strict=True)
    return [torch.exp((part - top).to(dtype)) for part, top in pairs], taken


def _compiled(scores: Scores, dtype: torch.dtype, both: bool) -> Sums:
    """By compiled code, which scales at every step."""
    (start, ways, end), added = _exponentials(scores, dtype)
    emissions, steps = scores.emissions, scores.steps
    found = chain_kernels.sums(emissions.to(dtype), start, ways, end, steps, both=both)
    log_z, nodes, edges = found
    log_z += torch.where(steps > 0, added, 0.0)
    if nodes is None or edges is None:
        return Sums(log_z)
    return Sums(log_z, nodes.to(emissions.dtype), edges.to(emissions.dtype))


def _scaled(scores: Scores, dtype: torch.dtype, every: int, both: bool) -> Sums:
    """Products of exp(transitions) with sums that are scaled to one every so many steps.

    Both directions are one product a step: row after row goes forward in the first half of a batch
    and backward in the second. No path is lost where `plan` says so.
    """
    emissions = scores.emissions
    T, B, K = emissions.shape
    sides, tiny = 2 if both else 1, torch.finfo(dtype).tiny
    (start, ways, end), shift = _exponentials(scores, dtype)
    sizes = [T * sides * B * K] * 3 + [T * B * K] * (2 if both else 0)
    like = torch.empty(0, dtype=dtype, device=emissions.device)
    on_cpu = like.device.type == "cpu"
    pieces = borrow(like, *sizes) if on_cpu else [like.new_empty(size) for size in sizes]
    here, ahead, found = (piece.view(T, sides, B, K) for piece in pieces[:3])
    spare = [piece.view(T, B, K) for piece in pieces[3:]]
    tops = emissions.amax(-1)
    tops = torch.where(tops.isneginf(), 0.0, tops)
    torch.sub(emissions, tops.unsqueeze(-1), out=here[:, 0])
    here[:, 0].exp_()
    ahead[0, 0] = start
    if both:
        here[:, 1] = _turned(scores, here, 0, spare[0])
        ahead[0, 1] = end
    scale = torch.ones(T, B, dtype=dtype, device=emissions.device)
    products = torch.stack([ways, ways.T] if both else [ways])  # [sides, K, K]
    at, into, times = found.unbind(0), ahead.unbind(0), here.unbind(0)
    torch.mul(into[0], times[0], out=at[0])
    for t in range(1, T):
        torch.bmm(at[t - 1], products, out=into[t])
        torch.mul(into[t], times[t], out=at[t])
        if t % every == 0:
            total = at[t].sum(-1, keepdim=True).clamp_min_(tiny)
            at[t].div_(total)
            scale[t] = total[0, :, 0]
    final = (scores.last(found[:, 0]) * end).sum(-1).double().log()
    added = torch.where(scores.valid, scale.double().log() + tops, 0.0).sum(0)
    log_z = final + added + shift
    log_z = torch.where(scores.steps > 0, log_z, 0.0)
    if not both:
        return Sums(log_z)
    after = torch.mul(found[:, 0], _turned(scores, ahead, 1, spare[0]), out=spare[0])
    nodes = torch.empty_like(emissions, memory_format=torch.contiguous_format)
    torch.div(after, after.sum(-1, keepdim=True).clamp_min_(tiny), out=nodes)
    nodes.masked_fill_(~scores.valid.unsqueeze(-1), 0.0)
    onward = _turned(scores, found, 1, spare[1])
    joint = torch.mul(ahead[:, 0], onward, out=spare[0]).sum(-1)  # [T, B]
    share = torch.where(scores.valid, 1.0 / joint.clamp_min_(tiny), 0.0).unsqueeze(-1)
    left = torch.mul(found[:-1, 0], share[1:], out=spare[0][1:])
    edges = torch.bmm(left.permute(1, 2, 0), onward[1:].transpose(0, 1))
    return Sums(log_z, nodes, edges.mul_(ways).to(emissions.dtype))


def _turned(scores: Scores, x: Tensor, side: int, out: Tensor) -> Tensor:
    """One side of `[T, 2, B, K]` backwards in time within each row, put into `out`, `[T, B, K]`."""
    T, B, K = out.shape
    rows = (scores.mirrored * 2 + side) * B + torch.arange(B, device=x.device)
    torch.index_select(x.view(-1, K), 0, rows.flatten(), out=out.view(T * B, K))
    return out


def _in_logs(scores: Scores, both: bool) -> Sums:
    """The same with sums of exponentials at every step: for any scores, and slower."""
    emissions = scores.emissions.double()
    T, B = emissions.shape[:2]
    start, ways, end = (part.double() for part in (scores.start, scores.transitions, scores.end))
    here = torch.stack([emissions, scores.reverse(emissions)] if both else [emissions], 1)
    turned = torch.stack([ways, ways.T] if both else [ways]).unsqueeze(1)  # [sides, 1, K, K]
    first = torch.stack([start, end] if both else [start]).unsqueeze(1)
    into = [first.expand(-1, B, -1)]
    at = [into[0] + here[0]]
    for t in range(1, T):
        into.append(torch.logsumexp(at[-1].unsqueeze(-1) + turned, 2))
        at.append(into[-1] + here[t])
    found = torch.stack(at)
    before = found[:, 0]
    log_z = torch.logsumexp(scores.last(before) + end, -1)
    log_z = torch.where(scores.steps > 0, log_z, 0.0)
    if not both:
        return Sums(log_z)
    onward, after = scores.reverse(found[:, 1]), scores.reverse(torch.stack(into)[:, 1])
    # Without any path every probability is zero: exp(-inf - inf).
    total = log_z.masked_fill(log_z.isneginf(), math.inf).unsqueeze(-1)
    nodes = torch.where(scores.valid.unsqueeze(-1), torch.exp(before + after - total), 0.0)
    edges = ways.new_zeros(B, *ways.shape)
    for t in range(1, T):
        pairs = before[t - 1].unsqueeze(2) + onward[t].unsqueeze(1) + ways - total.unsqueeze(2)
        edges += torch.where(scores.valid[t].view(-1, 1, 1), torch.exp(pairs), 0.0)
    dtype = scores.emissions.dtype
    return Sums(log_z, nodes.to(dtype), edges.to(dtype))


def differentiable(scores: Scores) -> Tensor:
    """The logarithms of the sums, `[B]` float64, by operations that PyTorch can differentiate.

    It is the definition: one step after the other, in logarithms. Second derivatives go this way.
    """
    parts = (scores.emissions, scores.start, scores.transitions, scores.end)
    emissions, start, ways, end = (part.double().clamp_min(FAR) for part in parts)
    sums = start + emissions[0]  # [B, K]
    steps = scores.steps
    for t in range(1, len(emissions)):
        new = torch.logsumexp(sums.unsqueeze(2) + ways, 1) + emissions[t]
        sums = torch.where((t < steps).unsqueeze(1), new, sums)
    log_z = torch.logsumexp(sums + end, -1)
    log_z = torch.where(log_z < FAR / 2, -math.inf, log_z)
    return torch.where(steps > 0, log_z, 0.0)

"""The best paths of a linear chain, and how good they are."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from holdfast.nn import chain_kernels
from holdfast.nn.chains import Scores
from holdfast.nn.plain import plain

NOTHING = -1
"""Stands for a tag beyond the end of a row, and in a path that does not exist."""


def best(scores: Scores) -> tuple[Tensor, Tensor]:
    """The best path of each row, `[T, B]` int64 with -1 beyond its end, and its score, `[B]`.

    Only the best scores are kept on the way; which tag they came from is found on the way back,
    for the tags of the path alone. Of equal paths the one with the lower last differing tag wins.
    """
    parts = (scores.emissions, scores.start, scores.transitions, scores.end)
    if plain(*parts):
        return chain_kernels.best(*parts, scores.steps)
    # Rows last: the maximum over tags then runs over many rows side by side.
    emissions = scores.emissions.transpose(1, 2).contiguous()  # [T, K, B]
    T, K, B = emissions.shape
    onto = scores.transitions.T.contiguous()  # [to, from]
    ways = onto.unsqueeze(2)
    reached = torch.empty_like(emissions)
    pairs = emissions.new_empty(K, K, B)
    at = reached.unbind(0)
    torch.add(emissions[0], scores.start.unsqueeze(1), out=at[0])
    for t in range(1, T):
        torch.add(at[t - 1], ways, out=pairs)
        torch.amax(pairs, 1, out=at[t])
        at[t].add_(emissions[t])
    sums = reached.transpose(1, 2).contiguous()  # [T, B, K]
    total, tag = (scores.last(sums) + scores.end).max(-1)
    path = torch.full((T, B), NOTHING, device=emissions.device)
    over = None if scores.counts is None else ~scores.valid
    _walk_back(path, sums, onto, tag, over)
    if over is not None:
        path.masked_fill_(over, NOTHING)
        total = torch.where(scores.steps > 0, total, 0.0)
    return path, total


def _walk_back(path: Any, sums: Any, onto: Any, tag: Any, over: Any) -> None:
    """Fill `path`, `[T, B]`, from the last tags, `[B]`; all rows of a step at once.

    The operations are small and many: on CPUs NumPy needs a fraction of PyTorch's time for each.
    """
    if path.device.type == "cpu":
        path, sums, onto, tag = path.numpy(), sums.numpy(), onto.numpy(), tag.numpy()
        over = None if over is None else over.numpy()
    path[-1] = tag
    for t in range(len(path) - 1, 0, -1):
        before = (sums[t - 1] + onto[tag]).argmax(-1)
        if over is not None:
            before[over[t]] = tag[over[t]]
        path[t - 1] = tag = before


def best_of(scores: Scores, n: int) -> tuple[Tensor, Tensor]:
    """The n best paths of each row, `[n, T, B]`, and their scores, `[n, B]`, best first.

    Where a row has fewer paths than n, the rest of them is -1 throughout and scores -inf.
    """
    emissions = scores.emissions
    T, B, K = emissions.shape
    device = emissions.device
    far = emissions.new_full((B, K, n), -math.inf)
    sums = far.clone()  # [B, K, n], for each tag the n best paths to it
    sums[:, :, 0] = scores.start + emissions[0]
    came = torch.zeros(T, B, K, n, dtype=torch.int64, device=device)  # from: tag * n + number
    final = torch.where((scores.steps == 1).view(-1, 1, 1), sums, far)
    for t in range(1, T):
        pairs = sums.flatten(1).unsqueeze(1)  # [B, 1, K n]
        pairs = pairs + scores.transitions.T.repeat_interleave(n, 1)  # [B, to, K n]
        sums, came[t] = pairs.topk(n, -1)
        sums = sums + emissions[t].unsqueeze(2)
        final = torch.where((scores.steps == t + 1).view(-1, 1, 1), sums, final)
    ended = (final + scores.end.view(-1, 1)).flatten(1)
    total, place = ended.topk(n, -1)  # [B, n]
    rows = torch.arange(B, device=device).unsqueeze(1)
    path = torch.full((T, B, n), NOTHING, device=device)
    for t in range(T - 1, -1, -1):
        alive = (t < scores.steps).unsqueeze(1)
        tag = place // n
        path[t] = torch.where(alive, tag, NOTHING)
        if t:
            place = torch.where(alive, came[t, rows, tag, place % n], place)
    empty = (scores.steps == 0).unsqueeze(1)
    alone = torch.where(torch.arange(n, device=device) == 0, 0.0, -math.inf).to(total.dtype)
    total = torch.where(empty, alone, total)
    path.masked_fill_(total.isneginf(), NOTHING)
    return path.permute(2, 0, 1), total.T

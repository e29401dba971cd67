"""Log-likelihoods of a linear chain, with gradients by forward and backward sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from holdfast.nn import chains
from holdfast.nn.chains import Scores, Sums


def transformed() -> bool:
    """Whether values are out of reach: under `torch.compile` and transforms of `torch.func`."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def log_likelihood(scores: Scores, targets: Tensor | None, reach: int | None) -> Tensor:
    """`[B]` float64: of the targets, or without them the logarithm of the sum over all paths."""
    if transformed():
        return _by_definition(scores, targets)
    parts = (scores.emissions, scores.start, scores.transitions, scores.end)
    return _Likelihood.apply(*parts, scores.counts, targets, reach)


def restricted(scores: Scores, targets: Tensor) -> Scores:
    """The chain within sets of tags; beyond the end of a row all stay open."""
    within = targets if scores.counts is None else targets | ~scores.valid.unsqueeze(2)
    emissions = torch.where(within, scores.emissions, -math.inf)
    return Scores(emissions, scores.start, scores.transitions, scores.end, scores.counts)


def path_score(scores: Scores, tags: Tensor) -> Tensor:
    """The score of known tags, `[T, B]`, for each row, `[B]` float64."""
    valid = scores.valid
    picked = scores.emissions.gather(2, tags.unsqueeze(2)).squeeze(2)
    total = torch.where(valid, picked, 0.0).sum(0, dtype=torch.float64)
    ways = scores.transitions[tags[:-1], tags[1:]]
    total = total + torch.where(valid[1:], ways, 0.0).sum(0, dtype=torch.float64)
    final = scores.last(tags.unsqueeze(2)).squeeze(1)
    total = total + scores.start[tags[0]].double() + scores.end[final].double()
    return torch.where(scores.steps > 0, total, 0.0)


def _by_definition(scores: Scores, targets: Tensor | None) -> Tensor:
    log_z = chains.differentiable(scores)
    if targets is None:
        return log_z
    if targets.dtype == torch.bool:
        return chains.differentiable(restricted(scores, targets)) - log_z
    return path_score(scores, targets) - log_z


class _Likelihood(torch.autograd.Function):
    """Log-likelihoods whose gradients are observed less expected counts."""

    @staticmethod
    def forward(
        ctx: Any,
        emissions: Tensor,
        start: Tensor,
        transitions: Tensor,
        end: Tensor,
        counts: Tensor | None,
        targets: Tensor | None,
        reach: int | None,
    ) -> Tensor:
        """`[B]` float64."""
        scores = Scores(emissions, start, transitions, end, counts)
        both = any(ctx.needs_input_grad)
        everything = chains.run(scores, reach=reach, both=both)
        within: Sums | None = None
        found = everything.log_z
        if targets is not None and targets.dtype == torch.bool:
            within = chains.run(restricted(scores, targets), reach=reach, both=both)
            found = within.log_z - everything.log_z
        elif targets is not None:
            found = path_score(scores, targets) - everything.log_z
        ctx.save_for_backward(emissions, start, transitions, end)
        ctx.rest = scores, targets, everything, within
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        """Gradients of the scores; differentiable themselves, by the definition."""
        scores, targets, everything, within = ctx.rest
        if torch.is_grad_enabled():
            needed = ctx.needs_input_grad[:4]
            found = _again(ctx.saved_tensors, scores.counts, targets, grads[0], needed)
            return *found, None, None, None
        g = (grads[0] if targets is None else -grads[0]).to(everything.nodes.dtype)  # [B]
        nodes = everything.nodes * g.unsqueeze(1)  # [T, B, K]
        edges = (everything.edges * g.view(-1, 1, 1)).sum(0)
        if within is not None:
            nodes -= within.nodes * g.unsqueeze(1)
            edges -= (within.edges * g.view(-1, 1, 1)).sum(0)
        elif targets is not None:
            _count(scores, targets, -g, nodes, edges)
        return nodes, nodes[0].sum(0), edges, scores.last(nodes).sum(0), None, None, None


def _count(scores: Scores, tags: Tensor, g: Tensor, nodes: Tensor, edges: Tensor) -> None:
    """Add what occurs in tags, `[T, B]`, to `nodes`, `[T, B, K]`, and `edges`, `[K, K]`."""
    weights = torch.where(scores.valid, g, 0.0)
    nodes.scatter_add_(2, tags.unsqueeze(2), weights.unsqueeze(2))
    pairs = tags[:-1] * len(edges) + tags[1:]
    edges.view(-1).scatter_add_(0, pairs.flatten(), weights[1:].flatten())


def _again(
    parts: Sequence[Tensor],
    counts: Tensor | None,
    targets: Tensor | None,
    g: Tensor,
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients once more, with a graph of their own."""
    found = _by_definition(Scores(parts[0], parts[1], parts[2], parts[3], counts), targets)
    wanted = [part for part, need in zip(parts, needed, strict=True) if need]
    grads = torch.autograd.grad(found, wanted, g, create_graph=True, allow_unused=True)
    given = iter(grads)
    return [next(given) if need else None for need in needed]

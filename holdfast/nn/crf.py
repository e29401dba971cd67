"""CRF: a linear chain over the tags of a sequence, exact in everything that it says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from holdfast.nn import chains, checks, viterbi
from holdfast.nn.chains import Scores
from holdfast.nn.likelihood import log_likelihood, path_score, transformed
from holdfast.nn.ragged import as_lengths
from holdfast.nn.structure import check_flags, check_place, check_tensor
from holdfast.nn.tag_schemes import Allowed

FREE_STEPS = 16
"""Steps within which every tag must be able to follow every other, for the fast way."""


class Best(NamedTuple):
    """The n best paths, best first.

    tags: `[n, T, B]` or `[n, B, T]`, -1 beyond the end of a row and in paths that do not exist.
    log_probs: `[n, B]`, natural logarithms of the paths' probabilities; -inf for no path.
    """

    tags: Tensor
    log_probs: Tensor


class CRF(nn.Module):
    """Score whole sequences of tags: log-likelihoods to train on, and the best paths.

    >>> import torch
    >>> crf = CRF(5)
    >>> emissions = torch.randn(7, 2, 5)  # [T, B, K], the scores of K tags at each step
    >>> tags = torch.randint(5, (7, 2))  # [T, B]
    >>> loss = -crf(emissions, tags, lengths=[7, 3]).mean()
    >>> loss.backward()
    >>> tuple(crf.decode(emissions, lengths=[7, 3]).shape)
    (7, 2)
    >>> tuple(crf.marginals(emissions).shape)
    (7, 2, 5)

    The score of a path y is start[y_1] + end[y_T] + the sum of x_t[y_t] over the steps and of
    transitions[y_t, y_t+1] between them; its probability is the exponential of it, divided by the
    sum over all K^T paths. What is forbidden by `allowed` has probability zero exactly, and its
    parameters are not read.

    State dict: `start_transitions` `[K]`, `transitions` `[K, K]` (from row to column) and
    `end_transitions` `[K]`, drawn from U(-0.1, 0.1).

    Parameters: K (K + 2)

    On a CPU the sums over all paths, what gradients need of them and the best path are compiled;
    elsewhere they are one batch of products a step. Sums are scaled, and no graph of the steps is
    kept. Where scores differ by so much that scaled sums could lose a path, it works in logarithms,
    which is slower.

    Arguments:
        num_tags: K.
        batch_first: emissions and tags are `[B, T, ...]` instead of `[T, B, ...]`.
        allowed: which tags may come first, follow each other and come last, as
            `allowed_transitions(names, scheme)` gives it; by default all.

    Errors: `TypeError` and `ValueError` for impossible arguments.
    Source: Lafferty, McCallum & Pereira 2001; over an LSTM: Huang, Xu & Yu 2015.
    """

    start_transitions: nn.Parameter
    transitions: nn.Parameter
    end_transitions: nn.Parameter

    def __init__(
        self,
        num_tags: int,
        batch_first: bool = False,
        *,
        allowed: Allowed | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        checks.check_size("num_tags", num_tags)
        check_flags(batch_first=batch_first)
        self.num_tags = num_tags
        self.batch_first = batch_first
        self.reach: int | None = 1
        shapes = {"start": (num_tags,), "transitions": (num_tags,) * 2, "end": (num_tags,)}
        for name, shape in shapes.items():
            full = name if name == "transitions" else f"{name}_transitions"
            value = torch.empty(shape, device=device, dtype=dtype)
            self.register_parameter(full, nn.Parameter(value))
            mask = None if allowed is None else _mask(getattr(allowed, name), name, shape)
            mask = None if mask is None else mask.to(value.device)
            # Not a part of the state dict: constraints are given to the constructor, as sizes are.
            self.register_buffer(f"_allowed_{name}", mask, persistent=False)
        if allowed is not None:
            self.reach = _reach(allowed.transitions)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every parameter anew from U(-0.1, 0.1)."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def forward(
        self,
        emissions: Tensor,
        tags: Tensor,
        *,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> Tensor:
        """The log-likelihood of the tags of each row, `[B]`; train on its negative.

        A row without steps has the likelihood 1. It is computed in float32 at least, also in
        modules of fewer bits and under autocast.

        Arguments:
            emissions: `[T, B, K]`, `[B, T, K]` with `batch_first`, `[T, K]` for a single row. -inf
                forbids a tag at a step.
            tags: the tag of each step, integers in the shape of the emissions without K; -1 where
                it is not known. Or the tags that each step may have, bool, in the shape of the
                emissions: what is scored then is that any path within them is taken.
            lengths: number of valid steps of each row, `[B]`; what stands beyond is not read.

        Errors: `TypeError` and `RuntimeError` for wrong types and shapes; `ValueError` naming row
        and step for a tag that does not exist, and for tags that the constraints do not allow.
        """
        x, counts, batched = self._admit(emissions, lengths)
        targets = self._targets(tags, x, counts, batched)
        scores = self._scores(x, counts)
        found = log_likelihood(scores, targets, self.reach)
        if not transformed() and bool(found.isneginf().any()):
            self._refuse(scores, targets, int(found.isneginf().nonzero()[0]))
        return self._per_row(found, x, batched)

    def log_partition(
        self, emissions: Tensor, *, lengths: Tensor | Sequence[int] | None = None
    ) -> Tensor:
        """The logarithm of the sum over all paths, `[B]`; -inf where no path is allowed.

        Arguments:
            emissions: as in a call.
            lengths: as in a call.
        """
        x, counts, batched = self._admit(emissions, lengths)
        return self._per_row(log_likelihood(self._scores(x, counts), None, self.reach), x, batched)

    def marginals(
        self, emissions: Tensor, *, lengths: Tensor | Sequence[int] | None = None
    ) -> Tensor:
        """The probability of each tag at each step over all paths, in the emissions' shape.

        It is zero beyond the end of a row. A gradient through it goes the slow way.

        Arguments:
            emissions: as in a call.
            lengths: as in a call.
        """
        x, counts, batched = self._admit(emissions, lengths)
        watched = (x, *self.parameters())
        if torch.is_grad_enabled() and any(one.requires_grad for one in watched):
            x = x if x.requires_grad else x.detach().requires_grad_()
            total = log_likelihood(self._scores(x, counts), None, self.reach).sum()
            (found,) = torch.autograd.grad(total, x, create_graph=True)
        else:
            scores = self._scores(x, counts)
            found = chains.run(scores, reach=self.reach, both=True).nodes
            assert found is not None
        return self._deliver(found, batched)

    @torch.no_grad()
    def decode(self, emissions: Tensor, *, lengths: Tensor | Sequence[int] | None = None) -> Tensor:
        """The most likely path of each row: int64 in the shape of tags, -1 beyond a row's end.

        Arguments:
            emissions: as in a call.
            lengths: as in a call.
        """
        x, counts, batched = self._admit(emissions, lengths)
        return self._deliver(viterbi.best(self._scores(x, counts))[0], batched)

    @torch.no_grad()
    def n_best(
        self, emissions: Tensor, n: int, *, lengths: Tensor | Sequence[int] | None = None
    ) -> Best:
        """The n most likely paths of each row, best first, with their exact probabilities.

        >>> import torch
        >>> tags, log_probs = CRF(3).n_best(torch.zeros(2, 1, 3), n=9)
        >>> tuple(tags.shape), round(float(log_probs.exp().sum()), 4)  # [n, T, B]
        ((9, 2, 1), 1.0)

        Arguments:
            emissions: as in a call.
            n: how many; a row that has fewer gets -1 for the rest, with the log-probability -inf.
            lengths: as in a call.
        """
        checks.check_size("n", n)
        x, counts, batched = self._admit(emissions, lengths)
        scores = self._scores(x, counts)
        tags, total = viterbi.best_of(scores, n)
        log_z = chains.run(scores, reach=self.reach, both=False).log_z
        # Sums of many steps in float32 would be all that a difference of logarithms is off by.
        exact = torch.stack([path_score(scores, path.clamp_min(0)) for path in tags])
        log_probs = (exact - log_z).clamp_max(0.0).masked_fill(total.isneginf(), -math.inf)
        log_probs = log_probs.to(x.dtype)
        if not batched:
            return Best(tags.squeeze(2), log_probs.squeeze(1))
        return Best(tags.transpose(1, 2) if self.batch_first else tags, log_probs)

    def extra_repr(self) -> str:
        """The number of tags, and what differs from the defaults."""
        words = [str(self.num_tags)]
        words += ["batch_first=True"] if self.batch_first else []
        words += ["allowed=..."] if self._allowed("transitions") is not None else []
        return ", ".join(words)

    def _allowed(self, name: str) -> Tensor | None:
        return getattr(self, f"_allowed_{name}")

    def _admit(
        self, emissions: Any, lengths: Tensor | Sequence[int] | None
    ) -> tuple[Tensor, Tensor | None, bool]:
        """The checked emissions as `[T, B, K]`, the checked lengths; was there a batch?"""
        check_tensor("CRF", "emissions", emissions)
        batched = emissions.dim() == 3
        if not batched and emissions.dim() != 2:
            raise ValueError(
                "CRF: Expected emissions to be 2D (a single row) or 3D (a batch), got "
                f"{emissions.dim()}D instead"
            )
        check_place("CRF", "emissions", emissions, self.transitions)
        if emissions.shape[-1] != self.num_tags:
            raise RuntimeError(
                f"CRF: emissions.size(-1) must be the number of tags. Expected {self.num_tags}, "
                f"got {emissions.shape[-1]}"
            )
        x = emissions if batched else emissions.unsqueeze(1)
        x = x.transpose(0, 1) if batched and self.batch_first else x
        if not x.shape[0]:
            raise RuntimeError("CRF: Expected sequence length to be larger than 0")
        x = x.to(torch.promote_types(self.transitions.dtype, torch.float32))
        if lengths is None:
            return x, None, batched
        counts = as_lengths(lengths, x.shape[0], x.shape[1], x)
        t = torch.arange(len(x), device=x.device).unsqueeze(1)
        return torch.where((t < counts).unsqueeze(2), x, 0.0), counts, batched

    def _scores(self, x: Tensor, counts: Tensor | None) -> Scores:
        parts = []
        for name in ("start", "transitions", "end"):
            full = name if name == "transitions" else f"{name}_transitions"
            part, mask = getattr(self, full).to(x.dtype), self._allowed(name)
            parts.append(part if mask is None else torch.where(mask, part, -math.inf))
        return Scores(x, parts[0], parts[1], parts[2], counts)

    def _targets(self, tags: Any, x: Tensor, counts: Tensor | None, batched: bool) -> Tensor:
        """Tags, `[T, B]` int64, or where some are not known what is allowed, `[T, B, K]` bool."""
        check_tensor("CRF", "tags", tags)
        sets = tags.dtype == torch.bool
        if tags.is_floating_point() or tags.is_complex():
            raise TypeError(f"CRF: expected tags to be integers, or bool sets, got {tags.dtype}")
        given = tags if batched else tags.unsqueeze(1)
        if batched and self.batch_first and given.dim() > 1:
            given = given.transpose(0, 1)
        wanted = x.shape if sets else x.shape[:2]
        if given.shape != wanted:
            kind = "sets of tags" if sets else "tags"
            shape = (*wanted[1::-1], *wanted[2:]) if self.batch_first else tuple(wanted)
            raise RuntimeError(
                f"CRF: Expected {kind} size {shape}, got {list(tags.shape)}"
                if batched
                else f"CRF: Expected {kind} size {(wanted[0], *wanted[2:])}, got {list(tags.shape)}"
            )
        given = given.to(x.device)
        if sets:
            return given
        given = given.long()
        if counts is not None:
            t = torch.arange(len(x), device=x.device).unsqueeze(1)
            given = torch.where(t < counts, given, 0)
        if transformed():
            return self._sets(given)
        low, high = (int(end) for end in given.aminmax()) if given.numel() else (0, 0)
        if low < -1 or high >= self.num_tags:
            t, row = ((given < -1) | (given >= self.num_tags)).nonzero()[0].tolist()
            raise ValueError(
                f"CRF: row {row}, step {t}: got the tag {int(given[t, row])}, expected 0 to "
                f"{self.num_tags - 1}, or -1 where it is not known"
            )
        return given if low >= 0 else self._sets(given)

    def _sets(self, tags: Tensor) -> Tensor:
        """Tags, of which -1 is not known, as the sets of tags that they leave open."""
        every = torch.arange(self.num_tags, device=tags.device)
        return (tags.unsqueeze(2) == every) | (tags < 0).unsqueeze(2)

    def _refuse(self, scores: Scores, targets: Tensor, row: int) -> None:
        """Raise, with the first step at which the tags of a row cannot go on."""
        steps = int(scores.steps[row])
        closed = f"CRF: row {row}: its tags are forbidden"
        advice = "; correct the tags, or the constraints"
        at = torch.where(_open(targets, self.num_tags)[:steps, row], 0.0, -math.inf)
        at = at + scores.emissions[:steps, row].detach()
        reached = scores.start.detach() + at[0]
        for t in range(steps):
            if t:
                reached = (reached.unsqueeze(1) + scores.transitions.detach()).amax(0) + at[t]
            if bool(reached.isneginf().all()):
                where = "cannot come first" if t == 0 else f"cannot follow those before step {t}"
                raise ValueError(f"{closed}: those of step {t} {where}{advice}")
        raise ValueError(f"{closed}: those of step {steps - 1} cannot come last{advice}")

    def _per_row(self, found: Tensor, x: Tensor, batched: bool) -> Tensor:
        found = found.to(x.dtype)
        return found if batched else found.squeeze(0)

    def _deliver(self, out: Tensor, batched: bool) -> Tensor:
        if not batched:
            return out.squeeze(1)
        return out.transpose(0, 1) if self.batch_first else out


def _mask(given: Any, name: str, shape: tuple[int, ...]) -> Tensor:
    mask = torch.as_tensor(given)
    if mask.dtype != torch.bool or tuple(mask.shape) != shape:
        raise ValueError(
            f"allowed.{name} should be bool with the shape {shape}, got {mask.dtype} with "
            f"{tuple(mask.shape)}"
        )
    if not mask.any():
        raise ValueError(f"allowed.{name} allows nothing; expected at least one True")
    return mask


def _reach(transitions: Tensor) -> int | None:
    """Steps after which every tag can have followed every other; None beyond `FREE_STEPS`."""
    ways = transitions.cpu().double()
    found = ways
    for steps in range(1, FREE_STEPS + 1):
        if bool((found > 0).all()):
            return steps
        found = (found @ ways).clamp_max(1.0)
    return None


def _open(targets: Tensor, num_tags: int) -> Tensor:
    """Which tags are in question, `[T, B, K]` bool."""
    if targets.dtype == torch.bool:
        return targets
    return nn.functional.one_hot(targets, num_tags).bool()

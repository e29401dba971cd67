"""Beam search: the likeliest sequences of a model that says one token after the other.

Sources and hypotheses are searched together: a step of the search is one call of the model and
index work on tensors, however many there are. What has ended leaves the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from holdfast.nn import checks
from holdfast.nn.decoding import Hypotheses, Rules, Step, check_marks, check_search, fewer

PENALTIES = ("none", "average", "wu")
FINISHES = ("first", "best")
_LEAST = 1e-10


@dataclass(frozen=True)
class Beam:
    """Search for the likeliest sequences, `width` hypotheses wide.

    >>> import torch
    >>> class Nothing:
    ...     def select(self, rows, sources=None):
    ...         return self
    >>> def step(tokens, state):  # a model that always says the same
    ...     return torch.tensor([0.0, 0.2, 0.8]).log().expand(len(tokens), 3), state
    >>> found = Beam(width=3, n_best=2)(step, Nothing(), 1, begin=0, end=1, max_length=2)
    >>> found.lists()
    [[[2, 2], [2]]]

    Arguments:
        width: K, hypotheses of each source. 1 is greedy.
        n_best: sequences that are returned, at most K.
        length_penalty: what the log-probability of a sequence of n tokens, its end mark counted, is
            divided by: "none", 1; "average", n^alpha; "wu", ((5 + n) / 6)^alpha.
        alpha: strength of it.
        coverage_penalty: beta of Wu et al. 2016, added to the score of a sequence: beta times
            the sum over the source of log(min(attention a position has had, 1)).
        min_length: least tokens before the end mark.
        no_repeat: n-grams of so many tokens stand at most once in a sequence; 0 for no such rule.
        banned: tokens that are never said, such as the begin mark or the unknown word.
        finish: a source is done when K of its sequences have ended ("first"), or when no hypothesis
            can become one of the n best any more, by an exact bound ("best").

    Penalties rank sequences that have ended; hypotheses, which are equally long, compete by their
    log-probabilities.

    Errors: `ValueError` and `TypeError` for impossible settings.
    Source: Wu et al. 2016, section 7; Graves 2012 and Sutskever et al. 2014 for the search.
    """

    width: int = 5
    n_best: int = 1
    length_penalty: str = "average"
    alpha: float = 1.0
    coverage_penalty: float = 0.0
    min_length: int = 0
    no_repeat: int = 0
    banned: Sequence[int] = ()
    finish: str = "first"

    def __post_init__(self) -> None:
        checks.check_size("width", self.width)
        checks.check_size("n_best", self.n_best)
        check_search(self.min_length, self.no_repeat)
        if self.n_best > self.width:
            raise ValueError(f"n_best should be at most width, {self.width}, got: {self.n_best}")
        for name, value, known in (
            ("length_penalty", self.length_penalty, PENALTIES),
            ("finish", self.finish, FINISHES),
        ):
            if value not in known:
                raise ValueError(f"{name} should be one of {', '.join(known)}, got: {value!r}")
        for name in ("alpha", "coverage_penalty"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} should be at least 0, got: {getattr(self, name)}")

    def penalty(self, length: Tensor) -> Tensor:
        """What log-probabilities of sequences with so many tokens are divided by."""
        if self.length_penalty == "none":
            return torch.ones_like(length)
        base = length if self.length_penalty == "average" else (5.0 + length) / 6.0
        return base**self.alpha

    @torch.no_grad()
    def __call__(
        self,
        step: Step,
        state: Any,
        batch: int,
        *,
        begin: int,
        end: int,
        max_length: int | Tensor,
        prefix: Sequence[Sequence[int]] | None = None,
        weights: bool = False,
        device: torch.device | str | None = None,
    ) -> Hypotheses:
        """The best sequences of each source.

        Arguments:
            step: tokens `[N]` and a state to logits `[N, V]` and the state after them.
            state: of the B = `batch` sources before the first step, one row each.
            begin, end: the marks that a sequence begins and ends with.
            max_length: most tokens before the end mark; one number, or one for each source. A
                sequence that gets so long must end.
            prefix: first tokens that every sequence of a source must have.
            weights: also return `state.weights` of every token.

        Errors: `ValueError` for marks, lengths and prefixes that are impossible, and for logits
        that are not numbers.
        """
        place = torch.device("cpu" if device is None else device)
        rules = Rules.of(
            batch, end, max_length, self.min_length, self.banned, self.no_repeat, prefix, place
        )
        search = _Search(self, rules, batch, begin, weights)
        for number in range(rules.steps):
            logits, state = step(search.tokens.flatten(), state)
            if not number:
                check_marks(begin, end, logits.shape[-1])
            if not search.advance(logits, state, number):
                break
            state = search.follow(state)
        return search.results()


class _Search:
    """The hypotheses of one call: A sources that still run, of B, with M hypotheses each.

    The past is kept as it was: for each step tokens, the hypotheses they followed, and where each
    source stood. Sequences are read from it backwards, once, at the end.
    """

    def __init__(self, beam: Beam, rules: Rules, batch: int, begin: int, weights: bool) -> None:
        self.beam = beam
        self.rules = rules
        self.wants_weights = weights
        device = rules.limit.device
        self.rows = torch.arange(batch, device=device)  # [A], the source of each row
        self.inverse = self.rows  # [B], the row of each source
        self.tokens = torch.full((batch, 1), begin, device=device)  # [A, M]
        self.parents = torch.zeros_like(self.tokens)  # [A, M]
        self.scores = torch.zeros(batch, 1, dtype=torch.float64, device=device)  # [A, M]
        self.history = self.tokens[:, :, None][:, :, :0]  # [A, M, steps]
        self.coverage: Tensor | None = None  # [A, M, S]
        self.done = torch.zeros(batch, dtype=torch.bool, device=device)  # [A]
        self.ended = torch.zeros_like(self.rows)  # [A]
        # Of the K best that have ended: score, log-probability, tokens, the hypothesis they ended.
        nothing = torch.full((batch, beam.width), -math.inf, dtype=torch.float64, device=device)
        none = torch.zeros((batch, beam.width), dtype=torch.int64, device=device)
        self.pool = [nothing, nothing.clone(), none, none.clone()]
        self.past: list[tuple[Tensor, Tensor, Tensor]] = []
        self.past_weights: list[Tensor] = []

    def advance(self, logits: Tensor, state: Any, number: int) -> bool:
        """Take the best tokens of step `number`; False when all sources are done."""
        width = self.beam.width
        found = torch.log_softmax(logits, 1, dtype=_wide(logits))
        found = found.unflatten(0, self.tokens.shape)  # [A, M, V]
        self._look(state)
        self.rules.apply_(found, number, self.history)
        # Of one hypothesis no more than K tokens and the end mark can be wanted.
        best, words = found.topk(min(width + 1, found.shape[2]), 2)
        each = best.shape[2]
        total = (self.scores.unsqueeze(2) + best).flatten(1)
        best, places = total.topk(min(2 * width, total.shape[1]), 1)
        if bool(best[:, 0].isnan().any()):
            raise ValueError("the logits of the model hold NaN, so there is no best sequence")
        parents, words = places // each, words.flatten(1).gather(1, places)
        closing = words == self.rules.end
        self._collect(best[:, :width], parents[:, :width], closing[:, :width], number, state)
        alive = best.masked_fill(closing, -math.inf)
        self.scores, order = alive.topk(min(width, alive.shape[1]), 1)
        self.parents, self.tokens = parents.gather(1, order), words.gather(1, order)
        self.past.append((self.inverse, self.tokens, self.parents))
        self._finish()
        return not bool(self.done.all())

    def _look(self, state: Any) -> None:
        """Keep the attention of this step, where it is wanted."""
        if not (self.wants_weights or self.beam.coverage_penalty):
            return
        weights = state.weights.unflatten(0, self.tokens.shape)  # [A, M, S]
        if self.wants_weights:
            self.past_weights.append(weights)
        if self.beam.coverage_penalty:
            self.coverage = weights if self.coverage is None else self.coverage + weights

    def _collect(
        self, best: Tensor, parents: Tensor, closing: Tensor, number: int, state: Any
    ) -> None:
        """Put what ends in this step, `[A, K]`, into the pool of the K best of each source."""
        ends = closing & (best > -math.inf) & ~self.done.unsqueeze(1)
        if not bool(ends.any()):
            return
        length = best.new_tensor(number + 1)
        scores = best / self.beam.penalty(length)
        if self.coverage is not None:
            had = self.coverage.clamp(_LEAST, 1.0).log()
            had = had.masked_fill(~state.memory.valid().unsqueeze(1), 0.0).sum(2)  # [A, M]
            scores = scores + self.beam.coverage_penalty * had.gather(1, parents)
        scores = scores.masked_fill(~ends, -math.inf)
        new = [scores, best, torch.full_like(parents, number), parents]
        joined = [
            torch.cat([pool[self.rows], one], 1) for pool, one in zip(self.pool, new, strict=True)
        ]
        joined[0], order = joined[0].topk(self.beam.width, 1)
        for place, (pool, one) in enumerate(zip(self.pool, joined, strict=True)):
            pool[self.rows] = one.gather(1, order) if place else one
        self.ended += ends.sum(1)

    def _finish(self) -> None:
        """See which sources are done."""
        beam, leading = self.beam, self.scores[:, 0]
        self.done = self.done | (leading == -math.inf)
        if beam.finish == "first":
            self.done |= self.ended >= beam.width
            return
        # Log-probabilities only fall and penalties only grow, so that no hypothesis gets further.
        bound = leading / beam.penalty((self.rules.limit + 1).to(leading.dtype))
        self.done |= self.pool[0][self.rows, beam.n_best - 1] >= bound

    def follow(self, state: Any) -> Any:
        """The state of the hypotheses that go on; sources that are done leave when many are."""
        count = len(self.rows)
        before = self.past[-2][1].shape[1] if len(self.past) > 1 else 1
        first = torch.arange(count, device=self.rows.device).unsqueeze(1) * before
        chosen = first + self.parents  # [A, M]
        if self.beam.no_repeat:
            past = self.history.gather(1, _over(self.parents, self.history))
            self.history = torch.cat([past, self.tokens.unsqueeze(2)], 2)
        if self.coverage is not None:
            self.coverage = self.coverage.gather(1, _over(self.parents, self.coverage))
        wanted = fewer(count, count - int(self.done.sum()))
        if wanted < count:
            kept = self.done.to(torch.uint8).argsort(stable=True)[:wanted].sort().values
            self._keep(kept)
            return state.select(chosen[kept].flatten(), kept)
        flat = chosen.flatten()
        same = before == chosen.shape[1] and torch.equal(flat, torch.arange(len(flat)).to(flat))
        return state if same else state.select(flat)

    def _keep(self, kept: Tensor) -> None:
        """Go on with these rows only, `[n]`."""
        self.rows = self.rows[kept]
        self.inverse = torch.zeros_like(self.inverse)
        self.inverse[self.rows] = torch.arange(len(kept), device=kept.device)
        self.rules = self.rules.select(kept)
        for name in ("tokens", "scores", "history", "done", "ended", "coverage"):
            value = getattr(self, name)
            setattr(self, name, None if value is None else value[kept])

    def results(self) -> Hypotheses:
        """The n best of each source, read from the past backwards."""
        scores, found, lengths, slots = (one[:, : self.beam.n_best] for one in self.pool)
        lengths = torch.where(scores > -math.inf, lengths, 0)
        longest = int(lengths.max()) if lengths.numel() else 0
        tokens = torch.full((*lengths.shape, longest), self.rules.end, device=lengths.device)
        weights = None
        if self.wants_weights:
            size = self.past_weights[0].shape[2]
            weights = self.past_weights[0].new_zeros(*tokens.shape, size)
        for number in reversed(range(longest)):
            inverse, words, parents = self.past[number]
            there = number < lengths
            tokens[:, :, number] = torch.where(
                there, words[inverse].gather(1, slots), self.rules.end
            )
            above = parents[inverse].gather(1, slots)
            if weights is not None:
                seen = self.past_weights[number][inverse]
                seen = seen.gather(1, _over(above, seen))
                weights[:, :, number] = torch.where(there.unsqueeze(2), seen, 0.0)
            slots = torch.where(there, above, slots)
        return Hypotheses(tokens, lengths, scores, found, weights)


def _over(index: Tensor, values: Tensor) -> Tensor:
    """An index `[A, M]` for every element behind the second dimension of `[A, M, X]`."""
    return index.unsqueeze(2).expand(-1, -1, values.shape[2])


def _wide(logits: Tensor) -> torch.dtype:
    """Half precision is too narrow for sums of log-probabilities."""
    return logits.dtype if logits.dtype in (torch.float32, torch.float64) else torch.float32

"""Draw sequences from a model that says one token after the other, or take the likeliest token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from holdfast.nn.decoding import Hypotheses, Rules, Step, check_marks, check_search, fewer


def narrow(logits: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Logits divided by the temperature, with minus infinity for tokens that are not to be drawn.

    >>> import torch
    >>> narrow(torch.tensor([[1.0, 2.0, 3.0]]), top_k=2).tolist()
    [[-inf, 2.0, 3.0]]
    >>> narrow(torch.tensor([[0.5, 0.3, 0.2]]).log(), top_p=0.7).exp().tolist()[0][2]
    0.0

    Arguments:
        logits: `[..., V]`.
        temperature: above 0; below 1 sharpens.
        top_k: only the k likeliest tokens; 0 for all.
        top_p: only the smallest set of likeliest tokens whose probabilities add up to at least p
            (nucleus sampling), after the other two.

    Errors: `ValueError` for numbers out of range.
    Source: top-p: Holtzman et al. 2020.
    """
    check_sampling(temperature, top_k, top_p)
    logits = logits / temperature
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k, -1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    if top_p < 1:
        ordered, places = logits.sort(-1, descending=True)
        chances = ordered.softmax(-1)
        # A token is left out where those before it are enough; the first never is.
        beyond = chances.cumsum(-1) - chances >= top_p
        beyond[..., 0] = False
        logits = logits.masked_fill(beyond.scatter(-1, places, beyond), -math.inf)
    return logits


def draw(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A token of each row `[N, V]`, with the probabilities of a softmax.

    >>> import torch
    >>> draw(torch.tensor([[0.0, float("-inf")]]), torch.Generator().manual_seed(0)).tolist()
    [0]
    """
    return torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(1)


@dataclass(frozen=True)
class Sampling:
    """Draw sequences token by token.

    >>> import torch
    >>> class Nothing:
    ...     def select(self, rows, sources=None):
    ...         return self
    >>> def step(tokens, state):  # a model that always says the same
    ...     return torch.tensor([0.0, 0.5, 0.5]).log().expand(len(tokens), 3), state
    >>> found = Sampling(samples=2)(step, Nothing(), 1, begin=0, end=1, max_length=3, generator=0)
    >>> tuple(found.tokens.shape)[:2]
    (1, 2)

    Arguments:
        temperature: what logits are divided by; 0 takes the likeliest token (greedy).
        top_k: only the k likeliest tokens; 0 for all.
        top_p: only the likeliest tokens with a probability of p together.
        samples: sequences for each source.
        min_length: least tokens before the end mark.
        no_repeat: n-grams of so many tokens stand at most once in a sequence; 0 for no such rule.
        banned: tokens that are never said.

    Errors: `ValueError` and `TypeError` for impossible settings.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    samples: int = 1
    min_length: int = 0
    no_repeat: int = 0
    banned: Sequence[int] = ()

    def __post_init__(self) -> None:
        check_sampling(self.temperature or 1.0, self.top_k, self.top_p)
        check_search(self.min_length, self.no_repeat)
        if type(self.samples) is not int or self.samples < 1:
            raise ValueError(f"samples should be a number from 1 on, got: {self.samples!r}")

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
        generator: torch.Generator | int | None = None,
        device: torch.device | str | None = None,
    ) -> Hypotheses:
        """Sequences of each source; their scores are their log-probabilities.

        Arguments:
            step, state, begin, end, max_length, prefix, weights: as for `holdfast.nn.beam.Beam`.
            generator: what is drawn from, or a seed for a new one; a new one with a seed from the
                system by default. Not needed at temperature 0.
        """
        place = torch.device("cpu" if device is None else device)
        rules = Rules.of(
            batch, end, max_length, self.min_length, self.banned, self.no_repeat, prefix, place
        )
        run = _Run(self, rules, batch, begin, weights, _generator(generator, place))
        if self.samples > 1:
            rows = torch.arange(batch, device=place)
            state = state.select(rows.repeat_interleave(self.samples))
        for number in range(rules.steps):
            logits, state = step(run.tokens.flatten(), state)
            if not number:
                check_marks(begin, end, logits.shape[-1])
            if not run.advance(logits, state, number):
                break
            state = run.follow(state)
        return run.results()


class _Run:
    """The sequences of one call: A sources that still run, of B, with n sequences each."""

    def __init__(
        self,
        settings: Sampling,
        rules: Rules,
        batch: int,
        begin: int,
        weights: bool,
        generator: torch.Generator,
    ) -> None:
        self.settings = settings
        self.rules = rules
        self.generator = generator
        device = rules.limit.device
        size = (batch, settings.samples)
        self.rows = torch.arange(batch, device=device)  # [A]
        self.tokens = torch.full(size, begin, device=device)  # [A, n]
        self.open = torch.ones(size, dtype=torch.bool, device=device)  # [B, n]
        self.scores = torch.zeros(size, dtype=torch.float64, device=device)  # [B, n]
        self.lengths = torch.zeros(size, dtype=torch.int64, device=device)  # [B, n]
        self.history = torch.empty((*size, 0), dtype=torch.int64, device=device)  # [B, n, steps]
        self.weights: list[Tensor] | None = [] if weights else None

    def advance(self, logits: Tensor, state: Any, number: int) -> bool:
        """Take a token of each sequence; False when all have ended."""
        rules, rows = self.rules, self.rows
        wide = logits.dtype if logits.dtype == torch.float64 else torch.float32
        found = torch.log_softmax(logits, 1, dtype=wide).unflatten(0, self.tokens.shape)
        closing = found[:, :, rules.end].clone()
        rules.apply_(found, number, self.history[rows])
        best, likeliest = found.max(2)
        if bool(best.isnan().any()):
            raise ValueError("the logits of the model hold NaN, so nothing can be drawn")
        # Where the rules leave nothing, the sequence ends.
        found[:, :, rules.end].masked_fill_(best == -math.inf, 0.0)
        chosen = likeliest if not self.settings.temperature else self._draw(found)
        self.tokens = torch.where(best == -math.inf, rules.end, chosen)
        gained = found.gather(2, self.tokens.unsqueeze(2)).squeeze(2)
        gained = torch.where(self.tokens == rules.end, closing, gained).double()
        was = self.open[rows]
        self.scores[rows] += torch.where(was, gained, 0.0)
        now = was & (self.tokens != rules.end)
        self.open[rows] = now
        self.lengths[rows] += now
        said = torch.full_like(self.lengths, rules.end)
        said[rows] = torch.where(now, self.tokens, rules.end)
        self.history = torch.cat([self.history, said.unsqueeze(2)], 2)
        if self.weights is not None:
            seen = state.weights.unflatten(0, self.tokens.shape)
            whole = seen.new_zeros(*said.shape, seen.shape[2])
            whole[rows] = torch.where(now.unsqueeze(2), seen, 0.0)
            self.weights.append(whole)
        return bool(now.any())

    def _draw(self, found: Tensor) -> Tensor:
        """A token of each sequence, `[A, n]`, from log-probabilities `[A, n, V]`."""
        settings = self.settings
        logits = narrow(found, settings.temperature, settings.top_k, settings.top_p)
        return draw(logits.flatten(0, 1), self.generator).view(self.tokens.shape)

    def follow(self, state: Any) -> Any:
        """The state of the sources that go on; those that are done leave when many are."""
        done = ~self.open[self.rows].any(1)
        count, each = self.tokens.shape
        wanted = fewer(count, count - int(done.sum()))
        if wanted == count:
            return state
        kept = done.to(torch.uint8).argsort(stable=True)[:wanted].sort().values
        self.rows, self.tokens = self.rows[kept], self.tokens[kept]
        self.rules = self.rules.select(kept)
        places = torch.arange(each, device=kept.device)
        return state.select((kept.unsqueeze(1) * each + places).flatten(), kept)

    def results(self) -> Hypotheses:
        """What was drawn."""
        longest = int(self.lengths.max()) if self.lengths.numel() else 0
        weights = None
        if self.weights is not None:
            weights = torch.stack(self.weights, 2)[:, :, :longest]
        tokens = self.history[:, :, :longest]
        return Hypotheses(tokens, self.lengths, self.scores, self.scores.clone(), weights)


def check_sampling(temperature: float, top_k: int, top_p: float) -> None:
    """Refuse numbers out of range.

    Errors: `ValueError`.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature should be a number above 0, got: {temperature!r}")
    if type(top_k) is not int or top_k < 0:
        raise ValueError(f"top_k should be a number of tokens, 0 for all, got: {top_k!r}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p should be a probability in (0, 1], got: {top_p!r}")


def _generator(given: torch.Generator | int | None, device: torch.device) -> torch.Generator:
    if isinstance(given, torch.Generator):
        return given
    made = torch.Generator(device)
    if given is None:
        made.seed()
        return made
    return made.manual_seed(given)

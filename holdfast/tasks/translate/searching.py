"""Sources to targets: batches, beams or samples, several networks together, unknown words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from holdfast.data.text.batches import LengthBatches
from holdfast.nn.beam import Beam
from holdfast.nn.sampling import Sampling
from holdfast.tasks.translate.codec import BEGIN, END
from holdfast.tasks.translate.corpus import padded


@dataclass(frozen=True)
class Found:
    """One target of a source.

    ids: numbers of its pieces. score: what it is ranked by. log_prob: of the sequence and its end.
    weights: attention of each piece, `[T, S]`, end mark of the source included, or None.
    """

    ids: list[int]
    score: float
    log_prob: float
    weights: Tensor | None


@dataclass(frozen=True)
class Many:
    """States of several networks that say the next piece together."""

    states: tuple[Any, ...]

    @property
    def memory(self) -> Any:
        """Of the first one: which positions of the sources are valid."""
        return self.states[0].memory

    @property
    def weights(self) -> Tensor | None:
        """The mean of their attention, `[N, S]`, or None where one has none."""
        found = [state.weights for state in self.states]
        return None if any(one is None for one in found) else torch.stack(found).mean(0)

    def select(self, rows: Tensor, sources: Tensor | None = None) -> Many:
        """The rows with these numbers."""
        return Many(tuple(state.select(rows, sources) for state in self.states))


def search(
    nets: Sequence[Any],
    sources: Sequence[Sequence[int]],
    how: Beam | Sampling,
    *,
    longest: float = 2.0,
    batch_size: int = 64,
    weights: bool = False,
    seed: int = 0,
    device: str = "cpu",
) -> list[list[Found]]:
    """Targets of each source, the best first; an empty source has the empty target.

    Arguments:
        nets: networks in evaluation mode, with the same pieces; what they say is averaged.
        sources: numbers without marks.
        how: a `Beam` or a `Sampling`.
        longest: most pieces of a target for each of its source; 10 more are always allowed.
        batch_size: sources that are searched together, at most.
        weights: keep the attention.
        seed: of what is drawn.
    """
    found: list[list[Found]] = [[Found([], 0.0, 0.0, None)] for _ in sources]
    places = [place for place, source in enumerate(sources) if source]
    if not places:
        return found
    lengths = [len(sources[place]) + 1 for place in places]
    # What is drawn depends on the order, which is that of the lengths alone.
    batches = LengthBatches(lengths, sentences=batch_size, padding=0.3, shuffle=False)
    generator = torch.Generator(device).manual_seed(seed)
    for batch in batches.epoch(0):
        chosen = [places[place] for place in batch]
        rows = _search(nets, [sources[at] for at in chosen], how, longest, weights, generator)
        for at, row in zip(chosen, rows, strict=True):
            found[at] = row
    return found


@torch.no_grad()
def _search(
    nets: Sequence[Any],
    sources: list[Sequence[int]],
    how: Beam | Sampling,
    longest: float,
    weights: bool,
    generator: torch.Generator,
) -> list[list[Found]]:
    source, lengths = (one.to(generator.device) for one in padded(sources))
    states = tuple(net.decoder.prepared(net.encode(source, lengths)) for net in nets)
    options: dict[str, Any] = {"generator": generator} if isinstance(how, Sampling) else {}
    state: Any = states[0] if len(nets) == 1 else Many(states)

    def step(tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        if len(nets) == 1:
            return nets[0].step(tokens, state)
        pairs = [net.step(tokens, one) for net, one in zip(nets, state.states, strict=True)]
        chances = torch.stack([logits.log_softmax(1) for logits, _ in pairs])
        mean = chances.logsumexp(0) - math.log(len(nets))
        return mean, Many(tuple(one for _, one in pairs))

    hypotheses = how(
        step,
        state,
        len(sources),
        begin=BEGIN,
        end=END,
        max_length=(longest * (lengths - 1)).ceil().long() + 10,
        weights=weights,
        device=generator.device,
        **options,
    )
    return [_row(hypotheses, row, int(size)) for row, size in enumerate(lengths.tolist())]


def _row(hypotheses: Any, row: int, size: int) -> list[Found]:
    """The targets of one source of `size` positions."""
    found = []
    for place, score in enumerate(hypotheses.scores[row].tolist()):
        if score == -math.inf:
            continue
        length = int(hypotheses.lengths[row, place])
        ids = hypotheses.tokens[row, place, :length].tolist()
        seen = None
        if hypotheses.weights is not None:
            seen = hypotheses.weights[row, place, :length, :size].clone()
        found.append(Found(ids, score, float(hypotheses.log_probs[row, place]), seen))
    return found

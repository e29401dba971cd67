"""What speaks for a label: integrated gradients over tokens, or over steps and channels."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from holdfast.data.examples import Examples
from holdfast.errors import DataError, did_you_mean
from holdfast.tasks.classify.encoding import Encoded
from holdfast.tasks.classify.network import ClassifierNet, Inputs
from holdfast.tasks.terminal import PLAIN

if TYPE_CHECKING:
    from holdfast.tasks.classify.estimator import SequenceClassifier

STEPS, MOST_STEPS = 32, 512
TOLERANCE = 0.01
"""Completeness error, as a share of what is attributed, below which steps are enough."""
AT_ONCE = 200_000
"""Tokens or steps of all points on a path that are computed at once."""

# Backgrounds of a terminal with 256 colors, from weak to strong: for the label, and against it.
FOR, AGAINST = (195, 159, 117, 75), (230, 223, 216, 209)
WEAK = 0.05
"""Share of the largest attribution below which a token has no color."""
BLACK_ON = "\x1b[38;5;16;48;5;{}m"


@dataclass(frozen=True, eq=False)
class Explanation:
    """What speaks for `label` in one example, and how far the sum is from what it should be.

    Attributions are of the log-odds of the label, before the temperature; where there are several
    networks, of the mean of theirs. Their sum is the log-odds of the example, `value`, less that of
    an input of zeros, `baseline`, up to `error`.

    tokens: as they stand in the text, each with what is between it and the one before. scores:
    `(n,)`, one for each token, or None. channels: names of I channels. numbers: `(T, I)`, or None.
    attention: weights of tokens `(n,)`, or of steps where there is no text, where attention pools.
    steps: points on the path from zeros to the example.
    """

    label: Any
    probability: float
    value: float
    baseline: float
    steps: int
    tokens: tuple[tuple[str, str], ...] = ()
    scores: np.ndarray | None = None
    channels: tuple[str, ...] = ()
    numbers: np.ndarray | None = None
    attention: np.ndarray | None = None

    @property
    def error(self) -> float:
        """The completeness error: by how much the attributions miss what they should sum to."""
        parts = [float(p.sum()) for p in (self.scores, self.numbers) if p is not None]
        return sum(parts) - (self.value - self.baseline)

    def top(self, count: int = 10) -> list[tuple[str, float]]:
        """The tokens, or steps and channels, with the largest attributions, whatever their sign."""
        found = []
        if self.scores is not None:
            found += [(t, float(s)) for (_, t), s in zip(self.tokens, self.scores, strict=False)]
        if self.numbers is not None:
            found += [
                (f"{name} at step {step + 1}", float(row[at]))
                for step, row in enumerate(self.numbers)
                for at, name in enumerate(self.channels)
            ]
        return sorted(found, key=lambda one: -abs(one[1]))[:count]

    def line(self, color: bool = True) -> str:
        """The text on one line: blue speaks for the label, orange against it.

        Without colors the marks `+` and `-` stand behind the tokens that say most.
        """
        parts = []
        for (gap, token), strength in zip(self.tokens, self._strengths(), strict=False):
            parts.append(" ".join(gap.split("\n")))
            level = int(4 * abs(strength))
            if not color:
                parts.append(token + ("+" if strength > 0 else "-") * level)
            elif abs(strength) < WEAK:
                parts.append(token)
            else:
                shade = (FOR if strength > 0 else AGAINST)[min(3, level)]
                parts.append(f"{BLACK_ON.format(shade)}{token}{PLAIN}")
        return "".join(parts)

    def html(self) -> str:
        """The text as HTML, in the same colors; every token says its number when pointed at."""
        parts = []
        shown = self.scores if self.scores is not None else ()
        for (gap, token), score, strength in zip(
            self.tokens, shown, self._strengths(), strict=False
        ):
            tint = "11,110,153" if strength > 0 else "224,142,11"
            shade = f"background:rgba({tint},{0.75 * abs(strength):.2f})"
            parts.append(
                f"{html.escape(gap)}<span style='{shade}' title='{score:+.3f}'>"
                f"{html.escape(token)}</span>"
            )
        return f"<p>{''.join(parts)}</p>"

    def _strengths(self) -> np.ndarray:
        """Attributions of tokens as shares of the largest one."""
        if self.scores is None or not len(self.scores):
            return np.zeros(0)
        return self.scores / max(float(np.abs(self.scores).max()), 1e-12)


def explain(
    model: SequenceClassifier, examples: Examples, label: Any = None, steps: int | None = None
) -> list[Explanation]:
    """What speaks for a label in every example: by default the likeliest one.

    Integrated gradients: what the log-odds gain from an input of zeros (no word, every channel at
    its mean) to the example, shared out to the inputs by the gradients on the straight way between
    them (Sundararajan, Taly & Yan 2017, equation 3; the middle of every interval). Points are
    doubled from 32 until the sum is right within a hundredth, up to 512; `steps` fixes how many.

    Errors: `DataError` for a label that is none.
    """
    if steps is not None and steps < 1:
        raise DataError(f"steps={steps!r}; expected a whole number from 1 on")
    encoded = model.encode(examples)
    sure = model.predict_proba(examples)
    found = []
    for at in range(len(examples)):
        number = int(sure[at].argmax()) if label is None else _number(model, label)
        found.append(_explain_one(model, examples, encoded, at, number, sure[at, number], steps))
    return found


def _number(model: SequenceClassifier, label: Any) -> int:
    for number, one in enumerate(model.labels_.classes):
        if one == label or str(one) == str(label):
            return number
    known = [str(one) for one in model.labels_.classes]
    raise DataError(
        f"there is no label {label!r}{did_you_mean(str(label), known)}; there are "
        f"{', '.join(known)}"
    )


def _explain_one(
    model: SequenceClassifier,
    examples: Examples,
    encoded: Encoded,
    at: int,
    number: int,
    sure: float,
    steps: int | None,
) -> Explanation:
    batch = encoded.batch([at])
    with torch.no_grad():
        inputs = [net.embed(batch) for net in _nets(model)]
    several = model.labels_.several
    pairs = list(zip(_nets(model), inputs, strict=True))
    ends = [_log_odds(net, one, number, several) for net, one in pairs]
    value, baseline = (float(np.mean([end[k] for end in ends])) for k in (1, 0))
    count = steps or STEPS
    while True:
        parts = [_integrate(net, one, number, several, count) for net, one in pairs]
        words, values = (_mean([part[k] for part in parts]) for k in (0, 1))
        total = sum(float(part.sum()) for part in (words, values) if part is not None)
        miss = abs(total - (value - baseline))
        if steps or count >= MOST_STEPS or miss <= TOLERANCE * max(abs(value - baseline), 1e-3):
            break
        count *= 2
    tokens: tuple[tuple[str, str], ...] = ()
    if words is not None and model.encoding_.tokens is not None and examples.texts is not None:
        ids = (encoded.ids or [])[at]
        tokens = tuple(model.encoding_.tokens.pieces(examples.texts[at])[: len(ids)])
        words = words[: len(ids)]
    channels = model.encoding_.channels
    if values is not None:
        # The indicator of a missing value belongs to its channel.
        values = values.reshape(len(values), -1, len(channels)).sum(1)
    return Explanation(
        label=model.labels_.classes[number],
        probability=float(sure),
        value=value,
        baseline=baseline,
        steps=count,
        tokens=tokens,
        scores=words,
        channels=channels if values is not None else (),
        numbers=values,
        attention=_attention(model, inputs, len(tokens)),
    )


def _nets(model: SequenceClassifier) -> list[ClassifierNet]:
    return list(model.nets_)  # type: ignore[arg-type] (a ModuleList of these)


def _odds(scores: Tensor, number: int, several: bool) -> Tensor:
    """The log-odds of a label, `[B]`."""
    if several:
        return scores[:, number]
    others = torch.cat([scores[:, :number], scores[:, number + 1 :]], 1)
    return scores[:, number] - others.logsumexp(1)


def _log_odds(net: ClassifierNet, inputs: Inputs, number: int, several: bool) -> list[float]:
    """At zeros, and at the example."""
    ends = _points(inputs, torch.tensor([0.0, 1.0]))
    with torch.no_grad():
        return _odds(net.classify(ends), number, several).tolist()


def _points(inputs: Inputs, shares: Tensor) -> Inputs:
    """Inputs of one example at these shares of the way from zeros, side by side."""
    count = len(shares)

    def along(x: Tensor | None) -> Tensor | None:
        return None if x is None else x * shares.view(1, count, 1)

    def again(lengths: Tensor | None) -> Tensor | None:
        return None if lengths is None else lengths.expand(count)

    return Inputs(
        along(inputs.words), again(inputs.counts), along(inputs.values), again(inputs.steps)
    )


def _integrate(
    net: ClassifierNet, inputs: Inputs, number: int, several: bool, count: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Attributions of tokens `(n,)` and of numbers `(T, C)`."""
    shares = (torch.arange(count) + 0.5) / count
    present = [x for x in (inputs.words, inputs.values) if x is not None]
    sums = [torch.zeros_like(x[:, 0]) for x in present]
    for part in shares.split(max(1, AT_ONCE // max(1, max(len(x) for x in present)))):
        points = _points(inputs, part)
        leaves = [
            x.detach().requires_grad_() for x in (points.words, points.values) if x is not None
        ]
        rest = list(leaves)
        words = rest.pop(0) if points.words is not None else None
        values = rest.pop(0) if points.values is not None else None
        scores = net.classify(Inputs(words, points.counts, values, points.steps))
        gradients = torch.autograd.grad(_odds(scores, number, several).sum(), leaves)
        for total, gradient in zip(sums, gradients, strict=True):
            total += gradient.sum(1)
    found = [
        (x[:, 0] * total / count).double().numpy() for x, total in zip(present, sums, strict=True)
    ]
    words = found.pop(0).sum(1) if inputs.words is not None else None
    return words, found.pop(0) if inputs.values is not None else None


def _mean(parts: list[np.ndarray | None]) -> np.ndarray | None:
    there = [part for part in parts if part is not None]
    return np.mean(there, axis=0) if there else None


def _attention(model: SequenceClassifier, inputs: list[Inputs], tokens: int) -> np.ndarray | None:
    """What the pooling attends to, the mean of all networks."""
    found = []
    for net, one in zip(_nets(model), inputs, strict=True):
        words = one.words is not None
        encoder = net.text if words else net.numbers
        x, lengths = (one.words, one.counts) if words else (one.values, one.steps)
        if encoder is None or x is None or lengths is None:
            return None
        if "attention" not in encoder.pool.ways:
            return None
        with torch.no_grad():
            weights = encoder.attention(x, lengths)[:, 0].double().numpy()
        found.append(weights[:tokens] if words else weights)
    return np.mean(found, axis=0)

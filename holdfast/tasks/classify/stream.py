"""An example that comes step by step, and what is thought of it so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from holdfast.data.examples import Examples
from holdfast.errors import DataError
from holdfast.tasks.classify.answers import chances, mean_scores
from holdfast.tasks.classify.encoding import check_series
from holdfast.tasks.classify.network import ClassifierNet, Encoder
from holdfast.tasks.classify.pooling import Pooling

if TYPE_CHECKING:
    from holdfast.tasks.classify.estimator import SequenceClassifier


class Pooled:
    """What a `Pooling` would say of the outputs so far, `[H]` each, without keeping them."""

    def __init__(self, pool: Pooling, size: int) -> None:
        self.pool = pool
        self.steps = 0
        self.last = self.sum = self.weighed = torch.zeros(size)
        self.most = torch.full((size,), -torch.inf)
        self.peak, self.mass = torch.tensor(-torch.inf), torch.tensor(0.0)

    def add(self, out: Tensor) -> None:
        """One output more."""
        self.steps += 1
        self.last, self.sum = out, self.sum + out
        self.most = torch.maximum(self.most, out)
        if "attention" in self.pool.ways:
            # A running softmax: everything so far is scaled to the highest score so far.
            score = self.pool.scores(out)
            peak = torch.maximum(self.peak, score)
            old, new = (self.peak - peak).exp(), (score - peak).exp()
            self.weighed = old * self.weighed + new * out
            self.mass, self.peak = old * self.mass + new, peak

    @property
    def value(self) -> Tensor:
        """The pooled vector, `[1, width]`."""
        found = {
            "last": self.last,
            "mean": self.sum / max(1, self.steps),
            "max": self.most if self.steps else self.sum,
            "attention": self.weighed / self.mass if self.steps else self.sum,
        }
        return torch.cat([found[way] for way in self.pool.ways]).unsqueeze(0)


class Reader:
    """One encoder, fed step by step."""

    def __init__(self, encoder: Encoder) -> None:
        self.stepper = encoder.layer.stepper(batch=None)
        self.pool = encoder.pool
        self.size = encoder.pool.width // len(encoder.pool.ways)
        self.reset()

    def reset(self) -> None:
        """Forget what came."""
        self.stepper.reset()
        self.pooled = Pooled(self.pool, self.size)

    def add(self, x: Tensor) -> None:
        """One step more, `[I]`."""
        self.pooled.add(self.stepper(x))


class Stream:
    """Probabilities after every further word or step, each at the cost of one step.

    >>> import numpy as np
    >>> from holdfast.tasks import SequenceClassifier
    >>> x = np.linspace(-1, 1, 30)[:, None, None] * np.ones((30, 5, 1))
    >>> model = SequenceClassifier(bidirectional=False, hidden_size=4, max_epochs=2, patience=2)
    >>> stream = model.fit(x, x[:, 0, 0] > 0).stream()
    >>> for step in x[0]:
    ...     chances = stream.push(step)
    >>> np.allclose(chances, model.predict_proba(x[:1])[0], atol=1e-6)
    True

    They are those that `predict_proba` gives of the example so far. What comes after `reset` is
    another example.

    Errors: `DataError` for a model whose layer reads backwards, too, and for subwords, which the
    next characters may change.
    """

    def __init__(self, model: SequenceClassifier) -> None:
        if model.bidirectional:
            raise DataError(
                "a bidirectional layer begins at the end, which a stream does not have yet; train "
                "with bidirectional=False"
            )
        if model.encoding_.tokens is not None and model.tokens == "subwords":
            raise DataError(
                'the next characters may change a subword; train with tokens="words" or '
                '"characters"'
            )
        self.model = model
        self.nets: list[ClassifierNet] = list(model.nets_)  # type: ignore[arg-type] (a ModuleList of these)
        self.texts = [Reader(net.text) for net in self.nets if net.text is not None]
        self.numbers = [Reader(net.numbers) for net in self.nets if net.numbers is not None]
        self.read = 0

    def reset(self) -> None:
        """Begin another example."""
        self.read = 0
        for reader in (*self.texts, *self.numbers):
            reader.reset()

    def push(self, values: Any = None, *, text: str | None = None) -> np.ndarray:
        """The probability of each class, `(K,)`, after what comes now.

        Arguments:
            values: the numbers of one step, `(I,)`; a text where the model reads nothing else.
            text: whole words, one or several.

        Errors: `DataError` for what the model does not read, and for numbers that are refused.
        """
        if isinstance(values, str) and text is None:
            values, text = None, values
        with torch.no_grad():
            if text is not None:
                self._push_text(text)
            if values is not None:
                self._push_values(values)
            return self.probabilities

    @property
    def probabilities(self) -> np.ndarray:
        """Those of the example so far, `(K,)`."""
        with torch.no_grad():
            scores = []
            for at, net in enumerate(self.nets):
                parts = [part[at].pooled.value for part in (self.texts, self.numbers) if part]
                scores.append(net.read(torch.cat(parts, 1)))
            several = self.model.labels_.several
            warmth = self.model.calibration_.temperature
            return chances(mean_scores(scores, several), warmth, several)[0]

    def _push_text(self, text: str) -> None:
        tokens = self.model.encoding_.tokens
        if tokens is None:
            raise DataError("got a text, and the model was trained without texts")
        most = self.model.max_tokens
        room = None if most is None else max(0, most - self.read)
        ids = tokens.encode(text, room)
        self.read += len(ids)
        for net, reader in zip(self.nets, self.texts, strict=True):
            for row in net.embedding(torch.tensor(ids, dtype=torch.long)):  # type: ignore[misc] (there are texts)
                reader.add(row)

    def _push_values(self, values: Any) -> None:
        scale = self.model.encoding_.scale
        if scale is None:
            raise DataError("got numbers, and the model was trained without numbers")
        step = np.asarray(values, dtype=np.float64).reshape(1, -1)
        channels = self.model.encoding_.channels
        if step.shape[1] != len(channels):
            raise DataError(f"got {step.shape[1]} numbers, expected {len(channels)}")
        check_series(Examples(None, [step], channels, name="stream"), scale.masked)
        row = torch.from_numpy(scale.apply(step))[0]
        for reader in self.numbers:
            reader.add(row)

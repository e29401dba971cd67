"""Attention: a recurrent encoder, a recurrent decoder over the horizon, a look back at all rows.

The decoder runs over what is known beforehand of the H target rows (calendar, future covariates,
values whole seasons earlier), from the encoder's last states. No step feeds on a forecast, so the
decoder is one pass of a compiled layer, and attention one product for all steps.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from holdfast.data.windows import Batch
from holdfast.errors import DataError
from holdfast.tasks.forecast.nets.anchored import FAR, AnchoredHead, RecentRows
from holdfast.tasks.forecast.nets.base import (
    ForecastNet,
    Outlook,
    Shape,
    make_recurrent,
    open_forget_gates,
)

SCORES = ("dot", "additive")


class AttentionNet(ForecastNet):
    """Forecast H steps with a decoder that attends to what the encoder said of every row.

    The encoder's states answer the decoder's (Luong et al. 2015): with ``score="dot"``, h W s /
    sqrt(hidden), with ``"additive"``, v tanh(W h + U s) (Bahdanau et al. 2015). What was found and
    the decoder's state make the context from which the anchored head of the direct model writes.
    """

    options: ClassVar[dict[str, str]] = {
        "score": 'how rows are weighed: "dot" (the default) or "additive"',
    }

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        sizes, hidden, recipe = self.covariates.sizes, shape.hidden_size, shape.recipe
        self.score = shape.option("score", "dot")
        if self.score not in SCORES:
            known = ", ".join(map(repr, SCORES))
            raise DataError(f"options: score={self.score!r}; expected one of {known}")
        self.rows = RecentRows(recipe, sizes)
        between = shape.dropout if shape.num_layers > 1 else 0.0
        stack: dict[str, Any] = {"num_layers": shape.num_layers, "dropout": between}
        self.encoder = make_recurrent(shape.cell, self.rows.size, hidden, **stack)
        self.steps = AnchoredHead(recipe, hidden, sizes["future"], self.head.size, shape.dropout)
        self.decoder = make_recurrent(shape.cell, self.steps.known_size, hidden, **stack)
        if shape.cell == "lstm":
            open_forget_gates(self.encoder, hidden)
            open_forget_gates(self.decoder, hidden)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.key = nn.Linear(hidden, hidden) if self.score == "additive" else None
        self.weigh = nn.Linear(hidden, 1, bias=False) if self.score == "additive" else None
        self.join = nn.Linear(2 * hidden, hidden)

    def forward(self, batch: Batch) -> Outlook:
        """What is said of the H steps after each of the S origins; S is 1."""
        features = self.covariates(batch)
        read, states = self.encoder(self.rows(batch, features))
        known = self.steps.beforehand(batch, features.future)
        written, _ = self.decoder(known.rows[:, 0], states)
        weights = self._weights(batch, read, written)
        found = torch.cat([weights @ read, written], dim=-1)
        return self.steps.write(torch.tanh(self.join(found))[:, None], known)

    def _weights(self, batch: Batch, read: Tensor, written: Tensor) -> Tensor:
        """How much each of H steps takes from each row of the window, (B, H, T)."""
        query = self.query(written)
        if self.key is not None and self.weigh is not None:
            pairs = query[:, :, None] + self.key(read)[:, None]
            scores = self.weigh(torch.tanh(pairs))[..., 0]
        else:
            scores = query @ read.transpose(1, 2) / math.sqrt(read.shape[-1])
        absent = batch.there[:, None, -read.shape[1] :] == 0
        return torch.softmax(scores.masked_fill(absent, FAR), dim=-1)

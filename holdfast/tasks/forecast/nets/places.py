"""Places: one LSTM for each place, one over all of them, and a head for each place."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from holdfast.data.windows import Batch
from holdfast.tasks.forecast.nets.anchored import AnchoredHead, RecentRows
from holdfast.tasks.forecast.nets.base import (
    ForecastNet,
    Outlook,
    Shape,
    make_recurrent,
    open_forget_gates,
)


class PlacesNet(ForecastNet):
    """Series that are measured at the same times, read together (Karevan & Suykens 2018).

    Each place, a series, has an LSTM of its own; another reads what all of them say. The paper
    forecasts one place with a linear layer; here every place has the anchored head of the direct
    model, with the state of the joining LSTM, a vector of the place, and (option ``own``) the state
    of the place's LSTM for its context.
    """

    spans = True
    joint = True
    options: ClassVar[dict[str, str]] = {
        "place_size": "units of the LSTM of a place (default: half of hidden_size)",
        "own": "whether a place's head also sees the place's own LSTM (default: True)",
    }

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        sizes, hidden = self.covariates.sizes, shape.hidden_size
        place_size = int(shape.option("place_size", max(1, hidden // 2)))
        self.places = shape.series
        self.rows = RecentRows(shape.recipe, sizes)
        self.local = nn.ModuleList(
            make_recurrent(shape.cell, self.rows.size, place_size) for _ in range(self.places)
        )
        self.fusion = make_recurrent(
            shape.cell, self.places * place_size, hidden, num_layers=shape.num_layers
        )
        if shape.cell == "lstm":
            for layer in self.local:
                open_forget_gates(layer, place_size)
            open_forget_gates(self.fusion, hidden)
        self.place = nn.Embedding(self.places, hidden)
        self.mine = nn.Linear(place_size, hidden) if shape.option("own", True) else None
        self.steps = AnchoredHead(
            shape.recipe, hidden, sizes["future"], self.head.size, shape.dropout
        )

    def forward(self, batch: Batch) -> Outlook:
        """What is said of the H steps after each of the S origins, of every place of every time."""
        features = self.covariates(batch)
        rows = self.rows(batch, features)
        count = len(rows) // self.places
        # B holds the places of a time one after the other: [N L, T, I] becomes [N, T, L, I].
        together = rows.unflatten(0, (count, self.places)).transpose(1, 2)
        said, own = self._read(together, batch.span)
        context = said[:, None] + self.place.weight[None, :, None]
        if self.mine is not None:
            context = context + self.mine(own)
        return self.steps(context.flatten(0, 1), batch, features.future)

    def _read(self, rows: Tensor, span: int) -> tuple[Tensor, Tensor]:
        """The last S states of the joining LSTM (N, S, hidden), of each place (N, L, S, place)."""
        local = [layer(rows[:, :, place])[0] for place, layer in enumerate(self.local)]
        said, _ = self.fusion(torch.cat(local, dim=-1))
        return said[:, -span:], torch.stack(local, dim=1)[:, :, -span:]

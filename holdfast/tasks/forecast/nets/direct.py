"""Direct: a recurrent layer reads the past, an anchored head writes all H steps at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from holdfast.data.windows import Batch
from holdfast.tasks.forecast.nets.anchored import AnchoredHead, RecentRows
from holdfast.tasks.forecast.nets.base import (
    ForecastNet,
    Outlook,
    Shape,
    make_recurrent,
    open_forget_gates,
)


class OverRows(ForecastNet, ABC):
    """A recurrent layer over the last rows, and the anchored head on its last states."""

    spans = True

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        sizes, hidden = self.covariates.sizes, shape.hidden_size
        self.rows = RecentRows(shape.recipe, sizes)
        self.recurrent = make_recurrent(
            shape.cell, self.rows.size, hidden, **self.layer_options(shape)
        )
        if shape.cell == "lstm":
            open_forget_gates(self.recurrent, hidden)
        self.steps = AnchoredHead(
            shape.recipe, hidden, sizes["future"], self.head.size, shape.dropout
        )

    @abstractmethod
    def layer_options(self, shape: Shape) -> dict[str, Any]:
        """How many layers there are, and what lies between them."""

    def forward(self, batch: Batch) -> Outlook:
        """What is said of the H steps after each of the S origins."""
        features = self.covariates(batch)
        states, _ = self.recurrent(self.rows(batch, features))
        return self.steps(states[:, -batch.span :], batch, features.future)


class DirectNet(OverRows):
    """Forecast H steps from each of the last S rows of a window, no step from another."""

    def layer_options(self, shape: Shape) -> dict[str, Any]:
        """The layers as they were asked for."""
        between = shape.dropout if shape.num_layers > 1 else 0.0
        return {"num_layers": shape.num_layers, "dropout": between}

"""Stacked: the direct model on a deep recurrent layer, with ways around each of its layers."""

from __future__ import annotations

from typing import ClassVar

from holdfast.data.windows import Batch
from holdfast.tasks.forecast.nets.anchored import AnchoredHead, RecentRows
from holdfast.tasks.forecast.nets.base import (
    ForecastNet,
    Outlook,
    Shape,
    make_recurrent,
    open_forget_gates,
)

FEWEST = 2


class StackedNet(ForecastNet):
    """Forecast H steps from the last of several layers, no step from another.

    `num_layers` counts the layers, never fewer than two. Each adds its input to its output, where
    the widths agree, so that deep stacks train like shallow ones; with layer normalization, the
    products inside a step keep one scale.
    """

    spans = True
    options: ClassVar[dict[str, str]] = {
        "residual": "whether a layer adds its input to its output (True)",
        "layer_norm": "whether the products inside a step are normalized (False)",
    }

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        sizes, hidden = self.covariates.sizes, shape.hidden_size
        self.rows = RecentRows(shape.recipe, sizes)
        self.recurrent = make_recurrent(
            shape.cell,
            self.rows.size,
            hidden,
            num_layers=max(FEWEST, shape.num_layers),
            dropout=shape.dropout,
            residual=bool(shape.option("residual", True)),
            layer_norm=bool(shape.option("layer_norm", False)),
        )
        if shape.cell == "lstm":
            open_forget_gates(self.recurrent, hidden)
        self.steps = AnchoredHead(
            shape.recipe, hidden, sizes["future"], self.head.size, shape.dropout
        )

    def forward(self, batch: Batch) -> Outlook:
        """What is said of the H steps after each of the S origins."""
        features = self.covariates(batch)
        states, _ = self.recurrent(self.rows(batch, features))
        return self.steps(states[:, -batch.span :], batch, features.future)

"""Stacked: the direct model on a deep recurrent layer, with ways around each of its layers."""

from __future__ import annotations

from typing import Any, ClassVar

from holdfast.tasks.forecast.nets.base import Shape
from holdfast.tasks.forecast.nets.direct import OverRows

FEWEST = 2


class StackedNet(OverRows):
    """Forecast H steps from the last of several layers, no step from another.

    `num_layers` counts the layers, never fewer than two. Each adds its input to its output, where
    the widths agree, so that deep stacks train like shallow ones; with layer normalization, the
    products inside a step keep one scale.
    """

    options: ClassVar[dict[str, str]] = {
        "residual": "whether a layer adds its input to its output (True)",
        "layer_norm": "whether the products inside a step are normalized (False)",
    }

    def layer_options(self, shape: Shape) -> dict[str, Any]:
        """At least two layers, with ways around them."""
        return {
            "num_layers": max(FEWEST, shape.num_layers),
            "dropout": shape.dropout,
            "residual": bool(shape.option("residual", True)),
            "layer_norm": bool(shape.option("layer_norm", False)),
        }

"""The forecaster's networks by name.

>>> sorted(NETS)
['direct']
"""

from __future__ import annotations

from holdfast.tasks.forecast.nets.base import ForecastNet, Shape
from holdfast.tasks.forecast.nets.direct import DirectNet

NETS: dict[str, type[ForecastNet]] = {
    "direct": DirectNet,
}


def make_net(model: str, shape: Shape) -> ForecastNet:
    """The network of a model."""
    return NETS[model](shape)

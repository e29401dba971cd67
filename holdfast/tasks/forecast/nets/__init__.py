"""The forecaster's networks by name.

>>> sorted(NETS)
['direct', 'places']
"""

from __future__ import annotations

from holdfast.tasks.forecast.nets.base import ForecastNet, Shape
from holdfast.tasks.forecast.nets.direct import DirectNet
from holdfast.tasks.forecast.nets.places import PlacesNet

NETS: dict[str, type[ForecastNet]] = {
    "direct": DirectNet,
    "places": PlacesNet,
}


def make_net(model: str, shape: Shape) -> ForecastNet:
    """The network of a model."""
    return NETS[model](shape)

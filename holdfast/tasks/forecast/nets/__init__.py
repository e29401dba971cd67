"""The forecaster's networks by name.

>>> sorted(NETS)
['deepar', 'direct', 'places', 'recurrent']
"""

from __future__ import annotations

from holdfast.tasks.forecast.nets.base import ForecastNet, Shape
from holdfast.tasks.forecast.nets.direct import DirectNet
from holdfast.tasks.forecast.nets.places import PlacesNet
from holdfast.tasks.forecast.nets.rolling import DeepARNet, RecurrentNet

NETS: dict[str, type[ForecastNet]] = {
    "direct": DirectNet,
    "places": PlacesNet,
    "recurrent": RecurrentNet,
    "deepar": DeepARNet,
}


def make_net(model: str, shape: Shape) -> ForecastNet:
    """The network of a model."""
    return NETS[model](shape)

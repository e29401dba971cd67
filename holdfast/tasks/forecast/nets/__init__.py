"""The forecaster's networks by name.

>>> sorted(NETS)
['deepar', 'direct', 'es', 'places', 'recurrent']
"""

from __future__ import annotations

from holdfast.tasks.forecast.nets.base import ForecastNet, Shape
from holdfast.tasks.forecast.nets.direct import DirectNet
from holdfast.tasks.forecast.nets.places import PlacesNet
from holdfast.tasks.forecast.nets.rolling import DeepARNet, RecurrentNet
from holdfast.tasks.forecast.nets.smoothing import SmoothingNet

NETS: dict[str, type[ForecastNet]] = {
    "direct": DirectNet,
    "places": PlacesNet,
    "recurrent": RecurrentNet,
    "deepar": DeepARNet,
    "es": SmoothingNet,
}


def make_net(model: str, shape: Shape) -> ForecastNet:
    """The network of a model."""
    return NETS[model](shape)

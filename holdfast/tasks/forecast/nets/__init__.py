"""The forecaster's networks by name.

>>> sorted(NETS)
['deepar', 'direct', 'places', 'recurrent', 'segment']
"""

from __future__ import annotations

from holdfast.tasks.forecast.nets.base import ForecastNet, Shape
from holdfast.tasks.forecast.nets.direct import DirectNet
from holdfast.tasks.forecast.nets.places import PlacesNet
from holdfast.tasks.forecast.nets.rolling import DeepARNet, RecurrentNet
from holdfast.tasks.forecast.nets.segment import SegmentNet

NETS: dict[str, type[ForecastNet]] = {
    "deepar": DeepARNet,
    "direct": DirectNet,
    "places": PlacesNet,
    "recurrent": RecurrentNet,
    "segment": SegmentNet,
}


def make_net(model: str, shape: Shape) -> ForecastNet:
    """The network of a model."""
    return NETS[model](shape)

"""The forecaster's networks by name.

>>> sorted(NETS)
['attention', 'deepar', 'direct', 'es', 'places', 'recurrent', 'segment', 'stacked']
"""

from __future__ import annotations

from holdfast.tasks.forecast.nets.attention import AttentionNet
from holdfast.tasks.forecast.nets.base import ForecastNet, Shape
from holdfast.tasks.forecast.nets.direct import DirectNet
from holdfast.tasks.forecast.nets.places import PlacesNet
from holdfast.tasks.forecast.nets.rolling import DeepARNet, RecurrentNet
from holdfast.tasks.forecast.nets.segment import SegmentNet
from holdfast.tasks.forecast.nets.smoothing import SmoothingNet
from holdfast.tasks.forecast.nets.stacked import StackedNet

NETS: dict[str, type[ForecastNet]] = {
    "attention": AttentionNet,
    "deepar": DeepARNet,
    "direct": DirectNet,
    "es": SmoothingNet,
    "places": PlacesNet,
    "recurrent": RecurrentNet,
    "segment": SegmentNet,
    "stacked": StackedNet,
}


def make_net(model: str, shape: Shape) -> ForecastNet:
    """The network of a model."""
    return NETS[model](shape)

"""INPUT: tables become checked series, and series become windows; pieces of music become rolls.

>>> from holdfast.data import load_metro_traffic
>>> load_metro_traffic().columns
['ds', 'y', 'temp', 'rain_1h', 'snow_1h', 'clouds_all']
"""

from __future__ import annotations

from holdfast.data.long_memory import read_series as read_series
from holdfast.data.metro import load_metro_traffic as load_metro_traffic
from holdfast.data.music import read_rolls as read_rolls
from holdfast.data.panel import Panel as Panel
from holdfast.data.panel import Series as Series
from holdfast.data.panel import read_panel as read_panel
from holdfast.data.tables import Columns as Columns

__all__ = [
    "Columns",
    "Panel",
    "Series",
    "load_metro_traffic",
    "read_panel",
    "read_rolls",
    "read_series",
]

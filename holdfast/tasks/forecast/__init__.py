"""Forecasting: from long tables to the next values of every series in them.

>>> from holdfast.tasks import Forecaster
>>> Forecaster(horizon=12).get_params()["model"]
'direct'
"""

from __future__ import annotations

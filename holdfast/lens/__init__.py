"""INSIGHT: what happens inside a layer.

>>> import torch
>>> from holdfast.lens import diagnose
>>> from holdfast.nn import LSTM
>>> print(diagnose(LSTM(3, 5), torch.randn(7, 4, 3)).title)
lstm, 7 steps, 4 rows
"""

from __future__ import annotations

from holdfast.lens.diagnose import Diagnosis as Diagnosis
from holdfast.lens.diagnose import diagnose as diagnose
from holdfast.lens.measure import Direction as Direction
from holdfast.lens.measure import Saturation as Saturation

__all__ = ["Diagnosis", "Direction", "Saturation", "diagnose"]

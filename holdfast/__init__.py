"""Holdfast: a compiler and toolkit for Long Short-Term Memory.

>>> import torch, holdfast
>>> layer = holdfast.nn.LSTM(input_size=3, hidden_size=5)
>>> out, (h, c) = layer(torch.randn(7, 2, 3))
>>> tuple(out.shape)
(7, 2, 5)
"""

from __future__ import annotations

from holdfast import cells as cells
from holdfast import nn as nn
from holdfast.compiler.cell import Cell as Cell
from holdfast.compiler.cell import cell as cell
from holdfast.compiler.ops import absolute as absolute
from holdfast.compiler.ops import cos as cos
from holdfast.compiler.ops import cumulate as cumulate
from holdfast.compiler.ops import exp as exp
from holdfast.compiler.ops import floor as floor
from holdfast.compiler.ops import hard_sigmoid as hard_sigmoid
from holdfast.compiler.ops import hard_tanh as hard_tanh
from holdfast.compiler.ops import log as log
from holdfast.compiler.ops import maximum as maximum
from holdfast.compiler.ops import mean as mean
from holdfast.compiler.ops import minimum as minimum
from holdfast.compiler.ops import normalize as normalize
from holdfast.compiler.ops import peak as peak
from holdfast.compiler.ops import real as real
from holdfast.compiler.ops import relu as relu
from holdfast.compiler.ops import remain as remain
from holdfast.compiler.ops import sigmoid as sigmoid
from holdfast.compiler.ops import sin as sin
from holdfast.compiler.ops import softplus as softplus
from holdfast.compiler.ops import sqrt as sqrt
from holdfast.compiler.ops import square as square
from holdfast.compiler.ops import tanh as tanh
from holdfast.compiler.ops import turn as turn
from holdfast.compiler.ops import where as where
from holdfast.lens.diagnose import diagnose as diagnose

__version__ = "0.1.0"

__all__ = [
    "Cell",
    "absolute",
    "cell",
    "cells",
    "cos",
    "cumulate",
    "diagnose",
    "exp",
    "floor",
    "hard_sigmoid",
    "hard_tanh",
    "log",
    "maximum",
    "mean",
    "minimum",
    "nn",
    "normalize",
    "peak",
    "real",
    "relu",
    "remain",
    "sigmoid",
    "sin",
    "softplus",
    "sqrt",
    "square",
    "tanh",
    "turn",
    "where",
]

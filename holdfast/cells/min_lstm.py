"""The LSTM without a nonlinear recurrence."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid, softplus, where


@cell(gates={"i f g": "W x + b"})
def min_lstm(i, f, g, h):
    """Minimal LSTM (minLSTM): Feng et al. 2024, "Were RNNs All We Needed?".

    f' = sigmoid(f) / (sigmoid(f) + sigmoid(i));  h = f' * h_prev + (1 - f') * G(g)
    G(g) = g + 1/2 where g >= 0, else sigmoid(g)

    G is that of the version in logarithms. f' is computed from the logarithms of its parts.

    Parameters: 3 (I H + H)
    """
    f = sigmoid(softplus(-i) - softplus(-f))
    return f * h + (1 - f) * where(g >= 0.0, g + 0.5, sigmoid(g))

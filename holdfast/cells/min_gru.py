"""The GRU without a nonlinear recurrence."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid, where


@cell(gates={"z n": "W x + b"})
def min_gru(z, n, h):
    """Minimal GRU (minGRU): Feng et al. 2024, "Were RNNs All We Needed?".

    h = (1 - sigmoid(z)) * h_prev + sigmoid(z) * G(n)
    G(n) = n + 1/2 where n >= 0, else sigmoid(n)

    G is that of the version in logarithms.

    Parameters: 2 (I H + H)
    """
    z = sigmoid(z)
    return (1 - z) * h + z * where(n >= 0.0, n + 0.5, sigmoid(n))

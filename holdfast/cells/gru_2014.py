"""The gated recurrent unit as it was published: reset before the product."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid, tanh


@cell(gates="r z n")
def gru_2014(r, z, n, h):
    """GRU with the reset gate before the product, as published: Cho et al. 2014.

    n = tanh(W x + R (sigmoid(r) * h_prev) + b)
    h = sigmoid(z) * h_prev + (1 - sigmoid(z)) * n

    Parameters: 3 (I H + H^2 + H)
    """
    z = sigmoid(z)
    n = tanh(n(sigmoid(r) * h))
    return z * h + (1 - z) * n

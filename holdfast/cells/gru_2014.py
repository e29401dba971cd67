"""The gated recurrent unit as it was published: reset before the product."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid, tanh


@cell(gates="r z n")
def gru_2014(r, z, n, h):
    """GRU: Cho et al. 2014, with the reset gate before the product.

    n = tanh(W x + R (sigmoid(r) * h_prev) + b)
    h = sigmoid(z) * h_prev + (1 - sigmoid(z)) * n
    """
    z = sigmoid(z)
    n = tanh(n(sigmoid(r) * h))
    return z * h + (1 - z) * n

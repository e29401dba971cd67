"""The gated recurrent unit, reset after the product, as in `torch.nn.GRU`."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid, tanh


@cell(gates="r z n")
def gru(r, z, n, h):
    """GRU with the reset gate after the product, as in PyTorch: Cho et al. 2014.

    n = tanh(W x + b_ih + sigmoid(r) * (R h_prev + b_hh))
    h = (1 - sigmoid(z)) * n + sigmoid(z) * h_prev

    Parameters: 3 (I H + H^2) + 4 H
    """
    z = sigmoid(z)
    n = tanh(n.input + sigmoid(r) * n.recurrent)
    return (1 - z) * n + z * h

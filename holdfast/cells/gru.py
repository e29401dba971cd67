"""The gated recurrent unit, reset after the product, as in `torch.nn.GRU`."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid, tanh


@cell(gates="r z n")
def gru(r, z, n, h):
    """GRU: Cho et al. 2014, in the form of cuDNN and PyTorch (reset gate after the product).

    n = tanh(W x + b_ih + sigmoid(r) * (R h_prev + b_hh))
    h = (1 - sigmoid(z)) * n + sigmoid(z) * h_prev
    """
    z = sigmoid(z)
    n = tanh(n.input + sigmoid(r) * n.recurrent)
    return (1 - z) * n + z * h

"""The LSTM that forgets exactly as much as it takes in."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid, tanh


@cell(gates="i g o", state="c")
def coupled(i, g, o, c):
    """LSTM with coupled input and forget gate (CIFG): Greff et al. 2017, without peepholes.

    c = (1 - sigmoid(i)) * c_prev + sigmoid(i) * tanh(g);  h = sigmoid(o) * tanh(c)

    Parameters: 3 (I H + H^2 + H)
    """
    i = sigmoid(i)
    c = (1 - i) * c + i * tanh(g)
    return sigmoid(o) * tanh(c), c

"""The pooling of quasi-recurrent networks."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid, tanh


@cell(gates={"f g o": "W x + b"}, state="c")
def qrnn(f, g, o, c):
    """Quasi-recurrent network (QRNN), its fo-pooling: Bradbury et al. 2017.

    c = sigmoid(f) * c_prev + (1 - sigmoid(f)) * tanh(g);  h = sigmoid(o) * c

    The paper's gates are convolutions over time. With a width of 1 they are this cell; wider ones
    take the last inputs side by side as x.

    Parameters: 3 (I H + H)
    """
    f = sigmoid(f)
    c = f * c + (1 - f) * tanh(g)
    return sigmoid(o) * c, c

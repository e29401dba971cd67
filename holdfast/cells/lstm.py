"""The plain LSTM, as in `torch.nn.LSTM`."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid, tanh


@cell(gates="i f g o", state="c")
def lstm(i, f, g, o, c):
    """LSTM with forget gate: Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000.

    c = sigmoid(f) * c_prev + sigmoid(i) * tanh(g);  h = sigmoid(o) * tanh(c)

    Parameters: 4 (I H + H^2 + H)
    """
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c

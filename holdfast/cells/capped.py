"""The LSTM that takes in no more than it forgets."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import minimum, sigmoid, tanh


@cell(gates="i f g o", state="c")
def capped(i, f, g, o, c):
    """LSTM with a capped input gate: Melis et al. 2020, in the authors' code.

    f = sigmoid(f);  i = min(sigmoid(i), 1 - f)
    c = f * c_prev + i * tanh(g);  h = sigmoid(o) * tanh(c)

    So c stays between -1 and 1.

    Parameters: 4 (I H + H^2 + H)
    """
    f = sigmoid(f)
    c = f * c + minimum(sigmoid(i), 1 - f) * tanh(g)
    return sigmoid(o) * tanh(c), c

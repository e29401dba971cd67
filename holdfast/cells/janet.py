"""The LSTM that is just another network: nothing but a forget gate."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid, tanh


@cell(gates="s g")
def janet(s, g, h, *, beta=1.0):
    """LSTM with a forget gate alone (JANET): van der Westhuizen & Lasenby 2018.

    h = sigmoid(s) * h_prev + (1 - sigmoid(s - beta)) * tanh(g), with beta = 1

    The memory c and the output h are one. The authors start the bias of s by the chrono rule.

    Parameters: 2 (I H + H^2 + H)
    """
    return sigmoid(s) * h + (1 - sigmoid(s - beta)) * tanh(g)

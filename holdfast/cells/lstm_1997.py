"""The first LSTM: no forget gate."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid


@cell(gates="i g o", state="c")
def lstm_1997(i, g, o, c):
    """LSTM without forget gate: Hochreiter & Schmidhuber 1997, "Long Short-Term Memory", section 4.

    c = c_prev + sigmoid(i) * (4 sigmoid(g) - 2);  h = sigmoid(o) * (2 sigmoid(c) - 1)

    The squashing functions are the paper's: the cell input in [-2, 2], the cell output in [-1, 1].
    Reconstruction: the paper also feeds the gates' own activations back into the gates; here only
    the cell outputs are fed back, one cell to a block.

    Parameters: 3 (I H + H^2 + H)
    """
    c = c + sigmoid(i) * (4 * sigmoid(g) - 2)
    return sigmoid(o) * (2 * sigmoid(c) - 1), c

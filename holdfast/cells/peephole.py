"""The LSTM whose gates see the memory."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid, tanh


@cell(gates="i f g o", state="c", weights="p_i p_f p_o")
def peephole(i, f, g, o, c, p_i, p_f, p_o):
    """LSTM with peepholes: Gers & Schmidhuber 2000; Gers, Schraudolph & Schmidhuber 2002.

    i and f see c_prev, o sees the new c, each through one weight per unit:
    c = sigmoid(f + p_f c_prev) * c_prev + sigmoid(i + p_i c_prev) * tanh(g)
    h = sigmoid(o + p_o c) * tanh(c)

    The cell output is squashed by tanh, as in Greff et al. 2017; the 2002 paper drops it.

    Parameters: 4 (I H + H^2 + H) + 3 H
    """
    new = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * tanh(g)
    return sigmoid(o + p_o * new) * tanh(new), new

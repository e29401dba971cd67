"""The LSTM of the timing experiments: peepholes, and nothing squashed but the gates."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid


@cell(gates="i f g o", state="c", weights="p_i p_f p_o")
def peephole_2002(i, f, g, o, c, p_i, p_f, p_o):
    """LSTM with peepholes for precise timing: Gers, Schraudolph & Schmidhuber 2002.

    The input and the output of the cell are linear; i and f see c_prev, o sees the new c:
    c = sigmoid(f + p_f c_prev) * c_prev + sigmoid(i + p_i c_prev) * g
    h = sigmoid(o + p_o c) * c

    Parameters: 4 (I H + H^2 + H) + 3 H
    """
    new = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * g
    return sigmoid(o + p_o * new) * new, new

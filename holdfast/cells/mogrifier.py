"""Input and state gate each other before the LSTM sees them."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import minimum, sigmoid, tanh

_ROUNDS = ("q_1", "r_2", "q_3", "r_4", "q_5")
_GATES = ("i", "f", "g", "o")


@cell(
    gates=dict.fromkeys(_ROUNDS, "R h")
    | {f"{gate}_x": "R h" for gate in _GATES}
    | {f"{gate}_h": "R h + b" for gate in _GATES},
    state="c",
)
def mogrifier(
    q_1, r_2, q_3, r_4, q_5, i_x, f_x, g_x, o_x, i_h, f_h, g_h, o_h, c, h, x
):  # fmt: skip
    """Mogrifier LSTM, five rounds: Melis, Kocisky & Blunsom 2020.

    x1 = 2 sigmoid(Q_1 h_prev) * x;  h2 = 2 sigmoid(R_2 x1) * h_prev;  x3 = 2 sigmoid(Q_3 h2) * x1
    h4 = 2 sigmoid(R_4 x3) * h2;  x5 = 2 sigmoid(Q_5 h4) * x3;  then, with gates of x5 and h4,
    c = f * c_prev + min(i, 1 - f) * tanh(g);  h = o * tanh(c)

    The Q and R are whole matrices; the authors' are products of low rank. x has H features where it
    enters; in the paper it has any number, and the Q and R have the shapes for it.

    Parameters: 13 H^2 + 4 H
    """
    x = 2 * sigmoid(q_1(h)) * x
    h = 2 * sigmoid(r_2(x)) * h
    x = 2 * sigmoid(q_3(h)) * x
    h = 2 * sigmoid(r_4(x)) * h
    x = 2 * sigmoid(q_5(h)) * x
    i, f = sigmoid(i_x(x) + i_h(h)), sigmoid(f_x(x) + f_h(h))
    c = f * c + minimum(i, 1 - f) * tanh(g_x(x) + g_h(h))
    return sigmoid(o_x(x) + o_h(h)) * tanh(c), c

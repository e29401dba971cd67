"""The LSTM whose memory is the output of an LSTM."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid, tanh

_GATES = {
    **dict.fromkeys(["i", "f", "g", "o"], "W x + R h + b"),
    **dict.fromkeys(["x_i", "x_f", "x_g", "x_o"], "R h + b"),
    **dict.fromkeys(["h_i", "h_f", "h_g", "h_o"], "R h"),
}


@cell(gates=_GATES, state="c n")
def nested(i, f, g, o, x_i, x_f, x_g, x_o, h_i, h_f, h_g, h_o, c, n):
    """Nested LSTM: Moniz & Krueger 2018.

    An inner LSTM with the memory n gives the new c. Its input is x = sigmoid(i) * g, with a linear
    g, and its h is h = sigmoid(f) * c_prev; its gates are i = x_i x + h_i h and so on:
    n = sigmoid(x_f x + h_f h) * n_prev + sigmoid(x_i x + h_i h) * tanh(x_g x + h_g h)
    c = sigmoid(x_o x + h_o h) * tanh(n)
    Of the outer one: h = sigmoid(o) * tanh(c)

    Parameters: 4 (I H + H^2 + H) + 8 H^2 + 4 H
    """
    x, h = sigmoid(i) * g, sigmoid(f) * c
    n = sigmoid(x_f(x) + h_f(h)) * n + sigmoid(x_i(x) + h_i(h)) * tanh(x_g(x) + h_g(h))
    c = sigmoid(x_o(x) + h_o(h)) * tanh(n)
    return sigmoid(o) * tanh(c), c, n

"""The LSTM whose memory is the output of an LSTM."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid, tanh


@cell(
    gates={
        "i f g o": "W x + R h + b",
        "x_i x_f x_g x_o": "R h + b",
        "h_i h_f h_g h_o": "R h",
    },
    state="c n",
)
def nested(i, f, g, o, x_i, x_f, x_g, x_o, h_i, h_f, h_g, h_o, c, n):
    """Nested LSTM: Moniz & Krueger 2018.

    The outer LSTM does not add what is new to what is old:
    new = sigmoid(i) * g;  old = sigmoid(f) * c_prev;  h = sigmoid(o) * tanh(c)
    but an inner one, with the memory n, takes new as its input and old as its previous output. Its
    gate i is W new + R old + b, here x_i(new) + h_i(old), and so are the others:
    n = sigmoid(f) * n_prev + sigmoid(i) * tanh(g);  c = sigmoid(o) * tanh(n)

    Parameters: 4 (I H + H^2 + H) + 8 H^2 + 4 H
    """
    new, old = sigmoid(i) * g, sigmoid(f) * c
    i, f = sigmoid(x_i(new) + h_i(old)), sigmoid(x_f(new) + h_f(old))
    n = f * n + i * tanh(x_g(new) + h_g(old))
    c = sigmoid(x_o(new) + h_o(old)) * tanh(n)
    return sigmoid(o) * tanh(c), c, n

"""The LSTM whose recurrent weights change with the input."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid, tanh


@cell(gates={"m": "W x + R h", "i f g o": "W x + R h + b"}, state="c")
def multiplicative(m, i, f, g, o, c):
    """Multiplicative LSTM: Krause et al. 2016, in the form of the authors' Chainer code.

    m = (W_m x) * (R_m h_prev);  each gate has m in the place of h_prev: i = W_i x + R_i m + b_i
    c = sigmoid(f) * c_prev + sigmoid(i) * tanh(g);  h = sigmoid(o) * tanh(c)

    That code also normalizes the weights. The authors' MATLAB code has a linear g.

    Parameters: 5 (I H + H^2) + 4 H
    """
    m = m.input * m.recurrent
    c = sigmoid(f(m)) * c + sigmoid(i(m)) * tanh(g(m))
    return sigmoid(o(m)) * tanh(c), c

"""LSTMs along time and along depth: one layer of a grid of two dimensions."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid, tanh


@cell(gates="i f g o i_up f_up g_up o_up", state="c h_up c_up", inputs="below")
def grid(i, f, g, o, i_up, f_up, g_up, o_up, c, h_up, c_up, below):
    """Grid LSTM, a layer of time by depth: Kalchbrenner, Danihelka & Graves 2016.

    Every gate sees H = [h_prev; x], x the output of the layer below and `below` its memory:
    c = f * c_prev + i * tanh(g);  h = o * tanh(c)
    c_up = f_up * below + i_up * tanh(g_up);  h_up = o_up * tanh(c_up)

    h_up and c_up are what the layer above is given as x and `below`.

    Parameters: 8 (I H + H^2 + H)
    """
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    c_up = sigmoid(f_up) * below + sigmoid(i_up) * tanh(g_up)
    h_up = sigmoid(o_up) * tanh(c_up)
    return sigmoid(o) * tanh(c), c, h_up, c_up

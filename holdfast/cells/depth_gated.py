"""A layer whose memory is linked to the memory of the layer below."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid, tanh


@cell(
    gates=dict.fromkeys("ifgo", "W x + R h + b") | {"d": "W x + b"},
    state="c",
    weights="p_i p_f p_o w_c w_l",
    inputs="below",
)
def depth_gated(i, f, g, o, d, c, p_i, p_f, p_o, w_c, w_l, below):
    """Highway LSTM, a layer above the first: Zhang, Chen, Yu, Yao, Khudanpur & Glass 2015.

    d = sigmoid(W_d x + w_c * c_prev + w_l * below + b_d), below the c of the layer below, now
    c = d * below + f * c_prev + i * tanh(g);  h = o * tanh(c), with peepholes

    Parameters: 4 (I H + H^2 + H) + I H + 6 H
    """
    depth = sigmoid(d + w_c * c + w_l * below)
    kept = sigmoid(f + p_f * c) * c
    new = depth * below + kept + sigmoid(i + p_i * c) * tanh(g)
    return sigmoid(o + p_o * new) * tanh(new), new

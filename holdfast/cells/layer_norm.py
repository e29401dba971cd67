"""The LSTM and the GRU whose affine sums are normalized over the units of a row."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import normalize, normalize_together, sigmoid, tanh


def _weights(gains: str, biases: str) -> dict[str, float]:
    return {
        **{f"gain_{name}": 1.0 for name in gains.split()},
        **{f"bias_{name}": 0.0 for name in biases.split()},
    }


@cell(
    gates={"i f g o": "W x + R h"},
    state="c",
    weights=_weights("ih_i ih_f ih_g ih_o hh_i hh_f hh_g hh_o c", "i f g o c"),
)
def layer_norm_lstm(
    i,
    f,
    g,
    o,
    c,
    gain_ih_i,
    gain_ih_f,
    gain_ih_g,
    gain_ih_o,
    gain_hh_i,
    gain_hh_f,
    gain_hh_g,
    gain_hh_o,
    gain_c,
    bias_i,
    bias_f,
    bias_g,
    bias_o,
    bias_c,
):
    """Layer-normalized LSTM: Ba, Kiros & Hinton 2016.

    (i, f, g, o) = gain_ih LN(W x) + gain_hh LN(R h_prev) + bias
    c = sigmoid(f) * c_prev + sigmoid(i) * tanh(g);  h = sigmoid(o) * tanh(gain_c LN(c) + bias_c)

    LN is over the units of all four gates together: one mean and one variance a row. The paper has
    three biases where here is one, their sum; the library Haste writes it as here. It is the layer
    `Recurrent("lstm", layer_norm=True)`, too.

    Parameters: 4 (I H + H^2) + 14 H
    """
    x_i, x_f, x_g, x_o = normalize_together([i.input, f.input, g.input, o.input])
    h_i, h_f, h_g, h_o = normalize_together([i.recurrent, f.recurrent, g.recurrent, o.recurrent])
    i = gain_ih_i * x_i + gain_hh_i * h_i + bias_i
    f = gain_ih_f * x_f + gain_hh_f * h_f + bias_f
    g = gain_ih_g * x_g + gain_hh_g * h_g + bias_g
    o = gain_ih_o * x_o + gain_hh_o * h_o + bias_o
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(gain_c * normalize(c) + bias_c), c


@cell(
    gates={"r z n": "W x + R h"},
    weights=_weights("ih_r ih_z ih_n hh_r hh_z hh_n", "r z n hh_n"),
)
def layer_norm_gru(
    r,
    z,
    n,
    h,
    gain_ih_r,
    gain_ih_z,
    gain_ih_n,
    gain_hh_r,
    gain_hh_z,
    gain_hh_n,
    bias_r,
    bias_z,
    bias_n,
    bias_hh_n,
):
    """Layer-normalized GRU: Ba, Kiros & Hinton 2016.

    (r, z) = gain_ih LN(W x) + gain_hh LN(R h_prev) + bias
    n = tanh(gain_ih LN(W_n x) + bias_n + sigmoid(r) * (gain_hh LN(R_n h_prev) + bias_hh_n))
    h = (1 - sigmoid(z)) * h_prev + sigmoid(z) * n

    LN is over the units of r and z together, and over those of n alone. Reconstruction: which sums
    share a norm is not confirmed. In the library Haste all three do, and so they do in the layer
    `Recurrent("gru", layer_norm=True)`, where z and 1 - z have changed places.

    Parameters: 3 (I H + H^2) + 10 H
    """
    x_r, x_z = normalize_together([r.input, z.input])
    h_r, h_z = normalize_together([r.recurrent, z.recurrent])
    r = sigmoid(gain_ih_r * x_r + gain_hh_r * h_r + bias_r)
    z = sigmoid(gain_ih_z * x_z + gain_hh_z * h_z + bias_z)
    new = gain_ih_n * normalize(n.input) + bias_n
    old = gain_hh_n * normalize(n.recurrent) + bias_hh_n
    return (1 - z) * h + z * tanh(new + r * old)

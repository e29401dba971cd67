"""Units that open and close with a rhythm of their own, for events at any time."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import floor, sigmoid, tanh, where


@cell(
    gates="i f g o",
    state="c",
    weights={"p_i": None, "p_f": None, "p_o": None, "tau": 20.0, "s": 0.0, "r_on": 0.05},
    inputs="time",
)
def phased(i, f, g, o, c, h, time, p_i, p_f, p_o, tau, s, r_on, *, leak=0.001):
    """Phased LSTM: Neil, Pfeiffer & Liu 2016.

    phi = ((time - s) mod tau) / tau
    k = 2 phi / r_on where phi < r_on / 2;  2 - 2 phi / r_on where phi < r_on;  leak * phi elsewhere
    new = f * c_prev + i * tanh(g);  c = k * new + (1 - k) * c_prev
    h = k * o * tanh(new) + (1 - k) * h_prev, with peepholes as in the LSTM of Gers et al.

    time, in the units of tau, is given at each step. The paper draws tau from exp(U(1, 6)) and s
    from U(0, tau): `holdfast.nn.init.phased_`. It sets the leak to 0 after training.

    Parameters: 4 (I H + H^2 + H) + 6 H
    """
    phase = (time - s) / tau
    phi = phase - floor(phase)
    rising, falling = 2 * phi / r_on, 2 - 2 * phi / r_on
    k = where(phi < 0.5 * r_on, rising, where(phi < r_on, falling, leak * phi))
    new = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * tanh(g)
    out = sigmoid(o + p_o * new) * tanh(new)
    return k * out + (1 - k) * h, k * new + (1 - k) * c

"""An LSTM that turns pairs of its memory."""

from __future__ import annotations

import math

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import cos, sigmoid, sin, tanh, turn
from holdfast.compiler.tie import shared


@cell(gates="i f g o u", state="c", ties={"u": shared(2)})
def rot_lstm(i, f, g, o, u, c):
    """RotLSTM: Velici & Pruegel-Bennett 2021.

    d = f * c_prev + i * tanh(g);  angle = 2 pi sigmoid(W_u x + R_u h_prev + b_u), one a pair
    c = each pair of d turned by its angle;  h = o * tanh(c)

    Reconstruction: the abstract tells of rotations of the memory, by weights of their own. That the
    turn follows the update, and how an angle comes of its gate, is not confirmed. H must be even.

    Parameters: 4 (I H + H^2 + H) + (I H + H^2 + H) / 2
    """
    d = sigmoid(f) * c + sigmoid(i) * tanh(g)
    angle = 2 * math.pi * sigmoid(u)
    c = cos(angle) * d + sin(angle) * turn(d)
    return sigmoid(o) * tanh(c), c

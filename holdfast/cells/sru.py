"""A recurrence without a matrix, with the input carried past it."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid


@cell(gates={"z": "W x", "f": "W x + b", "r": "W x + b"}, state="c", weights="v_f v_r")
def sru(z, f, r, c, v_f, v_r, x, *, scale=3**0.5):
    """SRU, the simple recurrent unit: Lei, Zhang, Wang, Dai & Artzi 2018.

    f = sigmoid(W_f x + v_f * c_prev + b_f);  r = sigmoid(W_r x + v_r * c_prev + b_r)
    c = f * c_prev + (1 - f) * W_z x;  h = r * c + (1 - r) * sqrt(3) x

    Parameters: 3 I H + 4 H
    """
    f, r = sigmoid(f + v_f * c), sigmoid(r + v_r * c)
    c = f * c + (1 - f) * z
    return r * c + (1 - r) * scale * x, c

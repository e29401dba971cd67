"""The three best of ten thousand: architectures that a search has found."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid, tanh


@cell(gates={"z": "W x + b", "r": "W x + R h + b", "n": "R h + b"})
def mut_1(z, r, n, h, x):
    """MUT1: Jozefowicz, Zaremba & Sutskever 2015.

    z = sigmoid(W_z x + b_z);  r = sigmoid(W_r x + R_r h_prev + b_r)
    h = z * tanh(R_n (r * h_prev) + tanh(x) + b_n) + (1 - z) * h_prev

    Parameters: 2 I H + 2 H^2 + 3 H
    """
    z = sigmoid(z)
    return z * tanh(n(sigmoid(r) * h) + tanh(x)) + (1 - z) * h


@cell(gates={"z": "W x + R h + b", "r": "R h + b", "n": "W x + R h + b"})
def mut_2(z, r, n, h, x):
    """MUT2: Jozefowicz, Zaremba & Sutskever 2015.

    z = sigmoid(W_z x + R_z h_prev + b_z);  r = sigmoid(x + R_r h_prev + b_r)
    h = z * tanh(R_n (r * h_prev) + W_n x + b_n) + (1 - z) * h_prev

    Parameters: 2 I H + 3 H^2 + 3 H
    """
    z = sigmoid(z)
    return z * tanh(n(sigmoid(r + x) * h)) + (1 - z) * h


@cell(gates="z r n")
def mut_3(z, r, n, h):
    """MUT3: Jozefowicz, Zaremba & Sutskever 2015.

    z = sigmoid(W_z x + R_z tanh(h_prev) + b_z);  r = sigmoid(W_r x + R_r h_prev + b_r)
    h = z * tanh(R_n (r * h_prev) + W_n x + b_n) + (1 - z) * h_prev

    Parameters: 3 (I H + H^2 + H)
    """
    z = sigmoid(z(tanh(h)))
    return z * tanh(n(sigmoid(r) * h)) + (1 - z) * h

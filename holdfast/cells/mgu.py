"""The gated unit with a single gate."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid, tanh


@cell(gates="f n")
def mgu(f, n, h):
    """Minimal gated unit (MGU): Zhou et al. 2016.

    f = sigmoid(f);  n = tanh(W x + R (f * h_prev) + b);  h = (1 - f) * h_prev + f * n

    Parameters: 2 (I H + H^2 + H)
    """
    f = sigmoid(f)
    return (1 - f) * h + f * tanh(n(f * h))

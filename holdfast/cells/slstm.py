"""The LSTM with exponential gates and a scalar memory, half of xLSTM."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import exp, maximum, sigmoid, softplus, tanh


@cell(gates="i f g o", state="c n m")
def slstm(i, f, g, o, c, n, m):
    """LSTM with exponential gates and a normalizer (sLSTM): Beck et al. 2024.

    The input gate is exp(i), the forget gate is sigmoid(f); both are divided by exp(m), where m is
    the larger of their logarithms, which changes c / n not at all:
    f = log(sigmoid(f)) + m_prev;  m = max(f, i)
    c = exp(f - m) * c_prev + exp(i - m) * tanh(g);  n = exp(f - m) * n_prev + exp(i - m)
    h = sigmoid(o) * c / n

    All states start at 0. The heads of the paper are the layer's option `heads`.

    Parameters: 4 (I H + H^2 + H)
    """
    f = m - softplus(-f)
    m = maximum(f, i)
    i, f = exp(i - m), exp(f - m)
    c = f * c + i * tanh(g)
    n = f * n + i
    return sigmoid(o) * c / n, c, n, m

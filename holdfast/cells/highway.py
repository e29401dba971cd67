"""The LSTM with highway networks inside: on its memory, on its output, or on both."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid, tanh


@cell(gates={"i f g o": "W x + R h + b", "t n": "R h + b"}, state="c")
def highway_c(i, f, g, o, t, n, c):
    """LSTM with a highway network on the memory (HW-LSTM-C): Kurata et al. 2017.

    u = sigmoid(f) * c_prev + sigmoid(i) * tanh(g)
    c = (1 - sigmoid(t u)) * u + sigmoid(t u) * tanh(n u);  h = sigmoid(o) * tanh(c)

    where t u is R_t u + b_t. Reconstruction: the paper's equations are not confirmed. With a very
    negative b_t it starts as a plain LSTM, and so it is trained: first a plain LSTM, then this.

    Parameters: 4 (I H + H^2 + H) + 2 (H^2 + H)
    """
    u = sigmoid(f) * c + sigmoid(i) * tanh(g)
    t = sigmoid(t(u))
    c = (1 - t) * u + t * tanh(n(u))
    return sigmoid(o) * tanh(c), c


@cell(gates={"i f g o": "W x + R h + b", "t n": "R h + b"}, state="c")
def highway_h(i, f, g, o, t, n, c):
    """LSTM with a highway network on the output (HW-LSTM-H): Kurata et al. 2017.

    c = sigmoid(f) * c_prev + sigmoid(i) * tanh(g);  u = sigmoid(o) * tanh(c)
    h = (1 - sigmoid(t u)) * u + sigmoid(t u) * tanh(n u)

    where t u is R_t u + b_t. Reconstruction: the paper's equations are not confirmed.

    Parameters: 4 (I H + H^2 + H) + 2 (H^2 + H)
    """
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    u = sigmoid(o) * tanh(c)
    t = sigmoid(t(u))
    return (1 - t) * u + t * tanh(n(u)), c


@cell(gates={"i f g o": "W x + R h + b", "t_c n_c t_h n_h": "R h + b"}, state="c")
def highway_ch(i, f, g, o, t_c, n_c, t_h, n_h, c):
    """LSTM with highway networks on memory and output (HW-LSTM-CH): Kurata et al. 2017.

    u = sigmoid(f) * c_prev + sigmoid(i) * tanh(g)
    c = (1 - sigmoid(t_c u)) * u + sigmoid(t_c u) * tanh(n_c u);  v = sigmoid(o) * tanh(c)
    h = (1 - sigmoid(t_h v)) * v + sigmoid(t_h v) * tanh(n_h v)

    where t_c u is R u + b of the gate t_c. Reconstruction: the paper's equations are not confirmed.

    Parameters: 4 (I H + H^2 + H) + 4 (H^2 + H)
    """
    u = sigmoid(f) * c + sigmoid(i) * tanh(g)
    t = sigmoid(t_c(u))
    c = (1 - t) * u + t * tanh(n_c(u))
    v = sigmoid(o) * tanh(c)
    t = sigmoid(t_h(v))
    return (1 - t) * v + t * tanh(n_h(v)), c

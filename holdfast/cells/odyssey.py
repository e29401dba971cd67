"""The variants of "LSTM: A Search Space Odyssey": each is V, the cell `peephole`, less one thing.

NP, the variant without peepholes, is the cell `lstm`.
"""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid, tanh


@cell(gates="f g o", state="c", weights="p_f p_o")
def odyssey_nig(f, g, o, c, p_f, p_o):
    """LSTM with peepholes and no input gate (NIG): Greff et al. 2017.

    c = sigmoid(f + p_f c_prev) * c_prev + tanh(g);  h = sigmoid(o + p_o c) * tanh(c)

    Parameters: 3 (I H + H^2 + H) + 2 H
    """
    new = sigmoid(f + p_f * c) * c + tanh(g)
    return sigmoid(o + p_o * new) * tanh(new), new


@cell(gates="i g o", state="c", weights="p_i p_o")
def odyssey_nfg(i, g, o, c, p_i, p_o):
    """LSTM with peepholes and no forget gate (NFG): Greff et al. 2017.

    c = c_prev + sigmoid(i + p_i c_prev) * tanh(g);  h = sigmoid(o + p_o c) * tanh(c)

    Parameters: 3 (I H + H^2 + H) + 2 H
    """
    new = c + sigmoid(i + p_i * c) * tanh(g)
    return sigmoid(o + p_o * new) * tanh(new), new


@cell(gates="i f g", state="c", weights="p_i p_f")
def odyssey_nog(i, f, g, c, p_i, p_f):
    """LSTM with peepholes and no output gate (NOG): Greff et al. 2017.

    c = sigmoid(f + p_f c_prev) * c_prev + sigmoid(i + p_i c_prev) * tanh(g);  h = tanh(c)

    Parameters: 3 (I H + H^2 + H) + 2 H
    """
    new = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * tanh(g)
    return tanh(new), new


@cell(gates="i f g o", state="c", weights="p_i p_f p_o")
def odyssey_niaf(i, f, g, o, c, p_i, p_f, p_o):
    """LSTM with peepholes and no input activation (NIAF): Greff et al. 2017.

    c = sigmoid(f + p_f c_prev) * c_prev + sigmoid(i + p_i c_prev) * g
    h = sigmoid(o + p_o c) * tanh(c)

    Parameters: 4 (I H + H^2 + H) + 3 H
    """
    new = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * g
    return sigmoid(o + p_o * new) * tanh(new), new


@cell(gates="i f g o", state="c", weights="p_i p_f p_o")
def odyssey_noaf(i, f, g, o, c, p_i, p_f, p_o):
    """LSTM with peepholes and no output activation (NOAF): Greff et al. 2017.

    c = sigmoid(f + p_f c_prev) * c_prev + sigmoid(i + p_i c_prev) * tanh(g)
    h = sigmoid(o + p_o c) * c

    Parameters: 4 (I H + H^2 + H) + 3 H
    """
    new = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * tanh(g)
    return sigmoid(o + p_o * new) * new, new


@cell(gates="i g o", state="c", weights="p_i p_o")
def odyssey_cifg(i, g, o, c, p_i, p_o):
    """LSTM with peepholes, coupled input and forget gate (CIFG): Greff et al. 2017.

    i = sigmoid(i + p_i c_prev);  c = (1 - i) * c_prev + i * tanh(g)
    h = sigmoid(o + p_o c) * tanh(c)

    Parameters: 3 (I H + H^2 + H) + 2 H
    """
    i = sigmoid(i + p_i * c)
    new = (1 - i) * c + i * tanh(g)
    return sigmoid(o + p_o * new) * tanh(new), new


@cell(
    gates={"i f g o": "W x + R h + b", "i_i f_i o_i i_f f_f o_f i_o f_o o_o": "R h"},
    state="c y_i y_f y_o",
    weights="p_i p_f p_o",
)
def odyssey_fgr(
    i, f, g, o, i_i, f_i, o_i, i_f, f_f, o_f, i_o, f_o, o_o, c, y_i, y_f, y_o, p_i, p_f, p_o
):
    """LSTM with peepholes and full gate recurrence (FGR): Greff et al. 2017.

    Each gate sees the three gates of the step before, each through a matrix: y_i is the last i, and
    f_i is the matrix from it to the gate f. Then as in the cell `peephole`:
    i = sigmoid(i + p_i c_prev + i_i y_i + i_f y_f + i_o y_o)
    f = sigmoid(f + p_f c_prev + f_i y_i + f_f y_f + f_o y_o)
    c = f * c_prev + i * tanh(g)
    o = sigmoid(o + p_o c + o_i y_i + o_f y_f + o_o y_o);  h = o * tanh(c)

    Parameters: 4 (I H + H^2 + H) + 9 H^2 + 3 H
    """
    i = sigmoid(i + p_i * c + i_i(y_i) + i_f(y_f) + i_o(y_o))
    f = sigmoid(f + p_f * c + f_i(y_i) + f_f(y_f) + f_o(y_o))
    c = f * c + i * tanh(g)
    o = sigmoid(o + p_o * c + o_i(y_i) + o_f(y_f) + o_o(y_o))
    return o * tanh(c), c, i, f, o

"""The slim LSTMs: gates that do without the input, and without more and more of the rest.

In each of them c = f * c_prev + i * tanh(g) and h = o * tanh(c). What is no gate is a number.
"""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid, tanh


@cell(gates={"i f o": "R h + b", "g": "W x + R h + b"}, state="c")
def slim_1(i, f, o, g, c):
    """LSTM with gates R h + b (LSTM1): Akandeh & Salem 2017.

    c = sigmoid(R_f h_prev + b_f) * c_prev + sigmoid(R_i h_prev + b_i) * tanh(g)
    h = sigmoid(R_o h_prev + b_o) * tanh(c)

    Parameters: I H + 4 H^2 + 4 H
    """
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


@cell(gates={"i f o": "R h", "g": "W x + R h + b"}, state="c")
def slim_2(i, f, o, g, c):
    """LSTM with gates R h (LSTM2): Akandeh & Salem 2017.

    c = sigmoid(R_f h_prev) * c_prev + sigmoid(R_i h_prev) * tanh(g)
    h = sigmoid(R_o h_prev) * tanh(c)

    Parameters: I H + 4 H^2 + H
    """
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


@cell(gates={"i f o": "b", "g": "W x + R h + b"}, state="c")
def slim_3(i, f, o, g, c):
    """LSTM with gates b, which never change (LSTM3): Akandeh & Salem 2017.

    c = sigmoid(b_f) * c_prev + sigmoid(b_i) * tanh(g);  h = sigmoid(b_o) * tanh(c)

    Parameters: I H + H^2 + 4 H
    """
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


@cell(gates={"i f o": "u*h", "g": "W x + R h + b"}, state="c")
def slim_4(i, f, o, g, c):
    """LSTM with gates u*h, unit by unit (LSTM4): Akandeh & Salem 2017.

    c = sigmoid(u_f h_prev) * c_prev + sigmoid(u_i h_prev) * tanh(g)
    h = sigmoid(u_o h_prev) * tanh(c)

    Parameters: I H + H^2 + 4 H
    """
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


@cell(gates={"i": "u*h", "g": "W x + R h + b"}, state="c")
def slim_4a(i, g, c, *, f=0.96):
    """LSTM with the input gate u*h and a constant to forget (LSTM4a): Akandeh & Salem 2017.

    c = 0.96 c_prev + sigmoid(u_i h_prev) * tanh(g);  h = tanh(c)

    Parameters: I H + H^2 + 2 H
    """
    c = f * c + sigmoid(i) * tanh(g)
    return tanh(c), c


@cell(gates={"i f o": "u*h + b", "g": "W x + R h + b"}, state="c")
def slim_5(i, f, o, g, c):
    """LSTM with gates u*h + b, unit by unit (LSTM5): Akandeh & Salem 2017.

    c = sigmoid(u_f h_prev + b_f) * c_prev + sigmoid(u_i h_prev + b_i) * tanh(g)
    h = sigmoid(u_o h_prev + b_o) * tanh(c)

    Parameters: I H + H^2 + 7 H
    """
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


@cell(gates={"i": "u*h + b", "g": "W x + R h + b"}, state="c")
def slim_5a(i, g, c, *, f=0.96):
    """LSTM with the input gate u*h + b and a constant to forget (LSTM5a): Akandeh & Salem 2017.

    c = 0.96 c_prev + sigmoid(u_i h_prev + b_i) * tanh(g);  h = tanh(c)

    Parameters: I H + H^2 + 3 H
    """
    c = f * c + sigmoid(i) * tanh(g)
    return tanh(c), c


@cell(gates="g", state="c")
def slim_6(g, c, *, f=0.4):
    """LSTM without gates, with a constant to forget (LSTM6): Akandeh & Salem 2017; Salem 2018.

    c = 0.4 c_prev + tanh(g);  h = tanh(c)

    The constant is that of the authors' code; a value of 0.59 in a paper is not confirmed.

    Parameters: I H + H^2 + H
    """
    c = f * c + tanh(g)
    return tanh(c), c


@cell(gates={"i f o": "u*h", "g": "W x + u*h + b"}, state="c")
def slim_10(i, f, o, g, c):
    """LSTM with gates u*h and no recurrent matrix at all (LSTM10): Salem 2018.

    g = W x + u_g h_prev + b_g;  c = sigmoid(u_f h_prev) * c_prev + sigmoid(u_i h_prev) * tanh(g)
    h = sigmoid(u_o h_prev) * tanh(c)

    Parameters: I H + 5 H
    """
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


@cell(gates={"i f o": "u*h + b", "g": "W x + u*h + b"}, state="c")
def slim_11(i, f, o, g, c):
    """LSTM with gates u*h + b and no recurrent matrix at all (LSTM11): Salem 2018.

    g = W x + u_g h_prev + b_g
    c = sigmoid(u_f h_prev + b_f) * c_prev + sigmoid(u_i h_prev + b_i) * tanh(g)
    h = sigmoid(u_o h_prev + b_o) * tanh(c)

    Parameters: I H + 8 H
    """
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c

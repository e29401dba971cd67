"""The first LSTM: no forget gate, and gates that are fed back."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import sigmoid

_FED_BACK = ("i_i", "i_o", "g_i", "g_o", "o_i", "o_o")


@cell(
    gates=dict.fromkeys("igo", "W x + R h + b") | dict.fromkeys(_FED_BACK, "R h"),
    state="c y_i y_o",
)
def lstm_1997(i, g, o, i_i, i_o, g_i, g_o, o_i, o_o, c, y_i, y_o):
    """LSTM without forget gate: Hochreiter & Schmidhuber 1997, "Long Short-Term Memory", section 4.

    Every gate and cell input is W x + R h_prev + I y_i_prev + O y_o_prev + b: the activations of
    the gates are fed back as those of the cells are.
    y_i = sigmoid(i);  y_o = sigmoid(o);  c = c_prev + y_i * (4 sigmoid(g) - 2)
    h = y_o * (2 sigmoid(c) - 1)

    The squashing functions are those of the text: the cell input in [-2, 2], the cell output in
    [-1, 1]. Here every block has one cell; `holdfast.nn.BlockLSTM` has blocks of several.

    Parameters: 3 (I H + 3 H^2 + H)
    """
    new_i = sigmoid(i + i_i(y_i) + i_o(y_o))
    new_o = sigmoid(o + o_i(y_i) + o_o(y_o))
    c = c + new_i * (4 * sigmoid(g + g_i(y_i) + g_o(y_o)) - 2)
    return new_o * (2 * sigmoid(c) - 1), c, new_i, new_o


@cell(gates="i g o", state="c")
def lstm_1997_plain(i, g, o, c):
    """LSTM without forget gate, gates not fed back: Hochreiter & Schmidhuber 1997, simplified.

    c = c_prev + sigmoid(i) * (4 sigmoid(g) - 2);  h = sigmoid(o) * (2 sigmoid(c) - 1)

    Every gate is W x + R h_prev + b: only the outputs of the cells are fed back.

    Parameters: 3 (I H + H^2 + H)
    """
    c = c + sigmoid(i) * (4 * sigmoid(g) - 2)
    return sigmoid(o) * (2 * sigmoid(c) - 1), c

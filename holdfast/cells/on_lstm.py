"""Units in an order: those that forget later keep what those that forget earlier have lost."""

from __future__ import annotations

from typing import Any

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import cumulate, exp, peak, remain, sigmoid, tanh


def _cumax(x: Any) -> Any:
    """The softmax over the units, summed up to each one."""
    share = exp(x - peak(x))
    total = cumulate(share)
    return total / (total + remain(share) - share)


@cell(gates="i f g o master_f master_i", state="c")
def on_lstm(i, f, g, o, master_f, master_i, c):
    """ON-LSTM, ordered neurons: Shen, Tan, Sordoni & Courville 2019.

    F = cumax(master_f);  I = 1 - cumax(master_i);  w = F * I, with cumax the cumulated softmax
    f_hat = f * w + (F - w);  i_hat = i * w + (I - w)
    c = f_hat * c_prev + i_hat * tanh(g);  h = o * tanh(c)

    Chunks of one unit: each has master gates of its own, where the paper shares them among ten.

    Parameters: 6 (I H + H^2 + H)
    """
    longest, latest = _cumax(master_f), 1 - _cumax(master_i)
    both = longest * latest
    kept = sigmoid(f) * both + (longest - both)
    taken = sigmoid(i) * both + (latest - both)
    c = kept * c + taken * tanh(g)
    return sigmoid(o) * tanh(c), c

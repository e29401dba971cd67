"""Memory that fades as a power of time instead of exponentially: fractional differencing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from holdfast.compiler.cell import Cell, cell
from holdfast.compiler.ops import sigmoid, tanh


def _weights(d: Any, lags: int) -> Iterator[Any]:
    """w_1(d), w_2(d) ...: the coefficients of (1 - B)^d, with B the step back."""
    weight = -d
    for k in range(1, lags + 1):
        yield weight
        weight = weight * (k - d) / (k + 1)


def _filtered(d: Any, x: Any, lags: int) -> Any:
    return sum(weight * x.lag(k) for k, weight in enumerate(_weights(d, lags)))


def _remembered(d: Any, c: Any, lags: int) -> Any:
    return sum(weight * c.lag(k) for k, weight in enumerate(_weights(d, lags), start=1))


def memory_rnn(lags: int) -> Cell:
    """The MRNN whose filter looks at so many inputs.

    >>> memory_rnn(3).carried
    ('x_lag1', 'x_lag2')
    """

    @cell(
        gates={"a": "W x + R h + b", "n": "R h", "r": "R h + b"}
        | {"e": "W x + R h + b", "e_d": "R h", "e_m": "R h"},
        state="m d",
    )
    def fractional_rnn(a, n, r, e, e_d, e_m, m, d, x):
        """MRNN, 25 lags: Zhao, Huang, Lv, Duan, Qin, Li & Tian 2020.

        h = tanh(W_a x + R_a h_prev + b_a)
        d = sigmoid(W_e x + R_e h_prev + D_e d_prev + M_e m_prev + b_e) / 2
        F = sum over k = 1 ... 25 of w_k(d) * x of k - 1 steps ago, w_k(d) the coefficients of
        (1 - B)^d;  m = tanh(W_n F + R_r m_prev + b_r)

        A reader of the layer sees h and m. The filter works on x with H features. The authors
        recommend 100 lags here, `memory_rnn(100)`, and 25 in the MLSTM.

        Parameters: 2 (I H + H^2 + H) + 4 H^2 + H
        """
        order = 0.5 * sigmoid(e + e_d(d) + e_m(m))
        return tanh(a), tanh(n(_filtered(order, x, lags)) + r(m)), order

    return fractional_rnn


def memory_rnn_fixed(lags: int) -> Cell:
    """The MRNNF whose filter looks at so many inputs."""

    @cell(
        gates={"a": "W x + R h + b", "n": "R h", "r": "R h + b"},
        state="m",
        weights={"b_d": 0.0},
    )
    def fractional_rnn_fixed(a, n, r, m, x, b_d):
        """MRNNF, the MRNN with one d for all steps, 25 lags: Zhao et al. 2020.

        h = tanh(W_a x + R_a h_prev + b_a);  d = sigmoid(b_d) / 2
        m = tanh(W_n F + R_r m_prev + b_r), F as in the MRNN

        The authors recommend 100 lags: `memory_rnn_fixed(100)`.

        Parameters: (I H + H^2 + H) + 2 H^2 + 2 H
        """
        return tanh(a), tanh(n(_filtered(0.5 * sigmoid(b_d), x, lags)) + r(m))

    return fractional_rnn_fixed


def memory_lstm(lags: int) -> Cell:
    """The MLSTM that looks at so many of its past memories."""

    @cell(
        gates={"i": "W x + R h + b", "g": "W x + R h + b", "o": "W x + R h + b"}
        | {"e": "W x + R h + b", "e_d": "R h"},
        state="c d",
    )
    def fractional_lstm(i, g, o, e, e_d, c, d):
        """MLSTM, 25 lags: Zhao, Huang, Lv, Duan, Qin, Li & Tian 2020.

        d = sigmoid(W_e x + R_e h_prev + D_e d_prev + b_e) / 2
        c = sigmoid(i) * tanh(g) - sum over k = 1 ... 25 of w_k(d) * c of k steps ago, w_k(d) the
        coefficients of (1 - B)^d;  h = sigmoid(o) * tanh(c)

        Parameters: 4 (I H + H^2 + H) + H^2
        """
        order = 0.5 * sigmoid(e + e_d(d))
        new = sigmoid(i) * tanh(g) - _remembered(order, c, lags)
        return sigmoid(o) * tanh(new), new, order

    return fractional_lstm


def memory_lstm_fixed(lags: int) -> Cell:
    """The MLSTMF that looks at so many of its past memories."""

    @cell(gates="i g o", state="c", weights={"b_d": 0.0})
    def fractional_lstm_fixed(i, g, o, c, b_d):
        """MLSTMF, the MLSTM with one d for all steps, 25 lags: Zhao et al. 2020.

        d = sigmoid(b_d) / 2;  c as in the MLSTM;  h = sigmoid(o) * tanh(c)

        Parameters: 3 (I H + H^2 + H) + H
        """
        new = sigmoid(i) * tanh(g) - _remembered(0.5 * sigmoid(b_d), c, lags)
        return sigmoid(o) * tanh(new), new

    return fractional_lstm_fixed


fractional_rnn = memory_rnn(25)
fractional_rnn_fixed = memory_rnn_fixed(25)
fractional_lstm = memory_lstm(25)
fractional_lstm_fixed = memory_lstm_fixed(25)

"""A memory of several depths, each one a smoother past of the one above."""

from __future__ import annotations

from holdfast.compiler.cell import Cell, cell
from holdfast.compiler.ops import exp, maximum, sigmoid, tanh


def gamma_lstm(order: int) -> Cell:
    """The Gamma-LSTM with a memory of `order` levels below the first.

    >>> gamma_lstm(2).states
    ('c_0', 'c_1', 'c_2')
    """

    @cell(gates=f"i f g o gamma*{order} a*{order + 1}", state=f"c*{order + 1}")
    def gamma(i, f, g, o, gamma, a, c):
        """Gamma-LSTM, three levels: Aenugu 2019; gamma memory: de Vries & Principe 1992.

        c_0 = f * c_0_prev + i * tanh(g)
        c_k = gamma_k * c_k_prev + (1 - gamma_k) * c_(k-1)_prev, for k = 1, 2, 3
        c = sum over k of softmax(a)_k * c_k;  h = o * tanh(c)

        Reconstruction: the abstract tells of gamma gates and of a softmax over the levels; the
        equations are ours. Every gate is W x + R h_prev + b.

        Parameters: 11 (I H + H^2 + H)
        """
        new = [sigmoid(f) * c[0] + sigmoid(i) * tanh(g)]
        for level, gate in enumerate(gamma, start=1):
            kept = sigmoid(gate)
            new.append(kept * c[level] + (1 - kept) * c[level - 1])
        largest = a[0]
        for score in a[1:]:
            largest = maximum(largest, score)
        shares = [exp(score - largest) for score in a]
        mixed = sum(share * level for share, level in zip(shares, new, strict=True)) / sum(shares)
        return sigmoid(o) * tanh(mixed), new

    return gamma


gamma = gamma_lstm(3)

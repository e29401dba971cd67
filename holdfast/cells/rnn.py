"""The plain recurrent networks, as in `torch.nn.RNN`."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import relu, tanh


@cell(gates="a")
def rnn(a):
    """Plain recurrent network with tanh: Elman 1990.

    h = tanh(W x + R h_prev + b)

    Parameters: I H + H^2 + H
    """
    return tanh(a)


@cell(gates="a")
def rnn_relu(a):
    """Plain recurrent network with rectified units: Le, Jaitly & Hinton 2015.

    h = relu(W x + R h_prev + b)

    Parameters: I H + H^2 + H
    """
    return relu(a)

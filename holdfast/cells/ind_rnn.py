"""The recurrent network whose units do not see each other."""

from __future__ import annotations

from holdfast.compiler.cell import cell
from holdfast.compiler.ops import relu


@cell(gates={"a": "W x + u*h + b"})
def ind_rnn(a):
    """Independently recurrent network (IndRNN): Li et al. 2018.

    h = relu(W x + u * h_prev + b), with one recurrent weight u for each unit

    Parameters: I H + 2 H
    """
    return relu(a)

"""LSTM, GRU and RNN with the constructors, shapes and checkpoints of `torch.nn`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from holdfast.nn.recurrent import Recurrent


class LSTM(Recurrent):
    """Long Short-Term Memory in the place of `torch.nn.LSTM`: same arguments, same checkpoints.

    >>> import torch
    >>> layer = LSTM(input_size=3, hidden_size=5, num_layers=2, bidirectional=True)
    >>> out, (h, c) = layer(torch.randn(7, 4, 3))  # [T, B, I]
    >>> tuple(out.shape), tuple(h.shape), tuple(c.shape)
    ((7, 4, 10), (4, 4, 5), (4, 4, 5))
    >>> layer = layer.double()
    >>> torch.nn.LSTM(3, 5, 2, bidirectional=True).load_state_dict(layer.state_dict())
    <All keys matched successfully>

    Arguments, options and errors: those of `Recurrent`, in the call too.
    Source: Hochreiter & Schmidhuber 1997; forget gate: Gers, Schmidhuber & Cummins 2000.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            "lstm",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
            **options,
        )
        self.mode = "LSTM"


class GRU(Recurrent):
    """Gated recurrent units in the place of `torch.nn.GRU`: same arguments, same checkpoints.

    >>> import torch
    >>> out, h = GRU(3, 5, batch_first=True)(torch.randn(4, 7, 3))  # [B, T, I]
    >>> tuple(out.shape), tuple(h.shape)
    ((4, 7, 5), (1, 4, 5))

    Arguments, options and errors: those of `Recurrent`, without `proj_size`, which a GRU cannot
    have.
    Source: Cho et al. 2014, with the reset gate after the product.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        proj_size: int = 0,
        **options: Any,
    ) -> None:
        _refuse_projection(proj_size)
        super().__init__(
            "gru",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
            **options,
        )
        self.mode = "GRU"


class RNN(Recurrent):
    """A plain recurrent network in the place of `torch.nn.RNN`: same arguments, same checkpoints.

    >>> import torch
    >>> out, h = RNN(3, 5, nonlinearity="relu")(torch.randn(7, 3))  # [T, I], a single sequence
    >>> tuple(out.shape), tuple(h.shape)
    ((7, 5), (1, 5))

    Arguments, options and errors: those of `Recurrent`, without `proj_size`; `nonlinearity`, the
    fourth, is "tanh" or "relu", else `ValueError`.
    Source: Elman 1990.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        proj_size: int = 0,
        **options: Any,
    ) -> None:
        _refuse_projection(proj_size)
        cells = {"tanh": "rnn", "relu": "rnn_relu"}
        if nonlinearity not in cells:
            raise ValueError(
                f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'."
            )
        super().__init__(
            cells[nonlinearity],
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
            **options,
        )
        self.mode = f"RNN_{nonlinearity.upper()}"
        self.nonlinearity = nonlinearity


def _refuse_projection(proj_size: int) -> None:
    if proj_size:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")

"""LSTMs for events at any time, whose units open with a rhythm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from holdfast.cells import CELLS
from holdfast.compiler.cell import cell
from holdfast.nn import init
from holdfast.nn.randomness import Mode
from holdfast.nn.recurrent import Recurrent

_OPEN = CELLS["phased"]


@cell(
    gates="i f g o",
    state="c",
    weights={name: dict(_OPEN.initial).get(name) for name in _OPEN.weights},
    inputs="time",
)
def phased_closed(i, f, g, o, c, h, time, p_i, p_f, p_o, tau, s, r_on):
    """The cell `phased` after training: a closed unit lets nothing through."""
    return _OPEN.function(i, f, g, o, c, h, time, p_i, p_f, p_o, tau, s, r_on, leak=0.0)


class PhasedLSTM(Recurrent):
    """Read events at any time with an LSTM whose units open for a short part of a period each.

    >>> import torch
    >>> layer = PhasedLSTM(input_size=3, hidden_size=5)
    >>> time = torch.rand(7, 4).cumsum(0)  # [T, B]
    >>> out, (h, c) = layer(torch.randn(7, 4, 3), time)  # [T, B, I]
    >>> tuple(out.shape), tuple(c.shape)
    ((7, 4, 5), (1, 4, 5))

    The cell is `phased`, with its equations. As in the paper, periods and phases begin as
    `holdfast.nn.init.phased_` draws them, and closed units leak in training only. They are
    parameters, `tau_l0`, `s_l0` and `r_on_l0`.

    Arguments, options and errors: those of `Recurrent`. `proj_size` is none of them: h is taken
    unit by unit.
    Source: Neil, Pfeiffer & Liu 2016.
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
        **options: Any,
    ) -> None:
        super().__init__(
            _OPEN,
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

    def _create_modes(self) -> None:
        closed = Mode.of(phased_closed, self.options, self.bias, training=False)
        self._modes = (closed, Mode.of(self.cell, self.options, self.bias, training=True))

    def reset_parameters(self) -> None:
        """Draw every parameter anew: as `Recurrent` does, then periods and phases."""
        super().reset_parameters()
        init.phased_(self)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        input: Tensor | PackedSequence,
        time: Tensor | PackedSequence,
        hx: Any = None,
        **more: Any,
    ) -> tuple[Any, ...]:
        """The output of the last layer at every step, and the last states of every layer.

        Arguments:
            input: `[T, B, I]`, `[B, T, I]` with `batch_first`, `[T, I]` for a single sequence, or a
                `PackedSequence`.
            time: of each step, `[T, B]`, `[B, T]` or `[T]` as the input, or packed as it, in the
                unit of the periods.
            hx: initial states `(h, c)`, `[L * D, B, H]` each, by default zeros.
            more: `lengths` and all else that the call of a `Recurrent` takes, by name.

        Errors: `ValueError` for times of another shape; else those of `Recurrent`.
        """
        extra: Any = {"time": time}
        return super().forward(input, hx, extra=extra, **more)

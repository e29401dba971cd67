"""LSTMs above each other whose memories are linked by gates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.nn import checks
from holdfast.nn.ragged import as_lengths
from holdfast.nn.recurrent import Recurrent
from holdfast.nn.structure import Structure, calm, check_flags


class DepthGatedLSTM(Structure):
    """Read sequences with a deep LSTM whose memories are linked upward by a gate: highway LSTM.

    >>> import torch
    >>> layer = DepthGatedLSTM(input_size=3, hidden_size=5, num_layers=3)
    >>> out, (h, c) = layer(torch.randn(7, 2, 3))  # [T, B, I]
    >>> tuple(out.shape), tuple(c.shape)
    ((7, 2, 5), (3, 2, 5))

    The first layer is an LSTM with peepholes. Those above, where below is the c of the layer below
    at the same step:
    d = sigmoid(W_d x + w_c c_prev + w_l below + b_d)
    c = d below + f c_prev + i tanh(W_g x + R_g h_prev + b_g)
    i, f, o and h are those of the first layer. The layers of the paper also project h.

    Parameters: 4 H (I + H + 1) + 3 H + K (9 H^2 + 10 H)
    with K = L - 1 layers above the first, and the two biases of a layer as one.

    Runs compiled wherever `holdfast.nn.LSTM` does: layer by layer, the cells `peephole` and
    `depth_gated`.

    Arguments:
        input_size: I, features of the input.
        hidden_size: H, units of each layer.
        num_layers: L, layers.
        bias: False leaves out the biases.
        batch_first: input and output are `[B, T, ...]` instead of `[T, B, ...]`; states are not.

    Errors: `TypeError` and `ValueError` for impossible sizes.
    Source: Zhang, Chen, Yu, Yaco, Khudanpur & Glass 2015.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 2,
        bias: bool = True,
        batch_first: bool = False,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        for name, size in sizes.items():
            checks.check_size(name, size)
        check_flags(bias=bias, batch_first=batch_first)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        more: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.layers = nn.ModuleList([Recurrent("peephole", input_size, hidden_size, **more)])
        for _ in range(num_layers - 1):
            self.layers.append(Recurrent("depth_gated", hidden_size, hidden_size, **more))
        self._bound = 1.0 / math.sqrt(hidden_size)
        self.reset_parameters()

    def forward(
        self,
        input: Tensor,
        hx: tuple[Tensor, Tensor] | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The output of the last layer at every step, and the last states `(h, c)`.

        Arguments:
            input: `[T, B, I]`, `[B, T, I]` with `batch_first`, `[T, I]` for a single row.
            hx: initial states h and c, `[L, B, H]` each, by default zeros.
            lengths: number of valid steps of each row, `[B]`; output is zero beyond.

        Errors: `ValueError` for a wrong dtype or number of dimensions, `RuntimeError` for wrong
        sizes, `TypeError` for what is not a tensor.
        """
        x, batched = self._admit(input, (self.input_size,))
        steps, batch = x.shape[:2]
        counts = None if lengths is None else as_lengths(lengths, steps, batch, x)
        shape = (self.num_layers, batch, self.hidden_size)
        h, c = self._states(hx, ("h", "c"), (shape, shape), x, batched=batched)
        with calm(x):
            last, extra = [], {}
            for number, layer in enumerate(self.layers):
                start = (h[number : number + 1], c[number : number + 1])
                x, states, cells = layer(x, start, lengths=counts, return_cells=True, extra=extra)
                extra = {"below": cells}
                last.append(states)
            new = [torch.cat(state) for state in zip(*last, strict=True)]
        if not batched:
            new = [state.squeeze(1) for state in new]
        return self._deliver(x, batched), (new[0], new[1])

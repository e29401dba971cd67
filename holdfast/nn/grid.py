"""LSTMs along two dimensions: through time, and through the layers above each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from holdfast.nn import checks
from holdfast.nn.named import LSTM
from holdfast.nn.ragged import Rows, as_lengths
from holdfast.nn.structure import Structure, blank, calm, check_flags, hold, valid_steps

PRIORITIES = (None, "depth", "time")


class GridLSTM(Structure):
    """Read sequences with memories in two dimensions, time and depth: a 2-d Grid LSTM.

    >>> import torch
    >>> layer = GridLSTM(input_size=3, hidden_size=5, num_layers=4)
    >>> out, (h, c) = layer(torch.randn(7, 2, 3))  # [T, B, I]
    >>> tuple(out.shape), tuple(h.shape), tuple(c.shape)
    ((7, 2, 5), (4, 2, 5), (4, 2, 5))

    The block at step t and layer l gets h and c from the step before and h', c' from the layer
    below, and joins them, with LSTM(H, c) for i, f, g, o = W H + b; c = f c + i tanh(g);
    h = o tanh(c), where i, f and o go through a sigmoid:
    H = [h'; h];  (h, c) to the next step = LSTM_time(H, c);  (h', c') upward = LSTM_depth(H, c')
    The input enters below the first layer: h', c' = W_in x + b_in. The output is h' on top.

    With priority "depth" the transform of the depth reads what the one of the time has just made,
    H = [h'; new h]; with "time" it is the other way round.

    Parameters: 2 H (I + 1) + 8 L H (2 H + 1)
    with the two biases through time as one; L is 1 when tied.

    Runs compiled wherever `holdfast.nn.LSTM` does, unless the time has priority: through time a
    layer is an LSTM that reads h', and its way upward is then known for all steps at once. With
    priority "time" the two wait for each other at every step, in a loop on PyTorch.

    Arguments:
        input_size: I, features of the input.
        hidden_size: H, units in either dimension.
        num_layers: L, blocks above each other.
        bias: False leaves out the biases.
        batch_first: input and output are `[B, T, ...]` instead of `[T, B, ...]`; states are not.
        priority: None, "depth" or "time".
        tied: all layers have the same weights.

    Errors: `TypeError` and `ValueError` for impossible sizes.
    Source: Kalchbrenner, Danihelka & Graves 2016, with its priority dimensions and tied weights.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        priority: str | None = None,
        tied: bool = False,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        for name, size in sizes.items():
            checks.check_size(name, size)
        check_flags(bias=bias, batch_first=batch_first, tied=tied)
        if priority not in PRIORITIES:
            raise ValueError(f"priority should be None, 'depth' or 'time', got: {priority!r}")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.priority = priority
        self.tied = tied
        more: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        blocks = range(1 if tied else num_layers)
        self.enter = nn.Linear(input_size, 2 * hidden_size, **more)
        self.time = nn.ModuleList(LSTM(hidden_size, hidden_size, **more) for _ in blocks)
        self.depth = nn.ModuleList(
            nn.Linear(2 * hidden_size, 4 * hidden_size, **more) for _ in blocks
        )
        self._bound = 1.0 / math.sqrt(hidden_size)
        self.reset_parameters()

    def _selection(self) -> tuple[str, str]:
        if self.priority == "time":
            return "eager", "with priority='time' time and depth wait for each other at every step"
        return super()._selection()

    def forward(
        self,
        input: Tensor,
        hx: tuple[Tensor, Tensor] | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """h' above the last layer at every step, and the last states `(h, c)` through time.

        Arguments:
            input: `[T, B, I]`, `[B, T, I]` with `batch_first`, `[T, I]` for a single row.
            hx: initial states `(h, c)` of the time, `[L, B, H]` each, by default zeros.
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
            up, memory = self.enter(Rows(counts).blank(x)).chunk(2, 2)
            last = []
            for layer in range(self.num_layers):
                up, memory, *states = self.run_layer(layer, up, memory, h[layer], c[layer], counts)
                last.append(states)
            new = [torch.stack(state) for state in zip(*last, strict=True)]
        if not batched:
            new = [state.squeeze(1) for state in new]
        return self._deliver(blank(up, counts), batched), (new[0], new[1])

    def run_layer(
        self,
        layer: int,
        h_depth: Tensor,
        c_depth: Tensor,
        h: Tensor,
        c: Tensor,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One layer over all steps: h' and c' above it, and its last states through time.

        Arguments:
            h_depth, c_depth: what comes from below at every step, `[T, B, H]`.
            h, c: initial states through time, `[B, H]`.
            lengths: number of valid steps of each row, `[B]`.
        """
        block = 0 if self.tied else layer
        time, depth = self.time[block], self.depth[block]
        if self.priority == "time":
            return self._run_steps(time, depth, h_depth, c_depth, h, c, lengths)
        states = (h.unsqueeze(0), c.unsqueeze(0))
        course, (h_last, c_last) = time(h_depth, states, lengths=lengths)
        seen = course if self.priority else torch.cat([h.unsqueeze(0), course])[:-1]
        h_depth, c_depth = _transform(depth(torch.cat([h_depth, seen], 2)), c_depth)
        return h_depth, c_depth, h_last.squeeze(0), c_last.squeeze(0)

    def _run_steps(
        self,
        time: Any,
        depth: Any,
        h_depth: Tensor,
        c_depth: Tensor,
        h: Tensor,
        c: Tensor,
        lengths: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The layer where time waits for depth."""
        below, aside = depth.weight.chunk(2, 1)
        entered = functional.linear(h_depth, below, depth.bias).unbind(0)
        bias = time.bias_ih_l0 + time.bias_hh_l0 if self.bias else None
        weight = torch.cat([time.weight_ih_l0, time.weight_hh_l0], 1)
        valid = valid_steps(lengths, h_depth.shape[0])
        outs = []
        for gates, memory, at in zip(entered, c_depth.unbind(0), valid, strict=True):
            up = _transform(gates + functional.linear(h, aside), memory)
            joined = functional.linear(torch.cat([up[0], h], 1), weight, bias)
            new_h, new_c = _transform(joined, c)
            h, c = hold(at, new_h, h), hold(at, new_c, c)
            outs.append(up)
        above_h, above_c = (torch.stack(course) for course in zip(*outs, strict=True))
        return above_h, above_c, h, c


def _transform(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """h and c of an LSTM from its gates, `[..., 4 H]`, and its memory."""
    i, f, g, o = gates.chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c

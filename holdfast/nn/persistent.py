"""An LSTM that also sees the average of what it said before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.nn import checks
from holdfast.nn.named import LSTM
from holdfast.nn.ragged import as_lengths
from holdfast.nn.structure import Structure, blank, calm, check_flags, check_options

States = tuple[Tensor, Tensor, Tensor, Tensor]


class PersistentLSTM(Structure):
    """Read sequences with an LSTM whose output is joined with the average of its past outputs.

    >>> import torch
    >>> layer = PersistentLSTM(input_size=3, hidden_size=5, window=4)
    >>> out, (h, c, past, count) = layer(torch.randn(7, 2, 3))  # [T, B, I]
    >>> tuple(out.shape), tuple(past.shape), count.tolist()
    ((7, 2, 5), (4, 2, 5), [7, 7])

    h_t, c_t = LSTM(x_t, h_{t-1}, c_{t-1})
    a_t = mean of h_j over the steps j < t, at most the last `window`; 0 at the first step
    out_t = tanh(W [h_t; a_t] + b)

    Reconstruction: the paper describes this memory in words, "retrieved in proportion to the number
    of steps that the gates kept it", which an average does; its equations were not at hand.

    Parameters: 4 H (I + H + 1) + H (2 H + 1)
    with the two biases of the LSTM as one.

    The LSTM runs compiled wherever `holdfast.nn.LSTM` does. The averages need no loop: they are
    differences of running sums.

    Arguments:
        input_size: I, features of the input.
        hidden_size: H, units of each layer.
        num_layers: layers of the LSTM; the last one's outputs are averaged.
        bias: False leaves out the biases.
        batch_first: input and output are `[B, T, ...]` instead of `[T, B, ...]`; states are not.
        window: steps that are averaged over, by default all. The paper cuts at the chunk that is
            trained on: give it the first two states alone, or none.
        options: those of `holdfast.nn.options.Options`, by name, for the LSTM.

    Errors: `TypeError` and `ValueError` for impossible sizes and options.
    Source: Salton & Kelleher 2018.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        window: int | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        checks.check_size("hidden_size", hidden_size)
        check_flags(bias=bias, batch_first=batch_first)
        if window is not None:
            checks.check_size("window", window)
        check_options(self._get_name(), options)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.window = window
        more: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.lstm = LSTM(input_size, hidden_size, num_layers, **more, **options)
        self.fusion = nn.Linear(2 * hidden_size, hidden_size, **more)
        self._bound = 1.0 / math.sqrt(hidden_size)
        self.reset_parameters()

    def forward(
        self,
        input: Tensor,
        hx: Sequence[Tensor] | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Tensor, States]:
        """The output at every step, and the last states `(h, c, past, count)`.

        Arguments:
            input: `[T, B, I]`, `[B, T, I]` with `batch_first`, `[T, I]` for a single row.
            hx: initial states h and c, `[L, B, H]` each, and what is known of the past: past, the
                last `window` outputs `[window, B, H]`, or without a window their sum `[1, B, H]`,
                and count, how many there were, `[B]` of int64. Without the last two there is no
                past.
            lengths: number of valid steps of each row, `[B]`; output is zero beyond.

        Errors: `ValueError` for a wrong dtype or number of dimensions, `RuntimeError` for wrong
        sizes, `TypeError` for what is not a tensor.
        """
        x, batched = self._admit(input, (self.input_size,))
        steps, batch = x.shape[:2]
        counts = None if lengths is None else as_lengths(lengths, steps, batch, x)
        start, past, count = self._start(hx, x, batched)
        with calm(x):
            said, (h, c) = self.lstm(x, start, lengths=counts)
            average, past = self._average(said, past, count, counts)
            out = torch.tanh(self.fusion(torch.cat([said, average], 2)))
        count = count + (steps if counts is None else counts)
        if not batched:
            h, c, past, count = h.squeeze(1), c.squeeze(1), past.squeeze(1), count.squeeze(0)
        return self._deliver(blank(out, counts), batched), (h, c, past, count)

    def _start(
        self, hx: Any, x: Tensor, batched: bool
    ) -> tuple[tuple[Tensor, Tensor] | None, Tensor, Tensor]:
        """The states of the LSTM, or None, the past and how many steps it has."""
        batch, units = x.shape[1], self.hidden_size
        past = x.new_zeros(self.window or 1, batch, units)
        count = torch.zeros(batch, dtype=torch.int64, device=x.device)
        if hx is None:
            return None, past, count
        names, shapes = ["h", "c"], [(self.num_layers, batch, units)] * 2
        given, known = hx, None
        if isinstance(hx, (tuple, list)) and len(hx) == 4:
            *given, known = hx
            names.append("past")
            shapes.append((len(past), batch, units))
        h, c, *rest = self._states(given, names, shapes, x, batched=batched)
        if not rest:
            return (h, c), past, count
        if not isinstance(known, Tensor) or known.is_floating_point():
            kind = known.dtype if isinstance(known, Tensor) else type(known).__name__
            raise TypeError(f"count should be a Tensor of int64, as in the last states, got {kind}")
        known = known if batched else known.reshape(1)
        if known.shape != count.shape:
            raise RuntimeError(f"Expected count size ({batch},), got {list(known.shape)}")
        return (h, c), rest[0], known.to(count)

    def _average(
        self, said: Tensor, past: Tensor, count: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The averages before each step, `[T, B, H]`, and the past after the last one."""
        steps, wide = said.shape[0], past.shape[0]
        before = torch.arange(steps, device=said.device).unsqueeze(1) + count  # [T, B]
        course = torch.cat([past, said])  # [W + T, B, H]
        # A difference of long sums loses digits, so they are summed with twice as many.
        single = said.dtype == torch.float32 and said.device.type != "mps"  # has no float64
        exact = torch.float64 if single else said.dtype
        sums = course.to(exact).cumsum(0)
        total = sums[wide - 1 : -1]
        if self.window is None:
            last = sums[-1:].to(said.dtype)  # beyond the end of a row the LSTM says 0
        else:
            total = total - torch.cat([torch.zeros_like(sums[:1]), sums])[:steps]
            before = before.clamp(max=wide)
            last = course[steps:]
            if lengths is not None:
                at = torch.arange(wide, device=said.device).unsqueeze(1) + lengths  # [W, B]
                last = course.gather(0, at.unsqueeze(2).expand(-1, -1, said.shape[2]))
        return (total / before.clamp(min=1).unsqueeze(2)).to(said.dtype), last

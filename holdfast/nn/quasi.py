"""Quasi-recurrent networks: gates that are convolutions over time, and a pooling."""

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


class QRNN(Structure):
    """Read sequences with gates that see the last few inputs, and a memory that only pools: QRNN.

    >>> import torch
    >>> layer = QRNN(input_size=3, hidden_size=5, kernel_size=2, num_layers=2)
    >>> out, (c, past) = layer(torch.randn(7, 4, 3))  # [T, B, I]
    >>> tuple(out.shape), tuple(c.shape), tuple(past.shape)
    ((7, 4, 5), (2, 4, 5), (1, 4, 8))

    Z, F and O are convolutions of width K over the steps, which see no later step:
    z_t = tanh(W_z [x_{t-K+1}; ...; x_t] + b_z);  f_t, o_t likewise with sigmoid
    c_t = f_t c_{t-1} + (1 - f_t) z_t;  h_t = o_t c_t

    Parameters: 3 H (K I + 1)
    in the first layer, H in the place of I in the others.

    Runs compiled wherever `holdfast.nn.LSTM` does: the convolutions of all steps are one product,
    and the pooling is the cell `qrnn`, which calls z `g`. A row of the weights has the columns of
    the oldest input first.

    Arguments:
        input_size: I, features of the input.
        hidden_size: H, units of each layer.
        kernel_size: K, steps that a convolution sees.
        num_layers: L, layers, each reading the outputs of the one before.
        bias: False leaves out the biases.
        batch_first: input and output are `[B, T, ...]` instead of `[T, B, ...]`; states are not.

    Errors: `TypeError` and `ValueError` for impossible sizes.
    Source: Bradbury, Merity, Xiong & Socher 2017, with its fo-pooling.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        kernel_size: int = 2,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        for name, size in (sizes | {"kernel_size": kernel_size}).items():
            checks.check_size(name, size)
        check_flags(bias=bias, batch_first=batch_first)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.kernel_size = kernel_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        more: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self._features = [input_size] + [hidden_size] * (num_layers - 1)
        self.layers = nn.ModuleList(
            Recurrent("qrnn", kernel_size * features, hidden_size, **more)
            for features in self._features
        )
        self._bound = 1.0 / math.sqrt(hidden_size)
        self.reset_parameters()

    def forward(
        self,
        input: Tensor,
        hx: tuple[Tensor, Tensor] | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The output of the last layer at every step, and the last states `(c, past)`.

        Arguments:
            input: `[T, B, I]`, `[B, T, I]` with `batch_first`, `[T, I]` for a single row.
            hx: initial states c `[L, B, H]`, and past `[K - 1, B, I + (L - 1) H]`, the inputs of
                the last K - 1 steps, those of all layers side by side; by default zeros.
            lengths: number of valid steps of each row, `[B]`; output is zero beyond.

        Errors: `ValueError` for a wrong dtype or number of dimensions, `RuntimeError` for wrong
        sizes, `TypeError` for what is not a tensor.
        """
        x, batched = self._admit(input, (self.input_size,))
        steps, batch = x.shape[:2]
        counts = None if lengths is None else as_lengths(lengths, steps, batch, x)
        wide = (self.kernel_size - 1, batch, sum(self._features))
        shapes = ((self.num_layers, batch, self.hidden_size), wide)
        c, past = self._states(hx, ("c", "past"), shapes, x, batched=batched)
        with calm(x):
            memories, pasts = [], []
            pairs = zip(self.layers, past.split(self._features, 2), strict=True)
            for number, (layer, before) in enumerate(pairs):
                course = torch.cat([before, x])  # [K - 1 + T, B, features]
                seen = [course[k : k + steps] for k in range(self.kernel_size)]
                start = c[number : number + 1]
                states = (torch.zeros_like(start), start)
                x, (_, memory) = layer(torch.cat(seen, 2), states, lengths=counts)
                memories.append(memory)
                pasts.append(self._last(course, steps, counts))
            new = (torch.cat(memories), torch.cat(pasts, 2))
        if not batched:
            new = (new[0].squeeze(1), new[1].squeeze(1))
        return self._deliver(x, batched), new

    def _last(self, course: Tensor, steps: int, lengths: Tensor | None) -> Tensor:
        """The last K - 1 valid inputs of each row, `[K - 1, B, features]`."""
        if lengths is None:
            return course[steps:]
        at = torch.arange(self.kernel_size - 1, device=course.device).unsqueeze(1) + lengths
        return course.gather(0, at.unsqueeze(2).expand(-1, -1, course.shape[2]))

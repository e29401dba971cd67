"""One LSTM for each place, and one that joins what they say."""

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


class SpatioTemporalLSTM(Structure):
    """Read series from several places: an LSTM for each place, then one over all their outputs.

    >>> import torch
    >>> layer = SpatioTemporalLSTM(input_size=3, places=4, place_size=5, hidden_size=6)
    >>> out, (h_places, c_places, h, c) = layer(torch.randn(7, 2, 4, 3))  # [T, B, places, I]
    >>> tuple(out.shape), tuple(h_places.shape), tuple(h.shape)
    ((7, 2, 6), (4, 2, 5), (1, 2, 6))
    >>> layer.backend == layer.fusion.backend
    True

    h_l = LSTM_l(x_l) at each place l, with weights of its own
    h = LSTM([h_1; ...; h_L]);  y = W h + b where an output is wanted

    Parameters: 4 L P (I + P + 1) + 4 H (L P + H + 1)
    for L places of P units; O (H + 1) for y. The two biases of an LSTM count as one, as in papers.

    Every LSTM in it runs compiled wherever `holdfast.nn.LSTM` does.

    Arguments:
        input_size: I, features of every place; or one number for each place.
        places: L, how many there are; may be left out where `input_size` is a sequence.
        place_size: P, units of the LSTM of a place.
        hidden_size: H, units of the LSTM that joins them.
        output_size: O > 0 adds the linear y.
        num_layers: layers of the LSTM that joins.
        bias: False leaves out the biases.
        batch_first: input and output are `[B, T, ...]` instead of `[T, B, ...]`; states are not.
        options: those of `holdfast.nn.options.Options`, by name, for every LSTM in it.

    Errors: `TypeError` and `ValueError` for impossible sizes and options.
    Source: Karevan & Suykens 2018.
    """

    def __init__(
        self,
        input_size: int | Sequence[int],
        places: int | None,
        place_size: int,
        hidden_size: int,
        output_size: int = 0,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self._sizes = _each_place(input_size, places)
        for name, size in {"place_size": place_size, "hidden_size": hidden_size}.items():
            checks.check_size(name, size)
        check_flags(bias=bias, batch_first=batch_first)
        check_options(self._get_name(), options)
        self.input_size = input_size
        self.places = len(self._sizes)
        self.place_size = place_size
        self.hidden_size = hidden_size
        self.output_size = output_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        more: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype, **options}
        self.local = nn.ModuleList(LSTM(size, place_size, **more) for size in self._sizes)
        self.fusion = LSTM(self.places * place_size, hidden_size, num_layers, **more)
        self.head = None
        self._bound = 1.0 / math.sqrt(hidden_size)
        if output_size:
            checks.check_size("output_size", output_size)
            self.head = nn.Linear(hidden_size, output_size, bias, device, dtype)
        self.reset_parameters()

    def forward(
        self,
        input: Tensor,
        hx: States | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Tensor, States]:
        """What the joining LSTM, or the linear y, says at every step, and the last states.

        Arguments:
            input: `[T, B, L, I]`; where places have different sizes, their features side by side,
                `[T, B, sum of I]`. `[B, T, ...]` with `batch_first`; without B for a single row.
            hx: initial states `(h_places, c_places, h, c)`, `[L, B, P]` and `[layers, B, H]`.
            lengths: number of valid steps of each row, `[B]`; output is zero beyond.

        Errors: `ValueError` for a wrong dtype or number of dimensions, `RuntimeError` for wrong
        sizes, `TypeError` for what is not a tensor.
        """
        equal = isinstance(self.input_size, int)
        wanted = (self.places, self._sizes[0]) if equal else (sum(self._sizes),)
        x, batched = self._admit(input, wanted)
        steps, batch = x.shape[:2]
        counts = None if lengths is None else as_lengths(lengths, steps, batch, x)
        of_places = (self.places, batch, self.place_size)
        joined = (self.num_layers, batch, self.hidden_size)
        names = ("h_places", "c_places", "h", "c")
        shapes = (of_places, of_places, joined, joined)
        # Without states each LSTM makes its own, which it may have learned.
        given = None if hx is None else self._states(hx, names, shapes, x, batched=batched)
        parts = x.unbind(2) if equal else x.split(self._sizes, 2)
        with calm(x):
            said, last = [], []
            for place, (lstm, part) in enumerate(zip(self.local, parts, strict=True)):
                start = given and (given[0][place : place + 1], given[1][place : place + 1])
                h, states = lstm(part, start, lengths=counts)
                said.append(h)
                last.append(states)
            out, (h, c) = self.fusion(torch.cat(said, 2), given and given[2:], lengths=counts)
            if self.head is not None:
                out = blank(self.head(out), counts)
            h_places, c_places = (torch.cat(state) for state in zip(*last, strict=True))
        states = (h_places, c_places, h, c)
        if not batched:
            states = tuple(state.squeeze(1) for state in states)
        return self._deliver(out, batched), (states[0], states[1], states[2], states[3])


def _each_place(input_size: Any, places: Any) -> tuple[int, ...]:
    """The features of each place."""
    if isinstance(input_size, (tuple, list)):
        for size in input_size:
            checks.check_size("input_size", size)
        if not input_size or places not in (None, len(input_size)):
            raise ValueError(
                f"input_size has {len(input_size)} numbers, one for each place, but places is "
                f"{places}"
            )
        return tuple(input_size)
    checks.check_size("input_size", input_size)
    checks.check_size("places", places)
    return (input_size,) * places

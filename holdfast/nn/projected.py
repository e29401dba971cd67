"""The LSTM with a small recurrent projection, and a second one that does not go back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from holdfast.nn import checks
from holdfast.nn.ragged import as_lengths
from holdfast.nn.recurrent import Recurrent
from holdfast.nn.structure import Structure, blank, calm, check_flags


class LSTMP(Structure):
    """Read sequences with many units but a small recurrence: LSTMP, with all that the paper has.

    >>> import torch
    >>> layer = LSTMP(input_size=3, hidden_size=8, proj_size=4, nonrecurrent_size=2, num_layers=2)
    >>> out, (r, c) = layer(torch.randn(7, 2, 3))  # [T, B, I]
    >>> tuple(out.shape), tuple(r.shape), tuple(c.shape)
    ((7, 2, 6), (2, 2, 4), (2, 2, 8))

    i = sigmoid(W_i x + R_i r_prev + p_i c_prev + b_i);  f likewise
    c = f c_prev + i tanh(W_g x + R_g r_prev + b_g)
    o = sigmoid(W_o x + R_o r_prev + p_o c + b_o);  m = o tanh(c)
    r = W_r m goes back, p = W_p m of the last layer does not;  y = W_yr r + W_yp p + b_y

    Parameters: 4 H (I + P + 1) + H P + 3 H
    in the first layer, with its two biases as one; P in the place of I in the others; H Q for p and
    O (P + Q + 1) for y. Without peepholes 3 H fewer.

    Runs compiled wherever `holdfast.nn.Recurrent` does, p too: o of all steps is one product after
    the loop. For r alone, `holdfast.nn.LSTM(proj_size=...)` has more options.

    Arguments:
        input_size: I, features of the input.
        hidden_size: H, units of each layer.
        proj_size: P, features of r, fewer than H.
        nonrecurrent_size: Q > 0 adds p; the output is `[r; p]` then.
        output_size: O > 0 makes y the output.
        num_layers: layers, each reading r of the one before.
        bias: False leaves out the biases.
        batch_first: input and output are `[B, T, ...]` instead of `[T, B, ...]`; states are not.
        peepholes: False leaves out p_i, p_f and p_o.

    Errors: `TypeError` and `ValueError` for impossible sizes.
    Source: Sak, Senior & Beaufays 2014.
    """

    weight_p: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        proj_size: int,
        nonrecurrent_size: int = 0,
        output_size: int = 0,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        peepholes: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = {"hidden_size": hidden_size, "proj_size": proj_size, "num_layers": num_layers}
        for name, size in sizes.items():
            checks.check_size(name, size)
        check_flags(bias=bias, batch_first=batch_first, peepholes=peepholes)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.proj_size = proj_size
        self.nonrecurrent_size = nonrecurrent_size
        self.output_size = output_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.peepholes = peepholes
        cell = "peephole" if peepholes else "lstm"
        self.layers = nn.ModuleList(
            Recurrent(
                cell,
                proj_size if layer else input_size,
                hidden_size,
                bias=bias,
                proj_size=proj_size,
                device=device,
                dtype=dtype,
            )
            for layer in range(num_layers)
        )
        shapes: dict[str, tuple[int, ...]] = {}
        if nonrecurrent_size:
            checks.check_size("nonrecurrent_size", nonrecurrent_size)
            shapes["weight_p"] = (nonrecurrent_size, hidden_size)
        self._create_parameters(shapes, 1.0 / math.sqrt(hidden_size), device, dtype)
        self.head = None
        if output_size:
            checks.check_size("output_size", output_size)
            width = proj_size + nonrecurrent_size
            self.head = nn.Linear(width, output_size, bias, device, dtype)
        self.reset_parameters()

    def forward(
        self,
        input: Tensor,
        hx: tuple[Tensor, Tensor] | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """`[r; p]` of the last layer, or y, at every step, and the last states `(r, c)`.

        Arguments:
            input: `[T, B, I]`, `[B, T, I]` with `batch_first`, `[T, I]` for a single row.
            hx: initial states r `[L, B, P]` and c `[L, B, H]`, by default zeros.
            lengths: number of valid steps of each row, `[B]`; output is zero beyond.

        Errors: `ValueError` for a wrong dtype or number of dimensions, `RuntimeError` for wrong
        sizes, `TypeError` for what is not a tensor.
        """
        x, batched = self._admit(input, (self.input_size,))
        steps, batch = x.shape[:2]
        counts = None if lengths is None else as_lengths(lengths, steps, batch, x)
        shapes = [(self.num_layers, batch, size) for size in (self.proj_size, self.hidden_size)]
        r, c = self._states(hx, ("r", "c"), shapes, x, batched=batched)
        with calm(x):
            last = []
            entered, cells = x, x
            for number, layer in enumerate(self.layers):
                start = (r[number : number + 1], c[number : number + 1])
                entered = x
                x, states, cells = layer(x, start, lengths=counts, return_cells=True)
                last.append(states)
            out = x
            if self.nonrecurrent_size:
                # Beyond the end of a row the input may hold anything.
                m = self._units(blank(entered, counts), x, r[-1], cells)
                out = torch.cat([x, functional.linear(m, self.weight_p)], 2)
            if self.head is not None:
                out = self.head(out)
            new = [torch.cat(state) for state in zip(*last, strict=True)]
        if not batched:
            new = [state.squeeze(1) for state in new]
        return self._deliver(blank(out, counts), batched), (new[0], new[1])

    def _units(self, x: Tensor, r: Tensor, start: Tensor, cells: Tensor) -> Tensor:
        """m of the last layer, `[T, B, H]`, of which a compiled pass keeps the projection only."""
        weights = dict(self.layers[-1].named_parameters())
        w_o, r_o = (weights[f"weight_{kind}_l0"].chunk(4)[3] for kind in ("ih", "hh"))
        before = torch.cat([start.unsqueeze(0), r])[:-1]
        o = functional.linear(x, w_o) + functional.linear(before, r_o)
        for name in ("bias_ih_l0", "bias_hh_l0") if self.bias else ():
            o = o + weights[name].chunk(4)[3]
        if self.peepholes:
            o = o + weights["p_o_l0"] * cells
        return torch.sigmoid(o) * torch.tanh(cells)

"""One memory for each person, seen through gates by a memory that they share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from holdfast.nn import checks
from holdfast.nn.ragged import as_lengths
from holdfast.nn.structure import (
    Structure,
    blank,
    calm,
    check_flags,
    check_tensor,
    hold,
    valid_steps,
)


class ConcurrentLSTM(Structure):
    """Read what several persons do at once: a memory for each, joined where they matter.

    >>> import torch
    >>> layer = ConcurrentLSTM(input_size=3, hidden_size=5)
    >>> out, (h, c) = layer(torch.randn(7, 2, 4, 3))  # [T, B, P, I], P persons
    >>> tuple(out.shape), tuple(h.shape), tuple(c.shape)
    ((7, 2, 5), (2, 5), (2, 4, 5))

    For the persons p = 1 .. P, who share their weights, with a cell gate s:
    i_p = sigmoid(W_i x_p + R_i h_prev + b_i);  f_p and s_p likewise
    c_p = f_p c_p_prev + i_p tanh(W_g x_p + R_g h_prev + b_g)
    C = sum_p s_p tanh(c_p)
    o = sigmoid(sum_p W_o x_p + R_o h_prev + b_o);  h = o tanh(C)

    Reconstruction: the paper's summary names the sub-memories, the cell gates and the shared
    memory; its equations were not at hand.

    Parameters: 5 H (I + H + 1)
    for any number of persons.

    Runs on PyTorch: compiled cells have a fixed number of states. The products of the inputs of all
    persons and steps are one call.

    Arguments:
        input_size: I, features of a person.
        hidden_size: H, units.
        bias: False leaves out b.
        batch_first: input and output are `[B, T, ...]` instead of `[T, B, ...]`.

    Errors: `TypeError` and `ValueError` for impossible sizes.
    Source: Shu et al. 2018 (H-LSTCM), the concurrent LSTM.
    """

    reason = "there are as many memories as persons, and a compiled cell has a fixed number"
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        batch_first: bool = False,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            checks.check_size(name, size)
        check_flags(bias=bias, batch_first=batch_first)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        self.batch_first = batch_first
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (5 * hidden_size, input_size),
            "weight_hh": (5 * hidden_size, hidden_size),
        }
        if bias:
            shapes["bias_ih"] = (5 * hidden_size,)
        self._create_parameters(shapes, 1.0 / math.sqrt(hidden_size), device, dtype)
        self.reset_parameters()

    def forward(
        self,
        input: Tensor,
        hx: tuple[Tensor, Tensor] | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The joint output at every step, and the last states `(h, c)`.

        Arguments:
            input: `[T, B, P, I]`, `[B, T, P, I]` with `batch_first`, `[T, P, I]` for a single row.
            hx: initial states h `[B, H]` and c `[B, P, H]`, by default zeros.
            lengths: number of valid steps of each row, `[B]`; output is zero beyond.
            present: which persons there are, `[B, P]` of bool, by default all; the others change
                nothing, whatever their features.

        Errors: `ValueError` for a wrong dtype or number of dimensions, `RuntimeError` for wrong
        sizes, `TypeError` for what is not a tensor.
        """
        x, batched = self._admit(input, (None, self.input_size))
        steps, batch, persons = x.shape[:3]
        counts = None if lengths is None else as_lengths(lengths, steps, batch, x)
        shapes = ((batch, self.hidden_size), (batch, persons, self.hidden_size))
        h, c = self._states(hx, ("h", "c"), shapes, x, batched=batched, at=0)
        here = self._present(present, batch, persons, x, batched)
        with calm(x):
            x = blank(x, counts)
            if here is not None:
                x = torch.where(here, x, 0.0)
            out, h, c = self._run(x, h, c, here, counts)
        out = blank(out, counts)
        if not batched:
            h, c = h.squeeze(0), c.squeeze(0)
        return self._deliver(out, batched), (h, c)

    def _present(
        self, present: Tensor | None, batch: int, persons: int, x: Tensor, batched: bool
    ) -> Tensor | None:
        """Which persons there are, `[B, P, 1]`."""
        if present is None:
            return None
        check_tensor(self._get_name(), "present", present)
        here = present if batched else present.unsqueeze(0)
        if here.dtype != torch.bool or here.shape != (batch, persons):
            raise ValueError(
                f"present should be of bool and size ({batch}, {persons}), got {present.dtype} of "
                f"size {list(present.shape)}"
            )
        return here.to(x.device).unsqueeze(2)

    def _run(
        self, x: Tensor, h: Tensor, c: Tensor, here: Tensor | None, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        units = self.hidden_size
        own, joint = self.weight_ih.split([4 * units, units])
        b_own, b_joint = self.bias_ih.split([4 * units, units]) if self.bias else (None, None)
        entered = functional.linear(x, own, b_own).unbind(0)  # [B, P, 4 H] a step
        together = functional.linear(x.sum(2), joint, b_joint).unbind(0)  # [B, H] a step
        outs = []
        steps = zip(entered, together, valid_steps(lengths, x.shape[0]), strict=True)
        for gates, output, at in steps:
            back, back_o = functional.linear(h, self.weight_hh).split([4 * units, units], 1)
            i, f, g, s = (gates + back.unsqueeze(1)).chunk(4, 2)
            new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            seen = torch.sigmoid(s) * torch.tanh(new)
            if here is not None:
                new, seen = torch.where(here, new, c), torch.where(here, seen, 0.0)
            joined = torch.sigmoid(output + back_o) * torch.tanh(seen.sum(1))
            h, c = hold(at, joined, h), hold(at, new, c)
            outs.append(h)
        return torch.stack(outs), h, c

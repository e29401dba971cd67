"""Rows that begin anew: as if the sequence had been cut there, in both directions."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from holdfast.nn import GRU, LSTM, Recurrent
from tests.helpers import assert_same, unequal_
from tests.use.layers import drawn, initial, observed, target

T, B = 7, 4
LENGTHS = [7, 4, 0, 6]
AT = torch.zeros(T, B, dtype=torch.bool)
AT[0, 0] = AT[3, 0] = AT[4, 0] = AT[2, 1] = AT[4, 1] = AT[0, 2] = AT[5, 3] = True
"""The first step, two in a row, the step after the end of row 1, a row without steps."""


class Cut(nn.Module):
    """One bidirectional layer of PyTorch, run on each piece of each row by itself."""

    def __init__(self, layer: Recurrent) -> None:
        super().__init__()
        self.layer = layer

    def named_parameters(self, *args: Any, **options: Any) -> Any:
        return self.layer.named_parameters(*args, **options)

    def forward(self, x: Tensor, hx: Any, lengths: list[int]) -> Any:
        rows = [
            self.row(x[:, b], tuple(state[:, b] for state in hx), length, AT[:, b])
            for b, length in enumerate(lengths)
        ]
        return tuple(torch.stack(values, 1) for values in zip(*rows, strict=True))

    def row(self, x: Tensor, hx: Any, length: int, at: Tensor) -> tuple[Tensor, ...]:
        """Output, h and c of a single sequence."""
        outs, lasts = [], []
        for way in range(2 if self.layer.bidirectional else 1):
            borders = [0, *(t for t in range(1, length) if at[t]), length]
            pieces = list(pairwise(borders))
            zeros = tuple(torch.zeros_like(state[way]) for state in hx)
            last = tuple(state[way] for state in hx)
            course = []
            for start, stop in reversed(pieces) if way else pieces:
                first = stop == length if way else start == 0
                forgets = not first or (not way and length > 0 and bool(at[0]))
                state = zeros if forgets else last
                piece = x[start:stop].flip(0) if way else x[start:stop]
                out, last = self.run(piece, state, way) if stop > start else (piece[:, :0], state)
                course.append(out.flip(0) if way else out)
            course = course[::-1] if way else course
            out = torch.cat(course) if length else x.new_zeros(0, self.layer._sizes.width(0))
            outs.append(nn.functional.pad(out, (0, 0, 0, T - length)))
            lasts.append(last)
        return torch.cat(outs, 1), *(torch.stack(state) for state in zip(*lasts, strict=True))

    def run(self, x: Tensor, state: Any, way: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One direction over a piece, `[T, I]`."""
        suffix = "_l0_reverse" if way else "_l0"
        found = {n: v for n, v in self.layer.named_parameters() if n.endswith(suffix)}
        named: dict[str, Any] = {n.removesuffix(suffix) + "_l0": v for n, v in found.items()}
        kind = nn.LSTM if self.layer.cell.states else nn.GRU
        module = kind(self.layer.input_size, self.layer._sizes.hidden[0], dtype=torch.float64)
        given = tuple(s.unsqueeze(0) for s in state)
        given = given if self.layer.cell.states else given[0]
        out, last = torch.func.functional_call(module, named, (x, given))
        return out, tuple(s[0] for s in (last if isinstance(last, tuple) else (last,)))


@pytest.mark.parametrize("name", ["eager", "default"])
@pytest.mark.parametrize("two_way", [False, True], ids=["forward", "bidirectional"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("lengths", [[T] * B, LENGTHS], ids=["dense", "ragged"])
def test_a_reset_is_a_cut(
    name: str, two_way: bool, cell: str, lengths: list[int], generator: torch.Generator
) -> None:
    layer: Any = Recurrent(cell, 3, 5, bidirectional=two_way, dtype=torch.float64)
    unequal_(layer, generator)
    x = drawn((T, B, 3), generator)
    hx = initial(layer, B, generator, torch.float64)
    hx = hx if isinstance(hx, tuple) else (hx,)
    ragged = None if lengths == [T] * B else lengths

    class Ours(nn.Module):
        named_parameters = layer.named_parameters

        def forward(self, x: Tensor, hx: Any) -> Any:
            given = hx if layer.cell.states else hx[0]
            return layer(x, given, lengths=ragged, resets=AT)

    with target(name):
        mine = observed(Ours(), x, hx)
    assert_same(mine, observed(Cut(layer), x, hx, lengths=lengths))


def test_in_every_layer_and_arrangement(generator: torch.Generator) -> None:
    layer: Any = unequal_(LSTM(3, 5, 2, bidirectional=True, dtype=torch.float64), generator)
    x = drawn((T, B, 3), generator)
    out, last = layer(x, resets=AT)
    other = x.clone()
    other[:3, 0] += 1
    assert_same(layer(other, resets=AT)[0][3:, 0], out[3:, 0], "nothing passes forwards")
    other = x.clone()
    other[4:, 0] += 1
    assert_same(layer(other, resets=AT)[0][:4, 0], out[:4, 0], "nor backwards")
    single = layer(x[:, 1], resets=AT[:, 1])
    assert_same(single[0], out[:, 1], "a single sequence")
    layer.batch_first = True
    turned = layer(x.transpose(0, 1), resets=AT.t())
    assert_same((turned[0].transpose(0, 1), turned[1]), (out, last), "batch_first")


def test_a_reset_goes_back_to_the_learned_start(generator: torch.Generator) -> None:
    layer: Any = unequal_(LSTM(3, 5, learned_start=True, dtype=torch.float64), generator)
    x = drawn((T, 1, 3), generator)
    hx = initial(layer, 1, generator, torch.float64)
    at = torch.zeros(T, 1, dtype=torch.bool)
    at[3] = True
    out, last = layer(x, hx, resets=at)
    later = layer(x[3:])
    assert_same((out[3:], last), later)
    assert_same(out[:3], layer(x[:3], hx)[0])
    gradient = torch.autograd.grad(out[3:].sum(), layer.c_start_l0)
    assert_same(gradient, torch.autograd.grad(later[0].sum(), layer.c_start_l0))
    assert float(gradient[0].abs().max()) > 0


def test_a_reset_changes_no_mask(generator: torch.Generator) -> None:
    options = {"zoneout": {"c": 0.5}, "recurrent_dropout": 0.5}
    layer: Any = unequal_(LSTM(3, 5, dtype=torch.float64, **options), generator)
    x = drawn((T, B, 3), generator)
    at = torch.zeros(T, B, dtype=torch.bool)
    at[3] = True
    out, last = layer(x, resets=at, seed=3)
    assert_same((out[3:], last), layer(x[3:], seed=3, first_step=3))
    assert_same(layer(x, resets=torch.zeros_like(at), seed=3), layer(x, seed=3), "no reset")


@pytest.mark.parametrize(
    ("resets", "error", "message"),
    [
        (torch.zeros(T, B), TypeError, "tensor of torch.bool, got: torch.float32"),
        ([[True]], TypeError, "tensor of torch.bool, got: list"),
        (AT.t(), RuntimeError, r"Expected resets size \(7, 4\), got \[4, 7\]"),
        (AT[:, 0], RuntimeError, r"Expected resets size \(7, 4\), got \[7\]"),
    ],
    ids=["float", "list", "turned", "1-D"],
)
def test_wrong_resets(resets: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        GRU(3, 5)(torch.zeros(T, B, 3), resets=resets)


def test_packed_input_has_no_resets() -> None:
    packed = pack_padded_sequence(torch.zeros(2, 1, 3), torch.tensor([2]))
    with pytest.raises(ValueError, match="resets= needs padded input"):
        GRU(3, 5)(packed, resets=AT)

"""Truncated backpropagation: the values stay, the gradient ends; against chunks by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from holdfast.nn import GRU, LSTM, Recurrent, tbptt
from tests.helpers import assert_same, unequal_
from tests.use.layers import drawn, initial, observed, tensors

T, B = 8, 3
RESETS = torch.zeros(T, B, dtype=torch.bool)
RESETS[3, 0] = RESETS[5, 0] = RESETS[6, 1] = True
MASKS: dict[str, Any] = {"input_dropout": 0.3, "zoneout": 0.2, "recurrent_dropout": 0.3}


class Chunked(nn.Module):
    """A layer run in chunks, the states detached in between."""

    def __init__(self, layer: Recurrent, steps: int) -> None:
        super().__init__()
        self.layer, self.steps = layer, steps

    def named_parameters(self, *args: Any, **options: Any) -> Any:
        return self.layer.named_parameters(*args, **options)

    def forward(self, x: Tensor, hx: Any = None, **options: Any) -> Any:
        outs, cells = [], []
        lengths = options.pop("lengths", None)
        for start in range(0, T, self.steps):
            part = slice(start, start + self.steps)
            more = dict(options, first_step=start)
            if lengths is not None:
                count = len(x[part])
                more["lengths"] = [min(max(n - start, 0), count) for n in lengths]
            if "resets" in options:
                more["resets"] = options["resets"][part]
            if hx is not None and start:
                hx = tuple(s.detach() for s in hx) if isinstance(hx, tuple) else hx.detach()
            out, hx, *rest = self.layer(x[part], hx, **more)
            outs.append(out)
            cells += rest
        return torch.cat(outs), hx, *([torch.cat(cells)] if cells else [])


CALLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "lengths": {"lengths": [8, 0, 5]},
    "resets": {"resets": RESETS},
    "all": {"lengths": [8, 4, 5], "resets": RESETS, "seed": 3},
}


@pytest.mark.parametrize("steps", [1, 3, 4, 20])
@pytest.mark.parametrize("call", CALLS)
def test_gradient_ends_and_values_stay(call: str, steps: int, generator: torch.Generator) -> None:
    masks = MASKS if "seed" in CALLS[call] else {}
    layer: Any = unequal_(LSTM(3, 5, 2, dtype=torch.float64, **masks), generator)
    x = drawn((T, B, 3), generator)
    hx = initial(layer, B, generator, torch.float64)
    options = {**CALLS[call], "return_cells": True}
    cut = observed(layer, x, hx, tbptt=steps, **options)
    whole = observed(layer, x, hx, **options)
    assert_same(cut["results"], whole["results"])
    assert_same(cut, observed(Chunked(layer, steps), x, hx, **options))
    differs = [name for name in whole if not _equal(cut[name], whole[name])]
    assert bool(differs) == (steps < T)


def _equal(mine: Any, theirs: Any) -> bool:
    pairs = zip(tensors(mine), tensors(theirs), strict=True)
    return all(torch.allclose(one, other) for one, other in pairs)


def test_packed_and_other_arrangements(generator: torch.Generator) -> None:
    layer: Any = unequal_(GRU(3, [5, 4], dtype=torch.float64, dropout=0.5, **MASKS), generator)
    x = drawn((T, B, 3), generator)
    lengths = [8, 3, 5]
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    padded = observed(layer.eval(), x, lengths=lengths, tbptt=3)
    mine = observed(layer, packed, tbptt=3)
    out, *states = mine["results"]
    out = pad_packed_sequence(packed._replace(data=out))[0]
    assert_same([out, *states], padded["results"])
    weights = [name for name in mine if "_l" in name]
    assert len(weights) == 8
    layer.train()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        whole = layer(packed, seed=3)
        torch.manual_seed(1)
        assert_same(tensors(layer(packed, seed=3, tbptt=3)), tensors(whole))
    single = layer.eval()(x[:, 0], tbptt=3)
    assert_same(tensors(single), tensors(layer(x[:, 0])))


def test_gradients_of_packed_chunks(generator: torch.Generator) -> None:
    layer: Any = unequal_(LSTM(3, 5, dtype=torch.float64), generator)
    x = drawn((T, B, 3), generator)
    packed = pack_padded_sequence(x, torch.tensor([8, 5, 3]))
    gradients = []
    for given, more in ((packed, {}), (x, {"lengths": [8, 5, 3]})):
        layer.zero_grad()
        out, (h, c) = layer(given, tbptt=3, **more)
        (tensors(out)[0].square().sum() + h.sum() + c.sum()).backward()
        gradients.append([p.grad for p in layer.parameters()])
    assert_same(*gradients)


@pytest.mark.parametrize("batch_first", [False, True])
def test_the_training_loop(batch_first: bool, generator: torch.Generator) -> None:
    layer: Any = unequal_(
        LSTM(3, 5, batch_first=batch_first, dtype=torch.float64, **MASKS), generator
    )
    x, y = drawn((T, B, 3), generator), drawn((T, B), generator)
    hx = initial(layer, B, generator, torch.float64)
    options: dict[str, Any] = {"lengths": [8, 4, 5], "resets": RESETS, "seed": 3}
    if batch_first:
        x, y, options["resets"] = x.transpose(0, 1), y.t(), RESETS.t()
    start = tuple(state.clone().requires_grad_() for state in hx)
    chunks = tbptt(layer, x, y, x, steps=3, hx=start, **options)
    outs, ys = [], []
    for out, target, same in chunks:
        assert out.shape[:2] == target.shape == same.shape[:2]
        assert not any(state.requires_grad for state in chunks.hx)
        out.sum().backward()
        outs.append(out)
        ys.append(target)
    time = int(batch_first)
    assert_same(torch.cat(ys, time), y)
    assert_same(torch.cat(outs, time), layer(x, hx, **options)[0])
    assert start[0].grad is not None


def test_the_training_loop_takes_the_gradient_of_each_chunk(generator: torch.Generator) -> None:
    layer: Any = unequal_(GRU(3, 5, dtype=torch.float64), generator)
    x = drawn((T, B, 3), generator)
    for (out,) in tbptt(layer, x, steps=3):
        out.square().sum().backward()
    mine = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    layer(x, tbptt=3)[0].square().sum().backward()
    assert_same(mine, [p.grad for p in layer.parameters()])


def test_chunks_of_one_loop_share_their_masks(generator: torch.Generator) -> None:
    layer: Any = unequal_(GRU(3, 5, dtype=torch.float64, output_dropout=0.5), generator)
    x = drawn((T, B, 3), generator)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        out = torch.cat([out for (out,) in tbptt(layer, x, steps=3, first_step=[0, 1, 2])])
        torch.manual_seed(3)
        other = next(tbptt(layer, x, steps=3))[0]
    zero = out == 0
    assert torch.equal(zero, zero[:1].expand_as(zero))
    assert not torch.equal(other == 0, zero[:3])
    plain = GRU(3, 5)
    before = torch.get_rng_state()
    next(tbptt(plain, x.float(), steps=3))
    next(tbptt(layer.eval(), x, steps=3))
    assert torch.equal(before, torch.get_rng_state()), "nothing is drawn that is not needed"


X = torch.zeros(T, B, 3)
PACKED: Any = pack_padded_sequence(X, torch.tensor([8, 8, 8]))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LSTM(3, 5)(X, tbptt=0), ValueError, "at least 1 step, got: 0"),
        (lambda: LSTM(3, 5)(X, tbptt=2.0), TypeError, "a number of steps, got: float"),
        (lambda: LSTM(3, 5)(X, tbptt=True), TypeError, "a number of steps, got: bool"),
        (
            lambda: LSTM(3, 5, bidirectional=True)(X, tbptt=2),
            ValueError,
            "tbptt is not possible with bidirectional=True",
        ),
        (
            lambda: tbptt(LSTM(3, 5, bidirectional=True), X, steps=2),
            ValueError,
            "tbptt is not possible with bidirectional=True",
        ),
        (
            lambda: tbptt(LSTM(3, 5), X, X[:4], steps=2),
            ValueError,
            r"8 steps .* \[4, 3, 3\] for nu",
        ),
        (
            lambda: tbptt(LSTM(3, 5), X, resets=RESETS[:4], steps=2),
            ValueError,
            r"8 steps .* \[4, 3\]",
        ),
        (lambda: tbptt(LSTM(3, 5), X, lengths=[1, 2, 9], steps=2), ValueError, "range 0 to 8"),
        (lambda: tbptt(LSTM(3, 5), X, lengths=[1, 2, -1], steps=2), ValueError, "range 0 to 8"),
        (
            lambda: tbptt(LSTM(3, 5), PACKED, steps=2),
            ValueError,
            "padded input only",
        ),
    ],
    ids=lambda value: "",
)
def test_wrong_truncation(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()

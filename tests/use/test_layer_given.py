"""Layers of cells that are given sequences unit by unit, look back, or have tied gates."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from holdfast import Cell, cell, sigmoid, tanh
from holdfast.compiler.tie import permuted, rows, shared
from holdfast.errors import CellError
from holdfast.nn import Recurrent, RecurrentCell, init
from tests.helpers import assert_same, unequal_

T, B, I, H = 5, 3, 3, 4


@cell(gates="i g", state="c", inputs="clock")
def timed(i, g, c, clock, x):
    """The input unit by unit, a clock, and the memory of two steps ago."""
    c = sigmoid(i) * tanh(g) + clock * c + 0.5 * c.lag(2) + 0.25 * x.lag(1)
    return tanh(c) * (1 - x), c


@cell(gates="i g p q", state="c", ties={"i": shared(2), "q": permuted("p", seed=3)})
def tied(i, g, p, q, c):
    """One i for two units, and a q with the rows of p in another order."""
    c = sigmoid(i) * c + tanh(g) * sigmoid(p)
    return tanh(c) * sigmoid(q), c


def _layer(which: Cell, generator: torch.Generator, features: int = I, **options: Any) -> Recurrent:
    layer = Recurrent(which, features, H, dtype=torch.float64, **options)
    unequal_(layer, generator)
    return layer


def _draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5


@pytest.mark.parametrize("features", [I, H])
def test_a_layer_is_its_equations(features: int, generator: torch.Generator) -> None:
    layer = _layer(timed, generator, features)
    x, clock = _draw(generator, T, B, features), _draw(generator, T, B)
    assert ("weight_x_l0" in dict(layer.named_parameters())) == (features != H)
    assert layer.backend == "llvm"
    unit = x if features == H else x @ layer.get_parameter("weight_x_l0").T
    h, c, old = (torch.zeros(B, H, dtype=torch.float64) for _ in range(3))
    late = torch.zeros(B, H, dtype=torch.float64)
    out = []
    for t in range(T):
        sums = x[t] @ layer.get_parameter("weight_ih_l0").T + layer.get_parameter("bias_ih_l0")
        i, g = (
            sums + h @ layer.get_parameter("weight_hh_l0").T + layer.get_parameter("bias_hh_l0")
        ).chunk(2, 1)
        new = torch.sigmoid(i) * torch.tanh(g) + clock[t, :, None] * c + 0.5 * old + 0.25 * late
        h, c, old, late = torch.tanh(new) * (1 - unit[t]), new, c, unit[t]
        out.append(h)
    found, states = layer(x, extra={"clock": clock})
    assert_same(found, torch.stack(out))
    assert_same(states, tuple(one[None] for one in (h, c, old, late)))
    mine, theirs = (
        torch.autograd.grad(one.square().sum(), tuple(layer.parameters()))
        for one in (found, torch.stack(out))
    )
    assert_same(mine, theirs)


def test_extra_in_every_shape_and_way(generator: torch.Generator) -> None:
    layer = _layer(timed, generator, num_layers=2, bidirectional=True)
    x, clock = _draw(generator, T, B, I), _draw(generator, T, B)
    lengths = torch.tensor([5, 3, 1])
    wanted, last = layer(x, lengths=lengths, extra={"clock": clock})
    for shape in (clock[:, :, None], clock[:, :, None].expand(T, B, H)):
        assert_same(layer(x, lengths=lengths, extra={"clock": shape})[0], wanted)
    first = copy.deepcopy(layer)
    first.batch_first = True
    turned = {"clock": clock.T}
    out, _ = first(x.transpose(0, 1), lengths=lengths, extra=turned)
    assert_same(out, wanted.transpose(0, 1))
    packed = pack_padded_sequence(x, lengths)
    out, states = layer(packed, extra={"clock": pack_padded_sequence(clock, lengths)})
    assert_same(pad_packed_sequence(out)[0], wanted)
    assert_same(states, last)
    alone, _ = layer(x[:, 0], extra={"clock": clock[:, 0]})
    assert_same(alone, wanted[:, 0])


def test_chunks_are_the_whole(generator: torch.Generator) -> None:
    layer = _layer(timed, generator)
    x, clock = _draw(generator, T, B, I), _draw(generator, T, B)
    wanted, last = layer(x, extra={"clock": clock})
    first, states = layer(x[:2], extra={"clock": clock[:2]})
    second, states = layer(x[2:], states, extra={"clock": clock[2:]})
    assert_same(torch.cat([first, second]), wanted)
    assert_same(states, last)
    truncated, _ = layer(x, extra={"clock": clock}, tbptt=2)
    assert_same(truncated, wanted)
    step = RecurrentCell(timed, I, H, dtype=torch.float64)
    step.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
    states = None
    for t in range(T):
        states = step(x[t], states, extra={"clock": clock[t]})
    assert states is not None
    assert_same(states[0], wanted[-1])


def test_wrong_extras(generator: torch.Generator) -> None:
    layer = _layer(timed, generator)
    x = _draw(generator, T, B, I)
    with pytest.raises(ValueError, match="takes the sequences clock, got: none"):
        layer(x)
    with pytest.raises(ValueError, match="takes the sequences clock, got: clock, time"):
        layer(x, extra={"clock": x[..., 0], "time": x[..., 0]})
    with pytest.raises(ValueError, match=r"clock should have the shape \[5, 3\], with 1 or H"):
        layer(x, extra={"clock": x[..., 0].T})
    with pytest.raises(ValueError, match="clock should be a tensor, got float"):
        layer(x, extra={"clock": 0.5})
    with pytest.raises(ValueError, match="takes the sequences none, got: clock"):
        Recurrent("lstm", I, H)(x.float(), extra={"clock": x[..., 0]})


def test_tied_gates_are_the_whole_ones(generator: torch.Generator) -> None:
    layer = _layer(tied, generator, num_layers=2, bidirectional=True)
    assert layer.get_parameter("weight_ih_l0").shape == (2 + 4 + 4, I)
    assert layer.get_parameter("weight_hh_l1").shape == (2 + 4 + 4, H)
    assert layer.get_parameter("bias_ih_l0").shape == (2 + 4 + 4,)

    @cell(gates="i g p q", state="c")
    def whole(i, g, p, q, c):
        c = sigmoid(i) * c + tanh(g) * sigmoid(p)
        return tanh(c) * sigmoid(q), c

    reference = _layer(whole, generator, num_layers=2, bidirectional=True)
    order = torch.from_numpy(rows(permuted("p", seed=3), H))
    index = torch.cat([torch.tensor([0, 0, 1, 1]), torch.arange(2, 10), 6 + order])
    kept = {name: value[index] for name, value in layer.state_dict().items()}
    reference.load_state_dict(kept)
    x = _draw(generator, T, B, I)
    out, expected = layer(x)[0], reference(x)[0]
    assert_same(out, expected)
    mine = torch.autograd.grad(out.square().sum(), tuple(layer.parameters()))
    theirs = torch.autograd.grad(expected.square().sum(), tuple(reference.parameters()))
    summed = [torch.zeros_like(m).index_add(0, index, t) for m, t in zip(mine, theirs, strict=True)]
    assert_same(list(mine), summed)


def test_initial_values_of_tied_gates(generator: torch.Generator) -> None:
    layer = Recurrent(tied, I, H)
    init.bias_(layer, "i", [1.0, 2.0])
    assert (layer.get_parameter("bias_ih_l0") + layer.get_parameter("bias_hh_l0"))[:2].tolist() == [
        1.0,
        2.0,
    ]
    init.orthogonal_(layer, generator=generator)
    block = layer.get_parameter("weight_hh_l0")[2:6]
    assert torch.allclose(block @ block.T, torch.eye(4), atol=1e-5)


def test_sizes_that_cannot_be(generator: torch.Generator) -> None:
    with pytest.raises(CellError, match="multiple of 2, got 5"):
        Recurrent(tied, I, 5)
    with pytest.raises(CellError, match="multiple of 2, got 3"):
        Recurrent("rot_lstm", I, 3)
    with pytest.raises(CellError, match="multiple of 2, got 3"):
        RecurrentCell("associative", I, 3)


def test_a_weight_begins_with_its_number() -> None:
    layer = Recurrent("phased", I, H)
    assert layer.get_parameter("tau_l0").tolist() == [20.0] * H
    assert RecurrentCell("phased", I, H).get_parameter("r_on").tolist() == pytest.approx([0.05] * H)


def test_wrong_definitions() -> None:
    def refused(match: str, **declared: Any) -> None:
        with pytest.raises(CellError, match=match):

            @cell(**declared)
            def wrong(g, c):
                return tanh(g), c

    refused("there is no gate `o`", gates="g", state="c", ties={"o": shared(2)})
    refused("there is no gate `o`", gates="g", state="c", ties={"g": permuted("o", 1)})
    refused("has tied rows itself", gates="g", state="c", ties={"g": permuted("g", 1)})
    refused("`x` is the input of the step", gates="g", state="c", weights="x")
    with pytest.raises(CellError, match="shared"):
        shared(0)
    with pytest.raises(CellError, match=r"c.lag\(0\): expected a whole number of steps, 1"):

        @cell(gates="g", state="c")
        def early(g, c):
            return tanh(g + c.lag(0)), c

    with pytest.raises(CellError, match="only a state or an input has a lag; this is g"):

        @cell(gates="g")
        def gate(g):
            return tanh(g.lag(2))

    with pytest.raises(CellError, match="input `k` does not reach any result"):

        @cell(gates="g", inputs="k")
        def unused(g, k):
            return tanh(g)

    with pytest.raises(CellError, match="would not see its input"):

        @cell(gates={"g": "R h"})
        def blind(g):
            return tanh(g)

"""Initial values: each function writes what its paper says, and nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from holdfast.nn import GRU, LSTM, RNN, Recurrent, init
from tests.helpers import assert_same, unequal_


def gates(layer: Any, name: str, units: int = 5) -> dict[str, Tensor]:
    """The parts of a parameter, by gate."""
    return dict(zip("ifgo", getattr(layer, name).detach().split(units), strict=True))


@pytest.mark.parametrize("cell", ["lstm", "peephole"])
def test_forget_bias_is_the_sum_of_both(cell: str) -> None:
    layer = Recurrent(cell, 3, 5, 2, bidirectional=True)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    init.forget_bias_(layer, 1.5)
    for suffix in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
        both = gates(layer, f"bias_ih{suffix}")["f"] + gates(layer, f"bias_hh{suffix}")["f"]
        assert_same(both, torch.full((5,), 1.5))
    for name, value in layer.state_dict().items():
        kept = [0, 2, 3] if name.startswith("bias") else [0, 1, 2, 3]
        parts, old = value.split(5), before[name].split(5)
        assert all(torch.equal(parts[n], old[n]) for n in kept[: len(parts)])


def test_the_bias_of_any_gate_unit_by_unit(generator: torch.Generator) -> None:
    layer = LSTM(3, 2, num_layers=2)
    unequal_(layer, generator)
    before = {name: value.clone() for name, value in layer.named_parameters()}
    init.bias_(layer, "o", [-1.0, 2.0])
    for number in range(2):
        total = layer.get_parameter(f"bias_ih_l{number}") + layer.get_parameter(
            f"bias_hh_l{number}"
        )
        assert total[6:].tolist() == [-1.0, 2.0]
        for kind in ("bias_ih", "bias_hh"):
            name = f"{kind}_l{number}"
            assert torch.equal(layer.get_parameter(name)[:6], before[name][:6])
    with pytest.raises(ValueError, match="the cell lstm has no gate q for a bias; it has i, f, g"):
        init.bias_(layer, "q", 0.0)


def test_forget_bias_as_an_option() -> None:
    layer: Any = LSTM(3, 5, forget_bias=2)
    assert_same((layer.bias_ih_l0 + layer.bias_hh_l0)[5:10], torch.full((5,), 2.0))
    layer.reset_parameters()
    assert_same((layer.bias_ih_l0 + layer.bias_hh_l0)[5:10], torch.full((5,), 2.0))
    normed: Any = LSTM(3, 5, forget_bias=1.0, layer_norm=True)
    assert_same(normed.bias_f_l0, torch.ones(5))
    assert not normed.bias_i_l0.any()
    assert bool((normed.gain_ih_f_l0 == 1).all())
    assert bool((normed.gain_c_l0 == 1).all())
    assert not normed.bias_c_l0.any()
    single: Any = LSTM(3, 5, forget_bias=1.0, recurrence="diagonal")
    total = gates(single, "bias_ih_l0")["f"]
    total = total + (gates(single, "bias_hh_l0")["f"] if hasattr(single, "bias_hh_l0") else 0)
    assert_same(total, torch.ones(5))
    assert LSTM(3, 5, forget_bias=1.0, dtype=torch.float64).bias_ih_l0.dtype == torch.float64


def test_chrono_spreads_over_times(generator: torch.Generator) -> None:
    layer: Any = LSTM(3, 400)
    init.chrono_(layer, 101, generator)
    biases = [gates(layer, f"bias_{part}_l0", 400) for part in ("ih", "hh")]
    f, i = (biases[0][name] + biases[1][name] for name in "fi")
    assert_same(f, -i)
    times = f.exp()
    assert 1 <= times.min() < 5
    assert 95 < times.max() <= 100
    assert abs(float(times.mean()) - 50.5) < 5
    again: Any = LSTM(3, 400)
    init.chrono_(again, 101, torch.Generator().manual_seed(20_240_229))
    assert_same(gates(again, "bias_ih_l0", 400)["f"], biases[0]["f"])
    init.chrono_(layer, 2)
    assert not gates(layer, "bias_ih_l0", 400)["f"].any(), "log 1"


@pytest.mark.parametrize(
    ("options", "shape"),
    [({}, (8, 6, 6)), ({"recurrence": 3}, (24, 2, 2)), ({"proj_size": 4}, (8, 6, 4))],
    ids=["dense", "heads", "projected"],
)
def test_orthogonal_blocks(options: dict[str, Any], shape: Any, generator: torch.Generator) -> None:
    layer: Any = LSTM(3, 6, 2, **options)
    before = layer.weight_ih_l0.clone()
    init.orthogonal_(layer, 2.0, generator)
    blocks = torch.cat([layer.weight_hh_l0, layer.weight_hh_l1]).detach().reshape(shape)
    products = blocks.transpose(1, 2) @ blocks
    assert torch.allclose(products, 4 * torch.eye(shape[2]).expand_as(products), atol=1e-5)
    assert len({float(block[0, 0]) for block in blocks}) == len(blocks), "each is another"
    assert torch.equal(layer.weight_ih_l0, before)


def test_uniform(generator: torch.Generator) -> None:
    layer: Any = LSTM(3, [4, 100], layer_norm=True, learned_start=True, highway=False)
    init.uniform_(layer, generator=generator)
    for k, units in ((0, 4), (1, 100)):
        largest = float(getattr(layer, f"weight_hh_l{k}").detach().abs().max())
        assert 0.9 / math.sqrt(units) < largest <= 1 / math.sqrt(units)
    init.uniform_(layer, 0.01, generator)
    assert float(layer.weight_ih_l0.detach().abs().max()) <= 0.01
    assert bool((layer.gain_hh_o_l1 == 1).all())
    assert not layer.h_start_l1.any()
    around: Any = GRU(4, 4, highway=True)
    assert_same(around.bias_highway_l0, torch.full((4,), -1.0))
    assert 0.3 < float(around.weight_highway_l0.detach().abs().max()) <= 0.5
    with torch.random.fork_rng():
        torch.manual_seed(4)
        mine = LSTM(3, 5, 2, bidirectional=True)
        torch.manual_seed(4)
        theirs = nn.LSTM(3, 5, 2, bidirectional=True)
    assert_same(dict(mine.state_dict()), dict(theirs.state_dict()))


def normed() -> Any:
    return parametrizations.weight_norm(LSTM(3, 5), "weight_hh_l0")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: init.forget_bias_(GRU(3, 5)), "the cell gru has no gate f for a bias; it has r"),
        (lambda: GRU(3, 5, forget_bias=1.0), "the cell gru has no gate f"),
        (lambda: init.forget_bias_(LSTM(3, 5, bias=False)), "the gate f of this layer has no bias"),
        (lambda: LSTM(3, 5, bias=False, forget_bias=1.0), "the gate f of this layer has no bias"),
        (lambda: init.chrono_(LSTM(3, 5), 1), "longest should be at least 2 steps, got: 1"),
        (lambda: init.chrono_(RNN(3, 5), 9), "no gate f"),
        (lambda: init.orthogonal_(RNN(3, 5, recurrence="diagonal")), "has no matrix weight_hh"),
        (
            lambda: init.orthogonal_(normed()),
            "weight_hh_l0 is parametrized; initialize it before",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_initialized(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()

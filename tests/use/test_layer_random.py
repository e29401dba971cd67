"""Masks of a layer: each against plain PyTorch with the same masks, seeds, and evaluation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from holdfast.compiler.noise import Noise, bits, draw, fold
from holdfast.nn import GRU, LSTM, Recurrent
from holdfast.nn.randomness import CELL, INPUT, OUTPUT, USES, WEIGHT
from tests.helpers import assert_same, unequal_
from tests.use.layers import drawn, target, tensors
from tests.use.plain import both, lstm

SEEDS = torch.tensor([7, -3])
EVERY = {
    "input_dropout": 0.3,
    "output_dropout": 0.4,
    "recurrent_dropout": 0.5,
    "zoneout": {"h": 0.3, "c": 0.2},
}
"""Every option that draws masks for rows."""


def made(generator: torch.Generator, **options: Any) -> Any:
    return unequal_(LSTM(3, 5, dtype=torch.float64, **options), generator)


def mask(p: float, number: int = 0, step: int | None = None, values: Any = None) -> Tensor:
    """A mask of the cell of the first layer, `[B, 5]`."""
    row = [p, *(values or (1 / (1 - p), 0.0))]
    table = torch.tensor([row] * (number + 1), dtype=torch.float64)
    return draw(Noise(fold(SEEDS, CELL), table), number, 5, torch.float64, step)


def features(p: float, use: int, count: int) -> Tensor:
    """The mask on the input or output of the first layer."""
    kept = bits(fold(SEEDS, use), 0, None, count) >= round(p * 2**32)
    return kept.double() / (1 - p)


def test_input_and_output_dropout(generator: torch.Generator) -> None:
    layer = made(generator, input_dropout=0.4, output_dropout=0.5)
    x = drawn((6, 2, 3), generator)
    expected = lstm(layer, x * features(0.4, INPUT, 3))
    out = expected.out * features(0.5, OUTPUT, 5)
    assert_same(both(layer(x, seed=SEEDS)), (out, expected.h, expected.c))
    assert 0 < int((out == 0).all(0).sum()) < 10, "whole features vanish"


@pytest.mark.parametrize("option", ["input_dropout", "output_dropout"])
def test_every_layer_has_masks_of_its_own(option: str) -> None:
    options: dict[str, Any] = {option: 0.5, "bidirectional": True, "merge": "sum"}
    layer: Any = LSTM(64, 64, 2, **options)
    seen: list[Tensor] = []
    layer._prepare = lambda x, *_: seen.append(x) or Recurrent._prepare(layer, x, *_)
    out = layer(torch.ones(2, 1, 64), seed=1)[0]
    assert torch.equal(seen[0], seen[1]), "both directions see the same input"
    first, second = (seen[0], seen[2]) if option == "input_dropout" else (seen[2], out)
    assert 16 < int((first[0] == 0).sum()) < 48
    assert not torch.equal(first[0] == 0, second[0] == 0)


@pytest.mark.parametrize("option", ["recurrent_dropout", "zoneout", "weight_dropout"])
def test_every_layer_and_direction_has_a_stream_of_its_own(
    option: str, generator: torch.Generator
) -> None:
    options: dict[str, Any] = {option: 0.5, "bidirectional": True, "merge": "sum"}
    layer: Any = LSTM(5, 5, 2, **options)
    weights = [drawn(p.shape, generator) / 3 for p in list(layer.parameters())[:4]]
    for value, p in zip(weights * 4, layer.parameters(), strict=True):
        p.data.copy_(value)
    results: list[Tensor] = []
    x = drawn((6, 1, 5), generator, torch.float32)
    run = Recurrent._prepare
    layer._prepare = lambda _, index, *more: run(layer, x.flip(0) if index % 2 else x, index, *more)
    last = layer(x, seed=1)[1][0]  # [4, 1, 5], the same input and weights each
    results += list(last.detach())
    for one in range(4):
        for other in range(one):
            assert not torch.equal(results[one], results[other])
    plain = layer.eval()
    if option != "zoneout":
        assert_same(list(plain(x)[1][0].detach()), [plain(x)[1][0][0].detach()] * 4)


@pytest.mark.parametrize("name", ["eager", "default"])
def test_dropout_on_h(name: str, generator: torch.Generator) -> None:
    layer = made(generator, recurrent_dropout=0.5)
    x = drawn((6, 2, 3), generator)
    expected = lstm(layer, x, operand=lambda h: h * mask(0.5))
    with target(name):
        assert_same(both(layer(x, seed=SEEDS)), (expected.out, expected.h, expected.c))


@pytest.mark.parametrize("name", ["eager", "default"])
def test_dropout_on_the_candidate(name: str, generator: torch.Generator) -> None:
    layer = made(generator, recurrent_dropout=0.5, recurrent_dropout_on="candidate")
    x = drawn((6, 2, 3), generator)
    expected = lstm(layer, x, candidate=lambda g, t: g.tanh() * mask(0.5, step=t))
    with target(name):
        assert_same(both(layer(x, seed=SEEDS)), (expected.out, expected.h, expected.c))


@pytest.mark.parametrize("name", ["eager", "default"])
@pytest.mark.parametrize("zoneout", [0.25, {"c": 0.5, "h": 0.125}, {"c": 0.375}], ids=str)
def test_zoneout(name: str, zoneout: Any, generator: torch.Generator) -> None:
    layer = made(generator, zoneout=zoneout)
    p = zoneout if isinstance(zoneout, dict) else {"h": zoneout, "c": zoneout}
    numbers = {m.name: n for n, m in enumerate(layer.varied.masks)}
    x = drawn((6, 2, 3), generator)

    def mixed(state: str) -> Any:
        def mix(new: Tensor, old: Tensor, t: int) -> Tensor:
            if state not in p:
                return new
            if not layer.training:
                return p[state] * old + (1 - p[state]) * new
            return torch.where(
                mask(p[state], numbers[f"zoneout_{state}"], t, (1, 0)) == 1, new, old
            )

        return mix

    for _ in ("training", "evaluation"):
        expected = lstm(layer, x, new_h=mixed("h"), new_c=mixed("c"))
        with target(name):
            assert_same(both(layer(x, seed=SEEDS)), (expected.out, expected.h, expected.c))
        layer.eval()


def test_weight_dropout(generator: torch.Generator) -> None:
    layer = made(generator, weight_dropout=0.4)
    x = drawn((6, 2, 3), generator)
    # The weights' seed is that of the row -1.
    base = fold(fold(torch.tensor([11]), 0) - 1, 0)
    seeds = fold(base, WEIGHT) + torch.arange(20)
    kept = (bits(seeds, 0, None, 5) >= round(0.4 * 2**32)).double() / 0.6
    assert 0.4 < float((kept > 0).double().mean()) < 0.8
    expected = lstm(layer, x, weight_hh=layer.weight_hh_l0 * kept)
    assert_same(both(layer(x, seed=11)), (expected.out, expected.h, expected.c))
    layer(x, seed=11)[0].sum().backward()
    assert torch.equal(layer.weight_hh_l0.grad != 0, kept > 0)
    with pytest.raises(ValueError, match=r"weight_dropout draws one mask .* seed= one number"):
        layer(x, seed=SEEDS)
    layer.eval()
    assert_same(both(layer(x)), tuple(lstm(layer, x))[:1] + tuple(lstm(layer, x))[2:])


def test_everything_at_once(generator: torch.Generator) -> None:
    layer: Any = unequal_(
        LSTM(3, 5, 2, dtype=torch.float64, bidirectional=True, **EVERY), generator
    )
    x = drawn((9, 4, 3), generator)
    seeds = torch.tensor([5, 6, 7, 8])
    lengths = torch.tensor([9, 0, 4, 7])
    with target("eager"):
        whole = layer(x, lengths=lengths, seed=seeds)
    assert_same(layer(x, lengths=lengths, seed=seeds), whole, "the target does not matter")
    order = [2, 0, 3]
    some = layer(x[:, order], lengths=lengths[order], seed=seeds[order])
    assert_same(some[0], whole[0][:, order], "other rows do not matter")
    assert_same(some[1], tuple(state[:, order] for state in whole[1]))
    layer.batch_first = True
    turned = layer(x.transpose(0, 1), lengths=lengths, seed=seeds)
    assert_same(turned[0].transpose(0, 1), whole[0], "batch_first")
    layer.batch_first = False
    lengths[1] = 1
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    out, last = layer(packed, seed=seeds)
    unpacked = pad_packed_sequence(out)[0], last
    assert_same(unpacked, layer(x, lengths=lengths, seed=seeds), "packed")
    numbered = layer(packed, seed=9)
    numbered = pad_packed_sequence(numbered[0])[0], numbered[1]
    assert_same(numbered, layer(x, lengths=lengths, seed=9), "packed, one number")
    single = layer(x[:, 3], seed=seeds[3:])
    assert_same(single[0], layer(x[:, 3:], seed=seeds[3:])[0][:, 0], "a single sequence")


def test_seeds_repeat_and_leave_the_generator_alone(generator: torch.Generator) -> None:
    layer = made(generator, weight_dropout=0.2, **EVERY)
    x = drawn((6, 2, 3), generator)
    before = torch.get_rng_state()
    first = layer(x, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    assert_same(layer(x, seed=3), first)
    assert not torch.equal(layer(x, seed=4)[0], first[0])
    longer = layer(torch.cat([x, x], 1), seed=3)
    assert_same(longer[0][:, :2], first[0], "a number means the same rows in a larger batch")
    assert not torch.equal(longer[0][:, 0], longer[0][:, 2]), "rows differ"


def test_without_a_seed_the_global_generator_decides(generator: torch.Generator) -> None:
    layer = made(generator, weight_dropout=0.2, **EVERY)
    x = drawn((6, 2, 3), generator)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        first, second = layer(x), layer(x)
        torch.manual_seed(5)
        assert_same(layer(x), first)
    assert not torch.equal(first[0], second[0])
    layer.eval()
    before = torch.get_rng_state()
    assert_same(layer(x), layer(x, seed=1), "evaluation draws nothing")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("recurrent_dropout_on", ["h", "candidate"])
def test_chunks_draw_what_the_whole_draws(
    recurrent_dropout_on: str, generator: torch.Generator
) -> None:
    more = {**EVERY, "weight_dropout": 0.2, "recurrent_dropout_on": recurrent_dropout_on}
    layer = made(generator, **more)
    x = drawn((7, 2, 3), generator)
    out, last = layer(x, seed=4)
    first, state = layer(x[:3], seed=4)
    second, state = layer(x[3:], state, seed=4, first_step=3)
    assert_same((torch.cat([first, second]), state), (out, last))
    wrong = layer(x[3:], layer(x[:3], seed=4)[1], seed=4)[0]
    assert not torch.equal(wrong, second), "the step matters"
    steps = torch.tensor([3, 3])
    assert_same(layer(x[3:], layer(x[:3], seed=4)[1], seed=4, first_step=steps)[0], second)


def test_evaluation_of_dropouts_runs_the_plain_cell(generator: torch.Generator) -> None:
    options = {k: v for k, v in EVERY.items() if k != "zoneout"}
    layer = made(generator, weight_dropout=0.3, **options).eval()
    assert layer.varied is layer.cell
    plain: Any = LSTM(3, 5, dtype=torch.float64)
    plain.load_state_dict(layer.state_dict())
    x = drawn((6, 2, 3), generator)
    assert_same(layer(x), plain(x))


def test_certain_dropout_is_zero(generator: torch.Generator) -> None:
    x = drawn((6, 2, 3), generator)
    assert not made(generator, output_dropout=1.0)(x)[0].any()
    still = made(generator, zoneout=1.0)
    assert not still(x)[1][0].any()
    assert not still.eval()(x)[1][1].any()
    layer = made(generator, recurrent_dropout=1.0)
    expected = lstm(layer, x, operand=torch.zeros_like)
    assert_same(layer(x)[0], expected.out)


def test_rates_and_means() -> None:
    layer: Any = LSTM(64, 64, input_dropout=0.3, output_dropout=0.2)
    draws = []
    layer._prepare = lambda x, *_: draws.append(x) or Recurrent._prepare(layer, x, *_)
    out = layer(torch.ones(1, 500, 64), seed=0)[0]
    kept = draws[0]
    assert abs(float((kept == 0).double().mean()) - 0.3) < 0.01
    assert abs(float(kept.mean()) - 1.0) < 0.02
    assert abs(float((out == 0).double().mean()) - 0.2) < 0.01
    together = ((kept[0, :, :-1] == 0) & (kept[0, :, 1:] == 0)).double().mean()
    assert abs(float(together) - 0.09) < 0.01, "neighbors are independent"
    between = ((kept[0, :-1] == 0) & (kept[0, 1:] == 0)).double().mean()
    assert abs(float(between) - 0.09) < 0.01, "rows are independent"


@pytest.mark.parametrize("cell", ["lstm", "gru", "peephole"])
def test_gradients_of_everything(cell: str, generator: torch.Generator) -> None:
    options = {**EVERY, "zoneout": 0.2, "weight_dropout": 0.2, "learned_start": True}
    layer: Any = Recurrent(cell, 2, 3, 2, dtype=torch.float64, residual=False, **options)
    unequal_(layer, generator)
    x = drawn((4, 3, 2), generator)
    resets = torch.rand((4, 3), generator=generator) < 0.3
    names, values = zip(*layer.named_parameters(), strict=True)

    def run(x: Tensor, *parameters: Tensor) -> list[Tensor]:
        given = dict(zip(names, parameters, strict=True))
        call = {"lengths": [4, 0, 3], "resets": resets, "seed": 5}
        return tensors(torch.func.functional_call(layer, given, (x,), call))

    leaves = [value.detach().clone().requires_grad_() for value in (x, *values)]
    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"seed": 1.5}, TypeError, "seed should be an int or a tensor .* got: float"),
        ({"seed": True}, TypeError, "seed should be an int .* got: bool"),
        ({"seed": 1 << 64}, ValueError, "seed should be a number of 64 bits"),
        ({"seed": torch.zeros(2)}, TypeError, "seed should be integers, got: torch.float32"),
        ({"seed": torch.zeros(3).long()}, RuntimeError, r"Expected seed size \(2,\), got \[3\]"),
        ({"first_step": None}, TypeError, "first_step should be an int .* got: NoneType"),
        ({"first_step": [1]}, RuntimeError, r"Expected first_step size \(2,\), got \[1\]"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("options", [{}, {"zoneout": 0.1}], ids=["plain", "zoneout"])
def test_wrong_seeds(
    call: dict[str, Any], error: type[Exception], message: str, options: dict[str, Any]
) -> None:
    with pytest.raises(error, match=message):
        GRU(3, 5, **options)(torch.zeros(4, 2, 3), **call)


def test_streams_of_layers_do_not_meet() -> None:
    assert sorted({CELL, INPUT, OUTPUT, WEIGHT}) == list(range(USES))

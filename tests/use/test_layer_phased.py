"""Phased LSTM as a layer: the times, its periods at first, its leak in training only."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from holdfast.nn import LSTM, PhasedLSTM, Recurrent, init
from tests.helpers import assert_same, unequal_
from tests.use.layers import drawn
from tests.use.structures import Plain, compare

T, B, I, H = 6, 3, 4, 4
LEAK = 0.001


def by_hand(layer: Any, x: Tensor, hx: Any, *, time: Tensor) -> Any:
    """Neil et al. 2016, step by step, with the leak of the mode."""
    layer, last = layer.layer, []
    weights = dict(layer.named_parameters())
    leak = LEAK if layer.training else 0.0
    for k in range(layer.num_layers):
        w = {name.removesuffix(f"_l{k}"): one for name, one in weights.items()}
        h, c, out = hx[0][k], hx[1][k], []
        for step, now in zip(x, time, strict=True):
            sums = step @ w["weight_ih"].T + h @ w["weight_hh"].T + w["bias_ih"] + w["bias_hh"]
            i, f, g, o = sums.chunk(4, 1)
            phi = torch.remainder(now.unsqueeze(1) - w["s"], w["tau"]) / w["tau"]
            rise, fall = 2 * phi / w["r_on"], 2 - 2 * phi / w["r_on"]
            k_t = torch.where(phi < w["r_on"], fall, leak * phi)
            k_t = torch.where(phi < w["r_on"] / 2, rise, k_t)
            new = torch.sigmoid(f + w["p_f"] * c) * c
            new = new + torch.sigmoid(i + w["p_i"] * c) * torch.tanh(g)
            said = torch.sigmoid(o + w["p_o"] * new) * torch.tanh(new)
            h, c = k_t * said + (1 - k_t) * h, k_t * new + (1 - k_t) * c
            out.append(h)
        x = torch.stack(out)
        last.append((h, c))
    return x, tuple(map(torch.stack, zip(*last, strict=True)))


def timed(layer: Any) -> Plain:
    """The layer as a module that takes the times last, by name."""
    return Plain(layer, lambda layer, x, hx, time: layer(x, time, hx))


def phased(generator: torch.Generator, **options: Any) -> Any:
    """A layer whose units are in every part of their periods within a few steps."""
    layer: Any = unequal_(PhasedLSTM(I, H, dtype=torch.float64, **options), generator)
    init.phased_(layer, 0.0, 1.5, 0.6, generator)
    return layer


def times(generator: torch.Generator, rows: int = B) -> Tensor:
    return torch.rand(T, rows, generator=generator, dtype=torch.float64).cumsum(0)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_layers_equal_the_equations(training: bool, generator: torch.Generator) -> None:
    layer = phased(generator, num_layers=2).train(training)
    assert layer.backend == "llvm"
    hx = tuple(drawn((2, B, H), generator) for _ in "hc")
    x, time = drawn((T, B, I), generator), times(generator)
    compare(timed(layer), by_hand, x, hx, time=time)


def test_closed_units_leak_in_training_only(generator: torch.Generator) -> None:
    layer = phased(generator)
    init.phased_(layer, 4.0, 4.0, 0.01)
    with torch.no_grad():
        layer.s_l0.zero_()
    x, time = drawn((T, B, I), generator), 10.0 + times(generator)  # tau is 54.6
    assert layer(x, time)[0].any()
    assert not layer.eval()(x, time)[0].any()
    twin = pickle.loads(pickle.dumps(layer))
    assert not twin(x, time)[0].any(), "a copy forgets its mode"
    assert_same(twin.train()(x, time)[0], copy.deepcopy(layer).train()(x, time)[0])


def test_rows_and_layouts(generator: torch.Generator) -> None:
    layer = phased(generator, bidirectional=True)
    x, time, lengths = drawn((T, B, I), generator), times(generator), [5, 6, 2]
    out, last = layer(x, time, lengths=lengths)
    alone, ended = layer(x[:5, 0], time[:5, 0])
    assert_same([out[:5, 0], *(state[:, 0] for state in last)], [alone, *ended])
    turned = phased(generator, bidirectional=True, batch_first=True)
    turned.load_state_dict(layer.state_dict())
    again, states = turned(x.transpose(0, 1), time.T, lengths=lengths)
    assert_same([again.transpose(0, 1), *states], [out, *last])
    packed, when = (
        pack_padded_sequence(one, torch.tensor(lengths), enforce_sorted=False) for one in (x, time)
    )
    found, states = layer(packed, when)
    assert_same([pad_packed_sequence(found)[0], *states], [out, *last])


def test_only_differences_of_times_matter_beside_the_phase(generator: torch.Generator) -> None:
    layer, x, time = phased(generator), drawn((T, B, I), generator), times(generator)
    out, _ = layer(x, time)
    with torch.no_grad():
        layer.s_l0.add_(3.0)
    assert_same(layer(x, time + 3.0)[0], out)


def test_periods_at_first(generator: torch.Generator) -> None:
    layer: Any = PhasedLSTM(3, 2000, num_layers=2)
    for k in range(2):
        tau, s, r_on = (getattr(layer, f"{name}_l{k}").detach() for name in ("tau", "s", "r_on"))
        logs = tau.log()
        assert 1.0 <= logs.min() < 1.05
        assert 5.95 < logs.max() <= 6.0001
        assert abs(float(logs.mean()) - 3.5) < 0.15
        assert abs(float((s / tau).mean()) - 0.5) < 0.03
        assert bool(((s >= 0) & (s <= tau)).all())
        assert bool((r_on == 0.05).all())
    other: Any = Recurrent("phased", 3, 2000, num_layers=2)
    for one in (layer, other):
        init.phased_(one, 0.0, 1.0, 0.5, torch.Generator().manual_seed(3))
    assert_same(other.tau_l1, layer.tau_l1)
    assert not torch.equal(other.tau_l0, other.tau_l1)
    assert float(other.tau_l0.detach().max()) <= math.e + 1e-6
    assert bool((other.r_on_l1 == 0.5).all())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: init.phased_(LSTM(3, 5)), ValueError, "the cell lstm has no periods"),
        (lambda: init.phased_(PhasedLSTM(3, 5), 7.0), ValueError, "at least shortest, 7.0, got: 6"),
        (lambda: init.phased_(PhasedLSTM(3, 5), opened=0), ValueError, r"in \(0, 1\], got: 0"),
        (lambda: PhasedLSTM(3, 5, proj_size=2), ValueError, "proj"),
        (
            lambda: PhasedLSTM(3, 5)(torch.zeros(T, B, 3), torch.zeros(B, T)),
            ValueError,
            r"time should have the shape \[6, 3\]",
        ),
    ],
)
def test_what_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.slow
def test_a_compiled_graph_is_whole(generator: torch.Generator) -> None:
    torch._dynamo.reset()
    layer, x, time = phased(generator), drawn((T, B, I), generator), times(generator)
    for training in (True, False):
        layer.train(training)
        compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
        assert_same(compiled(x, time)[0], layer(x, time)[0])

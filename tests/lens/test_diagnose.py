"""`diagnose` against what is known by hand, and against autograd on loops written out."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from holdfast import cell, diagnose, normalize, sigmoid, tanh
from holdfast.cells import CELLS
from holdfast.errors import DiagnosisWarning
from holdfast.lens import Direction
from holdfast.nn import GRU, LSTM, RNN, Recurrent
from tests.emit.user_cells import CATALOGUE, CORE
from tests.helpers import assert_same, unequal_

F64 = torch.float64
quiet = pytest.mark.filterwarnings("ignore::holdfast.errors.DiagnosisWarning")


def _zeros(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _only(layer: Recurrent, x: Tensor, **options: Any) -> Direction:
    (direction,) = diagnose(layer, x, **options).directions
    return direction


def _random(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=F64)


def _with_forget_bias(values: Tensor) -> LSTM:
    """An LSTM whose weights are zero and whose forget gates are sigmoid(values) at every step."""
    layer = LSTM(3, len(values), dtype=F64)
    _zeros(layer)
    with torch.no_grad():
        layer.get_parameter("bias_ih_l0")[len(values) : 2 * len(values)] = values
    return layer


@quiet
def test_half_life_is_that_of_the_forget_gate(generator: torch.Generator) -> None:
    bias = torch.tensor([-3.0, 0.0, 1.0, 5.0, 60.0], dtype=F64)
    found = _only(_with_forget_bias(bias), _random(generator, 6, 4, 3)).half_life["c"]
    assert_same(found[:4], -1.0 / torch.sigmoid(bias[:4]).log2())
    assert found[1] == pytest.approx(1.0)
    assert found[4] == math.inf


@quiet
def test_half_life_takes_the_geometric_mean_over_steps_and_rows() -> None:
    layer = _with_forget_bias(torch.zeros(1, dtype=F64))
    with torch.no_grad():
        layer.get_parameter("weight_ih_l0")[1, 0] = 1.0  # f = sigmoid(x)
    x = torch.tensor([[-1.0, 0.5], [2.0, 0.0]], dtype=F64).unsqueeze(-1)  # [T, B, 1]
    found = _only(layer, nn.functional.pad(x, (0, 2))).half_life["c"]
    assert_same(found, (-1.0 / torch.sigmoid(x).log2().mean()).reshape(1))
    found = _only(layer, nn.functional.pad(x, (0, 2)), lengths=[2, 1]).half_life["c"]
    alive = torch.tensor([-1.0, 0.5, 2.0], dtype=F64)
    assert_same(found, (-1.0 / torch.sigmoid(alive).log2().mean()).reshape(1))


@quiet
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lstm_1997_plain", math.inf),
        ("coupled", 1.0),
        ("gru", 1.0),
        ("gru_2014", 1.0),
        ("peephole", 1.0),
    ],
)
def test_half_life_of_other_cells_with_zero_weights(name: str, expected: float) -> None:
    layer = Recurrent(name, 3, 2, dtype=F64)
    found = _only(_zeros(layer), torch.ones(4, 1, 3, dtype=F64)).half_life  # pyright: ignore[reportArgumentType]
    assert {key: values.tolist() for key, values in found.items()} == {
        ("c" if CELLS[name].states else "h"): [expected, expected]
    }


def test_a_cell_without_a_direct_path_says_so(generator: torch.Generator) -> None:
    diagnosis = diagnose(RNN(3, 2, dtype=F64), _random(generator, 3, 2, 3))
    assert diagnosis.directions[0].half_life == {}
    assert "no direct path" in str(diagnosis)


@cell(gates={"f": "b", "g": "W x + u*h"}, state="c n")
def leaky(f, g, c, n):
    """Two memories and a gate without an affine sum; the output sees all units."""
    n = 0.5 * n + sigmoid(g)
    c = sigmoid(f) * c + tanh(g)
    return normalize(c) * n, c, n


@quiet
def test_a_users_cell(generator: torch.Generator) -> None:
    layer = Recurrent(leaky, 3, 5, dtype=F64)
    unequal_(layer, generator)
    found = _only(layer, _random(generator, 4, 2, 3))
    assert list(found.half_life) == ["c", "n"]
    bias = layer.get_parameter("b_f_l0").detach()
    assert_same(found.half_life["c"], -1.0 / torch.sigmoid(bias).log2())
    assert_same(found.half_life["n"], torch.ones(5, dtype=F64))
    assert list(found.saturation) == ["f", "g", "g (tanh)"]


def _steps(layer: nn.Module, x: Tensor, suffix: str) -> list[Tensor]:
    """The h of every step of an LSTM written out, `[B, H]` each."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    w, r, b, d = (layer.get_parameter(name + suffix) for name in names)
    h = c = x.new_zeros(x.shape[1], r.shape[1])
    steps = []
    for x_t in x:
        i, f, g, o = (x_t @ w.T + h @ r.T + b + d).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        steps.append(h)
    return steps


def _norms(steps: list[Tensor], loss: Tensor) -> Tensor:
    gradients = torch.autograd.grad(loss, steps, retain_graph=True, materialize_grads=True)
    return torch.stack([gradient.norm() for gradient in gradients])


def test_gradients_through_time_are_those_of_a_loop_written_out(generator: torch.Generator) -> None:
    layer = LSTM(3, 5, num_layers=2, dtype=F64)
    unequal_(layer, generator)
    x, wanted = _random(generator, 6, 4, 3), _random(generator, 6, 4, 5)
    lower = _steps(layer, x, "_l0")
    upper = _steps(layer, torch.stack(lower), "_l1")
    loss = (torch.stack(upper) * wanted).sum()
    found = diagnose(layer, x, loss=lambda out: (out * wanted).sum()).directions
    assert_same([d.gradient for d in found], [_norms(lower, loss), _norms(upper, loss)])
    weights = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=F64)
    loss = (upper[-1] * weights).sum()
    found = diagnose(layer, x).directions
    assert_same([d.gradient for d in found], [_norms(lower, loss), _norms(upper, loss)])
    norms = _norms(upper, loss)
    assert_same(found[1].decay, (norms / norms[-1]).flip(0))


def test_initial_states_and_batch_first(generator: torch.Generator) -> None:
    layer, turned = LSTM(3, 5, dtype=F64), LSTM(3, 5, dtype=F64, batch_first=True)
    unequal_(layer, generator)
    turned.load_state_dict(layer.state_dict())
    x, hx = _random(generator, 6, 4, 3), (_random(generator, 1, 4, 5), _random(generator, 1, 4, 5))
    expected = _only(layer, x, hx=hx).gradient
    assert_same(_only(turned, x.transpose(0, 1), hx=hx).gradient, expected)
    assert not torch.allclose(_only(layer, x).gradient, expected)


def test_lengths_are_rows_on_their_own(generator: torch.Generator) -> None:
    layer = LSTM(3, 5, dtype=F64)
    unequal_(layer, generator)
    lengths, x = [2, 6, 0, 4], _random(generator, 6, 4, 3)
    weights = _random(generator, 4, 5)
    for row, length in enumerate(lengths):
        x[length:, row] = math.nan
    last = (torch.tensor([1, 5, 3]), torch.tensor([0, 1, 3]))
    together = _only(
        layer, x, lengths=lengths, loss=lambda out: (out[last] * weights[last[1]]).sum()
    )
    squares, shares, rows = torch.zeros(6, dtype=F64), torch.zeros(6, dtype=F64), torch.zeros(6)
    for row in (0, 1, 3):
        length, own = lengths[row], weights[row]
        alone = _only(
            layer, x[:length, row : row + 1], loss=lambda out, own=own: (out[-1] * own).sum()
        )
        squares[:length] += alone.gradient.square()
        shares[:length] += alone.gradient.flip(0).square()
        rows[:length] += 1
    assert_same(together.gradient, squares.sqrt())
    norms = (shares / rows).sqrt()
    assert_same(together.decay, norms / norms[0])


def test_steps_beyond_a_rows_end_feel_nothing(generator: torch.Generator) -> None:
    layer = LSTM(3, 5, dtype=F64)
    unequal_(layer, generator)
    x = _random(generator, 6, 4, 3)
    found, alone = _only(layer, x, lengths=[2] * 4), _only(layer, x[:2])
    assert_same(found.gradient, nn.functional.pad(alone.gradient, (0, 4)))
    assert_same(found.decay, alone.decay)


def test_a_loss_that_ends_early_is_followed_from_there(generator: torch.Generator) -> None:
    layer = LSTM(3, 5, dtype=F64)
    unequal_(layer, generator)
    x = _random(generator, 6, 4, 3)
    found = _only(layer, x, loss=lambda out: out[2].sum())
    alone = _only(layer, x[:3], loss=lambda out: out[-1].sum())
    assert_same(found.decay, nn.functional.pad(alone.decay, (3, 0)))
    assert found.reach == 6


def test_packed_input_is_found_to_be_what_padded_input_is(generator: torch.Generator) -> None:
    layer = LSTM(3, 5, num_layers=2, bidirectional=True, dtype=F64)
    unequal_(layer, generator)
    x, lengths = _random(generator, 6, 4, 3), [6, 5, 5, 1]
    packed = diagnose(layer, pack_padded_sequence(x, torch.tensor(lengths))).directions
    for one, other in zip(packed, diagnose(layer, x, lengths=lengths).directions, strict=True):
        assert_same(one.gradient, other.gradient)
        assert_same(dict(one.half_life), dict(other.half_life))


def test_the_reverse_direction_is_a_forward_one_on_reversed_rows(
    generator: torch.Generator,
) -> None:
    both, single = GRU(3, 5, bidirectional=True, dtype=F64), GRU(3, 5, dtype=F64)
    unequal_(both, generator)
    single.load_state_dict(
        {name: both.get_parameter(name + "_reverse") for name in single.state_dict()}
    )
    x, weights = _random(generator, 6, 1, 3), _random(generator, 5)
    with pytest.warns(DiagnosisWarning, match="no gradient reaches layer 0:"):
        diagnosis = diagnose(both, x, loss=lambda out: (out[0, :, 5:] * weights).sum())
    reverse = diagnosis.directions[1]
    forward = _only(single, x.flip(0), loss=lambda out: (out[-1] * weights).sum())
    assert reverse.reverse
    assert reverse.name == "layer 0 reverse"
    assert_same(reverse.gradient, forward.gradient.flip(0))
    assert_same(reverse.decay, forward.decay)
    assert_same(dict(reverse.half_life), dict(forward.half_life))


def test_the_default_loss_takes_what_each_direction_computed_last(
    generator: torch.Generator,
) -> None:
    layer = LSTM(3, 5, bidirectional=True, dtype=F64)
    unequal_(layer, generator)
    forward, reverse = diagnose(layer, _random(generator, 6, 2, 3)).directions
    assert forward.decay[0] == reverse.decay[0] == 1.0
    assert forward.gradient.argmax() == 5
    assert reverse.gradient.argmax() == 0
    assert forward.gradient.count_nonzero() == reverse.gradient.count_nonzero() == 6


def test_where_a_row_begins_anew_nothing_flows(generator: torch.Generator) -> None:
    layer = LSTM(3, 5, dtype=F64)
    unequal_(layer, generator)
    x = _random(generator, 6, 1, 3)
    resets = torch.zeros(6, 1, dtype=torch.bool)
    resets[[1, 2]] = True
    found = _only(layer, x, resets=resets)
    alone = _only(layer, x[2:])
    assert_same(found.decay, alone.decay)
    assert_same(found.gradient, nn.functional.pad(alone.gradient, (2, 0)))
    assert len(found.decay) == 4
    kept = _with_forget_bias(torch.zeros(1, dtype=F64))
    with torch.no_grad():
        kept.get_parameter("weight_ih_l0")[1, 0] = 1.0  # f = sigmoid(x)
        kept.get_parameter("weight_hh_l0").fill_(0.5)
        kept.get_parameter("weight_hh_l0")[1] = 0.0
    half_life = _only(kept, x, resets=resets).half_life["c"]
    forget = torch.sigmoid(x[[0, 3, 4, 5], 0, 0])
    assert_same(half_life, (-1.0 / forget.log2().mean()).reshape(1))


def _rnn(scale: float, nonlinearity: str = "relu") -> RNN:
    """h = relu(scale * h + 1): gradients shrink or grow by `scale` a step."""
    layer = RNN(1, 2, nonlinearity=nonlinearity, dtype=F64)
    _zeros(layer)
    with torch.no_grad():
        layer.get_parameter("weight_hh_l0").copy_(scale * torch.eye(2, dtype=F64))
        layer.get_parameter("bias_ih_l0").fill_(1.0)
    return layer


def test_vanishing_gradients_are_told_with_advice() -> None:
    with pytest.warns(
        DiagnosisWarning, match=r"vanish in layer 0: .* 4 steps before the last"
    ) as w:
        diagnosis = diagnose(_rnn(0.09), torch.ones(10, 2, 1, dtype=F64))
    assert len(w) == 1
    assert w[0].filename == __file__
    assert_same(diagnosis.directions[0].decay, 0.09 ** torch.arange(10, dtype=F64))
    assert diagnosis.directions[0].reach == 4
    assert "first 6 of 10 steps" in diagnosis.advice[0]
    assert "LSTM or GRU" in diagnosis.advice[0]
    assert "forget_bias_" not in diagnosis.advice[0]
    assert diagnosis.advice[0] == str(w[0].message)


def test_advice_fits_the_cell(generator: torch.Generator) -> None:
    layer = _with_forget_bias(torch.full((5,), -4.0, dtype=F64))
    with pytest.warns(DiagnosisWarning, match=r"forget_bias_\(layer, 1\.0\).*chrono_\(layer, 20\)"):
        diagnose(layer, _random(generator, 20, 2, 3))
    with pytest.warns(DiagnosisWarning, match="the gate that keeps the state"):
        diagnose(GRU(3, 5, dtype=F64), _random(generator, 60, 2, 3))


def test_exploding_gradients_are_told_with_advice() -> None:
    with pytest.warns(DiagnosisWarning, match=r"explode in layer 0: .* 1\.02e\+03 times") as caught:
        diagnosis = diagnose(_rnn(2.0), torch.ones(11, 2, 1, dtype=F64))
    assert len(caught) == 1
    assert diagnosis.directions[0].explodes
    for word in ("clip_grad_norm_", "layer_norm", "truncated BPTT"):
        assert word in diagnosis.advice[0]
    assert not _only(_rnn(2.0), torch.ones(10, 2, 1, dtype=F64)).explodes  # 2**9 times


def test_gradients_that_are_not_finite_explode() -> None:
    with pytest.warns(DiagnosisWarning, match="explode .* inf times"):
        diagnose(_rnn(1e40), torch.ones(20, 1, 1, dtype=F64))


def test_a_healthy_lstm_is_not_warned_about(generator: torch.Generator) -> None:
    layer = LSTM(3, 5, dtype=F64)
    unequal_(layer, generator)
    with torch.no_grad():
        layer.get_parameter("bias_ih_l0")[5:10] = 5.0
    diagnosis = diagnose(layer, _random(generator, 50, 4, 3))  # a warning is an error
    assert diagnosis.directions[0].reach == 50
    assert not diagnosis.directions[0].vanishes


@quiet
def test_saturated_and_dead_gates() -> None:
    layer = LSTM(1, 3, dtype=F64)
    _zeros(layer)
    with torch.no_grad():
        weight, bias = layer.get_parameter("weight_ih_l0"), layer.get_parameter("bias_ih_l0")
        bias[0:3] = torch.tensor([-20.0, 20.0, 0.0])  # i: at 0, at 1, in the middle
        weight[3:6] = 20.0  # f follows x
        weight[6:9] = torch.tensor([[1.4], [1.5], [-1.5]])  # tanh(1.5) > 0.9 > tanh(1.4)
    x = torch.tensor([1.0, 1.0, -1.0, 0.0], dtype=F64).reshape(4, 1, 1)
    found = _only(layer, x).saturation
    assert list(found) == ["i", "f", "g", "o"]
    assert found["i"].low.tolist() == [1, 0, 0]
    assert found["i"].high.tolist() == [0, 1, 0]
    assert found["i"].dead == (0, 1)
    assert found["f"].low.tolist() == [0.25] * 3
    assert found["f"].high.tolist() == [0.5] * 3
    assert found["f"].share.tolist() == [0.75] * 3
    assert found["f"].dead == ()
    assert found["g"].low.tolist() == [0, 0.25, 0.5]
    assert found["g"].high.tolist() == [0, 0.5, 0.25]
    assert found["o"].share.tolist() == [0] * 3


@quiet
def test_dead_gates_are_told(generator: torch.Generator) -> None:
    layer = _with_forget_bias(torch.full((4,), 20.0, dtype=F64))
    diagnosis = diagnose(layer, _random(generator, 3, 2, 3))
    assert "f 4 h 4 c 4" in str(diagnosis)
    assert any("gate f of layer 0 never leaves" in text for text in diagnosis.advice)
    assert any("4 of 4 units of layer 0 never changes" in text for text in diagnosis.advice)


@quiet
def test_a_few_dead_gates_are_no_reason_for_advice(generator: torch.Generator) -> None:
    layer = _with_forget_bias(torch.tensor([20.0, 0.0, 0.0, 0.0], dtype=F64))
    diagnosis = diagnose(layer, _random(generator, 3, 2, 3))
    assert diagnosis.directions[0].saturation["f"].dead == (0,)
    assert not any("never leaves" in text for text in diagnosis.advice)


def test_input_made_in_inference_mode_is_taken(generator: torch.Generator) -> None:
    layer, x = LSTM(3, 3, dtype=F64, highway=True), _random(generator, 3, 2, 3)
    with torch.inference_mode():
        found = _only(layer, x.clone()).gradient
    assert_same(found, _only(layer, x).gradient)


def test_dead_units_have_the_same_value_throughout(generator: torch.Generator) -> None:
    layer = RNN(3, 5, nonlinearity="relu", dtype=F64)
    unequal_(layer, generator)
    with torch.no_grad():
        for name in ("weight_ih_l0", "weight_hh_l0"):
            layer.get_parameter(name)[[1, 3]] = 0.0
        layer.get_parameter("bias_ih_l0").copy_(torch.tensor([1.0, 1.0, 1.0, -1.0, 1.0]))
    found = _only(layer, _random(generator, 6, 4, 3))
    assert found.dead_units == {"h": (1, 3)}
    assert found.saturation["a"].dead == (3,)
    assert found.features == 5
    assert _only(layer, _random(generator, 1, 1, 3)).dead_units == {"h": ()}


@quiet
@pytest.mark.parametrize("name", CATALOGUE)
def test_every_cell_of_the_catalogue(name: str, generator: torch.Generator) -> None:
    layer = Recurrent(name, 3, 5, num_layers=2, bidirectional=True, dtype=F64)
    unequal_(layer, generator)
    diagnosis = diagnose(layer, _random(generator, 4, 2, 3), lengths=[4, 2])
    assert [(d.layer, d.reverse) for d in diagnosis.directions] == [
        (0, False),
        (0, True),
        (1, False),
        (1, True),
    ]
    for direction in diagnosis.directions:
        gates = [gate.name for gate in CELLS[name].gates]
        if name in CORE:
            assert list(direction.saturation) == gates
            assert (direction.gradient > 0).all()
        # Elsewhere gates may be added before they are squashed, or not be squashed at all.
        assert set(re.findall(r"\w+", " ".join(direction.saturation))) <= {*gates, "sigmoid"}
    assert len(str(diagnosis).splitlines()) >= 6


class Drawing(nn.Module):
    """A parametrization that draws from the global generator."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight + 0 * torch.rand_like(weight)


@quiet
def test_nothing_changes_in_the_layer(generator: torch.Generator) -> None:
    layer = LSTM(3, 5, num_layers=2, dropout=0.5)
    unequal_(layer, generator)
    nn.utils.parametrizations.spectral_norm(layer, "weight_hh_l0")
    nn.utils.parametrize.register_parametrization(layer, "weight_hh_l1", Drawing())
    layer.get_parameter("weight_ih_l0").requires_grad_(False)
    seen: list[Any] = []
    layer.register_forward_hook(lambda *_: seen.append(1))
    x = torch.randn(6, 4, 3, generator=generator).requires_grad_()
    layer(x)[0].sum().backward()
    del seen[:]

    def look() -> dict[str, Any]:
        gradients = {name: p.grad for name, p in (("x", x), *layer.named_parameters())}
        return {
            "state": {name: value.clone() for name, value in layer.state_dict().items()},
            "gradients": {k: None if g is None else g.clone() for k, g in gradients.items()},
            "random": torch.get_rng_state(),
        }

    before = look()
    with torch.no_grad():
        first = diagnose(layer, x)
    assert_same(look(), before)
    with torch.inference_mode():
        assert_same(diagnose(layer, x.clone()).directions[0].gradient, first.directions[0].gradient)
    assert_same(look(), before)
    assert seen == []
    assert all(module.training for module in layer.modules())
    assert not layer.get_parameter("weight_ih_l0").requires_grad
    assert_same(diagnose(layer.eval(), x).directions[0].gradient, first.directions[0].gradient)


@quiet
def test_frozen_layers_and_float32(generator: torch.Generator) -> None:
    layer, twin = GRU(3, 5), GRU(3, 5, dtype=F64)
    unequal_(layer, generator)
    twin.load_state_dict(layer.state_dict())
    layer.requires_grad_(False)
    x = torch.randn(6, 4, 3, generator=generator)
    found, expected = _only(layer, x).gradient, _only(twin, x.double()).gradient
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_loss_without_the_output_is_told(generator: torch.Generator) -> None:
    layer = LSTM(3, 5, dtype=F64)
    weight = layer.get_parameter("weight_ih_l0")
    with pytest.warns(DiagnosisWarning, match="no gradient reaches layer 0: the loss does not"):
        diagnose(layer, _random(generator, 3, 2, 3), loss=lambda _: weight.sum())


def test_errors_say_what_was_expected(generator: torch.Generator) -> None:
    layer, x = LSTM(3, 5, dtype=F64), _random(generator, 3, 2, 3)
    with pytest.raises(TypeError, match=r"got a LSTM, expected a layer of holdfast\.nn"):
        diagnose(nn.LSTM(3, 5), x)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"scalar tensor, got \[3, 2, 5\]; sum or average it"):
        diagnose(layer, x, loss=lambda out: out)
    with pytest.raises(ValueError, match="scalar tensor, got float"):
        diagnose(layer, x, loss=lambda out: out.sum().item())
    with pytest.raises(ValueError, match="does not depend on the layer's output"):
        diagnose(layer, x, loss=lambda out: torch.zeros(()))
    with pytest.raises(ValueError, match="leave out tbptt="):
        diagnose(layer, x, tbptt=2)
    with pytest.raises(ValueError, match="no row with a step"):
        diagnose(layer, x, lengths=[0, 0])
    with pytest.raises(ValueError, match="lengths should be in the range 0 to 3"):
        diagnose(layer, x, lengths=[4, 0])

"""What a definition declares: terms of gates, parameters and their shapes, constants, closures."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from holdfast import Cell, cell, sigmoid, tanh
from holdfast.cells import CELLS
from holdfast.compiler.emit import eager
from tests.emit.user_cells import ALL_CELLS
from tests.helpers import assert_same

B, I, H = 3, 2, 4
Parameters = Mapping[str, Tensor]


def _random(generator: torch.Generator, *shape: int) -> Tensor:
    values = 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1
    return values.requires_grad_()


def _one_gate(terms: str) -> Cell:
    @cell(gates={"a": "W x + R h + b", "g": terms})
    def probe(a, g):
        return tanh(a) * sigmoid(g)

    return probe


def _rows(p: Parameters, name: str, gate: int) -> Tensor:
    """The block of one gate in a matrix or bias, where both gates have one."""
    return p[name][gate * H : (gate + 1) * H]


TERMS: dict[str, Callable[[Parameters, Tensor, Tensor], Tensor]] = {
    "W x + b": lambda p, x, h: x @ _rows(p, "weight_ih", 1).T + _rows(p, "bias_ih", 1),
    "R h + b": lambda p, x, h: h @ _rows(p, "weight_hh", 1).T + _rows(p, "bias_hh", 1),
    "W x + u*h + b": lambda p, x, h: (
        x @ _rows(p, "weight_ih", 1).T + p["u_g"] * h + _rows(p, "bias_ih", 1)
    ),
    "u * h": lambda p, x, h: p["u_g"] * h,
    "u*h + b": lambda p, x, h: p["u_g"] * h + p["b_g"],
    "b": lambda p, x, h: p["b_g"],
    "1.0": lambda p, x, h: torch.ones((), dtype=x.dtype),
    "1 + 0.5 + -2": lambda p, x, h: torch.full((), -0.5, dtype=x.dtype),
    "W x + R h + b + 1": lambda p, x, h: (
        functional.linear(x, _rows(p, "weight_ih", 1), _rows(p, "bias_ih", 1))
        + functional.linear(h, _rows(p, "weight_hh", 1), _rows(p, "bias_hh", 1))
        + 1
    ),
    "W x": lambda p, x, h: x @ _rows(p, "weight_ih", 1).T,
    "R h": lambda p, x, h: h @ _rows(p, "weight_hh", 1).T,
}

SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "W x + b": {"weight_ih": (2 * H, I), "bias_ih": (2 * H,)},
    "R h + b": {"weight_hh": (2 * H, H), "bias_hh": (2 * H,)},
    "W x + u*h + b": {"weight_ih": (2 * H, I), "bias_ih": (2 * H,), "u_g": (H,)},
    "u * h": {"u_g": (H,)},
    "u*h + b": {"u_g": (H,), "b_g": (H,)},
    "b": {"b_g": (H,)},
    "1.0": {},
    "1 + 0.5 + -2": {},
    "W x + R h + b + 1": {
        "weight_ih": (2 * H, I),
        "weight_hh": (2 * H, H),
        "bias_ih": (2 * H,),
        "bias_hh": (2 * H,),
    },
    "W x": {"weight_ih": (2 * H, I)},
    "R h": {"weight_hh": (2 * H, H)},
}
"""The parameters of the cell above, where they differ from those of its first gate alone."""


@pytest.mark.parametrize("terms", TERMS)
def test_a_gate_with_changed_terms_is_the_sum_it_says(
    terms: str, generator: torch.Generator
) -> None:
    probe = _one_gate(terms)
    first = {"weight_ih": (H, I), "weight_hh": (H, H), "bias_ih": (H,), "bias_hh": (H,)}
    assert probe.shapes(I, H) == first | SHAPES[terms]
    p = {name: _random(generator, *shape) for name, shape in probe.shapes(I, H).items()}
    x, h = _random(generator, B, I), _random(generator, B, H)
    out, states = eager.step(probe, x, p, h, ())
    assert states == ()
    a = functional.linear(x, _rows(p, "weight_ih", 0), _rows(p, "bias_ih", 0))
    a = a + functional.linear(h, _rows(p, "weight_hh", 0), _rows(p, "bias_hh", 0))
    reference = torch.tanh(a) * torch.sigmoid(TERMS[terms](p, x, h))
    assert_same(out, reference, terms)
    incoming = torch.rand(B, H, generator=generator, dtype=torch.float64)
    inputs = [x, h, *p.values()]
    assert_same(
        torch.autograd.grad(out, inputs, incoming),
        torch.autograd.grad(reference, inputs, incoming),
        f"gradients, {terms}",
    )


@pytest.mark.parametrize("spelling", ["W x+R h+b", "b + R h + W x", " W  x +  R h + b "])
def test_order_and_spaces_of_terms_do_not_matter(spelling: str) -> None:
    @cell(gates={"a": spelling})
    def rnn(a):
        return tanh(a)

    assert rnn.key == CELLS["rnn"].key


def test_gates_may_share_their_terms() -> None:
    def step(i, f, g):
        return tanh(i) * f + tanh(g)

    together = cell(gates={"i f": "W x + b", "g": "R h"})(step)
    apart = cell(gates={"i": "W x + b", "f": "W x + b", "g": "R h"})(step)
    assert together.key == apart.key
    assert together.key != cell(gates={"i": "W x + b", "f g": "R h"})(step).key


def test_parameter_shapes_are_those_of_torch() -> None:
    modules = {
        "lstm": torch.nn.LSTM(I, H),
        "gru": torch.nn.GRU(I, H),
        "rnn": torch.nn.RNN(I, H),
        "rnn_relu": torch.nn.RNN(I, H, nonlinearity="relu"),
    }
    for name, module in modules.items():
        reference = {
            key.removesuffix("_l0"): tuple(value.shape)
            for key, value in module.state_dict().items()
        }
        assert CELLS[name].shapes(I, H) == reference, name
        assert list(CELLS[name].shapes(I, H)) == list(reference), name


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("lstm", 4 * (H * I + H * H + 2 * H)),
        ("lstm_1997_plain", 3 * (H * I + H * H + 2 * H)),
        ("peephole", 4 * (H * I + H * H + 2 * H) + 3 * H),
        ("coupled", 3 * (H * I + H * H + 2 * H)),
        ("gru", 3 * (H * I + H * H + 2 * H)),
        ("rnn", H * I + H * H + 2 * H),
        ("rnn_relu", H * I + H * H + 2 * H),
        ("bare", H * I + H * H),
    ],
)
def test_parameter_counts(name: str, count: int) -> None:
    shapes = ALL_CELLS[name].shapes(I, H).values()
    assert sum(torch.Size(shape).numel() for shape in shapes) == count


def test_lowered_weights_follow_the_declared_ones() -> None:
    assert ALL_CELLS["terms"].weights == ("u_g", "b_k", "u_m", "b_m")
    assert list(ALL_CELLS["terms"].shapes(I, H))[-4:] == ["u_g", "b_k", "u_m", "b_m"]


def _scaled(scale: float) -> Cell:
    @cell(gates="a")
    def scaled(a, *, offset=0.25):
        return tanh(scale * a + offset)

    return scaled


def test_keyword_only_constants_and_closures_are_part_of_the_mathematics(
    generator: torch.Generator,
) -> None:
    small, large = _scaled(0.5), _scaled(1.5)
    assert small.key != large.key
    p = {name: _random(generator, *shape) for name, shape in small.shapes(I, H).items()}
    x, h = _random(generator, B, I), _random(generator, B, H)
    a = functional.linear(x, p["weight_ih"], p["bias_ih"])
    a = a + functional.linear(h, p["weight_hh"], p["bias_hh"])
    assert_same(eager.step(small, x, p, h, ())[0], torch.tanh(0.5 * a + 0.25))
    assert_same(eager.step(large, x, p, h, ())[0], torch.tanh(1.5 * a + 0.25))


def test_a_gate_taken_apart_has_both_parts() -> None:
    sums = {one.leaf: one for one in CELLS["gru"].accumulators}
    assert list(sums) == ["r", "z", "n.input", "n.recurrent"]
    one, other = sums["n.input"], sums["n.recurrent"]
    assert (one.x, one.h, one.bias_ih, one.bias_hh) == (True, False, True, False)
    assert (other.x, other.h, other.bias_ih, other.bias_hh) == (False, True, False, True)


def test_a_gate_taken_apart_may_also_be_used_whole(generator: torch.Generator) -> None:
    @cell(gates="n")
    def both(n):
        return tanh(n) + n.input * n.recurrent

    p = {name: _random(generator, *shape) for name, shape in both.shapes(I, H).items()}
    x, h = _random(generator, B, I), _random(generator, B, H)
    one = functional.linear(x, p["weight_ih"], p["bias_ih"])
    other = functional.linear(h, p["weight_hh"], p["bias_hh"])
    out, _ = eager.step(both, x, p, h, ())
    assert_same(out, torch.tanh(one + other) + one * other)

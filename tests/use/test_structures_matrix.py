"""The matrix memory: chunks of any size, single steps and the paper's loop say the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from holdfast.nn import MatrixLSTM
from tests.helpers import assert_same, unequal_
from tests.use.layers import drawn, observed
from tests.use.structures import Plain, check_gradients, check_rows, compare

B, T, I, H = 2, 9, 3, 6


def by_hand(layer: Any, x: Tensor, hx: Any) -> Any:
    """Beck et al. 2024, head by head, with the memory itself in the place of m.

    The states that come out are scaled as the layer's, by the largest exponent so far.
    """
    heads, units = layer.num_heads, layer.hidden_size // layer.num_heads
    weights = dict(layer.named_parameters())
    w_q, w_k, w_v, w_o = weights["weight_ih"].chunk(4)
    b_q, b_k, b_v, b_o = weights.get("bias_ih", x.new_zeros(4 * H)).chunk(4)
    C, n, m = hx
    C, n = C * torch.exp(m)[..., None, None], n * torch.exp(m)[..., None]
    out = []
    for step in x:
        q, k, v = step @ w_q.T + b_q, step @ w_k.T + b_k, step @ w_v.T + b_v
        gates = torch.cat([q, k, v], 1) @ weights["weight_gates"].T + weights["bias_gates"]
        o = torch.sigmoid(step @ w_o.T + b_o)
        read, tops, Cs, ns = [], [], [], []
        for head in range(heads):
            at = slice(head * units, (head + 1) * units)
            i, f = gates[:, head], torch.log(torch.sigmoid(gates[:, heads + head]))
            key = k[:, at] / units**0.5
            grown = torch.exp(i)[:, None, None] * v[:, at, None] * key[:, None]
            memory = torch.exp(f)[:, None, None] * C[:, head] + grown
            norm = torch.exp(f)[:, None] * n[:, head] + torch.exp(i)[:, None] * key
            size = (norm * q[:, at]).sum(1).abs().clamp(min=1.0)
            read.append((memory * q[:, None, at]).sum(2) / size[:, None])
            tops.append(torch.maximum(f + m[:, head], i))
            Cs.append(memory)
            ns.append(norm)
        out.append(o * torch.cat(read, 1))
        C, n, m = torch.stack(Cs, 1), torch.stack(ns, 1), torch.stack(tops, 1)
    return torch.stack(out), (C * torch.exp(-m)[..., None, None], n * torch.exp(-m)[..., None], m)


def by_steps(layer: Any, x: Tensor, hx: Any) -> Any:
    out = []
    for step in x:
        h, hx = layer.step(step, hx)
        out.append(h)
    return torch.stack(out), hx


def made(generator: torch.Generator, **options: Any) -> Any:
    options.setdefault("num_heads", 2)
    return unequal_(MatrixLSTM(I, H, dtype=torch.float64, **options), generator)


def states(generator: torch.Generator, heads: int = 2, rows: int = B) -> Any:
    units = H // heads
    shapes = ((rows, heads, units, units), (rows, heads, units), (rows, heads))
    return tuple(drawn(shape, generator) for shape in shapes)


@pytest.mark.parametrize("chunk", [0, 1, 4, 64])
@pytest.mark.parametrize(("heads", "bias"), [(1, True), (2, False), (3, True)])
def test_equals_the_equations(
    chunk: int, heads: int, bias: bool, generator: torch.Generator
) -> None:
    layer = made(generator, num_heads=heads, bias=bias, chunk_size=chunk)
    compare(layer, by_hand, drawn((T, B, I), generator), states(generator, heads))


@pytest.mark.parametrize("chunk", [0, 4])
def test_the_two_forms_are_the_same(chunk: int, generator: torch.Generator) -> None:
    layer = made(generator, chunk_size=chunk)
    x = drawn((T, B, I), generator)
    for hx in (None, states(generator)):
        assert_same(observed(layer, x, hx), observed(Plain(layer, by_steps), x, hx))


def test_large_gates_stay_finite(generator: torch.Generator) -> None:
    layer = made(generator, chunk_size=4)
    with torch.no_grad():
        layer.bias_gates.copy_(torch.tensor([400.0, -400.0, -300.0, 300.0]))
    x = drawn((T, B, I), generator)
    found = observed(layer, x)
    assert_same(found, observed(Plain(layer, by_steps), x))
    assert all(torch.isfinite(one).all() for one in found["results"])
    assert found["results"][0][..., : H // 2].abs().max() > 1e-3


def test_finite_differences(generator: torch.Generator) -> None:
    layer = unequal_(MatrixLSTM(2, 4, 2, chunk_size=2, dtype=torch.float64), generator)
    hx = [drawn(shape, generator) for shape in ((1, 2, 2, 2), (1, 2, 2), (1, 2))]
    check_gradients(layer, drawn((3, 1, 2), generator), *hx)


def test_a_sequence_can_come_in_pieces(generator: torch.Generator) -> None:
    layer = made(generator, batch_first=True)
    x = drawn((B, T, I), generator)
    out, last = layer(x)
    first, hx = layer(x[:, :5])
    second, hx = layer(x[:, 5:], hx)
    assert_same([torch.cat([first, second], 1), *hx], [out, *last])
    row, (C, n, m) = layer(x[1])
    assert_same([row, C, n, m], [out[1], *(state[1] for state in last)])
    h, hx = layer.step(x[1, 0])
    assert_same(h, out[1, 0])
    assert [state.dim() for state in hx] == [3, 2, 1]


@pytest.mark.parametrize("chunk", [0, 4])
def test_ragged_rows_are_as_if_alone(chunk: int, generator: torch.Generator) -> None:
    x, hx = drawn((T, 3, I), generator), states(generator, rows=3)
    check_rows(made(generator, chunk_size=chunk), x, hx, [0, 0, 0])


def test_initial_values(generator: torch.Generator) -> None:
    layer = MatrixLSTM(I, 64, 4)
    assert not layer.weight_gates.any()
    assert_same(layer.bias_gates[4:], torch.tensor([3.0, 4.0, 5.0, 6.0]))
    assert 0 < layer.bias_gates[:4].abs().max() < 0.6
    assert 0.1 < layer.weight_ih.abs().max() <= 0.125


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_heads": 4}, ValueError, "num_heads should divide hidden_size, got: 4 and 6"),
        ({"num_heads": 0}, ValueError, "num_heads must be greater than zero"),
        ({"chunk_size": -1}, ValueError, "chunk_size should be a number of steps, or 0 for all"),
        ({"bias": "no"}, TypeError, "bias should be of type bool, got: str"),
    ],
)
def test_wrong_options(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MatrixLSTM(I, H, **options)


def test_wrong_calls() -> None:
    layer, x = MatrixLSTM(I, H, 2), torch.zeros(T, B, I)
    with pytest.raises(ValueError, match=r"tuple \(C, n, m\) of tensors, got 2 of them"):
        layer(x, (x, x))
    with pytest.raises(TypeError, match=r"tuple \(C, n, m\) of tensors, got Tensor"):
        layer(x, x)
    with pytest.raises(RuntimeError, match="for a single row one of 3-D, got 4-D"):
        layer(x[:, 0], (torch.zeros(1, 2, 3, 3), torch.zeros(2, 3), torch.zeros(2)))
    with pytest.raises(RuntimeError, match=r"Expected hidden\[0\] size \(2, 2, 3, 3\)"):
        layer(x, (torch.zeros(2, 2, 6, 6), torch.zeros(2, 2, 3), torch.zeros(2, 2)))
    with pytest.raises(RuntimeError, match=r"sizes \[3\], got \[4\]"):
        layer(torch.zeros(T, B, 4))

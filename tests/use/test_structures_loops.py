"""Concurrent memories and grids, beside loops that are written from their equations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from holdfast.nn import ConcurrentLSTM, GridLSTM
from tests.helpers import assert_same, unequal_
from tests.use.layers import drawn, observed
from tests.use.structures import (
    check_gradients,
    check_layouts,
    check_rows,
    compare,
    lstm_by_hand,
)

B, T, I, H, P, L = 3, 5, 2, 4, 3, 3
NO_FLAG: Any = 1


def concurrent(layer: Any, x: Tensor, hx: Any) -> Any:
    """Person by person."""
    weights = dict(layer.named_parameters())
    w = dict(zip("ifgso", weights["weight_ih"].chunk(5), strict=True))
    r = dict(zip("ifgso", weights["weight_hh"].chunk(5), strict=True))
    none = torch.zeros(5 * H, dtype=x.dtype)
    b = dict(zip("ifgso", weights.get("bias_ih", none).chunk(5), strict=True))
    h, c, out = hx[0], list(hx[1].unbind(1)), []
    for step in x:
        joined, total = torch.zeros_like(h), h @ r["o"].T + b["o"]
        for p in range(x.shape[2]):
            sums = {g: step[:, p] @ w[g].T + h @ r[g].T + b[g] for g in "ifgs"}
            taken = torch.sigmoid(sums["i"]) * torch.tanh(sums["g"])
            c[p] = torch.sigmoid(sums["f"]) * c[p] + taken
            joined = joined + torch.sigmoid(sums["s"]) * torch.tanh(c[p])
            total = total + step[:, p] @ w["o"].T
        h = torch.sigmoid(total) * torch.tanh(joined)
        out.append(h)
    return torch.stack(out), (h, torch.stack(c, 1))


def people(generator: torch.Generator, **options: Any) -> Any:
    return unequal_(ConcurrentLSTM(I, H, dtype=torch.float64, **options), generator)


def of_people(generator: torch.Generator, persons: int = P) -> Any:
    return drawn((B, H), generator), drawn((B, persons, H), generator)


@pytest.mark.parametrize(("persons", "bias"), [(1, True), (3, True), (3, False)])
def test_concurrent_equals_the_equations(
    persons: int, bias: bool, generator: torch.Generator
) -> None:
    layer = people(generator, bias=bias)
    x = drawn((T, B, persons, I), generator)
    compare(layer, concurrent, x, of_people(generator, persons))


def test_concurrent_of_rows(generator: torch.Generator) -> None:
    x = drawn((T, B, P, I), generator)
    check_rows(people(generator), x, of_people(generator), [0, 0])
    check_layouts(lambda **options: people(generator, **options), x, [0, 0])


def test_who_is_absent_changes_nothing(generator: torch.Generator) -> None:
    layer, x = people(generator), drawn((T, B, P, I), generator)
    present = torch.tensor([[True, True, False], [True, False, True], [False, False, True]])
    spoiled = torch.where(present.unsqueeze(2), x, torch.nan)
    out, (h, c) = layer(spoiled, present=present)
    for b in range(B):
        alone, (last, memory) = layer(x[:, b][:, present[b]])
        assert_same([out[:, b], h[b], c[b][present[b]]], [alone, last, memory])
    assert not c[~present].any()
    found = observed(layer, x, of_people(generator), present=present)
    assert not found["gradient of the input"][:, ~present].any()


def test_persons_have_no_order(generator: torch.Generator) -> None:
    layer, x = people(generator), drawn((T, B, P, I), generator)
    assert_same(layer(x.flip(2))[0], layer(x)[0])


def meeting(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Walks of two persons on a line, `[T, B, 2, 2]` of place and step, and whether they met.

    Each of them alone walks the same way whether or not they meet: only both together tell.
    """
    steps = 12
    start = torch.rand((count, 2), generator=generator) * 2 - 1
    pace = (torch.rand((count, 2), generator=generator) * 2 - 1) / steps * 3
    t = torch.arange(steps).view(-1, 1, 1)
    place = start + t * pace
    apart = place[:, :, 0] - place[:, :, 1]
    met = (apart[1:] * apart[:-1] < 0).any(0)
    return torch.stack([place, pace.expand_as(place) * steps], 3), met.float()


@pytest.mark.slow
def test_concurrent_learns_who_meets(generator: torch.Generator) -> None:
    layer = unequal_(ConcurrentLSTM(2, 16), generator)
    head = unequal_(nn.Linear(16, 1), generator)
    x, y = meeting(600, generator)
    fresh, met = meeting(400, generator)
    optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        logits = head(layer(x)[1][0]).squeeze(1)
        nn.functional.binary_cross_entropy_with_logits(logits, y).backward()
        optimizer.step()
    with torch.no_grad():
        right = ((head(layer(fresh)[1][0]).squeeze(1) > 0) == (met > 0.5)).float().mean()
    base = max(float(met.mean()), 1 - float(met.mean()))
    assert right > base + 0.15, f"{right:.3f} beside {base:.3f} without looking"


def block(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = (gates[:, k * H : (k + 1) * H] for k in range(4))
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def grid(layer: Any, x: Tensor, hx: Any) -> Any:
    """Block by block: all layers of a step, then the next step."""
    weights, zero = dict(layer.named_parameters()), torch.zeros(())
    h, c, out = list(hx[0]), list(hx[1]), []
    for step in x:
        entered = step @ weights["enter.weight"].T + weights.get("enter.bias", zero)
        up, memory = entered[:, :H], entered[:, H:]
        for k in range(layer.num_layers):
            b = 0 if layer.tied else k
            lstm = {n.rpartition(".")[2]: w for n, w in weights.items() if f"time.{b}." in n}
            of_time = torch.cat([lstm["weight_ih_l0"], lstm["weight_hh_l0"]], 1)
            bias = lstm.get("bias_ih_l0", zero) + lstm.get("bias_hh_l0", zero)
            of_depth = weights[f"depth.{b}.weight"]
            bias_depth = weights.get(f"depth.{b}.bias", zero)

            def through_time(up: Tensor, h: Tensor, c: Tensor, w=of_time, b=bias) -> Any:
                return block(torch.cat([up, h], 1) @ w.T + b, c)

            def through_depth(up: Tensor, h: Tensor, c: Tensor, w=of_depth, b=bias_depth) -> Any:
                return block(torch.cat([up, h], 1) @ w.T + b, c)

            if layer.priority == "time":
                new_up, memory = through_depth(up, h[k], memory)
                h[k], c[k] = through_time(new_up, h[k], c[k])
            else:
                new_h, c[k] = through_time(up, h[k], c[k])
                seen = new_h if layer.priority == "depth" else h[k]
                new_up, memory = through_depth(up, seen, memory)
                h[k] = new_h
            up = new_up
        out.append(up)
    return torch.stack(out), (torch.stack(h), torch.stack(c))


def gridded(generator: torch.Generator, **options: Any) -> Any:
    return unequal_(GridLSTM(I, H, L, dtype=torch.float64, **options), generator)


@pytest.mark.parametrize("priority", [None, "depth", "time"])
@pytest.mark.parametrize("options", [{}, {"tied": True}, {"bias": False}], ids=str)
def test_grid_equals_the_blocks(priority: Any, options: Any, generator: torch.Generator) -> None:
    layer = gridded(generator, priority=priority, **options)
    assert layer.backend == ("eager" if priority == "time" else "llvm")
    hx = tuple(drawn((L, B, H), generator) for _ in "hc")
    compare(layer, grid, drawn((T, B, I), generator), hx)


@pytest.mark.parametrize("priority", [None, "depth", "time"])
def test_grid_of_rows(priority: Any, generator: torch.Generator) -> None:
    x = drawn((T, B, I), generator)
    hx = tuple(drawn((L, B, H), generator) for _ in "hc")
    check_rows(gridded(generator, priority=priority), x, hx, [1, 1])
    check_layouts(lambda **more: gridded(generator, priority=priority, **more), x, [1, 1])


def test_a_layer_of_the_grid_alone(generator: torch.Generator) -> None:
    layer = gridded(generator)
    up, memory = (drawn((T, B, H), generator) for _ in "hc")
    h, c = (drawn((B, H), generator) for _ in "hc")
    above, _, last, _ = layer.run_layer(1, up, memory, h, c)
    expected, ended, _ = lstm_by_hand(dict(layer.named_parameters()), "time.1.l0", up, h, c)
    assert_same(last, ended)
    assert above.shape == expected.shape


def test_finite_differences(generator: torch.Generator) -> None:
    persons = unequal_(ConcurrentLSTM(1, 2, dtype=torch.float64), generator)
    check_gradients(
        persons,
        drawn((3, 1, 2, 1), generator),
        drawn((1, 2), generator),
        drawn((1, 2, 2), generator),
    )
    for priority in (None, "time"):
        layer = unequal_(GridLSTM(1, 2, 2, priority=priority, dtype=torch.float64), generator)
        states = [drawn((2, 1, 2), generator) for _ in "hc"]
        check_gradients(layer, drawn((3, 1, 1), generator), *states)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: GridLSTM(I, H, priority="width"), ValueError, "None, 'depth' or 'time', got: 'wi"),
        (lambda: GridLSTM(I, H, 0), ValueError, "num_layers must be greater than zero"),
        (lambda: GridLSTM(I, H, tied=NO_FLAG), TypeError, "tied should be of type bool, got: int"),
        (lambda: ConcurrentLSTM(I, -1), ValueError, "hidden_size must be greater than zero"),
    ],
)
def test_wrong_options(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_wrong_calls() -> None:
    layer, x = ConcurrentLSTM(I, H), torch.zeros(T, B, P, I)
    with pytest.raises(ValueError, match=r"present should be of bool and size \(3, 3\)"):
        layer(x, present=torch.ones(B, P))
    with pytest.raises(TypeError, match="expected present to be a Tensor, got list"):
        layer(x, present=[True])
    with pytest.raises(RuntimeError, match=r"sizes \[any, 2\], got \[3, 4\]"):
        layer(torch.zeros(T, B, P, 4))
    with pytest.raises(RuntimeError, match=r"Expected hidden\[1\] size \(3, 3, 4\)"):
        layer(x, (torch.zeros(B, H), torch.zeros(B, 2, H)))
    with pytest.raises(RuntimeError, match="length to be larger than 0"):
        GridLSTM(I, H)(torch.zeros(0, B, I))

"""Learned initial states."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from holdfast.nn import GRU, LSTM, Recurrent
from tests.helpers import assert_same, unequal_
from tests.use.layers import drawn, target


def test_they_begin_at_zero() -> None:
    layer: Any = LSTM(3, [5, 4], bidirectional=True, learned_start=True, proj_size=2)
    names = [name for name in layer.state_dict() if "start" in name]
    assert names == [
        f"{state}_start_l{k}{way}" for k in (0, 1) for way in ("", "_reverse") for state in "hc"
    ]
    assert [tuple(layer.state_dict()[name].shape) for name in names[3:5]] == [(5,), (2,)]
    assert not any(layer.state_dict()[name].any() for name in names)
    with torch.no_grad():
        layer.h_start_l0.fill_(1.0)
    layer.reset_parameters()
    assert not layer.h_start_l0.any()


@pytest.mark.parametrize("name", ["eager", "default"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_they_stand_where_states_would(cell: str, name: str, generator: torch.Generator) -> None:
    options: dict[str, Any] = {"dtype": torch.float64, "bidirectional": True}
    layer: Any = Recurrent(cell, 3, 5, 2, learned_start=True, **options)
    unequal_(layer, generator)
    plain: Any = Recurrent(cell, 3, 5, 2, **options)
    plain.load_state_dict({n: v for n, v in layer.state_dict().items() if "start" not in n})
    x = drawn((4, 3, 3), generator)
    suffixes = ("_l0", "_l0_reverse", "_l1", "_l1_reverse")
    states: list[Any] = [
        torch.stack([getattr(layer, f"{state}_start{suffix}") for suffix in suffixes])
        for state in ("h", *layer.cell.states)
    ]
    hx: Any = tuple(state.unsqueeze(1).expand(-1, 3, -1) for state in states)
    given: Any = hx if len(hx) > 1 else hx[0]
    with target(name):
        assert_same(layer(x, lengths=[4, 0, 2]), plain(x, given, lengths=[4, 0, 2]))
        own = drawn((4, 3, 5), generator)
        own = (own, own) if len(hx) > 1 else own
        assert_same(layer(x, own), plain(x, own), "given states come first")
        layer(x)[0].sum().backward()
    assert all(getattr(layer, f"h_start{suffix}").grad.any() for suffix in suffixes)


def test_rows_add_up_in_the_gradient(generator: torch.Generator) -> None:
    layer: Any = unequal_(GRU(3, 5, learned_start=True, dtype=torch.float64), generator)
    x = drawn((4, 1, 3), generator)
    layer(x)[0].sum().backward()
    once = layer.h_start_l0.grad.clone()
    layer.h_start_l0.grad = None
    layer(x.expand(-1, 3, -1))[0].sum().backward()
    assert_same(layer.h_start_l0.grad, 3 * once)

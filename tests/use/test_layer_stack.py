"""Stacks: layers of different sizes, ways around a layer, sums of directions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from holdfast.nn import GRU, LSTM, RNN, Recurrent
from tests.helpers import assert_same, unequal_
from tests.use.layers import drawn, observed, tensors


def made(generator: torch.Generator, *args: Any, **options: Any) -> Any:
    return unequal_(LSTM(*args, dtype=torch.float64, **options), generator)


def single(layer: Any, k: int, two_way: bool = False) -> nn.LSTM:
    """Layer k alone, as PyTorch's LSTM."""
    state = {name: value for name, value in layer.state_dict().items() if f"_l{k}" in name}
    state = {n.replace(f"_l{k}", "_l0"): v for n, v in state.items() if "highway" not in n}
    features, units = state["weight_ih_l0"].shape[1], state["weight_ih_l0"].shape[0] // 4
    reference = nn.LSTM(features, units, bidirectional=two_way, dtype=torch.float64)
    reference.load_state_dict(state)
    return reference


@pytest.mark.parametrize("two_way", [False, True], ids=["forward", "bidirectional"])
def test_layers_of_different_sizes(two_way: bool, generator: torch.Generator) -> None:
    layer = made(generator, 3, [5, 2, 4], bidirectional=two_way)
    assert (layer.num_layers, layer.hidden_size) == (3, (5, 2, 4))
    two = 1 + two_way
    hx = tuple(tuple(drawn((two, 2, H), generator) for H in (5, 2, 4)) for _ in "hc")
    x = drawn((6, 2, 3), generator)
    for start in (None, hx):
        out, (h, c), cells = layer(x, start, return_cells=True)
        expected, lasts = x, []
        for k in range(3):
            given = None if start is None else (start[0][k], start[1][k])
            expected, last = single(layer, k, two_way)(expected, given)
            lasts.append(last)
        assert_same(out, expected)
        assert_same((h, c), tuple(zip(*lasts, strict=True)))
        assert cells.shape == (6, 2, 4 * two)
    alone = layer(x[:, 1], tuple(tuple(s[:, 1] for s in state) for state in hx))
    assert_same(alone[0], layer(x, hx)[0][:, 1], "a single sequence")
    assert_same(alone[1][1][0], layer(x, hx)[1][1][0][:, 1], "its states")
    lengths = torch.tensor([3, 6])
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    out, last = layer(packed, hx)
    assert_same((pad_packed_sequence(out)[0], last), layer(x, hx, lengths=lengths), "packed")


def test_different_sizes_of_other_cells(generator: torch.Generator) -> None:
    layer: Any = unequal_(GRU(3, (5, 4), dtype=torch.float64), generator)
    x = drawn((6, 2, 3), generator)
    out, h = layer(x)
    assert [tuple(state.shape) for state in h] == [(1, 2, 5), (1, 2, 4)]
    again = layer(x, h)[0]
    first = layer(torch.cat([x, x]))[0]
    assert_same(again, first[6:], "states go on")
    projected: Any = unequal_(LSTM(3, (5, 4), proj_size=2, dtype=torch.float64), generator)
    out, (h, c) = projected(x)
    assert (out.shape, h[1].shape, c[0].shape) == ((6, 2, 2), (1, 2, 2), (1, 2, 5))


def test_equal_sizes_in_a_sequence_are_one_size() -> None:
    layer = LSTM(3, [5, 5])
    assert repr(layer) == repr(LSTM(3, 5, 2))
    assert layer(torch.zeros(4, 2, 3))[1][0].shape == (2, 2, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, [5, 0]), ValueError, "hidden_size must be greater than zero, got: 0"),
        ((3, []), ValueError, "hidden_size is empty"),
        ((3, [5, 2.0]), TypeError, "hidden_size should be of type int, got: float"),
        ((3, "55"), TypeError, "hidden_size should be of type int, got: str"),
        (
            (3, [5, 2], 3),
            ValueError,
            "hidden_size has 2 numbers, so num_layers must be 2 .* got: 3",
        ),
    ],
)
def test_wrong_sizes(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LSTM(*arguments)


@pytest.mark.parametrize(
    ("hx", "error", "message"),
    [
        (torch.zeros(2, 4, 5), TypeError, "tuple of 2 tensors for each state"),
        ((torch.zeros(1, 4, 5),), ValueError, "got 1 tensors; .* a tuple of 2"),
        ((torch.zeros(1, 4, 5), torch.zeros(1, 4, 5)), RuntimeError, r"Expected hidden\[1\] size"),
        ((torch.zeros(4, 5), torch.zeros(4, 6)), RuntimeError, "should also be 3-D"),
    ],
    ids=["tensor", "too few", "size", "dimensions"],
)
def test_wrong_states_of_different_sizes(hx: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        GRU(3, [5, 6])(torch.zeros(2, 4, 3), hx)


class Around(nn.Module):
    """A stack of PyTorch's LSTMs with a way around each, written by hand."""

    def __init__(self, layer: Any, kind: str, merge: str = "concat") -> None:
        super().__init__()
        self.layer, self.kind, self.merge = layer, kind, merge

    def named_parameters(self, *args: Any, **options: Any) -> Any:
        return self.layer.named_parameters(*args, **options)

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        lasts: list[Any] = []
        p = dict(self.layer.named_parameters())
        two_way = self.layer.bidirectional
        for k in range(self.layer.num_layers):
            names = {n: v for n, v in p.items() if f"_l{k}" in n and "highway" not in n}
            renamed = {n.replace(f"_l{k}", "_l0"): v for n, v in names.items()}
            out, last = torch.func.functional_call(single(self.layer, k, two_way), renamed, (x,))
            if self.merge == "sum":
                out = torch.stack(out.chunk(2, -1)).sum(0)
            if out.shape == x.shape and self.kind == "residual":
                out = out + x
            elif out.shape == x.shape and self.kind == "highway":
                w, b = p[f"weight_highway_l{k}"], p[f"bias_highway_l{k}"]
                t = torch.sigmoid(x @ w.T + b)
                out = t * out + (1 - t) * x
            x = out
            lasts.append(last)
        return x, tuple(torch.cat(state) for state in zip(*lasts, strict=True))


@pytest.mark.parametrize("features", [3, 5])
@pytest.mark.parametrize("kind", ["residual", "highway"])
def test_ways_around_a_layer(kind: str, features: int, generator: torch.Generator) -> None:
    layer = made(generator, features, 5, 3, **{kind: True})
    assert ("weight_highway_l0" in layer.state_dict()) == (kind == "highway" and features == 5)
    x = drawn((6, 2, features), generator)
    assert_same(observed(layer, x), observed(Around(layer, kind), x))


@pytest.mark.parametrize("kind", ["", "residual", "highway"])
def test_directions_are_added(kind: str, generator: torch.Generator) -> None:
    more = {kind: True} if kind else {}
    layer = made(generator, 5, 5, 2, bidirectional=True, merge="sum", **more)
    x = drawn((6, 2, 5), generator)
    assert_same(observed(layer, x), observed(Around(layer, kind, "sum"), x))
    cells = layer(x, return_cells=True)[2]
    assert cells.shape == (6, 2, 10), "states are not added"


@pytest.mark.parametrize("kind", ["residual", "highway"])
def test_nothing_goes_around_beyond_the_end_of_a_row(kind: str, generator: torch.Generator) -> None:
    layer = made(generator, 5, 5, 2, **{kind: True})
    x = drawn((6, 3, 5), generator)
    lengths = [2, 6, 0]
    spoilt = x.clone()
    spoilt[2:, 0] = torch.nan
    spoilt[:, 2] = torch.inf
    assert_same(observed(layer, spoilt, lengths=lengths), observed(layer, x, lengths=lengths))
    out = layer(spoilt, lengths=lengths)[0]
    assert not out[2:, 0].any()
    assert not out[:, 2].any()
    assert_same(out[:2, :1], layer(x[:2, :1])[0])
    sizes = torch.tensor(lengths[:2])
    packed = pack_padded_sequence(x[:, :2], sizes, enforce_sorted=False)
    unpacked = pad_packed_sequence(layer(packed)[0])[0]
    assert_same(unpacked, layer(x[:, :2], lengths=sizes)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": [5, 4], "residual": True}, "residual adds the input of layer 1, 5 feat"),
        ({"hidden_size": [5, 4], "highway": True}, "highway adds the input of layer 1, 5 feat"),
        ({"residual": True, "highway": True}, "residual and highway"),
        ({"merge": "sum"}, "merge='sum' .* bidirectional=True"),
        ({"merge": "mean"}, "merge should be 'concat' or 'sum', got: 'mean'"),
    ],
)
def test_refused_stacks(options: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"input_size": 3, "hidden_size": 5, **options}
    with pytest.raises(ValueError, match=message):
        LSTM(**given)


def test_a_stack_keeps_its_way_through_copies(generator: torch.Generator) -> None:
    layer: Any = unequal_(RNN(3, [4, 4], highway=True, bidirectional=True, merge="sum"), generator)
    twin: Any = Recurrent("rnn", 3, 4, 2, highway=True, bidirectional=True, merge="sum")
    twin.load_state_dict(layer.state_dict())
    x = drawn((4, 2, 3), generator, torch.float32)
    assert_same(tensors(twin(x)), tensors(layer(x)))
    assert "merge='sum', highway=True" in repr(layer)


@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("rows", ["dense", "ragged", "resets"])
@pytest.mark.parametrize("kind", ["lstm", "gru", "layer_norm_lstm", "projection", "masked"])
def test_directions_share_an_output_where_nothing_flows_back(
    kind: str, rows: str, steps: int, generator: torch.Generator
) -> None:
    """What both wrote side by side is what is joined where gradients are wanted."""
    options: dict[str, Any] = {"proj_size": 3} if kind == "projection" else {}
    options |= {"recurrent_dropout": 0.3} if kind == "masked" else {}
    name = "lstm" if kind in ("projection", "masked") else kind
    layer = unequal_(Recurrent(name, 3, 5, 2, bidirectional=True, **options), generator)
    x = torch.rand(steps, 4, 3, generator=generator)
    given: dict[str, Any] = {"seed": 7} if kind == "masked" else {}
    if rows == "ragged":
        given["lengths"] = [steps, 0, 1, steps]
    if rows == "resets":
        given["resets"] = torch.rand(steps, 4, generator=generator) < 0.4
    expected = layer(x, **given)
    with torch.inference_mode():
        found = layer(x, **given)
    assert found[0].is_contiguous()
    assert_same(tensors(found), tensors(expected))

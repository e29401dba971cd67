"""Structures made of compiled LSTMs, beside loops that are written from the papers' equations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from holdfast.nn import LSTM, LSTMP, PersistentLSTM, Recurrent, SpatioTemporalLSTM
from tests.helpers import assert_same, unequal_
from tests.use.layers import drawn, target
from tests.use.structures import (
    check_gradients,
    check_layouts,
    check_rows,
    compare,
    lstm_by_hand,
)

# Few sizes, so that few kernels are compiled.
B, T, I, H = 3, 6, 4, 4
L, P, O, R = 3, 4, 2, 3
NO_FLAG: Any = 0


def spatio_temporal(layer: Any, x: Any, hx: Any) -> Any:
    """A loop over places, then the fusion, layer by layer."""
    weights = dict(layer.named_parameters())
    h_p, c_p, h, c = hx
    said, last, at = [], [], 0
    for place in range(layer.places):
        size = weights[f"local.{place}.weight_ih_l0"].shape[1]
        part = x[:, :, place] if x.dim() == 4 else x[:, :, at : at + size]
        at += size
        out, *states = lstm_by_hand(weights, f"local.{place}.l0", part, h_p[place], c_p[place])
        said.append(out)
        last.append(states)
    out, top = torch.cat(said, 2), []
    for k in range(layer.num_layers):
        out, *states = lstm_by_hand(weights, f"fusion.l{k}", out, h[k], c[k])
        top.append(states)
    if layer.output_size:
        out = out @ weights["head.weight"].T + weights["head.bias"]
    pairs = [*zip(*last, strict=True), *zip(*top, strict=True)]
    return out, tuple(map(torch.stack, pairs))


def places(generator: torch.Generator, size: Any = I, **options: Any) -> Any:
    count = L if isinstance(size, int) else None
    options = {"dtype": torch.float64, **options}
    return unequal_(SpatioTemporalLSTM(size, count, P, H, **options), generator)


def of_places(generator: torch.Generator, rows: int = B, layers: int = 1) -> Any:
    shapes = [(L, rows, P), (L, rows, P), (layers, rows, H), (layers, rows, H)]
    return tuple(drawn(shape, generator) for shape in shapes)


@pytest.mark.parametrize(
    ("size", "options"),
    [(I, {"num_layers": 2}), ((4, 2, 4), {"output_size": O}), (I, {"bias": False})],
    ids=str,
)
def test_places_equal_the_equations(size: Any, options: Any, generator: torch.Generator) -> None:
    layer = places(generator, size, **options)
    shape = (T, B, L, I) if isinstance(size, int) else (T, B, sum(size))
    assert layer.backend == "llvm"
    compare(
        layer, spatio_temporal, drawn(shape, generator), of_places(generator, B, layer.num_layers)
    )


def test_places_of_rows(generator: torch.Generator) -> None:
    x = drawn((T, B, L, I), generator)
    check_rows(places(generator, output_size=O), x, of_places(generator), [1] * 4)
    check_layouts(lambda **options: places(generator, **options), x, [1] * 4)


def test_places_pass_options_on(generator: torch.Generator) -> None:
    layer, x = places(generator, layer_norm=True, learned_start=True), torch.zeros(T, B, L, I)
    starts = [name for name in layer.state_dict() if name.startswith("local.1.h_start")]
    assert starts, "the LSTM of a place has no learned start"
    with target("eager"):
        before, _ = layer(x.double())
        with torch.no_grad():
            layer.get_parameter(starts[0]).add_(1.0)
        after, _ = layer(x.double())
    assert not torch.allclose(before[0], after[0])


def persistent(layer: Any, x: Tensor, hx: Any) -> Any:
    """The average is taken over a list of past outputs, anew at every step."""
    weights = dict(layer.named_parameters())
    h, c, *_ = hx
    out, last = x, []
    for k in range(layer.num_layers):
        out, *states = lstm_by_hand(weights, f"lstm.l{k}", out, h[k], c[k])
        last.append(states)
    past, joined = [], []
    for step in out:
        seen = past[-layer.window :] if layer.window else past
        average = sum(seen, torch.zeros_like(step)) / max(len(seen), 1)
        sums = torch.cat([step, average], 1) @ weights["fusion.weight"].T
        joined.append(torch.tanh(sums + weights.get("fusion.bias", torch.zeros(()))))
        past.append(step)
    states = [torch.stack(state) for state in zip(*last, strict=True)]
    if layer.window:
        none = [torch.zeros_like(out[0])] * layer.window
        kept = torch.stack([*none, *past][-layer.window :])
    else:
        kept = out.sum(0, keepdim=True)
    return torch.stack(joined), (*states, kept, torch.full((x.shape[1],), len(x)))


def remembering(generator: torch.Generator, **options: Any) -> Any:
    return unequal_(PersistentLSTM(I, H, dtype=torch.float64, **options), generator)


@pytest.mark.parametrize(
    "options",
    [{}, {"window": 1}, {"window": 3, "bias": False}, {"window": 9, "num_layers": 2}],
    ids=str,
)
def test_persistent_equals_the_words(options: Any, generator: torch.Generator) -> None:
    layer = remembering(generator, **options)
    assert layer.backend == "llvm"
    hx = tuple(drawn((layer.num_layers, B, H), generator) for _ in "hc")
    compare(layer, persistent, drawn((T, B, I), generator), hx)


@pytest.mark.parametrize("window", [None, 3])
def test_persistent_rows_and_pieces(window: Any, generator: torch.Generator) -> None:
    x = drawn((T, B, I), generator)
    check_layouts(
        lambda **options: remembering(generator, window=window, **options), x, [1, 1, 1, 0]
    )
    layer = remembering(generator, window=window)
    out, last = layer(x, lengths=[2, 0, T])
    for b, length in enumerate([2, 0, T]):
        if length:
            alone, ended = layer(x[:length, b])
            assert_same(out[:length, b], alone)
            assert_same([state[:, b] for state in last[:3]], list(ended[:3]))
        assert not out[length:, b].any()
    assert last[3].tolist() == [2, 0, T]
    more, ended = layer(x, last)
    expected, states = layer(torch.cat([x[:2, 0], x[:, 0]]))
    assert_same([more[:, 0], ended[2][:, 0]], [expected[2:], states[2]])
    assert ended[3].tolist() == [2 + T, T, 2 * T]


def test_persistent_averages_long_sequences_exactly(generator: torch.Generator) -> None:
    layer = remembering(generator, window=2)
    with torch.no_grad():
        layer.lstm.bias_ih_l0.fill_(4.0)  # every output is near 1, so their sum becomes large
        layer.fusion.weight.fill_(0.1)
    x = drawn((20_000, 1, I), generator)
    expected, _ = layer(x)
    out, _ = layer.float()(x.float())
    assert_same(out, expected.float())


def lstmp(layer: Any, x: Tensor, hx: Any) -> Any:
    """Sak et al. 2014, gate by gate; p and y after them."""
    weights, last, zero = dict(layer.named_parameters()), [], torch.zeros(())
    units = []
    for k in range(layer.num_layers):

        def of(name: str, gate: str, k: int = k) -> Tensor:
            rows = slice("ifgo".index(gate) * H, ("ifgo".index(gate) + 1) * H)
            return weights[f"layers.{k}.{name}_l0"][rows]

        def gate(name: str, step: Tensor, r: Tensor, seen: Tensor, k: int = k) -> Tensor:
            total = step @ of("weight_ih", name).T + r @ of("weight_hh", name).T
            if layer.bias:
                total = total + of("bias_ih", name) + of("bias_hh", name)
            return total + weights.get(f"layers.{k}.p_{name}_l0", zero) * seen

        r, c = hx[0][k], hx[1][k]
        projected, units = [], []
        for step in x:
            i, f = torch.sigmoid(gate("i", step, r, c)), torch.sigmoid(gate("f", step, r, c))
            new = f * c + i * torch.tanh(gate("g", step, r, c))
            m = torch.sigmoid(gate("o", step, r, new)) * torch.tanh(new)
            r, c = m @ weights[f"layers.{k}.weight_hr_l0"].T, new
            projected.append(r)
            units.append(m)
        x = torch.stack(projected)
        last.append((r, c))
    out = x
    if layer.nonrecurrent_size:
        out = torch.cat([x, torch.stack(units) @ weights["weight_p"].T], 2)
    if layer.output_size:
        out = out @ weights["head.weight"].T + weights.get("head.bias", zero)
    return out, tuple(map(torch.stack, zip(*last, strict=True)))


def projected(generator: torch.Generator, **options: Any) -> Any:
    return unequal_(LSTMP(R, H, R, dtype=torch.float64, **options), generator)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"nonrecurrent_size": 2, "output_size": O, "num_layers": 2},
        {"nonrecurrent_size": 2, "peepholes": False, "bias": False},
        {"output_size": O, "peepholes": False},
    ],
    ids=str,
)
def test_lstmp_equals_the_equations(options: Any, generator: torch.Generator) -> None:
    layer = projected(generator, **options)
    assert layer.backend == "llvm"
    shapes = ((layer.num_layers, B, R), (layer.num_layers, B, H))
    hx = tuple(drawn(shape, generator) for shape in shapes)
    compare(layer, lstmp, drawn((T, B, R), generator), hx)


@pytest.mark.parametrize("layers", [1, 2])
def test_lstmp_of_rows(layers: int, generator: torch.Generator) -> None:
    options: dict[str, Any] = {"nonrecurrent_size": 2, "num_layers": layers}
    x = drawn((T, B, R), generator)
    hx = (drawn((layers, B, R), generator), drawn((layers, B, H), generator))
    check_rows(projected(generator, **options), x, hx, [1, 1])
    check_layouts(lambda **more: projected(generator, **options, **more), x, [1, 1])


def test_lstmp_without_more_is_our_lstm(generator: torch.Generator) -> None:
    layer = projected(generator, peepholes=False)
    plain: Any = LSTM(R, H, proj_size=R, dtype=torch.float64)
    plain.load_state_dict(layer.layers[0].state_dict())
    x = drawn((T, B, R), generator)
    assert_same(layer(x), plain(x))


@pytest.mark.parametrize("kind", ["places", "persistent", "lstmp"])
def test_finite_differences(kind: str, generator: torch.Generator) -> None:
    makers: dict[str, Any] = {
        "places": lambda: SpatioTemporalLSTM(1, 2, 2, 2, output_size=1, dtype=torch.float64),
        "persistent": lambda: PersistentLSTM(1, 2, window=2, dtype=torch.float64),
        "lstmp": lambda: LSTMP(1, 3, 2, 1, 1, dtype=torch.float64),
    }
    layer = unequal_(makers[kind](), generator)
    x = drawn((4, 1, 2, 1) if kind == "places" else (4, 1, 1), generator)
    check_gradients(layer, x)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SpatioTemporalLSTM((1, 2), 3, P, H), ValueError, "has 2 numbers, one for each"),
        (lambda: SpatioTemporalLSTM(1, None, P, H), TypeError, "places should be of type int"),
        (lambda: SpatioTemporalLSTM(1, 2, P, H, merge="sum"), TypeError, "merge is no option of"),
        (lambda: SpatioTemporalLSTM(1, 2, P, H, zonout=0.1), TypeError, "zonout"),
        (lambda: PersistentLSTM(I, H, window=0), ValueError, "window must be greater than zero"),
        (lambda: PersistentLSTM(I, H, bidirectional=True), TypeError, "bidirectional is no option"),
        (lambda: LSTMP(I, H, H), ValueError, "proj_size has to be smaller than hidden_size"),
        (lambda: LSTMP(I, H, 0), ValueError, "proj_size must be greater than zero"),
        (lambda: LSTMP(I, H, 2, peepholes=NO_FLAG), TypeError, "peepholes should be of type bool"),
    ],
)
def test_wrong_options(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_wrong_calls() -> None:
    layer, x = PersistentLSTM(I, H), torch.zeros(T, B, I)
    hx = layer(x)[1]
    with pytest.raises(TypeError, match=r"count should be a Tensor of int64, .* got torch.float32"):
        layer(x, (*hx[:3], hx[3].float()))
    with pytest.raises(RuntimeError, match=r"Expected count size \(3,\), got \[2\]"):
        layer(x, (*hx[:3], hx[3][:2]))
    with pytest.raises(RuntimeError, match=r"Expected hidden\[2\] size \(1, 3, 4\)"):
        layer(x, (*hx[:2], hx[2][:, :2], hx[3]))
    with pytest.raises(ValueError, match=r"tuple \(h, c\) of tensors, got 3 of them"):
        layer(x, hx[:3])
    with pytest.raises(RuntimeError, match=r"sizes \[3, 4\], got \[2, 4\]"):
        SpatioTemporalLSTM(I, L, P, H)(torch.zeros(T, B, 2, I))
    with pytest.raises(ValueError, match="length"):
        LSTMP(I, H, 2)(x, lengths=[7, 1, 1])
    assert isinstance(layer.lstm, Recurrent)

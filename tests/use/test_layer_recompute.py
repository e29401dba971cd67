"""Training in chunks of steps, and values that are computed again: the same results, less kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils.checkpoint import checkpoint

from holdfast.cells import CELLS
from holdfast.nn import LSTM, Recurrent, backward, chunks, direct, recompute, weights
from holdfast.nn.layout import Layout, lay_out
from tests.helpers import assert_same, unequal_
from tests.use.layers import target

B, T, I, H = 4, 11, 3, 6
LENGTHS = [11, 0, 4, 7]
KINDS = ["dense", "ragged", "packed", "resets", "tbptt", "cells"]
LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("lstm", {}),
    "called": ("gru_2014", {}),
    "projection": ("lstm", {"proj_size": 4}),
    "masks": ("lstm", {"zoneout": 0.2, "recurrent_dropout": 0.3}),
    "both": ("peephole", {"bidirectional": True}),
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of three steps."""
    monkeypatch.setattr(chunks, "STEPS", 3)
    monkeypatch.setattr(chunks, "BYTES", 1)
    monkeypatch.setattr(chunks, "AGAIN", 1)


def made(option: str, kind: str = "lstm", **more: Any) -> Recurrent:
    name, options = LAYERS[kind]
    layer = Recurrent(name, I, H, recompute=option, dtype=torch.float64, **options, **more)
    unequal_(layer, torch.Generator().manual_seed(3))
    return layer


def arguments(kind: str, generator: torch.Generator) -> tuple[Tensor, dict[str, Any]]:
    """An input and the options of a call."""
    x = torch.randn(T, B, I, dtype=torch.float64, generator=generator)
    options: dict[str, Any] = {"seed": 7}
    if kind == "ragged":
        options["lengths"] = LENGTHS
    if kind == "resets":
        options["resets"] = torch.rand(T, B, generator=generator) < 0.2
    if kind == "tbptt":
        options["tbptt"] = 8
    if kind == "cells":
        options["return_cells"] = True
    return x, options


def results(layer: Recurrent, kind: str, x: Tensor, options: dict[str, Any]) -> list[Tensor]:
    """Output, last states, and gradients of the input and the parameters."""
    x = x.clone().requires_grad_()
    given: Any = x
    if kind == "packed":
        given = pack_padded_sequence(x[:, [0, 2, 3]], [11, 7, 4])
    out, states, *cells = layer(given, **options)
    out = out.data if isinstance(out, PackedSequence) else out
    last = states if isinstance(states, tuple) else (states,)
    found = [out, *last, *cells]
    loss = torch.stack([n * value.square().sum() for n, value in enumerate(found, 1)]).sum()
    gradients = torch.autograd.grad(loss, [x, *layer.parameters()])
    return [*(value.detach() for value in found), *gradients]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", LAYERS)
def test_chunks_and_recomputation_change_nothing(
    layer: str, kind: str, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (kind, layer) in (("tbptt", "both"), ("cells", "called")):
        pytest.skip("not possible")
    x, options = arguments(kind, generator)
    cut = {option: results(made(option, layer), kind, x, options) for option in ("none", "full")}
    pairs = zip(cut["none"], cut["full"], strict=True)
    assert all(torch.equal(mine, other) for mine, other in pairs), "the same chunks, the same bits"
    monkeypatch.setattr(chunks, "BYTES", 2**40)
    assert_same(cut["full"], results(made("none", layer), kind, x, options), "in one piece")
    with target("eager"):
        assert_same(cut["full"], results(made("none", layer), kind, x, options), "definition")


@pytest.mark.usefixtures("two_threads")
def test_all_but_the_matrices_has_the_same_bits_in_other_chunks(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums over all steps depend on where they are cut; nothing else does."""
    x = torch.randn(64, 16, 8, generator=generator)
    found, matrices = [], []
    for size in (2**40, 1):
        monkeypatch.setattr(chunks, "AGAIN", size)
        layer = LSTM(8, 48, recompute="full")
        unequal_(layer, torch.Generator().manual_seed(3))
        value = x.clone().requires_grad_()
        out, _ = layer(value)
        out.square().sum().backward()
        found.append([out, value.grad, layer.bias_ih_l0.grad, layer.bias_hh_l0.grad])
        matrices.append(layer.weight_hh_l0.grad)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert_same(matrices[1], matrices[0])


def kept(layer: Recurrent, x: Tensor) -> int:
    """Bytes that a call keeps for its backward pass."""
    total: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        total[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out, _ = layer(x)
    assert out.requires_grad
    return sum(total.values()) - sum(p.numel() * p.element_size() for p in layer.parameters())


def test_less_is_kept(generator: torch.Generator) -> None:
    x = torch.randn(96, 8, 2, generator=generator)
    sizes = {option: kept(LSTM(2, 64, recompute=option), x) for option in ("none", "full")}
    assert sizes["full"] < sizes["none"] / 4


def test_auto_follows_from_the_memory(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(32, 8, 2, generator=generator)
    layer = LSTM(2, 64)
    row = (4 + 1) * 64 * 4  # i f g o c
    monkeypatch.setattr(recompute, "memory", lambda: recompute.SHARE * row * 32 * 8)
    assert layer.recompute_reason.startswith(f"none up to 256 rows and steps (T * B) of {row}")
    everything = kept(layer, x)
    monkeypatch.setattr(recompute, "memory", lambda: recompute.SHARE * row * (32 * 8 - 1))
    assert kept(LSTM(2, 64), x) < everything / 4


def test_the_reason_names_option_and_target() -> None:
    assert LSTM(2, 3, recompute="none").recompute_reason.startswith("none, as asked for")
    assert LSTM(2, 3, recompute="full").recompute_reason.startswith("full, as asked for")
    other = LSTM(2, 3, recompute="full", dtype=torch.bfloat16)
    assert other.recompute_reason.startswith("none: eager")
    with pytest.raises(ValueError, match="recompute should be 'auto' or 'none' or 'full'"):
        LSTM(2, 3, recompute="some")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["dense", "ragged"])
def test_second_derivatives(lengths: list[int] | None, generator: torch.Generator) -> None:
    layer = made("full")
    x = torch.randn(T, B, I, dtype=torch.float64, generator=generator).requires_grad_()

    def last(value: Tensor) -> Tensor:
        out, (h, c) = layer(value, lengths=lengths)
        return out.sum(0) + h[0] * c[0]

    assert torch.autograd.gradgradcheck(last, (x,), fast_mode=True)


def _plain(layer: Recurrent, x: Tensor) -> Tensor:
    out, (_, c) = layer(x)
    return out.sum(0) + c[0]


def _ragged(layer: Recurrent, x: Tensor) -> Tensor:
    out, (_, c) = layer(x, lengths=torch.tensor(LENGTHS))
    return out.sum(0) + c[0]


def _checkpointed(layer: Recurrent, x: Tensor) -> Tensor:
    return checkpoint(_plain, layer, x, use_reentrant=False)


@pytest.mark.usefixtures("small")
@pytest.mark.plain_memory
@pytest.mark.parametrize("way", [_plain, _ragged, _checkpointed])
def test_compiled_by_torch_and_checkpointed(
    way: Callable[..., Tensor], generator: torch.Generator
) -> None:
    layer = made("full")
    function = way
    if way is not _checkpointed:
        function = torch.compile(way, fullgraph=True, backend="aot_eager")
    x = torch.randn(T, B, I, dtype=torch.float64, generator=generator)
    found = []
    for run in (function, way if way is not _checkpointed else _plain):
        value = x.clone().requires_grad_()
        out = run(layer, value)
        found.append((out, torch.autograd.grad(out.square().sum(), [value, *layer.parameters()])))
    assert_same(found[0], found[1])


@pytest.mark.usefixtures("small")
@pytest.mark.plain_memory
@pytest.mark.parametrize("lengths", [None, torch.tensor([3, 0, 5])], ids=["dense", "ragged"])
@pytest.mark.parametrize("sequences", [True, False])
def test_opcheck(lengths: Tensor | None, sequences: bool, generator: torch.Generator) -> None:
    lstm = CELLS["lstm"]

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    x, h, c = (draw(*shape).requires_grad_() for shape in ((7, 3, 2), (3, 4), (3, 4)))
    parameters = [draw(*shape).requires_grad_() for shape in lstm.shapes(2, 4).values()]
    common = (x, h, [c], [], parameters, True, lengths, None, *(None,) * 4, False, lstm.key)
    torch.library.opcheck(torch.ops.holdfast.train_again.default, (*common, sequences))
    plain = (x.detach(), h.detach(), [c.detach()], [], [one.detach() for one in parameters])
    common = (*plain, *common[5:])
    out, *rest = torch.ops.holdfast.train_again(*common, sequences)
    keeps = "sequences" if sequences else "starts"
    arriving = [torch.randn(rest[0].shape, generator=generator)]
    more = (out, rest[:-1], rest[-1], None, arriving, True, False, [True, False, True, True], keeps)
    torch.library.opcheck(torch.ops.holdfast.backward.default, (*common, *more))


@pytest.mark.parametrize("option", ["none", "full"])
def test_frozen_weights_cost_no_product(
    option: str, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []
    for module in (weights, backward):
        real = module.gradient_product

        def watched(left: Tensor, right: Tensor, result: Tensor, *, add: bool, real=real) -> None:
            shapes.append(tuple(result.shape))
            real(left, right, result, add=add)

        monkeypatch.setattr(module, "gradient_product", watched)
    monkeypatch.setattr(direct.Direct, "__call__", lambda *_: None)
    layer = LSTM(3, 5, proj_size=2, recompute=option)
    layer.weight_hh_l0.requires_grad_(False)
    layer.bias_hh_l0.requires_grad_(False)
    x = torch.randn(4, 2, 3, generator=generator)
    layer(x)[0].sum().backward()
    assert set(shapes) == {(20, 3), (2, 5)}
    grads = {name: p.grad for name, p in layer.named_parameters()}
    assert [name for name, one in grads.items() if one is None] == ["weight_hh_l0", "bias_hh_l0"]
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    shapes.clear()
    layer(x.requires_grad_())[0].sum().backward()
    assert not shapes
    assert x.grad is not None


def test_chunks_cover_all_rows_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "STEPS", 3)
    x = torch.zeros(T, B, I)
    ragged = lay_out(x, B, torch.tensor(LENGTHS), None)
    for layout in (Layout(T, B, T * B), Layout(T, B, T * B, descending=True), ragged):
        parts = chunks.cut(layout, 1, 1)
        assert len(parts) > 1
        assert sum(part.layout.steps for part in parts) == layout.steps
        rows = [n for part in parts for n in range(part.live.start, part.live.stop)]
        assert sorted(rows) == list(range(layout.rows))
        kept_rows = sum(part.alive for part in parts[1:])
        assert kept_rows <= recompute.starts_shape(x.shape[:-1].numel(), 1)[0]

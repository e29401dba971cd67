"""What every structure has in common: its table, parameters, copies, dtypes, devices, autocast."""

from __future__ import annotations

import copy
import io
import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from holdfast import nn
from holdfast.nn import Forest, GridLSTM
from holdfast.nn.structure import Structure
from holdfast.nn.structures import STRUCTURES, Entry, listing
from tests.helpers import assert_same, unequal_
from tests.use.layers import drawn, target, tensors

T, B, W = 4, 2, 4
FOREST = Forest([[], [0], [0, 1], [2]])
SHAPES: dict[str, tuple[int, ...]] = {
    "ConvLSTM1d": (T, B, W, 5),
    "ConvLSTM2d": (T, B, W, 5, 3),
    "ConvLSTM3d": (T, B, W, 3, 3, 3),
    "ChildSumTreeLSTM": (len(FOREST), W),
    "NaryTreeLSTM": (len(FOREST), W),
    "SpatioTemporalLSTM": (T, B, 2, W),
    "ConcurrentLSTM": (T, B, 3, W),
}
EVERY = pytest.mark.parametrize("name", STRUCTURES)


def made(name: str, **options: Any) -> Any:
    return STRUCTURES[name].make(W, **{"dtype": torch.float64, **options})


def given(name: str, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> tuple:
    """The arguments of a call."""
    x = drawn(SHAPES.get(name, (T, B, W)), generator, dtype)
    return (x, FOREST) if "Tree" in name else (x,)


def formula(layer: Structure) -> str:
    found = re.search(r"^ +Parameters: ([A-Z0-9 ()+^]+)$", type(layer).__doc__ or "", re.MULTILINE)
    assert found, f"{type(layer).__name__} says nothing like `Parameters: 4 H (I + H)`"
    return found[1]


def value(text: str, letters: dict[str, int]) -> int:
    """What a formula such as `4 H (I + H^2)` comes to: what stands side by side is multiplied."""
    tokens = re.findall(r"[A-Z]|\d+|[()+^/]", text)
    written = ""
    for before, token in zip(["+", *tokens], tokens, strict=False):
        times = before not in "(+^/" and token not in ")+^/"
        written += "*" * times + {"^": "**", "/": "//"}.get(token, str(letters.get(token, token)))
    return eval(written, {"__builtins__": {}})


def letters_of(entry: Entry, width: int) -> dict[str, int]:
    letters = dict.fromkeys("IHC", width)
    for part in entry.sizes.split():
        name, _, text = part.partition("=")
        letters[name] = value(text, letters)
    return letters


@EVERY
@pytest.mark.parametrize("width", [4, 128])
def test_parameters_are_as_many_as_the_formula_says(name: str, width: int) -> None:
    entry = STRUCTURES[name]
    text = formula(entry.make(width, device="meta"))
    assert entry.count(width) == value(text, letters_of(entry, width))


def test_formulas_are_read_as_they_are_meant() -> None:
    assert value("4 H (I + H + 1) + 2 N H^2", {"I": 3, "H": 5, "N": 2}) == 4 * 5 * 9 + 4 * 25


@EVERY
def test_names_and_reasons(name: str) -> None:
    entry, layer = STRUCTURES[name], made(name)
    assert type(layer) is getattr(nn, name)
    assert entry.compiled == (layer.backend == "llvm")
    assert layer.backend_reason
    assert entry.compiled or layer.backend_reason == entry.reason
    author = entry.what.split(": ")[1].split(",")[0].split(" ")[0]
    assert author in (type(layer).__doc__ or "") or "ConvLSTM2d" in (type(layer).__doc__ or "")


def test_the_listing_has_every_structure() -> None:
    head, *lines = listing(128).splitlines()
    assert head.split()[-5:] == ["what", "it", "is,", "and", "whence"]
    rows = lines[: len(STRUCTURES)]
    assert [line.split()[0] for line in rows] == list(STRUCTURES)
    for line, entry in zip(rows, STRUCTURES.values(), strict=True):
        assert f"{entry.count(128):,}" in line
        assert (" compiled " if entry.compiled else " torch ") in line
    assert all(entry.reason in listing() for entry in STRUCTURES.values())


def test_every_structure_of_the_package_is_listed() -> None:
    found = [vars(nn)[name] for name in nn.__all__]
    kinds = {one.__name__ for one in found if isinstance(one, type) and issubclass(one, Structure)}
    assert kinds == set(STRUCTURES)


@EVERY
def test_copies_and_checkpoints(name: str, generator: torch.Generator) -> None:
    layer, call = unequal_(made(name), generator), given(name, generator)
    with target("eager"):
        expected = tensors(layer(*call))
        twin = copy.deepcopy(layer)
        assert_same(tensors(twin(*call)), expected)
        file = io.BytesIO()
        torch.save(layer.state_dict(), file)
        file.seek(0)
        other = made(name)
        other.load_state_dict(torch.load(file, weights_only=True))
        assert_same(tensors(other(*call)), expected)
        unequal_(twin, generator)
        assert_same(tensors(layer(*call)), expected)
    assert set(layer.state_dict()) == {key for key, _ in layer.named_parameters()}


@EVERY
def test_construction(name: str) -> None:
    blank = made(name, device="meta", dtype=torch.float32)
    kinds = {(one.device.type, one.dtype) for one in blank.parameters()}
    assert kinds == {("meta", torch.float32)}
    layer: Any = STRUCTURES[name].make(100)
    bound = 1 / math.sqrt(100 * (layer.kernel_size[0] ** layer.dims if "Conv" in name else 1))
    for key, one in layer.named_parameters():
        if "gates" not in key:
            assert 0.8 * bound < one.abs().max() <= bound, key
    first = {key: one.clone() for key, one in layer.named_parameters()}
    layer.reset_parameters()
    assert all((one != first[key]).any() for key, one in layer.named_parameters() if one.any())


@EVERY
def test_without_biases(name: str, generator: torch.Generator) -> None:
    layer = made(name, bias=False)
    kept = {key for key in layer.state_dict() if "bias" in key}
    assert kept == ({"bias_gates"} if name == "MatrixLSTM" else set())
    with target("eager"):
        layer(*given(name, generator))


@EVERY
def test_autocast_leaves_the_dtype_alone(name: str, generator: torch.Generator) -> None:
    layer = unequal_(made(name, dtype=torch.float32), generator)
    x, *rest = given(name, generator, torch.float32)
    with target("eager"):
        expected = tensors(layer(x, *rest))
        with torch.autocast("cpu", torch.bfloat16):
            assert_same(tensors(layer(x, *rest)), expected)
            assert all(one.dtype != torch.bfloat16 for one in tensors(layer(x.bfloat16(), *rest)))


@EVERY
def test_wrong_inputs(name: str, generator: torch.Generator) -> None:
    layer = made(name)
    x, *rest = given(name, generator)
    with pytest.raises(TypeError, match=f"{name}: expected input to be a Tensor, got list"):
        layer(x.tolist(), *rest)
    with pytest.raises(ValueError, match=r"\(torch.float32\) does not match .* layer.to\("):
        layer(x.float(), *rest)
    with pytest.raises(RuntimeError, match="input is on meta, the weights are on cpu"):
        layer(x.to("meta"), *rest)
    with pytest.raises((ValueError, RuntimeError), match="Expected input"):
        layer(x[0, 0, 0] if x.dim() > 2 else x[0], *rest)


@EVERY
def test_lengths_are_checked(name: str, generator: torch.Generator) -> None:
    if "Tree" in name:
        return
    layer, (x,) = made(name), given(name, generator)
    with pytest.raises(ValueError, match="got 5 for row 1"):
        layer(x, lengths=[T, T + 1])


def test_text_shows_what_was_chosen() -> None:
    assert repr(made("MatrixLSTM")) == "MatrixLSTM(4, 4, num_heads=2)"
    assert repr(made("ConvLSTM2d", batch_first=True)) == (
        "ConvLSTM2d(4, 4, (3, 3), batch_first=True)"
    )
    head = repr(GridLSTM(2, 3, tied=True, priority="time")).splitlines()[1].strip()
    assert head == "2, 3, priority='time', tied=True"


def test_states_of_a_row_are_not_shared(generator: torch.Generator) -> None:
    """A call changes none of its arguments."""
    for name in STRUCTURES:
        layer, call = made(name), given(name, generator)
        before: Tensor = call[0].clone()
        with target("eager"):
            _, states = layer(*call)
            if "Tree" not in name:
                kept = [state.clone() for state in states]
                layer(call[0], states)
                assert_same(list(states), kept, name)
        assert_same(call[0], before, name)


@EVERY
def test_second_derivatives(name: str, generator: torch.Generator) -> None:
    layer = unequal_(made(name), generator)
    x, *rest = given(name, generator)
    aim = drawn(x.shape, generator)

    def loss(x: Tensor) -> Tensor:
        return layer(x, *rest)[0].square().sum()

    def slope(x: Tensor) -> Tensor:
        x = x.requires_grad_()
        return torch.autograd.grad(loss(x), x)[0]

    with target("eager"):
        _, found = torch.autograd.functional.hvp(loss, x, aim)
        near = 1e-5
        steep = (slope(x + near * aim) - slope(x - near * aim)) / (2 * near)
    torch.testing.assert_close(found, steep, rtol=1e-5, atol=1e-7)


@EVERY
def test_vmap_is_a_loop(name: str, generator: torch.Generator) -> None:
    layer = unequal_(made(name), generator)
    x, *rest = given(name, generator)
    xs = torch.stack([x, 2 * x, -x])
    with target("eager"):
        found = torch.func.vmap(lambda one: layer(one, *rest)[0])(xs)
        assert_same(found, torch.stack([layer(one, *rest)[0] for one in xs]))


@pytest.mark.slow
@EVERY
def test_a_compiled_graph_is_whole(name: str, generator: torch.Generator) -> None:
    torch._dynamo.reset()
    layer, call = unequal_(made(name), generator), given(name, generator)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    assert_same(tensors(compiled(*call)), tensors(layer(*call)))

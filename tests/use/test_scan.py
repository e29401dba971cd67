"""Linear recurrences without a loop: the scan beside the definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from holdfast import cell, relu, sigmoid, tanh, where
from holdfast.cells import CELLS
from holdfast.compiler.cell import Cell
from holdfast.compiler.emit import eager
from holdfast.compiler.linear import is_linear
from holdfast.nn import QRNN, Recurrent, operators, scan
from tests.helpers import assert_same, unequal_
from tests.use.layers import drawn, observed, target

# torch's own forward mode scripts a module when it is first used.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")

B, I, H = 3, 3, 4


@cell(gates={"f g o": "W x + b"}, state="c d last", weights="p")
def mixed(f, g, o, c, d, last, p):
    """Two linear states, one that is just taken over, and an output that is not linear."""
    slow = where(g > 0.0, -c / (1 + sigmoid(f)), c * p + g) - tanh(g)
    fast = 0.5 * d + p - sigmoid(o) * (f - d)
    return tanh(slow) * fast + relu(last) * c, slow, fast, tanh(g)


@cell(gates={"f g": "W x + b"}, state="c")
def squared(f, g, c):
    """A state that sees its square."""
    c = sigmoid(f) * c * c + g
    return c, c


@cell(gates={"f g": "W x + b"}, state="c d")
def joined(f, g, c, d):
    """A state that sees another."""
    return d, sigmoid(f) * c + g, sigmoid(f) * d + c


@cell(gates={"f g": "W x + b"}, state="c")
def gated(f, g, c):
    """A gate that sees the state."""
    c = sigmoid(f + c) * c + g
    return c, c


@cell(gates={"f g": "W x + u*h + b"})
def looped(f, g, h):
    """Gates that see the output, unit by unit."""
    return sigmoid(f) * h + g


LINEAR = [CELLS["min_lstm"], CELLS["min_gru"], CELLS["qrnn"], mixed]
EVERY = pytest.mark.parametrize("kind", LINEAR, ids=lambda kind: kind.name)


def problem(kind: Cell, steps: int, dtype: torch.dtype, generator: torch.Generator) -> Any:
    shapes = {"x": (steps, B, I), "h": (B, H)} | dict.fromkeys(kind.states, (B, H))
    values = {
        name: drawn(shape, generator, dtype).requires_grad_()
        for name, shape in (shapes | kind.shapes(I, H)).items()
    }
    x, *states = (values[name] for name in shapes)
    return values, x, {name: values[name] for name in kind.names}, tuple(states)


def test_which_recurrences_are_linear() -> None:
    assert [name for name in CELLS if is_linear(CELLS[name])] == ["min_gru", "min_lstm", "qrnn"]
    assert is_linear(mixed)
    assert not any(map(is_linear, (squared, joined, gated, looped)))


@EVERY
@pytest.mark.parametrize("steps", [1, 2, 63])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("lengths", [None, (1, 0)], ids=["whole", "ragged"])
def test_a_scan_is_the_loop(
    kind: Cell, steps: int, dtype: torch.dtype, lengths: Any, generator: torch.Generator
) -> None:
    values, x, parameters, (h, *states) = problem(kind, steps, dtype, generator)
    counts = None if lengths is None else torch.tensor([*lengths, steps])
    found = []
    for run in (scan.run, eager.run):
        options: Any = {"lengths": counts, "sequences": True}
        result = run(kind, x, parameters, h, tuple(states), **options)
        assert result.sequences is not None
        parts = [result.out, result.h, *result.states, *result.sequences]
        weights = torch.Generator().manual_seed(7)
        loss = torch.stack([(p * drawn(p.shape, weights, dtype)).sum() for p in parts]).sum()
        slopes = torch.autograd.grad(loss, list(values.values()), allow_unused=True)
        pairs = zip(slopes, values.values(), strict=True)
        found.append((parts, [torch.zeros_like(v) if s is None else s for s, v in pairs]))
    assert_same(found[0], found[1])


def test_padding_may_hold_anything(generator: torch.Generator) -> None:
    values, x, parameters, (h, *states) = problem(mixed, 5, torch.float64, generator)
    spoiled = x.detach().clone()
    spoiled[2:, 0] = torch.nan
    spoiled.requires_grad_()
    counts = torch.tensor([2, 5, 4])
    result = scan.run(mixed, spoiled, parameters, h, tuple(states), lengths=counts)
    clean = scan.run(mixed, x, parameters, h, tuple(states), lengths=counts)
    assert_same([result.out, result.h, *result.states], [clean.out, clean.h, *clean.states])
    assert not torch.autograd.grad(result.out.sum(), spoiled)[0][2:, 0].any()
    assert values


class Counted(torch.overrides.TorchFunctionMode):
    """Counts the operations of a call."""

    number = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += 1
        return func(*args, **(kwargs or {}))


def test_operations_grow_with_the_logarithm(generator: torch.Generator) -> None:
    found = {}
    for steps in (64, 128, 256):
        _, x, parameters, (h, *states) = problem(CELLS["qrnn"], steps, torch.float32, generator)
        with Counted() as counted:
            scan.run(CELLS["qrnn"], x, parameters, h, tuple(states))
        found[steps] = counted.number
    assert found[256] - found[128] == found[128] - found[64] < 20


def made(kind: Any, generator: torch.Generator, **options: Any) -> Any:
    layer = Recurrent(kind, I, H, dtype=torch.float64, **options)
    return unequal_(layer, generator)


@EVERY
def test_layers_under_transforms(kind: Cell, generator: torch.Generator) -> None:
    layer, used = made(kind, generator, num_layers=2, bidirectional=True), []
    assert layer.backend == "llvm"

    def run(x: Tensor) -> Tensor:
        used.append(layer.backend)
        return layer(x, lengths=[5, 2, 7])[0]

    x, along = drawn((7, B, I), generator), drawn((7, B, I), generator)
    with target("eager"):
        expected = torch.stack([run(x), run(2 * x)])
        slope = torch.func.jvp(run, (x,), (along,))[1]
    used.clear()
    assert_same(torch.func.vmap(run)(torch.stack([x, 2 * x])), expected)
    assert_same(torch.func.jvp(run, (x,), (along,))[1], slope)
    assert used == ["scan", "scan"]


def test_which_layers_scan(generator: torch.Generator) -> None:
    cases: list[Any] = [{"device": "meta"}, {"dtype": torch.bfloat16}]
    for options in cases:
        assert Recurrent("min_lstm", I, H, **options).backend == "scan"
        assert Recurrent("lstm", I, H, **options).backend == "eager"
        zoned = Recurrent("min_lstm", I, H, zoneout=0.1, **options)
        assert zoned.backend == "eager"
    layer = QRNN(I, H, dtype=torch.bfloat16)
    assert (layer.backend, layer.backend_reason) == (
        "scan",
        "the input are bfloat16; compiled are float32 and float64; the recurrence is linear, so "
        "all steps are one scan",
    )
    x = drawn((40, B, I), generator, torch.bfloat16)
    with torch.no_grad():
        near = QRNN.forward(layer.float(), x.float())[0]
        found = layer.bfloat16()(x)[0]
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), near, rtol=0.1, atol=0.02)


def test_what_goes_step_by_step(generator: torch.Generator) -> None:
    layer, x = made("min_gru", generator), drawn((6, B, I), generator)
    resets = torch.rand((6, B), generator=generator) < 0.3
    expected = [layer(x, resets=resets)[0]]
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor([6, 4, 1]))
    expected.append(layer(packed)[0].data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operators, "select", lambda *_: ("scan", "the test asks for it"))
        found = [layer(x, resets=resets)[0], layer(packed)[0].data]
        whole = observed(layer, x)
    assert_same(found, expected)
    assert_same(whole, observed(layer, x))

"""The operators as PyTorch sees them: opcheck, second derivatives, transforms, tracing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from holdfast import cell, sigmoid, tanh
from holdfast.cells import CELLS
from holdfast.compiler.cell import Cell
from holdfast.compiler.vary import Variation, vary
from holdfast.nn import GRU, LSTM, Recurrent, operators
from tests.helpers import assert_same, unequal_

T, B, I, H = 5, 3, 2, 4
ROWS = {
    "dense": (None, None),
    "lengths": (torch.tensor([3, 0, 5]), None),
    "packed": (None, torch.tensor([3, 3, 2, 1])),
}


def _arguments(made: Cell, rows: str, generator: torch.Generator, *, grad: bool) -> tuple[Any, ...]:
    lengths, batch_sizes = ROWS[rows]

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).requires_grad_(grad)

    x = draw(T, B, I) if batch_sizes is None else draw(int(batch_sizes.sum()), I)
    states = [draw(B, H) for _ in made.states]
    parameters = [draw(*shape) for shape in made.shapes(I, H).values()]
    given = (x, draw(B, H), states, [], parameters, True)
    return *given, lengths, batch_sizes, None, None, None, None, False, made.key


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", ["lstm", "gru", "peephole"])
@pytest.mark.parametrize("operator", ["infer", "train"])
@pytest.mark.plain_memory
def test_opcheck_forward(operator: str, name: str, rows: str, generator: torch.Generator) -> None:
    arguments = _arguments(CELLS[name], rows, generator, grad=operator == "train")
    more = (False,) if operator == "infer" else ()
    torch.library.opcheck(getattr(torch.ops.holdfast, operator).default, (*arguments, *more))


@pytest.mark.parametrize("needs", [(True, True), (False, False)], ids=["x-and-h", "weights"])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.plain_memory
def test_opcheck_backward(rows: str, needs: tuple[bool, bool], generator: torch.Generator) -> None:
    peephole = CELLS["peephole"]
    arguments = _arguments(peephole, rows, generator, grad=False)
    out, *kept = torch.ops.holdfast.train(*arguments)
    d_out = torch.randn(out.shape, generator=generator)
    arguments = (*arguments, out, kept[:-1], kept[-1], d_out, [None], *needs)
    torch.library.opcheck(torch.ops.holdfast.backward.default, arguments)


def _layers(kind: str, generator: torch.Generator) -> tuple[Recurrent, torch.nn.Module]:
    ours = {"lstm": LSTM, "gru": GRU}[kind](I, H, dtype=torch.float64)
    unequal_(ours, generator)
    theirs = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](I, H, dtype=torch.float64)
    theirs.load_state_dict(ours.state_dict())
    assert ours.backend == "llvm"
    return ours, theirs


def _input(generator: torch.Generator) -> Tensor:
    return torch.randn(T, B, I, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("lengths", [None, [3, 0, 5]], ids=["dense", "ragged"])
@pytest.mark.parametrize("name", ["lstm", "gru", "peephole"])
def test_second_derivatives(
    name: str, lengths: list[int] | None, generator: torch.Generator
) -> None:
    layer = Recurrent(name, I, H, dtype=torch.float64)
    unequal_(layer, generator)
    x = _input(generator).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda value: layer(value, lengths=lengths)[0], (x,))


def test_a_state_given_twice_gets_its_gradient_once_each(generator: torch.Generator) -> None:
    """h and c may be the same tensor; under create_graph both shares are added up by autograd."""
    lstm = CELLS["lstm"]
    shapes = lstm.shapes(I, H)
    parameters = {
        name: torch.randn(shape, dtype=torch.float64, generator=generator)
        for name, shape in shapes.items()
    }
    x = _input(generator)
    start = torch.randn(B, H, dtype=torch.float64, generator=generator).requires_grad_()
    found = []
    for backend in ("llvm", "eager"):
        out = operators.run(backend, lstm, x, parameters, start, (start,)).out
        (first,) = torch.autograd.grad(out.square().sum(), start, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), start)
        found.append((first, second))
    assert_same(found[0], found[1], "first and second derivatives")


def test_a_penalty_on_the_gradient_reaches_the_parameters(generator: torch.Generator) -> None:
    """As in WGAN-GP: the norm of d out / d x is differentiated by every parameter."""
    ours, theirs = _layers("lstm", generator)
    found = []
    for layer in (ours, theirs):
        x = _input(torch.Generator().manual_seed(3)).requires_grad_()
        (slope,) = torch.autograd.grad(layer(x)[0].sum(), x, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), list(layer.parameters())))
    assert_same(found[0], found[1], "second derivatives by the parameters")


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_forward_mode(kind: str, generator: torch.Generator) -> None:
    ours, theirs = _layers(kind, generator)
    x, tangent = _input(generator), _input(generator)
    tangents = []
    for layer in (ours, theirs):
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x, tangent)
            tangents.append(forward_ad.unpack_dual(layer(dual)[0]).tangent)
    assert_same(tangents[0], tangents[1], "tangent")
    pushed = torch.func.jvp(lambda value: ours(value)[0], (x,), (tangent,))
    assert_same(pushed[1], tangents[1], "torch.func.jvp")


def test_transforms_of_torch_func(generator: torch.Generator) -> None:
    ours, _ = _layers("lstm", generator)
    many = torch.randn(6, T, B, I, dtype=torch.float64, generator=generator)
    mapped = torch.func.vmap(lambda value: ours(value)[0])(many)
    assert_same(mapped, torch.stack([ours(value)[0] for value in many]), "vmap")

    def loss(value: Tensor) -> Tensor:
        return ours(value)[0].square().sum()

    x = many[0].clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(x), x)
    assert_same(torch.func.grad(loss)(many[0]), expected, "torch.func.grad")


def _call_dense(layer: Recurrent, x: Tensor) -> Tensor:
    return layer(x)[0]


def _call_ragged(layer: Recurrent, x: Tensor) -> Tensor:
    return layer(x, lengths=torch.tensor([3, 0, 5]))[0]


@pytest.mark.parametrize("call", [_call_dense, _call_ragged], ids=["dense", "ragged"])
@pytest.mark.parametrize("proj_size", [0, 2], ids=["llvm", "eager"])
@pytest.mark.plain_memory
def test_compiled_by_torch(
    call: Callable[..., Tensor], proj_size: int, generator: torch.Generator
) -> None:
    """One graph without a break, on both targets, with the same gradients."""
    layer = LSTM(I, H, proj_size=proj_size)
    unequal_(layer, generator)
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    x = torch.randn(T, B, I, generator=generator)
    results = []
    for function in (compiled, call):
        value = x.clone().requires_grad_()
        out = function(layer, value)
        weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(5))
        inputs = [value, *layer.parameters()]
        results.append((out, torch.autograd.grad((out * weight).sum(), inputs)))
    assert_same(results[0], results[1], "torch.compile")


@pytest.mark.plain_memory
def test_a_cell_is_compiled_before_it_ever_ran(generator: torch.Generator) -> None:
    """Nothing about a cell waits for its first use, which here is inside the tracer."""

    @cell(gates="z g")
    def fresh(z, g, h):
        return (1 - sigmoid(z)) * h + sigmoid(z) * tanh(g)

    layer = Recurrent(fresh, I, H)
    unequal_(layer, generator)
    x = torch.randn(T, B, I, generator=generator)
    out = torch.compile(layer, fullgraph=True, backend="aot_eager")(x)[0]
    assert_same(out, layer(x)[0], "first use under torch.compile")


@pytest.mark.plain_memory
def test_a_tracer_sees_one_operator_not_a_loop(generator: torch.Generator) -> None:
    layer = LSTM(I, H)
    unequal_(layer, generator)
    x = torch.randn(T, B, I, generator=generator)
    with torch.no_grad():
        program = torch.export.export(layer, (x,), strict=False)
    calls = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert calls.count("holdfast.infer.default") == 1
    assert len(calls) < 20
    assert_same(program.module()(x)[0], layer(x)[0], "exported")


def test_the_reason_names_what_is_not_compiled() -> None:
    parameters = {"weight_ih": torch.zeros(16, I)}
    x = torch.zeros(T, B, I)
    lstm = CELLS["lstm"]
    masked = vary(lstm, Variation(recurrent_mask=True))
    cases = {
        "projected": operators.select(masked, x, parameters | {"weight_hr": torch.zeros(2, H)}),
        "bfloat16": operators.select(lstm, x.bfloat16(), parameters),
        "meta": operators.select(lstm, x.to("meta"), parameters),
        "no input features": operators.select(lstm, x, {"weight_ih": torch.zeros(16, 0)}),
        "no steps": operators.select(lstm, x[:0], parameters),
    }
    for word, (backend, reason) in cases.items():
        assert backend == "eager"
        assert word in reason
    assert operators.select(lstm, x, parameters)[0] == "llvm"


def _replace(arguments: tuple[Any, ...], position: int, value: Any) -> tuple[Any, ...]:
    return (*arguments[:position], value, *arguments[position + 1 :])


def test_a_kernel_never_reads_beyond_a_tensor(generator: torch.Generator) -> None:
    """Raw pointers go to compiled code, so the operators check every size themselves."""
    lstm = CELLS["lstm"]
    dense = _arguments(lstm, "dense", generator, grad=False)
    packed = _arguments(lstm, "packed", generator, grad=False)
    parameters = dense[4]
    wrong = {
        "weight_hh has the shape": _replace(
            dense, 4, [parameters[0], torch.zeros(4 * H, H - 1), *parameters[2:]]
        ),
        "h has the shape": _replace(dense, 1, torch.zeros(B + 1, H)),
        "c has the shape": _replace(dense, 2, [torch.zeros(B - 1, H)]),
        "c is torch.float64": _replace(dense, 2, [torch.zeros(B, H, dtype=torch.float64)]),
        "add up to the 9 rows": _replace(packed, 7, torch.tensor([3, 3, 2])),
        "must never grow": _replace(packed, 7, torch.tensor([3, 2, 3, 1])),
        "no more than 3 rows": _replace(packed, 7, torch.tensor([4, 3, 2])),
    }
    for message, arguments in wrong.items():
        for name, more in (("infer", (False,)), ("train", ())):
            with pytest.raises(RuntimeError, match=message):
                getattr(torch.ops.holdfast, name)(*arguments, *more)


def test_a_parameter_put_in_place_with_another_size_is_refused() -> None:
    layer = LSTM(I, H)
    layer.weight_hh_l0 = torch.nn.Parameter(torch.zeros(4 * H, H - 1))
    with pytest.raises(
        RuntimeError, match=r"weight_hh has the shape \(16, 3\), expected \(16, 4\)"
    ):
        layer(torch.zeros(T, B, I))

"""Every row of the table of operations: spelled everywhere, folded and differentiated rightly."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import math

import pytest
import torch
from torch import Tensor

from holdfast.compiler import ops
from holdfast.compiler.differentiate import differentiate
from holdfast.compiler.emit import eager
from holdfast.compiler.graph import Builder, Graph, Node
from holdfast.compiler.ops import OPS, Op
from holdfast.errors import CellError
from tests.graph.walk import evaluate
from tests.helpers import assert_same

ALONE = [op for op in OPS.values() if not op.pairs and not op.scans]
WHOLE = [pytest.param(op, id=op.name) for op in ALONE]
SMOOTH = [pytest.param(op, id=op.name) for op in ALONE if op.derivative and op.name != "peak"]
EVERY_OP = [pytest.param(op, id=op.name) for op in OPS.values()]
DIFFERENTIABLE = [
    pytest.param(op, id=op.name) for op in OPS.values() if op.derivative and op.name != "peak"
]

ORDINARY = (-47.3, -3.0, -1.0, -0.7, -1e-3, 1e-3, 0.4, 1.0, 2.9, 3.0, 12.5, 60.0)
EDGES = (0.0, -0.0, math.inf, -math.inf, math.nan, 1e6, -1e6, 1e300, -1e300)
CORNERS = {
    "relu": (0.0,),
    "abs": (0.0,),
    "hard_tanh": (-1.0, 1.0),
    "hard_sigmoid": (-3.0, 3.0),
    "turn": (0.25,),
    "real": (0.25,),
}
"""Where an operation has no derivative, the choice must be PyTorch's; pairs need an even number."""


def test_the_table_has_the_operations_that_are_promised() -> None:
    promised = "add sub mul div neg sigmoid tanh exp log sqrt relu abs max min where square"
    promised += " softplus hard_sigmoid hard_tanh mean lt le gt ge eq ne floor sin cos turn real"
    promised += " peak cumulate remain"
    assert set(promised.split()) == set(OPS)


@pytest.mark.parametrize("op", EVERY_OP)
def test_every_operation_has_an_eager_spelling(op: Op) -> None:
    assert op.name in eager.SPELLINGS


def test_eager_spells_nothing_else() -> None:
    assert set(eager.SPELLINGS) == set(OPS)


def test_every_operation_has_an_llvm_spelling() -> None:
    name = "holdfast.compiler.emit.llvm_math"
    if importlib.util.find_spec(name) is None:
        pytest.skip("the LLVM target is not there")
    assert set(importlib.import_module(name).SPELLINGS) == set(OPS)


def _arguments(op: Op, numbers: tuple[float, ...]) -> list[tuple[float | bool, ...]]:
    if op.name == "where":
        return list(itertools.product((True, False), numbers, numbers))
    return list(itertools.product(numbers, repeat=op.arity))


@pytest.mark.parametrize("op", WHOLE)
def test_fold_is_what_eager_computes(op: Op) -> None:
    arguments = _arguments(op, ORDINARY + EDGES)
    folded = torch.tensor([float(op.fold(*values)) for values in arguments], dtype=torch.float64)
    columns = [_column(values).unsqueeze(1) for values in zip(*arguments, strict=True)]
    spelled = eager.SPELLINGS[op.name](*columns).double().squeeze(1)  # rows of a single unit
    assert_same(folded, spelled, f"{op.name} on constants")


def _column(values: tuple[float | bool, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.bool if isinstance(values[0], bool) else torch.float64)


def _leaves(op: Op, builder: Builder) -> tuple[list[Node], Node]:
    """Leaves and one operation on them; the condition of `where` compares two more leaves."""
    names = ["x", "y", "p", "q"]
    nodes = [builder.leaf("gate", name) for name in names]
    if op.name == "where":
        return nodes, builder.apply("where", (nodes[2] > nodes[3], nodes[0], nodes[1]))
    return nodes[: op.arity], builder.apply(op.name, nodes[: op.arity])


def _gradients(op: Op, values: list[Tensor], incoming: Tensor) -> list[Tensor]:
    """The derivative of one operation by the table, evaluated through the graph."""
    nodes, result = _leaves(op, Builder())
    names = [node.name for node in nodes]
    graph = differentiate(Graph({"h": result}), names, (), ())
    leaves = {("gate", name): value for name, value in zip(names, values, strict=True)}
    leaves["grad", "d_h"] = incoming
    found = evaluate(graph.outputs.values(), leaves)
    return [found[node].expand_as(incoming) for node in graph.outputs.values()]


def _forward(op: Op, values: list[Tensor]) -> Tensor:
    nodes, result = _leaves(op, Builder())
    leaves = {("gate", node.name): value for node, value in zip(nodes, values, strict=True)}
    return evaluate([result], leaves)[result]


def _inputs(op: Op, numbers: tuple[float, ...]) -> list[Tensor]:
    count = 4 if op.name == "where" else op.arity
    rows = list(itertools.product(numbers, repeat=count))
    return [torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True)]


def _domain(op: Op) -> tuple[float, ...]:
    numbers = (-2.7, -0.6, 0.3, 1.9, 4.1)
    if op.name in ("log", "sqrt"):
        return tuple(abs(number) for number in numbers)
    return numbers + CORNERS.get(op.name, ())


@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_derivative_is_that_of_autograd(op: Op, generator: torch.Generator) -> None:
    """On ordinary numbers, on corners, and on every tie of two inputs."""
    values = [value.requires_grad_() for value in _inputs(op, _domain(op))]
    incoming = torch.rand(values[0].shape, generator=generator, dtype=torch.float64) + 0.5
    reference = torch.autograd.grad(
        _forward(op, values), values, incoming, allow_unused=True, materialize_grads=True
    )
    assert_same(_gradients(op, values, incoming), list(reference), f"derivative of {op.name}")


@pytest.mark.parametrize("op", SMOOTH)
def test_derivative_is_that_of_finite_differences(op: Op) -> None:
    """Away from corners and ties, where a difference means something."""
    numbers = tuple(number for number in _domain(op) if number not in CORNERS.get(op.name, ()))
    values = _inputs(op, numbers)
    distinct = torch.ones_like(values[0], dtype=torch.bool)
    for one, other in itertools.combinations(values, 2):
        distinct &= one != other
    values = [value[distinct] for value in values]
    found = _gradients(op, values, torch.ones_like(values[0]))
    width = 1e-6
    for position, gradient in enumerate(found):
        sides = [
            _forward(op, [v + side * (k == position) for k, v in enumerate(values)])
            for side in (width, -width)
        ]
        difference = (sides[0] - sides[1]) / (2 * width)
        error = (gradient - difference).abs() / (1 + difference.abs())
        assert error.max() < 1e-7, f"{op.name}, input {position}: {error.max():.2g} off"


def test_pairs_are_complex_numbers() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert eager.SPELLINGS["turn"](x).tolist() == [[-2.0, 1.0, -4.0, 3.0]]
    assert eager.SPELLINGS["real"](x).tolist() == [[1.0, 0.0, 3.0, 0.0]]
    with pytest.raises(ValueError, match="H must be even, got 3"):
        eager.SPELLINGS["turn"](x[:, :3])
    with pytest.raises(ValueError, match="take symbols"):
        ops.turn(1.0)
    for name in ("turn", "cumulate"):
        with pytest.raises(CellError, match=f"{name} of a number"):
            Builder().apply(name, (1.0,))


def test_sums_over_units_on_both_sides() -> None:
    x = torch.tensor([[1.0, 2.0, 4.0]])
    assert eager.SPELLINGS["cumulate"](x).tolist() == [[1.0, 3.0, 7.0]]
    assert eager.SPELLINGS["remain"](x).tolist() == [[7.0, 6.0, 4.0]]
    assert eager.SPELLINGS["peak"](x).tolist() == [[4.0, 4.0, 4.0]]


def test_far_out_derivatives_are_finite() -> None:
    for name in ("sigmoid", "tanh", "softplus", "hard_sigmoid", "hard_tanh", "relu", "abs"):
        far = torch.tensor([-1e4, -90.0, 90.0, 1e4], dtype=torch.float64, requires_grad=True)
        incoming = torch.ones_like(far)
        reference = torch.autograd.grad(_forward(OPS[name], [far]), far, incoming)
        assert_same(_gradients(OPS[name], [far], incoming), list(reference), name)


@pytest.mark.parametrize(
    ("function", "name", "arity"),
    [
        (ops.sigmoid, "sigmoid", 1),
        (ops.tanh, "tanh", 1),
        (ops.exp, "exp", 1),
        (ops.log, "log", 1),
        (ops.sqrt, "sqrt", 1),
        (ops.relu, "relu", 1),
        (ops.absolute, "abs", 1),
        (ops.square, "square", 1),
        (ops.softplus, "softplus", 1),
        (ops.hard_sigmoid, "hard_sigmoid", 1),
        (ops.hard_tanh, "hard_tanh", 1),
        (ops.maximum, "max", 2),
        (ops.minimum, "min", 2),
        (ops.floor, "floor", 1),
        (ops.sin, "sin", 1),
        (ops.cos, "cos", 1),
    ],
)
def test_a_public_function_is_its_row(function, name: str, arity: int) -> None:
    builder = Builder()
    symbols = [builder.leaf("gate", letter) for letter in "xy"[:arity]]
    node = function(*symbols)
    assert node.op == name
    assert [child.index for child in node.inputs] == [symbol.index for symbol in symbols]
    numbers = (0.7, -1.3)[:arity]
    assert function(*numbers) == OPS[name].fold(*numbers)

"""Single steps: the cells of torch.nn, and any other cell of the catalogue."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import torch
from torch import Tensor, nn

import holdfast
from holdfast.cells import CELLS
from holdfast.compiler.vary import Variation, vary
from holdfast.errors import CellError
from holdfast.nn import GRUCell, LSTMCell, Recurrent, RecurrentCell, RNNCell
from tests.emit.user_cells import CATALOGUE
from tests.helpers import SHAPES, Shape, assert_same, unequal_
from tests.use.layers import drawn, observed, target

# PyTorch's module with the cases loads a hypothesis profile of its own.
_profile = hypothesis.settings.get_current_profile_name()
common_modules = importlib.import_module("torch.testing._internal.common_modules")
hypothesis.settings.load_profile(_profile)

OURS: dict[Any, Any] = {nn.LSTMCell: LSTMCell, nn.GRUCell: GRUCell, nn.RNNCell: RNNCell}
DTYPES = [torch.float64, torch.float32]
KINDS = {
    "lstm": (LSTMCell, nn.LSTMCell, {}),
    "gru": (GRUCell, nn.GRUCell, {}),
    "rnn_tanh": (RNNCell, nn.RNNCell, {}),
    "rnn_relu": (RNNCell, nn.RNNCell, {"nonlinearity": "relu"}),
}


def _cases(errors: bool) -> Iterator[Any]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for info in common_modules.module_db:
            if info.module_cls not in OURS:
                continue
            for dtype in DTYPES:
                make = info.module_error_inputs_func if errors else info.module_inputs_func
                cases = make(info, "cpu", dtype, requires_grad=not errors, training=True)
                for index, case in enumerate(cases):
                    name = f"{info.module_cls.__name__}-{index}-{str(dtype)[6:]}"
                    yield pytest.param(info.module_cls, case, dtype, id=name)


SAMPLES = list(_cases(errors=False))
ERRORS = list(_cases(errors=True))


def test_all_cases_are_here() -> None:
    for module, samples, errors in ((nn.LSTMCell, 2, 4), (nn.GRUCell, 2, 6), (nn.RNNCell, 3, 6)):
        own = [[p for p in cases if p.values[0] is module] for cases in (SAMPLES, ERRORS)]
        assert len(own[0]) >= len(DTYPES) * samples
        assert len(own[1]) >= len(DTYPES) * errors


@pytest.mark.parametrize(("theirs", "case", "dtype"), SAMPLES)
def test_sample(theirs: Any, case: Any, dtype: torch.dtype, generator: torch.Generator) -> None:
    args, options = case.constructor_input.args, case.constructor_input.kwargs
    reference = unequal_(theirs(*args, **options, dtype=dtype), generator)
    module = OURS[theirs](*args, **options, dtype=dtype)
    module.load_state_dict(reference.state_dict())
    given = case.forward_input
    assert not given.kwargs
    assert_same(observed(module, *given.args), observed(reference, *given.args))
    expected = case.reference_fn(reference, *given.args)
    assert_same(module(*given.args), expected, "reference through PyTorch's cell")


@pytest.mark.parametrize(("theirs", "case", "dtype"), ERRORS)
def test_error(theirs: Any, case: Any, dtype: torch.dtype) -> None:
    given = case.module_error_input
    module = OURS[theirs](*given.constructor_input.args, **given.constructor_input.kwargs).to(dtype)
    assert case.error_on == common_modules.ModuleErrorEnum.FORWARD_ERROR
    with pytest.raises(case.error_type, match=case.error_regex):
        module(*given.forward_input.args, **given.forward_input.kwargs)


def _given(module: RecurrentCell, rows: int | None, generator: torch.Generator) -> Any:
    batch = () if rows is None else (rows,)
    x = drawn((*batch, module.input_size), generator)
    count = 1 + len(module.cell.states)
    states = tuple(drawn((*batch, module.hidden_size), generator) for _ in range(count))
    return x, states if module.cell.states else states[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [None, 4])
def test_as_pytorch(kind: str, bias: bool, rows: int | None, generator: torch.Generator) -> None:
    ours, theirs, options = KINDS[kind]
    reference = unequal_(theirs(5, 10, bias, **options, dtype=torch.float64), generator)
    module = ours(5, 10, bias, **options, dtype=torch.float64)
    assert repr(module) == repr(reference)
    assert list(module.state_dict()) == list(reference.state_dict())
    module.load_state_dict(reference.state_dict())
    reference.load_state_dict(module.state_dict())
    x, hx = _given(module, rows, generator)
    for name in ("eager", "default"):
        with target(name):
            assert_same(observed(module, x, hx), observed(reference, x, hx), name)
            assert_same(observed(module, x), observed(reference, x), f"{name} from zero")


@pytest.mark.parametrize("kind", KINDS)
def test_same_constructor_and_same_initial_weights(kind: str) -> None:
    ours, theirs, options = KINDS[kind]
    mine, other = (inspect.signature(made.__init__).parameters for made in (ours, theirs))
    assert [(p.name, p.default) for p in mine.values()] == [
        (p.name, p.default) for p in other.values()
    ]
    drawn_weights = []
    for made in (ours, theirs):
        with torch.random.fork_rng():
            torch.manual_seed(5)
            drawn_weights.append(made(3, 5, **options).state_dict())
    assert_same(*drawn_weights)


@pytest.mark.parametrize("shape", SHAPES[3::5])
def test_one_step_of_a_layer(shape: Shape, generator: torch.Generator) -> None:
    module = RecurrentCell("peephole", shape.I, shape.H, dtype=torch.float64)
    _assert_one_step_of_a_layer(module, shape.B, generator)


@pytest.mark.parametrize("name", CATALOGUE)
def test_one_step_of_a_layer_with_any_cell(name: str, generator: torch.Generator) -> None:
    module = RecurrentCell(name, 5, 10, dtype=torch.float64)
    _assert_one_step_of_a_layer(module, 4, generator)


def _assert_one_step_of_a_layer(
    module: RecurrentCell, rows: int, generator: torch.Generator
) -> None:
    unequal_(module, generator)
    layer = Recurrent(module.cell, module.input_size, module.hidden_size, dtype=torch.float64)
    weights = {f"{name}_l0": weight for name, weight in module.state_dict().items()}
    assert list(weights) == list(layer.state_dict())
    layer.load_state_dict(weights)
    x, hx = _given(module, rows, generator)
    states = tuple(s.unsqueeze(0) for s in hx) if module.cell.states else hx.unsqueeze(0)
    _, last = layer(x.unsqueeze(0), states)
    expected = tuple(s.squeeze(0) for s in last) if module.cell.states else last.squeeze(0)
    with torch.no_grad():
        assert_same(module(x, hx), expected)


def test_a_loop_is_a_layer_gradients_too(generator: torch.Generator) -> None:
    module = RecurrentCell("peephole", 5, 10, dtype=torch.float64)
    unequal_(module, generator)
    layer = Recurrent("peephole", 5, 10, dtype=torch.float64)
    layer.load_state_dict({f"{name}_l0": w for name, w in module.state_dict().items()})
    x = drawn((6, 4, 5), generator).requires_grad_()
    h, c = module(x[0])
    steps = [h]
    for x_t in x[1:]:
        h, c = module(x_t, (h, c))
        steps.append(h)
    out, (_, last) = layer(x)
    assert_same([torch.stack(steps), c], [out, last[0]])
    leaves = [[x, *made.parameters()] for made in (module, layer)]
    mine, theirs = (
        torch.autograd.grad(value.square().sum(), inputs)
        for value, inputs in zip((torch.stack(steps), out), leaves, strict=True)
    )
    assert_same(mine, theirs, "gradients")


def test_gradcheck(generator: torch.Generator) -> None:
    module = LSTMCell(5, 10, dtype=torch.float64)
    x, (h, c) = _given(module, 2, generator)
    leaves = [tensor.requires_grad_() for tensor in (x, h, c)]

    def function(x: Tensor, h: Tensor, c: Tensor, *_: Tensor) -> Any:
        return module(x, (h, c))

    assert torch.autograd.gradcheck(function, (*leaves, *module.parameters()))


def test_what_runs() -> None:
    assert (LSTMCell(3, 5).backend, LSTMCell(3, 5).backend_reason) == (
        "llvm",
        "compiled for this processor",
    )
    assert LSTMCell(3, 5, dtype=torch.bfloat16).backend == "eager"


def test_no_rows() -> None:
    h, c = LSTMCell(5, 10)(torch.zeros(0, 5))
    assert h.shape == c.shape == (0, 10)


def test_states_in_a_list_and_autocast(generator: torch.Generator) -> None:
    module = LSTMCell(5, 10)
    x, h, c = (torch.randn(4, n, generator=generator) for n in (5, 10, 10))
    assert_same(module(x, [h, c]), module(x, (h, c)))
    with torch.autocast("cpu", torch.bfloat16):
        got = module(x.bfloat16(), (h.bfloat16(), c))
    expected = module(x.bfloat16().float(), (h.bfloat16().float(), c))
    assert_same(got, expected)


def test_copies_and_pickles(generator: torch.Generator) -> None:
    module = RecurrentCell("peephole", 3, 5)
    x = torch.randn(4, 3, generator=generator)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert twin.cell is module.cell
        assert twin.p_i is not module.p_i
        assert_same(twin(x), module(x))
    assert repr(module) == "RecurrentCell(peephole, 3, 5)"

    @holdfast.cell(gates="a")
    def local(a: Any) -> Any:
        return holdfast.tanh(a)

    assert_same(copy.deepcopy(RecurrentCell(local, 3, 5))(x).shape, torch.Size([4, 5]))


def _fails(error: type[Exception], message: str, module: Any, *args: Any) -> None:
    with pytest.raises(error, match=message):
        module(*args)


def test_errors() -> None:
    x, h = torch.zeros(4, 3), torch.zeros(4, 5)
    lstm, gru = LSTMCell(3, 5), GRUCell(3, 5)
    _fails(ValueError, "LSTMCell: Expected input to be 1D or 2D, got 3D instead", lstm, x[None])
    _fails(TypeError, "GRUCell: expected input to be a Tensor, got list", gru, [1.0])
    _fails(TypeError, r"expected hx to be a tuple \(h_0, c_0\) of tensors, got Tensor", lstm, x, h)
    _fails(ValueError, r"\(h_0, c_0\) of 2 tensors, got 1", lstm, x, (h,))
    _fails(TypeError, "GRUCell: expected hx to be a Tensor, got tuple", gru, x, (h,))
    _fails(ValueError, r"Expected hx\[1\] to be 1D or 2D, got 3D", lstm, x, (h, h[None]))
    _fails(RuntimeError, "hidden1 has inconsistent hidden_size: got 3, expected 5", lstm, x, (h, x))
    _fails(RuntimeError, "for batched 2-D input, hidden0 should .* got 1-D", gru, x, h[0])
    _fails(RuntimeError, "for unbatched 1-D input, hidden0 should .* got 2-D", gru, x[0], h)
    _fails(RuntimeError, r"input is torch\.float64, expected torch\.float32", gru, x.double())
    _fails(RuntimeError, r"hidden0 is torch\.float64, expected torch\.float32", gru, x, h.double())
    _fails(RuntimeError, "input is on meta, expected cpu", gru, x.to("meta"))
    _fails(RuntimeError, "Unknown nonlinearity: sin. Select from", RNNCell, 3, 5, True, "sin")
    _fails(ValueError, "hidden_size must be greater than zero, got: 0", GRUCell, 3, 0)
    _fails(TypeError, "input_size should be of type int, got: float", GRUCell, 3.0, 5)
    _fails(CellError, "no cell named 'lsmt'", RecurrentCell, "lsmt", 3, 5)
    masked = vary(CELLS["lstm"], Variation(zoneout=("h",)))
    _fails(ValueError, "the cell lstm draws random masks", RecurrentCell, masked, 3, 5)
    assert isinstance(gru(x, h), Tensor)

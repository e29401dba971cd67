"""A layer as a module: construction, errors, copies, devices, autocast, compilation, own cells."""

from __future__ import annotations

import copy
import io
import pickle
import re
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from holdfast import Cell, cell, sigmoid, tanh
from holdfast.cells import CELLS, lstm, peephole
from holdfast.compiler.emit.eager import Result
from holdfast.errors import CellError
from holdfast.nn import GRU, LSTM, RNN, Recurrent, operators
from tests.emit.problems import fit
from tests.emit.user_cells import CATALOGUE
from tests.helpers import assert_same, unequal_
from tests.use.layers import KINDS, drawn, initial, pair, target, tensors

# PyTorch says once that its own projected LSTM is a slow one.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")


@cell(gates="i f g", state="c n")
def counted(i, f, g, c, n):
    """An LSTM without output gate that also carries the sum of its input gate."""
    n = n + sigmoid(i)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return tanh(c) / n, c, n


def local_cell() -> Cell:
    @cell(gates="a", state="s")
    def local(a, s):
        return tanh(a + s), tanh(a)

    return local


@pytest.mark.parametrize("kind", KINDS)
def test_options_and_text_are_those_of_torch(kind: str) -> None:
    ours, theirs, more = KINDS[kind]
    options: dict[str, Any] = {"num_layers": 2, "bias": False, "batch_first": True, **more}
    options |= {"dropout": 0.5, "bidirectional": True}
    layer = ours(3, 5, **options)
    reference = theirs(3, 5, **options)
    assert repr(layer) == repr(reference)
    assert repr(ours(3, 5)) == repr(theirs(3, 5))
    for name in ("mode", "input_size", "hidden_size", *options):
        assert getattr(layer, name) == getattr(reference, name)
    layer.flatten_parameters()


def test_arguments_stand_where_torch_has_them() -> None:
    assert repr(LSTM(3, 5, 2, False, True, 0.5, True, 2)) == repr(
        nn.LSTM(3, 5, 2, False, True, 0.5, True, 2)
    )
    relu = RNN(3, 5, 2, "relu", False, True, 0.5, True)
    assert (relu.nonlinearity, relu.mode) == ("relu", "RNN_RELU")
    assert repr(relu) == repr(nn.RNN(3, 5, 2, "relu", False, True, 0.5, True))
    assert GRU(3, 5, 2, False, True, 0.5, True, "meta", torch.float64).backend == "eager"


def test_recurrent_names_its_cell() -> None:
    layer = Recurrent("peephole", 3, 5, num_layers=2)
    assert repr(layer) == "Recurrent(peephole, 3, 5, num_layers=2)"
    names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "p_i", "p_f", "p_o"]
    assert list(layer.state_dict()) == [f"{name}_l{k}" for k in (0, 1) for name in names]
    assert layer.cell is peephole


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"cell": "lstn"},
            CellError,
            r"'lstn' \(did you mean lstm or .*\?\); expected .*ast cells`",
        ),
        ({"cell": "Peephole"}, CellError, r"\(did you mean peephole or peephole_2002\?\);"),
        ({"cell": "yak"}, CellError, r"no cell named 'yak'; expected a name that `holdfast cells`"),
        pytest.param({"cell": lstm.function}, TypeError, "got: function; decorate", id="function"),
        ({"hidden_size": 5.0}, TypeError, "hidden_size should be of type int, got: float"),
        ({"num_layers": 1.0}, TypeError, "num_layers should be of type int, got: float"),
        ({"num_layers": -1}, ValueError, "num_layers must be greater than zero, got: -1"),
        ({"dropout": 1.5}, ValueError, "number in range .* got: 1.5"),
        ({"dropout": True}, ValueError, "number in range .* got: True"),
        ({"dropout": "0.5"}, ValueError, "number in range .* got: '0.5'"),
        ({"proj_size": -1}, ValueError, "positive integer or zero .* got: -1"),
        ({"proj_size": 5}, ValueError, "smaller than hidden_size, got: 5 and 5"),
        ({"cell": "gru", "proj_size": 2}, ValueError, "cell gru: it uses h unit by unit"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    given: dict[str, Any] = {"cell": "lstm", "input_size": 3, "hidden_size": 5, **options}
    with pytest.raises(error, match=message):
        Recurrent(**given)


def test_what_torch_refuses_by_name() -> None:
    for layer in (GRU, RNN):
        with pytest.raises(ValueError, match="proj_size argument is only supported for LSTM"):
            layer(3, 5, proj_size=2)
    with pytest.raises(ValueError, match="Unknown nonlinearity 'sine'"):
        RNN(3, 5, nonlinearity="sine")


WRONG_INPUTS: dict[str, tuple[Any, Any]] = {
    "1-D input": (torch.zeros(3), None),
    "4-D input": (torch.zeros(2, 2, 2, 3), None),
    "features": (torch.zeros(4, 2, 7), None),
    "no steps": (torch.zeros(0, 2, 3), None),
    "dtype": (torch.zeros(4, 2, 3, dtype=torch.float64), None),
    "integers": (torch.zeros(4, 2, 3, dtype=torch.int64), None),
    "device": (torch.zeros(4, 2, 3, device="meta"), None),
    "state rows": (torch.zeros(4, 2, 3), (1, 3, 5)),
    "state layers": (torch.zeros(4, 2, 3), (2, 2, 5)),
    "state units": (torch.zeros(4, 2, 3), (1, 2, 4)),
    "2-D state": (torch.zeros(4, 2, 3), (2, 5)),
    "3-D state of 2-D input": (torch.zeros(4, 3), (1, 2, 5)),
}


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh"])
@pytest.mark.parametrize("wrong", WRONG_INPUTS)
def test_wrong_input_is_refused_as_torch_refuses_it(kind: str, wrong: str) -> None:
    ours, theirs, more = KINDS[kind]
    x, shape = WRONG_INPUTS[wrong]
    hx: Any = None if shape is None else torch.zeros(shape)
    if hx is not None and kind == "lstm":
        hx = (hx, hx)
    with pytest.raises((RuntimeError, ValueError)) as expected:
        theirs(3, 5, **more)(x, hx)
    with pytest.raises((RuntimeError, ValueError)) as got:
        ours(3, 5, **more)(x, hx)
    assert got.type is expected.type
    if wrong == "device":
        assert "not at the same device, found input tensor at meta" in str(got.value)
    else:
        assert str(got.value) == str(expected.value).replace("D tensor instead", "D instead")


@pytest.mark.parametrize(
    ("kind", "x", "hx", "error", "message"),
    [
        ("lstm", [1.0], None, TypeError, "LSTM: expected input to be a Tensor .* got list"),
        ("lstm", None, torch.zeros(1, 2, 5), TypeError, r"tuple \(h_0, c_0\) .* got Tensor"),
        ("lstm", None, (torch.zeros(1, 2, 5),), ValueError, r"\(h_0, c_0\) of 2 .* got 1"),
        ("lstm", None, (torch.zeros(1, 2, 5), None), TypeError, "tensors, got one of NoneType"),
        ("gru", None, (torch.zeros(1, 2, 5),), TypeError, "GRU: expected hx .* got tuple"),
        (
            "gru",
            None,
            torch.zeros(1, 2, 5, dtype=torch.float64),
            RuntimeError,
            "not the same dtype, .* torch.float32 and hidden with torch.float64",
        ),
        ("gru", None, torch.zeros(1, 2, 5, device="meta"), RuntimeError, "cpu and hidden at meta"),
    ],
    ids=["list", "lone h", "too few", "None", "tuple", "dtype", "device"],
)
def test_wrong_kinds(kind: str, x: Any, hx: Any, error: type[Exception], message: str) -> None:
    ours, _, more = KINDS[kind]
    with pytest.raises(error, match=message):
        ours(3, 5, **more)(torch.zeros(4, 2, 3) if x is None else x, hx)


def test_nested_input_is_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nested = torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(4, 3)])
    with pytest.raises(ValueError, match="pass lengths="):
        LSTM(3, 5)(nested)


def test_wrong_packed_states() -> None:
    packed = pack_padded_sequence(torch.zeros(4, 2, 3), torch.tensor([4, 2]))
    with pytest.raises(RuntimeError, match=r"Expected hidden size \(1, 2, 5\), got \[1, 3, 5\]"):
        GRU(3, 5)(packed, torch.zeros(1, 3, 5))
    with pytest.raises(ValueError, match="RNN input dtype"):
        GRU(3, 5, dtype=torch.float64)(packed)


def test_return_cells(generator: torch.Generator) -> None:
    layer: Any = unequal_(LSTM(3, 5, 2, bidirectional=True, dtype=torch.float64), generator)
    x = drawn((6, 2, 3), generator)
    hx = initial(layer, 2, generator, torch.float64)
    out, last, cells = layer(x, hx, return_cells=True)
    assert_same((out, last), layer(x, hx))
    assert_same(cells[-1, :, :5], last[1][2], "forwards, the last cell is the last state")
    assert_same(cells[0, :, 5:], last[1][3], "backwards, the first")
    single = layer(x[:, 1], tuple(state[:, 1] for state in hx), return_cells=True)
    assert_same(single[2], cells[:, 1], "a single sequence")
    with pytest.raises(ValueError, match="the cell gru has no state besides h"):
        GRU(3, 5)(torch.zeros(4, 2, 3), return_cells=True)


def test_own_cell(generator: torch.Generator) -> None:
    layer: Any = unequal_(Recurrent(counted, 2, 3, dtype=torch.float64), generator)
    x = drawn((4, 2, 2), generator)
    out, (h, c, n), cells = layer(x, return_cells=True)
    named = dict(layer.named_parameters())
    h_t = c_t = n_t = torch.zeros(2, 3, dtype=torch.float64)
    course: list[tuple[Tensor, ...]] = []
    for x_t in x:
        sums = nn.functional.linear(x_t, named["weight_ih_l0"], named["bias_ih_l0"])
        sums = sums + nn.functional.linear(h_t, named["weight_hh_l0"], named["bias_hh_l0"])
        i, f, g = sums.split(3, 1)
        n_t = n_t + i.sigmoid()
        c_t = f.sigmoid() * c_t + i.sigmoid() * g.tanh()
        h_t = c_t.tanh() / n_t
        course.append((h_t, c_t, n_t))
    expected = [torch.stack(values) for values in zip(*course, strict=True)]
    assert_same((out, *cells), expected)
    assert_same((h[0], c[0], n[0]), course[-1])


@pytest.mark.parametrize("name", CATALOGUE)
def test_pickle_carries_the_cell_by_name(name: str, generator: torch.Generator) -> None:
    units = fit(CELLS[name], 5)
    layer: Any = unequal_(Recurrent(name, 3, units, 2, bidirectional=True), generator)
    x = drawn((4, 2, 3), generator, torch.float32)
    extra = {one: x[..., 0].abs() for one in CELLS[name].inputs if one != "x"}
    for twin in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        assert twin.cell is CELLS[name]
        assert_same(twin(x, extra=extra), layer(x, extra=extra))
        pairs = zip(twin.parameters(), layer.parameters(), strict=True)
        assert all(mine is not theirs for mine, theirs in pairs)


def test_pickle_of_own_cells() -> None:
    layer = Recurrent(local_cell(), 3, 5)
    with pytest.raises(pickle.PicklingError, match=r"local cannot be found .* at the top of a mod"):
        pickle.dumps(layer)
    assert copy.deepcopy(layer).cell is layer.cell
    with pytest.raises(pickle.PicklingError, match="the cell gru cannot be found as"):
        pickle.dumps(Recurrent(replace(counted, name="gru", function=lstm.function), 3, 5))
    kept = pickle.dumps(Recurrent(counted, 3, 5))
    assert pickle.loads(kept).cell is counted


def test_a_checkpoint_goes_through_a_file(generator: torch.Generator) -> None:
    layer, reference = pair("lstm", 3, 5, 2, generator=generator)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    reference.load_state_dict(torch.load(file, weights_only=True))
    x = drawn((4, 2, 3), generator, torch.float32)
    assert_same(layer(x), reference(x))


def test_devices_and_dtypes() -> None:
    layer = LSTM(3, 5, 2, bidirectional=True, device="meta", dtype=torch.float64)
    assert {p.device.type for p in layer.parameters()} == {"meta"}
    out, (h, c) = layer(torch.zeros(7, 2, 3, device="meta", dtype=torch.float64))
    assert (out.shape, h.shape, c.shape) == ((7, 2, 10), (4, 2, 5), (4, 2, 5))
    layer = layer.to_empty(device="cpu").float()
    layer.reset_parameters()
    assert layer(torch.zeros(7, 2, 3), lengths=[7, 2])[0].dtype == torch.float32
    bound = 5**-0.5
    values = torch.cat([p.flatten() for p in layer.parameters()])
    assert values.abs().max() <= bound
    assert values.max() > 0.9 * bound


def test_half_precision_runs() -> None:
    layer = LSTM(3, 5, dtype=torch.bfloat16)
    assert layer.backend == "eager"
    assert "bfloat16" in layer.backend_reason
    assert layer(torch.zeros(7, 2, 3, dtype=torch.bfloat16))[0].dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["eager", "default"])
def test_autocast_leaves_the_weights_dtype(name: str, generator: torch.Generator) -> None:
    layer: Any = unequal_(LSTM(3, 5, 2, dropout=0.0, bidirectional=True), generator)
    x = drawn((4, 2, 3), generator, torch.float32).bfloat16()
    hx = initial(layer, 2, generator, torch.float32)
    expected = layer(x.float(), hx)
    with target(name), torch.autocast("cpu"):
        assert_same(layer(x, hx), expected)
        assert_same(layer(x, tuple(s.bfloat16().float() for s in hx)), layer(x, _half(hx)))
    with pytest.raises(ValueError, match="does not match weight dtype"):
        layer(x)


def _half(states: Any) -> Any:
    return tuple(state.bfloat16() for state in states)


def test_backend_is_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    used: list[str] = []
    run = operators.run

    def select(cell: Cell, x: Tensor, parameters: Any) -> tuple[str, str]:
        asked.append((cell, x.dtype, x.device.type, x.shape[-1], sorted(parameters)))
        return "eager", "the test says so"

    def record(backend: str, *args: Any, **options: Any) -> Result:
        used.append(backend)
        return run(backend, *args, **options)

    monkeypatch.setattr(operators, "select", select)
    monkeypatch.setattr(operators, "run", record)
    layer = LSTM(3, 5, num_layers=2, bidirectional=True, proj_size=2)
    assert (layer.backend, layer.backend_reason) == ("eager", "the test says so")
    names = ["bias_hh", "bias_ih", "weight_hh", "weight_hr", "weight_ih"]
    assert asked == [(lstm, torch.float32, "cpu", 3, names)] * 2
    layer(torch.zeros(4, 2, 3))  # also asks whether it may go the short way
    asked.clear()
    used.clear()
    layer(torch.zeros(4, 2, 3))
    assert used == ["eager"] * 4, "one run for each layer and direction"
    assert [features for _, _, _, features, _ in asked] == [3, 3, 4, 4]


@pytest.mark.parametrize(
    ("options", "word"),
    [({"proj_size": 2}, None), ({"device": "meta"}, "meta"), ({}, None)],
    ids=["projection", "meta", "plain"],
)
def test_backend_says_why(options: dict[str, Any], word: str | None) -> None:
    layer = LSTM(3, 5, **options)
    assert layer.backend == ("llvm" if word is None else "eager")
    assert re.search(word or ".", layer.backend_reason)


@pytest.mark.parametrize("kind", ["lstm", pytest.param("gru", marks=pytest.mark.slow)])
def test_compiles_into_one_graph(kind: str, generator: torch.Generator) -> None:
    layer, _ = pair(kind, 3, 5, 2, bidirectional=True, batch_first=True, generator=generator)
    x = drawn((4, 9, 3), generator, torch.float32)
    lengths = torch.tensor([9, 0, 4, 1])
    hx = initial(layer, 4, generator, torch.float32)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    assert_same(compiled(x), layer(x))
    for more in ({}, {"lengths": lengths}):
        gradients = []
        for module in (compiled, layer):
            results = tensors(module(x, hx, **more))
            loss = torch.stack([result.square().sum() for result in results]).sum()
            gradients.append((results, torch.autograd.grad(loss, list(layer.parameters()))))
        assert_same(*gradients)


def test_compiled_lengths_are_clamped(generator: torch.Generator) -> None:
    layer, _ = pair("lstm", 3, 5, bidirectional=True, generator=generator)
    x = drawn((9, 4, 3), generator, torch.float32)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def compiled(lengths: Tensor) -> Any:
        return layer(x, lengths=lengths)

    assert_same(compiled(torch.tensor([20, -3, 4, 9])), layer(x, lengths=[9, 0, 4, 9]))


def test_exports_with_any_batch_and_time(generator: torch.Generator) -> None:
    layer, _ = pair("lstm", 3, 5, 2, bidirectional=True, generator=generator)
    sizes = {0: torch.export.Dim("T"), 1: torch.export.Dim("B")}
    exported = torch.export.export(layer, (torch.zeros(4, 2, 3),), dynamic_shapes=(sizes,))
    for shape in ((9, 6, 3), (2, 3, 3)):
        x = drawn(shape, generator, torch.float32)
        assert_same(exported.module()(x), layer(x))

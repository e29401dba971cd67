"""Nodes of ONNX become modules that compute what ONNX says."""

from __future__ import annotations

import copy
import pickle
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from holdfast.nn import from_onnx
from tests.helpers import assert_same
from tests.use.layers import target
from tests.use.onnx_equations import ACTIVATIONS, DEFAULTS, DIRECTIONS, Case, drawn, node

NODE_CASES = [
    *(f"test_lstm_{name}" for name in ("defaults", "with_initial_bias", "with_peepholes")),
    *(f"test_lstm_{name}" for name in ("batchwise", "reverse", "bidirectional")),
    *(f"test_gru_{name}" for name in ("defaults", "with_initial_bias", "seq_length")),
    *(f"test_gru_{name}" for name in ("batchwise", "reverse", "bidirectional")),
    *(f"test_simple_rnn_{name}" for name in ("defaults", "with_initial_bias", "batchwise")),
    *(f"test_simple_rnn_{name}" for name in ("reverse", "bidirectional")),
    "test_rnn_seq_length",
]


@pytest.fixture(scope="module")
def node_cases() -> dict[str, Any]:
    """ONNX's own cases for the three operators, by name."""
    reason = "the package onnx, which holds ONNX's own cases, is not installed"
    collected = pytest.importorskip("onnx.backend.test.case.node", reason=reason)
    state = np.random.get_state()
    with warnings.catch_warnings():
        # Cases of other operators overflow and divide by zero on purpose.
        warnings.simplefilter("ignore", RuntimeWarning)
        cases = collected.collect_testcases(None)
    np.random.set_state(state)
    nodes = ((case, case.model.graph.node) for case in cases)
    return {
        case.name: case
        for case, found in nodes
        if any(one.op_type in DEFAULTS for one in found) and len(found) == 1
    }


def run(case: Case, module: Any = None) -> list[Tensor]:
    """What our module gives for a case; X, lengths and initial states are given in the call."""
    call = ("X", "sequence_lens", "initial_h", "initial_c")
    constant = {name: value for name, value in case.inputs.items() if name not in call}
    module = from_onnx(case.node, constant) if module is None else module
    tensors = {name: torch.as_tensor(case.inputs[name]) for name in call if name in case.inputs}
    return [value.detach() for value in module(**tensors)]


def test_all_node_cases_are_here(node_cases: dict[str, Any]) -> None:
    assert len(NODE_CASES) == 18
    assert set(node_cases) == set(NODE_CASES)


@pytest.mark.parametrize("name", NODE_CASES)
def test_node_case(name: str, node_cases: dict[str, Any]) -> None:
    case = node_cases[name]
    (one,) = case.model.graph.node
    assert case.data_sets
    for inputs, outputs in case.data_sets:
        named = dict(zip(filter(None, one.input), inputs, strict=True))
        module = from_onnx(one, {key: named[key] for key in named if key in ("W", "R", "B", "P")})
        call = ("X", "sequence_lens", "initial_h", "initial_c")
        results = module(*(torch.as_tensor(named[key]) if key in named else None for key in call))
        present = [value for value, text in zip(results, one.output, strict=False) if text]
        assert_same(present, list(outputs), name)


@st.composite
def _plain(draw: st.DrawFn) -> Case:
    """A case within what ONNX's reference evaluator implements."""
    op_type = draw(st.sampled_from(["LSTM", "GRU", "RNN"]))
    optional = ["B", "initial_h", *["initial_c", "P"] * (op_type == "LSTM")]
    attributes: dict[str, Any] = {"direction": draw(st.sampled_from([*DIRECTIONS]))}
    attributes["layout"] = draw(st.integers(0, 1))
    if op_type == "GRU":
        attributes["linear_before_reset"] = draw(st.integers(0, 1))
    sizes = {name: draw(st.integers(1, 5)) for name in "TBIH"}
    inputs = tuple(draw(st.lists(st.sampled_from(optional), unique=True)))
    return drawn(op_type, draw(st.integers(0, 99)), inputs=inputs, **sizes, **attributes)


@settings(max_examples=40, deadline=None)
@given(case=_plain())
def test_the_reference_evaluator_agrees(case: Case) -> None:
    reason = "the package onnx, which holds the reference evaluator, is not installed"
    helper = pytest.importorskip("onnx.helper", reason=reason)
    reference = pytest.importorskip("onnx.reference", reason=reason)
    outputs = ["Y", "Y_h", "Y_c"][: 2 + (case.op_type == "LSTM")]
    hidden_size = case.inputs["R"].shape[-1]
    made = helper.make_node(
        case.op_type, case.node.input, outputs, hidden_size=hidden_size, **case.attributes
    )
    expected = reference.ReferenceEvaluator(made).run(None, dict(case.inputs))
    # The equations that judge the other cases are judged here.
    assert_same(case.expected(), list(expected), "our equations")
    with target("eager"):
        assert_same(run(case), list(expected), "eager")
        constant = {name: value for name, value in case.inputs.items() if name in "WRBP"}
        assert_same(run(case, from_onnx(made, constant)), list(expected), "the real node")


@st.composite
def _any(draw: st.DrawFn) -> Case:
    """A case with any attributes and inputs."""
    plain = draw(_plain())
    attributes = dict(plain.attributes)
    D = len(plain.directions)
    if plain.op_type == "LSTM":
        attributes["input_forget"] = draw(st.integers(0, 1))
    if draw(st.booleans()):
        attributes["clip"] = draw(st.floats(0.1, 1.0))
    if draw(st.booleans()):
        count = len(DEFAULTS[plain.op_type]) * D
        names = st.lists(st.sampled_from([*ACTIVATIONS]), min_size=count, max_size=count)
        attributes["activations"] = draw(names)
        alphas, betas = st.floats(0.1, 0.9), st.floats(0.1, 0.5)
        takers = ("Affine", "ScaledTanh", "HardSigmoid", "LeakyRelu", "ThresholdedRelu", "Elu")
        chosen = [name for name in attributes["activations"] if name in takers]
        attributes["activation_alpha"] = [draw(alphas) for _ in chosen]
        chosen = [name for name in chosen if name in takers[:3]]
        attributes["activation_beta"] = [draw(betas) for _ in chosen]
    inputs = dict(plain.inputs)
    if draw(st.booleans()):
        batchwise = attributes["layout"] == 1
        B, T = inputs["X"].shape[:2] if batchwise else inputs["X"].shape[1::-1]
        lens = draw(st.lists(st.integers(0, T), min_size=B, max_size=B))
        inputs["sequence_lens"] = np.array(lens, dtype=np.int32)
    return Case(plain.op_type, inputs, attributes)


@settings(max_examples=150, deadline=None)
@given(case=_any())
def test_any_attributes_and_inputs(case: Case) -> None:
    with target("eager"):
        assert_same(run(case), case.expected())


FIXED: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm-clip": ("LSTM", {"clip": 0.4, "inputs": ("B", "initial_h", "initial_c", "P")}),
    "lstm-coupled": ("LSTM", {"input_forget": 1, "inputs": ("B", "initial_c"), "lens": [2, 0, 4]}),
    "lstm-coupled-peephole": (
        "LSTM",
        {"input_forget": 1, "inputs": ("P", "initial_c"), "direction": "bidirectional"},
    ),
    "lstm-activations": (
        "LSTM",
        {
            "direction": "bidirectional",
            "activations": ["HardSigmoid", "Elu", "Softsign", "Sigmoid", "ScaledTanh", "Affine"],
            "activation_alpha": [0.3, 0.7, 1.2, 0.9],
            "activation_beta": [0.4, 0.8, 0.1],
            "lens": [3, 4, 1],
        },
    ),
    "gru-after": (
        "GRU",
        {
            "linear_before_reset": 1,
            "activations": ["HardSigmoid", "Softplus"],
            "inputs": ("B", "initial_h"),
            "clip": 0.6,
            "direction": "reverse",
            "lens": [3, 0, 4],
        },
    ),
    "gru-before": ("GRU", {"activations": ["Sigmoid", "LeakyRelu"], "inputs": ("B",), "layout": 1}),
    "rnn": (
        "RNN",
        {
            "direction": "bidirectional",
            "activations": ["ThresholdedRelu", "Affine"],
            "activation_alpha": [0.1, 0.8],
            "activation_beta": [0.2],
            "layout": 1,
            "lens": [0, 4, 2],
        },
    ),
}
"""Cases that run on the target that the module chooses: one of each cell."""


def _fixed(name: str, **changes: Any) -> Case:
    op_type, options = FIXED[name]
    return drawn(op_type, 5, **options | changes)


@pytest.mark.parametrize("name", FIXED)
def test_on_the_chosen_target(name: str) -> None:
    case = _fixed(name)
    assert_same(run(case), case.expected())


@pytest.mark.parametrize("name", ["lstm-clip", "lstm-coupled-peephole", "lstm-activations", "rnn"])
def test_runs_compiled(name: str) -> None:
    case = _fixed(name)
    module = from_onnx(case.node, case.inputs)
    assert (module.backend, module.backend_reason) == ("llvm", "compiled for this processor")


def test_clip_bounds_the_cell_where_it_is_squashed_but_not_the_cell() -> None:
    """ONNX: clip "is applied to the input of activations", and h in o * h(C) is one."""
    case = drawn("LSTM", 1, T=1, B=1, inputs=("initial_c",), clip=0.25)
    case.inputs["initial_c"][:] = 8.0
    case.inputs["X"][:] = 0.0
    Y, _, Y_c = run(case)
    half = 1 / (1 + np.exp(-0.0))
    assert_same(Y_c, np.full((1, 1, 3), half * 8.0))
    assert_same(Y[0], np.full((1, 1, 3), half * np.tanh(0.25)))
    bounded = run(drawn("RNN", 1, clip=0.25))[0].abs().max()
    assert bounded == np.tanh(0.25)


def test_rows_without_steps_return_their_initial_state() -> None:
    case = drawn("LSTM", 2, inputs=("initial_h", "initial_c"), lens=[0, 2, 0])
    Y, Y_h, Y_c = run(case)
    assert not Y[:, 0, 0].any()
    assert not Y[2:, 0, 1].any()
    assert_same(Y_h[0, 0], case.inputs["initial_h"][0, 0])
    assert_same(Y_c[0, 2], case.inputs["initial_c"][0, 2])


def test_parameters_of_activations_go_by_position_or_to_those_that_take_one() -> None:
    attributes = {"direction": "bidirectional", "activations": ["Tanh", "Affine"]}
    consumed = drawn("RNN", 3, activation_alpha=[0.5], activation_beta=[0.1], **attributes)
    spelled = {"activation_alpha": [9.0, 0.5], "activation_beta": [9.0, 0.1]}
    positional = Case("RNN", consumed.inputs, {**attributes, **spelled})
    assert_same(run(consumed), consumed.expected())
    assert_same(run(positional), consumed.expected())
    names = ["LeakyRelu", "HardSigmoid", "Elu"]
    case = drawn("LSTM", 3, activations=names, activation_alpha=[0.3])
    assert_same(run(case), case.expected(), "the others have their defaults")


def test_activations_in_other_letters_and_the_default_two_of_rnn() -> None:
    case = drawn("RNN", 4, activations=["tanh", "Tanh"])
    assert_same(run(case), Case("RNN", case.inputs, {}).expected())


PAIRS = {
    "LSTM": (torch.nn.LSTM, {"direction": "bidirectional"}),
    "GRU": (torch.nn.GRU, {"linear_before_reset": 1, "direction": "bidirectional"}),
    "RNN": (torch.nn.RNN, {"direction": "bidirectional"}),
}


@pytest.mark.parametrize("op_type", PAIRS)
def test_the_weights_load_into_torch(op_type: str) -> None:
    theirs, attributes = PAIRS[op_type]
    case = drawn(op_type, 6, inputs=("B",), **attributes)
    module = from_onnx(case.node, case.inputs)
    layer = theirs(2, 3, bidirectional=True, dtype=torch.float64)
    layer.load_state_dict(module.state_dict())
    out, _ = layer(torch.as_tensor(case.inputs["X"]))
    Y = module(torch.as_tensor(case.inputs["X"]))[0]
    assert_same(Y.transpose(1, 2).flatten(2), out)


def test_names_of_parameters_and_constants() -> None:
    case = drawn("LSTM", 7, inputs=("B", "P", "initial_c"), direction="reverse", lens=[1, 2, 3])
    module = from_onnx(case.node, case.inputs)
    matrices = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    weights = [f"{name}_l0_reverse" for name in (*matrices, "p_i", "p_f", "p_o")]
    assert [name for name, _ in module.named_parameters()] == weights
    assert list(module.state_dict()) == [*weights, "sequence_lens", "initial_c"]
    coupled = from_onnx(drawn("LSTM", 7, input_forget=1).node, drawn("LSTM", 7).inputs)
    assert coupled.weight_ih_l0.shape == (9, 2)
    assert "input_forget" not in repr(module)
    assert repr(coupled) == "OnnxRecurrent(LSTM, 2, 3, coupled=True)"


@pytest.mark.parametrize("layout", [0, 1])
def test_constants_of_the_node_and_what_the_call_gives(layout: int) -> None:
    names = ("initial_h", "initial_c")
    case = drawn("LSTM", 8, inputs=names, layout=layout, lens=[4, 0, 2])
    module = from_onnx(case.node, case.inputs)
    X = torch.as_tensor(case.inputs["X"])
    assert_same([value.detach() for value in module(X)], case.expected(), "constants")
    other = drawn("LSTM", 9, inputs=names, layout=layout, lens=[1, 2, 3])
    other = Case("LSTM", {**case.inputs, **other.inputs}, case.attributes)
    other = Case(
        "LSTM", {**other.inputs, "W": case.inputs["W"], "R": case.inputs["R"]}, case.attributes
    )
    assert_same(run(other, module), other.expected(), "the call goes first")


def test_weights_are_copies() -> None:
    case = drawn("RNN", 10)
    W = torch.as_tensor(case.inputs["W"].copy())
    module = from_onnx(case.node, {"W": W, "R": case.inputs["R"]})
    with torch.no_grad():
        module.get_parameter("weight_ih_l0").zero_()
    assert_same(W, case.inputs["W"])
    case.inputs["R"].flags.writeable = False  # as an array of a file is
    assert_same(run(case), case.expected())


def test_copies_and_pickles() -> None:
    case = _fixed("lstm-activations")
    module = from_onnx(case.node, case.inputs)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert twin.weight_ih_l0 is not module.weight_ih_l0
        assert [one.key for one in twin.cells] == [one.key for one in module.cells]
        assert_same(run(case, twin), case.expected())


@pytest.mark.parametrize("name", ["lstm-coupled-peephole", "gru-before", "lstm-activations"])
def test_gradients(name: str) -> None:
    case = _fixed(name, T=3, B=2, lens=[3, 1])
    weights = {key: value for key, value in case.inputs.items() if key not in ("X", "initial_c")}
    module = from_onnx(case.node, weights)
    names = [key for key, _ in module.named_parameters()]
    values = [value.detach().requires_grad_() for value in module.parameters()]
    given = ("X", "initial_c") if case.op_type == "LSTM" and "P" in weights else ("X",)
    call = [torch.as_tensor(case.inputs[key]).requires_grad_() for key in given]

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        parameters = dict(zip(names, tensors, strict=False))
        inputs: dict[str, Any] = dict(zip(given, tensors[len(names) :], strict=True))
        return torch.func.functional_call(module, parameters, (), inputs)

    torch.autograd.gradcheck(function, (*values, *call))


def test_other_dtypes_and_autocast() -> None:
    case = drawn("LSTM", 12)
    single = {name: torch.as_tensor(value).float() for name, value in case.inputs.items()}
    module = from_onnx(case.node, single)
    assert_same(module(single["X"])[0], case.expected()[0], dtype=torch.float32)
    half = from_onnx(case.node, {name: value.bfloat16() for name, value in single.items()})
    assert half(single["X"].bfloat16())[0].dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(module(single["X"].bfloat16())[0].dtype == torch.float32, True)


def _weights(op_type: str = "LSTM", **changes: Any) -> dict[str, Any]:
    case = drawn(op_type, 13, inputs=("B",))
    return {**case.inputs, **changes}


NAMES = ["X", "W", "R", "B"]
ERRORS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "operator": (node("Conv"), {}, "got a node 'Conv'; expected one of ONNX's LSTM, GRU, RNN"),
    "domain": (
        SimpleNamespace(op_type="GRU", domain="com.x", input=NAMES, attribute=[]),
        {},
        r"got a node 'com\.x\.GRU'",
    ),
    "no node": (None, {}, "got a node None"),
    "attribute": (
        node("GRU", NAMES, input_forget=1),
        {},
        "GRU: unknown attribute 'input_forget'; supported are .*linear_before_reset",
    ),
    "type": (
        SimpleNamespace(
            op_type="RNN", input=NAMES, attribute=[SimpleNamespace(name="clip", type=2, i=3)]
        ),
        {},
        "RNN: the attribute clip should hold its value in the field 'f', got type 2",
    ),
    "direction": (
        node("LSTM", NAMES, direction="sideways"),
        {},
        "direction is 'sideways'; supported are 'forward', 'reverse', 'bidirectional'",
    ),
    "layout": (node("LSTM", NAMES, layout=2), {}, "layout is 2; supported are 0, 1"),
    "coupled": (node("LSTM", NAMES, input_forget=3), {}, "input_forget is 3; supported are 0, 1"),
    "clip": (node("LSTM", NAMES, clip=-1.0), {}, "clip is -1.0; supported are numbers above 0"),
    "activation": (
        node("LSTM", NAMES, activations=["Sigmoid", "Gelu", "Tanh"]),
        {},
        "activations names 'Gelu'; supported are Relu, Tanh, .*, Softplus",
    ),
    "too few": (
        node("LSTM", NAMES, activations=["Sigmoid"], direction="bidirectional"),
        {},
        "activations has 1 names; expected 6: 3 for each of 2 directions",
    ),
    "too many": (
        node("LSTM", NAMES, activations=["Elu", "Tanh", "Tanh"], activation_alpha=[1.0, 2.0]),
        {},
        "activation_alpha has 2 values; expected one for each of the 3 activations, or at most 1",
    ),
    "no default": (
        node("LSTM", NAMES, activations=["Affine", "Tanh", "Tanh"], activation_alpha=[1.0]),
        {},
        "activation_beta has no value for Affine, which has no default",
    ),
    "units": (node("LSTM", NAMES, hidden_size=5), {}, r"hidden_size is 5, but R is \[1, 12, 3\]"),
    "missing W": (
        node("LSTM", ["X", "w", "R"]),
        {},
        "the weights W are missing: the node reads them from 'w', the tensors given are 'X', 'W'",
    ),
    "missing B": (node("LSTM", ["X", "W", "R", "b"]), {}, "the weights B are missing"),
    "missing R": (node("LSTM", ["X", "W"]), {}, "the weights R are missing: .* from ''"),
    "list": (node("LSTM", NAMES), {"W": [1.0]}, "W should be a tensor or an array, got list"),
    "dims": (node("LSTM", NAMES), {"W": np.zeros((12, 2))}, "W should be .* with 3 dimensions"),
    "integers": (node("LSTM", NAMES), {"R": np.zeros((1, 12, 3), int)}, "R should be floating"),
    "rows": (node("LSTM", NAMES), {"W": np.zeros((1, 9, 2))}, r"W should be \[1, 12, 2\] for"),
    "bias": (node("LSTM", NAMES), {"B": np.zeros((1, 12))}, r"B should be \[1, 24\] for forward"),
    "directions": (
        node("LSTM", NAMES, direction="bidirectional"),
        {},
        r"W should be \[2, 12, 2\] for bidirectional and 3 units, got \[1, 12, 2\]",
    ),
    "dtype": (
        node("LSTM", NAMES),
        {"B": np.zeros((1, 24), np.float32)},
        "B is torch.float32, but W is torch.float64; convert one",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_of_nodes(name: str) -> None:
    wrong, changes, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        from_onnx(wrong, _weights("GRU" if name == "attribute" else "LSTM", **changes))


def test_errors_of_calls() -> None:
    names = ["X", "W", "R", "", "n", "h"]
    module = from_onnx(node("GRU", names), drawn("GRU", 14).inputs)
    X, h = torch.zeros(4, 3, 2, dtype=torch.float64), torch.zeros(1, 3, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="GRU: the node reads initial_h from 'h', which was not"):
        module(X, [4, 4, 4])
    with pytest.raises(ValueError, match="the node reads sequence_lens from 'n'"):
        module(X, None, h)
    with pytest.raises(ValueError, match="GRU has no initial_c"):
        module(X, [4, 4, 4], h, h)
    with pytest.raises(ValueError, match=r"range 0 to 4.* got 5 for row 1"):
        module(X, [4, 5, 4], h)
    with pytest.raises(RuntimeError, match=r"Expected initial_h size \(1, 3, 3\), got \[1, 2, 3\]"):
        module(X, [4, 4, 4], h[:, :2])
    with pytest.raises(RuntimeError, match=r"X should be \[T, B, I\] with I = 2, got \[4, 3, 1\]"):
        module(X[..., :1], [4, 4, 4], h)
    with pytest.raises(RuntimeError, match="sequence length to be larger than 0"):
        module(X[:0], [0, 0, 0], h)
    with pytest.raises(
        ValueError, match=r"X is torch\.float32, but the weights are torch\.float64"
    ):
        module(X.float(), [4, 4, 4], h)
    with pytest.raises(ValueError, match=r"initial_h is torch\.float32"):
        module(X, [4, 4, 4], h.float())
    with pytest.raises(TypeError, match="initial_h should be a Tensor, got list"):
        module(X, [4, 4, 4], [0.0])
    with pytest.raises(TypeError, match="X should be a Tensor, got ndarray"):
        module(X.numpy(), [4, 4, 4], h)
    with pytest.raises(RuntimeError, match="X is on meta, expected cpu"):
        module(X.to("meta"), [4, 4, 4], h)

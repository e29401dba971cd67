"""ONNX Runtime beside our layer: the very same weights in LSTM or GRU nodes of ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.problem import Absent, Contender, Foreign, Problem, missing
from holdfast.data.optional import require
from holdfast.errors import MissingExtraError
from holdfast.nn.onnx_node import OPERATORS

NAME = "onnxruntime"

OURS = {"LSTM": "ifgo", "GRU": "rzn"}
"""The order of our gates."""

OPSET, IR = 17, 8


def make(problem: Problem) -> Contender | Absent:
    """A session of as many threads as PyTorch has, spinning as it does by default."""
    kind = problem.cell.name.upper()
    options = dict(problem.options)
    if kind not in OURS or options.pop("proj_size", 0) or problem.setting.ragged:
        return Absent(NAME, f"no {problem.cell.name}, {problem.setting.title}, is written for it")
    if problem.setting.dtype != torch.float32:
        return Absent(NAME, "its recurrent operators are float32 only")
    try:
        session = make_session(layers(kind, problem.weights, **options))
    except MissingExtraError as error:
        return missing(NAME, error)
    fed = {"x0": problem.x.numpy()}
    return Foreign(
        lambda: session.run(["out"], fed)[0],
        torch.from_numpy,
        note="session.run with arrays",
    )


def make_session(model: Any) -> Any:
    """A session on the CPU with PyTorch's number of threads."""
    runtime = require("onnxruntime", "bench")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    return runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def layers(
    kind: str, weights: Mapping[str, Tensor], num_layers: int = 1, bidirectional: bool = False
) -> Any:
    """A model from `x0`, `[T, B, I]`, to `out`, `[T, B, D * H]`.

    Arguments:
        kind: LSTM or GRU.
        weights: by our names.
    """
    onnx = require("onnx", "bench")
    make = onnx.helper
    nodes, constants = [], []
    H = weights["weight_hh_l0"].shape[1]
    suffixes = ["", "_reverse"] if bidirectional else [""]
    attributes: dict[str, Any] = {"hidden_size": H}
    if kind == "GRU":
        attributes["linear_before_reset"] = 1
    if bidirectional:
        attributes["direction"] = "bidirectional"
    if bidirectional:
        joined = onnx.numpy_helper.from_array(torch.tensor([0, 0, -1]).numpy(), "joined")
        constants.append(joined)
    else:
        constants.append(onnx.numpy_helper.from_array(torch.tensor([1]).numpy(), "axis"))
    for n in range(num_layers):
        given = [node_weights(kind, weights, f"_l{n}{suffix}") for suffix in suffixes]
        for name, parts in zip("WRB", zip(*given, strict=True), strict=True):
            array = torch.stack(parts).numpy()
            constants.append(onnx.numpy_helper.from_array(array, f"{name}{n}"))
        inputs = [f"x{n}", f"W{n}", f"R{n}", f"B{n}"]
        nodes.append(make.make_node(kind, inputs, [f"y{n}"], **attributes))
        after = "out" if n == num_layers - 1 else f"x{n + 1}"
        if bidirectional:
            nodes.append(make.make_node("Transpose", [f"y{n}"], [f"z{n}"], perm=[0, 2, 1, 3]))
            nodes.append(make.make_node("Reshape", [f"z{n}", "joined"], [after]))
        else:
            nodes.append(make.make_node("Squeeze", [f"y{n}", "axis"], [after]))
    I = weights["weight_ih_l0"].shape[1]
    return model(nodes, {"x0": ["T", "B", I]}, {"out": ["T", "B", len(suffixes) * H]}, constants)


def model(
    nodes: list[Any], inputs: Mapping[str, list[Any]], outputs: Mapping[str, list[Any]], given: Any
) -> Any:
    """Nodes as a model of float32 tensors."""
    onnx = require("onnx", "bench")
    make = onnx.helper

    def described(values: Mapping[str, list[Any]]) -> list[Any]:
        kind = onnx.TensorProto.FLOAT
        return [make.make_tensor_value_info(name, kind, size) for name, size in values.items()]

    graph = make.make_graph(nodes, "rival", described(inputs), described(outputs), given)
    opset = [make.make_opsetid("", OPSET)]
    return make.make_model(graph, opset_imports=opset, ir_version=IR)


def node_weights(
    kind: str, weights: Mapping[str, Tensor], suffix: str
) -> tuple[Tensor, Tensor, Tensor]:
    """W, R and B of one direction, the gates in ONNX's order."""
    places = OPERATORS[kind].gates
    order = sorted(OURS[kind], key=lambda gate: places[gate])

    def ordered(name: str) -> Tensor:
        gates = dict(zip(OURS[kind], weights[name + suffix].chunk(len(order)), strict=True))
        return torch.cat([gates[gate] for gate in order]).contiguous()

    bias = torch.cat([ordered("bias_ih"), ordered("bias_hh")])
    return ordered("weight_ih"), ordered("weight_hh"), bias

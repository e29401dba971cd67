"""What an LSTM, GRU or RNN node of ONNX says, read and checked: attributes, weights, cells.

Input: a node and its constant inputs by name. Output: `Settings`, plain data from which the node's
cells are made, and the inputs as tensors. Nothing is imported from the package `onnx`: of a node
only `op_type`, `domain`, `input` and `attribute` are read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor

from holdfast.cells import coupled, gru, gru_2014, lstm, peephole, rnn
from holdfast.compiler import ops
from holdfast.compiler.cell import Cell, cell
from holdfast.compiler.graph import Node
from holdfast.compiler.ops import maximum, minimum, sigmoid, tanh, where
from holdfast.compiler.vary import Variation, vary


@cell(gates="i g o", state="c", weights="p_i p_o")
def coupled_peephole(i, g, o, c, p_i, p_o):
    """LSTM with peepholes whose forget gate is 1 - i: CIFG of Greff et al. 2017.

    c = (1 - i) * c_prev + i * tanh(g) with i = sigmoid(i + p_i c_prev)
    h = sigmoid(o + p_o c) * tanh(c)
    """
    i = sigmoid(i + p_i * c)
    new = (1 - i) * c + i * tanh(g)
    return sigmoid(o + p_o * new) * tanh(new), new


_FUNCTIONS: dict[str, Any] = {
    "Relu": lambda x, alpha, beta: ops.relu(x),
    "Tanh": lambda x, alpha, beta: tanh(x),
    "Sigmoid": lambda x, alpha, beta: sigmoid(x),
    "Affine": lambda x, alpha, beta: alpha * x + beta,
    "LeakyRelu": lambda x, alpha, beta: where(x >= 0.0, x, alpha * x),
    "ThresholdedRelu": lambda x, alpha, beta: where(x >= alpha, x, 0.0),
    "ScaledTanh": lambda x, alpha, beta: alpha * tanh(beta * x),
    "HardSigmoid": lambda x, alpha, beta: minimum(maximum(alpha * x + beta, 0.0), 1.0),
    "Elu": lambda x, alpha, beta: where(x >= 0.0, x, alpha * (ops.exp(minimum(x, 0.0)) - 1.0)),
    "Softsign": lambda x, alpha, beta: x / (1.0 + abs(x)),
    "Softplus": lambda x, alpha, beta: ops.softplus(x),
}
"""ONNX's activations by name."""

_TAKES: dict[str, dict[str, float | None]] = {
    "Affine": {"alpha": None, "beta": None},
    "LeakyRelu": {"alpha": 0.01},
    "ThresholdedRelu": {"alpha": 1.0},
    "ScaledTanh": {"alpha": None, "beta": None},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "Elu": {"alpha": 1.0},
}
"""The parameters of activations that have any, with the defaults of ONNX's operators. Affine and
ScaledTanh are no operators of ONNX any more, so there is no default."""


@dataclass(frozen=True)
class Activation:
    """An activation with its parameters; called with a symbol of the cell language."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0

    def __call__(self, x: Node) -> Node:
        return _FUNCTIONS[self.name](x, self.alpha, self.beta)


@dataclass(frozen=True)
class Operator:
    """What sets one operator of ONNX apart."""

    gates: dict[str, int]
    """Our gates, and where ONNX has them."""
    sites: tuple[str, ...]
    """Where the activations of one direction stand in our cells, in ONNX's order."""
    defaults: tuple[str, ...]
    inputs: tuple[str, ...]
    flags: tuple[str, ...]
    """Attributes beside those that all operators have."""


_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h")
OPERATORS = {
    "LSTM": Operator(
        {"i": 0, "o": 1, "f": 2, "g": 3},
        ("gate", "candidate", "output"),
        ("Sigmoid", "Tanh", "Tanh"),
        (*_INPUTS, "initial_c", "P"),
        ("input_forget",),
    ),
    "GRU": Operator(
        {"z": 0, "r": 1, "n": 2},
        ("gate", "candidate"),
        ("Sigmoid", "Tanh"),
        _INPUTS,
        ("linear_before_reset",),
    ),
    "RNN": Operator({"a": 0}, ("candidate",), ("Tanh",), _INPUTS, ()),
}
PEEPHOLES = {"p_i": 0, "p_o": 1, "p_f": 2}

_FIELDS = {
    "activations": ("strings", 8),
    "activation_alpha": ("floats", 6),
    "activation_beta": ("floats", 6),
    "clip": ("f", 1),
    "direction": ("s", 3),
    "hidden_size": ("i", 2),
    "layout": ("i", 2),
    "input_forget": ("i", 2),
    "linear_before_reset": ("i", 2),
}
"""Where an attribute keeps its value, and the number of that type in `AttributeProto`."""

DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
"""For each direction whether it reads backwards."""


@dataclass(frozen=True)
class Settings:
    """A node's attributes, checked: plain data from which its cells are made anew."""

    op_type: str
    direction: str
    layout: int
    clip: float
    activations: tuple[tuple[Activation, ...], ...]
    """For each direction one activation a site."""
    coupled: bool
    linear_before_reset: bool
    peepholes: bool

    def cells(self) -> tuple[Cell, ...]:
        """The cell of each direction."""
        operator = OPERATORS[self.op_type]
        found = []
        for chosen in self.activations:
            triples = zip(operator.sites, chosen, operator.defaults, strict=True)
            changed = tuple((site, one) for site, one, usual in triples if one.name != usual)
            found.append(vary(self._base(), Variation(clip=self.clip, activations=changed)))
        return tuple(found)

    def _base(self) -> Cell:
        if self.op_type == "RNN":
            return rnn
        if self.op_type == "GRU":
            return gru if self.linear_before_reset else gru_2014
        if self.coupled:
            return coupled_peephole if self.peepholes else coupled
        return peephole if self.peepholes else lstm


def read(
    node: Any, tensors: Mapping[str, Any]
) -> tuple[Settings, dict[str, Tensor], dict[str, str]]:
    """A node's settings, its constant inputs, and its own names for all inputs, by ONNX's names.

    Errors: those of `holdfast.nn.from_onnx`.
    """
    op_type = getattr(node, "op_type", None)
    domain = getattr(node, "domain", "")
    if op_type not in OPERATORS or domain not in ("", "ai.onnx"):
        full = f"{domain}.{op_type}" if domain else op_type
        raise ValueError(f"got a node {full!r}; expected one of ONNX's {', '.join(OPERATORS)}")
    operator = OPERATORS[op_type]
    names = dict(zip(operator.inputs, node.input, strict=False))
    attributes = _read_attributes(op_type, node.attribute)
    given = _read_inputs(op_type, names, tensors)
    settings = _settings(op_type, attributes, peepholes="P" in given)
    hidden_size = _check_shapes(op_type, settings, given)
    wanted = attributes.get("hidden_size", hidden_size)
    if wanted != hidden_size:
        raise ValueError(
            f"{op_type}: the attribute hidden_size is {wanted}, but R is "
            f"{list(given['R'].shape)}, made for {hidden_size} units"
        )
    return settings, given, {name: text for name, text in names.items() if text}


def _read_attributes(op_type: str, attributes: Sequence[Any]) -> dict[str, Any]:
    """Values of a node's attributes by name."""
    general = [name for name in _FIELDS if name not in ("input_forget", "linear_before_reset")]
    known = [*general, *OPERATORS[op_type].flags]
    values: dict[str, Any] = {}
    for attribute in attributes:
        name = attribute.name
        if name not in known:
            raise ValueError(
                f"{op_type}: unknown attribute {name!r}; supported are {', '.join(known)}"
            )
        field, number = _FIELDS[name]
        if getattr(attribute, "type", number) != number or getattr(attribute, "ref_attr_name", ""):
            raise ValueError(
                f"{op_type}: the attribute {name} should hold its value in the field {field!r}, "
                f"got type {getattr(attribute, 'type', None)}"
            )
        values[name] = _plain(getattr(attribute, field))
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value if isinstance(value, (str, int, float)) else [_plain(item) for item in value]


def _read_inputs(
    op_type: str, names: Mapping[str, str], tensors: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The constant inputs of a node, by ONNX's own names for them."""
    given: dict[str, Tensor] = {}
    for name in OPERATORS[op_type].inputs[1:]:
        text = names.get(name, "")
        if text and text in tensors:
            given[name] = _tensor(op_type, name, tensors[text])
        elif name in ("W", "R") or (text and name in ("B", "P")):
            raise ValueError(
                f"{op_type}: the weights {name} are missing: the node reads them from {text!r}, "
                f"the tensors given are {', '.join(map(repr, tensors)) or 'none'}; weights must "
                "be constants"
            )
    return given


def _tensor(op_type: str, name: str, value: Any) -> Tensor:
    if not isinstance(value, (Tensor, numpy.ndarray)):
        raise ValueError(
            f"{op_type}: {name} should be a tensor or an array, got {type(value).__name__}; "
            "onnx.numpy_helper.to_array makes an array of a TensorProto"
        )
    if isinstance(value, Tensor):
        return value.detach().clone()
    return torch.from_numpy(numpy.array(value))  # a copy, as an array of a file is read-only


def _settings(op_type: str, values: Mapping[str, Any], *, peepholes: bool) -> Settings:
    choices = {
        "direction": tuple(DIRECTIONS),
        "layout": (0, 1),
        "input_forget": (0, 1),
        "linear_before_reset": (0, 1),
    }
    chosen = {name: values.get(name, options[0]) for name, options in choices.items()}
    for name, options in choices.items():
        if chosen[name] not in options:
            raise ValueError(
                f"{op_type}: the attribute {name} is {chosen[name]!r}; supported are "
                f"{', '.join(map(repr, options))}"
            )
    clip = values.get("clip", math.inf)
    if not clip > 0.0:
        raise ValueError(
            f"{op_type}: the attribute clip is {clip}; supported are numbers above 0, and no clip "
            "if it is left out"
        )
    return Settings(
        op_type,
        chosen["direction"],
        chosen["layout"],
        0.0 if math.isinf(clip) else clip,
        _read_activations(op_type, values, len(DIRECTIONS[chosen["direction"]])),
        bool(chosen["input_forget"]),
        bool(chosen["linear_before_reset"]),
        peepholes,
    )


def _read_activations(
    op_type: str, values: Mapping[str, Any], directions: int
) -> tuple[tuple[Activation, ...], ...]:
    """The activations of each direction, with their parameters."""
    defaults = OPERATORS[op_type].defaults
    count = len(defaults) * directions
    names = values.get("activations") or [*defaults * directions]
    if op_type == "RNN" and len(names) == 2 > count:
        names = names[:1]  # two are the operator's default, whatever the direction
    if len(names) != count:
        raise ValueError(
            f"{op_type}: the attribute activations has {len(names)} names; expected {count}: "
            f"{len(defaults)} for each of {directions} direction{'s' * (directions > 1)}"
        )
    spelled = {name.lower(): name for name in _FUNCTIONS}
    for name in names:
        if name.lower() not in spelled:
            raise ValueError(
                f"{op_type}: the attribute activations names {name!r}; supported are "
                f"{', '.join(_FUNCTIONS)}"
            )
    names = [spelled[name.lower()] for name in names]
    alphas = _assign(op_type, "alpha", values.get("activation_alpha", []), names)
    betas = _assign(op_type, "beta", values.get("activation_beta", []), names)
    found = tuple(map(Activation, names, alphas, betas))
    return tuple(found[start : start + len(defaults)] for start in range(0, count, len(defaults)))


def _assign(op_type: str, name: str, given: Sequence[float], activations: list[str]) -> list[float]:
    """The parameter of each activation; 0 for those that have none.

    ONNX says that values "are consumed in the order of activation functions". As many values as
    activations are one for each; fewer go, in order, to those that take one.
    """
    takers = [n for n, activation in enumerate(activations) if name in _TAKES.get(activation, {})]
    if len(given) == len(activations):
        values = dict(enumerate(given))
    elif len(given) <= len(takers):
        values = dict(zip(takers, given, strict=False))
    else:
        raise ValueError(
            f"{op_type}: the attribute activation_{name} has {len(given)} values; expected one for "
            f"each of the {len(activations)} activations, or at most {len(takers)}, one for each "
            f"that takes {name}"
        )
    found = [0.0] * len(activations)
    for n in takers:
        value = values.get(n, _TAKES[activations[n]][name])
        if value is None:
            raise ValueError(
                f"{op_type}: the attribute activation_{name} has no value for "
                f"{activations[n]}, which has no default"
            )
        found[n] = value
    return found


def _check_shapes(op_type: str, settings: Settings, given: Mapping[str, Tensor]) -> int:
    """Refuse inputs whose shapes or dtypes do not fit together; returns H."""
    W, R = given["W"], given["R"]
    for name, weight in (("W", W), ("R", R)):
        if weight.dim() != 3 or not weight.is_floating_point():
            raise ValueError(
                f"{op_type}: {name} should be floating point with 3 dimensions, got {weight.dtype} "
                f"of shape {list(weight.shape)}"
            )
    D = len(DIRECTIONS[settings.direction])
    G, H = len(OPERATORS[op_type].gates), R.shape[2]
    shapes = {
        "W": (D, G * H, W.shape[2]),
        "R": (D, G * H, H),
        "B": (D, 2 * G * H),
        "P": (D, 3 * H),
    }
    for name, shape in shapes.items():
        if name not in given:
            continue
        if given[name].shape != torch.Size(shape):
            raise ValueError(
                f"{op_type}: {name} should be {list(shape)} for {settings.direction} and {H} "
                f"units, got {list(given[name].shape)}"
            )
        if given[name].dtype != W.dtype:
            raise ValueError(
                f"{op_type}: {name} is {given[name].dtype}, but W is {W.dtype}; convert one"
            )
    return H

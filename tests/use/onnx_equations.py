"""ONNX's equations in NumPy, one row and one step at a time, and nodes without the package onnx."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")

Function = Callable[[np.ndarray], np.ndarray]

ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "Relu": lambda x, alpha, beta: np.where(x > 0, x, 0),
    "Tanh": lambda x, alpha, beta: np.tanh(x),
    "Sigmoid": lambda x, alpha, beta: np.exp(-np.logaddexp(0, -x)),
    "Affine": lambda x, alpha, beta: alpha * x + beta,
    "LeakyRelu": lambda x, alpha, beta: np.where(x >= 0, x, alpha * x),
    "ThresholdedRelu": lambda x, alpha, beta: np.where(x >= alpha, x, 0),
    "ScaledTanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
    "HardSigmoid": lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
    "Elu": lambda x, alpha, beta: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0))),
    "Softsign": lambda x, alpha, beta: x / (1 + np.abs(x)),
    "Softplus": lambda x, alpha, beta: np.logaddexp(0, x),
}
PARAMETERS: dict[str, dict[str, float | None]] = {
    "Affine": {"alpha": None, "beta": None},
    "LeakyRelu": {"alpha": 0.01},
    "ThresholdedRelu": {"alpha": 1.0},
    "ScaledTanh": {"alpha": None, "beta": None},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "Elu": {"alpha": 1.0},
}


def node(op_type: str, inputs: list[str] | None = None, **attributes: Any) -> SimpleNamespace:
    """A node as `from_onnx` reads it, with nothing but what it needs."""
    made = []
    for name, value in attributes.items():
        if isinstance(value, list):
            field = "strings" if name == "activations" else "floats"
        else:
            field = {str: "s", float: "f", int: "i"}[type(value)]
        made.append(SimpleNamespace(name=name, **{field: value}))
    return SimpleNamespace(op_type=op_type, input=inputs or ["X", "W", "R"], attribute=made)


@dataclass(frozen=True)
class Case:
    """A node's inputs as arrays by ONNX's names, and its attributes."""

    op_type: str
    inputs: Mapping[str, np.ndarray]
    attributes: Mapping[str, Any]

    @property
    def node(self) -> SimpleNamespace:
        """The node, whose inputs are called as ONNX calls them."""
        known = INPUTS if self.op_type == "LSTM" else INPUTS[:6]
        names = [name if name in self.inputs else "" for name in known]
        return node(self.op_type, names, **self.attributes)

    @property
    def directions(self) -> tuple[bool, ...]:
        """For each direction whether it reads backwards."""
        return DIRECTIONS[self.attributes.get("direction", "forward")]

    def expected(self) -> list[np.ndarray]:
        """Y, Y_h and, for an LSTM, Y_c."""
        X = self.inputs["X"]
        H = self.inputs["R"].shape[-1]
        batchwise = self.attributes.get("layout", 0) == 1
        X = X.swapaxes(0, 1) if batchwise else X
        T, B, _ = X.shape
        D = len(self.directions)
        lens = self.inputs.get("sequence_lens", np.full(B, T))
        last = []
        for name in ("initial_h", "initial_c")[: 1 + (self.op_type == "LSTM")]:
            start = self.inputs.get(name, np.zeros((B, D, H) if batchwise else (D, B, H)))
            last.append((start.swapaxes(0, 1) if batchwise else start).copy())
        Y = np.zeros((T, D, B, H))
        for d, b in itertools.product(range(D), range(B)):
            order = range(lens[b])
            for t in reversed(order) if self.directions[d] else order:
                new = self._step(d, X[t, b], [state[d, b] for state in last])
                for state, value in zip(last, new, strict=True):
                    state[d, b] = value
                Y[t, d, b] = last[0][d, b]
        if batchwise:
            return [Y.transpose(2, 0, 1, 3), *(state.swapaxes(0, 1) for state in last)]
        return [Y, *last]

    def _step(self, d: int, x: np.ndarray, states: list[np.ndarray]) -> list[np.ndarray]:
        W, R = self.inputs["W"][d], self.inputs["R"][d]
        G, H = GATES[self.op_type], R.shape[-1]
        B = self.inputs.get("B", np.zeros((d + 1, 2 * G * H)))[d]
        Wx = (W @ x + B[: G * H]).reshape(G, H)
        R, Rb = R.reshape(G, H, H), B[G * H :].reshape(G, H)
        f, *others = self._functions(d)
        h = states[0]
        if self.op_type == "RNN":
            return [f(Wx[0] + R[0] @ h + Rb[0])]
        if self.op_type == "GRU":
            z = f(Wx[0] + R[0] @ h + Rb[0])
            r = f(Wx[1] + R[1] @ h + Rb[1])
            if self.attributes.get("linear_before_reset", 0):
                new = others[0](Wx[2] + r * (R[2] @ h + Rb[2]))
            else:
                new = others[0](Wx[2] + R[2] @ (r * h) + Rb[2])
            return [(1 - z) * new + z * h]
        sums = Wx + R @ h + Rb
        g, squash = others
        c = states[1]
        p_i, p_o, p_f = self.inputs.get("P", np.zeros((d + 1, 3 * H)))[d].reshape(3, H)
        i = f(sums[0] + p_i * c)
        forget = 1 - i if self.attributes.get("input_forget", 0) else f(sums[2] + p_f * c)
        c = forget * c + i * g(sums[3])
        o = f(sums[1] + p_o * c)
        return [o * squash(c), c]

    def _functions(self, d: int) -> list[Function]:
        """The activations of a direction, each with its clipped argument."""
        D = len(self.directions)
        names = self.attributes.get("activations", [*DEFAULTS[self.op_type] * D])
        given = {
            name: iter(self.attributes.get(f"activation_{name}", [])) for name in ("alpha", "beta")
        }
        bound = self.attributes.get("clip", np.inf)
        functions = []
        for name in names:
            defaults = PARAMETERS.get(name, {})
            alpha, beta = (
                next(given[which], defaults[which]) if which in defaults else None
                for which in ("alpha", "beta")
            )
            functions.append(_clipped(ACTIVATIONS[name], alpha, beta, bound))
        count = len(names) // D
        return functions[d * count : (d + 1) * count]


def _clipped(function: Callable[..., Any], alpha: Any, beta: Any, bound: float) -> Function:
    return lambda x: function(np.clip(x, -bound, bound), alpha, beta)


def drawn(
    op_type: str,
    seed: int,
    *,
    T: int = 4,
    B: int = 3,
    I: int = 2,
    H: int = 3,
    inputs: tuple[str, ...] = (),
    lens: list[int] | None = None,
    **attributes: Any,
) -> Case:
    """A case with random inputs in float64: X, W, R and those that are named in `inputs`."""
    generator = np.random.default_rng(seed)
    D, G = len(DIRECTIONS[attributes.get("direction", "forward")]), GATES[op_type]
    batchwise = attributes.get("layout", 0) == 1
    state = (B, D, H) if batchwise else (D, B, H)
    shapes = {
        "X": (B, T, I) if batchwise else (T, B, I),
        "W": (D, G * H, I),
        "R": (D, G * H, H),
        "B": (D, 2 * G * H),
        "initial_h": state,
        "initial_c": state,
        "P": (D, 3 * H),
    }
    made = {name: generator.normal(size=shapes[name]) for name in ("X", "W", "R", *inputs)}
    made |= {name: made[name] / 3 for name in ("W", "R")}
    if lens is not None:
        made["sequence_lens"] = np.array(lens, dtype=np.int32)
    return Case(op_type, made, attributes)

"""LSTM, GRU and RNN nodes of ONNX as modules: weights under our names, attributes obeyed.

Input: a node and its weights by name. Output: an `nn.Module` with ONNX's inputs, outputs and
layout, which runs on the same targets as the other layers and can be trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.compiler.cell import Cell
from holdfast.compiler.emit.eager import Result
from holdfast.nn import operators
from holdfast.nn.onnx_node import DIRECTIONS, OPERATORS, PEEPHOLES, Settings, read
from holdfast.nn.ragged import Rows, as_lengths


def from_onnx(node: Any, tensors: Mapping[str, Any]) -> OnnxRecurrent:
    """A module that computes an LSTM, GRU or RNN node of an ONNX graph, and can be trained.

    >>> import torch
    >>> from types import SimpleNamespace as Node  # or an onnx.NodeProto
    >>> node = Node(op_type="GRU", input=["X", "W", "R"], attribute=[])
    >>> module = from_onnx(node, {"W": torch.randn(1, 15, 3), "R": torch.randn(1, 15, 5)})
    >>> Y, Y_h = module(torch.randn(7, 2, 3))  # [T, B, I]
    >>> tuple(Y.shape), tuple(Y_h.shape)  # [T, D, B, H], [D, B, H]
    ((7, 1, 2, 5), (1, 2, 5))

    Arguments:
        node: an `onnx.NodeProto`, or any object with `op_type`, `input` and `attribute`.
        tensors: the node's constant inputs by the names the node has for them, as tensors or
            arrays: W, R and, where the node has them, B and P; `sequence_lens`, `initial_h` and
            `initial_c` if they are constants, else they are given in the call.

    `clip` bounds the input of every activation: of the gates, and of c on its way into h.
    `activation_alpha` and `activation_beta` have one value for each activation, or, in order, one
    for each that takes one. ONNX does not say what a row without steps gives; here it is the
    initial state.

    Errors: `ValueError` for another operator, an input that is missing or has a wrong shape, and
    an attribute that is unknown or has a value that ONNX does not define.
    Source: operators LSTM, GRU and RNN of the ONNX standard, up to version 22.
    """
    return OnnxRecurrent(*read(node, tensors))


class OnnxRecurrent(nn.Module):
    """What `from_onnx` returns: one layer with the inputs, outputs and layout of its ONNX node.

    >>> import torch
    >>> from types import SimpleNamespace as Node
    >>> node = Node(op_type="RNN", input=["X", "W", "R"], attribute=[])
    >>> module = from_onnx(node, {"W": torch.randn(1, 5, 3), "R": torch.randn(1, 5, 5)})
    >>> list(module.state_dict())
    ['weight_ih_l0', 'weight_hh_l0']

    Parameters have our names and our order of gates, so the state dict of an LSTM, of a GRU with
    `linear_before_reset` and of an RNN loads into `torch.nn`'s layers; a direction that reads
    backwards has `_reverse` in its names. With `input_forget` the weights of the forget gate,
    which ONNX stores without using them, are left out. Constant inputs are buffers.
    """

    def __init__(
        self, settings: Settings, given: Mapping[str, Tensor], inputs: Mapping[str, str]
    ) -> None:
        super().__init__()
        self.settings = settings
        self.cells = settings.cells()
        self.input_size = given["W"].shape[2]
        self.hidden_size = given["R"].shape[2]
        self._inputs = dict(inputs)
        self._names: list[dict[str, str]] = []
        for index, backward in enumerate(self._backward):
            suffix = "_l0_reverse" if backward else "_l0"
            weights = _weights(settings.op_type, self.cells[index], given, index)
            self._names.append({name: name + suffix for name in weights})
            for name, weight in weights.items():
                self.register_parameter(name + suffix, nn.Parameter(weight))
        for name in ("sequence_lens", "initial_h", "initial_c"):
            self.register_buffer(name, given.get(name))

    @property
    def _backward(self) -> tuple[bool, ...]:
        return DIRECTIONS[self.settings.direction]

    @property
    def backend(self) -> str:
        """The target that runs this module with its present parameters, `llvm` or `eager`."""
        return self._selection()[0]

    @property
    def backend_reason(self) -> str:
        """Why `backend` is the one it is."""
        return self._selection()[1]

    def _selection(self) -> tuple[str, str]:
        parameters = self._parameters_at(0)
        x = torch.zeros_like(parameters["weight_ih"][:1]).unsqueeze(0)  # [1, 1, I]
        return operators.select(self.cells[0], x, parameters)

    def _parameters_at(self, index: int) -> dict[str, Tensor]:
        return {name: getattr(self, full) for name, full in self._names[index].items()}

    def forward(
        self,
        X: Tensor,
        sequence_lens: Tensor | Sequence[int] | None = None,
        initial_h: Tensor | None = None,
        initial_c: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Y, Y_h and, for an LSTM, Y_c, in the layout of the node.

        Arguments:
            X: `[T, B, I]`, or `[B, T, I]` with layout 1.
            sequence_lens: valid steps of each row, `[B]`, zero allowed. Y is zero beyond; a row
                without steps returns its initial state.
            initial_h: `[D, B, H]`, or `[B, D, H]` with layout 1; zeros if the node has no such
                input. What is given here goes before a constant of the node.
            initial_c: the same for c; LSTM only.

        Y is `[T, D, B, H]`, or `[B, T, D, H]` with layout 1; Y_h and Y_c are shaped as initial_h.

        Errors: `RuntimeError` for wrong shapes, `ValueError` for a wrong dtype, a length out of
        range or an input of the node that is given nowhere, `TypeError` for what is no tensor.
        """
        x = self._admit(X)
        states = [self._initial("initial_h", initial_h, x)]
        if self.cells[0].states:
            states.append(self._initial("initial_c", initial_c, x))
        elif initial_c is not None:
            raise ValueError(f"{self.settings.op_type} has no initial_c; got one")
        rows = Rows()
        lengths = self._found("sequence_lens", sequence_lens)
        if lengths is not None:
            counts = as_lengths(lengths, x.shape[0], x.shape[1], x)
            rows = Rows.from_lengths(counts, x.shape[0])
        results = [
            self._run_direction(x, index, tuple(state[index] for state in states), rows)
            for index in range(len(self.cells))
        ]
        Y = torch.stack([result.out for result in results], 1)  # [T, D, B, H]
        pairs = zip(*((result.h, *result.states) for result in results), strict=True)
        last = tuple(torch.stack(values) for values in pairs)  # [D, B, H] each
        if self.settings.layout:
            return Y.permute(2, 0, 1, 3), *(value.transpose(0, 1) for value in last)
        return Y, *last

    def _run_direction(
        self, x: Tensor, index: int, start: tuple[Tensor, ...], rows: Rows
    ) -> Result:
        chosen, parameters = self.cells[index], self._parameters_at(index)
        backend, _ = operators.select(chosen, x, parameters)
        backward = self._backward[index]
        result = operators.run(
            backend,
            chosen,
            rows.reverse(x) if backward else x,
            parameters,
            start[0],
            start[1:],
            lengths=rows.lengths,
        )
        out = rows.reverse(result.out) if backward else result.out
        return Result(out, result.h, result.states)

    def _admit(self, X: Tensor) -> Tensor:
        """X as `[T, B, I]`, checked."""
        if not isinstance(X, Tensor):
            raise TypeError(f"X should be a Tensor, got {type(X).__name__}")
        weight = getattr(self, self._names[0]["weight_ih"])
        order = "[B, T, I]" if self.settings.layout else "[T, B, I]"
        if X.dim() != 3 or X.shape[2] != self.input_size:
            raise RuntimeError(
                f"X should be {order} with I = {self.input_size}, got {list(X.shape)}"
            )
        x = X.transpose(0, 1) if self.settings.layout else X
        if x.shape[0] == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        return self._cast("X", x, weight)

    def _initial(self, name: str, value: Tensor | None, x: Tensor) -> Tensor:
        """An initial state as `[D, B, H]`, checked."""
        found = self._found(name, value)
        shape = (len(self.cells), x.shape[1], self.hidden_size)
        if found is None:
            return x.new_zeros(shape)
        if not isinstance(found, Tensor):
            raise TypeError(f"{name} should be a Tensor, got {type(found).__name__}")
        expected = (shape[1], shape[0], shape[2]) if self.settings.layout else shape
        if found.shape != torch.Size(expected):
            raise RuntimeError(f"Expected {name} size {expected}, got {list(found.shape)}")
        return self._cast(name, found.transpose(0, 1) if self.settings.layout else found, x)

    def _cast(self, name: str, value: Tensor, like: Tensor) -> Tensor:
        """The value; under autocast in the dtype of the weights, as in the other layers."""
        if value.device != like.device:
            raise RuntimeError(f"{name} is on {value.device}, expected {like.device}")
        kind = value.device.type
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            return value.to(like.dtype)
        if value.dtype != like.dtype:
            raise ValueError(
                f"{name} is {value.dtype}, but the weights are {like.dtype}; convert one"
            )
        return value

    def _found(self, name: str, value: Any) -> Any:
        """What was given in the call, else the node's constant, else None."""
        if value is not None:
            return value
        constant = getattr(self, name)
        if constant is None and name in self._inputs:
            raise ValueError(
                f"{self.settings.op_type}: the node reads {name} from {self._inputs[name]!r}, "
                "which was not among the tensors; give it in the call"
            )
        return constant

    def extra_repr(self) -> str:
        """The operator, its sizes and the attributes that differ from their defaults."""
        settings = self.settings
        changed = [
            f"{name}={getattr(settings, name)}"
            for name, default in (
                ("direction", "forward"),
                ("layout", 0),
                ("clip", 0.0),
                ("coupled", False),
                ("linear_before_reset", False),
                ("peepholes", False),
            )
            if getattr(settings, name) != default
        ]
        return ", ".join([settings.op_type, str(self.input_size), str(self.hidden_size), *changed])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "cells"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.cells = self.settings.cells()


def _weights(
    op_type: str, chosen: Cell, given: Mapping[str, Tensor], index: int
) -> dict[str, Tensor]:
    """The parameters of one direction by our names, their gates in our order."""
    gates = OPERATORS[op_type].gates
    stored = {"weight_ih": ("x", given["W"][index]), "weight_hh": ("h", given["R"][index])}
    if "B" in given:
        first, second = given["B"][index].chunk(2)
        stored |= {"bias_ih": ("bias_ih", first), "bias_hh": ("bias_hh", second)}
    weights = {}
    for name, (part, value) in stored.items():
        blocks = value.chunk(len(gates))
        order = [gates[acc.gate] for acc in chosen.accumulators if getattr(acc, part)]
        weights[name] = torch.cat([blocks[place] for place in order])
    for name in chosen.weights:
        weights[name] = given["P"][index].chunk(3)[PEEPHOLES[name]].clone()
    return weights

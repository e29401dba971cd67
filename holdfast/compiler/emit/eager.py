"""The eager target: the living definition of every operation and of the time loop.

It walks the step graph with PyTorch operations, one time step after the other, unfused, and leaves
the gradients to autograd. Every other target must give the same outputs, last states and gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from holdfast.compiler.cell import Cell
from holdfast.compiler.graph import LEAVES

SPELLINGS: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "neg": lambda x: -x,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "relu": torch.relu,
    "abs": torch.abs,
    "max": torch.maximum,
    "min": torch.minimum,
    "square": torch.square,
    "softplus": lambda x: functional.softplus(x, threshold=50.0),
    # functional.hardsigmoid rounds its derivative to float32, even in float64.
    "hard_sigmoid": lambda x: functional.hardtanh(x / 6.0 + 0.5, 0.0, 1.0),
    "hard_tanh": functional.hardtanh,
    "where": torch.where,
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y,
    "eq": lambda x, y: x == y,
    "ne": lambda x, y: x != y,
}
"""Each operation of the table in PyTorch."""


@dataclass(frozen=True, eq=False)
class Result:
    """What a pass over a sequence gives, whatever the target.

    out: `[T, B, H]`, or `[N, H]` for packed input. h: `[B, H]`, the last output of each row.
    states: the last value of each further state, `[B, H]` each. sequences: every value of each
    further state, shaped as `out`; only where they were asked for.
    """

    out: Tensor
    h: Tensor
    states: tuple[Tensor, ...]
    sequences: tuple[Tensor, ...] | None = None


def run(
    cell: Cell,
    x: Tensor,
    parameters: Mapping[str, Tensor],
    h: Tensor,
    states: tuple[Tensor, ...] = (),
    *,
    lengths: Tensor | None = None,
    batch_sizes: Tensor | None = None,
    sequences: bool = False,
) -> Result:
    """Run a cell over a sequence, one step at a time.

    >>> import torch
    >>> from holdfast.cells import rnn
    >>> parameters = {name: torch.rand(shape) for name, shape in rnn.shapes(3, 5).items()}
    >>> run(rnn, torch.rand(7, 2, 3), parameters, torch.zeros(2, 5)).out.shape
    torch.Size([7, 2, 5])

    Arguments:
        x: input `[T, B, I]`, or packed `[N, I]` together with `batch_sizes`.
        parameters: tensors by name, shaped as `cell.shapes(I, H)`; `weight_hr` `[P, H]` projects h.
        h: previous output `[B, H]` (`[B, P]` with a projection).
        states: previous value of each further state, `[B, H]`.
        lengths: number of valid steps of each row, `[B]`, zero allowed; `out` is zero beyond.
        batch_sizes: rows alive at each step, `[T]`, never growing, as in a `PackedSequence`.
        sequences: also return every value of the further states.
    """
    if batch_sizes is not None:
        return _run_packed(cell, x, parameters, h, states, batch_sizes.tolist(), sequences)
    steps, kept = [], []
    for t in range(x.shape[0]):
        x_t = x[t]
        if lengths is not None:
            alive = (t < lengths.to(x.device)).unsqueeze(1)
            # Even a NaN in the padding stays out of the gradients: 0 * NaN would be NaN.
            x_t = torch.where(alive, x_t, 0.0)
            new_h, new_states = step(cell, x_t, parameters, h, states)
            steps.append(torch.where(alive, new_h, 0.0))
            kept.append(tuple(torch.where(alive, new, 0.0) for new in new_states))
            h = torch.where(alive, new_h, h)
            pairs = zip(new_states, states, strict=True)
            states = tuple(torch.where(alive, new, old) for new, old in pairs)
        else:
            h, states = step(cell, x_t, parameters, h, states)
            steps.append(h)
            kept.append(states)
    if not steps:
        empty = h.new_zeros((0, *h.shape))
        none = tuple(state.new_zeros((0, *state.shape)) for state in states)
        return Result(empty, h, states, none if sequences else None)
    stacked = tuple(torch.stack(values) for values in zip(*kept, strict=True))
    return Result(torch.stack(steps), h, states, stacked if sequences else None)


def _run_packed(
    cell: Cell,
    x: Tensor,
    parameters: Mapping[str, Tensor],
    h: Tensor,
    states: tuple[Tensor, ...],
    batch_sizes: list[int],
    sequences: bool,
) -> Result:
    steps, kept = [], []
    for x_t, alive in zip(x.split(batch_sizes), batch_sizes, strict=True):
        new_h, new = step(cell, x_t, parameters, h[:alive], tuple(s[:alive] for s in states))
        steps.append(new_h)
        kept.append(new)
        h = torch.cat([new_h, h[alive:]])
        states = tuple(torch.cat([n, s[alive:]]) for n, s in zip(new, states, strict=True))
    stacked = tuple(torch.cat(values) for values in zip(*kept, strict=True))
    return Result(torch.cat(steps), h, states, stacked if sequences else None)


def step(
    cell: Cell,
    x: Tensor,
    parameters: Mapping[str, Tensor],
    h: Tensor,
    states: tuple[Tensor, ...],
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One time step: the new h `[B, H]` and the new states from x `[B, I]`.

    Arguments are those of `run` for a single step.
    """
    hidden_size = parameters["weight_ih"].shape[0] // sum(acc.x for acc in cell.accumulators)
    leaves: dict[tuple[str, str], Tensor] = {("state", "h"): h}
    leaves |= {("state", name): state for name, state in zip(cell.states, states, strict=True)}
    leaves |= {("weight", name): parameters[name] for name in cell.weights}
    input_part = functional.linear(x, parameters["weight_ih"])
    parts = {"x": iter(input_part.split(hidden_size, 1))}
    if "weight_hh" in parameters:
        recurrent_part = functional.linear(h, parameters["weight_hh"])
        parts["h"] = iter(recurrent_part.split(hidden_size, 1))
    for name in ("bias_ih", "bias_hh"):
        if name in parameters:
            parts[name] = iter(parameters[name].split(hidden_size))
    for accumulator in cell.accumulators:
        terms = [
            next(parts[name])
            for name in ("x", "h", "bias_ih", "bias_hh")
            if getattr(accumulator, name) and name in parts
        ]
        leaves["gate", accumulator.leaf] = sum(terms[1:], terms[0])
    new_h, *new_states = (value.expand(x.shape[0], hidden_size) for value in evaluate(cell, leaves))
    if "weight_hr" in parameters:
        new_h = functional.linear(new_h, parameters["weight_hr"])
    return new_h, tuple(new_states)


def evaluate(cell: Cell, leaves: Mapping[tuple[str, str], Tensor]) -> list[Tensor]:
    """The new h and states, from the values of the step graph's leaves by kind and name."""
    reference = next(iter(leaves.values()))
    steps, outputs = cell.program
    values: list[Tensor] = []
    for op, name, value, inputs in steps:
        if op == "const":
            values.append(torch.full((), value, dtype=reference.dtype, device=reference.device))
        elif op in LEAVES:
            values.append(leaves[op, name])
        else:
            values.append(SPELLINGS[op](*(values[n] for n in inputs)))
    return [values[n] for n in outputs]

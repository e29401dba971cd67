"""The eager target: the living definition of every operation and of the time loop.

It walks the step graph with PyTorch operations, one time step after the other, unfused, and leaves
the gradients to autograd. Every other target must give the same outputs, last states and gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from holdfast.compiler import noise as masks
from holdfast.compiler.cell import Cell
from holdfast.compiler.graph import LEAVES
from holdfast.compiler.noise import Noise


def _pairs(x: Tensor) -> tuple[Tensor, Tensor]:
    if x.shape[-1] % 2:
        raise ValueError(f"units come in pairs here, so H must be even, got {x.shape[-1]}")
    return x[..., 0::2], x[..., 1::2]


def _turn(x: Tensor) -> Tensor:
    first, second = _pairs(x)
    return torch.stack([-second, first], -1).flatten(-2)


def _real(x: Tensor) -> Tensor:
    first, second = _pairs(x)
    return torch.stack([first, torch.zeros_like(second)], -1).flatten(-2)


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
    "mean": lambda x: x.mean(-1, keepdim=True).expand_as(x) if x.dim() else x,
    "peak": lambda x: x.detach().amax(-1, keepdim=True).expand_as(x) if x.dim() else x,
    "cumulate": lambda x: x.cumsum(-1),
    "remain": lambda x: x.flip(-1).cumsum(-1).flip(-1),
    "floor": torch.floor,
    "sin": torch.sin,
    "cos": torch.cos,
    "turn": _turn,
    "real": _real,
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


@dataclass(frozen=True, eq=False)
class Resets:
    """Where rows begin anew within a sequence.

    at: `[T, B]` bool; true where the state before the step is forgotten. starts: what it is then,
    `[H]` for h and each further state; zeros where empty.
    """

    at: Tensor
    starts: tuple[Tensor, ...] = ()


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
    noise: Noise | None = None,
    resets: Resets | None = None,
) -> Result:
    """Run a cell over a sequence, one step at a time.

    >>> import torch
    >>> from holdfast.cells import rnn
    >>> parameters = {name: torch.rand(shape) for name, shape in rnn.shapes(3, 5).items()}
    >>> run(rnn, torch.rand(7, 2, 3), parameters, torch.zeros(2, 5)).out.shape
    torch.Size([7, 2, 5])

    Arguments:
        x: input `[T, B, I]`, or packed `[N, I]` together with `batch_sizes`. What a cell is given
            unit by unit stands behind it in the last dimension, H features each; see `Cell.column`.
        parameters: tensors by name, shaped as `cell.shapes(I, H)`; `weight_hr` `[P, H]` projects h.
            A `weight_hh` of H / n columns is block-diagonal: n heads that do not see each other.
        h: previous output `[B, H]` (`[B, P]` with a projection).
        states: previous value of each further state, `[B, H]`.
        lengths: number of valid steps of each row, `[B]`, zero allowed; `out` is zero beyond.
        batch_sizes: rows alive at each step, `[T]`, never growing, as in a `PackedSequence`.
        sequences: also return every value of the further states.
        noise: what the masks of the cell are drawn from; needed where it has any.
        resets: where rows begin anew, for `x` of `[T, B, I]`.
    """
    _check_width(cell, x, parameters)
    _check(cell, parameters, h, packed=batch_sizes is not None, resets=resets)
    steady = _steady_masks(cell, noise, parameters, h)
    if batch_sizes is not None:
        counts = batch_sizes.tolist()
        return _run_packed(cell, x, parameters, h, states, counts, sequences, noise, steady)
    steps, kept = [], []
    for t in range(x.shape[0]):
        x_t = x[t]
        alive = None
        if lengths is not None:
            alive = (t < lengths.to(x.device)).unsqueeze(1)
            # Even a NaN in the padding stays out of the gradients: 0 * NaN would be NaN.
            x_t = torch.where(alive, x_t, 0.0)
        if resets is not None:
            h, states = _restart(resets, t, alive, h, states)
        drawn = steady | _step_masks(cell, noise, parameters, x, t)
        new_h, new_states = step(cell, x_t, parameters, h, states, drawn)
        if alive is None:
            h, states = new_h, new_states
            steps.append(h)
            kept.append(states)
            continue
        steps.append(torch.where(alive, new_h, 0.0))
        kept.append(tuple(torch.where(alive, new, 0.0) for new in new_states))
        h = torch.where(alive, new_h, h)
        pairs = zip(new_states, states, strict=True)
        states = tuple(torch.where(alive, new, old) for new, old in pairs)
    if not steps:
        empty = h.new_zeros((0, *h.shape))
        none = tuple(state.new_zeros((0, *state.shape)) for state in states)
        return Result(empty, h, states, none if sequences else None)
    stacked = tuple(torch.stack(values) for values in zip(*kept, strict=True))
    return Result(torch.stack(steps), h, states, stacked if sequences else None)


def _check(
    cell: Cell, parameters: Mapping[str, Tensor], h: Tensor, *, packed: bool, resets: Resets | None
) -> None:
    """Refuse combinations that have no meaning."""
    if packed and resets is not None:
        raise ValueError("packed input has no resets; cut the sequences where they begin anew")
    if "weight_hr" not in parameters:
        return
    recurrent = parameters.get("weight_hh")
    if recurrent is not None and recurrent.shape[1] != h.shape[1]:
        raise ValueError(
            f"a projection of h to {h.shape[1]} features needs a weight_hh of as many columns, got "
            f"{recurrent.shape[1]}; heads and a projection exclude each other"
        )
    if any(name == "h" for op, name, _, _ in cell.program[0] if op == "state"):
        raise ValueError(
            f"the cell {cell.name} uses h unit by unit, so a projection of h is not possible"
        )


def _check_width(cell: Cell, x: Tensor, parameters: Mapping[str, Tensor]) -> None:
    widths = cell.widths(*cell.measure(parameters))
    if x.shape[-1] not in widths:
        expected = " or ".join(map(str, widths))
        raise ValueError(f"the input has {x.shape[-1]} features, expected {expected}")


def _run_packed(
    cell: Cell,
    x: Tensor,
    parameters: Mapping[str, Tensor],
    h: Tensor,
    states: tuple[Tensor, ...],
    batch_sizes: list[int],
    sequences: bool,
    noise: Noise | None,
    steady: Mapping[str, Tensor],
) -> Result:
    steps, kept = [], []
    for t, (x_t, alive) in enumerate(zip(x.split(batch_sizes), batch_sizes, strict=True)):
        drawn = {**steady, **_step_masks(cell, noise, parameters, x, t)}
        drawn = {name: mask[:alive] for name, mask in drawn.items()}
        before = tuple(state[:alive] for state in states)
        new_h, new = step(cell, x_t, parameters, h[:alive], before, drawn)
        steps.append(new_h)
        kept.append(new)
        h = torch.cat([new_h, h[alive:]])
        states = tuple(torch.cat([n, s[alive:]]) for n, s in zip(new, states, strict=True))
    stacked = tuple(torch.cat(values) for values in zip(*kept, strict=True))
    return Result(torch.cat(steps), h, states, stacked if sequences else None)


def _restart(
    resets: Resets, t: int, alive: Tensor | None, h: Tensor, states: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The states before a step, begun anew where that is wanted and the row is alive."""
    now = resets.at[t].unsqueeze(1)
    now = now if alive is None else now & alive
    old = (h, *states)
    fresh = resets.starts or tuple(state.new_zeros(()) for state in old)
    first, *rest = (torch.where(now, new, was) for new, was in zip(fresh, old, strict=True))
    return first, tuple(rest)


def _hidden_size(cell: Cell, parameters: Mapping[str, Tensor]) -> int:
    return cell.measure(parameters)[1]


def _steady_masks(
    cell: Cell, noise: Noise | None, parameters: Mapping[str, Tensor], h: Tensor
) -> dict[str, Tensor]:
    """The masks that stay the same at every step, by name."""
    if not cell.masks:
        return {}
    if noise is None:
        raise ValueError(f"the cell {cell.name} draws masks; pass noise=")
    found = {}
    for number, mask in enumerate(cell.masks):
        if not mask.per_step:
            width = h.shape[1] if mask.name == cell.operand else _hidden_size(cell, parameters)
            found[mask.name] = masks.draw(noise, number, width, h.dtype)
    return found


def _step_masks(
    cell: Cell, noise: Noise | None, parameters: Mapping[str, Tensor], x: Tensor, t: int
) -> dict[str, Tensor]:
    """The masks of step t that are drawn anew each step, by name."""
    if noise is None:
        return {}
    width = _hidden_size(cell, parameters)
    return {
        mask.name: masks.draw(noise, number, width, x.dtype, t)
        for number, mask in enumerate(cell.masks)
        if mask.per_step
    }


def step(
    cell: Cell,
    x: Tensor,
    parameters: Mapping[str, Tensor],
    h: Tensor,
    states: tuple[Tensor, ...],
    drawn: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One time step: the new h `[B, H]` and the new states from x `[B, I]`.

    Arguments are those of `run` for a single step; `drawn` holds the masks by name.
    """
    drawn = drawn or {}
    hidden_size = _hidden_size(cell, parameters)
    leaves: dict[tuple[str, str], Tensor] = {("state", "h"): h}
    leaves |= {("state", name): state for name, state in zip(cell.states, states, strict=True)}
    leaves |= {("weight", name): parameters[name] for name in cell.weights}
    leaves |= {("mask", name): mask for name, mask in drawn.items()}
    leaves |= given(cell, x, parameters, hidden_size)
    leaves |= gates(cell, x, parameters, h * drawn[cell.operand] if cell.operand else h)
    results = evaluate(cell, leaves, parameters)
    new_h, *new_states = (value.expand(x.shape[0], hidden_size) for value in results)
    if "weight_hr" in parameters:
        new_h = functional.linear(new_h, parameters["weight_hr"])
    return new_h, tuple(new_states)


def given(
    cell: Cell, x: Tensor, parameters: Mapping[str, Tensor], hidden_size: int
) -> dict[tuple[str, str], Tensor]:
    """What the step is given unit by unit, `[B, H]` each."""
    sizes = (x.shape[1], cell.measure(parameters)[0], hidden_size)
    starts = {name: cell.column(name, *sizes) for name in cell.inputs}
    return {("input", name): x[:, n : n + hidden_size] for name, n in starts.items()}


def gates(
    cell: Cell, x: Tensor, parameters: Mapping[str, Tensor], operand: Tensor
) -> dict[tuple[str, str], Tensor]:
    """The affine sums of a step, `[B, H]` each, from x `[B, I]` and the h that R multiplies.

    Of a gate that is called only what does not depend on the operand, under the kind `affine`.
    """
    hidden_size = _hidden_size(cell, parameters)
    parts: dict[str, Iterator[Tensor]] = {}
    if "weight_ih" in parameters:
        weight = parameters["weight_ih"]
        input_part = functional.linear(x[:, : weight.shape[1]], weight)
        parts["x"] = iter(input_part.split(hidden_size, 1))
    if "weight_hh" in parameters:
        recurrent_part = recur(operand, parameters["weight_hh"])
        parts["h"] = iter(recurrent_part.split(hidden_size, 1))
    for name in ("bias_ih", "bias_hh"):
        if name in parameters:
            parts[name] = iter(parameters[name].split(hidden_size))
    sums: dict[tuple[str, str], Tensor] = {}
    for accumulator in cell.accumulators:
        terms = {
            name: next(parts[name])
            for name in ("x", "h", "bias_ih", "bias_hh")
            if getattr(accumulator, name) and name in parts
        }
        if accumulator.inner:
            del terms["h"]
            if not accumulator.x:
                terms["x"] = x.new_zeros(x.shape[0], hidden_size)
        first, *others = terms.values()
        kind = "affine" if accumulator.inner else "gate"
        sums[kind, accumulator.leaf] = sum(others, first)
    return sums


def recur(h: Tensor, weight: Tensor) -> Tensor:
    """`R h`, `[B, G * H]`, with a dense or a block-diagonal R."""
    if weight.shape[1] == h.shape[1]:
        return functional.linear(h, weight)
    width = weight.shape[1]
    heads = h.shape[1] // width
    blocks = weight.reshape(-1, heads, width, width)  # [G, heads, units, columns]
    parts = torch.einsum("bnk,gnuk->bgnu", h.reshape(-1, heads, width), blocks)
    return parts.reshape(h.shape[0], -1)


def _inner_weight(cell: Cell, weight: Tensor, name: str) -> Tensor:
    """The rows of R that belong to a gate."""
    members = [acc.leaf for acc in cell.accumulators if acc.h]
    return weight.chunk(len(members))[members.index(name)]


def evaluate(
    cell: Cell, leaves: Mapping[tuple[str, str], Tensor], parameters: Mapping[str, Tensor]
) -> list[Tensor]:
    """The new h and states, from the values of the step graph's leaves by kind and name.

    Arguments:
        parameters: those of `run`, for the R of gates that are called.
    """
    reference = next(iter(leaves.values()))
    steps, outputs = cell.program
    values: list[Tensor] = []
    for op, name, value, inputs in steps:
        if op == "const":
            values.append(torch.full((), value, dtype=reference.dtype, device=reference.device))
        elif op in LEAVES:
            values.append(leaves[op, name])
        elif op == "affine":
            like = leaves[op, name]
            operand = values[inputs[0]].expand_as(like)
            weight = _inner_weight(cell, parameters["weight_hh"], name)
            values.append(like + recur(operand, weight))
        else:
            values.append(SPELLINGS[op](*(values[n] for n in inputs)))
    return [values[n] for n in outputs]

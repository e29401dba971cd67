"""What steps are given unit by unit, put behind the input in one tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from holdfast.compiler.cell import Cell


def matrix_shape(cell: Cell, features: int, units: int) -> dict[str, tuple[int, ...]]:
    """The matrix that makes `x` as wide as a layer has units, where the cell takes it unit by unit.

    >>> from holdfast.cells import lstm
    >>> matrix_shape(lstm, 3, 5)
    {}
    """
    needed = "x" in cell.inputs and features != units
    return {"weight_x": (units, features)} if needed else {}


def widen(
    cell: Cell, x: Tensor, parameters: dict[str, Tensor], extra: Mapping[str, Tensor], units: int
) -> Tensor:
    """The input `[..., I]` with what steps are given behind it; takes `weight_x` out of parameters.

    Arguments:
        extra: sequences by name, `[..., 1]` or `[..., H]`.
    """
    matrix = parameters.pop("weight_x", None)
    if not cell.inputs:
        return x
    multiplied = any(acc.x for acc in cell.accumulators)
    parts = [x] if multiplied or matrix is None else []
    parts += [] if matrix is None else [functional.linear(x, matrix)]
    for name in cell.inputs:
        if name != "x":
            parts.append(extra[name].expand(*x.shape[:-1], units))
    return torch.cat(parts, -1) if len(parts) > 1 else parts[0]


def as_extra(
    cell: Cell, extra: Any, x: Tensor, *, turned: bool, batched: bool
) -> dict[str, Tensor]:
    """The sequences that the caller gave, `[T, B, 1 or H]` each (`[N, 1 or H]` for packed input).

    Arguments:
        x: the input as the layer runs it, `[T, B, I]` or packed `[N, I]`.
        turned: time comes second. batched: there is a dimension for rows.

    Errors: `ValueError` for names that the cell does not have or misses, and for wrong shapes.
    """
    wanted = [name for name in cell.inputs if name != "x"]
    given = dict(extra or {})
    if sorted(given) != sorted(wanted):
        expected = ", ".join(wanted) or "none"
        raise ValueError(
            f"extra: the cell {cell.name} takes the sequences {expected}, got: "
            f"{', '.join(given) or 'none'}"
        )
    return {name: _sequence(name, given[name], x, turned, batched) for name in wanted}


def _sequence(name: str, value: Any, x: Tensor, turned: bool, batched: bool) -> Tensor:
    if isinstance(value, PackedSequence):
        value = value.data
    if not isinstance(value, Tensor):
        raise ValueError(f"extra: {name} should be a tensor, got {type(value).__name__}")
    value = value.to(x.dtype)
    shape = list(value.shape)
    if x.dim() == 3 and not batched:
        value = value.unsqueeze(1)
    if x.dim() == 3 and turned and value.dim() > 1:
        value = value.transpose(0, 1)
    if value.dim() == x.dim() - 1:
        value = value.unsqueeze(-1)
    if value.dim() != x.dim() or value.shape[:-1] != x.shape[:-1]:
        lead = list(x.shape[:-1])
        expected = lead if batched else lead[:1]
        expected = expected[::-1] if turned else expected
        raise ValueError(
            f"extra: {name} should have the shape {expected}, with 1 or H features behind or none, "
            f"got {shape}"
        )
    return value

"""Argument and shape errors of the layers, with the exception types and wording of PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Number
from typing import Any

import torch
from torch import Tensor

from holdfast.cells import CELLS
from holdfast.compiler.cell import Cell
from holdfast.errors import CellError


def find_cell(cell: Cell | str) -> Cell:
    """The cell itself, or the one of that name in the catalogue.

    >>> find_cell("peephole").states
    ('c',)

    Errors: `CellError` naming the catalogue for an unknown name; `TypeError` for anything else.
    """
    if isinstance(cell, Cell):
        return cell
    if not isinstance(cell, str):
        raise TypeError(
            f"cell should be a Cell or a name of the catalogue, got: {type(cell).__name__}; "
            "decorate the function with @holdfast.cell to make a Cell of it"
        )
    if cell not in CELLS:
        raise CellError(
            f"the catalogue has no cell named {cell!r}; expected one of "
            f"{', '.join(sorted(CELLS))}, or a Cell made with @holdfast.cell"
        )
    return CELLS[cell]


def check_options(
    input_size: int,
    hidden_size: int,
    num_layers: int,
    bias: bool,
    batch_first: bool,
    dropout: float,
    proj_size: int,
) -> None:
    """Refuse what no recurrent layer can be built from."""
    if not isinstance(dropout, Number) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
        raise ValueError(
            "dropout should be a number in range [0, 1], the probability of an element being "
            f"zeroed, got: {dropout!r}"
        )
    for name, flag in (("bias", bias), ("batch_first", batch_first)):
        if not isinstance(flag, bool):
            raise TypeError(f"{name} should be of type bool, got: {type(flag).__name__}")
    sizes = (
        ("input_size", input_size),
        ("hidden_size", hidden_size),
        ("num_layers", num_layers),
    )
    for name, size in sizes:
        if not isinstance(size, int):
            raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
        if size <= 0:
            raise ValueError(f"{name} must be greater than zero, got: {size}")
    if proj_size < 0:
        raise ValueError(
            "proj_size should be a positive integer or zero to disable projections, "
            f"got: {proj_size}"
        )
    if proj_size >= hidden_size:
        raise ValueError(
            f"proj_size has to be smaller than hidden_size, got: {proj_size} and {hidden_size}"
        )


def check_projection(cell: Cell) -> None:
    """Refuse a projection of `h` for a cell that adds `h` to its units one by one."""
    if any(node.op == "state" and node.name == "h" for node in cell.graph.nodes()):
        raise ValueError(
            f"proj_size is not possible with the cell {cell.name}: it uses h unit by unit, so h "
            "must have hidden_size features; leave proj_size at 0"
        )


def check_kind(name: str, input: Any) -> None:
    """Refuse an input that is not a dense tensor of two or three dimensions."""
    if not isinstance(input, Tensor):
        raise TypeError(
            f"{name}: expected input to be a Tensor or a PackedSequence, got {type(input).__name__}"
        )
    if input.is_nested:
        raise ValueError(
            f"{name}: expected a dense input, got a nested tensor; pad it with "
            "torch.nested.to_padded_tensor and pass lengths="
        )
    if input.dim() not in (2, 3):
        raise ValueError(f"{name}: Expected input to be 2D or 3D, got {input.dim()}D instead")


def check_input(x: Tensor, input_size: int, weight: Tensor, *, packed: bool, casts: bool) -> None:
    """Refuse an input, `[T, B, I]` or packed `[N, I]`, that does not fit the weights.

    Arguments:
        casts: autocast is on, so the input's dtype does not matter.
    """
    if x.dtype != weight.dtype and not casts:
        raise ValueError(
            f"RNN input dtype ({x.dtype}) does not match weight dtype ({weight.dtype}). "
            f"Convert input: input.to({weight.dtype}), or convert model: model.to({x.dtype})"
        )
    expected = 2 if packed else 3
    if x.dim() != expected:
        raise RuntimeError(f"input must have {expected} dimensions, got {x.dim()}")
    if x.shape[-1] != input_size:
        raise RuntimeError(
            f"input.size(-1) must be equal to input_size. Expected {input_size}, got {x.shape[-1]}"
        )
    if x.device != weight.device:
        raise RuntimeError(
            "Input and parameter tensors are not at the same device, found input tensor at "
            f"{x.device} and parameter tensor at {weight.device}"
        )
    if x.shape[0] == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")


def as_states(name: str, hx: Any, states: tuple[str, ...]) -> tuple[Tensor, ...]:
    """The initial states as one tuple `(h, *states)`, from what the caller gave."""
    if not states:
        if not isinstance(hx, Tensor):
            raise TypeError(f"{name}: expected hx to be a Tensor, got {type(hx).__name__}")
        return (hx,)
    wanted = ", ".join(f"{state}_0" for state in ("h", *states))
    if not isinstance(hx, (tuple, list)):
        raise TypeError(
            f"{name}: expected hx to be a tuple ({wanted}) of tensors, got {type(hx).__name__}"
        )
    given = tuple(hx)
    if len(given) != len(states) + 1:
        raise ValueError(
            f"{name}: expected hx to be a tuple ({wanted}) of {len(states) + 1} tensors, "
            f"got {len(given)}"
        )
    for state in given:
        if not isinstance(state, Tensor):
            raise TypeError(
                f"{name}: expected hx to be a tuple ({wanted}) of tensors, "
                f"got one of {type(state).__name__}"
            )
    return given


def check_state_dims(hx: tuple[Tensor, ...], *, batched: bool) -> None:
    """Refuse initial states with a batch dimension too many or too few."""
    dims = 3 if batched else 2
    if all(state.dim() == dims for state in hx):
        return
    kind = "batched" if batched else "unbatched"
    if len(hx) == 1:
        raise RuntimeError(
            f"For {kind} {dims}-D input, hx should also be {dims}-D but got {hx[0].dim()}-D tensor"
        )
    names = "hx and cx" if len(hx) == 2 else "all initial states"
    got = ", ".join(f"{state.dim()}-D" for state in hx)
    raise RuntimeError(
        f"For {kind} {dims}-D input, {names} should also be {dims}-D but got ({got}) tensors"
    )


def check_states(
    hx: tuple[Tensor, ...], shapes: Sequence[tuple[int, ...]], x: Tensor, *, casts: bool
) -> None:
    """Refuse initial states whose shape, dtype or device does not fit the input `x`."""
    for index, (state, shape) in enumerate(zip(hx, shapes, strict=True)):
        name = "hidden" if len(hx) == 1 else f"hidden[{index}]"
        if state.shape != torch.Size(shape):
            raise RuntimeError(f"Expected {name} size {tuple(shape)}, got {list(state.shape)}")
        if state.dtype != x.dtype and not casts:
            raise RuntimeError(
                f"Input and hidden tensors are not the same dtype, found input tensor with "
                f"{x.dtype} and {name} with {state.dtype}"
            )
        if state.device != x.device:
            raise RuntimeError(
                f"Input and hidden tensors are not at the same device, found input tensor at "
                f"{x.device} and {name} at {state.device}"
            )

"""Argument and shape errors of the layers, with the exception types and wording of PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Number
from typing import Any

import torch
from torch import Tensor

from holdfast.cells import CELLS
from holdfast.compiler.cell import Cell
from holdfast.errors import CellError, did_you_mean
from holdfast.nn.options import Options
from holdfast.nn.sizes import Sizes


def find_cell(cell: Cell | str) -> Cell:
    """The cell itself, or the one of that name in the catalogue.

    >>> find_cell("peephole").states
    ('c',)

    Errors: `CellError` with the closest names for an unknown one; `TypeError` for anything else.
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
            f"the catalogue has no cell named {cell!r}{did_you_mean(cell, CELLS)}; expected a name "
            "that `holdfast cells` lists, or a Cell made with @holdfast.cell"
        )
    return CELLS[cell]


def as_hidden_sizes(hidden_size: Any, num_layers: Any) -> tuple[int, ...]:
    """The units of each layer, from one number or a sequence of them.

    >>> as_hidden_sizes(5, 2), as_hidden_sizes([5, 7], 1)
    ((5, 5), (5, 7))

    Errors: `TypeError` for what is not a whole number, `ValueError` for numbers below 1 and where
    `num_layers` is neither 1 nor the length of the sequence.
    """
    many = isinstance(hidden_size, (tuple, list))
    sizes: tuple[int, ...] = tuple(hidden_size) if many else (hidden_size,)
    for name, value in (*(("hidden_size", size) for size in sizes), ("num_layers", num_layers)):
        check_size(name, value)
    if not many:
        return sizes * num_layers
    if not sizes:
        raise ValueError("hidden_size is empty; give one number for each layer")
    if num_layers not in (1, len(sizes)):
        raise ValueError(
            f"hidden_size has {len(sizes)} numbers, so num_layers must be {len(sizes)} or left "
            f"out, got: {num_layers}"
        )
    return sizes


def check_size(name: str, size: Any) -> None:
    """Refuse what is not a whole number above 0."""
    if not isinstance(size, int):
        raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
    if size <= 0:
        raise ValueError(f"{name} must be greater than zero, got: {size}")


def check_options(
    input_size: int,
    hidden: tuple[int, ...],
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
    check_size("input_size", input_size)
    if proj_size < 0:
        raise ValueError(
            "proj_size should be a positive integer or zero to disable projections, "
            f"got: {proj_size}"
        )
    if proj_size >= min(hidden):
        raise ValueError(
            f"proj_size has to be smaller than hidden_size, got: {proj_size} and {min(hidden)}"
        )


def check_combination(cell: Cell, options: Options, sizes: Sizes) -> None:
    """Refuse options that do not fit the cell, the sizes or each other."""
    if options.merge == "sum" and sizes.directions == 1:
        raise ValueError("merge='sum' adds two directions, so it needs bidirectional=True")
    around = "residual" if options.residual else "highway" if options.highway else ""
    for layer in range(1, len(sizes.hidden) if around else 0):
        if not sizes.skips(layer):
            raise ValueError(
                f"{around} adds the input of layer {layer}, {sizes.features(layer)} features, to "
                f"its output, {sizes.out(layer)} features; give all layers the same hidden_size"
            )
    if sizes.projection:
        if "h" in options.zones(cell):
            raise ValueError(
                "proj_size and zoneout of h do not go together: h has fewer features than there "
                "are units; take zoneout={'c': ...}"
            )
        for name, wanted in (("diagonal", options.diagonal), ("heads", options.heads > 1)):
            if wanted:
                raise ValueError(
                    f"proj_size and recurrence={options.recurrence!r} ({name}) do not go together: "
                    "h has fewer features than there are units"
                )
    for units in sizes.hidden:
        if units % options.heads:
            raise ValueError(
                f"recurrence={options.heads} heads need a hidden_size that they divide, got: "
                f"{units}"
            )


def check_cell(cell: Cell, options: Options, bias: bool, proj_size: int) -> None:
    """Refuse a varied cell that has no place for the options of the layer around it."""
    if proj_size:
        check_projection(cell)
    needs = (("weight_dropout", options.weight_dropout), ("recurrence", options.heads > 1))
    for name, wanted in needs:
        if wanted and "weight_hh" not in cell.names:
            raise ValueError(f"{name} needs a weight_hh, which the cell {cell.name} does not have")
    lone = [name for name in cell.weights if name.startswith("b_hh_")]
    if options.diagonal and not bias and lone:
        raise ValueError(
            f"bias=False and recurrence='diagonal' do not go together with the cell {cell.name}: "
            f"{', '.join(lone)} would be left"
        )


def check_projection(cell: Cell) -> None:
    """Refuse a projection of `h` for a cell that adds `h` to its units one by one."""
    if any(node.op == "state" and node.name == "h" for node in cell.graph.nodes()):
        raise ValueError(
            f"proj_size is not possible with the cell {cell.name}: it uses h unit by unit, so h "
            "must have hidden_size features; leave proj_size at 0"
        )


def check_packed(lengths: Any, resets: Any) -> None:
    """Refuse what a `PackedSequence` cannot be given together with."""
    if lengths is not None:
        raise ValueError("a PackedSequence brings its lengths; leave out lengths=")
    if resets is not None:
        raise ValueError("resets= needs padded input: pad the PackedSequence and give lengths=")


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


def as_states(name: str, hx: Any, states: tuple[str, ...], layers: int = 0) -> tuple[Any, ...]:
    """The initial states as one tuple `(h, *states)`, from what the caller gave.

    Arguments:
        layers: where layers have different sizes, how many; each state is a tuple of as many
            tensors then. 0 where a state is one tensor.
    """
    if not states:
        kind = "a tuple of tensors" if layers else "a Tensor"
        return (_as_state(f"{name}: expected hx to be {kind}, got", hx, layers),)
    wanted = f"({', '.join(f'{state}_0' for state in ('h', *states))})"
    if not isinstance(hx, (tuple, list)):
        raise TypeError(
            f"{name}: expected hx to be a tuple {wanted} of tensors, got {type(hx).__name__}"
        )
    given = tuple(hx)
    if len(given) != len(states) + 1:
        raise ValueError(
            f"{name}: expected hx to be a tuple {wanted} of {len(states) + 1} tensors, "
            f"got {len(given)}"
        )
    wrong = f"{name}: expected hx to be a tuple {wanted} of tensors, got one of"
    return tuple(_as_state(wrong, value, layers) for value in given)


def _as_state(wrong: str, value: Any, layers: int) -> Tensor | tuple[Tensor, ...]:
    if not layers:
        if not isinstance(value, Tensor):
            raise TypeError(f"{wrong} {type(value).__name__}")
        return value
    expected = f"; layers of different sizes need a tuple of {layers} tensors for each state"
    if not isinstance(value, (tuple, list)) or not all(isinstance(one, Tensor) for one in value):
        raise TypeError(f"{wrong} {type(value).__name__}{expected}")
    if len(value) != layers:
        raise ValueError(f"{wrong} {len(value)} tensors{expected}")
    return tuple(value)


def _flat(hx: tuple[Any, ...]) -> list[Tensor]:
    parts = ((state,) if isinstance(state, Tensor) else state for state in hx)
    return [tensor for part in parts for tensor in part]


def check_state_dims(hx: tuple[Any, ...], *, batched: bool) -> None:
    """Refuse initial states with a batch dimension too many or too few."""
    dims = 3 if batched else 2
    found = _flat(hx)
    if all(state.dim() == dims for state in found):
        return
    kind = "batched" if batched else "unbatched"
    if len(found) == 1:
        raise RuntimeError(
            f"For {kind} {dims}-D input, hx should also be {dims}-D but got {found[0].dim()}-D "
            "tensor"
        )
    names = "hx and cx" if len(found) == 2 else "all initial states"
    got = ", ".join(f"{state.dim()}-D" for state in found)
    raise RuntimeError(
        f"For {kind} {dims}-D input, {names} should also be {dims}-D but got ({got}) tensors"
    )


def check_states(
    hx: tuple[Any, ...],
    shapes: Sequence[Sequence[tuple[int, ...]]],
    x: Tensor,
    *,
    casts: bool,
) -> None:
    """Refuse initial states whose shape, dtype or device does not fit the input `x`.

    Arguments:
        shapes: of each state, one shape, or one for each layer where the state is a tuple.
    """
    names = ["hidden"] if len(hx) == 1 else [f"hidden[{index}]" for index in range(len(hx))]
    for name, state, wanted in zip(names, hx, shapes, strict=True):
        if isinstance(state, Tensor):
            _check_state(name, state, wanted[0], x, casts)
            continue
        for layer, (one, shape) in enumerate(zip(state, wanted, strict=True)):
            _check_state(f"{name}[{layer}]", one, shape, x, casts)


def _check_state(name: str, state: Tensor, shape: tuple[int, ...], x: Tensor, casts: bool) -> None:
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

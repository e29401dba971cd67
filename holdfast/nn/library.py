"""Compiled passes over sequences as `torch.library` operators, with their gradients.

`holdfast::infer`, `holdfast::train` and `holdfast::backward` take a cell by its key, so PyTorch's
tracers see one opaque operator a pass, never an unrolled loop. Second derivatives go through the
eager target.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from holdfast.cells import CELLS
from holdfast.compiler.cell import Cell, find
from holdfast.compiler.emit import eager
from holdfast.compiler.emit.eager import Resets
from holdfast.compiler.noise import Noise
from holdfast.errors import CellError
from holdfast.nn import backward, passes, recompute
from holdfast.nn.layout import Layout, lay_out
from holdfast.nn.ragged import Rows
from holdfast.nn.tracing import untraced

_SEQUENCE = "Tensor x, Tensor h, Tensor[] states, Tensor[] starts, Tensor[] parameters, bool bias, "
_LAYOUT = "Tensor? lengths, Tensor? batch_sizes, Tensor? resets, "
_NOISE = "Tensor? seeds, Tensor? first_steps, Tensor? table, bool reverse, str cell"
_COMMON = _SEQUENCE + _LAYOUT + _NOISE
"""Arguments with which every operator begins."""
_COUNT = 14
"""How many they are."""


def names(cell: Cell, bias: bool, projected: bool = False) -> list[str]:
    """Names of a cell's parameters in the order the operators take them."""
    found = [name for name in cell.names if bias or name not in ("bias_ih", "bias_hh")]
    return [*found, "weight_hr"] if projected else found


def _cell(key: str) -> Cell:
    """The cell with that key; an exported program may name any of the catalogue."""
    try:
        return find(key)
    except CellError:
        list(CELLS.values())
        return find(key)


def _call(
    x: Tensor,
    h: Tensor,
    states: Sequence[Tensor],
    starts: Sequence[Tensor],
    parameters: Sequence[Tensor],
    bias: bool,
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    resets: Tensor | None,
    seeds: Tensor | None,
    first_steps: Tensor | None,
    table: Tensor | None,
    reverse: bool,
    cell: str,
    layout: Layout | None = None,
    narrow: str = "",
) -> passes.Call:
    """The arguments that all operators begin with, as the passes take them.

    Arguments:
        layout: that of an earlier pass over the same rows. narrow: as `passes.Call.narrow`.
    """
    found = _cell(cell)
    layout = layout or lay_out(x, h.shape[0], lengths, batch_sizes, resets, reverse=reverse)
    noise = None if seeds is None or table is None else Noise(seeds, table, first_steps)
    named = _named(found, bias, parameters)
    return passes.Call(found, x, h, states, named, layout, starts, noise, narrow)


def _named(cell: Cell, bias: bool, parameters: Sequence[Tensor]) -> dict[str, Tensor]:
    """Parameters by name; a last one more than the cell has is the projection."""
    known = names(cell, bias)
    known = names(cell, bias, projected=len(parameters) > len(known))
    return dict(zip(known, parameters, strict=True))


@untraced
def infer(*arguments: Any) -> list[Tensor]:
    """`holdfast::infer` without the dispatcher."""
    return passes.infer(_call(*arguments[:_COUNT]), sequences=arguments[_COUNT])


@untraced
def infer_both(calls: Sequence[Sequence[Any]]) -> tuple[Tensor, list[list[Tensor]]]:
    """Both directions into one output, see `passes.infer_both`."""
    return passes.infer_both([_call(*arguments) for arguments in calls])


@untraced
def _train(*arguments: Any) -> list[Tensor]:
    return passes.train(_call(*arguments))


@untraced
def _train_laid_out(*arguments: Any, narrow: str) -> tuple[Layout, list[Tensor]]:
    """`_train`, and the layout for the backward pass."""
    call = _call(*arguments, narrow=narrow)
    return call.layout, passes.train(call, blank=False)


@untraced
def _train_again(*arguments: Any) -> list[Tensor]:
    return recompute.train(_call(*arguments[:_COUNT]), sequences=arguments[_COUNT])


@untraced
def _train_again_laid_out(*arguments: Any, narrow: str) -> tuple[Layout, list[Tensor]]:
    """`_train_again`, and the layout for the backward pass."""
    call = _call(*arguments[:_COUNT], narrow=narrow)
    return call.layout, recompute.train(call, sequences=arguments[_COUNT], blank=False)


@untraced
def _backward(*arguments: Any, layout: Layout | None = None, narrow: str = "") -> list[Tensor]:
    out, sequences, saved, d_out, arriving, need_x, need_h, *options = arguments[_COUNT:]
    # The dispatcher leaves out what is as the schema has it.
    needs, keeps = (*options, *(None, "saved")[len(options) :])
    call = _call(*arguments[:_COUNT], layout=layout, narrow=narrow)
    names = [name for n, name in enumerate(call.parameters) if needs is None or needs[n]]
    finals = keeps == "starts"
    kept = backward.Kept(
        out,
        () if finals else sequences,
        saved if keeps == "saved" else None,
        saved if finals else None,
    )
    incoming = backward.Incoming(d_out, *(((), arriving) if finals else (arriving, ())))
    wanted = backward.Wanted(need_x, need_h, frozenset(names))
    # A layout that is handed on is that of a forward pass, which checked the rest.
    found = backward.backward(call, kept, incoming, wanted, checked=layout is not None)
    values = [found.x, found.h, *found.states, *found.starts]
    values += [found.parameters.get(name) for name in call.parameters]
    return [call.x.new_empty(0) if one is None else one for one in values]


_library = torch.library.Library("holdfast", "DEF")
_library.define(f"infer({_COMMON}, bool sequences) -> Tensor[]")
_library.define(f"train({_COMMON}) -> Tensor[]")
_library.define(
    f"backward({_COMMON}, Tensor out, Tensor[] sequences, Tensor saved, "
    "Tensor? d_out, Tensor?[] d_sequences, bool need_x, bool need_h, "
    'bool[]? needs=None, str keeps="saved") -> Tensor[]'
)
_library.define(f"train_again({_COMMON}, bool sequences) -> Tensor[]")
_library.impl("infer", infer, "CPU")
_library.impl("train", _train, "CPU")
_library.impl("train_again", _train_again, "CPU")
_library.impl("backward", _backward, "CPU")


@torch.library.register_fake("holdfast::infer", lib=_library)
def _infer_fake(x: Tensor, h: Tensor, states: Sequence[Tensor], *others: Any) -> list[Tensor]:
    out = x.new_empty((*x.shape[:-1], h.shape[1]))
    if others[-1]:
        return [out, *(x.new_empty((*x.shape[:-1], state.shape[1])) for state in states)]
    return [out, *(torch.empty_like(state) for state in states)]


@torch.library.register_fake("holdfast::train", lib=_library)
def _train_fake(
    x: Tensor,
    h: Tensor,
    states: Sequence[Tensor],
    starts: Sequence[Tensor],
    parameters: Sequence[Tensor],
    bias: bool,
    *others: Any,
) -> list[Tensor]:
    cell = _cell(others[-1])
    projected = len(parameters) > len(names(cell, bias))
    _, hidden_size = cell.measure(_named(cell, bias, parameters))
    rows = x.shape[0] * x.shape[1] if x.dim() == 3 else x.shape[0]
    saved = x.new_empty((rows, passes.saved_width(cell, hidden_size, projected)))
    sequences = (x.new_empty((*x.shape[:-1], state.shape[1])) for state in states)
    return [x.new_empty((*x.shape[:-1], h.shape[1])), *sequences, saved]


@torch.library.register_fake("holdfast::train_again", lib=_library)
def _train_again_fake(x: Tensor, h: Tensor, states: Sequence[Tensor], *others: Any) -> list[Tensor]:
    out = x.new_empty((*x.shape[:-1], h.shape[1]))
    if others[-1]:
        courses = (x.new_empty((*x.shape[:-1], state.shape[1])) for state in states)
        return [out, *courses, x.new_empty((0, 0))]
    rows = x.shape[0] * x.shape[1] if x.dim() == 3 else x.shape[0]
    widths = sum(state.shape[1] for state in states)
    starts = x.new_empty(recompute.starts_shape(rows, widths))
    return [out, *(torch.empty_like(state) for state in states), starts]


@torch.library.register_fake("holdfast::backward", lib=_library)
def _backward_fake(
    x: Tensor,
    h: Tensor,
    states: Sequence[Tensor],
    starts: Sequence[Tensor],
    parameters: Sequence[Tensor],
    *others: Any,
) -> list[Tensor]:
    # Behind what every operator has come five more, as many as are named above.
    need_x, need_h, *options = others[_COUNT:]
    needs = options[0] if options else None
    d_x = x.new_empty(x.shape if need_x else (0,))
    d_h = h.new_empty(h.shape if need_h else (0,))
    rest = [tensor.new_empty(tensor.shape) for tensor in (*states, *starts)]
    if starts and not need_h:
        rest[len(states)] = h.new_empty((0,))
    for n, parameter in enumerate(parameters):
        wanted = needs is None or needs[n]
        rest.append(parameter.new_empty(parameter.shape if wanted else (0,)))
    return [d_x, d_h, *rest]


def _keep(
    ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor], keeps: str = "saved"
) -> None:
    x, h, states, starts, parameters, bias, *others, reverse, cell = inputs
    ctx.sizes = (len(states), len(starts), len(parameters))
    ctx.options = (bias, reverse, cell, keeps)
    output = (output[0], output[-1]) if keeps == "starts" else output
    ctx.save_for_backward(x, h, *states, *starts, *parameters, *others, *output)
    ctx.set_materialize_grads(False)


def _keep_again(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:
    _keep(ctx, inputs[:-1], output, "sequences" if inputs[-1] else "starts")


def _gradients(
    ctx: Any, arriving: Sequence[Tensor | None], needs: Sequence[bool], backward: Any
) -> Any:
    """Gradients of x and h as far as they are needed, of the states, starts and parameters.

    Arguments:
        needs: for x, h, and each parameter.
    """
    bias, reverse, cell, keeps = ctx.options
    x, h, *rest = ctx.saved_tensors
    *groups, rest = _split(rest, ctx.sizes)
    layout, (out, *kept) = rest[:6], rest[6:]
    # What `vmap` made of a gradient has no memory that a kernel could read.
    mapped = any(one is not None and not torch._C._has_storage(one) for one in arriving)
    if mapped or torch.is_grad_enabled():
        common = (_cell(cell), bias, reverse, x, h, groups, layout, arriving[:-1])
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            return _by_definition(*common, again=again, sequences=keeps != "starts")
    need_x, need_h, *need_parameters = needs
    wanted = need_h or bool(groups[1])
    d_out, *others = arriving[:-1]
    common = (x, h, *groups, bias, *layout, reverse, cell, out, kept[:-1], kept[-1], d_out)
    found = backward(*common, others, need_x, wanted, need_parameters, keeps)
    d_x, d_h, *others = found
    states, starts, parameters, _ = _split(others, ctx.sizes)
    pairs = zip(parameters, need_parameters, strict=True)
    parameters = [one if need else None for one, need in pairs]
    return (d_x if need_x else None, d_h if need_h else None, states, starts, parameters)


def _split(values: Sequence[Any], sizes: Sequence[int]) -> list[Sequence[Any]]:
    """Neighbors of so many each, and what is left."""
    parts = []
    for size in sizes:
        parts.append(values[:size])
        values = values[size:]
    return [*parts, values]


def _by_definition(
    cell: Cell,
    bias: bool,
    reverse: bool,
    x: Tensor,
    h: Tensor,
    groups: Sequence[Sequence[Tensor]],
    layout: Sequence[Tensor | None],
    arriving: Sequence[Tensor | None],
    *,
    again: bool,
    sequences: bool,
) -> Any:
    """Gradients by the eager target: they can be differentiated again, and mapped by `vmap`.

    Arguments:
        sequences: whether gradients of the states' sequences arrive, or of their last values.
    """
    sizes = [len(group) for group in groups]
    # One alias each: a tensor that was given twice must get two gradients, not twice their sum.
    own = [tensor.view_as(tensor) for tensor in (x, h, *groups[0], *groups[1], *groups[2])]
    states, starts, weights, _ = _split(own[2:], sizes)
    lengths, batch_sizes, resets, seeds, steps, table = layout
    rows = Rows.of(lengths, batch_sizes, x.shape[0], x.device) if reverse else None
    result = eager.run(
        cell,
        own[0] if rows is None else rows.reverse(own[0]),
        _named(cell, bias, weights),
        own[1],
        tuple(states),
        lengths=lengths,
        batch_sizes=batch_sizes,
        sequences=sequences,
        noise=None if seeds is None or table is None else Noise(seeds, table, steps),
        resets=None if resets is None else Resets(resets, tuple(starts)),
    )
    courses = (result.out, *(result.sequences or ()))
    courses = courses if rows is None else tuple(map(rows.reverse, courses))
    values = courses if sequences else (*courses, *result.states)
    pairs = [pair for pair in zip(values, arriving, strict=True) if pair[1] is not None]
    found = iter(
        torch.autograd.grad(
            [value for value, _ in pairs],
            [tensor for tensor in own if tensor.requires_grad],
            [gradient for _, gradient in pairs],
            create_graph=again,
            allow_unused=True,
        )
    )
    d_x, d_h, *rest = (next(found) if tensor.requires_grad else None for tensor in own)
    return (d_x, d_h, *_split(rest, sizes)[:-1])


def _differentiate(ctx: Any, arriving: Sequence[Tensor | None]) -> tuple[Any, ...]:
    operator = torch.ops.holdfast.backward
    needs = (*ctx.needs_input_grad[:2], *ctx.needs_input_grad[4])
    gradients = _gradients(ctx, arriving, needs, operator)
    count = _COUNT + (ctx.options[-1] != "saved")
    return (*gradients, *(None for _ in range(count - len(gradients))))


for _name, _setup in (("train", _keep), ("train_again", _keep_again)):
    torch.library.register_autograd(
        f"holdfast::{_name}", _differentiate, setup_context=_setup, lib=_library
    )


class Train(torch.autograd.Function):
    """`holdfast::train` without the dispatcher: what an ordinary call in a Python program takes."""

    @staticmethod
    def forward(
        ctx: Any,
        sizes: tuple[int, int, int],
        tail: tuple[Any, ...],
        keeps: str,
        narrow: str,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        x, h, *rest = tensors
        inputs = (x, h, *_split(rest, sizes)[:-1], *tail)
        if keeps == "saved":
            ctx.layout, output = _train_laid_out(*inputs, narrow=narrow)
        else:
            again = keeps == "sequences"
            ctx.layout, output = _train_again_laid_out(*inputs, again, narrow=narrow)
        ctx.narrow = narrow
        _keep(ctx, inputs, output, keeps)
        ctx.mark_non_differentiable(output[-1])
        return tuple(output)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Any, ...]:
        x, h, *others = ctx.needs_input_grad[4:]
        needs = (x, h, *_split(others, ctx.sizes)[2])
        backward = partial(_backward, layout=ctx.layout, narrow=ctx.narrow)
        d_x, d_h, *groups = _gradients(ctx, grad_outputs, needs, backward)
        return (None, None, None, None, d_x, d_h, *(value for group in groups for value in group))

"""Compiled passes over sequences as `torch.library` operators, and the choice of the target.

`holdfast::infer`, `holdfast::train` and `holdfast::backward` take a cell by its key, so PyTorch's
tracers see one opaque operator a pass, never an unrolled loop. `select` says which target runs and
why; `run` runs it, with the signature and the result of `emit.eager.run`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from holdfast.compiler.cell import Cell, find
from holdfast.compiler.emit import eager
from holdfast.compiler.emit.eager import Resets, Result
from holdfast.compiler.emit.llvm import FORMATS
from holdfast.compiler.noise import Noise
from holdfast.nn import passes
from holdfast.nn.layout import Layout, last_rows, lay_out
from holdfast.nn.tracing import untraced

_SEQUENCE = "Tensor x, Tensor h, Tensor[] states, Tensor[] starts, Tensor[] parameters, bool bias, "
_LAYOUT = "Tensor? lengths, Tensor? batch_sizes, Tensor? resets, "
_NOISE = "Tensor? seeds, Tensor? first_steps, Tensor? table, str cell"
_COMMON = _SEQUENCE + _LAYOUT + _NOISE
"""Arguments with which every operator begins."""
_COUNT = 13
"""How many they are."""


def select(cell: Cell, x: Tensor, parameters: Mapping[str, Tensor]) -> tuple[str, str]:
    """The target that will run, `llvm` or `eager`, and the reason."""
    weight = parameters["weight_ih"]
    if "weight_hr" in parameters and cell.operand:
        return "eager", "a mask on a projected h is not compiled yet"
    for name, tensor in (("the input", x), ("the weights", weight)):
        if tensor.device.type != "cpu":
            return "eager", f"{name} are on {tensor.device.type}; the compiled target is the CPU"
        if tensor.dtype not in FORMATS:
            kind = str(tensor.dtype).removeprefix("torch.")
            return "eager", f"{name} are {kind}; compiled are float32 and float64"
    if x.dtype != weight.dtype:
        return "eager", f"the input is {x.dtype}, the weights are {weight.dtype}"
    if weight.shape[1] == 0:
        return "eager", "there are no input features"
    if x.shape[0] == 0:
        return "eager", "there are no steps"
    if not torch.compiler.is_compiling():
        if torch._C._are_functorch_transforms_active():
            return "eager", "a transform of torch.func is active; it has no compiled rule yet"
        if forward_ad._current_level >= 0:
            return "eager", "forward-mode differentiation has no compiled rule yet"
        if torch._C._get_tracing_state() is not None:
            return "eager", "torch.jit.trace writes down the definition, step by step"
    return "llvm", "compiled for this processor"


def names(cell: Cell, bias: bool, projected: bool = False) -> list[str]:
    """Names of a cell's parameters in the order the operators take them."""
    found = [name for name in cell.names if bias or name not in ("bias_ih", "bias_hh")]
    return [*found, "weight_hr"] if projected else found


def run(
    backend: str,
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
    """One layer, one direction, over a sequence; arguments and result as `eager.run`.

    >>> import torch
    >>> from holdfast.cells import rnn
    >>> parameters = {name: torch.rand(shape) for name, shape in rnn.shapes(3, 5).items()}
    >>> run("llvm", rnn, torch.rand(7, 2, 3), parameters, torch.zeros(2, 5)).out.shape
    torch.Size([7, 2, 5])
    """
    options: dict[str, Any] = {
        "lengths": lengths,
        "batch_sizes": batch_sizes,
        "sequences": sequences,
        "noise": noise,
        "resets": resets,
    }
    # The tracer of `torch.compile` knows no ContextVar, and a graph must not depend on one.
    if not torch.compiler.is_compiling() and (other := _instead.get()) is not None:
        return other(backend, cell, x, parameters, h, states, **options)
    if backend == "eager":
        return eager.run(cell, x, parameters, h, states, **options)
    bias = any(name in parameters for name in ("bias_ih", "bias_hh"))
    tensors = [parameters[name] for name in names(cell, bias, "weight_hr" in parameters)]
    at, starts = (None, ()) if resets is None else (resets.at, resets.starts)
    drawn = (None, None, None) if noise is None else (noise.seeds, noise.steps, noise.table)
    tail = (bias, lengths, batch_sizes, at, *drawn, cell.key)
    groups = (states, starts, tensors)
    every = (x, h, *states, *starts, *tensors)
    plain = _plain(*every)
    if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in every)):
        infer = _infer if plain else torch.ops.holdfast.infer
        out, *finals = infer(x, h, *map(list, groups), *tail, sequences)
        if not sequences:
            return Result(out, _last(out, h, lengths, batch_sizes), tuple(finals))
        return _result(out, tuple(finals), h, states, lengths, batch_sizes, sequences)
    if plain:
        out, *kept = _Train.apply(tuple(map(len, groups)), tail, *every)
    else:
        out, *kept = torch.ops.holdfast.train(x, h, *map(list, groups), *tail)
    return _result(out, tuple(kept[:-1]), h, states, lengths, batch_sizes, sequences)


Run = Callable[..., Result]
_instead: ContextVar[Run | None] = ContextVar("_instead", default=None)


@contextmanager
def instead(other: Run) -> Iterator[None]:
    """Let `other`, with the signature of `run`, take its place in this context.

    >>> from holdfast.nn import LSTM
    >>> seen = []
    >>> def watched(backend, cell, x, *others, **options):
    ...     seen.append((cell.name, tuple(x.shape)))
    ...     return eager.run(cell, x, *others, **options)
    >>> with instead(watched):
    ...     out, _ = LSTM(3, 5)(torch.zeros(7, 2, 3))
    >>> seen
    [('lstm', (7, 2, 3))]

    Other threads go the ordinary way, and so does what `torch.compile` has compiled.
    """
    token = _instead.set(other)
    try:
        yield
    finally:
        _instead.reset(token)


def _result(
    out: Tensor,
    values: tuple[Tensor, ...],
    h: Tensor,
    states: tuple[Tensor, ...],
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    sequences: bool,
) -> Result:
    """The result of a pass that kept every value of the states."""
    pairs = zip(values, states, strict=True)
    finals = tuple(_last(value, first, lengths, batch_sizes) for value, first in pairs)
    last = _last(out, h, lengths, batch_sizes)
    return Result(out, last, finals, values if sequences else None)


def _last(
    values: Tensor, first: Tensor, lengths: Tensor | None, batch_sizes: Tensor | None
) -> Tensor:
    """The last valid value of each row; the first one where a row has no step."""
    if batch_sizes is not None:
        return values.index_select(0, _last_rows(batch_sizes).to(values.device))
    if lengths is None:
        return values[-1]
    lengths = lengths.to(values.device, torch.int64)
    index = (lengths - 1).clamp(min=0).view(1, -1, 1).expand(1, -1, values.shape[2])
    return torch.where((lengths > 0).unsqueeze(1), values.gather(0, index)[0], first)


_last_rows = untraced(last_rows)


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
    cell: str,
    layout: Layout | None = None,
) -> passes.Call:
    """The arguments that all operators begin with, as the passes take them.

    Arguments:
        layout: that of an earlier pass over the same rows.
    """
    found = find(cell)
    layout = layout or lay_out(x, h.shape[0], lengths, batch_sizes, resets)
    noise = None if seeds is None or table is None else Noise(seeds, table, first_steps)
    named = _named(found, bias, parameters)
    return passes.Call(found, x, h, states, named, layout, starts, noise)


def _named(cell: Cell, bias: bool, parameters: Sequence[Tensor]) -> dict[str, Tensor]:
    """Parameters by name; a last one more than the cell has is the projection."""
    known = names(cell, bias)
    known = names(cell, bias, projected=len(parameters) > len(known))
    return dict(zip(known, parameters, strict=True))


@untraced
def _infer(*arguments: Any) -> list[Tensor]:
    return passes.infer(_call(*arguments[:_COUNT]), sequences=arguments[_COUNT])


@untraced
def _train(*arguments: Any) -> list[Tensor]:
    return passes.train(_call(*arguments))


@untraced
def _train_laid_out(*arguments: Any) -> tuple[Layout, list[Tensor]]:
    """`_train`, and the layout for the backward pass."""
    call = _call(*arguments)
    return call.layout, passes.train(call)


@untraced
def _backward(*arguments: Any, layout: Layout | None = None) -> list[Tensor]:
    out, sequences, saved, d_out, d_sequences, need_x, need_h = arguments[_COUNT:]
    call = _call(*arguments[:_COUNT], layout=layout)
    kept = passes.Kept(out, tuple(sequences), saved)
    incoming = passes.Incoming(d_out, tuple(d_sequences))
    gradients = passes.backward(call, kept, incoming, need_x=need_x, need_h=need_h)
    parameters = (gradients.parameters[name] for name in call.parameters)
    return [*gradients.first, *gradients.starts, *parameters]


_library = torch.library.Library("holdfast", "DEF")
_library.define(f"infer({_COMMON}, bool sequences) -> Tensor[]")
_library.define(f"train({_COMMON}) -> Tensor[]")
_library.define(
    f"backward({_COMMON}, Tensor out, Tensor[] sequences, Tensor saved, "
    "Tensor? d_out, Tensor?[] d_sequences, bool need_x, bool need_h) -> Tensor[]"
)
_library.impl("infer", _infer, "CPU")
_library.impl("train", _train, "CPU")
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
    cell = find(others[-1])
    projected = len(parameters) > len(names(cell, bias))
    hidden_size = parameters[0].shape[0] // sum(acc.x for acc in cell.accumulators)
    rows = x.shape[0] * x.shape[1] if x.dim() == 3 else x.shape[0]
    saved = x.new_empty((rows, passes.saved_width(cell, hidden_size, projected)))
    sequences = (x.new_empty((*x.shape[:-1], state.shape[1])) for state in states)
    return [x.new_empty((*x.shape[:-1], h.shape[1])), *sequences, saved]


@torch.library.register_fake("holdfast::backward", lib=_library)
def _backward_fake(
    x: Tensor,
    h: Tensor,
    states: Sequence[Tensor],
    starts: Sequence[Tensor],
    parameters: Sequence[Tensor],
    *others: Any,
) -> list[Tensor]:
    need_x, need_h = others[-2:]
    d_x = x.new_empty(x.shape if need_x else (0,))
    d_h = h.new_empty(h.shape if need_h else (0,))
    rest = [tensor.new_empty(tensor.shape) for tensor in (*states, *starts, *parameters)]
    if starts and not need_h:
        rest[len(states)] = h.new_empty((0,))
    return [d_x, d_h, *rest]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:
    x, h, states, starts, parameters, bias, *others, cell = inputs
    ctx.sizes = (len(states), len(starts), len(parameters))
    ctx.options = (bias, cell)
    ctx.save_for_backward(x, h, *states, *starts, *parameters, *others, *output)
    ctx.set_materialize_grads(False)


def _gradients(
    ctx: Any, arriving: Sequence[Tensor | None], needs: tuple[bool, bool], backward: Any
) -> Any:
    """Gradients of x and h as far as they are needed, of the states, starts and parameters."""
    bias, cell = ctx.options
    x, h, *rest = ctx.saved_tensors
    groups = []
    for size in ctx.sizes:
        groups.append(rest[:size])
        rest = rest[size:]
    layout, (out, *kept) = rest[:6], rest[6:]
    # What `vmap` made of a gradient has no memory that a kernel could read.
    mapped = any(one is not None and not torch._C._has_storage(one) for one in arriving)
    if mapped or torch.is_grad_enabled():
        return _twice(find(cell), bias, x, h, groups, layout, arriving[:-1])
    need_x, need_h = needs
    wanted = need_h or bool(groups[1])
    d_out, *d_sequences = arriving[:-1]
    common = (x, h, *groups, bias, *layout, cell)
    d_x, d_h, *others = backward(
        *common, out, kept[:-1], kept[-1], d_out, d_sequences, need_x, wanted
    )
    return (d_x if need_x else None, d_h if need_h else None, *_split(others, ctx.sizes))


def _split(values: Sequence[Any], sizes: Sequence[int]) -> list[Sequence[Any]]:
    """Neighbors of so many each."""
    parts = []
    for size in sizes:
        parts.append(values[:size])
        values = values[size:]
    return parts


def _twice(
    cell: Cell,
    bias: bool,
    x: Tensor,
    h: Tensor,
    groups: Sequence[Sequence[Tensor]],
    layout: Sequence[Tensor | None],
    arriving: Sequence[Tensor | None],
) -> Any:
    """Gradients by the eager target: they can be differentiated again, and mapped by `vmap`."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        return _by_definition(cell, bias, x, h, groups, layout, arriving, again=again)


def _by_definition(
    cell: Cell,
    bias: bool,
    x: Tensor,
    h: Tensor,
    groups: Sequence[Sequence[Tensor]],
    layout: Sequence[Tensor | None],
    arriving: Sequence[Tensor | None],
    *,
    again: bool,
) -> Any:
    sizes = [len(group) for group in groups]
    # One alias each: a tensor that was given twice must get two gradients, not twice their sum.
    own = [tensor.view_as(tensor) for tensor in (x, h, *groups[0], *groups[1], *groups[2])]
    states, starts, weights = _split(own[2:], sizes)
    lengths, batch_sizes, resets, seeds, steps, table = layout
    result = eager.run(
        cell,
        own[0],
        _named(cell, bias, weights),
        own[1],
        tuple(states),
        lengths=lengths,
        batch_sizes=batch_sizes,
        sequences=True,
        noise=None if seeds is None or table is None else Noise(seeds, table, steps),
        resets=None if resets is None else Resets(resets, tuple(starts)),
    )
    values = (result.out, *(result.sequences or ()))
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
    return (d_x, d_h, *_split(rest, sizes))


def _differentiate(ctx: Any, arriving: Sequence[Tensor | None]) -> tuple[Any, ...]:
    operator = torch.ops.holdfast.backward
    gradients = _gradients(ctx, arriving, ctx.needs_input_grad[:2], operator)
    return (*gradients, *(None for _ in range(_COUNT - len(gradients))))


torch.library.register_autograd(
    "holdfast::train", _differentiate, setup_context=_keep, lib=_library
)


class _Train(torch.autograd.Function):
    """`holdfast::train` without the dispatcher: what an ordinary call in a Python program takes."""

    @staticmethod
    def forward(
        ctx: Any, sizes: tuple[int, int, int], tail: tuple[Any, ...], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        x, h, *rest = tensors
        inputs = (x, h, *_split(rest, sizes), *tail)
        ctx.layout, output = _train_laid_out(*inputs)
        _keep(ctx, inputs, output)
        ctx.mark_non_differentiable(output[-1])
        return tuple(output)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Any, ...]:
        needs = ctx.needs_input_grad[2:4]
        backward = partial(_backward, layout=ctx.layout)
        d_x, d_h, *groups = _gradients(ctx, grad_outputs, needs, backward)
        return (None, None, d_x, d_h, *(value for group in groups for value in group))


def _plain(*tensors: Tensor) -> bool:
    """Whether nothing watches the call: no tracer, no mode, no tensor subclass."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return False
    return all(type(tensor) in (Tensor, torch.nn.Parameter) for tensor in tensors)

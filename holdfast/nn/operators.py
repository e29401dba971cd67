"""Compiled passes over sequences as `torch.library` operators, and the choice of the target.

`holdfast::infer`, `holdfast::train` and `holdfast::backward` take a cell by its key, so PyTorch's
tracers see one opaque operator a pass, never an unrolled loop. `select` says which target runs and
why; `run` runs it, with the signature and the result of `emit.eager.run`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from holdfast.nn.tracing import untraced

_SEQUENCE = "Tensor x, Tensor h, Tensor[] states, Tensor[] parameters, bool bias, "
_LAYOUT = "Tensor? lengths, Tensor? batch_sizes, str cell"
_COMMON = 8
"""Arguments in `_SEQUENCE` and `_LAYOUT`, with which every operator begins."""


def select(cell: Cell, x: Tensor, parameters: Mapping[str, Tensor]) -> tuple[str, str]:
    """The target that will run, `llvm` or `eager`, and the reason."""
    weight = parameters["weight_ih"]
    if "weight_hr" in parameters:
        return "eager", "the projection of h is not compiled yet"
    if cell.masks:
        return "eager", "random masks are not compiled yet"
    if any(node.crossing for node in cell.graph.nodes()):
        return "eager", "means over units and products inside a step are not compiled yet"
    if "weight_hh" in parameters:
        units = weight.shape[0] // sum(acc.x for acc in cell.accumulators)
        if parameters["weight_hh"].shape[1] != units:
            return "eager", "a block-diagonal recurrence is not compiled yet"
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
    return "llvm", "compiled for this processor"


def names(cell: Cell, bias: bool) -> list[str]:
    """Names of a cell's parameters in the order the operators take them."""
    return [name for name in cell.names if bias or name not in ("bias_ih", "bias_hh")]


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
    if backend == "eager" or resets is not None:
        return eager.run(
            cell,
            x,
            parameters,
            h,
            states,
            lengths=lengths,
            batch_sizes=batch_sizes,
            sequences=sequences,
            noise=noise,
            resets=resets,
        )
    bias = any(name in parameters for name in ("bias_ih", "bias_hh"))
    tensors = [parameters[name] for name in names(cell, bias)]
    arguments = (x, h, list(states), tensors, bias, lengths, batch_sizes, cell.key)
    plain = _plain(x, h, *states, *tensors)
    differentiable = any(tensor.requires_grad for tensor in (x, h, *states, *tensors))
    if not sequences and not (torch.is_grad_enabled() and differentiable):
        infer = _infer if plain else torch.ops.holdfast.infer
        out, *finals = infer(*arguments)
        return Result(out, _last(out, h, lengths, batch_sizes), tuple(finals))
    if plain:
        sizes = (len(states), len(tensors))
        out, *kept = _Train.apply(
            bias, cell.key, sizes, lengths, batch_sizes, x, h, *states, *tensors
        )
    else:
        out, *kept = torch.ops.holdfast.train(*arguments)
    values = tuple(kept[:-1])
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


_last_rows = untraced(passes.last_rows)


def _call(
    x: Tensor,
    h: Tensor,
    states: Sequence[Tensor],
    parameters: Sequence[Tensor],
    bias: bool,
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    cell: str,
) -> passes.Call:
    """The arguments that all operators begin with, as the passes take them."""
    found = find(cell)
    named = dict(zip(names(found, bias), parameters, strict=True))
    layout = passes.lay_out(x, h, lengths, batch_sizes)
    return passes.Call(found, x, h, states, named, layout)


@untraced
def _infer(*arguments: Any) -> list[Tensor]:
    return passes.infer(_call(*arguments))


@untraced
def _train(*arguments: Any) -> list[Tensor]:
    return passes.train(_call(*arguments))


@untraced
def _backward(*arguments: Any) -> list[Tensor]:
    common, (out, sequences, saved, d_out, d_sequences, need_x, need_h) = (
        arguments[:_COMMON],
        arguments[_COMMON:],
    )
    call = _call(*common)
    kept = passes.Kept(out, tuple(sequences), saved)
    incoming = passes.Incoming(d_out, tuple(d_sequences))
    gradients = passes.backward(call, kept, incoming, need_x=need_x, need_h=need_h)
    return [*gradients.first, *(gradients.parameters[name] for name in call.parameters)]


_library = torch.library.Library("holdfast", "DEF")
_library.define(f"infer({_SEQUENCE}{_LAYOUT}) -> Tensor[]")
_library.define(f"train({_SEQUENCE}{_LAYOUT}) -> Tensor[]")
_library.define(
    f"backward({_SEQUENCE}{_LAYOUT}, Tensor out, Tensor[] sequences, Tensor saved, "
    "Tensor? d_out, Tensor?[] d_sequences, bool need_x, bool need_h) -> Tensor[]"
)
_library.impl("infer", _infer, "CPU")
_library.impl("train", _train, "CPU")
_library.impl("backward", _backward, "CPU")


@torch.library.register_fake("holdfast::infer", lib=_library)
def _infer_fake(x: Tensor, h: Tensor, states: Sequence[Tensor], *_: Any) -> list[Tensor]:
    out = x.new_empty((*x.shape[:-1], h.shape[1]))
    return [out, *(torch.empty_like(state) for state in states)]


@torch.library.register_fake("holdfast::train", lib=_library)
def _train_fake(x: Tensor, h: Tensor, states: Sequence[Tensor], *others: Any) -> list[Tensor]:
    hidden_size = h.shape[1]
    shape = (*x.shape[:-1], hidden_size)
    rows = x.shape[0] * x.shape[1] if x.dim() == 3 else x.shape[0]
    saved = x.new_empty((rows, passes.saved_count(find(others[-1])) * hidden_size))
    return [x.new_empty(shape), *(x.new_empty(shape) for _ in states), saved]


@torch.library.register_fake("holdfast::backward", lib=_library)
def _backward_fake(
    x: Tensor, h: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor], *others: Any
) -> list[Tensor]:
    need_x, need_h = others[-2:]
    d_x = x.new_empty(x.shape if need_x else (0,))
    d_h = h.new_empty(h.shape if need_h else (0,))
    return [d_x, d_h, *(tensor.new_empty(tensor.shape) for tensor in (*states, *parameters))]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:
    x, h, states, parameters, bias, lengths, batch_sizes, cell = inputs
    ctx.sizes = (len(states), len(parameters))
    ctx.options = (bias, cell)
    ctx.save_for_backward(x, h, *states, *parameters, lengths, batch_sizes, *output)
    ctx.set_materialize_grads(False)


def _gradients(
    ctx: Any, arriving: Sequence[Tensor | None], needs: tuple[bool, bool], backward: Any
) -> Any:
    """Gradients of x and h as far as they are needed, of the states, of the parameters."""
    states, parameters = ctx.sizes
    bias, cell = ctx.options
    x, h, *rest = ctx.saved_tensors
    first, rest = rest[:states], rest[states:]
    weights, rest = rest[:parameters], rest[parameters:]
    lengths, batch_sizes, out, *kept = rest
    if torch.is_grad_enabled():
        named = dict(zip(names(find(cell), bias), weights, strict=True))
        return _twice(find(cell), x, h, first, named, lengths, batch_sizes, arriving[:-1])
    arguments = (x, h, first, weights, bias, lengths, batch_sizes, cell, out, kept[:-1], kept[-1])
    d_out, *d_sequences = arriving[:-1]
    d_x, d_h, *others = backward(*arguments, d_out, d_sequences, *needs)
    first = (d_x if needs[0] else None, d_h if needs[1] else None)
    return *first, others[:states], others[states:]


def _twice(
    cell: Cell,
    x: Tensor,
    h: Tensor,
    states: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    arriving: Sequence[Tensor | None],
) -> Any:
    """Gradients that can be differentiated again, through the eager target."""
    inputs = (x, h, *states, *parameters.values())
    # One alias each: a tensor that was given twice must get two gradients, not twice their sum.
    own = [tensor.view_as(tensor) for tensor in inputs]
    count = 2 + len(states)
    result = eager.run(
        cell,
        own[0],
        dict(zip(parameters, own[count:], strict=True)),
        own[1],
        tuple(own[2:count]),
        lengths=lengths,
        batch_sizes=batch_sizes,
        sequences=True,
    )
    values = (result.out, *(result.sequences or ()))
    pairs = [pair for pair in zip(values, arriving, strict=True) if pair[1] is not None]
    found = iter(
        torch.autograd.grad(
            [value for value, _ in pairs],
            [tensor for tensor in own if tensor.requires_grad],
            [gradient for _, gradient in pairs],
            create_graph=True,
            allow_unused=True,
        )
    )
    d_x, d_h, *rest = (next(found) if tensor.requires_grad else None for tensor in own)
    return d_x, d_h, rest[: len(states)], rest[len(states) :]


def _differentiate(ctx: Any, arriving: Sequence[Tensor | None]) -> tuple[Any, ...]:
    operator = torch.ops.holdfast.backward
    gradients = _gradients(ctx, arriving, ctx.needs_input_grad[:2], operator)
    return (*gradients, None, None, None, None)


torch.library.register_autograd(
    "holdfast::train", _differentiate, setup_context=_keep, lib=_library
)


class _Train(torch.autograd.Function):
    """`holdfast::train` without the dispatcher: what an ordinary call in a Python program takes."""

    @staticmethod
    def forward(
        ctx: Any,
        bias: bool,
        cell: str,
        sizes: tuple[int, int],
        lengths: Tensor | None,
        batch_sizes: Tensor | None,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        x, h, *rest = tensors
        inputs = (x, h, rest[: sizes[0]], rest[sizes[0] :], bias, lengths, batch_sizes, cell)
        output = _train(*inputs)
        _keep(ctx, inputs, output)
        ctx.mark_non_differentiable(output[-1])
        return tuple(output)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Any, ...]:
        needs = ctx.needs_input_grad[5:7]
        d_x, d_h, states, parameters = _gradients(ctx, grad_outputs, needs, _backward)
        return (None, None, None, None, None, d_x, d_h, *states, *parameters)


def _plain(*tensors: Tensor) -> bool:
    """Whether nothing watches the call: no tracer, no mode, no tensor subclass."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return False
    return all(type(tensor) in (Tensor, torch.nn.Parameter) for tensor in tensors)

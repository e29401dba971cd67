"""Compiled passes over sequences as `torch.library` operators, and the choice of the target.

`holdfast::infer`, `holdfast::train` and `holdfast::backward` take a cell by its key, so PyTorch's
tracers see one opaque operator a pass, never an unrolled loop. `select` says which target runs and
why; `run` runs it, with the signature and the result of `emit.eager.run`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from holdfast.compiler.cell import Cell, find
from holdfast.compiler.emit import eager
from holdfast.compiler.emit.eager import Result
from holdfast.compiler.emit.llvm import FORMATS
from holdfast.nn import passes

_SEQUENCE = "Tensor x, Tensor h, Tensor[] states, Tensor[] parameters, bool bias, "
_LAYOUT = "Tensor? lengths, Tensor? batch_sizes, str cell"


def select(cell: Cell, x: Tensor, parameters: Mapping[str, Tensor]) -> tuple[str, str]:
    """The target that will run, `llvm` or `eager`, and the reason."""
    weight = parameters["weight_ih"]
    if "weight_hr" in parameters:
        return "eager", "the projection of h is not compiled yet"
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
    return "llvm", "compiled for this processor"


def names(cell: Cell, bias: bool) -> list[str]:
    """Names of a cell's parameters in the order the operators take them."""
    every = cell.shapes(1, 1)
    return [name for name in every if bias or name not in ("bias_ih", "bias_hh")]


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
) -> Result:
    """One layer, one direction, over a sequence; arguments and result as `eager.run`.

    >>> import torch
    >>> from holdfast.cells import rnn
    >>> parameters = {name: torch.rand(shape) for name, shape in rnn.shapes(3, 5).items()}
    >>> run("llvm", rnn, torch.rand(7, 2, 3), parameters, torch.zeros(2, 5)).out.shape
    torch.Size([7, 2, 5])
    """
    if backend == "eager":
        return eager.run(
            cell,
            x,
            parameters,
            h,
            states,
            lengths=lengths,
            batch_sizes=batch_sizes,
            sequences=sequences,
        )
    bias = any(name in parameters for name in ("bias_ih", "bias_hh"))
    tensors = [parameters[name] for name in names(cell, bias)]
    arguments = (x, h, list(states), tensors, bias, lengths, batch_sizes, cell.key)
    differentiable = any(tensor.requires_grad for tensor in (x, h, *states, *tensors))
    if not sequences and not (torch.is_grad_enabled() and differentiable):
        out, *finals = torch.ops.holdfast.infer(*arguments)
        return Result(out, _last(out, h, lengths, batch_sizes), tuple(finals))
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
        return values.index_select(0, passes.last_rows(batch_sizes).to(values.device))
    if lengths is None:
        return values[-1]
    lengths = lengths.to(values.device)
    index = (lengths - 1).clamp(min=0).view(1, -1, 1).expand(1, -1, values.shape[2])
    return torch.where((lengths > 0).unsqueeze(1), values.gather(0, index)[0], first)


def _infer(
    x: Tensor,
    h: Tensor,
    states: Sequence[Tensor],
    parameters: Sequence[Tensor],
    bias: bool,
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    cell: str,
) -> list[Tensor]:
    found = find(cell)
    named = dict(zip(names(found, bias), parameters, strict=True))
    layout = passes.lay_out(x, h, lengths, batch_sizes)
    return passes.infer(found, x, h, states, named, layout)


def _train(
    x: Tensor,
    h: Tensor,
    states: Sequence[Tensor],
    parameters: Sequence[Tensor],
    bias: bool,
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    cell: str,
) -> list[Tensor]:
    found = find(cell)
    named = dict(zip(names(found, bias), parameters, strict=True))
    layout = passes.lay_out(x, h, lengths, batch_sizes)
    return passes.train(found, x, h, states, named, layout)


def _backward(
    x: Tensor,
    h: Tensor,
    states: Sequence[Tensor],
    parameters: Sequence[Tensor],
    bias: bool,
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    cell: str,
    out: Tensor,
    sequences: Sequence[Tensor],
    saved: Tensor,
    d_out: Tensor | None,
    d_sequences: Sequence[Tensor | None],
    need_x: bool,
) -> list[Tensor]:
    found = find(cell)
    named = dict(zip(names(found, bias), parameters, strict=True))
    layout = passes.lay_out(x, h, lengths, batch_sizes)
    kept = passes.Kept(out, tuple(sequences), saved)
    incoming = passes.Incoming(d_out, tuple(d_sequences))
    found_gradients = passes.backward(
        found, x, h, states, named, layout, kept, incoming, need_x=need_x
    )
    return [*found_gradients.first, *(found_gradients.parameters[name] for name in named)]


_library = torch.library.Library("holdfast", "DEF")
_library.define(f"infer({_SEQUENCE}{_LAYOUT}) -> Tensor[]")
_library.define(f"train({_SEQUENCE}{_LAYOUT}) -> Tensor[]")
_library.define(
    f"backward({_SEQUENCE}{_LAYOUT}, Tensor out, Tensor[] sequences, Tensor saved, "
    "Tensor? d_out, Tensor?[] d_sequences, bool need_x) -> Tensor[]"
)
_library.impl("infer", _infer, "CPU")
_library.impl("train", _train, "CPU")
_library.impl("backward", _backward, "CPU")


@torch.library.register_fake("holdfast::infer", lib=_library)
def _infer_fake(
    x: Tensor,
    h: Tensor,
    states: Sequence[Tensor],
    parameters: Sequence[Tensor],
    bias: bool,
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    cell: str,
) -> list[Tensor]:
    out = x.new_empty((*x.shape[:-1], h.shape[1]))
    return [out, *(torch.empty_like(state) for state in states)]


@torch.library.register_fake("holdfast::train", lib=_library)
def _train_fake(
    x: Tensor,
    h: Tensor,
    states: Sequence[Tensor],
    parameters: Sequence[Tensor],
    bias: bool,
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    cell: str,
) -> list[Tensor]:
    hidden_size = h.shape[1]
    shape = (*x.shape[:-1], hidden_size)
    rows = x.shape[0] * x.shape[1] if x.dim() == 3 else x.shape[0]
    saved = x.new_empty((rows, passes.saved_count(find(cell)) * hidden_size))
    return [x.new_empty(shape), *(x.new_empty(shape) for _ in states), saved]


@torch.library.register_fake("holdfast::backward", lib=_library)
def _backward_fake(
    x: Tensor,
    h: Tensor,
    states: Sequence[Tensor],
    parameters: Sequence[Tensor],
    bias: bool,
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    cell: str,
    out: Tensor,
    sequences: Sequence[Tensor],
    saved: Tensor,
    d_out: Tensor | None,
    d_sequences: Sequence[Tensor | None],
    need_x: bool,
) -> list[Tensor]:
    d_x = torch.empty_like(x) if need_x else x.new_empty(0)
    like = (h, *states, *parameters)
    return [d_x, *(tensor.new_empty(tensor.shape) for tensor in like)]


def _keep(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: list[Tensor]) -> None:
    x, h, states, parameters, bias, lengths, batch_sizes, cell = inputs
    ctx.sizes = (len(states), len(parameters))  # pyright: ignore[reportAttributeAccessIssue]
    ctx.options = (bias, cell)  # pyright: ignore[reportAttributeAccessIssue]
    ctx.save_for_backward(x, h, *states, *parameters, lengths, batch_sizes, *output)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: torch.autograd.function.FunctionCtx, gradients: list[Tensor | None]):
    states, parameters = ctx.sizes  # pyright: ignore[reportAttributeAccessIssue]
    bias, cell = ctx.options  # pyright: ignore[reportAttributeAccessIssue]
    x, h, *rest = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
    first, rest = rest[:states], rest[states:]
    weights, rest = rest[:parameters], rest[parameters:]
    lengths, batch_sizes, out, *kept = rest
    d_out, *d_sequences = gradients[:-1]
    d_x, d_h, *others = torch.ops.holdfast.backward(
        x,
        h,
        first,
        weights,
        bias,
        lengths,
        batch_sizes,
        cell,
        out,
        kept[:-1],
        kept[-1],
        d_out,
        d_sequences,
        ctx.needs_input_grad[0],  # pyright: ignore[reportAttributeAccessIssue]
    )
    d_x = d_x if ctx.needs_input_grad[0] else None  # pyright: ignore[reportAttributeAccessIssue]
    return d_x, d_h, others[:states], others[states:], None, None, None, None


torch.library.register_autograd(
    "holdfast::train", _differentiate, setup_context=_keep, lib=_library
)

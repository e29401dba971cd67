"""A pass of a cell over a sequence: the choice of the target, and the call.

`select` says which target runs and why; `run` runs it, with the signature and the result of
`emit.eager.run`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from holdfast.compiler.cell import Cell
from holdfast.compiler.emit import eager
from holdfast.compiler.emit.eager import Resets, Result
from holdfast.compiler.emit.llvm import FORMATS
from holdfast.compiler.linear import is_linear
from holdfast.compiler.noise import Noise
from holdfast.nn import library, scan
from holdfast.nn.layout import last_rows
from holdfast.nn.ragged import Rows
from holdfast.nn.recompute import wanted
from holdfast.nn.tracing import untraced


def select(cell: Cell, x: Tensor, parameters: Mapping[str, Tensor]) -> tuple[str, str]:
    """The target that will run, `llvm`, `scan` or `eager`, and the reason."""
    obstacle, way = _obstacle(cell, x, parameters)
    if not obstacle:
        return "llvm", "compiled for this processor"
    if way and not torch.compiler.is_compiling() and is_linear(cell):
        return "scan", f"{obstacle}; the recurrence is linear, so all steps are one scan"
    return "eager", obstacle


def _obstacle(cell: Cell, x: Tensor, parameters: Mapping[str, Tensor]) -> tuple[str, bool]:
    """Why the compiled target cannot run, or nothing, and whether a scan could."""
    weight = next(iter(parameters.values()))
    if "weight_hr" in parameters and cell.operand:
        return "a mask on a projected h is not compiled yet", False
    for name, tensor in (("the input", x), ("the weights", weight)):
        if tensor.device.type != "cpu":
            return f"{name} are on {tensor.device.type}; the compiled target is the CPU", True
        if tensor.dtype not in FORMATS:
            kind = str(tensor.dtype).removeprefix("torch.")
            return f"{name} are {kind}; compiled are float32 and float64", True
    if x.dtype != weight.dtype:
        return f"the input is {x.dtype}, the weights are {weight.dtype}", False
    if "weight_ih" in parameters and parameters["weight_ih"].shape[1] == 0:
        return "there are no input features", False
    if x.shape[0] == 0:
        return "there are no steps", False
    if not torch.compiler.is_compiling():
        if torch._C._are_functorch_transforms_active():
            return "a transform of torch.func is active; it has no compiled rule yet", True
        if forward_ad._current_level >= 0:
            return "forward-mode differentiation has no compiled rule yet", True
        if torch._C._get_tracing_state() is not None:
            return "torch.jit.trace writes down the definition, step by step", False
    return "", False


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
    recompute: str = "none",
    narrow: str = "",
) -> Result:
    """One layer, one direction, over a sequence; arguments and result as `eager.run`.

    `recompute` is the option of that name; it changes what the compiled target keeps. `narrow` is
    how W and R may be stored for a pass that gradients flow back through, as in `passes.Call`; the
    other targets know nothing of it.

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
    if (
        backend == "scan"
        and x.shape[0]
        and all(one is None for one in (batch_sizes, noise, resets))
    ):
        found = {"lengths": lengths, "sequences": sequences}
        return scan.run(cell, x, parameters, h, states, **found)
    if backend != "llvm":
        return eager.run(cell, x, parameters, h, states, **options)
    options |= {"recompute": recompute, "narrow": narrow}
    return _run_compiled(cell, x, parameters, h, states, **options)


def run_backwards(
    backend: str,
    cell: Cell,
    x: Tensor,
    parameters: Mapping[str, Tensor],
    h: Tensor,
    states: tuple[Tensor, ...],
    rows: Rows,
    *,
    sequences: bool = False,
    noise: Noise | None = None,
    resets: Resets | None = None,
    recompute: str = "none",
    narrow: str = "",
) -> Result:
    """`run` from the last step of each row to its first; results lie where the steps do.

    >>> from holdfast.cells import rnn
    >>> parameters = {name: torch.rand(shape) for name, shape in rnn.shapes(3, 5).items()}
    >>> x, start = torch.rand(7, 2, 3), torch.zeros(2, 5)
    >>> there = run("llvm", rnn, x.flip(0), parameters, start).out.flip(0)
    >>> bool((run_backwards("llvm", rnn, x, parameters, start, (), Rows()).out == there).all())
    True

    Arguments:
        rows: which steps are valid. resets: in the order in which the steps are met.
    """
    options: dict[str, Any] = {"lengths": rows.lengths, "batch_sizes": rows.batch_sizes}
    options |= {"sequences": sequences, "noise": noise, "resets": resets}
    watched = not torch.compiler.is_compiling() and _instead.get() is not None
    if backend == "llvm" and not watched:
        options |= {"recompute": recompute, "narrow": narrow}
        return _run_compiled(cell, x, parameters, h, states, **options, reverse=True)
    result = run(backend, cell, rows.reverse(x), parameters, h, states, **options)
    kept = result.sequences
    if kept is not None:
        kept = tuple(rows.reverse(values) for values in kept)
    return Result(rows.reverse(result.out), result.h, result.states, kept)


def _run_compiled(
    cell: Cell,
    x: Tensor,
    parameters: Mapping[str, Tensor],
    h: Tensor,
    states: tuple[Tensor, ...],
    *,
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    sequences: bool,
    noise: Noise | None,
    resets: Resets | None,
    recompute: str,
    narrow: str,
    reverse: bool = False,
) -> Result:
    bias = any(name in parameters for name in ("bias_ih", "bias_hh"))
    tensors = [parameters[name] for name in library.names(cell, bias, "weight_hr" in parameters)]
    at, starts = (None, ()) if resets is None else (resets.at, resets.starts)
    drawn = (None, None, None) if noise is None else (noise.seeds, noise.steps, noise.table)
    tail = (bias, lengths, batch_sizes, at, *drawn, reverse, cell.key)
    end = _End(h, states, lengths, batch_sizes, reverse)
    groups = (states, starts, tensors)
    every = (x, h, *states, *starts, *tensors)
    plain = _plain(*every)
    if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in every)):
        infer = library.infer if plain else torch.ops.holdfast.infer
        out, *finals = infer(x, h, *map(list, groups), *tail, sequences)
        if not sequences:
            return Result(out, end.last(out, h), tuple(finals))
        return end.result(out, tuple(finals), sequences)
    keeps = "saved"
    if recompute != "none" and _again(recompute, cell, x, (h, *states), "weight_hr" in parameters):
        keeps = "sequences" if sequences else "starts"
    if plain:
        sizes = tuple(map(len, groups))
        out, *kept = library.Train.apply(sizes, tail, keeps, narrow, *every)
    elif keeps == "saved":
        out, *kept = torch.ops.holdfast.train(x, h, *map(list, groups), *tail)
    else:
        out, *kept = torch.ops.holdfast.train_again(x, h, *map(list, groups), *tail, sequences)
    if keeps == "starts":
        return Result(out, end.last(out, h), tuple(kept[:-1]))
    return end.result(out, tuple(kept[:-1]), sequences)


def _again(
    recompute: str, cell: Cell, x: Tensor, states: tuple[Tensor, ...], projected: bool
) -> bool:
    """Whether the backward pass is to compute again what the forward pass would keep."""
    rows = x.shape[0] if x.dim() == 2 else x.shape[0] * x.shape[1]
    return wanted(recompute, cell, rows, states[-1].shape[1], projected, x.element_size())


@dataclass(frozen=True, eq=False)
class Direction:
    """What one direction of a layer runs: the arguments of `run`, and its options by name."""

    backend: str
    cell: Cell
    x: Tensor
    parameters: Mapping[str, Tensor]
    h: Tensor
    states: tuple[Tensor, ...]
    options: Mapping[str, Any]


def infer_both(directions: Sequence[Direction], rows: Rows) -> tuple[Tensor, list[Result]] | None:
    """Both directions into one output, and each result; None where they cannot.

    They can where both are compiled, nothing flows back and only the last states are wanted.
    """
    if torch.compiler.is_compiling() or _instead.get() is not None:
        return None
    calls, ends = [], []
    for n, one in enumerate(directions):
        at, starts = one.options["resets"], ()
        if at is not None:
            at, starts = at.at, at.starts
        bias = any(name in one.parameters for name in ("bias_ih", "bias_hh"))
        named = library.names(one.cell, bias, "weight_hr" in one.parameters)
        tensors = [one.parameters[name] for name in named]
        every = (one.x, one.h, *one.states, *starts, *tensors)
        flows = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in every)
        if one.backend != "llvm" or one.options["sequences"] or flows or not _plain(*every):
            return None
        noise = one.options["noise"]
        drawn = (None, None, None) if noise is None else (noise.seeds, noise.steps, noise.table)
        limits = (rows.lengths, rows.batch_sizes)
        groups = (list(one.states), list(starts), tensors)
        calls.append((one.x, one.h, *groups, bias, *limits, at, *drawn, n == 1, one.cell.key))
        ends.append(_End(one.h, one.states, *limits, n == 1))
    out, finals = library.infer_both(calls)
    width = out.shape[-1] // 2
    results = []
    for n, (end, last) in enumerate(zip(ends, finals, strict=True)):
        half = out.narrow(-1, n * width, width)
        results.append(Result(half, end.last(half, end.h), tuple(last)))
    return out, results


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


@dataclass(frozen=True, eq=False)
class _End:
    """Where rows end, to find their last values among all."""

    h: Tensor
    states: tuple[Tensor, ...]
    lengths: Tensor | None
    batch_sizes: Tensor | None
    reverse: bool

    def result(self, out: Tensor, values: tuple[Tensor, ...], sequences: bool) -> Result:
        """The result of a pass that kept every value of the states."""
        pairs = zip(values, self.states, strict=True)
        finals = tuple(self.last(value, first) for value, first in pairs)
        return Result(out, self.last(out, self.h), finals, values if sequences else None)

    def last(self, values: Tensor, first: Tensor) -> Tensor:
        """The last valid value of each row; the first one where a row has no step."""
        if self.batch_sizes is not None:
            if self.reverse:
                return values[: first.shape[0]]
            return values.index_select(0, _last_rows(self.batch_sizes).to(values.device))
        if self.lengths is None:
            return values[0 if self.reverse else -1]
        lengths = self.lengths.to(values.device, torch.int64)
        found = values[0]
        if not self.reverse:
            index = (lengths - 1).clamp(min=0).view(1, -1, 1).expand(1, -1, values.shape[2])
            found = values.gather(0, index)[0]
        return torch.where((lengths > 0).unsqueeze(1), found, first)


_last_rows = untraced(last_rows)


def _plain(*tensors: Tensor) -> bool:
    """Whether nothing watches the call: no tracer, no mode, no tensor subclass."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return False
    return all(type(tensor) in (Tensor, torch.nn.Parameter) for tensor in tensors)

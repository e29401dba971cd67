"""The short way of a layer's call that gradients flow back through, prepared for one T and B.

It gives the bits of the general way, which is the definition: a pass that is differentiated again,
mapped, or asked for gradients of its first states goes back through `nn.library`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from holdfast.compiler.emit.llvm_forward import STRIDE
from holdfast.errors import UnpreparedError
from holdfast.nn import library, passes
from holdfast.nn.memory import borrow, in_huge_pages
from holdfast.nn.packing import pack_forward
from holdfast.nn.program import Part
from holdfast.nn.recompute import wanted
from holdfast.nn.train_backward import Backward
from holdfast.nn.train_slots import Room, Slots

if TYPE_CHECKING:
    from holdfast.nn.recurrent import Recurrent


class Trained:
    """A training pass of one layer and direction over T steps of B rows.

    Arguments:
        given: whether first states are given; otherwise they are zeros.

    Errors: `UnpreparedError` for what is left to the general way.
    """

    def __init__(self, part: Part, steps: int, batch: int, given: bool, recompute: str) -> None:
        if part.table is not None or part.narrow:
            raise UnpreparedError("masks or narrow weights")
        self._call = call = part.call(steps, batch)
        cell, parameters = part.cell, part.parameters
        bias = any(name in parameters for name in ("bias_ih", "bias_hh"))
        self.names = library.names(cell, bias, "weight_hr" in parameters)
        if self.names != list(parameters):
            raise UnpreparedError("parameters in another order")
        self.parameters = [parameters[name] for name in self.names]
        chosen = passes.prepare("train", call)
        sizes, dtype = chosen.sizes, call.x.dtype
        if passes.forward_team(call, chosen).count > 1:
            raise UnpreparedError("several threads")
        hidden, rows, projected = sizes.hidden, call.layout.rows, bool(sizes.projection)
        if wanted(recompute, cell, rows, hidden, projected, dtype.itemsize):
            raise UnpreparedError("values that are computed again")
        self.states = len(cell.states)
        self.options = (bias, part.backward, cell.key, "saved")
        self.saved = (rows, passes.saved_width(cell, hidden, projected))
        room = Room(dtype.itemsize)
        room.take(rows * self.saved[1])
        self.sequences = [room.take(rows * hidden) for _ in cell.states]
        self._count = room.count
        self._shapes = ((steps, batch, sizes.output), (1, batch, sizes.output), (1, batch, hidden))
        self.zeros = [] if given else [call.h.new_zeros(self._shapes[1])]
        self.zeros += [] if given else [call.h.new_zeros(self._shapes[2]) for _ in cell.states]
        self._given = given
        room = Room(dtype.itemsize)
        needed = passes.working_memory(chosen, batch, 1)
        self._working = [room.take(count) for count in needed.values()]
        self._scratch = room.count
        self._last_bytes = batch * sizes.output * dtype.itemsize
        self._last = 0 if part.backward else (steps - 1) * self._last_bytes
        names = ["x", "h_first", "out", "saved", *(f"sequence {name}" for name in cell.states)]
        names += [*(f"state {name}" for name in cell.states), *needed]
        fixed = {STRIDE: sizes.output}
        self._kernel = Slots(call, chosen, pack_forward, self.names, fixed, names)
        self.backward = Backward(call, self.sequences, given)

    @property
    def layout(self) -> Any:
        """The rows, for a pass the general way."""
        return self._call.layout

    def forward(self, x: Tensor, first: Sequence[Tensor]) -> tuple[Tensor, list[Tensor], Tensor]:
        """Output, last h and states, and what is kept for gradients."""
        x, (h, *states) = x.contiguous(), (one.contiguous() for one in first)
        out = x.new_empty(self._shapes[0])
        kept = in_huge_pages(x.new_empty(self._count))
        last = x.new_empty(self._shapes[1])
        if self._given:
            lasts = [one.clone(memory_format=torch.contiguous_format) for one in states]
        else:
            lasts = [x.new_zeros(self._shapes[2]) for _ in states]
        place, base = out.data_ptr(), kept.data_ptr()
        working = []
        if self._scratch:
            scratch = borrow(x, self._scratch)[0]
            working = [scratch.data_ptr() + start for start in self._working]
        self._kernel(
            x.data_ptr(),
            h.data_ptr(),
            place,
            base,
            *(base + start for start in self.sequences),
            *(one.data_ptr() for one in lasts),
            *working,
        )
        ctypes.memmove(last.data_ptr(), place + self._last, self._last_bytes)
        return out, [last, *lasts], kept

    def split(self, kept: Tensor) -> tuple[list[Tensor], Tensor]:
        """Sequences of the states and saved values, as `passes.train` gives them."""
        rows, width = self.saved
        hidden = self._shapes[2][-1]
        shape = (*self._shapes[0][:-1], hidden)
        starts = (start // kept.element_size() for start in self.sequences)
        sequences = [kept[start : start + rows * hidden].view(shape) for start in starts]
        return sequences, kept[: rows * width].view(rows, width)

    def last_first(self, gradient: Tensor) -> Tensor:
        """The gradient of a last value as that of its sequence."""
        steps = self._shapes[0][0]
        zeros = [torch.zeros_like(gradient)] * (steps - 1)
        return torch.cat([gradient, *zeros] if self.options[1] else [*zeros, gradient])

    def with_last(self, d_out: Tensor | None, d_last: Tensor | None) -> Tensor | None:
        """The gradient of the output together with that of its last value."""
        if d_last is None:
            return d_out
        d_out = d_last.new_zeros(self._shapes[0]) if d_out is None else d_out.clone()
        d_out[0 if self.options[1] else -1] += d_last[0]
        return d_out


class _Train(torch.autograd.Function):
    """A prepared pass under autograd: output and last states, `[1, B, H]` each."""

    @staticmethod
    def forward(ctx: Any, trained: Trained, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        ctx.trained = trained
        first = rest[: 1 + trained.states]
        out, last, kept = trained.forward(x, first)
        ctx.save_for_backward(x, *rest, out, kept)
        ctx.set_materialize_grads(False)
        return (out, *last)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Any, ...]:
        trained, count = ctx.trained, 2 + ctx.trained.states
        x, *rest, out, kept = ctx.saved_tensors
        first, parameters = rest[: count - 1], rest[count - 1 :]
        _, need_x, *needs = ctx.needs_input_grad
        same = all(map(_is, parameters, trained.parameters))
        mapped = any(one is not None and not torch._C._has_storage(one) for one in grad_outputs)
        if mapped or not same or torch.is_grad_enabled() or any(needs[: count - 1]):
            return None, *_general(ctx, grad_outputs)
        d_out, d_last, *d_finals = grad_outputs
        if d_last is not None:
            d_out = trained.with_last(d_out, d_last)
        wanted = (need_x, *needs[count - 1 :])
        d_x, found = trained.backward(x, first, out, kept, d_out, d_finals, wanted)
        return (None, d_x, *(None for _ in first), *found)


def _is(one: object, other: object) -> bool:
    return one is other


def _general(ctx: Any, arriving: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """Gradients the general way, as `library.Train` gives them."""
    trained, count = ctx.trained, 1 + ctx.trained.states
    x, *rest, out, kept = ctx.saved_tensors
    first, parameters = rest[:count], rest[count:]
    sequences, saved = trained.split(kept)
    d_out, *finals = arriving
    courses = [None if one is None else trained.last_first(one) for one in finals]
    if courses[0] is not None:
        d_out = courses[0] if d_out is None else d_out + courses[0]
    like = SimpleNamespace(
        sizes=(trained.states, 0, len(parameters)),
        options=trained.options,
        saved_tensors=(
            x,
            *(one.reshape(one.shape[1:]) for one in first),
            *parameters,
            *(None for _ in range(6)),
            out,
            *sequences,
            saved,
        ),
    )
    _, need_x, *needs = ctx.needs_input_grad
    wanted = (need_x, needs[0], *needs[count:])
    backward = partial(library._backward, layout=trained.layout)
    d_x, d_h, states, _, found = library._gradients(
        like, (d_out, *courses[1:], None), wanted, backward
    )
    firsts = [None if one is None else one.unsqueeze(0) for one in (d_h, *states)]
    return d_x, *firsts, *found


class TrainWay:
    """A stack of layers over inputs of one shape.

    Errors: `UnpreparedError` for what is left to the general way.
    """

    def __init__(
        self, layer: Recurrent, stack: list[Part], steps: int, batch: int, given: bool
    ) -> None:
        self._directions, self._given = layer._sizes.directions, given
        recompute = layer.options.recompute
        self._passes = [Trained(part, steps, batch, given, recompute) for part in stack]
        states = layer._sizes.states(len(layer.cell.states), batch)
        self.shapes = [torch.Size(shape[0]) for shape in states]

    def run(self, x: Tensor, first: Sequence[Tensor], turned: bool) -> tuple[Any, ...] | None:
        """Output and last states; None where nothing flows back into the first layer.

        Arguments:
            first: initial states as the caller gave them, checked. turned: x is `[B, T, I]`.
        """
        passes, two = self._passes, self._directions
        flows = x.requires_grad or any(one.requires_grad for one in first)
        for one in () if flows else passes[:two]:
            if not any(parameter.requires_grad for parameter in one.parameters):
                return None
        out = x.transpose(0, 1) if turned else x
        last: list[Sequence[Tensor]] = []
        for start in range(0, len(passes), two):
            outs = []
            for n in range(start, start + two):
                one = passes[n]
                states = one.zeros
                if self._given:
                    states = [s if len(passes) == 1 else s.narrow(0, n, 1) for s in first]
                found = _Train.apply(one, out, *states, *one.parameters)
                outs.append(found[0])
                last.append(found[1:])
            out = outs[0] if two == 1 else torch.cat(outs, -1)
        finals = last[0]
        if len(last) > 1:
            finals = tuple(torch.cat(state) for state in zip(*last, strict=True))
        out = out.transpose(0, 1) if turned else out
        return out, finals[0] if len(finals) == 1 else tuple(finals)

"""The backward pass over dense rows in one chunk, prepared for one cell, T and B.

It is `nn.backward` with everything looked up beforehand, on the thread that calls. Gradients of
first states are left to that module.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from holdfast.compiler.emit.llvm import FORMATS
from holdfast.compiler.emit.llvm_backward import gates_stride, gradient_strides
from holdfast.compiler.emit.llvm_outer import piece_size
from holdfast.compiler.emit.llvm_sweeps import kept_width
from holdfast.errors import UnpreparedError
from holdfast.nn import passes
from holdfast.nn.backward import called_operands, in_rows
from holdfast.nn.memory import borrow
from holdfast.nn.packing import bias_count, inner, pack_backward, runs, summed
from holdfast.nn.passes import Call, Chosen
from holdfast.nn.recompute import chunks_of
from holdfast.nn.train_slots import Factor, Product, Room, Slots
from holdfast.nn.weights import Matrices

X, OUT, H, SAVED, GATES, PROJECTED = range(6)
"""Memories of a call that factors of products lie in."""


class Backward:
    """Gradients of x and the parameters of one layer and direction.

    Arguments:
        sequences: where those of the states begin behind what is saved, in bytes. given: whether
            the first h is given; otherwise it is zeros.

    Errors: `UnpreparedError` for what is left to `nn.backward`.
    """

    def __init__(self, call: Call, sequences: Sequence[int], given: bool) -> None:
        chosen = passes.prepare("backward", call)
        self._call, self._chosen, self._given = call, chosen, given
        self._sequences = sequences
        cell, sizes, layout, dtype = call.cell, chosen.sizes, call.layout, call.x.dtype
        weight = call.parameters.get("weight_hh")
        recurrent = 2 * len(cell.accumulators) * sizes.hidden**2
        if len(chunks_of(call, chosen, again=False)) > 1:
            raise UnpreparedError("several chunks")
        if passes.team_for(call, chosen, recurrent).count > 1:
            raise UnpreparedError("several threads")
        if weight is not None and weight.shape[1] != sizes.output:
            raise UnpreparedError("heads")
        wide = call.parameters.get("weight_ih")
        if cell.inputs or cell.operand or wide is None or wide.shape[1] != call.x.shape[-1]:
            raise UnpreparedError("more than x goes into a step")
        self._item = dtype.itemsize
        self._rows, self._hidden = layout.rows, sizes.hidden
        self._stride = gates_stride(chosen.plan, sizes)
        self._sums = len(cell.accumulators) * sizes.hidden
        self._biases, self._padded = bias_count(cell), chosen.tile.padded
        self._lay_out_memory(chosen, layout.batch, dtype)
        zeros = call.x.new_zeros(1, max(self._padded, sizes.output))
        self._nothing = (zeros, zeros.data_ptr())
        self._products = self._find_products(call, chosen)
        self._through = self._find_through(call)
        self._make_slots(call, chosen, zeros.data_ptr())

    def _lay_out_memory(self, chosen: Chosen, batch: int, dtype: torch.dtype) -> None:
        """What a call needs: anything, and zeros."""
        sizes, sweeps = chosen.sizes, chosen.plan.backward_sweeps
        room = Room(self._item)
        self._gates = room.take(self._rows * self._stride)
        self._projected = room.take(self._rows * sizes.projection)
        self._piece = room.take(piece_size(FORMATS[dtype]))
        kept = 0 if sweeps.single else batch * kept_width(sweeps, chosen.tile)
        self._kept = room.take(kept)
        self._d_operand = room.take(0 if sweeps.single else batch * self._padded)
        self._scratch = room.count
        room = Room(self._item)
        count = len(self._call.cell.weights)
        self._d_units = room.take(count * self._padded)
        self._d_h = room.take(batch * sizes.hidden)
        self._d_states = [room.take(batch * sizes.hidden) for _ in self._call.cell.states]
        self._zeroed = room.count
        self._state_bytes = batch * sizes.hidden * self._item

    def _make_slots(self, call: Call, chosen: Chosen, zeros: int) -> None:
        states = call.cell.states
        fixed = {"following": 0, **dict.fromkeys(gradient_strides(chosen.plan), 0)}
        fixed |= {f"d_sequence {name}": zeros for name in states}
        names = ["out", "h_first", "saved", "d_out", "ld d_out", "d_gates", "d_projected"]
        names += ["kept", "d_operand", "d_bias", "d_units", "d_h"]
        for kind in ("sequence", "first", "d_state"):
            names += [f"{kind} {name}" for name in states]
        unread = ("weight_ih", "bias_ih", "bias_hh")
        read = [name for name in call.parameters if name not in unread]
        self._kernel = Slots(call, chosen, pack_backward, read, fixed, names)

    def _find_products(self, call: Call, chosen: Chosen) -> dict[str, list[Product]]:
        """Those of each matrix, in order."""
        cell, sizes, layout, rows = call.cell, chosen.sizes, call.layout, self._rows
        hidden, inputs, output = sizes.hidden, call.x.shape[-1], sizes.output
        plan, dtype, batch, item = chosen.plan, call.x.dtype, layout.batch, self._item
        saved = plan.saved_width(hidden)

        def gates(start: int, end: int, first: int = 0) -> Factor:
            begin = self._gates + (first * self._stride + start * hidden) * item
            return Factor(GATES, begin, (end - start) * hidden, self._stride)

        def kept(column: int) -> Factor:
            return Factor(SAVED, column * hidden * item, hidden, saved)

        found: dict[str, list[Product]] = {"weight_ih": []}
        x = Factor(X, 0, inputs, inputs)
        for start, end, first in runs(cell, "x"):
            one = Product("outer", dtype, gates(start, end), x, rows, first * hidden, add=False)
            found["weight_ih"].append(one)
        if "weight_hh" in call.parameters:
            later, earlier, begin = batch, 0, 0
            if layout.descending:
                later, earlier, begin = 0, batch, rows - batch
            before = Factor(OUT, earlier * output * item, output, output)
            pairs = [(later, before, rows - batch)] if rows > batch else []
            pairs += [(begin, Factor(H, 0, output, output), batch)] if self._given else []
            found["weight_hh"] = [
                Product(
                    "outer",
                    dtype,
                    gates(start, end, line),
                    right,
                    count,
                    first * hidden,
                    add=n > 0,
                )
                for start, end, first in runs(cell, "h")
                for n, (line, right, count) in enumerate(pairs)
            ]
            called = called_operands(plan)
            for name, n, position in inner(cell):
                right = kept(plan.saved_column(called[name]))
                one = Product(
                    "outer", dtype, gates(n, n + 1), right, rows, position * hidden, add=False
                )
                found["weight_hh"].append(one)
        if sizes.projection:
            left = Factor(PROJECTED, self._projected, sizes.projection, sizes.projection)
            right = kept(plan.saved_column(plan.forward.outputs["h"]))
            found["weight_hr"] = [Product("outer", dtype, left, right, rows, add=False)]
        return found

    def _find_through(self, call: Call) -> list[tuple[Product, int]]:
        """The products of the gradient of x, and where in W each begins; none where x is one
        column, whose product is another."""
        hidden, inputs = self._hidden, call.x.shape[-1]
        found = []
        for n, (start, end, first) in enumerate(runs(call.cell, "x")):
            begin = self._gates + start * hidden * self._item
            left = Factor(0, begin, (end - start) * hidden, self._stride)
            right = Factor(1, 0, inputs, inputs)
            one = Product("rows", call.x.dtype, left, right, self._rows, add=n > 0)
            found.append((one, first * hidden * inputs * self._item))
        return found if inputs > 1 else []

    def __call__(
        self,
        x: Tensor,
        first: Sequence[Tensor],
        out: Tensor,
        saved: Tensor,
        d_out: Tensor | None,
        d_finals: Sequence[Tensor | None],
        needs: Sequence[bool],
    ) -> tuple[Tensor | None, list[Tensor | None]]:
        """The gradients of x and of each parameter, as far as they are needed.

        Arguments:
            first: h and the states before the first step. d_finals: gradients of the last value of
                each state. needs: for x and each parameter.
        """
        call, sequences = self._call, self._sequences
        x = x.contiguous()
        firsts = [one.contiguous() for one in first]
        scratch = borrow(x, self._scratch)[0]
        zeros = x.new_zeros(self._zeroed)
        d_bias = x.new_zeros(self._biases * self._padded)
        base, zero, kept = scratch.data_ptr(), zeros.data_ptr(), saved.data_ptr()
        d_states = [zero + start for start in self._d_states]
        for place, final in zip(d_states, d_finals, strict=True):
            if final is not None:
                final = final.contiguous()
                ctypes.memmove(place, final.data_ptr(), self._state_bytes)
        gradient, stride = self._nothing[1], 0
        if d_out is not None:
            d_out = in_rows(d_out)
            gradient, stride = d_out.data_ptr(), d_out.stride(0)
        memories = (x.data_ptr(), out.data_ptr(), firsts[0].data_ptr(), kept, base, base)
        self._kernel(
            memories[OUT],
            memories[H],
            kept,
            gradient,
            stride,
            base + self._gates,
            base + self._projected,
            base + self._kept,
            base + self._d_operand,
            d_bias.data_ptr(),
            zero + self._d_units,
            zero + self._d_h,
            *(kept + start for start in sequences),
            *(one.data_ptr() for one in firsts[1:]),
            *d_states,
        )
        piece = base + self._piece
        found: dict[str, Tensor] = {}
        for needed, (name, parameter) in zip(needs[1:], call.parameters.items(), strict=True):
            products = self._products.get(name)
            if needed and products is not None:
                make = torch.empty_like if products else torch.zeros_like
                found[name] = result = make(parameter)
                for product in products:
                    product(memories, result, result.data_ptr(), piece)
        self._small(found, needs, d_bias, zeros)
        d_x = self._input_gradient(x, scratch, piece) if needs[0] else None
        return d_x, [found.get(name) for name in call.parameters]

    def _small(
        self, found: dict[str, Tensor], needs: Sequence[bool], d_bias: Tensor, zeros: Tensor
    ) -> None:
        """Gradients of biases and per-unit weights."""
        call, hidden, padded = self._call, self._hidden, self._padded
        names = [
            name
            for needed, name in zip(needs[1:], call.parameters, strict=True)
            if needed and name not in self._products
        ]
        sums = self._biases * hidden
        simple = all(
            name in ("bias_ih", "bias_hh") and call.parameters[name].shape[0] == sums
            for name in names
        )
        if not simple:
            count, start = len(call.cell.weights), self._d_units // self._item
            d_units = zeros[start : start + count * padded].view(1, count, padded)
            small = {name: call.parameters[name] for name in names}
            biases = d_bias.view(1, self._biases, padded)
            found |= summed(call.cell, small, biases, d_units, hidden)
        elif names:
            if padded != hidden:
                d_bias = d_bias.view(-1, padded)[:, :hidden].reshape(-1)
            found[names[0]] = d_bias
            for name in names[1:]:
                found[name] = d_bias.clone()

    def _input_gradient(self, x: Tensor, scratch: Tensor, piece: int) -> Tensor:
        weight = self._call.parameters["weight_ih"]
        result = x.new_empty(x.shape)
        base, place = scratch.data_ptr(), weight.data_ptr()
        for product, start in self._through:
            product((base, place + start), result, result.data_ptr(), piece)
        if not self._through:
            rows = scratch[: self._rows * self._stride].view(-1, self._stride)[:, : self._sums]
            matrices = Matrices(self._call.cell, self._chosen.sizes, rows)
            matrices.input_gradient(weight.detach(), result.view(-1, x.shape[-1]))
        return result

"""What a prepared training pass calls: kernels and products whose arguments are filled in once.

What is left for a call are addresses of tensors. All of it runs on the thread that calls.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from holdfast.compiler import threads
from holdfast.compiler.build import Kernel, multiplier
from holdfast.errors import UnpreparedError
from holdfast.nn import passes
from holdfast.nn.kept import Weights
from holdfast.nn.products import shares, turns

LINE = 64
"""Bytes that memory begins at a multiple of."""


def alone(kernel: Kernel) -> Callable[..., None]:
    """A kernel's `part`, that takes the address of slots, its rank and the number of threads."""
    kinds = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    return ctypes.CFUNCTYPE(None, *kinds)(kernel.addresses[0])


class Room:
    """Pieces of one memory, each at the beginning of a line."""

    def __init__(self, item: int) -> None:
        self._item = item
        self.count = 0
        """Numbers that all pieces take."""

    def take(self, count: int) -> int:
        """Where a piece for so many numbers begins, in bytes."""
        start = self.count * self._item
        size = -(-count * self._item // LINE) * LINE
        self.count += size // self._item
        return start


@dataclass(frozen=True, eq=False)
class _Filled:
    """The slots with weights as they had a digest."""

    digest: int
    held: Mapping[str, Tensor]
    values: bytes


class Slots:
    """A kernel on one thread, ready but for what differs from call to call.

    Arguments:
        fixed: values of slots that stay. names: slots that each call gives, in its order; those
            that the kernel does not have are passed over.

    Errors: `UnpreparedError` where the kernel needs more.
    """

    def __init__(
        self,
        call: passes.Call,
        chosen: passes.Chosen,
        pack: passes.Pack,
        read: Sequence[str],
        fixed: Mapping[str, int],
        names: Sequence[str],
    ) -> None:
        self._call, self._chosen, self._pack = call, chosen, pack
        self._weights = Weights([call.parameters[name] for name in read])
        slots = chosen.kernel.slots
        packed = passes.packed(call, chosen, pack)
        values = {"threads": 1, **call.layout.sizes(threads.Team(1), None), **fixed}
        missing = set(slots) - set(values) - set(names) - set(packed)
        if missing:
            raise UnpreparedError(f"nothing is known of {', '.join(sorted(missing))}")
        self._template = [values.get(name, 0) for name in slots]
        self._places = [slots.index(name) if name in slots else -1 for name in names]
        self._array = ctypes.c_int64 * len(slots)
        self._run = alone(chosen.kernel)
        self._filled: _Filled | None = None

    def __call__(self, *addresses: int) -> None:
        """Run with these values of the slots that `names` said."""
        filled = self._filled
        if filled is None or filled.digest != self._weights.digest():
            filled = self._fill()
        slots = self._array.from_buffer_copy(filled.values)
        for place, address in zip(self._places, addresses, strict=True):
            if place >= 0:
                slots[place] = address
        self._run(slots, 0, 1)

    def _fill(self) -> _Filled:
        digest = self._weights.digest()
        packed = passes.packed(self._call, self._chosen, self._pack)
        slots = self._array(*self._template)
        for name, one in packed.items():
            if name in self._chosen.kernel.slots:
                slots[self._chosen.kernel.slots.index(name)] = one.data_ptr()
        filled = _Filled(digest, packed, bytes(slots))
        # Another thread may write to the weights meanwhile.
        if self._weights.digest() == digest:
            self._filled = filled
        return filled


@dataclass(frozen=True)
class Factor:
    """A matrix in one of the memories of a call: which, where in bytes, its columns and the numbers
    from one row to the next."""

    memory: int
    start: int
    columns: int
    stride: int


class Product:
    """A product of two factors into some rows of a result, as `nn.products` would make it.

    Arguments:
        order: one of `llvm_outer.ORDERS`. rows: of the left factor. target: the first row of the
            result that is written.

    Errors: `UnpreparedError` where more than one thread would share it.
    """

    def __init__(
        self,
        order: str,
        dtype: torch.dtype,
        left: Factor,
        right: Factor,
        rows: int,
        target: int = 0,
        *,
        add: bool,
    ) -> None:
        outer = order == "outer"
        kernel = multiplier(order, dtype)
        width, depth = right.columns, rows if outer else left.columns
        height = left.columns if outer else rows
        self._rows = slice(target, target + height)
        self._start = target * width * dtype.itemsize
        self._add = add
        self._turned = None
        if outer and turns(rows, width, height, kernel.tile.lanes):
            left, right, self._turned = right, left, (width, height)
            height, width, add = width, height, False
        if shares(kernel, height, width, depth) > 1:
            raise UnpreparedError("threads share a product")
        self._left, self._right = left, right
        sizes = (left.stride, right.stride, width, height, width, depth)
        self._tail = (*sizes, int(add), 1)
        self._array = ctypes.c_int64 * len(kernel.slots)
        self._run = alone(kernel)

    def __call__(self, memories: Sequence[int], result: Tensor, place: int, piece: int) -> None:
        """Multiply what lies at these addresses.

        Arguments:
            place: the address of the result. piece: that of memory for the kernel.
        """
        left = memories[self._left.memory] + self._left.start
        right = memories[self._right.memory] + self._right.start
        if self._turned is None:
            slots = self._array(left, right, place + self._start, piece, *self._tail)
            self._run(slots, 0, 1)
            return
        turned = result.new_empty(self._turned)
        self._run(self._array(left, right, turned.data_ptr(), piece, *self._tail), 0, 1)
        target = result[self._rows]
        target.add_(turned.t()) if self._add else target.copy_(turned.t())

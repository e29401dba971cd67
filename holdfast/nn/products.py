"""The products after the loop: by compiled code, what it cannot read by PyTorch's.

Where `left` is of bfloat16, so is the product: PyTorch's, which sums in float32.

Which of them multiplies, and in which order of operands, depends on sizes alone, so that the same
call gives the same bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from holdfast.compiler import threads
from holdfast.compiler.build import Kernel, multiplier
from holdfast.compiler.emit.llvm import FORMATS
from holdfast.compiler.emit.llvm_outer import piece_size

_MANY = 256
"""Rows from which turning a narrow result pays."""


def gradient_product(left: Tensor, right: Tensor, result: Tensor, *, add: bool) -> None:
    """`left^T right` into `result`, or added to it.

    Vectors of the result lie along its rows. Where those are so narrow that much of each vector
    would be empty, the turned product is computed, and turned again.

    Arguments:
        left: `[N, G]`. right: `[N, K]`. result: `[G, K]`.
    """
    rows, width = right.shape
    if left.dtype is torch.bfloat16:
        _put(torch.mm(left.t(), right.bfloat16()), result, add=add)
        return
    if not _compiled(left, right, result):
        if add:
            result.addmm_(left.t(), right)
        else:
            torch.mm(left.t(), right, out=result)
        return
    lanes = multiplier("outer", right.dtype).tile.lanes
    if turns(rows, width, left.shape[1], lanes):
        turned = right.new_empty(width, left.shape[1])
        multiply("outer", right, left, turned, add=False)
        result.add_(turned.t()) if add else result.copy_(turned.t())
    else:
        multiply("outer", left, right, result, add=add)


def rows_product(left: Tensor, right: Tensor, result: Tensor, *, add: bool) -> None:
    """`left right` into `result`, or added to it.

    Arguments:
        left: `[N, G]`. right: `[G, K]`. result: `[N, K]`.
    """
    if left.dtype is torch.bfloat16:
        _put(torch.mm(left, right.bfloat16()), result, add=add)
    elif right.shape[1] > 1 and _compiled(left, right, result):
        multiply("rows", left, right, result, add=add)
    elif add:
        result.addmm_(left, right)
    else:
        torch.mm(left, right, out=result)


def _put(found: Tensor, result: Tensor, *, add: bool) -> None:
    result.add_(found) if add else result.copy_(found)


def multiply(order: str, left: Tensor, right: Tensor, result: Tensor, *, add: bool) -> None:
    """The compiled product of matrices whose rows are contiguous, of one format.

    Arguments:
        order: `outer` for `left^T right`, `rows` for `left right`.
    """
    kernel = multiplier(order, right.dtype)
    rows, columns = result.shape
    depth = right.shape[0]
    count = shares(kernel, rows, columns, depth)
    piece = right.new_empty(count * piece_size(FORMATS[right.dtype]))
    tensors = (left, right, result, piece)
    strides = (left.stride(0), right.stride(0), result.stride(0))
    pointers = (tensor.data_ptr() for tensor in tensors)
    kernel([*pointers, *strides, rows, columns, depth, int(add)], count)


def shares(kernel: Kernel, rows: int, columns: int, depth: int) -> int:
    """The threads that share a product of `[rows, columns]` with sums of `depth` terms."""
    tiles = -(-rows // kernel.tile.rows)
    return max(1, min(tiles, threads.shared(2 * rows * columns * depth)))


def turns(rows: int, width: int, height: int, lanes: int) -> bool:
    """Whether `gradient_product` computes `[width, height]` rather than `[height, width]`."""
    return rows >= _MANY and _wasteful(width, lanes) and not _wasteful(height, lanes)


def _compiled(left: Tensor, right: Tensor, result: Tensor) -> bool:
    some = left.numel() > 0 and right.numel() > 0
    return some and all(one.stride(1) == 1 for one in (left, right, result))


def _wasteful(width: int, lanes: int) -> bool:
    """Whether a third or more of the vectors that cover a row would be empty."""
    return 3 * width <= 2 * -(-width // lanes) * lanes

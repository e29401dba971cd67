"""The large products after the loop, in the order of operands that is faster."""

from __future__ import annotations

import torch
from torch import Tensor

_NARROW = 32


def gradient_product(left: Tensor, right: Tensor, result: Tensor, *, add: bool) -> None:
    """`left^T right` into `result`, or added to it.

    A narrow matrix over many rows goes first: with 8 inputs against 128 columns of gates the other
    order took four times as long. With few rows, or a wide matrix, turning the result costs more.

    Arguments:
        left: `[N, G]`. right: `[N, K]`. result: `[G, K]`.
    """
    rows, width = right.shape
    if width <= _NARROW and width < left.shape[1] and rows >= 8 * width:
        product = torch.mm(right.t(), left).t()
        result.add_(product) if add else result.copy_(product)
    elif add:
        result.addmm_(left.t(), right)
    else:
        torch.mm(left.t(), right, out=result)


def rows_product(left: Tensor, right: Tensor) -> Tensor:
    """`left right`.

    Arguments:
        left: `[N, G]`. right: `[G, K]`.
    """
    return torch.mm(left, right)

"""The large products after the loop, through whichever of PyTorch's libraries is faster here."""

from __future__ import annotations

import torch
from torch import Tensor


def gradient_product(left: Tensor, right: Tensor, result: Tensor, *, add: bool) -> None:
    """`left^T right` into `result`, or added to it.

    Arguments:
        left: `[N, G]`. right: `[N, K]`. result: `[G, K]`.
    """
    if add:
        result.addmm_(left.t(), right)
    else:
        torch.mm(left.t(), right, out=result)


def rows_product(left: Tensor, right: Tensor) -> Tensor:
    """`left right`.

    Arguments:
        left: `[N, G]`. right: `[G, K]`.
    """
    return torch.mm(left, right)

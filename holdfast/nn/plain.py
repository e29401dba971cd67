"""Whether compiled code may take the place of PyTorch's operations on some tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


def plain(*tensors: Tensor, casts: bool = False) -> bool:
    """Whether nothing but autograd watches, and all are memory of the CPU in one compiled format.

    >>> plain(torch.zeros(3), torch.zeros(5)), plain(torch.zeros(3), torch.zeros(5).double())
    (True, False)

    Arguments:
        casts: whether autocast may be on.
    """
    c = torch._C
    watched = (
        torch.compiler.is_compiling()
        or c._len_torch_dispatch_stack() != 0
        or c._len_torch_function_stack() != 0
        or c._are_functorch_transforms_active()
        or c._get_tracing_state() is not None
        or (not casts and torch.is_autocast_enabled("cpu"))
        or forward_ad._current_level >= 0
    )
    return not watched and all(
        one.is_cpu
        and one.dtype == tensors[0].dtype
        and one.dtype in (torch.float32, torch.float64)
        and one.layout is torch.strided
        and not one.is_neg()
        for one in tensors
    )

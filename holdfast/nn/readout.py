"""The product with a vocabulary: many words for each row, by compiled code where that is faster."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional

from holdfast.nn.kept import keep
from holdfast.nn.products import gradient_product, rows_product

_MANY = 256
"""Rows from which turning the weights once is less than what the product saves."""


def readout(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x W^T + b`, as `torch.nn.functional.linear`, for outputs much wider than they are many.

    >>> import torch
    >>> x, weight, bias = torch.randn(2, 300, 5), torch.randn(7, 5), torch.randn(7)
    >>> tuple(readout(x, weight, bias).shape)
    (2, 300, 7)

    On a CPU, in float32 and float64, from 256 rows on, it and its gradients are compiled products,
    which were measured to be faster there; whatever is unusual goes to PyTorch.

    Arguments:
        x: `[..., R]`. weight: `[V, R]`. bias: `[V]`, or None.
    """
    rows = x.numel() // max(1, x.shape[-1])
    if rows < _MANY or not _plain(x, weight, bias):
        return functional.linear(x, weight, bias)
    found: Tensor = _Readout.apply(x.reshape(rows, x.shape[-1]), weight, bias)  # pyright: ignore[reportAssignmentType] (apply is untyped)
    return found.view(*x.shape[:-1], weight.shape[0])


def turned_readout(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same for rows `[N, R]`, without gradients, with weights turned before, `[R, V]`."""
    out = bias.repeat(x.shape[0], 1)
    rows_product(x.contiguous(), weight, out, add=True)
    return out


def turned(weight: Tensor) -> Tensor | None:
    """Weights `[V, R]` as `turned_readout` reads them, kept while their bits stay the same.

    None where that cannot be used: under autograd, and where something looks at every operation.
    """
    if torch.is_grad_enabled() or not _plain(weight, weight, None):
        return None
    return keep("readout", [weight], lambda: {"turned": weight.detach().t().contiguous()})["turned"]


def _plain(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether nothing but autograd looks at the product, and all of it is memory of the CPU."""
    c = torch._C
    watched = (
        torch.compiler.is_compiling()
        or c._len_torch_dispatch_stack() != 0
        or c._len_torch_function_stack() != 0
        or c._are_functorch_transforms_active()
        or c._get_tracing_state() is not None
        or torch.is_autocast_enabled("cpu")
        or forward_ad._current_level >= 0
    )
    return not watched and all(
        one.is_cpu
        and one.dtype == weight.dtype
        and one.dtype in (torch.float32, torch.float64)
        and one.layout is torch.strided
        and not one.is_neg()
        for one in (x, weight, *([] if bias is None else [bias]))
    )


class _Readout(torch.autograd.Function):
    """`x W^T + b` for rows `[N, R]`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        if bias is not None:
            return turned_readout(x, weight.t().contiguous(), bias)
        out = x.new_empty(x.shape[0], weight.shape[0])
        rows_product(x.contiguous(), weight.t().contiguous(), out, add=False)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (x, weight) = grads, ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        of_bias = grad.sum(0) if of_bias and ctx.biased else None
        # Second derivatives go through operations that have some.
        if torch.is_grad_enabled() or not _plain(grad, weight, None):
            of_x = grad.mm(weight) if of_x else None
            return of_x, grad.t().mm(x) if of_weight else None, of_bias
        grad, x, found = grad.contiguous(), x.contiguous(), None
        if of_x:
            found = torch.empty_like(x)
            rows_product(grad, weight.contiguous(), found, add=False)
        if not of_weight:
            return found, None, of_bias
        of_weight = torch.empty_like(weight, memory_format=torch.contiguous_format)
        gradient_product(grad, x, of_weight, add=False)
        return found, of_weight, of_bias

"""The product with a vocabulary: many words for each row, by compiled code where that is faster."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from holdfast.compiler import build, threads
from holdfast.compiler.emit.llvm_softmax import scratch_size
from holdfast.compiler.emit.target import host
from holdfast.nn.kept import keep
from holdfast.nn.memory import borrow
from holdfast.nn.plain import plain
from holdfast.nn.products import gradient_product, rows_product

_MANY = 256
"""Rows from which turning the weights once is less than what the product saves."""
_NUMBERS = 1 << 21
"""Numbers of a product with a vocabulary that are held at a time, where the rows are many."""
_NARROW = 1 << 24
"""The same of bfloat16, where the gradient of the weights is added once for each time."""
_OPERATIONS = 32
"""What the loss of one row and word counts for, when threads are chosen."""


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
    if rows < _MANY or not plain(x, weight, *_some(bias)):
        return functional.linear(x, weight, bias)
    found: Tensor = _Readout.apply(x.reshape(rows, x.shape[-1]), weight, bias)  # pyright: ignore[reportAssignmentType] (apply is untyped)
    return found.view(*x.shape[:-1], weight.shape[0])


def readout_loss(x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """The mean of minus the log-probabilities of targets under softmax(x W^T + b).

    >>> import torch
    >>> x, weight, bias = torch.randn(300, 5), torch.randn(7, 5), torch.randn(7)
    >>> readout_loss(x, weight, bias, torch.zeros(300, dtype=torch.int64)).shape
    torch.Size([])

    As `torch.nn.functional.cross_entropy` of `readout`, but where that is compiled, gradients are
    computed together with the loss, some rows at a time: the logits of all rows are never held, and
    no pass over them is made for their gradient. There are no second derivatives. Under autocast to
    bfloat16 the products are of bfloat16, where a processor has them, and all else is of float32.

    Arguments:
        x: `[N, R]`. weight: `[V, R]`. bias: `[V]`. targets: `[N]` of int64, below V.
    """
    casts = torch.is_autocast_enabled("cpu")
    narrow = casts and weight.dtype is torch.float32 and is_narrow()
    usual = casts and not narrow
    if x.shape[0] < _MANY or usual or not plain(x, weight, bias, casts=narrow):
        return functional.cross_entropy(readout(x, weight, bias), targets)
    found: Tensor = _Loss.apply(x, weight, bias, targets, narrow)  # pyright: ignore[reportAssignmentType] (apply is untyped)
    return found


def turned_readout(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same for rows `[N, R]`, without gradients, with weights turned before, `[R, V]`."""
    out = bias.repeat(x.shape[0], 1)
    rows_product(x.contiguous(), weight, out, add=True)
    return out


def turned(weight: Tensor) -> Tensor | None:
    """Weights `[V, R]` as `turned_readout` reads them, kept while their bits stay the same.

    None where that cannot be used: under autograd, and where something looks at every operation.
    """
    if torch.is_grad_enabled() or not plain(weight):
        return None
    return keep("readout", [weight], lambda: {"turned": weight.detach().t().contiguous()})["turned"]


def is_narrow() -> bool:
    """Whether products under autocast are compiled ones of bfloat16."""
    return torch.get_autocast_dtype("cpu") is torch.bfloat16 and host().pairs


def _some(bias: Tensor | None) -> list[Tensor]:
    return [] if bias is None else [bias]


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
        if torch.is_grad_enabled() or not plain(grad, weight):
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


class Softmax:
    """Losses of logits, which become their gradients, some rows at a time.

    >>> softmax = Softmax(torch.zeros(1), torch.zeros(3), rows=2, narrow=False)
    >>> losses = softmax(softmax.logits.zero_(), torch.tensor([0, 2]))
    >>> [round(loss, 4) for loss in losses.tolist()], bool(softmax.logits.sum().abs() < 1e-6)
    ([1.0986, 1.0986], True)

    Arguments:
        like: a tensor of the format. rows: at most. narrow: whether logits are of bfloat16.
    """

    def __init__(self, like: Tensor, bias: Tensor, rows: int, narrow: bool) -> None:
        self._kernel = build.softmax(like.dtype, narrow)
        self._bias, self._words = bias, bias.shape[0]
        # An element takes few operations, but a division and an exponential among them.
        self._count = min(rows, threads.shared(_OPERATIONS * rows * self._words))
        self.d_bias = bias.new_zeros(self._count, self._words)
        working = scratch_size(self._words, self._kernel.tile.lanes)
        numbers = rows * self._words
        held = -(-numbers // 2) if narrow else numbers
        logits, self._scratch = borrow(like, held, self._count * working)
        logits = logits.view(torch.bfloat16)[:numbers] if narrow else logits
        self.logits = logits.view(rows, self._words)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The losses of the first rows of `logits`; its memory must be that of `self.logits`."""
        rows = logits.shape[0]
        losses, targets = self._bias.new_empty(rows), targets.contiguous()
        tensors = (logits, self._bias, targets, losses, self.d_bias, self._scratch)
        pointers = (tensor.data_ptr() for tensor in tensors)
        self._kernel([*pointers, rows, self._words], self._count)
        return losses


class _Loss(torch.autograd.Function):
    """The mean loss of rows `[N, R]`, and its gradients with it."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, narrow: bool
    ) -> Tensor:
        rows, words = x.shape[0], weight.shape[0]
        if bool(((targets < 0) | (targets >= words)).any()):
            raise IndexError(f"targets: expected numbers from 0 to {words - 1}")
        format = torch.bfloat16 if narrow else x.dtype
        factor, matrix = x.contiguous().to(format), weight.contiguous().to(format)
        turned = matrix.t() if narrow else matrix.t().contiguous()
        size = min(rows, max(_MANY, (_NARROW if narrow else _NUMBERS) // words))
        softmax = Softmax(x, bias.contiguous(), size, narrow)
        of_x, of_weight = torch.empty_like(x), torch.empty_like(matrix, dtype=x.dtype)
        total = x.new_zeros((), dtype=torch.float64)
        needed = any(ctx.needs_input_grad)
        start = 0
        for part, wanted in zip(factor.split(size), targets.split(size), strict=True):
            logits = softmax.logits[: len(part)]
            if narrow:
                torch.mm(part, turned, out=logits)
            else:
                rows_product(part, turned, logits, add=False)
            total += softmax(logits, wanted).sum(dtype=torch.float64)
            if needed:
                rows_product(logits, matrix, of_x[start : start + size], add=False)
                gradient_product(logits, part, of_weight, add=start > 0)
            start += size
        of_bias = softmax.d_bias.sum(0)
        ctx.rows = rows
        ctx.save_for_backward(of_x, of_weight, of_bias)
        return (total / rows).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] (the decorator is untyped)
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        share = grads[0] / ctx.rows
        pairs = zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False)
        return (*(value * share if needed else None for value, needed in pairs), None, None)

"""Packed weights in fewer bits; `llvm_products` tells how kernels read them."""

from __future__ import annotations

import torch
from torch import Tensor

from holdfast.compiler.emit.llvm_forward import MATRICES
from holdfast.compiler.emit.llvm_products import IN_A_LANE, SCALED, SHIFTS, STEP

_LARGEST = 127.0
_LOWER = 0xFFFF


def narrowed(packed: dict[str, Tensor], narrow: str) -> dict[str, Tensor]:
    """W and R with fewer bits a number, and what the kernel multiplies their sums by.

    >>> packed = {name: torch.randn(2, 3, 4, 16) for name in MATRICES}
    >>> found = narrowed(packed, "int8")
    >>> tuple(found["weights_h"].shape), tuple(found["scales_h"].shape)
    ((2, 1, 4, 16), (2, 4, 16))

    An int8 is a 127th of the largest weight of its unit and gate, rounded to nearest; a bfloat16 is
    rounded to nearest.

    Arguments:
        packed: `[blocks, K, sums, units]` by slot. narrow: `bfloat16` or `int8`.
    """
    found: dict[str, Tensor] = {}
    for name in MATRICES:
        weights = packed[name]
        # A cell without W or R has no such matrix.
        scales = weights
        if weights.dim() == 4:
            parts = _in_parts(weights, IN_A_LANE[narrow])
            if narrow in SCALED:
                scales = weights.abs().amax(1) / _LARGEST
                weights = _int8(parts, scales)
            else:
                weights = _bfloat16(parts)
        found[name] = weights
        if narrow in SCALED:
            found[f"scales_{name[-1]}"] = scales / STEP
    return found


def _in_parts(weights: Tensor, held: int) -> Tensor:
    """`[blocks, K, ...]` as `[blocks, K / held, held, ...]`, with zeros behind the last."""
    blocks, depth, *rest = weights.shape
    whole = weights.new_zeros(blocks, -(-depth // held) * held, *rest)
    whole[:, :depth] = weights
    return whole.view(blocks, -1, held, *rest)


def _bfloat16(parts: Tensor) -> Tensor:
    first, second = parts.unbind(2)
    lower = first.bfloat16().view(torch.int16).to(torch.int64) & _LOWER
    bits = second.contiguous().view(torch.int32).to(torch.int64)
    sign, size = bits & 0x80000000, bits & 0x7FFFFFFF
    upper = ((size - lower + 0x8000) >> 16).clamp(min=0)
    return _words(sign | upper << 16 | lower)


def _int8(parts: Tensor, scales: Tensor) -> Tensor:
    steps = torch.where(scales > 0, scales, 1.0)[:, None, None]
    numbers = (parts / steps).round().to(torch.int64) + 128
    word = torch.zeros_like(numbers[:, :, 0])
    for part, shift in enumerate(SHIFTS):
        # Where the kernel's shift, or its turn by half a lane, brings them to the mantissa's end.
        place = (15 + shift) % 32
        number = numbers[:, :, part] << place
        word |= number | number >> 32
    return _words(word & 0xFFFFFFFF)


def _words(bits: Tensor) -> Tensor:
    """Lanes of 32 bits."""
    return torch.where(bits >= 1 << 31, bits - (1 << 32), bits).to(torch.int32)

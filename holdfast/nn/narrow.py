"""Packed weights in fewer bits; `llvm_products` tells how kernels read them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from holdfast.compiler.emit.llvm_dots import DOTS
from holdfast.compiler.emit.llvm_forward import MATRICES
from holdfast.compiler.emit.llvm_pairs import PAIRS
from holdfast.compiler.emit.llvm_products import IN_A_LANE, SCALED, SHIFTS, STEP

_LARGEST = 127.0
_LOWER = 0xFFFF

_EXCESS = 128
"""What the upper byte of each h has too much."""

_PLACES = tuple((15 + shift) % 32 for shift in SHIFTS)
"""Where the kernel's shift, or its turn by half a lane, brings a number to the mantissa's end."""

_IN_ORDER = (0, 8, 16, 24)


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
            if narrow == PAIRS:
                weights = paired(weights)
            elif narrow not in SCALED:
                weights = _bfloat16(parts)
            else:
                scales = weights.abs().amax(1) / _LARGEST
                numbers = _numbers(parts, scales)
                if narrow == DOTS and name == "weights_h":
                    found["offsets_h"] = (numbers.sum((1, 2)) * _EXCESS).to(torch.int32)
                    weights = _together(numbers, _IN_ORDER)
                else:
                    weights = _together(numbers + 128, _PLACES)
                    scales = scales / STEP
        found[name] = weights
        if narrow in SCALED:
            found[f"scales_{name[-1]}"] = scales
    return found


def paired(weights: Tensor) -> Tensor:
    """`[blocks, K, ...]` as lanes `[blocks, ceil(K / 2), ...]` of two bfloat16 each.

    >>> word = paired(torch.tensor([[[1.0], [2.0], [3.0]]])).view(torch.int16)
    >>> word.view(torch.bfloat16).tolist()
    [[[1.0, 2.0], [3.0, 0.0]]]
    """
    parts = weights if weights.shape[1] % 2 == 0 else _in_parts(weights, 2).flatten(1, 2)
    first, second = parts.bfloat16().unflatten(1, (-1, 2)).view(torch.int16).unbind(2)
    return (second.to(torch.int32) << 16) | (first.to(torch.int32) & _LOWER)


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


def _numbers(parts: Tensor, scales: Tensor) -> Tensor:
    """Weights as multiples of their scale."""
    steps = torch.where(scales > 0, scales, 1.0)[:, None, None]
    return (parts / steps).round().to(torch.int64)


def _together(numbers: Tensor, places: Sequence[int]) -> Tensor:
    """Four numbers of 8 bits in one lane, each with its lowest bit at a place."""
    word = torch.zeros_like(numbers[:, :, 0])
    for part, place in enumerate(places):
        number = (numbers[:, :, part] & 0xFF) << place
        word |= number | number >> 32
    return _words(word & 0xFFFFFFFF)


def _words(bits: Tensor) -> Tensor:
    """Lanes of 32 bits."""
    return torch.where(bits >= 1 << 31, bits - (1 << 32), bits).to(torch.int32)

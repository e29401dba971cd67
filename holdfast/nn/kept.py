"""Packed weights, kept from call to call for as long as the weights' bits stay the same.

PyTorch counts what an optimizer writes, but not what goes through `.data` or a NumPy view. So the
bits themselves are looked at: a digest of all parameters is made in each call, several times faster
than packing them. Whatever changed a weight, the next call packs anew.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import Parameter

from holdfast.compiler.build import digester

Packed = dict[str, Tensor]
"""Packed weights by the names of a kernel's slots."""

_MOST = 8
"""Ways to pack the same parameters that are kept at a time."""

_lock = threading.Lock()
_kept: dict[int, dict[Hashable, _Entry]] = {}
"""By the identity of the first parameter, then by what was packed and how."""


class Weights:
    """Where parameters lie in memory, and a digest of what stands there.

    >>> import torch
    >>> weight = torch.zeros(3, 5)
    >>> weights = Weights([weight])
    >>> before = weights.digest()
    >>> weight.data[2, 4] = 1.0
    >>> weights.digest() == before, weights.lie(weight.data_ptr())
    (False, True)

    Arguments:
        tensors: contiguous, of the CPU.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.places = tuple(tensor.data_ptr() for tensor in tensors)
        sizes = (tensor.numel() * tensor.element_size() for tensor in tensors)
        pairs = zip(self.places, sizes, strict=True)
        values = [number for pair in pairs for number in pair]
        self._count = len(tensors)
        self._parts = (ctypes.c_int64 * len(values))(*values)
        self._address = ctypes.addressof(self._parts)
        self._function: Any = digester()

    def lie(self, *places: int) -> bool:
        """Whether the parameters are still at these addresses."""
        return self.places == places

    @property
    def check(self) -> tuple[int, int, int]:
        """The address of the function that digests, how many parts there are, and where their
        addresses stand."""
        place = ctypes.cast(self._function, ctypes.c_void_p).value or 0
        return place, self._count, self._address

    def digest(self) -> int:
        """A number that follows every bit of the parameters."""
        return self._function(self._address, self._count)


@dataclass(frozen=True, eq=False)
class _Entry:
    weights: Weights
    digest: int
    packed: Packed


def keep(how: Hashable, tensors: Sequence[Tensor], pack: Callable[[], Packed]) -> Packed:
    """What `pack` makes of the tensors, or has made of them when they held the same bits.

    >>> import torch
    >>> weight = Parameter(torch.zeros(3, 5))
    >>> def double():
    ...     return {"weight": 2 * weight.detach()}
    >>> first = keep("doubled", [weight], double)
    >>> keep("doubled", [weight], double) is first
    True
    >>> weight.data[2, 4] = 1.0
    >>> float(keep("doubled", [weight], double)["weight"].sum())
    2.0

    Only parameters are kept, with the lifetime of the first of them; other tensors are packed anew.

    Arguments:
        how: everything that the result depends on besides the tensors.
    """
    if not all(type(one) is Parameter and one.is_contiguous() for one in tensors):
        return pack()
    key = (how, *map(id, tensors))
    places = [one.data_ptr() for one in tensors]
    found = _kept.get(id(tensors[0]), {}).get(key)
    if found is not None and not found.weights.lie(*places):
        found = None
    weights = Weights(tensors) if found is None else found.weights
    digest = weights.digest()
    if found is not None and found.digest == digest:
        return found.packed
    packed = pack()
    if weights.digest() == digest:
        _put(key, tensors[0], _Entry(weights, digest, packed))
    return packed


def _put(key: Hashable, first: Tensor, entry: _Entry) -> None:
    with _lock:
        entries = _kept.get(id(first))
        if entries is None:
            entries = _kept[id(first)] = {}
            weakref.finalize(first, _kept.pop, id(first), None).atexit = False
        if key not in entries and len(entries) >= _MOST:
            del entries[next(iter(entries))]
        entries[key] = entry

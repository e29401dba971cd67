"""The threads kernels run on: PyTorch's own OpenMP pool, or a Python pool where there is none.

Kernels call `GOMP_parallel` of the very library that PyTorch has loaded, so both share one pool and
the cores are never asked for twice.
"""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import llvmlite.binding as llvm
import torch

SYMBOLS = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
"""What a kernel's `whole` refers to."""

_WORTH = 1_000_000
"""Floating-point operations below which a second thread costs more than it brings."""


@cache
def pool() -> str:
    """Make the pool known to LLVM; says which it is, `openmp` or `python`.

    >>> pool() in ("openmp", "python")
    True
    """
    library = _openmp()
    for name in SYMBOLS:
        address = _unreachable() if library is None else _address(library, name)
        llvm.add_symbol(name, address)
    return "python" if library is None else "openmp"


def count(rows: int, operations: int) -> int:
    """How many threads a call takes: at most `torch.get_num_threads()`, no more than rows.

    Arguments:
        rows: rows of the batch.
        operations: floating-point operations of the whole call.
    """
    return max(1, min(torch.get_num_threads(), rows, operations // _WORTH))


@cache
def workers(threads: int) -> ThreadPoolExecutor:
    """The Python pool for so many threads; the code it runs releases the interpreter's lock."""
    return ThreadPoolExecutor(threads, thread_name_prefix="holdfast")


def _openmp() -> ctypes.CDLL | None:
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        library = ctypes.CDLL(str(path))
        if all(hasattr(library, name) for name in SYMBOLS):
            return library
    return None


def _address(library: ctypes.CDLL, name: str) -> int:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


def _nothing() -> None:
    """Stands for OpenMP where there is none, to link against; `whole` is never called then."""


_CALLBACK = ctypes.CFUNCTYPE(None)(_nothing)


def _unreachable() -> int:
    return ctypes.cast(_CALLBACK, ctypes.c_void_p).value or 0

"""The threads kernels run on: PyTorch's own OpenMP pool, or a Python pool where there is none.

Kernels call `GOMP_parallel` of the very library that PyTorch has loaded, so both share one pool and
the cores are never asked for twice.
"""

from __future__ import annotations

import ctypes
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import llvmlite.binding as llvm
import torch

SYMBOLS = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
"""What a kernel's `whole` refers to."""

_WORTH = 2_000_000
"""Floating-point operations for each thread, below which another one costs more than it brings."""

_MEETING = 15_000
"""Floating-point operations that could be done while threads meet, for each of them."""

_LEAST_ROWS = 2.5
"""Rows whose product takes as long as that of one, which has too few sums at a time."""

_GAIN = 1.05
"""How much faster sharing units must be, as what holds up one thread then holds up all."""


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
    llvm.add_symbol("holdfast_yield", _yield())
    llvm.add_symbol("holdfast_call", _call())
    return "python" if library is None else "openmp"


@dataclass(frozen=True)
class Team:
    """How many threads a call takes, and what they share."""

    count: int
    by_block: bool = False
    """The units of each row, with a meeting after every step, instead of the rows."""


def team(rows: int, blocks: int, steps: int, step_operations: int) -> Team:
    """The threads for a call: at most `torch.get_num_threads()`, no more than there is work for.

    Threads share the rows, without a word to each other, or the units of few rows, if they surely
    run at the same time. Which is faster follows from how long a step of so many rows takes,
    roughly, and what it costs to meet after it.

    >>> team(rows=1, blocks=1, steps=1, step_operations=1000)
    Team(count=1, by_block=False)

    Arguments:
        rows: rows of the batch. blocks: blocks of units. steps: T.
        step_operations: floating-point operations of one time step.
    """
    most = shared(steps * step_operations)
    count = max(1, min(most, rows))
    if most == 1 or blocks < 2 or rows >= 3 * most or pool() != "openmp":
        return Team(count)

    def together(number: int) -> float:
        """How long a step takes that so many threads share, in rows."""
        units = -(-blocks // number) / blocks
        return units * max(_LEAST_ROWS, rows) + number * _MEETING * rows / step_operations

    best = min(range(2, min(most, blocks) + 1), key=together)
    apart = max(_LEAST_ROWS, -(-rows // count))
    return Team(best, by_block=True) if _GAIN * together(best) < apart else Team(count)


def shared(operations: int) -> int:
    """The threads that are worth while for so many floating-point operations."""
    return max(1, min(torch.get_num_threads(), operations // _WORTH))


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


def _yield() -> int:
    """Where waiting threads give their processor away."""
    library = ctypes.CDLL("kernel32" if sys.platform == "win32" else None)
    name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
    return _address(library, name)


def _call() -> int:
    """Where the operating system is asked to put a thread to sleep; see `emit.llvm_team`."""
    if sys.platform != "linux":
        return _unreachable()
    return _address(ctypes.CDLL(None), "syscall")


def _unreachable() -> int:
    return ctypes.cast(_CALLBACK, ctypes.c_void_p).value or 0

"""What this machine could do: multiply-adds a second, bytes a second from each level of memory.

Both are measured when asked for, with kernels of this file's own, on as many threads as the run
has, all of them at work at the same time.

The model, for one direction of one layer: its multiply-adds cannot be faster than the peak, and its
weights have to be read, those of the input once a call, those of the state once a step, from the
smallest level of memory that holds a thread's share of the latter. Forward, a call cannot be faster
than the slower of the two. The backward pass reads the state's weights once a step again; the
gradients of the weights are products of large matrices and cost multiply-adds only. Inputs, outputs
and what is saved are not counted, nor is anything but products: the ceiling lies above what can be
reached.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import llvmlite.ir as ir
import torch

from benchmarks.registry import Shape
from benchmarks.settings import Setting, pieces
from holdfast.compiler.build import assemble
from holdfast.compiler.cell import Cell
from holdfast.compiler.emit.target import host, machine

CHAINS = (8, 12, 16, 24)
"""Independent chains of multiply-adds that are tried; the fastest counts."""

READS = 8
"""Vectors that a turn of the reading loop loads, each into a register of its own."""

TURN = 0.02
"""Seconds of one measurement."""

TRIES = 5
"""Measurements of each kind; the fastest counts."""

MEMORY = 128 << 20
"""Bytes that each thread reads where nothing is to come from a cache."""

USUAL = {"L1": 32 << 10, "L2": 1 << 20, "L3": 16 << 20}
"""Sizes of the levels where the system does not tell."""

_I64 = ir.IntType(64)


@dataclass(frozen=True)
class Ceiling:
    """A machine on some threads.

    gflops: peak of multiply-adds, each two operations, by dtype. bandwidth: gigabytes a second by
    level, all threads together. sizes: bytes of each level that a thread sees, but of the memory.
    """

    threads: int
    gflops: Mapping[str, float]
    bandwidth: Mapping[str, float]
    sizes: Mapping[str, int]

    def level(self, size: float) -> str:
        """The smallest level that holds so many bytes.

        >>> Ceiling(1, {}, {"L1": 4.0, "memory": 1.0}, {"L1": 100}).level(101)
        'memory'
        """
        return next((name for name, held in self.sizes.items() if size <= held), "memory")

    def seconds(
        self, cell: Cell, shape: Shape, which: str, setting: Setting, share: float = 1.0
    ) -> float:
        """The least time of one call by the model at the top of this file."""
        itemsize = setting.dtype.itemsize
        peak = self.gflops[_name(setting.dtype)] * 1e9
        operations = 2 * shape.B * shape.T * share / peak
        total = 0.0
        for piece in pieces(cell, shape, setting):
            speed = self.bandwidth[self.level(itemsize * piece.h / self.threads)] * 1e9
            again = itemsize * piece.h * shape.T / speed
            once = itemsize * piece.x / speed
            total += max(operations * (piece.x + piece.h), once + again)
            if which == "forward+backward":
                total += max(operations * piece.h, again)
                total += operations * (piece.x + piece.h + piece.below * piece.x)
        return total

    def as_data(self) -> dict[str, Any]:
        """For a line of JSON."""
        return {
            "gflops": {name: round(value, 1) for name, value in self.gflops.items()},
            "bandwidth": {name: round(value, 1) for name, value in self.bandwidth.items()},
            "sizes": dict(self.sizes),
        }


def intensity(cell: Cell, shape: Shape, setting: Setting, share: float = 1.0) -> float:
    """Operations of a forward pass for each byte of weights that it reads."""
    every = list(pieces(cell, shape, setting))
    operations = 2 * shape.B * shape.T * share * sum(piece.x + piece.h for piece in every)
    read = sum(piece.x + piece.h * shape.T for piece in every)
    return operations / (setting.dtype.itemsize * read)


@cache
def measured(threads: int) -> Ceiling:
    """This machine on so many threads, measured once a process: about two seconds."""
    gflops = {_name(dtype): peak(dtype, threads) for dtype in (torch.float32, torch.float64)}
    sizes = levels()
    held = {name: size // 2 for name, size in sizes.items()}
    held["memory"] = max(MEMORY, 4 * max(sizes.values()) // threads)
    if "L3" in held:
        held["L3"] //= 2 * threads
    bandwidth = {name: reading(size, threads) for name, size in held.items()}
    return Ceiling(threads, gflops, bandwidth, sizes)


def levels() -> dict[str, int]:
    """Bytes of the caches of the first core, from the system or as usual."""
    found: dict[str, int] = {}
    units = {"K": 10, "M": 20, "G": 30}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = (
                (folder / name).read_text(encoding="ascii").strip()
                for name in ("level", "type", "size")
            )
        except OSError:
            continue
        if kind != "Instruction" and size[-1:] in units:
            found[f"L{level}"] = int(size[:-1]) << units[size[-1]]
    return found or dict(USUAL)


def peak(dtype: torch.dtype, threads: int) -> float:
    """Billions of operations a second, of independent chains of multiply-adds in registers."""
    lanes = host().lanes(dtype.itemsize)
    best = 0.0
    for chains in CHAINS:
        engine, run = _compiled(_multiply_adds(lanes, dtype, chains), "kernel")
        size = (chains + 2) * host().vector_bytes
        best = max(best, _rate(run, size, threads, 2 * chains * lanes, engine))
    return best / 1e9


def reading(size: int, threads: int) -> float:
    """Billions of bytes a second, each thread reading so many bytes of its own again and again."""
    step = READS * host().vector_bytes
    size = max(step, size // step * step)
    engine, run = _compiled(_reads(size), "kernel")
    return _rate(run, size, threads, size, engine) / 1e9


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _rate(
    run: Callable[[int, int], None], size: int, threads: int, each: int, engine: Any
) -> float:
    """`each` by the seconds of one turn of a kernel, summed over threads that run together."""
    assert engine is not None, "the kernel lives in its engine"
    memory = [torch.ones(size // 4 + 64, dtype=torch.float32) for _ in range(threads)]
    addresses = [-(-one.data_ptr() // 64) * 64 for one in memory]
    turns = 1
    while (seconds := _seconds(run, addresses[0], turns)) < TURN / 4:
        turns *= 4
    turns = max(1, round(turns * TURN / seconds))
    return max(_together(run, addresses, turns, each) for _ in range(TRIES))


def _seconds(run: Callable[[int, int], None], address: int, turns: int) -> float:
    start = time.perf_counter()
    run(address, turns)
    return max(time.perf_counter() - start, 1e-9)


def _together(
    run: Callable[[int, int], None], addresses: list[int], turns: int, each: int
) -> float:
    """The rate of all threads, which begin at the same moment; the kernel releases the lock."""
    if len(addresses) == 1:
        return turns * each / _seconds(run, addresses[0], turns)
    barrier = threading.Barrier(len(addresses))
    rates = [0.0] * len(addresses)

    def work(rank: int) -> None:
        barrier.wait()
        rates[rank] = turns * each / _seconds(run, addresses[rank], turns)

    workers = [threading.Thread(target=work, args=(rank,)) for rank in range(len(addresses))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(rates)


def _compiled(module: ir.Module, entry: str) -> tuple[Any, Callable[[int, int], None]]:
    code = assemble(str(module), host())
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine(host(), jit=True))
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    kinds = ctypes.c_int64, ctypes.c_int64
    return engine, ctypes.CFUNCTYPE(None, *kinds)(engine.get_function_address(entry))


def _function(module: ir.Module) -> tuple[ir.IRBuilder, Any, Any]:
    """`kernel(address, turns)`."""
    module.triple = host().triple
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_I64, _I64]), "kernel")
    address, turns = function.args
    return ir.IRBuilder(function.append_basic_block("entry")), address, turns


def _loop(
    builder: ir.IRBuilder, count: Any, first: list[Any], body: Callable[[Any, list[Any]], list[Any]]
) -> list[Any]:
    """Carry values through `count` turns of a body; returns what the last one left."""
    before = builder.block
    inside = builder.append_basic_block("turn")
    after = builder.append_basic_block("done")
    builder.branch(inside)
    builder.position_at_end(inside)
    index = builder.phi(_I64)
    values = [builder.phi(value.type) for value in first]
    found = body(index, list(values))
    following = builder.add(index, _I64(1))
    index.add_incoming(_I64(0), before)
    index.add_incoming(following, builder.block)
    for phi, start, end in zip(values, first, found, strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(end, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, count), inside, after)
    builder.position_at_end(after)
    return found


def _multiply_adds(lanes: int, dtype: torch.dtype, chains: int) -> ir.Module:
    """Registers of a vector each, to which a product is added again and again."""
    module = ir.Module("peak")
    scalar = ir.FloatType() if dtype == torch.float32 else ir.DoubleType()
    vector = ir.VectorType(scalar, lanes)
    builder, address, turns = _function(module)
    name = f"llvm.fma.v{lanes}f{8 * dtype.itemsize}"
    fma = ir.Function(module, ir.FunctionType(vector, [vector] * 3), name)
    base = builder.inttoptr(address, vector.as_pointer())
    places = [builder.gep(base, [_I64(n)]) for n in range(chains + 2)]
    left, right, *sums = (builder.load(place, align=4) for place in places)

    def body(index: Any, values: list[Any]) -> list[Any]:
        return [builder.call(fma, [left, right, value]) for value in values]

    for value, place in zip(_loop(builder, turns, sums, body), places[2:], strict=True):
        builder.store(value, place, align=4)
    builder.ret_void()
    return module


def _reads(size: int) -> ir.Module:
    """Every vector of a buffer, loaded; what is read is joined, so that no load can be left out."""
    module = ir.Module("reads")
    width = host().vector_bytes
    vector = ir.VectorType(_I64, width // 8)
    builder, address, turns = _function(module)
    base = builder.inttoptr(address, vector.as_pointer())
    zero = ir.Constant(vector, [0] * (width // 8))

    def chunk(index: Any, values: list[Any]) -> list[Any]:
        first = builder.mul(index, _I64(READS))
        places = [builder.gep(base, [builder.add(first, _I64(n))]) for n in range(READS)]
        loads = [builder.load(place, align=64) for place in places]
        return [builder.or_(one, load) for one, load in zip(values, loads, strict=True)]

    def turn(index: Any, values: list[Any]) -> list[Any]:
        return _loop(builder, _I64(size // (READS * width)), values, chunk)

    joined = zero
    for value in _loop(builder, turns, [zero] * READS, turn):
        joined = builder.or_(joined, value)
    builder.store(joined, base, align=64)
    builder.ret_void()
    return module

"""Run the stages in order and return a kernel: define, trace, differentiate, plan, emit, assemble.

Kernels are kept in memory and, as machine code, on disk. The key on disk is made of the stages'
texts, the shapes, the processor, LLVM's version and the compiler's own source.
"""

from __future__ import annotations

import ctypes
import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import llvmlite.binding as llvm
import torch

from holdfast.compiler import cache as disk
from holdfast.compiler import threads
from holdfast.compiler.cell import Cell
from holdfast.compiler.emit import llvm as emit
from holdfast.compiler.emit.llvm_loops import Tile
from holdfast.compiler.emit.target import Target, host, machine
from holdfast.compiler.plan import Plan, plan
from holdfast.errors import BuildError

STAGES = ("cell", "graph", "backward", "plan", "llvm", "asm")
"""Names of the printable stages, in order."""

_lock = threading.RLock()
_kernels: dict[tuple[object, ...], Kernel] = {}


@dataclass(eq=False)
class Kernel:
    """Machine code for one pass over sequences, callable with raw pointers and sizes.

    slots: names of the arguments in order. tile: how the packed weights must be cut.
    """

    slots: tuple[str, ...]
    tile: Tile
    _engine: llvm.ExecutionEngine = field(repr=False)

    def __post_init__(self) -> None:
        self._array = ctypes.c_int64 * len(self.slots)
        pointer = ctypes.POINTER(ctypes.c_int64)
        whole = self._engine.get_function_address("whole")
        part = self._engine.get_function_address("part")
        self._whole = ctypes.CFUNCTYPE(None, pointer)(whole)
        kinds = (pointer, ctypes.c_int64, ctypes.c_int64)
        self._part = ctypes.CFUNCTYPE(None, *kinds)(part)

    def __call__(self, values: Sequence[int], count: int) -> None:
        """Run on `count` threads; `values` are the slots but the last, which is that count."""
        slots = self._array(*values, count)
        if count == 1:
            self._part(slots, 0, 1)
        elif threads.pool() == "openmp":
            self._whole(slots)
        else:
            shares = range(count)
            list(threads.workers(count).map(lambda rank: self._part(slots, rank, count), shares))


@cache
def planned(cell: Cell) -> Plan:
    """The plan of a cell, made once."""
    return plan(cell.traced, cell.states, cell.weights)


def kernel(cell: Cell, mode: str, dtype: torch.dtype, input_size: int, hidden_size: int) -> Kernel:
    """The kernel of a cell for this processor: from memory, from disk, or built now.

    >>> import torch
    >>> from holdfast.cells import rnn
    >>> kernel(rnn, "infer", torch.float32, 3, 5).slots[:3]
    ('x', 'h_first', 'out')

    Arguments:
        mode: `infer`, `train` or `backward`.
        input_size, hidden_size: I and H; the kernel serves any B and T.
    """
    depth = 0 if mode == "backward" else input_size
    key = (cell.key, mode, dtype, depth, hidden_size)
    found = _kernels.get(key)
    if found is None:
        with _lock:
            found = _kernels.get(key)
            if found is None:
                found = _build(cell, mode, dtype, depth, hidden_size)
                _kernels[key] = found
    return found


def _build(cell: Cell, mode: str, dtype: torch.dtype, input_size: int, hidden_size: int) -> Kernel:
    layout = planned(cell)
    form = emit.FORMATS[dtype]
    target = host()
    key = _disk_key(cell, layout, mode, form.name, input_size, hidden_size, target)
    code = disk.read(key)
    engine = _load(code) if code else None
    if engine is None:
        text = emit.emit(layout, mode, form, input_size, hidden_size, target)
        code = assemble(text, target)
        engine = _load(code)
        if engine is None:
            raise BuildError(f"the kernel {mode} of {cell.name} could not be loaded")
        disk.write(key, code)
    chosen = emit.kernel_tile(layout, mode, form, hidden_size, target)
    return Kernel(tuple(emit.slots(layout, mode)), chosen, engine)


def _disk_key(cell: Cell, layout: Plan, *parts: object) -> str:
    target = parts[-1]
    assert isinstance(target, Target)
    content = [cell.key, layout.text(), *map(str, parts[:-1]), target.key]
    content += [str(llvm.llvm_version_info), disk.emitter_digest()]
    return hashlib.sha256("\n".join(content).encode()).hexdigest()


def assemble(text: str, target: Target, *, assembly: bool = False) -> bytes:
    """IR to optimized machine code, or to its assembly as text.

    Errors: `BuildError` when LLVM refuses the IR or does not know the target.
    """
    with _lock:
        generator = machine(target, jit=target == host())
        try:
            module = llvm.parse_assembly(text)
            module.verify()
        except RuntimeError as error:
            raise BuildError(f"LLVM refuses the emitted code: {error}") from error
        tuning = llvm.create_pipeline_tuning_options(speed_level=3)
        tuning.loop_unrolling = False
        builder = llvm.create_pass_builder(generator, tuning)
        builder.getModulePassManager().run(module, builder)
        if assembly:
            return generator.emit_assembly(module).encode()
        return generator.emit_object(module)


def _load(code: bytes) -> llvm.ExecutionEngine | None:
    """Machine code, linked and ready to call; None when it is not usable."""
    threads.pool()
    try:
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine(host(), jit=True))
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
    except RuntimeError:
        return None
    return engine if engine.get_function_address("whole") else None


def stages(
    cell: Cell,
    mode: str = "train",
    dtype: torch.dtype = torch.float32,
    input_size: int = 32,
    hidden_size: int = 128,
    target: Target | None = None,
    only: str | None = None,
) -> dict[str, str]:
    """The text of every stage by name, in the order in which they run; `only` makes just one.

    >>> from holdfast.cells import rnn
    >>> print(stages(rnn, only="graph")["graph"].splitlines()[-1])
    return h = t1
    """
    layout = planned(cell)
    chosen = target or host()

    def llvm_text() -> str:
        form = emit.FORMATS[dtype]
        return emit.emit(layout, mode, form, input_size, hidden_size, chosen)

    makers = {
        "cell": lambda: cell.source,
        "graph": layout.forward.text,
        "backward": layout.backward.text,
        "plan": layout.text,
        "llvm": llvm_text,
        "asm": lambda: assemble(llvm_text(), chosen, assembly=True).decode(),
    }
    return {name: make() for name, make in makers.items() if only in (None, name)}

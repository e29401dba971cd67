"""Run the stages in order and return a kernel: define, trace, differentiate, plan, emit, assemble.

Kernels are kept in memory and, as machine code, on disk. The key on disk is made of the stages'
texts, the shapes, the processor, LLVM's version and the compiler's own source.
"""

from __future__ import annotations

import ctypes
import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import llvmlite.binding as llvm
import torch
from torch import Tensor

from holdfast.compiler import cache as disk
from holdfast.compiler import choices, threads
from holdfast.compiler.cell import Cell
from holdfast.compiler.emit import llvm as emit
from holdfast.compiler.emit.llvm_chain import SLOTS as CHAIN
from holdfast.compiler.emit.llvm_chain import emit_chain
from holdfast.compiler.emit.llvm_digest import emit_digest
from holdfast.compiler.emit.llvm_loops import Sizes, Tile
from holdfast.compiler.emit.llvm_noise import DRAW, emit_draw
from holdfast.compiler.emit.llvm_outer import SLOTS, emit_outer, outer_tile
from holdfast.compiler.emit.llvm_pack import PACKERS, emit_packers
from holdfast.compiler.emit.llvm_program import emit_program
from holdfast.compiler.emit.llvm_softmax import SLOTS as SOFTMAX
from holdfast.compiler.emit.llvm_softmax import emit_softmax
from holdfast.compiler.emit.llvm_team import ARRIVE, AWAIT, emit_team
from holdfast.compiler.emit.target import Target, host, machine
from holdfast.compiler.plan import Plan, plan
from holdfast.errors import BuildError

STAGES = ("cell", "graph", "backward", "plan", "llvm", "asm")
"""Names of the printable stages, in order."""

_lock = threading.RLock()
_kernels: dict[tuple[str, str, torch.dtype, Sizes], Kernel] = {}
_engines: list[llvm.ExecutionEngine] = []
"""Those that functions without an owner live in."""


@dataclass(eq=False)
class Kernel:
    """Machine code for one pass over sequences, callable with raw pointers and sizes.

    slots: names of the arguments in order. tile: how the packed weights must be cut. addresses:
    of `part` and `whole`, for programs that call them.
    """

    slots: tuple[str, ...]
    tile: Tile
    _engine: llvm.ExecutionEngine = field(repr=False)

    def __post_init__(self) -> None:
        self._array = ctypes.c_int64 * len(self.slots)
        pointer = ctypes.POINTER(ctypes.c_int64)
        whole = self._engine.get_function_address("whole")
        part = self._engine.get_function_address("part")
        self.addresses = (part, whole)
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


@dataclass(eq=False)
class Packer:
    """Packs weights into the order in which kernels read them; see `emit.llvm_pack`."""

    _engine: llvm.ExecutionEngine = field(repr=False)

    def __post_init__(self) -> None:
        self._gates = self._function("pack_gates")
        self._rows = self._function("pack_rows")

    def _function(self, name: str) -> Callable[..., None]:
        kinds = [ctypes.c_int64] * len(PACKERS[name])
        return ctypes.CFUNCTYPE(None, *kinds)(self._engine.get_function_address(name))

    def gates(self, weight: Tensor, sums: int, tile: Tile) -> Tensor:
        """`[sums * H, K]` as `[blocks, K, sums, units]`, zero beyond H."""
        weight = weight.contiguous()
        hidden_size, depth = weight.shape[0] // sums, weight.shape[1]
        packed = weight.new_empty(tile.blocks, depth, sums, tile.units)
        sizes = (sums, hidden_size, depth, tile.blocks, tile.vectors)
        self._gates(weight.data_ptr(), packed.data_ptr(), *sizes)
        return packed

    def rows(self, weight: Tensor, tile: Tile) -> Tensor:
        """`[K, H]` as `[blocks, K, units]`, zero beyond H."""
        weight = weight.contiguous()
        depth, hidden_size = weight.shape
        packed = weight.new_empty(tile.blocks, depth, tile.units)
        sizes = (depth, hidden_size, tile.blocks, tile.vectors)
        self._rows(weight.data_ptr(), packed.data_ptr(), *sizes)
        return packed


@cache
def planned(cell: Cell, projected: bool = False) -> Plan:
    """The plan of a cell, made once."""
    return plan(cell.traced, cell.states, cell.weights, cell.masks, cell.operand, projected)


def kernel(cell: Cell, mode: str, dtype: torch.dtype, sizes: Sizes) -> Kernel:
    """The kernel of a cell for this processor: from memory, from disk, or built now.

    >>> import torch
    >>> from holdfast.cells import rnn
    >>> kernel(rnn, "infer", torch.float32, Sizes(input=3, hidden=5)).slots[:3]
    ('x', 'h_first', 'out')

    Arguments:
        mode: one of `emit.llvm.MODES`.
        sizes: I, H, heads and P; the kernel serves any B and T.
    """
    key = _key(cell, mode, dtype, sizes)
    found = _kernels.get(key)
    if found is None:
        with _lock:
            found = _kernels.get(key)
            if found is None:
                found = _build(cell, mode, dtype, key[-1])
                _kernels[key] = found
    return found


def _key(
    cell: Cell, mode: str, dtype: torch.dtype, sizes: Sizes
) -> tuple[str, str, torch.dtype, Sizes]:
    """What kernels are told apart by."""
    if mode == "backward" and not cell.inputs:
        sizes = replace(sizes, input=0)
    return cell.key, mode, dtype, sizes


@cache
def packer(dtype: torch.dtype) -> Packer:
    """The packing functions for one format."""
    form = emit.FORMATS[dtype]
    target = host()
    key = _digest("pack", form.name, target.key)
    with _lock:
        engine = _engine(key, lambda: emit_packers(form, target), "pack_gates")
    return Packer(engine)


@cache
def digester() -> Callable[[int, int], int]:
    """The function that digests memory; see `emit.llvm_digest.emit_digest`.

    It takes the address of an array of an address and a number of bytes for each part, and how many
    parts there are.
    """
    target = host()
    key = _digest("digest", target.key)
    with _lock:
        engine = _engine(key, lambda: emit_digest(target), "digest")
    _engines.append(engine)
    kinds = (ctypes.c_int64, ctypes.c_int64)
    return ctypes.CFUNCTYPE(ctypes.c_int64, *kinds)(engine.get_function_address("digest"))


@cache
def runner() -> Callable[[int | bytes], int]:
    """The function that runs programs; see `emit.llvm_program.emit_program`.

    It takes the address of a call, or its bytes: that is the fastest way to make one.
    """
    target = host()
    key = _digest("program", target.key)
    with _lock:
        engine = _engine(key, lambda: emit_program(target), "run")
    _engines.append(engine)
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)
    return kind(engine.get_function_address("run"))


@cache
def drawer(dtype: torch.dtype) -> Callable[..., None]:
    """The function that draws masks in one format; see `emit.llvm_noise.DRAW`."""
    form = emit.FORMATS[dtype]
    target = host()
    key = _digest("draw", form.name, target.key)
    with _lock:
        engine = _engine(key, lambda: emit_draw(form, target), "draw")
    kinds = [ctypes.c_int64] * len(DRAW)
    function = ctypes.CFUNCTYPE(None, *kinds)(engine.get_function_address("draw"))

    def call(*values: int) -> None:
        """Holds on to the engine that the function lives in."""
        assert engine
        function(*values)

    return call


@cache
def multiplier(order: str, dtype: torch.dtype) -> Kernel:
    """The kernel that multiplies large matrices in one format; see `emit.llvm_outer`.

    Arguments:
        order: one of `emit.llvm_outer.ORDERS`.
    """
    form = emit.FORMATS[dtype]
    target = host()
    key = _digest("outer", order, form.name, target.key)
    with _lock:
        engine = _engine(key, lambda: emit_outer(order, form, target), "whole")
    return Kernel((*SLOTS, "threads"), outer_tile(form, target), engine)


@cache
def softmax(dtype: torch.dtype, narrow: bool) -> Kernel:
    """The kernel that turns logits into a loss and its gradient; see `emit.llvm_softmax`.

    Arguments:
        narrow: whether logits are of bfloat16.
    """
    form = emit.FORMATS[dtype]
    target = host()
    key = _digest("softmax", form.name, str(narrow), target.key)
    with _lock:
        engine = _engine(key, lambda: emit_softmax(form, target, narrow=narrow), "whole")
    lanes = target.lanes(form.itemsize)
    return Kernel((*SOFTMAX, "threads"), Tile(lanes, 1, 1, 1), engine)


@cache
def chain(kind: str, dtype: torch.dtype) -> Kernel:
    """The kernel for sums over the paths of linear chains, or best paths; see `emit.llvm_chain`.

    Arguments:
        kind: one of `llvm_chain.KINDS`.
    """
    form = emit.FORMATS[dtype]
    target = host()
    key = _digest("chain", kind, form.name, target.key)
    with _lock:
        engine = _engine(key, lambda: emit_chain(kind, form, target), "whole")
    lanes = target.lanes(form.itemsize)
    return Kernel((*CHAIN[kind], "threads"), Tile(lanes, 1, 1, 1), engine)


@cache
def team() -> llvm.ExecutionEngine:
    """How the threads of a kernel wait for each other, made known to LLVM."""
    threads.pool()
    target = host()
    engine = _engine(_digest("team", target.key), lambda: emit_team(target), ARRIVE)
    for name in (ARRIVE, AWAIT):
        llvm.add_symbol(name, engine.get_function_address(name))
    return engine


def _build(cell: Cell, mode: str, dtype: torch.dtype, sizes: Sizes) -> Kernel:
    layout = planned(cell, bool(sizes.projection))
    form = emit.FORMATS[dtype]
    target = host()
    default = emit.kernel_tile(layout, mode, form, sizes, target)
    chosen = choices.pick(label(cell, mode, dtype, sizes), default)
    parts = (cell.key, layout.text(), mode, form.name, repr(sizes), repr(chosen), target.key)

    def text() -> str:
        return emit.emit(layout, mode, form, sizes, target, chosen)

    engine = _engine(_digest(*parts), text, "whole")
    return Kernel(tuple(emit.slots(layout, mode, sizes)), chosen, engine)


def label(cell: Cell, mode: str, dtype: torch.dtype, sizes: Sizes) -> str:
    """The name of a kernel among the remembered choices."""
    sizes = _key(cell, mode, dtype, sizes)[-1]
    return choices.name(cell.key, mode, emit.FORMATS[dtype].name, repr(sizes), host().key)


def tiles(cell: Cell, mode: str, dtype: torch.dtype, sizes: Sizes) -> list[Tile]:
    """The ways to cut a kernel's product that may be measured; the default first."""
    layout, form = planned(cell, bool(sizes.projection)), emit.FORMATS[dtype]
    default = emit.kernel_tile(layout, mode, form, sizes, host())
    found = choices.candidates(default, emit.accumulated(layout, mode))
    # Blocks of units must not straddle heads.
    return [one for one in found if sizes.heads == 1 or one.vectors == default.vectors]


def install(kernel: Kernel | None, cell: Cell, mode: str, dtype: torch.dtype, sizes: Sizes) -> None:
    """Let calls take this kernel from now on; with None, one that is made as it is chosen then."""
    key = _key(cell, mode, dtype, sizes)
    with _lock:
        if kernel is None:
            _kernels.pop(key, None)
        else:
            _kernels[key] = kernel


def cut(tile: Tile, cell: Cell, mode: str, dtype: torch.dtype, sizes: Sizes) -> Kernel:
    """The kernel with a given tile, beside the one that calls take."""
    with _lock, choices.trying(label(cell, mode, dtype, sizes), tile):
        return _build(cell, mode, dtype, _key(cell, mode, dtype, sizes)[-1])


def _digest(*parts: str) -> str:
    """The name on disk of machine code with these origins."""
    content = [*parts, str(llvm.llvm_version_info), disk.emitter_digest()]
    return hashlib.sha256("\n".join(content).encode()).hexdigest()


def _engine(key: str, text: Callable[[], str], entry: str) -> llvm.ExecutionEngine:
    """Machine code with the function `entry`: from disk, or emitted and assembled now."""
    if entry != ARRIVE:
        team()
    code = disk.read(key)
    engine = _load(code, entry) if code else None
    if engine is None:
        code = assemble(text(), host())
        engine = _load(code, entry)
        if engine is None:
            raise BuildError(f"machine code without the function {entry} was emitted")
        disk.write(key, code)
    return engine


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
        tuning = llvm.create_pipeline_tuning_options(speed_level=2)
        tuning.loop_unrolling = False
        builder = llvm.create_pass_builder(generator, tuning)
        builder.getModulePassManager().run(module, builder)
        if assembly:
            return generator.emit_assembly(module).encode()
        return generator.emit_object(module)


def _load(code: bytes, entry: str) -> llvm.ExecutionEngine | None:
    """Machine code, linked and ready to call; None when it is not usable."""
    threads.pool()
    try:
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine(host(), jit=True))
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
    except RuntimeError:
        return None
    return engine if engine.get_function_address(entry) else None


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
        given = len(cell.inputs) * hidden_size
        sizes = Sizes(input_size, hidden_size, given=given)
        return emit.emit(layout, mode, form, sizes, chosen)

    makers = {
        "cell": lambda: cell.source,
        "graph": layout.forward.text,
        "backward": layout.backward.text,
        "plan": layout.text,
        "llvm": llvm_text,
        "asm": lambda: assemble(llvm_text(), chosen, assembly=True).decode(),
    }
    return {name: make() for name, make in makers.items() if only in (None, name)}

"""Threads in LLVM IR: the share of each, how they wait for each other, and a kernel's entries.

A kernel has one argument, an array of 64-bit slots: pointers and sizes in the order of its `Slots`.
`part` does one thread's share; `whole` runs all shares, on the OpenMP threads that PyTorch uses.

A counter is two numbers, lines of the cache apart: arrivals, and threads asleep until the next one.
Who waits looks at the counter for a few microseconds, then sleeps, so that it never takes the
processor away from the thread that it waits for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import llvmlite.ir as ir

from holdfast.compiler.emit.llvm_loops import (
    BYTE_POINTER,
    I32,
    I64,
    Emitter,
    Tile,
    external,
    new_module,
    number,
)
from holdfast.compiler.emit.llvm_math import Value
from holdfast.compiler.emit.target import Target

GROUP = 128
"""Bytes of a state that neighboring rows have at least, for threads to take turns with them: two
lines of the cache, which threads then never write to at the same time."""

COUNTER = 32
"""Numbers of 64 bits that a counter takes: two pairs of lines."""

ARRIVE = "holdfast_arrive"
"""Count one arrival and wake who sleeps: `(counter)`."""

AWAIT = "holdfast_await"
"""Wait for a number of arrivals: `(counter, wanted, looks)`."""

_ASLEEP = 16
"""Where a counter holds the number of threads asleep."""

_STEP_LOOKS = 400
"""Looks at a counter before a thread sleeps, in a step: some microseconds."""

_END_LOOKS = 6000
"""The same at the end of a pass, where shares may differ by more than it takes to wake up."""

_FUTEX = {"x86_64": 202, "aarch64": 98}
"""The number of Linux's system call that sleeps until a number changes."""

_WAIT, _WAKE, _ALL = 128, 129, 2**31 - 1
"""What that call is asked for, within one process: to sleep, to wake, and how many to wake."""

_PAUSES = {"x86_64": ("llvm.x86.sse2.pause", ()), "aarch64": ("llvm.aarch64.isb", (15,))}
"""What a processor is told while it waits: the intrinsic and its arguments."""


@dataclass(frozen=True)
class Share:
    """What one thread does of every step: some rows, counted from 0, and some blocks of units.

    Where rows differ in length they are dealt out in turn, longest first, `GROUP` bytes of them at
    a time, so that at every step the threads have equally many; a dense batch is cut into
    contiguous pieces.
    """

    emitter: Emitter
    group: int
    """Neighbors that are dealt together, a power of two."""
    first: Value
    """Where the thread's row 0 is in the batch."""
    distance: Value
    """From one group of the thread to its next, in rows of the batch."""
    most: Value
    """Rows that the thread has at the most, where they are contiguous."""
    dealt: Value
    """Whether the rows are dealt out."""
    first_block: Value
    last_block: Value

    def row(self, mine: Value) -> Value:
        """Where a row of the thread's is in the batch."""
        b, size = self.emitter.builder, self.group
        if size == 1:
            return b.add(self.first, b.mul(mine, self.distance))
        groups = b.mul(b.ashr(mine, number(size.bit_length() - 1)), self.distance)
        return b.add(b.add(self.first, groups), b.and_(mine, number(size - 1)))

    def limit(self, alive: Value) -> Value:
        """How many of the thread's rows are among the first `alive` of the batch."""
        b, size = self.emitter.builder, number(self.group)
        after = b.sub(alive, self.first)
        whole = b.mul(b.sdiv(alive, self.distance), size)
        rest = b.sub(b.srem(alive, self.distance), self.first)
        rest = self.emitter.minimum(self._positive(rest), size)
        together = self.emitter.minimum(self._positive(after), self.most)
        return b.select(self.dealt, b.add(whole, rest), together)

    @property
    def place(self) -> list[Value]:
        """What `row` needs to know."""
        return [self.first, self.distance]

    def inside(self, first: Value, distance: Value) -> Share:
        """The same for a function of its own, which is given `place`."""
        return replace(self, first=first, distance=distance)

    def _positive(self, value: Value) -> Value:
        b = self.emitter.builder
        return b.select(b.icmp_signed("<", value, number(0)), number(0), value)


def share(emitter: Emitter, tile: Tile) -> Share:
    """This thread's share of the rows, or of the blocks of units.

    Where `by_block` is set, every thread does all rows of some of the units, and the threads meet
    after each step.
    """
    b = emitter.builder
    thread, threads, batch = emitter["thread"], emitter["threads"], emitter["batch"]
    group = max(1, GROUP * 8 // (emitter.hidden_size * emitter.math.form.bits))
    group = 1 << (group.bit_length() - 1)
    size, blocks = number(group), number(tile.blocks)

    def cut(whole: Value, rank: Value) -> Value:
        return b.sdiv(b.mul(whole, rank), threads)

    units = b.icmp_signed("!=", emitter["by_block"], number(0))
    dense = b.icmp_signed("==", b.ptrtoint(emitter["counts"], I64), number(0))
    dealt = b.and_(b.not_(dense), b.not_(units))
    following = b.add(thread, number(1))
    start = b.select(units, number(0), cut(batch, thread))
    end = b.select(units, batch, cut(batch, following))
    return Share(
        emitter,
        group,
        b.select(dealt, b.mul(thread, size), start),
        b.select(dealt, b.mul(threads, size), size),
        b.sub(end, start),
        dealt,
        b.select(units, cut(blocks, thread), number(0)),
        b.select(units, cut(blocks, following), blocks),
    )


def meet(emitter: Emitter, step: Value) -> None:
    """Wait until every thread has done this step, where the threads share the units of a row.

    Arrivals are counted up over the whole pass.
    """
    b = emitter.builder
    with b.if_then(b.icmp_signed("!=", emitter["by_block"], number(0))):
        wanted = b.mul(b.add(step, number(1)), emitter["threads"])
        _meet(b, emitter["arrived"], wanted, _STEP_LOOKS)


def _meet(b: ir.IRBuilder, counter: Value, wanted: Value, looks: int) -> None:
    pointer = I64.as_pointer()
    b.call(external(b.module, ARRIVE, ir.VoidType(), [pointer]), [counter])
    wait = external(b.module, AWAIT, ir.VoidType(), [pointer, I64, I64])
    b.call(wait, [counter, wanted, number(looks)])


def add_entries(module: ir.Module, body: ir.Function, kinds: Mapping[str, ir.Type]) -> None:
    """Add `part(slots, thread, threads)` and `whole(slots)` around a body.

    The slots are the body's arguments but the last two, then the number of threads wanted.
    """
    slots = I64.as_pointer()
    part = ir.Function(module, ir.FunctionType(ir.VoidType(), [slots, I64, I64]), "part")
    b = ir.IRBuilder(part.append_basic_block("entry"))
    arguments = []
    for index, kind in enumerate(list(kinds.values())[:-2]):
        value = b.load(b.gep(part.args[0], [number(index)]))
        arguments.append(b.inttoptr(value, kind) if isinstance(kind, ir.PointerType) else value)
    b.call(body, [*arguments, part.args[1], part.args[2]])
    b.ret_void()
    _add_whole(module, part, len(kinds) - 2)


def _add_whole(module: ir.Module, part: ir.Function, threads_slot: int) -> None:
    slots = I64.as_pointer()
    kinds = [_work(module, part).type, BYTE_POINTER, I32, I32]
    start = external(module, "GOMP_parallel", ir.VoidType(), kinds)
    whole = ir.Function(module, ir.FunctionType(ir.VoidType(), [slots]), "whole")
    b = ir.IRBuilder(whole.append_basic_block("entry"))
    given = b.alloca(I64, COUNTER + 1)
    given.align = 64  # pyright: ignore[reportAttributeAccessIssue]
    threads = b.load(b.gep(whole.args[0], [number(threads_slot)]))
    with b.if_else(b.icmp_signed("<=", threads, number(1))) as (alone, together):
        with alone:
            b.call(part, [whole.args[0], number(0), number(1)])
        with together:
            for place in (0, _ASLEEP):
                b.store(number(0), b.gep(given, [number(place)]))
            b.store(b.ptrtoint(whole.args[0], I64), b.gep(given, [number(COUNTER)]))
            data = b.bitcast(given, BYTE_POINTER)
            work = module.globals["work"]
            b.call(start, [work, data, b.trunc(threads, I32), ir.Constant(I32, 0)])
    b.ret_void()


def _work(module: ir.Module, part: ir.Function) -> ir.Function:
    """What each thread of the pool runs: its share; then all meet, without the pool's long spin.

    The pool's own barrier spins for milliseconds. A thread that spins there on the processor on
    which another is about to wake up holds up the one that it waits for.
    """
    rank = external(module, "omp_get_thread_num", I32, [])
    team = external(module, "omp_get_num_threads", I32, [])
    work = ir.Function(module, ir.FunctionType(ir.VoidType(), [BYTE_POINTER]), "work")
    work.linkage = "internal"
    b = ir.IRBuilder(work.append_basic_block("entry"))
    given = b.bitcast(work.args[0], I64.as_pointer())
    slots = b.inttoptr(b.load(b.gep(given, [number(COUNTER)])), I64.as_pointer())
    count = b.sext(b.call(team, []), I64)
    b.call(part, [slots, b.sext(b.call(rank, []), I64), count])
    _meet(b, given, count, _END_LOOKS)
    b.ret_void()
    return work


def emit_team(target: Target) -> str:
    """The IR of `ARRIVE` and `AWAIT` as text."""
    module = new_module(target)
    _arrive(module, target)
    _await(module, target)
    return str(module)


def _function(module: ir.Module, name: str, arguments: Sequence[ir.Type]) -> ir.IRBuilder:
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), list(arguments)), name)
    return ir.IRBuilder(function.append_basic_block("entry"))


def _arrive(module: ir.Module, target: Target) -> None:
    b = _function(module, ARRIVE, [I64.as_pointer()])
    counter = b.function.args[0]
    # Both sequentially consistent: either the sleeper sees this arrival, or it is seen to sleep.
    b.atomic_rmw("add", counter, number(1), "seq_cst")
    if _call(target) is not None:
        asleep = b.load_atomic(b.gep(counter, [number(_ASLEEP)]), "seq_cst", 8)
        with b.if_then(b.icmp_signed("!=", asleep, number(0)), likely=False):
            _futex(b, target, counter, _WAKE, number(_ALL))
    b.ret_void()


def _await(module: ir.Module, target: Target) -> None:
    b = _function(module, AWAIT, [I64.as_pointer(), I64, I64])
    counter, wanted, most = b.function.args
    head, wait, rest = (b.append_basic_block(name) for name in ("look", "wait", "rest"))
    sleep, done = b.append_basic_block("sleep"), b.append_basic_block("done")
    entry = b.block
    b.branch(head)
    b.position_at_end(head)
    looks = b.phi(I64, "looks")
    looks.add_incoming(number(0), entry)
    here = b.load_atomic(counter, "acquire", 8)
    b.cbranch(b.icmp_signed("<", here, wanted), wait, done)
    b.position_at_end(wait)
    _pause(b, target)
    looks.add_incoming(b.add(looks, number(1)), b.block)
    b.cbranch(b.icmp_signed("<", looks, most), head, rest)
    b.position_at_end(rest)
    asleep = b.gep(counter, [number(_ASLEEP)])
    b.atomic_rmw("add", asleep, number(1), "seq_cst")
    b.branch(sleep)
    b.position_at_end(sleep)
    here = b.load_atomic(counter, "seq_cst", 8)
    with b.if_then(b.icmp_signed(">=", here, wanted)):
        b.atomic_rmw("sub", asleep, number(1), "seq_cst")
        b.branch(done)
    if _call(target) is None:
        b.call(external(module, "holdfast_yield", I32, []), [])
    else:
        _futex(b, target, counter, _WAIT, b.and_(here, number(2**32 - 1)))
    b.branch(sleep)
    b.position_at_end(done)
    b.ret_void()


def _call(target: Target) -> int | None:
    """The system call of `_FUTEX`, where there is one."""
    return _FUTEX.get(target.triple.partition("-")[0]) if "linux" in target.triple else None


def _futex(b: ir.IRBuilder, target: Target, counter: Value, verb: int, value: Value) -> None:
    """Sleeps while the lower half of the counter is a value, or wakes so many sleepers."""
    function = external(b.module, "holdfast_call", I64, [I64] * 7)
    place = b.ptrtoint(counter, I64)
    last = [number(0)] * 3
    b.call(function, [number(_call(target) or 0), place, number(verb), value, *last])


def _pause(b: ir.IRBuilder, target: Target) -> None:
    found = _PAUSES.get(target.triple.partition("-")[0])
    if found is not None:
        name, values = found
        function = external(b.module, name, ir.VoidType(), [I32] * len(values))
        b.call(function, [ir.Constant(I32, value) for value in values])

"""Several kernels in one call, in LLVM IR: what stands around them becomes a list of steps.

A program is an array of steps, `WIDTH` numbers each: an operation and its operands. It is made once
and never written to. The addresses of packed weights stand in another array, behind a digest of the
weights that they were packed from; what differs from call to call are the `bases`, addresses of the
call's tensors. Addresses and sizes go through a frame of 64-bit places that each call has for
itself, so that many threads can run one program at the same time. The frame holds the slots of the
kernels.
"""

from __future__ import annotations

import llvmlite.ir as ir

from holdfast.compiler.emit.llvm_loops import BYTE_POINTER, I64, Emitter, new_module, number
from holdfast.compiler.emit.llvm_math import FLOAT32, Value
from holdfast.compiler.emit.target import Target

SET, PLACE, LOAD, COPY, ZERO, SPREAD, CHECK, PART, WHOLE = range(9)
"""Operations; `f` is the frame, and the operands are a, b, ...

SET: `f[a] = b`. PLACE: `f[a] = bases[b] + c`. LOAD: `f[a] = weights[b]`. COPY: c bytes from `f[b]`
to `f[a]`. ZERO: b bytes at `f[a]`. SPREAD: d rows of c bytes, one behind the other at `f[b]`, to
`f[a]`, e bytes apart. CHECK: the end, with 1, unless the digest at address b of the c parts at d is
`weights[0]`. PART: a kernel on one thread, its `part` at address b, its slots at `f[a]`. WHOLE: a
kernel on as many threads as its last slot says, its `whole` at address b.
"""

HEAD = ("program", "steps", "weights", "places")
"""What a call begins with: two addresses, and how many steps and places of the frame there are."""

WIDTH = 6
"""Numbers of a step."""


def emit_program(target: Target) -> str:
    """The IR of `run(call)`, as text.

    call: `HEAD` and then the bases. The result is 0, or 1 where a check has failed.
    """
    module = new_module(target)
    function = ir.Function(module, ir.FunctionType(I64, [I64.as_pointer()]), "run")
    e = Emitter(module, function, ("call",), FLOAT32, 1, 8)
    b = e.builder
    for n, name in enumerate(HEAD):
        value = b.load(e.at(e["call"], n))
        pointer = name in ("program", "weights")
        e.slots[name] = b.inttoptr(value, I64.as_pointer()) if pointer else value
    e.slots["bases"] = e.at(e["call"], len(HEAD))
    frame = b.alloca(I64, e["places"], name="frame")
    with e.loop(number(0), e["steps"], number(1), name="step") as loop:
        step = e.at(e["program"], e.times(loop.index, WIDTH))
        operands = [b.load(e.at(step, n)) for n in range(1, WIDTH)]
        e.cases(b.load(step), WHOLE, lambda op: _operation(e, op, frame, operands), first=SET)
    b.ret(number(0))
    return str(module)


def _operation(e: Emitter, op: int, frame: Value, operands: list[Value]) -> None:
    b = e.builder
    first, second, third, fourth, fifth = operands
    here = e.at(frame, first)
    if op == SET:
        b.store(second, here)
    elif op == PLACE:
        b.store(b.add(b.load(e.at(e["bases"], second)), third), here)
    elif op == LOAD:
        b.store(b.load(e.at(e["weights"], second)), here)
    elif op == COPY:
        _copy(e, b.load(here), b.load(e.at(frame, second)), third)
    elif op == ZERO:
        _zero(e, b.load(here), second)
    elif op == SPREAD:
        target, source = b.load(here), b.load(e.at(frame, second))
        with e.loop(number(0), fourth, number(1), name="row") as row:
            to = b.add(target, b.mul(row.index, fifth))
            _copy(e, to, b.add(source, b.mul(row.index, third)), third)
    elif op == CHECK:
        kind = ir.FunctionType(I64, [I64, I64])
        found = b.call(b.inttoptr(second, kind.as_pointer()), [fourth, third])
        with b.if_then(b.icmp_signed("!=", found, b.load(e["weights"]))):
            b.ret(number(1))
    else:
        alone = [number(0), number(1)] if op == PART else []
        kind = ir.FunctionType(ir.VoidType(), [I64.as_pointer(), *(one.type for one in alone)])
        b.call(b.inttoptr(second, kind.as_pointer()), [here, *alone])


def _copy(e: Emitter, target: Value, source: Value, size: Value) -> None:
    b = e.builder
    kinds = [BYTE_POINTER, BYTE_POINTER, I64]
    function = e.module.declare_intrinsic("llvm.memcpy", kinds)
    pointers = (b.inttoptr(address, BYTE_POINTER) for address in (target, source))
    b.call(function, [*pointers, size, ir.Constant(ir.IntType(1), 0)])


def _zero(e: Emitter, target: Value, size: Value) -> None:
    b = e.builder
    function = e.module.declare_intrinsic("llvm.memset", [BYTE_POINTER, I64])
    zero = ir.Constant(ir.IntType(8), 0)
    b.call(function, [b.inttoptr(target, BYTE_POINTER), zero, size, ir.Constant(ir.IntType(1), 0)])

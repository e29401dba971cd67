"""The loss of a softmax over many words, with its gradient, in LLVM IR.

For each row of logits: minus the log-probability of its target, and in place of the logits their
gradient, the probabilities less one at the target. Three passes over a row that stays in the
cache: the largest number, the exponentials, the probabilities. The bias is added on the way in, and
its gradient summed on the way out, by each thread for itself.
"""

from __future__ import annotations

import math

import llvmlite.ir as ir

from holdfast.compiler.emit.llvm_loops import (
    I64,
    Emitter,
    declare_body,
    new_module,
    number,
)
from holdfast.compiler.emit.llvm_math import Format, Value
from holdfast.compiler.emit.llvm_pairs import BFloat
from holdfast.compiler.emit.llvm_team import add_entries
from holdfast.compiler.emit.target import Target

SLOTS = ("logits", "bias", "targets", "losses", "d_bias", "scratch", "rows", "words")
"""A kernel's slots but the number of threads: logits `[rows, words]`, bias `[words]`, targets
`[rows]` of int64 below `words`, losses `[rows]`, what the bias's gradient is added to `[threads,
words]`, `[threads, scratch_size]` numbers of working memory, sizes."""

_POINTERS = ("logits", "bias", "losses", "d_bias", "scratch")


def scratch_size(words: int, lanes: int) -> int:
    """Numbers of working memory for a thread: whole vectors."""
    return -(-words // lanes) * lanes


def emit_softmax(form: Format, target: Target, *, narrow: bool) -> str:
    """The IR of a kernel as text.

    Arguments:
        narrow: whether logits are of bfloat16, with everything else in the format.
    """
    module = new_module(target)
    scalar = ir.FloatType() if form.bits == 32 else ir.DoubleType()
    kinds: dict[str, ir.Type] = {
        name: scalar.as_pointer() if name in _POINTERS else I64
        for name in (*SLOTS, "thread", "threads")
    }
    kinds["logits"] = (BFloat() if narrow else scalar).as_pointer()
    kinds["targets"] = I64.as_pointer()
    body = declare_body(module, kinds)
    lanes = target.lanes(form.itemsize)
    e = Emitter(module, body, tuple(kinds), form, lanes, lanes)
    _Softmax(e, narrow).emit()
    e.builder.ret_void()
    add_entries(module, body, kinds)
    return str(module)


class _Softmax:
    """The loops of one kernel."""

    def __init__(self, e: Emitter, narrow: bool) -> None:
        self.e = e
        self.narrow = narrow

    def emit(self) -> None:
        """This thread's rows, one after the other."""
        e, b = self.e, self.e.builder

        def cut(rank: Value) -> Value:
            return b.sdiv(b.mul(e["rows"], rank), e["threads"])

        words = e["words"]
        whole = b.mul(b.sdiv(b.add(words, number(e.lanes - 1)), number(e.lanes)), number(e.lanes))
        self.scratch = e.at(e["scratch"], b.mul(e["thread"], whole))
        self.d_bias = e.at(e["d_bias"], b.mul(e["thread"], words))
        first, last = cut(e["thread"]), cut(b.add(e["thread"], number(1)))
        with e.loop(first, last, number(1), name="row") as row:
            self._row(row.index, e.at(e["logits"], b.mul(row.index, words)))

    def _row(self, row: Value, logits: Value) -> None:
        e, b, math_ = self.e, self.e.builder, self.e.math
        target = b.load(e.at(e["targets"], row))
        largest = self._largest(logits)
        wanted = b.load(e.at(self.scratch, target))
        total = self._exponentials(e.broadcast(largest))
        logarithm = e.first_lane(math_.log(e.broadcast(total)))
        loss = b.fadd(b.fsub(largest, wanted), logarithm)
        b.store(loss, e.at(e["losses"], row))
        factor = b.fdiv(ir.Constant(math_.scalar, 1.0), total)
        self._probabilities(logits, e.broadcast(factor))
        one = ir.Constant(math_.scalar, 1.0)
        found = b.fsub(b.fmul(b.load(e.at(self.scratch, target)), factor), one)
        place = e.at(logits, target)
        b.store(b.fptrunc(found, BFloat()) if self.narrow else found, place)
        summed = e.at(self.d_bias, target)
        b.store(b.fsub(b.load(summed), one), summed)

    def _largest(self, logits: Value) -> Value:
        """The largest logit of a row, which is copied with its bias, -inf behind the last."""
        e, b, math_ = self.e, self.e.builder, self.e.math
        nothing = math_.const(-math.inf)
        with e.loop(number(0), e["words"], number(e.lanes), [nothing], "most") as loop:
            mask = e.units_below(loop.index, e["words"])
            bias = e.load_units(e.at(e["bias"], loop.index), mask)
            value = b.fadd(self._load(e.at(logits, loop.index), mask), bias)
            value = b.select(mask, value, nothing)
            e.put_vector(value, e.at(self.scratch, loop.index))
            loop.carry(b.select(math_.less(loop.values[0], value), value, loop.values[0]))
        return e.total(loop.values[0], lambda x, y: b.select(math_.less(x, y), y, x))

    def _exponentials(self, largest: Value) -> Value:
        """exp(v - largest) of what was copied, and their sum."""
        e, b, math_ = self.e, self.e.builder, self.e.math
        with e.loop(number(0), e["words"], number(e.lanes), [math_.const(0.0)], "exp") as loop:
            place = e.at(self.scratch, loop.index)
            value = math_.exp(b.fsub(e.vector_at(place), largest))
            e.put_vector(value, place)
            loop.carry(b.fadd(loop.values[0], value))
        return e.total(loop.values[0], b.fadd)

    def _probabilities(self, logits: Value, factor: Value) -> None:
        e, b = self.e, self.e.builder
        with e.loop(number(0), e["words"], number(e.lanes), name="p") as loop:
            mask = e.units_below(loop.index, e["words"])
            value = b.fmul(e.vector_at(e.at(self.scratch, loop.index)), factor)
            self._store(value, e.at(logits, loop.index), mask)
            place = e.at(self.d_bias, loop.index)
            e.store_units(b.fadd(e.load_units(place, mask), value), place, mask)

    def _load(self, pointer: Value, mask: Value) -> Value:
        e = self.e
        if not self.narrow:
            return e.load_units(pointer, mask)
        zeros = ir.Constant(ir.VectorType(BFloat(), e.lanes), None)
        found = e.load_masked(pointer, mask, zeros, f"v{e.lanes}bf16", 2)
        return e.builder.fpext(found, e.math.vector)

    def _store(self, value: Value, pointer: Value, mask: Value) -> None:
        e = self.e
        if not self.narrow:
            e.store_units(value, pointer, mask)
            return
        rounded = e.builder.fptrunc(value, ir.VectorType(BFloat(), e.lanes))
        e.store_masked(rounded, pointer, mask, f"v{e.lanes}bf16", 2)

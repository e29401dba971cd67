"""Linear chains over K tags in LLVM IR: sums over all paths, and best paths.

A row of the batch after the other, its tags in vectors: sums of every step lie in working memory
until the way back has met them. Sums are scaled to one at every step, so that numbers of one step
may lie as far apart as the format allows, and no farther; `nn.chains` says when that is enough.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import llvmlite.ir as ir

from holdfast.compiler.emit.llvm_loops import I64, Emitter, declare_body, new_module, number
from holdfast.compiler.emit.llvm_math import FLOAT64, Format, Value, VectorMath
from holdfast.compiler.emit.llvm_team import add_entries
from holdfast.compiler.emit.target import Target

KINDS = ("sums", "marginals", "best")
"""What a kernel finds: sums, sums with what gradients need, or best paths."""

_ENDS = ("start", "ways", "onto", "end")
_SIZES = ("steps", "rows", "tags")
SLOTS = {
    "sums": ("emissions", *_ENDS, "counts", "log_z", "scratch", *_SIZES),
    "marginals": ("emissions", *_ENDS, "counts", "log_z", "nodes", "edges", "scratch", *_SIZES),
    "best": ("emissions", *_ENDS, "counts", "path", "total", "scratch", *_SIZES),
}
"""A kernel's slots but the number of threads, by kind.

emissions `[steps, rows, tags]`. start, end `[padded]`, ways `[padded, padded]` from row to column
and onto, which is ways turned: exponentials for sums, the scores themselves for best paths; zero
behind the last tag. counts: steps of each row, `[rows]` int64. log_z: `[rows]` float64, without
what start, ways and end were scaled by. nodes `[steps, rows, tags]`; edges `[rows, tags, tags]`.
path `[steps, rows]` int64, -1 behind the last step of a row; total `[rows]`. scratch: `[threads,
scratch_size]` numbers.
"""

_INTEGERS = ("counts", "path")
_TOGETHER = 4
"""Terms of a product that are added apart, so that they need not wait for each other."""


def padded(tags: int, lanes: int) -> int:
    """Numbers of whole vectors that hold so many tags."""
    return -(-tags // lanes) * lanes


def scratch_size(kind: str, steps: int, tags: int, lanes: int) -> int:
    """Numbers of working memory for a thread."""
    vectors = {"sums": 2, "marginals": 2 * steps + 2 + tags, "best": steps}[kind]
    return vectors * padded(tags, lanes)


def emit_chain(kind: str, form: Format, target: Target) -> str:
    """The IR of a kernel as text.

    Arguments:
        kind: one of `KINDS`.
    """
    module = new_module(target)
    scalar = ir.FloatType() if form.bits == 32 else ir.DoubleType()
    kinds: dict[str, ir.Type] = {}
    for name in (*SLOTS[kind], "thread", "threads"):
        sized = name in _SIZES or name.startswith("thread")
        whole = I64 if name in _INTEGERS else scalar
        whole = ir.DoubleType() if name == "log_z" else whole
        kinds[name] = I64 if sized else whole.as_pointer()
    body = declare_body(module, kinds)
    lanes = target.lanes(form.itemsize)
    e = Emitter(module, body, tuple(kinds), form, lanes, lanes)
    chain = _Best(e) if kind == "best" else _Sums(e, both=kind == "marginals")
    chain.emit()
    e.builder.ret_void()
    add_entries(module, body, kinds)
    return str(module)


class _Chain(ABC):
    """What both kinds of kernels share: rows, vectors of tags, and working memory."""

    def __init__(self, e: Emitter) -> None:
        self.e = e
        self.together = min(_TOGETHER, e.lanes)
        self.minus_infinity = ir.Constant(e.math.scalar, -math.inf)

    def emit(self) -> None:
        """This thread's rows, one after the other."""
        e, b = self.e, self.e.builder

        def cut(rank: Value) -> Value:
            return b.sdiv(b.mul(e["rows"], rank), e["threads"])

        self.width = self._up(e["tags"], e.lanes)
        self.terms = self._up(e["tags"], self.together)
        self.memory = e.at(e["scratch"], b.mul(b.mul(e["thread"], self._vectors()), self.width))
        first, last = cut(e["thread"]), cut(b.add(e["thread"], number(1)))
        with e.loop(first, last, number(1), name="row") as row:
            count = b.load(e.at(e["counts"], row.index))
            some = b.icmp_signed("<", number(0), count)
            with b.if_else(some) as (then, otherwise):
                with then:
                    self._row(row.index, count)
                with otherwise:
                    self._nothing(row.index)
            self._behind(row.index, count)

    @abstractmethod
    def _vectors(self) -> Value:
        """Vectors of tags in the working memory of a thread, as in `scratch_size`."""

    @abstractmethod
    def _row(self, row: Value, count: Value) -> None:
        """A row of at least one step."""

    @abstractmethod
    def _nothing(self, row: Value) -> None:
        """A row without steps."""

    @abstractmethod
    def _behind(self, row: Value, count: Value) -> None:
        """What is beyond the last step of a row."""

    def _up(self, value: Value, factor: int) -> Value:
        b = self.e.builder
        return b.mul(b.sdiv(b.add(value, number(factor - 1)), number(factor)), number(factor))

    def _place(self, vector: Value) -> Value:
        """Where a vector of tags lies in the working memory."""
        b = self.e.builder
        return self.e.at(self.memory, b.mul(vector, self.width))

    def _step(self, name: str, t: Value, row: Value) -> Value:
        """Where the tags of a step lie in what is `[steps, rows, tags]`."""
        e, b = self.e, self.e.builder
        return e.at(e[name], b.mul(b.add(b.mul(t, e["rows"]), row), e["tags"]))

    @contextmanager
    def _vector(self, carried: list[Value] | None = None, name: str = "v") -> Any:
        """A loop over vectors of tags, and the mask of those that are."""
        e = self.e
        with e.loop(number(0), self.width, number(e.lanes), carried or [], name) as loop:
            yield loop, e.units_below(loop.index, e["tags"])

    def _emission(self, start: Value, unit: Value, mask: Value) -> Value:
        """A vector of emissions, -inf behind the last tag."""
        e, b = self.e, self.e.builder
        value = e.load_units(e.at(start, unit), mask)
        return b.select(mask, value, e.math.const(-math.inf))

    def _joined(
        self,
        numbers: Value,
        matrix: Value,
        unit: Value,
        begin: Value,
        join: Callable[[Value, Value, Value], Value],
    ) -> list[Value]:
        """`join(sum, number, vector)` over all tags j, for numbers[j] and a vector of matrix[j].

        Arguments:
            begin: the vector that each of the `together` sums begins with.
        """
        e, b = self.e, self.e.builder
        sums = [begin] * self.together
        with e.loop(number(0), self.terms, number(self.together), sums, "j") as loop:
            following = []
            for n, one in enumerate(loop.values):
                j = b.add(loop.index, number(n))
                factor = e.broadcast(b.load(e.at(numbers, j)))
                vector = e.vector_at(e.at(matrix, b.mul(j, self.width), unit))
                following.append(join(one, factor, vector))
            loop.carry(*following)
        return loop.values

    def _larger(self, x: Value, y: Value) -> Value:
        return self.e.builder.select(self.e.math.less(x, y), y, x)


class _Sums(_Chain):
    """Forward sums, and with `both` those backward, nodes and edges."""

    def __init__(self, e: Emitter, *, both: bool) -> None:
        super().__init__(e)
        self.both = both
        self.double = ir.DoubleType()
        self.logs = VectorMath(e.module, e.builder, FLOAT64, 2)

    def _vectors(self) -> Value:
        e, b = self.e, self.e.builder
        if not self.both:
            return number(2)
        return b.add(b.mul(e["steps"], number(2)), b.add(e["tags"], number(2)))

    def _nothing(self, row: Value) -> None:
        e, b = self.e, self.e.builder
        b.store(ir.Constant(self.double, 0.0), e.at(e["log_z"], row))
        if self.both:
            self._edges(row, None)

    def _row(self, row: Value, count: Value) -> None:
        e, b = self.e, self.e.builder
        zero = ir.Constant(self.double, 0.0)
        with e.loop(number(0), count, number(1), [zero], "t") as loop:
            top = self._exponentials(loop.index, row)
            scale = self._forward(loop.index)
            found = b.fadd(loop.values[0], self._wide(top))
            loop.carry(b.fadd(found, self._log(scale)))
        last = self._sums(b.sub(count, number(1)))
        with self._vector([e.math.const(0.0)]) as (ends, _):
            end = e.vector_at(e.at(e["end"], ends.index))
            ends.carry(e.math.fma(e.vector_at(e.at(last, ends.index)), end, ends.values[0]))
        final = self._log(e.total(ends.values[0], b.fadd))
        b.store(b.fadd(loop.values[0], final), e.at(e["log_z"], row))
        if self.both:
            self._backward(row, count)

    def _sums(self, t: Value) -> Value:
        """Where the sums of a step are: without a way back, only those of two."""
        return self._place(t if self.both else number(0))

    def _shares(self, t: Value) -> Value:
        """Where the exponentials of the emissions of a step are."""
        b, e = self.e.builder, self.e
        return self._place(b.add(e["steps"], t) if self.both else number(1))

    def _exponentials(self, t: Value, row: Value) -> Value:
        """exp(emissions - the largest of a step) to working memory; the largest, or zero."""
        e, b, math_ = self.e, self.e.builder, self.e.math
        start, place = self._step("emissions", t, row), self._shares(t)
        with self._vector([math_.const(-math.inf)], "top") as (loop, mask):
            value = self._emission(start, loop.index, mask)
            e.put_vector(value, e.at(place, loop.index))
            loop.carry(self._larger(loop.values[0], value))
        top = e.total(loop.values[0], self._larger)
        closed = b.fcmp_ordered("==", top, self.minus_infinity)
        top = b.select(closed, ir.Constant(math_.scalar, 0.0), top)
        wide = e.broadcast(top)
        with self._vector(name="exp") as (loop, _):
            value = math_.exp(b.fsub(e.vector_at(e.at(place, loop.index)), wide))
            e.put_vector(value, e.at(place, loop.index))
        return top

    def _forward(self, t: Value) -> Value:
        """The sums of a step, scaled to one; what they were."""
        e, b = self.e, self.e.builder
        shares, into = self._shares(t), self._sums(t)
        before = self._sums(b.sub(t, number(1)))
        begins = b.icmp_signed("==", t, number(0))
        # Without a way back, sums are read and written at one place: new ones go over the shares.
        out = into if self.both else shares
        with b.if_else(begins) as (then, otherwise):
            with then, self._vector(name="first") as (loop, _):
                value = e.vector_at(e.at(e["start"], loop.index))
                share = e.vector_at(e.at(shares, loop.index))
                e.put_vector(b.fmul(value, share), e.at(out, loop.index))
            with otherwise, self._vector(name="next") as (loop, _):
                value = self._product(before, e["ways"], loop.index)
                share = e.vector_at(e.at(shares, loop.index))
                e.put_vector(b.fmul(value, share), e.at(out, loop.index))
        return self._scale(out, into)

    def _scale(self, place: Value, into: Value) -> Value:
        """Numbers divided by their sum, which is at least the smallest normal number."""
        e, b, math_ = self.e, self.e.builder, self.e.math
        with self._vector([math_.const(0.0)], "sum") as (loop, _):
            loop.carry(b.fadd(loop.values[0], e.vector_at(e.at(place, loop.index))))
        total = self._at_least_tiny(e.total(loop.values[0], b.fadd))
        wide = e.broadcast(total)
        with self._vector(name="scale") as (loop, _):
            value = b.fdiv(e.vector_at(e.at(place, loop.index)), wide)
            e.put_vector(value, e.at(into, loop.index))
        return total

    def _at_least_tiny(self, value: Value) -> Value:
        b, tiny = self.e.builder, ir.Constant(self.e.math.scalar, self.e.math.form.tiny)
        return b.select(b.fcmp_ordered("<", value, tiny), tiny, value)

    def _product(self, numbers: Value, matrix: Value, unit: Value) -> Value:
        """A vector of the product of numbers with a matrix."""
        e, b = self.e, self.e.builder
        zero = e.math.const(0.0)

        def join(total: Value, factor: Value, vector: Value) -> Value:
            return e.math.fma(factor, vector, total)

        sums = self._joined(numbers, matrix, unit, zero, join)
        while len(sums) > 1:
            sums = [b.fadd(x, y) for x, y in zip(sums[::2], sums[1::2], strict=True)]
        return sums[0]

    def _wide(self, value: Value) -> Value:
        return value if value.type == self.double else self.e.builder.fpext(value, self.double)

    def _log(self, value: Value) -> Value:
        """The logarithm of a number, in float64: there are as many of them as steps."""
        b = self.e.builder
        undefined = ir.Constant(self.logs.vector, ir.Undefined)
        place = ir.Constant(ir.IntType(32), 0)
        both = b.insert_element(undefined, self._wide(value), place)
        return b.extract_element(self.logs.log(both), place)

    def _backward(self, row: Value, count: Value) -> None:
        """Nodes and edges of a row, from its last step to its first."""
        e, b = self.e, self.e.builder
        twice = b.mul(e["steps"], number(2))
        self.after = self._place(twice)
        self.onward = self._place(b.add(twice, number(1)))
        self.pairs = self._place(b.add(twice, number(2)))
        with self._vector(name="end") as (loop, _):
            e.put_vector(e.vector_at(e.at(e["end"], loop.index)), e.at(self.after, loop.index))
        whole = b.mul(e["tags"], self.width)
        with e.loop(number(0), whole, number(e.lanes), name="zero") as loop:
            e.put_vector(e.math.const(0.0), e.at(self.pairs, loop.index))
        with e.loop(number(1), count, number(1), name="back") as loop:
            t = b.sub(count, loop.index)
            self._nodes(t, row)
            self._step_back(t)
        self._nodes(number(0), row)
        self._edges(row, self.pairs)

    def _nodes(self, t: Value, row: Value) -> None:
        """The probabilities of the tags of a step."""
        e, b = self.e, self.e.builder
        sums, out = self._sums(t), self._step("nodes", t, row)
        wide = e.broadcast(self._meeting(sums))
        with self._vector(name="node") as (loop, mask):
            value = b.fmul(
                e.vector_at(e.at(sums, loop.index)), e.vector_at(e.at(self.after, loop.index))
            )
            e.store_units(b.fdiv(value, wide), e.at(out, loop.index), mask)

    def _meeting(self, sums: Value) -> Value:
        """The sum over the tags of a step of the sums before it times those behind."""
        e, b = self.e, self.e.builder
        with self._vector([e.math.const(0.0)], "meet") as (loop, _):
            after = e.vector_at(e.at(self.after, loop.index))
            loop.carry(e.math.fma(e.vector_at(e.at(sums, loop.index)), after, loop.values[0]))
        return self._at_least_tiny(e.total(loop.values[0], b.fadd))

    def _step_back(self, t: Value) -> None:
        """From the sums behind step t to those behind the one before; adds to the edges."""
        e, b = self.e, self.e.builder
        shares, before = self._shares(t), self._sums(b.sub(t, number(1)))
        with self._vector(name="onward") as (loop, _):
            value = b.fmul(
                e.vector_at(e.at(shares, loop.index)), e.vector_at(e.at(self.after, loop.index))
            )
            e.put_vector(value, e.at(self.onward, loop.index))
        with self._vector(name="behind") as (loop, _):
            value = self._product(self.onward, e["onto"], loop.index)
            e.put_vector(value, e.at(self.after, loop.index))
        factor = b.fdiv(ir.Constant(e.math.scalar, 1.0), self._meeting(before))
        with e.loop(number(0), e["tags"], number(1), name="from") as loop:
            wide = e.broadcast(b.fmul(b.load(e.at(before, loop.index)), factor))
            start = e.at(self.pairs, b.mul(loop.index, self.width))
            with self._vector(name="to") as (inner, _):
                place = e.at(start, inner.index)
                onward = e.vector_at(e.at(self.onward, inner.index))
                e.put_vector(e.math.fma(wide, onward, e.vector_at(place)), place)
        self._scale(self.after, self.after)

    def _edges(self, row: Value, pairs: Value | None) -> None:
        """What was added up, times the ways; zeros for a row without steps."""
        e, b = self.e, self.e.builder
        tags = e["tags"]
        base = e.at(e["edges"], b.mul(row, b.mul(tags, tags)))
        with e.loop(number(0), tags, number(1), name="edge") as loop:
            out, start = e.at(base, b.mul(loop.index, tags)), b.mul(loop.index, self.width)
            with self._vector(name="of") as (inner, mask):
                value = e.math.const(0.0)
                if pairs is not None:
                    way = e.vector_at(e.at(e["ways"], start, inner.index))
                    value = b.fmul(e.vector_at(e.at(pairs, start, inner.index)), way)
                e.store_units(value, e.at(out, inner.index), mask)

    def _behind(self, row: Value, count: Value) -> None:
        e = self.e
        if not self.both:
            return
        with e.loop(count, e["steps"], number(1), name="rest") as loop:
            out = self._step("nodes", loop.index, row)
            with self._vector(name="none") as (inner, mask):
                e.store_units(e.math.const(0.0), e.at(out, inner.index), mask)


class _Best(_Chain):
    """The best score to every tag at every step, and the path back from the last."""

    def _vectors(self) -> Value:
        return self.e["steps"]

    def _nothing(self, row: Value) -> None:
        e, b = self.e, self.e.builder
        b.store(ir.Constant(e.math.scalar, 0.0), e.at(e["total"], row))

    def _row(self, row: Value, count: Value) -> None:
        e, b = self.e, self.e.builder
        first = self._step("emissions", number(0), row)
        with self._vector(name="first") as (loop, mask):
            begin = e.vector_at(e.at(e["start"], loop.index))
            value = b.fadd(self._emission(first, loop.index, mask), begin)
            e.put_vector(value, e.at(self._place(number(0)), loop.index))
        with e.loop(number(1), count, number(1), name="t") as step:
            t = step.index
            emissions, before = self._step("emissions", t, row), self._place(b.sub(t, number(1)))
            into = self._place(t)
            with self._vector(name="to") as (loop, mask):
                best = self._best(before, loop.index)
                value = b.fadd(best, self._emission(emissions, loop.index, mask))
                e.put_vector(value, e.at(into, loop.index))
        last = self._place(b.sub(count, number(1)))
        tag, total = self._most(last, e["end"])
        b.store(total, e.at(e["total"], row))
        self._back(row, count, tag)

    def _best(self, before: Value, unit: Value) -> Value:
        """The best score of all ways to a vector of tags."""
        e, b = self.e, self.e.builder

        def join(best: Value, score: Value, vector: Value) -> Value:
            return self._larger(best, b.fadd(score, vector))

        found = self._joined(before, e["ways"], unit, e.math.const(-math.inf), join)
        while len(found) > 1:
            found = [self._larger(x, y) for x, y in zip(found[::2], found[1::2], strict=True)]
        return found[0]

    def _most(self, scores: Value, added: Value) -> tuple[Value, Value]:
        """The first tag with the largest sum of two rows of numbers, and that sum."""
        e, b = self.e, self.e.builder
        begin = [number(0), self.minus_infinity]
        with e.loop(number(0), e["tags"], number(1), begin, "most") as loop:
            tag, best = loop.values
            value = b.fadd(b.load(e.at(scores, loop.index)), b.load(e.at(added, loop.index)))
            better = b.fcmp_ordered(">", value, best)
            loop.carry(b.select(better, loop.index, tag), b.select(better, value, best))
        tag, best = loop.values
        return tag, best

    def _back(self, row: Value, count: Value, tag: Value) -> None:
        e, b = self.e, self.e.builder
        last = b.sub(count, number(1))
        b.store(tag, self._path(last, row))
        with e.loop(number(0), last, number(1), [tag], "back") as loop:
            t = b.sub(b.sub(last, number(1)), loop.index)
            to = e.at(e["onto"], b.mul(loop.values[0], self.width))
            before, _ = self._most(self._place(t), to)
            b.store(before, self._path(t, row))
            loop.carry(before)

    def _path(self, t: Value, row: Value) -> Value:
        e, b = self.e, self.e.builder
        return e.at(e["path"], b.add(b.mul(t, e["rows"]), row))

    def _behind(self, row: Value, count: Value) -> None:
        e, b = self.e, self.e.builder
        with e.loop(count, e["steps"], number(1), name="rest") as loop:
            b.store(number(-1), self._path(loop.index, row))

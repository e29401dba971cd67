"""What the LLVM emitters share: tiles, named buffers, loops, masked rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import llvmlite.ir as ir

from holdfast.compiler.emit.llvm_math import SPELLINGS, Format, Value, VectorMath
from holdfast.compiler.emit.target import Target
from holdfast.compiler.graph import Node

I1 = ir.IntType(1)
I32 = ir.IntType(32)
I64 = ir.IntType(64)
BYTE_POINTER = ir.IntType(8).as_pointer()


def number(value: int) -> Value:
    """A 64-bit integer constant."""
    return ir.Constant(I64, value)


@dataclass(frozen=True)
class Sizes:
    """What a kernel is specialized for: I, H, heads of the recurrence, P of the projection."""

    input: int
    hidden: int
    heads: int = 1
    projection: int = 0
    """Features of the output; 0 for H itself."""
    given: int = 0
    """Numbers that a row of the input holds behind the I that W multiplies."""
    few: int = 0
    """Rows at most that a kernel is for which multiplies x for many steps at once; 0 for the
    kernel that serves any number of rows."""
    narrow: str = ""
    """How W and R are stored: one of `llvm_narrow.BITS`, or in the kernel's own format."""

    @property
    def output(self) -> int:
        """Features of the output."""
        return self.projection or self.hidden

    @property
    def depth(self) -> int:
        """Units that R of one unit multiplies."""
        return self.output // self.heads


@dataclass(frozen=True)
class Tile:
    """How a product is cut for the registers of a target."""

    lanes: int
    vectors: int
    """Vectors of units that are accumulated together."""
    rows: int
    """Rows of the batch that are accumulated together."""
    blocks: int
    """Blocks of `vectors * lanes` units that cover H."""
    budget: int = 24
    """Registers for accumulators."""

    @property
    def units(self) -> int:
        """Units of one block."""
        return self.lanes * self.vectors

    @property
    def padded(self) -> int:
        """H rounded up to whole blocks."""
        return self.units * self.blocks


def tile(hidden_size: int, sums: int, lanes: int, budget: int, width: int = 0) -> Tile:
    """The tile for `sums` accumulators per row and vector.

    Where a cell has few sums, several vectors of units share a block, as far as they divide H
    without waste.

    Arguments:
        budget: registers for accumulators.
        width: units of a head, which blocks must not straddle; 0 where there is just one.
    """
    vectors = -(-hidden_size // lanes)
    whole = width // lanes or vectors
    shared = next(n for n in (4, 3, 2, 1) if whole % n == 0 and (n * sums <= 4 or n == 1))
    rows = max(1, min(12, budget // (sums * shared)))
    return Tile(lanes, shared, rows, vectors // shared, budget)


def register_budget(target: Target) -> int:
    """Registers for accumulators: three quarters; the rest holds weights."""
    return target.registers * 3 // 4


@dataclass
class Loop:
    """A counted loop under construction: its index and its carried values."""

    index: Value
    values: list[Value]
    following: list[Value] = field(default_factory=list)

    def carry(self, *values: Value) -> None:
        """What the carried values are in the next turn, and after the loop."""
        self.following = list(values)


class Emitter:
    """One function under construction: buffers by name, loops, vector loads and stores."""

    def __init__(
        self,
        module: ir.Module,
        function: ir.Function,
        names: Sequence[str],
        form: Format,
        hidden_size: int,
        lanes: int,
    ) -> None:
        self.module = module
        self.function = function
        self.hidden_size = hidden_size
        self.lanes = lanes
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        self.math = VectorMath(module, self.builder, form, lanes)
        self.slots: dict[str, Value] = dict(zip(names, function.args, strict=True))
        self.masked = hidden_size % lanes != 0
        self.mask_type = ir.VectorType(I1, lanes)

    def __getitem__(self, name: str) -> Value:
        """The buffer or the size of that name."""
        return self.slots[name]

    @contextmanager
    def loop(
        self, start: Value, stop: Value, step: Value, carried: Sequence[Value] = (), name: str = "l"
    ) -> Iterator[Loop]:
        """`for index in range(start, stop, step)`; `loop.values` holds the results afterwards."""
        b = self.builder
        before = b.block
        head = b.append_basic_block(f"{name}.head")
        body = b.append_basic_block(f"{name}.body")
        after = b.append_basic_block(f"{name}.after")
        b.branch(head)
        b.position_at_end(head)
        index = b.phi(I64, name)
        index.add_incoming(start, before)
        phis = [b.phi(value.type) for value in carried]
        for phi, value in zip(phis, carried, strict=True):
            phi.add_incoming(value, before)
        b.cbranch(b.icmp_signed("<", index, stop), body, after)
        b.position_at_end(body)
        loop = Loop(index, list(phis))
        yield loop
        following = b.add(index, step)
        index.add_incoming(following, b.block)
        for phi, value in zip(phis, loop.following, strict=True):
            phi.add_incoming(value, b.block)
        b.branch(head)
        b.position_at_end(after)

    @contextmanager
    def apart(self, name: str, values: Sequence[Value]) -> Iterator[list[Value]]:
        """Write what follows into a function of its own, called here once.

        It has registers of its own, so that constants stay in them, whatever surrounds the call.

        Arguments:
            values: what the function is given besides the slots; it is called differently inside.
        """
        given = [*self.slots.values(), *values]
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in given])
        function = ir.Function(self.module, kind, name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        separate(function)
        outside, slots = self.builder, self.slots
        self.builder = self.math.builder = ir.IRBuilder(function.append_basic_block("entry"))
        self.slots = dict(zip(slots, function.args, strict=False))
        yield list(function.args[len(slots) :])
        self.builder.ret_void()
        self.builder, self.slots = outside, slots
        self.math.builder = outside
        outside.call(function, given)

    def cases(self, value: Value, count: int, emit: Callable[[int], None], first: int = 1) -> None:
        """A switch over `first .. count`, with code for each; nothing for other values."""
        b = self.builder
        after = b.append_basic_block("cases.after")
        switch = b.switch(value, after)
        for case in range(first, count + 1):
            block = b.append_basic_block(f"case{case}")
            switch.add_case(number(case), block)
            b.position_at_end(block)
            emit(case)
            b.branch(after)
        b.position_at_end(after)

    def minimum(self, x: Value, y: Value) -> Value:
        """The smaller of two integers."""
        return self.builder.select(self.builder.icmp_signed("<", x, y), x, y)

    def at(self, pointer: Value, *terms: Value | int) -> Value:
        """A pointer moved by the sum of the terms, in elements."""
        total: Value = None
        for term in terms:
            value = number(term) if isinstance(term, int) else term
            total = value if total is None else self.builder.add(total, value)
        return self.builder.gep(pointer, [total])

    def times(self, value: Value, factor: int) -> Value:
        """An integer times a constant."""
        return self.builder.mul(value, number(factor))

    def vector_at(self, pointer: Value) -> Value:
        """All lanes from memory."""
        wide = self.builder.bitcast(pointer, self.math.vector.as_pointer())
        return self.builder.load(wide, align=self.math.form.itemsize)

    def put_vector(self, value: Value, pointer: Value) -> None:
        """All lanes to memory."""
        wide = self.builder.bitcast(pointer, self.math.vector.as_pointer())
        self.builder.store(value, wide, align=self.math.form.itemsize)

    def broadcast(self, scalar: Value) -> Value:
        """One number in every lane."""
        undefined = ir.Constant(self.math.vector, ir.Undefined)
        single = self.builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(single, undefined, zeros)

    def first_lane(self, vector: Value) -> Value:
        """The number in lane 0."""
        return self.builder.extract_element(vector, ir.Constant(I32, 0))

    def total(self, vector: Value, join: Callable[[Value, Value], Value]) -> Value:
        """All lanes joined, by halves."""
        undefined = ir.Constant(vector.type, ir.Undefined)
        lanes = self.lanes
        while lanes > 1:
            lanes //= 2
            upper = [lanes + n if n < lanes else n for n in range(self.lanes)]
            order = ir.Constant(ir.VectorType(I32, self.lanes), upper)
            vector = join(vector, self.builder.shuffle_vector(vector, undefined, order))
        return self.first_lane(vector)

    def unit_mask(self, unit: Value) -> Value | None:
        """Which lanes are units, for a vector that starts at `unit`; None when all always are."""
        return self.units_below(unit, number(self.hidden_size)) if self.masked else None

    def units_below(self, unit: Value, limit: Value) -> Value:
        """Which of the lanes `unit, unit + 1 ...` are below a limit."""
        start, stop = self.spread(unit), self.spread(limit)
        lanes = ir.Constant(start.type, list(range(self.lanes)))
        return self.builder.icmp_signed("<", self.builder.add(start, lanes), stop)

    def spread(self, value: Value) -> Value:
        """One integer in every lane."""
        undefined = ir.Constant(ir.VectorType(value.type, self.lanes), ir.Undefined)
        single = self.builder.insert_element(undefined, value, ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(single, undefined, zeros)

    def load_units(self, pointer: Value, mask: Value | None) -> Value:
        """A vector of units from a row of exactly H elements; zero beyond its end."""
        if mask is None:
            return self.vector_at(pointer)
        math = self.math
        return self.load_masked(pointer, mask, math.const(0.0), math.suffix, math.form.itemsize)

    def store_units(self, value: Value, pointer: Value, mask: Value | None) -> None:
        """A vector of units to a row of exactly H elements; nothing beyond its end."""
        if mask is None:
            self.put_vector(value, pointer)
            return
        self.store_masked(value, pointer, mask, self.math.suffix, self.math.form.itemsize)

    def load_masked(
        self, pointer: Value, mask: Value, other: Value, suffix: str, itemsize: int
    ) -> Value:
        """The lanes of a vector in memory that the mask names, of `other` the rest.

        Arguments:
            suffix: of the intrinsic, as LLVM names the vector. itemsize: bytes of an element.
        """
        vector = other.type
        wide = self.builder.bitcast(pointer, vector.as_pointer())
        kinds = [vector.as_pointer(), I32, self.mask_type, vector]
        function = self._masked("load", suffix, ir.FunctionType(vector, kinds))
        return self.builder.call(function, [wide, ir.Constant(I32, itemsize), mask, other])

    def store_masked(
        self, value: Value, pointer: Value, mask: Value, suffix: str, itemsize: int
    ) -> None:
        """The lanes of a vector that the mask names to memory; arguments as `load_masked`."""
        vector = value.type
        wide = self.builder.bitcast(pointer, vector.as_pointer())
        kinds = [vector, vector.as_pointer(), I32, self.mask_type]
        function = self._masked("store", suffix, ir.FunctionType(ir.VoidType(), kinds))
        self.builder.call(function, [value, wide, ir.Constant(I32, itemsize), mask])

    def _masked(self, verb: str, suffix: str, kind: ir.FunctionType) -> ir.Function:
        name = f"llvm.masked.{verb}.{suffix}.p0"
        found = self.module.globals.get(name)
        return found if found is not None else ir.Function(self.module, kind, name)

    def evaluate(
        self, root: Node, values: dict[Node, Value], load: Callable[[Node], Value]
    ) -> Value:
        """The value of a node: loaded where `load` knows it, computed from its inputs elsewhere."""
        if root not in values:
            loaded = load(root)
            if loaded is None:
                inputs = [self.evaluate(child, values, load) for child in root.inputs]
                loaded = SPELLINGS[root.op](self.math, *inputs)
            values[root] = loaded
        return values[root]


def renewed(
    sums: Sequence[Sequence[Value]], columns: Sequence[int], values: Sequence[Value]
) -> list[list[Value]]:
    """Sums `[row][column]` of which some columns are other values, row after row."""
    result = [list(row) for row in sums]
    for n, value in enumerate(values):
        row, place = divmod(n, len(columns))
        result[row][columns[place]] = value
    return result


def external(
    module: ir.Module, name: str, result: ir.Type, arguments: Sequence[ir.Type]
) -> ir.Function:
    """A function that is defined elsewhere, by name."""
    found = module.globals.get(name)
    kind = ir.FunctionType(result, list(arguments))
    return found if found is not None else ir.Function(module, kind, name)


def user_row(emitter: Emitter, row: Value) -> Value:
    """Where a live row lies among the user's: `index[row]`, or the same where `indexed` is 0.

    `index` always points to something: without a branch, its first element is read in vain.
    """
    b = emitter.builder
    indexed = emitter["indexed"]
    found = b.load(emitter.at(emitter["index"], b.and_(row, indexed)))
    return b.select(b.icmp_signed("!=", indexed, number(0)), found, row)


def rows_alive(emitter: Emitter, t: Value) -> Value:
    """Rows of step t: all of them, or what `counts` says."""
    b = emitter.builder
    counts = emitter["counts"]
    dense = b.icmp_signed("==", b.ptrtoint(counts, I64), number(0))
    with b.if_else(dense) as (then, otherwise):
        with then:
            full, full_block = emitter["batch"], b.block
        with otherwise:
            some, some_block = b.load(emitter.at(counts, t)), b.block
    alive = b.phi(I64, "alive")
    alive.add_incoming(full, full_block)
    alive.add_incoming(some, some_block)
    return alive


def new_module(target: Target) -> ir.Module:
    """An empty module for a target."""
    module = ir.Module("holdfast")
    module.triple = target.triple
    return module


def declare_body(module: ir.Module, kinds: Mapping[str, ir.Type]) -> ir.Function:
    """The function that holds a kernel's loops; its pointers never overlap."""
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), list(kinds.values())), "body")
    function.linkage = "internal"
    separate(function)
    return function


def separate(function: ir.Function) -> None:
    """Promise that a function's pointers never overlap."""
    for argument in function.args:
        if isinstance(argument.type, ir.PointerType):
            argument.add_attribute("noalias")

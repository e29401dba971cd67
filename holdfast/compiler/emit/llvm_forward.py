"""The forward time loop in LLVM IR.

Loop order: time, block of hidden units, rows of the batch. For some rows and one block of units all
affine sums of a cell are accumulated together in registers, over `[x_t, h_{t-1}]`, from packed
weights; the step graph follows on vectors of units. The further states are updated in place; for
training, their sequences and what the plan keeps are stored too.

Packed weights are `[blocks][depth][sums][vectors][lanes]`, see `llvm.pack_forward`.
"""

from __future__ import annotations

import llvmlite.ir as ir

from holdfast.compiler.emit.llvm_loops import (
    I64,
    Emitter,
    Loop,
    Tile,
    declare_body,
    meet,
    number,
    product,
    rows_alive,
    share,
)
from holdfast.compiler.emit.llvm_math import Format, Value
from holdfast.compiler.graph import Node
from holdfast.compiler.plan import Plan

SIZES = ("counts", "arrived", "steps", "batch", "by_block")
"""Rows alive at each step `[T]` or null, the threads' counter, T, B, and whether threads share the
units of a row rather than the rows."""


def size_kinds() -> dict[str, ir.Type]:
    """Types of the slots for sizes."""
    pointers = ("counts", "arrived")
    return {name: I64.as_pointer() if name in pointers else I64 for name in SIZES}


def forward_slots(plan: Plan, mode: str) -> list[str]:
    """Names of a forward kernel's slots in order; pointers, then sizes."""
    names = ["x", "h_first", "out", "weights_x", "weights_h", "bias", "units"]
    names += [f"state {name}" for name in plan.states]
    if mode == "train":
        names += ["saved", *(f"sequence {name}" for name in plan.states)]
    return [*names, *SIZES]


class ForwardEmitter:
    """Emits the body of one forward kernel.

    Arguments:
        plan: the cell's plan.
        form, input_size, hidden_size: what the kernel is specialized for.
        mode: `infer`, `train` (stores sequences and saved values) or `step` (T is 1).
    """

    def __init__(
        self,
        module: ir.Module,
        plan: Plan,
        form: Format,
        input_size: int,
        hidden_size: int,
        tile: Tile,
        mode: str,
    ) -> None:
        self.plan = plan
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.tile = tile
        self.mode = mode
        self.previous: Value = None
        """Rows of the previous output, inside the time loop."""
        scalar = ir.FloatType() if form.bits == 32 else ir.DoubleType()
        names = forward_slots(plan, mode)
        kinds: dict[str, ir.Type] = {name: scalar.as_pointer() for name in names}
        kinds |= size_kinds()
        self.kinds = kinds | {"thread": I64, "threads": I64}
        self.function = declare_body(module, self.kinds)
        self.e = Emitter(module, self.function, list(self.kinds), form, hidden_size, tile.lanes)
        self.sums = len(plan.accumulators)
        self.from_x = [n for n, acc in enumerate(plan.accumulators) if acc.x]
        self.from_h = [n for n, acc in enumerate(plan.accumulators) if acc.h]
        count = tile.rows * self.sums * tile.vectors
        self.scratch = self.e.builder.alloca(self.e.math.vector, count, name="scratch")

    def emit(self) -> None:
        """Write the whole body."""
        e = self.e
        self.share = share(e, self.tile)
        if self.mode == "step":
            self.previous = e["h_first"]
            self._step(number(0), e["batch"])
            e.builder.ret_void()
            return
        first = [number(0), e["h_first"]]
        with e.loop(number(0), e["steps"], number(1), first, "t") as time:
            offset, self.previous = time.values
            alive = rows_alive(e, time.index)
            self._step(offset, alive)
            meet(e, time.index)
            time.carry(
                e.builder.add(offset, alive),
                e.at(e["out"], e.times(offset, self.hidden_size)),
            )
        e.builder.ret_void()

    def _step(self, offset: Value, alive: Value) -> None:
        """One time step, whose rows begin at `offset`."""
        e = self.e
        mine = self.share
        limit = e.minimum(mine.end, alive)
        with (
            e.loop(mine.first_block, mine.last_block, number(1), name="j") as block,
            e.loop(mine.start, limit, mine.stride, name="r") as rows,
        ):
            self._rows(offset, block.index, rows.index, limit)

    def _rows(self, offset: Value, block: Value, row: Value, limit: Value) -> None:
        e = self.e
        count = e.minimum(number(self.tile.rows), e.builder.sub(limit, row))

        def products(rows: int) -> None:
            self._products(rows, offset, block, row)

        e.cases(count, self.tile.rows, products)
        with e.loop(number(0), count, number(1), name="q") as inner:
            self._cell(inner, offset, block, row)

    def _products(self, rows: int, offset: Value, block: Value, row: Value) -> None:
        """The affine sums of `rows` rows and one block of units, to scratch."""
        e, tile, vectors = self.e, self.tile, self.tile.vectors
        width = self.sums * vectors
        bias = e.at(e["bias"], e.times(block, width * tile.lanes))
        initial = [e.vector_at(e.at(bias, n * tile.lanes)) for n in range(width)]
        sums = [list(initial) for _ in range(rows)]
        for source, weights, depth, members, base in (
            ("x", "weights_x", self.input_size, self.from_x, offset),
            ("h", "weights_h", self.hidden_size, self.from_h, number(0)),
        ):
            columns = [n * vectors + v for n in members for v in range(vectors)]
            pointer = e["x"] if source == "x" else self.previous
            packed = e.at(e[weights], e.times(block, depth * len(columns) * tile.lanes))
            starts = [
                e.at(pointer, e.times(e.builder.add(e.builder.add(base, row), number(q)), depth))
                for q in range(rows)
            ]
            sums = product(e, sums, packed, starts, depth, columns, len(columns))
        for q in range(rows):
            for n in range(width):
                e.builder.store(sums[q][n], self._scratch_at(number(q * width + n)))

    def _scratch_at(self, index: Value) -> Value:
        return self.e.builder.gep(self.scratch, [index])

    def _cell(self, inner: Loop, offset: Value, block: Value, row: Value) -> None:
        """The step graph for one row and one block of units."""
        e = self.e
        batch_row = e.builder.add(row, inner.index)
        memory_row = e.builder.add(offset, batch_row)
        for v in range(self.tile.vectors):
            unit = e.builder.add(e.times(block, self.tile.units), number(v * self.tile.lanes))
            self._vector(v, unit, inner.index, batch_row, memory_row)

    def _vector(
        self, v: int, unit: Value, inner: Value, batch_row: Value, memory_row: Value
    ) -> None:
        e, hidden = self.e, self.hidden_size
        mask = e.unit_mask(unit)
        carried = e.builder.add(e.times(batch_row, hidden), unit)
        width = self.sums * self.tile.vectors

        def load(node: Node) -> Value | None:
            if node.op == "const":
                return e.math.const(node.value)
            if node.op == "gate":
                leaves = [acc.leaf for acc in self.plan.accumulators]
                column = leaves.index(node.name) * self.tile.vectors + v
                index = e.builder.add(e.times(inner, width), number(column))
                return e.builder.load(self._scratch_at(index))
            if node.op == "weight":
                position = self.plan.weights.index(node.name) * self.tile.padded
                return e.vector_at(e.at(e["units"], unit, position))
            if node.op == "state" and node.name == "h":
                return self._previous_h(batch_row, unit, mask)
            if node.op == "state":
                return e.load_units(e.at(e[f"state {node.name}"], carried), mask)
            return None

        values: dict[Node, Value] = {}
        results = {
            name: e.evaluate(node, values, load) for name, node in self.plan.forward.outputs.items()
        }
        target = e.builder.add(e.times(memory_row, hidden), unit)
        e.store_units(results["h"], e.at(e["out"], target), mask)
        for name in self.plan.states:
            e.store_units(results[name], e.at(e[f"state {name}"], carried), mask)
        if self.mode == "train":
            for name in self.plan.states:
                e.store_units(results[name], e.at(e[f"sequence {name}"], target), mask)
            for n, node in enumerate(self.plan.saved):
                value = e.evaluate(node, values, load)
                start = e.times(memory_row, len(self.plan.saved) * hidden)
                place = e.at(e["saved"], start, unit, n * hidden)
                e.store_units(value, place, mask)

    def _previous_h(self, batch_row: Value, unit: Value, mask: Value | None) -> Value:
        e = self.e
        start = e.builder.add(e.times(batch_row, self.hidden_size), unit)
        return e.load_units(e.at(self.previous, start), mask)

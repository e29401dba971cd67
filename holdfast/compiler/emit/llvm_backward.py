"""The backward time loop in LLVM IR.

Time runs backwards. For some rows and one block of units `d_gate_{t+1} R` is accumulated in
registers (packed `[blocks][sums * H][vectors][lanes]`), then the backward step graph follows on
vectors: it loads what the plan kept, computes the rest again, and stores the gradient of each
affine sum. Gradients of biases and per-unit weights are summed on the way, one buffer a thread.
The large products for W, R and x come after the loop, outside.
"""

from __future__ import annotations

import llvmlite.ir as ir

from holdfast.compiler.emit.llvm_forward import SIZES, size_kinds
from holdfast.compiler.emit.llvm_loops import (
    I64,
    Emitter,
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


def backward_slots(plan: Plan) -> list[str]:
    """Names of a backward kernel's slots in order; pointers, then sizes."""
    names = ["out", "h_first", "saved", "weights_h", "units", "d_out", "d_gates", "d_h"]
    names += ["d_bias", "d_units"]
    for name in plan.states:
        names += [f"sequence {name}", f"first {name}", f"d_sequence {name}", f"d_state {name}"]
    return [*names, *SIZES, *gradient_strides(plan)]


def gradient_strides(plan: Plan) -> list[str]:
    """Sizes: elements between rows of an incoming gradient, 0 where one row of zeros serves all."""
    return ["ld d_out", *(f"ld d_sequence {name}" for name in plan.states)]


class BackwardEmitter:
    """Emits the body of one backward kernel; arguments as `ForwardEmitter`."""

    def __init__(
        self, module: ir.Module, plan: Plan, form: Format, hidden_size: int, tile: Tile
    ) -> None:
        self.plan = plan
        self.hidden_size = hidden_size
        self.tile = tile
        scalar = ir.FloatType() if form.bits == 32 else ir.DoubleType()
        kinds: dict[str, ir.Type] = {name: scalar.as_pointer() for name in backward_slots(plan)}
        kinds |= size_kinds() | dict.fromkeys(gradient_strides(plan), I64)
        self.kinds = kinds | {"thread": I64, "threads": I64}
        self.function = declare_body(module, self.kinds)
        self.e = Emitter(module, self.function, list(self.kinds), form, hidden_size, tile.lanes)
        self.sums = len(plan.accumulators)
        self.members = [n for n, acc in enumerate(plan.accumulators) if acc.h]
        count = tile.rows * tile.vectors
        self.scratch = self.e.builder.alloca(self.e.math.vector, count, name="scratch")
        self.places: dict[str, Value] = {}
        """Row offsets `now`, `before` and `after`; `first` says there is no step before."""

    def emit(self) -> None:
        """Write the whole body."""
        e, b = self.e, self.e.builder
        mine = share(e, self.tile)
        carried = [self._total_rows(), number(0)]
        with e.loop(number(0), e["steps"], number(1), carried, "t") as time:
            after, alive_after = time.values
            t = b.sub(b.sub(e["steps"], number(1)), time.index)
            alive = rows_alive(e, t)
            now = b.sub(after, alive)
            self.places = {"now": now, "after": after, "first": b.icmp_signed("==", t, number(0))}
            earlier = b.select(self.places["first"], t, b.sub(t, number(1)))
            self.places["before"] = b.sub(now, rows_alive(e, earlier))
            limit = e.minimum(mine.end, alive)
            with (
                e.loop(mine.first_block, mine.last_block, number(1), name="j") as block,
                e.loop(mine.start, limit, mine.stride, name="r") as rows,
            ):
                self._rows(block.index, rows.index, limit, alive_after)
            meet(e, time.index)
            time.carry(now, alive)
        b.ret_void()

    def _total_rows(self) -> Value:
        """Live rows of the whole sequence."""
        e = self.e
        with e.loop(number(0), e["steps"], number(1), [number(0)], "total") as loop:
            loop.carry(e.builder.add(loop.values[0], rows_alive(e, loop.index)))
        return loop.values[0]

    def _rows(self, block: Value, row: Value, limit: Value, alive_after: Value) -> None:
        e, b = self.e, self.e.builder
        count = e.minimum(number(self.tile.rows), b.sub(limit, row))
        left = b.sub(alive_after, row)
        left = b.select(b.icmp_signed("<", left, number(0)), number(0), left)
        multiplied = e.minimum(count, left)
        vectors = self.tile.vectors
        with e.loop(multiplied, count, number(1), name="z") as fresh:
            for v in range(vectors):
                index = b.add(e.times(fresh.index, vectors), number(v))
                b.store(e.math.const(0.0), b.gep(self.scratch, [index]))
        e.cases(multiplied, self.tile.rows, lambda rows: self._products(rows, block, row))
        for v in range(vectors):
            unit = b.add(e.times(block, self.tile.units), number(v * self.tile.lanes))
            self._column(v, unit, row, count)

    def _products(self, rows: int, block: Value, row: Value) -> None:
        """`d_gate_{t+1} R` of `rows` rows and one block of units, to scratch."""
        e, b, tile = self.e, self.e.builder, self.tile
        vectors, hidden = tile.vectors, self.hidden_size
        sums = [[e.math.const(0.0)] * vectors for _ in range(rows)]
        packed = e.at(
            e["weights_h"], e.times(block, len(self.members) * hidden * vectors * tile.lanes)
        )
        for first, length in _runs(self.members):
            starts = []
            for q in range(rows):
                memory_row = b.add(b.add(self.places["after"], row), number(q))
                column = self.members[first] * hidden
                starts.append(e.at(e["d_gates"], e.times(memory_row, self.sums * hidden), column))
            weights = e.at(packed, first * hidden * vectors * tile.lanes)
            columns = list(range(vectors))
            sums = product(e, sums, weights, starts, length * hidden, columns, vectors)
        for q in range(rows):
            for v in range(vectors):
                b.store(sums[q][v], b.gep(self.scratch, [number(q * vectors + v)]))

    def _column(self, v: int, unit: Value, row: Value, count: Value) -> None:
        """One vector of units for `count` rows, summing bias and weight gradients on the way."""
        e, b = self.e, self.e.builder
        mask = e.unit_mask(unit)
        totals = self._totals(unit)
        initial = [e.vector_at(place) for place in totals]
        with e.loop(number(0), count, number(1), initial, "q") as inner:
            parts = self._vector(v, unit, mask, inner.index, b.add(row, inner.index))
            pairs = zip(inner.values, parts, strict=True)
            inner.carry(*(b.fadd(total, part) for total, part in pairs))
        for place, value in zip(totals, inner.values, strict=True):
            e.put_vector(value, place)

    def _totals(self, unit: Value) -> list[Value]:
        """Where this thread sums the gradients of the biases, then of the per-unit weights."""
        e = self.e
        places = []
        for buffer, members in (("d_bias", self.sums), ("d_units", len(self.plan.weights))):
            start = e.times(e["thread"], members * self.tile.padded)
            for n in range(members):
                places.append(e.at(e[buffer], start, unit, n * self.tile.padded))
        return places

    def _vector(
        self, v: int, unit: Value, mask: Value | None, inner: Value, row: Value
    ) -> list[Value]:
        """The backward step graph for one row and one vector; returns what is summed."""
        e, plan, hidden = self.e, self.plan, self.hidden_size
        values: dict[Node, Value] = {}
        position = e.builder.add(e.times(row, hidden), unit)

        def load(node: Node) -> Value | None:
            return self._load(node, v, unit, mask, inner, row)

        results = {
            name: e.evaluate(node, values, load) for name, node in plan.backward.outputs.items()
        }
        memory_row = e.builder.add(self.places["now"], row)
        target = e.builder.add(e.times(memory_row, self.sums * hidden), unit)
        gates = [results[f"d_gate {acc.leaf}"] for acc in plan.accumulators]
        for n, value in enumerate(gates):
            e.store_units(value, e.at(e["d_gates"], target, n * hidden), mask)
        for name in plan.states:
            e.store_units(results[f"d_state {name}"], e.at(e[f"d_state {name}"], position), mask)
        if plan.direct:
            e.store_units(results["d_state h"], e.at(e["d_h"], position), mask)
        return [*gates, *(results[f"d_weight {name}"] for name in plan.weights)]

    def _load(
        self, node: Node, v: int, unit: Value, mask: Value | None, inner: Value, row: Value
    ) -> Value | None:
        e, b, plan, hidden = self.e, self.e.builder, self.plan, self.hidden_size
        if node.op == "const":
            return e.math.const(node.value)
        if node.op == "weight":
            return e.vector_at(
                e.at(e["units"], unit, plan.weights.index(node.name) * self.tile.padded)
            )
        if node.op == "grad":
            return self._gradient(node.name.removeprefix("d_"), v, unit, mask, inner, row)
        memory_row = b.add(self.places["now"], row)
        saved = [kept.index for kept in plan.saved]
        if node.index in saved:
            start = e.times(memory_row, len(saved) * hidden)
            return e.load_units(
                e.at(e["saved"], start, unit, saved.index(node.index) * hidden), mask
            )
        if node in plan.available and node.op != "state":
            buffer = self._sequence(plan.available[node])
            return e.load_units(e.at(e[buffer], e.times(memory_row, hidden), unit), mask)
        if node.op == "state":
            return self._previous(node.name, unit, mask, row)
        return None

    def _sequence(self, name: str) -> str:
        return "out" if name == "h" else f"sequence {name}"

    def _previous(self, name: str, unit: Value, mask: Value | None, row: Value) -> Value:
        """A state before this step: from its sequence, or the first one."""
        e, b, hidden = self.e, self.e.builder, self.hidden_size
        first = e["h_first"] if name == "h" else e[f"first {name}"]
        earlier = e.at(e[self._sequence(name)], e.times(self.places["before"], hidden))
        base = b.select(self.places["first"], first, earlier)
        return e.load_units(e.at(base, e.times(row, hidden), unit), mask)

    def _gradient(
        self, name: str, v: int, unit: Value, mask: Value | None, inner: Value, row: Value
    ) -> Value:
        """The whole gradient of a new state: from the layer's results and from the step after."""
        e, b, hidden = self.e, self.e.builder, self.hidden_size
        slot = "d_out" if name == "h" else f"d_sequence {name}"
        memory_row = b.add(self.places["now"], row)
        outside = e.at(e[slot], b.mul(memory_row, e[f"ld {slot}"]), unit)
        total = e.load_units(outside, mask)
        position = b.add(e.times(row, hidden), unit)
        if name != "h":
            return b.fadd(total, e.load_units(e.at(e[f"d_state {name}"], position), mask))
        index = b.add(e.times(inner, self.tile.vectors), number(v))
        total = b.fadd(total, b.load(b.gep(self.scratch, [index])))
        if self.plan.direct:
            total = b.fadd(total, e.load_units(e.at(e["d_h"], position), mask))
        return total


def _runs(members: list[int]) -> list[tuple[int, int]]:
    """Neighbors among the sums as (first position, how many): each run is one product."""
    runs: list[tuple[int, int]] = []
    for position, member in enumerate(members):
        if runs and member == members[position - 1] + 1:
            first, length = runs[-1]
            runs[-1] = (first, length + 1)
        else:
            runs.append((position, 1))
    return runs

"""The backward time loop in LLVM IR.

Time runs backwards. For some rows and one block of units `d_gate_{t+1} R` is accumulated in
registers (packed `[blocks][sums * H][vectors][lanes]`), then the backward step graph follows on
vectors, or in sweeps where a unit needs others: it loads what the plan kept, computes the rest
again, and stores the gradient of each affine sum. Gradients of biases and per-unit weights are
summed on the way, one buffer a thread. The large products for W, R and x come after the loop,
outside.
"""

from __future__ import annotations

from functools import partial

import llvmlite.ir as ir

from holdfast.compiler.emit.llvm_forward import (
    SIZES,
    head_column,
    load_given,
    shared_slots,
    size_kinds,
)
from holdfast.compiler.emit.llvm_loops import (
    I32,
    I64,
    Emitter,
    Sizes,
    Tile,
    declare_body,
    number,
    rows_alive,
    tile,
    user_row,
)
from holdfast.compiler.emit.llvm_math import Format, Value
from holdfast.compiler.emit.llvm_noise import emit_mask, noise_kinds
from holdfast.compiler.emit.llvm_pairs import PAIRS, Pairs, words
from holdfast.compiler.emit.llvm_pairs import SLOT as ROUNDED
from holdfast.compiler.emit.llvm_products import element, product
from holdfast.compiler.emit.llvm_sweeps import Factor, Place, Sweeps, emit_pass
from holdfast.compiler.emit.llvm_team import meet, share
from holdfast.compiler.graph import Node
from holdfast.compiler.plan import Plan


def backward_slots(plan: Plan, sizes: Sizes) -> list[str]:
    """Names of a backward kernel's slots in order; pointers, then sizes.

    `following` counts the rows that go on after the last step. The gradients of their gates in the
    step that follows lie in `d_gates` where that step would lie: behind the last row, or, where
    offsets run down, before the first.
    """
    names = ["out", "h_first", "saved", "weights_h", "units", "d_out", "d_gates", "d_h"]
    names += ["d_bias", "d_units"]
    names += ["x"] if plan.inputs else []
    names += [f"d_input {name}" for name in plan.inputs]
    for name in plan.states:
        names += [f"sequence {name}", f"first {name}", f"d_sequence {name}", f"d_state {name}"]
    names += shared_slots(plan)
    if not plan.backward_sweeps.single:
        names += ["kept", "d_operand"]
    if sizes.projection:
        names += ["weights_r", "d_projected"]
    if sizes.narrow == PAIRS:
        names.append(ROUNDED)
    return [*names, *SIZES, "following", *gradient_strides(plan)]


def gates_stride(plan: Plan, sizes: Sizes) -> int:
    """Numbers between two rows of `d_gates`.

    Rows whole pages apart would share the few places that a first-level cache has for them.
    """
    width = len(plan.accumulators) * sizes.hidden
    return width + 16 if width % 512 == 0 else width


def gradient_strides(plan: Plan) -> list[str]:
    """Sizes: elements between rows of an incoming gradient, 0 where one row of zeros serves all."""
    return ["ld d_out", *(f"ld d_sequence {name}" for name in plan.states)]


class BackwardEmitter:
    """Emits the body of one backward kernel; arguments as `ForwardEmitter`."""

    def __init__(
        self, module: ir.Module, plan: Plan, form: Format, sizes: Sizes, tile: Tile
    ) -> None:
        self.plan = plan
        self.sizes = sizes
        self.hidden_size = sizes.hidden
        self.tile = tile
        scalar = ir.FloatType() if form.bits == 32 else ir.DoubleType()
        names = backward_slots(plan, sizes)
        kinds: dict[str, ir.Type] = {name: scalar.as_pointer() for name in names}
        kinds |= size_kinds() | dict.fromkeys(["following", *gradient_strides(plan)], I64)
        kinds |= noise_kinds(scalar) if plan.masks else {}
        kinds["weights_h"] = element(sizes.narrow, scalar).as_pointer()
        kinds |= {ROUNDED: I32.as_pointer()} if sizes.narrow == PAIRS else {}
        self.kinds = kinds | {"thread": I64, "threads": I64}
        self.function = declare_body(module, self.kinds)
        self.e = Emitter(module, self.function, list(self.kinds), form, sizes.hidden, tile.lanes)
        self.stride = gates_stride(plan, sizes)
        self.biased = biased(plan)
        sums = plan.accumulators
        self.members = [n for n, acc in enumerate(sums) if acc.h and not acc.inner]
        self.pairs = None
        if sizes.narrow == PAIRS:
            self.pairs = Pairs(self.e, [n * sizes.hidden for _, n in _runs(self.members)])
        parts = (self._load, self._give, self._totals)
        self.sweeps = Sweeps(self.e, tile, plan.backward_sweeps, *parts)
        self.saved = {node: n for n, node in enumerate(plan.saved)}
        self.shared = {node: n for n, node in enumerate(plan.shared)}
        count = tile.rows * tile.vectors
        self.scratch = self.e.builder.alloca(self.e.math.vector, count, name="scratch")
        self.places: dict[str, Value] = {}
        """Row offsets `now`, `before` and `after`; `first` says there is no step before."""

    def emit(self) -> None:
        """Write the whole body."""
        e, b = self.e, self.e.builder
        self.share = mine = share(e, self.tile)
        descending = b.icmp_signed("!=", e["descending"], number(0))
        end = b.select(descending, b.neg(e["batch"]), self._total_rows())
        carried = [end, e["following"]]
        with e.loop(number(0), e["steps"], number(1), carried, "t") as time:
            after, alive_after = time.values
            t = b.sub(b.sub(e["steps"], number(1)), time.index)
            alive = rows_alive(e, t)
            now = b.select(descending, b.add(after, e["batch"]), b.sub(after, alive))
            self.places = {"now": now, "after": after, "first": b.icmp_signed("==", t, number(0))}
            earlier = b.select(self.places["first"], t, b.sub(t, number(1)))
            before = b.sub(now, rows_alive(e, earlier))
            before = b.select(descending, b.add(now, e["batch"]), before)
            # Nothing is read in vain before the first row of an index.
            before = b.select(self.places["first"], now, before)
            self.places |= {"before": before, "t": t}
            limit, later = mine.limit(alive), mine.limit(alive_after)
            if self.pairs:
                self._round(later)
            if self.sizes.projection:
                self._unproject(limit, later)
            with (
                e.loop(mine.first_block, mine.last_block, number(1), name="j") as block,
                e.loop(number(0), limit, number(self.tile.rows), name="r") as rows,
            ):
                self._rows(block.index, rows.index, limit, later)
            if not self.plan.backward_sweeps.single:
                self._sweep(limit)
            meet(e, time.index)
            time.carry(now, alive)
        b.ret_void()

    def _round(self, later: Value) -> None:
        """The gradients of the gates of the step after this one, as R multiplies them."""
        e = self.e
        assert self.pairs is not None
        with e.loop(number(0), later, number(1), name="d") as turn:
            row = self.share.row(turn.index)
            start = e.times(e.builder.add(self.places["after"], row), self.stride)
            for part, (first, _) in enumerate(_runs(self.members)):
                column = self.members[first] * self.hidden_size
                self.pairs.prepare(row, part, e.at(e["d_gates"], start, column))

    def _sweep(self, limit: Value) -> None:
        schedule, mine = self.plan.backward_sweeps, self.share
        for group in schedule.groups:
            for node in schedule.sweeps[group[0]].products:
                emit_pass(self.sweeps, node, self._factor, mine, limit)
            self.sweeps.rows(group, mine, limit)

    def _factor(self, node: Node) -> Factor:
        """The gradient of the operand of a gate that is called."""
        e = self.e
        return Factor(
            node,
            lambda row, block: self.sweeps.at(
                node.inputs[0], row, head_column(e, self.sizes, self.tile, block)
            ),
            e[f"weights {node.name}"],
            self.hidden_size // self.sizes.heads,
            self.tile,
        )

    def _total_rows(self) -> Value:
        """Live rows of the whole sequence."""
        e = self.e
        with e.loop(number(0), e["steps"], number(1), [number(0)], "total") as loop:
            loop.carry(e.builder.add(loop.values[0], rows_alive(e, loop.index)))
        return loop.values[0]

    def _rows(self, block: Value, row: Value, limit: Value, later: Value) -> None:
        e, b = self.e, self.e.builder
        count = e.minimum(number(self.tile.rows), b.sub(limit, row))
        multiplied = count
        if not self.sizes.projection:
            multiplied = self._continuing(row, count, later)
        vectors = self.tile.vectors
        with e.loop(multiplied, count, number(1), name="z") as fresh:
            for v in range(vectors):
                here = self.share.row(b.add(row, fresh.index))
                place = self._operand_at(v, fresh.index, here, block)
                e.put_vector(e.math.const(0.0), place)
        e.cases(multiplied, self.tile.rows, partial(self._products, block, row))
        if not self.plan.backward_sweeps.single:
            return
        here, share = (self.scratch, self.places), self.share
        given = [block, row, count, *share.place, self.scratch, *self.places.values()]
        with e.apart("units", given) as (block, row, count, first, distance, scratch, *places):
            self.share = share.inside(first, distance)
            self.scratch, self.places = scratch, dict(zip(self.places, places, strict=True))
            with e.loop(number(0), number(vectors), number(1), name="v") as v:
                begin = e.times(block, self.tile.units)
                unit = e.builder.add(begin, e.times(v.index, self.tile.lanes))
                self._column(v.index, unit, row, count)
        self.share = share
        self.scratch, self.places = here

    def _continuing(self, row: Value, count: Value, later: Value) -> Value:
        """How many of the rows have a step after this one, as `later` of the thread's have."""
        b = self.e.builder
        left = b.sub(later, row)
        left = b.select(b.icmp_signed("<", left, number(0)), number(0), left)
        return self.e.minimum(count, left)

    def _operand_at(self, v: int, index: Value, row: Value, block: Value) -> Value:
        """Where the gradient that came through R lies: in registers, or in the row's memory.

        Arguments:
            index: the row within its chunk. row: the row of the batch.
        """
        e, b = self.e, self.e.builder
        if self.plan.backward_sweeps.single:
            place = b.add(e.times(index, self.tile.vectors), number(v))
            return b.bitcast(b.gep(self.scratch, [place]), e.math.scalar.as_pointer())
        unit = b.add(e.times(block, self.tile.units), number(v * self.tile.lanes))
        return e.at(e["d_operand"], e.times(row, self.tile.padded), unit)

    def _products(self, block: Value, row: Value, rows: int) -> None:
        """`d_gate_{t+1} R`, or with a projection `d_out W_hr`, for rows and one block of units."""
        e, b, tile = self.e, self.e.builder, self.tile
        here = [self.share.row(b.add(row, number(q))) for q in range(rows)]
        sums = [[e.math.const(0.0)] * tile.vectors for _ in here]
        columns = list(range(tile.vectors))
        if self.sizes.projection:
            depth = self.sizes.projection
            packed = e.at(e["weights_r"], e.times(block, depth * tile.units))
            starts = [self._projected(one) for one in here]
            sums = product(e, sums, packed, starts, depth, columns, tile.vectors)
        else:
            sums = self._through_r(sums, here, block, tile)
        for q in range(rows):
            for v in range(tile.vectors):
                e.put_vector(sums[q][v], self._operand_at(v, number(q), here[q], block))

    def _through_r(
        self, sums: list[list[Value]], here: list[Value], block: Value, cut: Tile
    ) -> list[list[Value]]:
        """Add `d_gate_{t+1} R` to sums, for one block of what R multiplies."""
        e, b = self.e, self.e.builder
        columns = list(range(cut.vectors))
        depth = self.hidden_size // self.sizes.heads
        if self.pairs:
            distance = words(len(self.members) * depth) * cut.units
            packed = e.at(e["weights_h"], e.times(block, distance))
            for part, (first, _) in enumerate(_runs(self.members)):
                weights = e.at(packed, words(first * depth) * cut.units)
                sums = self.pairs.product(sums, weights, here, part, columns)
            return sums
        packed = e.at(e["weights_h"], e.times(block, len(self.members) * depth * cut.units))
        head = head_column(e, self.sizes, cut, block)
        runs = _runs(self.members) if self.sizes.heads == 1 else _singles(self.members)
        for first, length in runs:
            column = self.members[first] * self.hidden_size
            starts = [
                e.at(
                    e["d_gates"],
                    e.times(b.add(self.places["after"], row), self.stride),
                    head,
                    column,
                )
                for row in here
            ]
            weights = e.at(packed, first * depth * cut.units)
            sums = product(e, sums, weights, starts, length * depth, columns, cut.vectors)
        return sums

    def _projected(self, row: Value) -> Value:
        """The row of this step's gradient of the projected output."""
        e = self.e
        memory_row = e.builder.add(self.places["now"], row)
        return e.at(e["d_projected"], e.times(memory_row, self.sizes.projection))

    def _unproject(self, limit: Value, later: Value) -> None:
        """The whole gradient of the projected output of this step."""
        e, b = self.e, self.e.builder
        width = self.sizes.projection
        cut = tile(width, 1, self.tile.lanes, self.tile.budget)
        with (
            e.loop(number(0), number(cut.blocks), number(1), name="p") as block,
            e.loop(number(0), limit, number(self.tile.rows), name="r") as chunk,
        ):
            row = chunk.index
            count = e.minimum(number(self.tile.rows), b.sub(limit, row))
            multiplied = self._continuing(row, count, later)

            def put(here: Value, v: int, value: Value | None) -> None:
                unit = b.add(e.times(block.index, cut.units), number(v * cut.lanes))
                mask = e.units_below(unit, number(width))
                user = user_row(e, b.add(self.places["now"], here))
                outside = e.at(e["d_out"], b.mul(user, e["ld d_out"]), unit)
                total = e.load_units(outside, mask)
                total = total if value is None else b.fadd(total, value)
                e.store_units(total, e.at(self._projected(here), unit), mask)

            def products(rows: int) -> None:
                here = [self.share.row(b.add(row, number(q))) for q in range(rows)]
                zeros = [[e.math.const(0.0)] * cut.vectors for _ in here]
                sums = self._through_r(zeros, here, block.index, cut)
                for q in range(rows):
                    for v in range(cut.vectors):
                        put(here[q], v, sums[q][v])

            with e.loop(multiplied, count, number(1), name="z") as fresh:
                for v in range(cut.vectors):
                    put(self.share.row(b.add(row, fresh.index)), v, None)
            e.cases(multiplied, self.tile.rows, products)

    def _column(self, v: Value, unit: Value, row: Value, count: Value) -> None:
        """One vector of units for `count` rows, summing bias and weight gradients on the way."""
        e, b = self.e, self.e.builder
        mask = e.unit_mask(unit)
        totals = self._totals(unit)
        initial = [e.vector_at(place) for place in totals]
        with e.loop(number(0), count, number(1), initial, "q") as inner:
            here = self.share.row(b.add(row, inner.index))
            parts = self._vector(v, unit, mask, inner.index, here)
            pairs = zip(inner.values, parts, strict=True)
            inner.carry(*(b.fadd(total, part) for total, part in pairs))
        for place, value in zip(totals, inner.values, strict=True):
            e.put_vector(value, place)

    def _totals(self, unit: Value) -> list[Value]:
        """Where this thread sums the gradients of the biases, then of the per-unit weights."""
        e = self.e
        places = []
        for buffer, members in (("d_bias", len(self.biased)), ("d_units", len(self.plan.weights))):
            start = e.times(e["thread"], members * self.tile.padded)
            for n in range(members):
                places.append(e.at(e[buffer], start, unit, n * self.tile.padded))
        return places

    def _vector(
        self, v: Value, unit: Value, mask: Value | None, inner: Value, row: Value
    ) -> list[Value]:
        """The backward step graph for one row and one vector; returns what is summed."""
        e, plan = self.e, self.plan
        values: dict[Node, Value] = {}
        scratch = e.builder.add(e.times(inner, self.tile.vectors), v)
        place = Place(row, unit, mask, scratch)
        for node in plan.backward.outputs.values():
            e.evaluate(node, values, partial(self._load, place=place))
        return self._give(values, place)

    def _give(self, values: dict[Node, Value], place: Place) -> list[Value]:
        """Store the results of a step; returns the gradients that are summed over rows: of biases,
        then of per-unit weights."""
        self._put(values, place)
        plan = self.plan
        leaves = [plan.accumulators[n].leaf for n in self.biased]
        named = [f"d_gate {leaf}" for leaf in leaves]
        named += [f"d_weight {name}" for name in plan.weights]
        return [values[plan.backward.outputs[name]] for name in named]

    def _put(self, values: dict[Node, Value], place: Place) -> None:
        """Store the gradients of the affine sums and of the previous states."""
        e, plan, hidden, mask = self.e, self.plan, self.hidden_size, place.mask
        results = {name: values[node] for name, node in plan.backward.outputs.items()}
        position = e.builder.add(e.times(place.row, hidden), place.unit)
        memory_row = e.builder.add(self.places["now"], place.row)
        target = e.builder.add(e.times(memory_row, self.stride), place.unit)
        for n, acc in enumerate(plan.accumulators):
            value = results[f"d_gate {acc.leaf}"]
            e.store_units(value, e.at(e["d_gates"], target, n * hidden), mask)
        for name in plan.states:
            e.store_units(results[f"d_state {name}"], e.at(e[f"d_state {name}"], position), mask)
        for name in plan.inputs:
            given = e.at(e[f"d_input {name}"], e.times(memory_row, hidden), place.unit)
            e.store_units(results[f"d_input {name}"], given, mask)
        if plan.direct:
            e.store_units(results["d_state h"], e.at(e["d_h"], position), mask)

    def _load(self, node: Node, place: Place) -> Value | None:
        e, b, plan, hidden = self.e, self.e.builder, self.plan, self.hidden_size
        if node.op == "const":
            return e.math.const(node.value)
        if node.op == "weight":
            position = plan.weights.index(node.name) * self.tile.padded
            return e.vector_at(e.at(e["units"], place.unit, position))
        if node.op == "mask":
            return emit_mask(e, plan.masks, node.name, place.row, self.places["t"], place.unit)
        if node.op == "grad":
            return self._gradient(node.name.removeprefix("d_"), place)
        memory_row = b.add(self.places["now"], place.row)
        if node.op == "input":
            return load_given(e, plan, self.sizes, node.name, memory_row, place)
        if node in self.saved or node in self.shared:
            start = e.at(e["saved"], e.times(memory_row, plan.saved_width(hidden)))
            if node in self.shared:
                column = len(self.saved) * hidden + self.shared[node]
                return e.broadcast(b.load(e.at(start, column)))
            return e.load_units(e.at(start, place.unit, self.saved[node] * hidden), place.mask)
        if node in plan.available and node.op != "state":
            buffer = self._sequence(plan.available[node])
            row = e.times(user_row(e, memory_row), hidden)
            return e.load_units(e.at(e[buffer], row, place.unit), place.mask)
        if node.op == "state":
            return self._previous(node.name, place)
        return None

    def _sequence(self, name: str) -> str:
        return "out" if name == "h" else f"sequence {name}"

    def _previous(self, name: str, place: Place) -> Value:
        """A state before this step: from its sequence, or the first one."""
        e, b, hidden = self.e, self.e.builder, self.hidden_size
        first = e["h_first"] if name == "h" else e[f"first {name}"]
        at_first = self.places["first"]
        base = b.select(at_first, first, e[self._sequence(name)])
        earlier = user_row(e, b.add(self.places["before"], place.row))
        row = b.select(at_first, place.row, earlier)
        return e.load_units(e.at(base, e.times(row, hidden), place.unit), place.mask)

    def _gradient(self, name: str, place: Place) -> Value:
        """The whole gradient of a result: from outside and from the step after."""
        e, b, hidden, plan = self.e, self.e.builder, self.hidden_size, self.plan
        if name == "operand":
            return self._through(place)
        if name == "h" and self.sizes.projection:
            return self._through(place)
        slot = "d_out" if name == "h" else f"d_sequence {name}"
        user = user_row(e, b.add(self.places["now"], place.row))
        outside = e.at(e[slot], b.mul(user, e[f"ld {slot}"]), place.unit)
        total = e.load_units(outside, place.mask)
        position = b.add(e.times(place.row, hidden), place.unit)
        if name != "h":
            kept = e.load_units(e.at(e[f"d_state {name}"], position), place.mask)
            return b.fadd(total, kept)
        if not plan.operand:
            total = b.fadd(total, self._through(place))
        if plan.direct:
            total = b.fadd(total, e.load_units(e.at(e["d_h"], position), place.mask))
        return total

    def _through(self, place: Place) -> Value:
        """What came through the matrix."""
        e = self.e
        if self.plan.backward_sweeps.single:
            return e.builder.load(e.builder.gep(self.scratch, [place.scratch]))
        start = e.times(place.row, self.tile.padded)
        return e.vector_at(e.at(e["d_operand"], start, place.unit))


def biased(plan: Plan) -> list[int]:
    """The affine sums that have a bias."""
    return [n for n, acc in enumerate(plan.accumulators) if acc.bias_ih or acc.bias_hh]


def _singles(members: list[int]) -> list[tuple[int, int]]:
    return [(position, 1) for position in range(len(members))]


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

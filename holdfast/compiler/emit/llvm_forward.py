"""The forward time loop in LLVM IR.

Loop order: time, block of hidden units, rows of the batch. For some rows and one block of units all
affine sums of a cell are accumulated together in registers, over `[x_t, h_{t-1}]`, from packed
weights; the step graph follows on vectors of units, or in sweeps where a unit needs others. The
further states are updated in place; for training, their sequences and what the plan keeps are
stored too.

Packed weights are `[blocks][depth][sums][vectors][lanes]`, see `llvm_pack`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import llvmlite.ir as ir

from holdfast.compiler.emit import llvm_dots
from holdfast.compiler.emit.llvm_ahead import AHEAD, Ahead, bias_sums, input_row
from holdfast.compiler.emit.llvm_dots import DOTS, Dots
from holdfast.compiler.emit.llvm_loops import (
    I32,
    I64,
    Emitter,
    Loop,
    Sizes,
    Tile,
    declare_body,
    number,
    rows_alive,
    tile,
    user_row,
)
from holdfast.compiler.emit.llvm_math import Format, Value
from holdfast.compiler.emit.llvm_noise import SLOTS, emit_mask, noise_kinds
from holdfast.compiler.emit.llvm_pairs import PAIRS, Pairs, words
from holdfast.compiler.emit.llvm_pairs import SLOT as ROUNDED
from holdfast.compiler.emit.llvm_products import SCALED, element, multiply, product
from holdfast.compiler.emit.llvm_sweeps import Factor, Place, Sweeps, chunks, emit_pass
from holdfast.compiler.emit.llvm_team import meet, share
from holdfast.compiler.graph import Node
from holdfast.compiler.plan import Plan
from holdfast.compiler.trace import given_column

SIZES = ("counts", "index", "arrived", "indexed", "descending", "steps", "batch", "by_block")
"""Rows alive at each step `[T]` or null; where live rows lie among the user's; the threads'
counter; all bits set where `index` is used, else 0; whether a dense batch is read from its last
step to its first; T, B, and whether threads share the units of a row rather than the rows."""

STRIDE = "ld out"
"""Elements between rows of the output, which may be half of a wider one."""

_SPAN = 12
"""Rows at least that a thread does at a time, where steps have several sweeps."""

MATRICES = ("weights_x", "weights_h")
"""Slots of the weights that may be narrow."""

STORING = ("collect", "train")
"""Modes that store the sequences of the states."""


def size_kinds() -> dict[str, ir.Type]:
    """Types of the slots for sizes."""
    pointers = ("counts", "index", "arrived")
    return {name: I64.as_pointer() if name in pointers else I64 for name in SIZES}


def forward_slots(plan: Plan, mode: str, sizes: Sizes) -> list[str]:
    """Names of a forward kernel's slots in order; pointers, then sizes."""
    names = ["x", "h_first", "out", "weights_x", "weights_h", "bias", "units"]
    names += [f"state {name}" for name in plan.states]
    names += shared_slots(plan)
    if plan.operand:
        names += ["operand_first"] if mode == "train" else ["operand_first", "operand"]
    if not plan.sweeps.single:
        names.append("kept")
    if sizes.projection:
        names += ["weights_r", "hidden"]
    if sizes.few:
        names.append("ahead")
    if sizes.narrow in SCALED:
        names += ["scales_x", "scales_h"]
    if sizes.narrow == DOTS:
        names += llvm_dots.SLOTS
    if sizes.narrow == PAIRS:
        names.append(ROUNDED)
    if mode in STORING:
        names += [f"sequence {name}" for name in plan.states]
    if mode == "train":
        names.append("saved")
    return [*names, *SIZES, STRIDE]


def shared_slots(plan: Plan) -> list[str]:
    """Slots for masks and products inside a step, in the forward and the backward kernel."""
    masks = list(SLOTS) if plan.masks else []
    return masks + [f"weights {acc.leaf}" for acc in plan.accumulators if acc.inner]


class ForwardEmitter:
    """Emits the body of one forward kernel.

    Arguments:
        plan: the cell's plan.
        form, sizes: what the kernel is specialized for.
        mode: `infer`, `collect` (stores the sequences of the states), `train` (stores what is saved
            too) or `step` (T is 1).
    """

    def __init__(
        self, module: ir.Module, plan: Plan, form: Format, sizes: Sizes, tile: Tile, mode: str
    ) -> None:
        self.plan = plan
        self.sizes = sizes
        self.hidden_size = sizes.hidden
        self.tile = tile
        self.mode = mode
        self.before: Value = number(0)
        """Offset of the previous step's rows, inside the time loop."""
        self.operand: tuple[Value, Value] = (None, None)
        """Masked rows that R multiplies, and how far apart they are."""
        self.offset: Value = number(0)
        self.step: Value = number(0)
        self.portion: Value = number(0)
        """The first step whose inputs were multiplied together with this step's."""
        many = tile
        if sizes.few or sizes.narrow == DOTS:
            most = sizes.few or llvm_dots.ROWS
            self.tile = tile = replace(tile, rows=min(tile.rows, most))
        scalar = ir.FloatType() if form.bits == 32 else ir.DoubleType()
        names = forward_slots(plan, mode, sizes)
        kinds: dict[str, ir.Type] = {name: scalar.as_pointer() for name in names}
        kinds |= dict.fromkeys(MATRICES, element(sizes.narrow, scalar).as_pointer())
        kinds |= llvm_dots.kinds() if sizes.narrow == DOTS else {}
        kinds |= {ROUNDED: I32.as_pointer()} if sizes.narrow == PAIRS else {}
        kinds |= size_kinds() | {STRIDE: I64} | (noise_kinds(scalar) if plan.masks else {})
        self.kinds = kinds | {"thread": I64, "threads": I64}
        self.function = declare_body(module, self.kinds)
        self.e = Emitter(module, self.function, list(self.kinds), form, sizes.hidden, tile.lanes)
        self.sums = len(plan.accumulators)
        self.from_x = [n for n, acc in enumerate(plan.accumulators) if acc.x]
        self.from_h = [n for n, acc in enumerate(plan.accumulators) if acc.h and not acc.inner]
        self.dots = Dots(self.e, sizes) if sizes.narrow == DOTS else None
        self.pairs = Pairs(self.e, (sizes.input, sizes.depth)) if sizes.narrow == PAIRS else None
        self.ahead = Ahead(self.e, sizes, many, self.sums, self.from_x)
        self.saved = {node: n for n, node in enumerate(plan.saved)}
        self.leaves = {acc.leaf: n for n, acc in enumerate(plan.accumulators)}
        self.span = tile.rows if plan.sweeps.single else -(-_SPAN // tile.rows) * tile.rows
        parts = (self._load, self._give)
        self.sweeps = Sweeps(self.e, tile, plan.sweeps, *parts, span=self.span)
        count = tile.rows * self.sums * tile.vectors if plan.sweeps.single else 1
        self.scratch = self.e.builder.alloca(self.e.math.vector, count, name="scratch")

    def emit(self) -> None:
        """Write the whole body."""
        e = self.e
        self.share = share(e, self.tile)
        first = [e["operand_first"], number(self.hidden_size)] if self.plan.operand else []
        if self.mode == "step":
            self.operand = (first[0], first[1]) if first else self.operand
            self._step(e["batch"])
            e.builder.ret_void()
            return
        b = e.builder
        self.descending = b.icmp_signed("!=", e["descending"], number(0))
        last = b.mul(b.sub(e["steps"], number(1)), e["batch"])
        start = b.select(self.descending, last, number(0))
        carried = [start, start, *first]
        if not self.sizes.few:
            self._steps(number(0), e["steps"], carried)
            e.builder.ret_void()
            return
        portion = b.sdiv(number(AHEAD), e["batch"])
        with e.loop(number(0), e["steps"], portion, carried, "a") as turn:
            end = e.minimum(b.add(turn.index, portion), e["steps"])
            steps, self.portion = b.sub(end, turn.index), turn.index
            self.ahead.multiply(self.share, steps, turn.values[0], self.descending)
            turn.carry(*self._steps(turn.index, end, turn.values))
        e.builder.ret_void()

    def _steps(self, begin: Value, end: Value, carried: list[Value]) -> list[Value]:
        """Some time steps; returns what is carried on."""
        e, b = self.e, self.e.builder
        with e.loop(begin, end, number(1), carried, "t") as time:
            self.offset, self.before, *operand = time.values
            self.operand = (operand[0], operand[1]) if operand else self.operand
            self.step = time.index
            alive = rows_alive(e, time.index)
            self._step(alive)
            meet(e, time.index)
            following = self._operand_rows() if operand else ()
            forward = b.add(self.offset, alive)
            backward = b.sub(self.offset, e["batch"])
            offset = b.select(self.descending, backward, forward)
            time.carry(offset, self.offset, *following)
        return time.values

    def _operand_rows(self) -> tuple[Value, Value]:
        """What R multiplies in the next step, and the distance between rows."""
        e, plan = self.e, self.plan
        if self.mode != "train":
            rows = e.at(e["operand"], e.times(self.offset, self.hidden_size))
            return rows, number(self.hidden_size)
        width = plan.saved_width(self.hidden_size)
        column = self.saved[plan.forward.outputs["operand"]] * self.hidden_size
        return e.at(e["saved"], e.times(self.offset, width), column), number(width)

    def _step(self, alive: Value) -> None:
        """One time step."""
        e, mine = self.e, self.share
        limit = mine.limit(alive)
        if self.dots or self.pairs:
            with e.loop(number(0), limit, number(1), name="d") as turn:
                self._prepare(mine.row(turn.index))
        with (
            e.loop(mine.first_block, mine.last_block, number(1), name="j") as block,
            chunks(e, limit, self.span, self.tile.rows) as (row, end),
        ):
            self._rows(block.index, row, end)
        if not self.plan.sweeps.single:
            for group in self.plan.sweeps.groups:
                for node in self.plan.sweeps.sweeps[group[0]].products:
                    emit_pass(self.sweeps, node, self._factor, mine, limit)
                self.sweeps.rows(group, mine, limit)
        if self.sizes.projection:
            self._project(limit)

    def _prepare(self, row: Value) -> None:
        """What weights multiply of a row, in the format of the product."""
        recurrent = self._recurrent_rows([row], number(0))[0]
        if self.dots:
            self.dots.prepare(row, recurrent)
        if self.pairs:
            here = input_row(self.e, self.sizes, self.e.builder.add(self.offset, row))
            self.pairs.prepare(row, 0, here)
            self.pairs.prepare(row, 1, recurrent)

    def _rows(self, block: Value, row: Value, limit: Value) -> None:
        e = self.e
        count = e.minimum(number(self.tile.rows), e.builder.sub(limit, row))
        for group in groups(self.plan):
            e.cases(count, self.tile.rows, partial(self._products, group, block, row))
        if self.plan.sweeps.single:
            self._units(block, row, count)

    def _units(self, block: Value, row: Value, count: Value) -> None:
        """The step graph for some rows and one block of units."""
        here, share = (self.scratch, self.offset, self.before, self.step), self.share
        given = [block, row, count, *share.place, *here]
        with self.e.apart("units", given) as (block, row, count, first, distance, *inside):
            self.share = share.inside(first, distance)
            self.scratch, self.offset, self.before, self.step = inside
            with self.e.loop(number(0), count, number(1), name="q") as inner:
                self._cell(inner, block, row)
        self.share = share
        self.scratch, self.offset, self.before, self.step = here

    def _products(self, group: list[int], block: Value, row: Value, rows: int) -> None:
        """Affine sums of `rows` rows and one block of units, to scratch or to the rows' memory."""
        e, b, tile, vectors = self.e, self.e.builder, self.tile, self.tile.vectors
        here = [self.share.row(b.add(row, number(q))) for q in range(rows)]
        if self.sizes.few:
            skipped = b.mul(b.sub(self.step, self.portion), e["batch"])
            sums = [self.ahead.find(b.add(skipped, row), block, group) for row in here]
        else:
            sums = [bias_sums(e, tile, self.sums, block, group)] * rows
        factors = [("h", self.from_h, self.sizes.depth, self._recurrent_rows(here, block))]
        if not self.sizes.few:
            starts = [input_row(e, self.sizes, b.add(self.offset, row)) for row in here]
            factors.insert(0, ("x", self.from_x, self.sizes.input, starts))
        for name, members, depth, starts in factors:
            members = [n for n in members if n in group]
            columns = [group.index(n) * vectors + v for n in members for v in range(vectors)]
            if self.dots and name == "h":
                sums = self.dots.product(sums, block, here, columns)
            elif self.pairs:
                distance = words(depth) * len(columns) * e.lanes
                weights = e.at(e[f"weights_{name}"], e.times(block, distance))
                sums = self.pairs.product(sums, weights, here, int(name == "h"), columns)
            else:
                sums = multiply(e, self.sizes, name, sums, block, starts, depth, columns)
        for q in range(rows):
            for n, member in enumerate(group):
                for v in range(vectors):
                    value = sums[q][n * vectors + v]
                    self._keep_sum(value, member, v, q, here[q], block)

    def _keep_sum(
        self, value: Value, member: int, v: int, q: int, row: Value, block: Value
    ) -> None:
        e = self.e
        if self.plan.sweeps.single:
            index = (q * self.sums + member) * self.tile.vectors + v
            e.builder.store(value, self._scratch_at(number(index)))
            return
        unit = e.builder.add(e.times(block, self.tile.units), number(v * self.tile.lanes))
        leaf = self.plan.accumulators[member].leaf
        node = next(node for node in self.plan.sweeps.kept if node.owned and node.name == leaf)
        e.put_vector(value, self.sweeps.at(node, row, unit))

    def _recurrent_rows(self, rows: list[Value], block: Value) -> list[Value]:
        e = self.e
        column = head_column(e, self.sizes, self.tile, block)
        if not self.plan.operand:
            return [e.at(self._previous(row), column) for row in rows]
        base, stride = self.operand
        return [e.at(base, e.builder.mul(row, stride), column) for row in rows]

    def _previous(self, row: Value) -> Value:
        """The row of the previous output."""
        e, b, width = self.e, self.e.builder, self.sizes.output
        if self.mode == "step":
            return e.at(e["h_first"], e.times(row, width))
        first = b.icmp_signed("==", self.step, number(0))
        there = b.mul(user_row(e, b.add(self.before, row)), e[STRIDE])
        place = b.select(first, e.times(row, width), there)
        return e.at(b.select(first, e["h_first"], e["out"]), place)

    def _factor(self, node: Node) -> Factor:
        """A gate that is called: R of the gate with its operand, added to the rest of its sum."""
        e = self.e
        return Factor(
            node,
            lambda row, block: self.sweeps.at(
                node.inputs[0], row, head_column(e, self.sizes, self.tile, block)
            ),
            e[f"weights {node.name}"],
            self.hidden_size // self.sizes.heads,
            inner_tile(self.tile, self.sizes),
            partial(self._beginning, node),
        )

    def _beginning(self, node: Node, row: Value, unit: Value) -> Value:
        """What the product of a gate that is called is added to: W x + b, b, or nothing."""
        e, b, cut = self.e, self.e.builder, self.tile
        member = self.leaves[node.name]
        acc = self.plan.accumulators[member]
        if acc.x:
            return e.vector_at(self.sweeps.at(node, row, unit))
        if not (acc.bias_ih or acc.bias_hh):
            return e.math.const(0.0)
        block = b.sdiv(unit, number(cut.units))
        inside = b.srem(unit, number(cut.units))
        start = b.add(e.times(block, self.sums * cut.units), inside)
        return e.vector_at(e.at(e["bias"], start, member * cut.units))

    def _scratch_at(self, index: Value) -> Value:
        return self.e.builder.gep(self.scratch, [index])

    def _cell(self, inner: Loop, block: Value, row: Value) -> None:
        """The step graph for one row and one block of units."""
        e = self.e
        batch_row = self.share.row(e.builder.add(row, inner.index))
        for v in range(self.tile.vectors):
            unit = e.builder.add(e.times(block, self.tile.units), number(v * self.tile.lanes))
            scratch = e.builder.add(e.times(inner.index, self.sums * self.tile.vectors), number(v))
            place = Place(batch_row, unit, e.unit_mask(unit), scratch)
            values: dict[Node, Value] = {}
            for node in self.plan.results(self.mode):
                e.evaluate(node, values, partial(self._load, place=place))
            self._give(values, place)

    def _load(self, node: Node, place: Place) -> Value | None:
        e, plan = self.e, self.plan
        if node.op == "const":
            return e.math.const(node.value)
        if node.op == "gate":
            index = number(self.leaves[node.name] * self.tile.vectors)
            return e.builder.load(self._scratch_at(e.builder.add(place.scratch, index)))
        if node.op == "weight":
            position = plan.weights.index(node.name) * self.tile.padded
            return e.vector_at(e.at(e["units"], place.unit, position))
        if node.op == "mask":
            return emit_mask(e, plan.masks, node.name, place.row, self.step, place.unit)
        if node.op == "input":
            memory_row = e.builder.add(self.offset, place.row)
            return load_given(e, plan, self.sizes, node.name, memory_row, place)
        if node.op == "state":
            here = e.times(place.row, self.hidden_size)
            kept = None if node.name == "h" else e.at(e[f"state {node.name}"], here)
            start = self._previous(place.row) if kept is None else kept
            return e.load_units(e.at(start, place.unit), place.mask)
        return None

    def _give(self, values: dict[Node, Value], place: Place) -> list[Value]:
        """Store the results of a step for one row and one vector of units."""
        e, plan, hidden, mask = self.e, self.plan, self.hidden_size, place.mask
        outputs = plan.forward.outputs
        carried = e.builder.add(e.times(place.row, hidden), place.unit)
        memory_row = e.builder.add(self.offset, place.row)
        user = user_row(e, memory_row)
        target = e.builder.add(e.times(user, hidden), place.unit)
        if self.sizes.projection:
            e.store_units(values[outputs["h"]], e.at(e["hidden"], carried), mask)
        else:
            row = e.at(e["out"], e.builder.mul(user, e[STRIDE]), place.unit)
            e.store_units(values[outputs["h"]], row, mask)
        for name in plan.states:
            e.store_units(values[outputs[name]], e.at(e[f"state {name}"], carried), mask)
            if self.mode in STORING:
                e.store_units(values[outputs[name]], e.at(e[f"sequence {name}"], target), mask)
        if plan.operand and self.mode != "train":
            target = e.builder.add(e.times(memory_row, hidden), place.unit)
            e.store_units(values[outputs["operand"]], e.at(e["operand"], target), mask)
        if self.mode == "train":
            self._save(values, memory_row, place)
        return []

    def _save(self, values: dict[Node, Value], memory_row: Value, place: Place) -> None:
        e, hidden = self.e, self.hidden_size
        row = e.at(e["saved"], e.times(memory_row, self.plan.saved_width(hidden)))
        for n, node in enumerate(self.plan.saved):
            e.store_units(values[node], e.at(row, place.unit, n * hidden), place.mask)
        if self.plan.shared:
            numbers = e.at(row, len(self.plan.saved) * hidden)
            first = e.builder.icmp_signed("==", place.unit, number(0))
            with e.builder.if_then(first):
                for n, node in enumerate(self.plan.shared):
                    e.builder.store(e.first_lane(values[node]), e.at(numbers, n))

    def _project(self, limit: Value) -> None:
        """The output of this step, `W_hr` times the new h, for the rows of this thread."""
        e, b = self.e, self.e.builder
        cut = tile(self.sizes.projection, 1, self.tile.lanes, self.tile.budget)
        with (
            e.loop(number(0), number(cut.blocks), number(1), name="p") as block,
            chunks(e, limit, self.span, self.tile.rows) as (first, end),
        ):
            count = e.minimum(number(self.tile.rows), b.sub(end, first))
            packed = e.at(e["weights_r"], e.times(block.index, self.hidden_size * cut.units))

            def products(rows: int) -> None:
                here = [self.share.row(b.add(first, number(q))) for q in range(rows)]
                starts = [e.at(e["hidden"], e.times(row, self.hidden_size)) for row in here]
                zeros = [[e.math.const(0.0)] * cut.vectors for _ in here]
                columns = list(range(cut.vectors))
                depth = self.hidden_size
                sums = product(e, zeros, packed, starts, depth, columns, cut.vectors)
                for row, found in zip(here, sums, strict=True):
                    user = user_row(e, b.add(self.offset, row))
                    start = e.at(e["out"], b.mul(user, e[STRIDE]))
                    for v, value in enumerate(found):
                        unit = b.add(e.times(block.index, cut.units), number(v * cut.lanes))
                        mask = e.units_below(unit, number(self.sizes.projection))
                        e.store_units(value, e.at(start, unit), mask)

            e.cases(count, self.tile.rows, products)


def groups(plan: Plan) -> list[list[int]]:
    """Affine sums that are accumulated together.

    All that x or the previous h is multiplied for, unless each is of x alone or of h alone: then
    each kind by itself, with more rows in the registers.
    """
    sums = plan.accumulators
    from_x = [n for n, acc in enumerate(sums) if acc.x]
    from_h = [n for n, acc in enumerate(sums) if acc.h and not acc.inner]
    every = sorted({*from_x, *from_h})
    if plan.sweeps.single or len(every) < len(from_x) + len(from_h) or not from_x or not from_h:
        return [every] if every else []
    return [from_x, from_h]


def inner_tile(cut: Tile, sizes: Sizes) -> Tile:
    """How a kernel with that tile cuts the product of a gate that is called."""
    width = sizes.depth if sizes.heads > 1 else 0
    return tile(sizes.hidden, 1, cut.lanes, cut.budget, width)


def load_given(
    e: Emitter, plan: Plan, sizes: Sizes, name: str, memory_row: Value, place: Place
) -> Value:
    """What the step is given unit by unit, from the row of the input."""
    width = sizes.input + sizes.given
    column = given_column(plan.inputs, name, width, sizes.input, sizes.hidden)
    row = e.times(user_row(e, memory_row), width)
    return e.load_units(e.at(e["x"], row, place.unit, column), place.mask)


def head_column(e: Emitter, sizes: Sizes, cut: Tile, block: Value) -> Value:
    """Where the units begin that a block of units sees: 0, or its head's first."""
    if sizes.heads == 1:
        return number(0)
    first = e.times(block, cut.units)
    return e.times(e.builder.sdiv(first, number(sizes.depth)), sizes.depth)

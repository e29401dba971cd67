"""Sweeps over the units of a row in LLVM IR, for steps that one sweep cannot do.

Each row of the batch has a piece of memory, the buffer `kept`: vectors of units for the affine sums
and for what the schedule keeps, then one number for each mean. Products go through the batch block
by block and leave their sums there; the sweeps go through a row, vector by vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from holdfast.compiler.emit.llvm_loops import Emitter, Tile, number
from holdfast.compiler.emit.llvm_math import Value
from holdfast.compiler.emit.llvm_products import product
from holdfast.compiler.emit.llvm_team import Share
from holdfast.compiler.graph import SCANS, Node
from holdfast.compiler.schedule import Schedule


@dataclass(frozen=True)
class Place:
    """Where a step graph is evaluated: a row of the batch, a vector of units, a sweep."""

    row: Value
    unit: Value
    mask: Value | None
    """Which lanes are units; None where all are."""
    scratch: Value
    """Index of the row's first sum among those in registers, where there is a single sweep."""
    sweep: int = 0


def kept_width(schedule: Schedule, tile: Tile) -> int:
    """Numbers that each row of the batch needs in the buffer `kept`."""
    if schedule.single:
        return 0
    means = -(-len(schedule.means) // tile.lanes) * tile.lanes
    return len(schedule.kept) * tile.padded + means


class Sweeps:
    """Emits the sweeps of a schedule.

    Arguments:
        load: the value of a leaf or of a node that lies in memory, at a place; None for others.
        give: stores the results of the last sweep, given by node; returns what is summed over rows.
        totals: where those sums are kept, for a unit.
        span: rows that a thread does at a time.
    """

    def __init__(
        self,
        e: Emitter,
        tile: Tile,
        schedule: Schedule,
        load: Callable[[Node, Place], Value | None],
        give: Callable[[dict[Node, Value], Place], list[Value]],
        totals: Callable[[Value], list[Value]] = lambda unit: [],
        span: int = 0,
    ) -> None:
        self.e = e
        self.tile = tile
        self.schedule = schedule
        self.load = load
        self.give = give
        self.totals = totals
        self.span = span or tile.rows
        self.width = kept_width(schedule, tile)
        self.positions = {node: n for n, node in enumerate(schedule.kept)}
        self.means = {node: n for n, node in enumerate(schedule.means)}
        self.stored = {node: n for n, sweep in enumerate(schedule.sweeps) for node in sweep.keeps}

    def at(self, node: Node, row: Value, unit: Value) -> Value:
        """Where a kept value of a row lies."""
        start = self.e.times(row, self.width)
        return self.e.at(self.e["kept"], start, unit, self.positions[node] * self.tile.padded)

    def fetch(self, node: Node, place: Place) -> Value | None:
        """A value that an earlier sweep or a product has left."""
        e = self.e
        if node in self.means:
            return e.broadcast(e.builder.load(self._mean_at(node, place.row)))
        if node in self.positions and self.stored.get(node, -1) < place.sweep:
            return e.vector_at(self.at(node, place.row, place.unit))
        return self.load(node, place)

    def _mean_at(self, node: Node, row: Value) -> Value:
        position = len(self.schedule.kept) * self.tile.padded + self.means[node]
        return self.e.at(self.e["kept"], self.e.times(row, self.width), position)

    def rows(self, group: tuple[int, ...], share: Share, limit: Value) -> None:
        """The sweeps of a group for the rows of a share, some rows at a time."""
        e = self.e
        last = len(self.schedule.sweeps) - 1
        with e.loop(number(0), limit, number(self.span), name="rows") as chunk:
            end = e.minimum(e.builder.add(chunk.index, number(self.span)), limit)
            if group != (last,):
                with e.loop(chunk.index, end, number(1), name="row") as row:
                    for index in group:
                        if index != last:
                            self._row(index, share.row(row.index))
            if last in group:
                self._finish(last, share, chunk.index, end)

    def _row(self, index: int, row: Value) -> None:
        """One sweep of one row that is not the last."""
        e = self.e
        sweep = self.schedule.sweeps[index]
        starts = [e.math.const(_START[node.op]) for node in sweep.means]
        limit = number(self.tile.padded)
        with e.loop(number(0), limit, number(self.tile.lanes), starts, "u") as loop:
            mask = e.unit_mask(loop.index)
            place = Place(row, loop.index, mask, number(0), index)
            values: dict[Node, Value] = {}
            fetch = partial(self.fetch, place=place)
            totals = []
            for mean, total in zip(sweep.means, loop.values, strict=True):
                term = e.evaluate(mean.inputs[0], values, fetch)
                start = e.math.const(_START[mean.op])
                term = term if mask is None else e.builder.select(mask, term, start)
                totals.append(_joined(e, mean, total, term))
            for node in sweep.keeps:
                e.put_vector(e.evaluate(node, values, fetch), self.at(node, row, loop.index))
            loop.carry(*totals)
        for mean, total in zip(sweep.means, loop.values, strict=True):
            whole = e.total(total, partial(_joined, e, mean))
            if mean.op == "mean":
                whole = e.builder.fmul(whole, e.math.scalar(1.0 / e.hidden_size))
            e.builder.store(whole, self._mean_at(mean, row))

    def scan(self, node: Node, share: Share, limit: Value) -> None:
        """Sums up to each unit, or from each unit on, of the rows of a share."""
        e, lanes = self.e, self.tile.lanes
        b, upward = e.builder, node.op == "cumulate"
        with e.loop(number(0), limit, number(1), name="row") as mine:
            row = share.row(mine.index)
            initial = [e.math.const(0.0)]
            size = number(self.tile.padded)
            with e.loop(number(0), size, number(lanes), initial, "u") as loop:
                unit = loop.index
                if not upward:
                    unit = b.sub(number(self.tile.padded - lanes), unit)
                x = e.vector_at(self.at(node.inputs[0], row, unit))
                mask = e.unit_mask(unit)
                x = x if mask is None else b.select(mask, x, e.math.const(0.0))
                sums = b.fadd(_running(e, x, upward), loop.values[0])
                e.put_vector(sums, self.at(node, row, unit))
                last = lanes - 1 if upward else 0
                loop.carry(e.math.pairs(sums, sums, lambda n: last))

    def _finish(self, index: int, share: Share, start: Value, end: Value) -> None:
        """The last sweep of some rows, vector by vector: sums over rows stay in registers."""
        e = self.e
        limit = number(self.tile.padded)
        with e.loop(number(0), limit, number(self.tile.lanes), name="u") as unit:
            mask = e.unit_mask(unit.index)
            places = self.totals(unit.index)
            initial = [e.vector_at(place) for place in places]
            with e.loop(start, end, number(1), initial, "row") as row:
                here = share.row(row.index)
                place = Place(here, unit.index, mask, number(0), index)
                values: dict[Node, Value] = {}
                for node in self.schedule.sweeps[index].gives:
                    e.evaluate(node, values, partial(self.fetch, place=place))
                pairs = zip(row.values, self.give(values, place), strict=True)
                row.carry(*(e.builder.fadd(total, part) for total, part in pairs))
            for place, value in zip(places, row.values, strict=True):
                e.put_vector(value, place)


_START = {"mean": 0.0, "peak": -math.inf}
"""What a reduction of no units is."""


def _joined(e: Emitter, node: Node, x: Value, y: Value) -> Value:
    if node.op == "mean":
        return e.builder.fadd(x, y)
    return e.math.intrinsic("maximum", x, y)


def _running(e: Emitter, x: Value, upward: bool) -> Value:
    """The sums of the lanes up to each one, or from each one on."""
    lanes, distance = e.lanes, 1
    while distance < lanes:
        step = -distance if upward else distance

        def moved(n: int, step: int = step) -> int:
            return n + step if 0 <= n + step < lanes else lanes

        shifted = e.math.pairs(x, e.math.const(0.0), moved)
        x = e.builder.fadd(x, shifted)
        distance *= 2
    return x


@dataclass(frozen=True)
class Factor:
    """A product inside a step: of a kept operand with packed weights."""

    node: Node
    operand: Callable[[Value, Value], Value]
    """Pointer to what a block of units sees of a row's operand."""
    weights: Value
    """Packed `[blocks][depth][units]`."""
    depth: int
    tile: Tile
    """How the product is cut; as wide as that of the kernel."""
    start: Callable[[Value, Value], Value] | None = None
    """What the product is added to, for a row and a unit; nothing where None."""


def emit_pass(
    sweeps: Sweeps, node: Node, factor: Callable[[Node], Factor], share: Share, limit: Value
) -> None:
    """What goes over whole rows before a sweep: a product or a scan."""
    if node.op in SCANS:
        sweeps.scan(node, share, limit)
    else:
        _emit_factor(sweeps, factor(node), share, limit)


def _emit_factor(sweeps: Sweeps, factor: Factor, share: Share, limit: Value) -> None:
    """A product inside a step, for the rows of a share, to the rows' memory."""
    e, tile = sweeps.e, factor.tile
    b = e.builder
    with (
        e.loop(number(0), number(tile.blocks), number(1), name="j") as block,
        chunks(e, limit, sweeps.span, tile.rows) as (first, end),
    ):
        count = e.minimum(number(tile.rows), b.sub(end, first))
        packed = e.at(factor.weights, e.times(block.index, factor.depth * tile.units))
        units = [
            b.add(e.times(block.index, tile.units), number(v * tile.lanes))
            for v in range(tile.vectors)
        ]

        def products(rows: int) -> None:
            here = [share.row(b.add(first, number(q))) for q in range(rows)]
            sums = [
                [factor.start(row, unit) if factor.start else e.math.const(0.0) for unit in units]
                for row in here
            ]
            columns = list(range(tile.vectors))
            starts = [factor.operand(row, block.index) for row in here]
            sums = product(e, sums, packed, starts, factor.depth, columns, tile.vectors)
            for row, found in zip(here, sums, strict=True):
                for unit, value in zip(units, found, strict=True):
                    e.put_vector(value, sweeps.at(factor.node, row, unit))

        e.cases(count, tile.rows, products)


@contextmanager
def chunks(e: Emitter, limit: Value, span: int, rows: int) -> Iterator[tuple[Value, Value]]:
    """Loops over a share's rows, `rows` at a time: the first of them, and where they end at most.

    Arguments:
        limit: how many rows. span: rows at a time, a multiple of `rows`.
    """
    with e.loop(number(0), limit, number(span), name="r") as chunk:
        if rows == span:
            yield chunk.index, limit
            return
        end = e.minimum(e.builder.add(chunk.index, number(span)), limit)
        with e.loop(chunk.index, end, number(rows), name="s") as inner:
            yield inner.index, end


@contextmanager
def portions(e: Emitter, first: Value, end: Value, rows: int) -> Iterator[tuple[Value, Value]]:
    """A loop over neighboring rows, at most `rows` at a time and evenly: the first, and how many.

    No portion is left with a single row of many: it would wait for its weights.
    """
    b = e.builder
    whole = b.sub(end, first)
    count = b.sdiv(b.add(whole, number(rows - 1)), number(rows))
    with e.loop(number(0), count, number(1), [first], name="s") as turn:
        (start,) = turn.values
        reached = b.sdiv(b.mul(whole, b.add(turn.index, number(1))), count)
        stop = b.add(first, reached)
        yield start, b.sub(stop, start)
        turn.carry(stop)

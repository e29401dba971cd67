"""Products of large matrices in LLVM IR: one kernel a format and order of operands, any sizes.

`out[r, c] (+)= sum over n of left[n, r] right[n, c]`, or of `left[r, n] right[n, c]`. Tiles of
`out` are summed in registers, numbers of `left` against vectors of `right`. Pieces of `right` that
fit into the second-level cache are copied into the order in which tiles read them, with zeros after
the last column; `left` is read where it lies. Threads share the rows of `out`, and each copies for
itself. Each number is summed in the order of n, piece by piece: neither how many threads there are
nor its place in a tile changes a bit of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import llvmlite.ir as ir

from holdfast.compiler.emit.llvm_loops import (
    BYTE_POINTER,
    I32,
    I64,
    Emitter,
    Tile,
    declare_body,
    new_module,
    number,
    register_budget,
)
from holdfast.compiler.emit.llvm_math import Format, Value
from holdfast.compiler.emit.llvm_team import add_entries
from holdfast.compiler.emit.target import Target

ORDERS = ("outer", "rows")
"""How `left` lies: `[n, r]`, for gradients of weights, or `[r, n]`, the plain product."""

PIECE = 256
"""Terms of each sum that are added before `out` is touched."""

_BYTES = 1152
"""Bytes of each row of `right` in one piece: a multiple of a tile's columns on every target."""

_VECTORS = 3
"""Vectors of a tile: with a third of the accumulators' registers as its rows, few loads serve many
products, and the rows are a power of two."""

_LINE = 64
"""Bytes of a line of the cache."""

_PREFETCH = "llvm.prefetch.p0"

_POINTERS = ("left", "right", "out", "piece")
SLOTS = (*_POINTERS, "ld_left", "ld_right", "ld_out", "rows", "columns", "depth", "add")
"""A kernel's slots but the number of threads: pointers, distances between rows, sizes, and whether
to add to `out`. `piece` is memory for `piece_size` numbers a thread."""


def outer_tile(form: Format, target: Target) -> Tile:
    """Rows and vectors of `out` that are accumulated together."""
    budget = register_budget(target)
    return Tile(target.lanes(form.itemsize), _VECTORS, budget // _VECTORS, 1, budget)


def piece_size(form: Format) -> int:
    """Numbers that a thread needs for its piece of `right`."""
    return PIECE * _BYTES // form.itemsize


def emit_outer(order: str, form: Format, target: Target) -> str:
    """The IR of a kernel as text.

    Arguments:
        order: one of `ORDERS`.
    """
    module = new_module(target)
    scalar = ir.FloatType() if form.bits == 32 else ir.DoubleType()
    kinds: dict[str, ir.Type] = {
        name: scalar.as_pointer() if name in _POINTERS else I64
        for name in (*SLOTS, "thread", "threads")
    }
    body = declare_body(module, kinds)
    tile = outer_tile(form, target)
    e = Emitter(module, body, tuple(kinds), form, tile.lanes, tile.lanes)
    _Product(e, tile, order, _BYTES // form.itemsize).emit()
    e.builder.ret_void()
    add_entries(module, body, kinds)
    return str(module)


@dataclass(frozen=True)
class _Piece:
    """A part of `right`: where it starts, and how much it is."""

    start: Value
    depth: Value
    column: Value
    vectors: Value


class _Product:
    """The loops of one kernel."""

    def __init__(self, e: Emitter, tile: Tile, order: str, columns: int) -> None:
        self.e = e
        self.tile = tile
        self.order = order
        self.columns = columns

    def emit(self) -> None:
        """Piece after piece of `right`, each against this thread's rows."""
        e, b = self.e, self.e.builder
        first, last = self._share()
        # Sums of no terms are zeros, and are written, too.
        end = b.select(b.icmp_signed("<", e["depth"], number(1)), number(1), e["depth"])
        with (
            e.loop(number(0), end, number(PIECE), name="n") as deep,
            e.loop(number(0), e["columns"], number(self.columns), name="c") as wide,
        ):
            depth = e.minimum(number(PIECE), b.sub(e["depth"], deep.index))
            columns = e.minimum(number(self.columns), b.sub(e["columns"], wide.index))
            vectors = b.sdiv(b.add(columns, number(e.lanes - 1)), number(e.lanes))
            piece = _Piece(deep.index, depth, wide.index, vectors)
            self._copy(piece)
            self._all_rows(piece, first, last)

    def _share(self) -> tuple[Value, Value]:
        """The rows of this thread: whole tiles."""
        e, b = self.e, self.e.builder
        rows = number(self.tile.rows)
        tiles = b.sdiv(b.add(e["rows"], number(self.tile.rows - 1)), rows)

        def cut(rank: Value) -> Value:
            return b.mul(b.sdiv(b.mul(tiles, rank), e["threads"]), rows)

        last = e.minimum(cut(b.add(e["thread"], number(1))), e["rows"])
        return cut(e["thread"]), last

    def _groups(self, piece: _Piece, emit: Callable[[Value, int], None]) -> None:
        """Vectors of a piece in groups of the tile's width, the last perhaps narrower."""
        e, b = self.e, self.e.builder
        width = self.tile.vectors
        with e.loop(number(0), piece.vectors, number(width), name="v") as group:
            left = e.minimum(number(width), b.sub(piece.vectors, group.index))
            e.cases(left, width, lambda count: emit(group.index, count))

    def _packed(self, vector: Value) -> Value:
        """Where the group that starts with a vector lies in the piece."""
        e = self.e
        mine = e.times(e["thread"], PIECE * self.columns)
        return e.at(e["piece"], mine, e.times(vector, PIECE * e.lanes))

    def _source(self, piece: _Piece, vector: Value, width: int) -> tuple[Value, Value]:
        """Where a group of vectors is read, and the distance between its rows."""
        e, b = self.e, self.e.builder
        column = b.add(piece.column, e.times(vector, e.lanes))
        lies = e.at(e["right"], b.mul(piece.start, e["ld_right"]), column)
        direct = self._direct(column, width)
        start = b.select(direct, lies, self._packed(vector))
        return start, b.select(direct, e["ld_right"], number(width * e.lanes))

    def _direct(self, column: Value, width: int) -> Value:
        """Whether a group of vectors is read where it lies: when too few rows share a copy."""
        e, b = self.e, self.e.builder
        few = b.icmp_signed("<=", e["rows"], number(2 * self.tile.rows))
        end = b.add(column, number(width * e.lanes))
        return b.and_(few, b.icmp_signed("<=", end, e["columns"]))

    def _copy(self, piece: _Piece) -> None:
        e, b = self.e, self.e.builder

        def copy(vector: Value, count: int) -> None:
            packed = self._packed(vector)
            column = b.add(piece.column, e.times(vector, e.lanes))
            masks = []
            for n in range(count):
                start = b.add(column, number(n * e.lanes))
                masks.append(e.units_below(start, e["columns"]))
            depth = b.select(self._direct(column, count), number(0), piece.depth)
            with e.loop(number(0), depth, number(1), name="copy") as row:
                source = b.mul(b.add(piece.start, row.index), e["ld_right"])
                for n, mask in enumerate(masks):
                    value = e.load_units(e.at(e["right"], source, column, n * e.lanes), mask)
                    place = e.times(row.index, count * e.lanes)
                    e.put_vector(value, e.at(packed, place, n * e.lanes))

        self._groups(piece, copy)

    def _all_rows(self, piece: _Piece, first: Value, last: Value) -> None:
        """Tiles of rows, then smaller ones for what is left."""
        e, b = self.e, self.e.builder
        count = self.tile.rows
        while count:
            whole = b.mul(b.sdiv(b.sub(last, first), number(count)), number(count))
            end = b.add(first, whole)
            with e.loop(first, end, number(count), name=f"r{count}_") as row:
                self._rows(piece, row.index, count)
            first = end
            count //= 2

    def _rows(self, piece: _Piece, row: Value, count: int) -> None:
        self._groups(piece, lambda vector, width: self._block(piece, row, count, vector, width))

    def _block(self, piece: _Piece, row: Value, count: int, vector: Value, width: int) -> None:
        """A tile of `out`."""
        e, b = self.e, self.e.builder
        zero = e.math.const(0.0)
        packed, stride = self._source(piece, vector, width)
        left = self._left(piece, row, count)
        sums = [zero] * (count * width)
        with e.loop(number(0), piece.depth, number(1), sums, "sum") as loop:
            start = b.mul(loop.index, stride)
            vectors = [e.vector_at(e.at(packed, start, n * e.lanes)) for n in range(width)]
            if self.order == "outer":
                self._fetch(left(_LINE // e.math.form.itemsize, loop.index))
            following = []
            for q in range(count):
                scalar = e.broadcast(b.load(left(q, loop.index)))
                for n, one in enumerate(vectors):
                    following.append(e.math.fma(scalar, one, loop.values[q * width + n]))
            loop.carry(*following)
        self._store(piece, row, count, vector, width, loop.values)

    def _fetch(self, place: Value) -> None:
        """Ask for what the next tile reads: its rows are too far apart to be foreseen."""
        e, b = self.e, self.e.builder
        found = e.module.globals.get(_PREFETCH)
        if found is None:
            kind = ir.FunctionType(ir.VoidType(), [BYTE_POINTER, I32, I32, I32])
            found = ir.Function(e.module, kind, _PREFETCH)
        read, near, data = (ir.Constant(I32, value) for value in (0, 3, 1))
        b.call(found, [b.bitcast(place, BYTE_POINTER), read, near, data])

    def _left(self, piece: _Piece, row: Value, count: int) -> Callable[[int, Value], Value]:
        """Where the number of `left` for a row of the tile and a term lies."""
        e, b = self.e, self.e.builder
        if self.order == "outer":
            base = e.at(e["left"], b.mul(piece.start, e["ld_left"]), row)
            return lambda q, n: e.at(base, b.mul(n, e["ld_left"]), q)
        starts = [
            e.at(e["left"], b.mul(b.add(row, number(q)), e["ld_left"]), piece.start)
            for q in range(count)
        ]
        return lambda q, n: e.at(starts[q], n)

    def _store(
        self, piece: _Piece, row: Value, count: int, vector: Value, width: int, sums: list[Value]
    ) -> None:
        e, b = self.e, self.e.builder
        column = b.add(piece.column, e.times(vector, e.lanes))
        starts = [b.add(column, number(n * e.lanes)) for n in range(width)]
        masks = [e.units_below(start, e["columns"]) for start in starts]
        places = [
            e.at(e["out"], b.mul(b.add(row, number(q)), e["ld_out"]), start)
            for q in range(count)
            for start in starts
        ]
        fresh = b.and_(
            b.icmp_signed("==", piece.start, number(0)), b.icmp_signed("==", e["add"], number(0))
        )
        with b.if_else(fresh) as (then, otherwise):
            with then:
                for n, (total, place) in enumerate(zip(sums, places, strict=True)):
                    e.store_units(total, place, masks[n % width])
            with otherwise:
                for n, (total, place) in enumerate(zip(sums, places, strict=True)):
                    mask = masks[n % width]
                    before = e.load_units(place, mask)
                    e.store_units(b.fadd(before, total), place, mask)

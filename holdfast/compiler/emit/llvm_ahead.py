"""What x is multiplied for, made for many steps at once, in LLVM IR.

With one or two rows, a step waits for its weights: those of x need not come from memory in each
step. A kernel for few rows multiplies the x of some steps together, and each step begins with the
sums that it finds. Each number is summed in the order in which the other kernels sum it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from holdfast.compiler.emit.llvm_loops import (
    Emitter,
    Sizes,
    Tile,
    number,
    user_row,
)
from holdfast.compiler.emit.llvm_math import Value
from holdfast.compiler.emit.llvm_products import multiply
from holdfast.compiler.emit.llvm_sweeps import portions
from holdfast.compiler.emit.llvm_team import Share

AHEAD = 24
"""Rows of x, over steps, that are multiplied at once."""


class Ahead:
    """Emits the product of x for some steps, and finds its sums again.

    Arguments:
        tile: how the product is cut. sums: affine sums of the cell. from_x: those with x.
    """

    def __init__(self, e: Emitter, sizes: Sizes, tile: Tile, sums: int, from_x: list[int]) -> None:
        self.e = e
        self.sizes = sizes
        self.tile = tile
        self.sums = sums
        self.from_x = from_x

    def multiply(self, share: Share, steps: Value, offset: Value, descending: Value) -> None:
        """`W x + b` for some steps of a dense batch: this thread's rows, or its units.

        Arguments:
            offset: where the rows of the first of the steps lie. descending: whether those of each
                following step lie before them.
        """
        e, b, rows = self.e, self.e.builder, self.tile.rows
        width = share.most

        def products(block: Value, first: Value, count: int) -> None:
            starts, places = [], []
            for q in range(count):
                place = b.add(first, number(q))
                skipped = b.mul(b.sdiv(place, width), e["batch"])
                row = share.row(b.srem(place, width))
                step = b.select(descending, b.sub(offset, skipped), b.add(offset, skipped))
                starts.append(input_row(e, self.sizes, b.add(step, row)))
                places.append(b.add(skipped, row))
            self._keep(block, places, starts)

        with (
            e.loop(share.first_block, share.last_block, number(1), name="j") as block,
            portions(e, number(0), b.mul(steps, width), rows) as (first, count),
        ):
            e.cases(count, rows, partial(products, block.index, first))

    def _keep(self, block: Value, places: list[Value], starts: list[Value]) -> None:
        e, tile, depth = self.e, self.tile, self.sizes.input
        columns = [n * tile.vectors + v for n in self.from_x for v in range(tile.vectors)]
        begin = bias_sums(e, tile, self.sums, block, range(self.sums))
        sums = multiply(e, self.sizes, "x", [begin] * len(places), block, starts, depth, columns)
        for place, found in zip(places, sums, strict=True):
            for n, value in enumerate(found):
                e.put_vector(value, e.at(self._at(place, block), n * tile.lanes))

    def find(self, place: Value, block: Value, group: Sequence[int]) -> list[Value]:
        """The sums of a group for a block of units.

        Arguments:
            place: the row, counted over the steps that were multiplied at once.
        """
        return _vectors(self.e, self.tile, self._at(place, block), group)

    def _at(self, place: Value, block: Value) -> Value:
        e, width = self.e, self.sums * self.tile.units
        row = e.times(place, width * self.tile.blocks)
        return e.at(e["ahead"], row, e.times(block, width))


def input_row(e: Emitter, sizes: Sizes, memory_row: Value) -> Value:
    """Where a row of x lies."""
    return e.at(e["x"], e.times(user_row(e, memory_row), sizes.input + sizes.given))


def bias_sums(e: Emitter, tile: Tile, sums: int, block: Value, group: Sequence[int]) -> list[Value]:
    """What the sums of a group begin with in every row.

    Arguments:
        sums: affine sums of the cell.
    """
    return _vectors(e, tile, e.at(e["bias"], e.times(block, sums * tile.units)), group)


def _vectors(e: Emitter, tile: Tile, start: Value, group: Sequence[int]) -> list[Value]:
    places = [n * tile.vectors + v for n in group for v in range(tile.vectors)]
    return [e.vector_at(e.at(start, place * tile.lanes)) for place in places]

"""What is measured: shapes, cells and passes, by the names that the command line takes."""

from __future__ import annotations

import re
from typing import NamedTuple

from holdfast.compiler.cell import Cell


class Shape(NamedTuple):
    """Rows of the batch, steps, inputs and units; its text is its name.

    >>> str(Shape(32, 100, 32, 128))
    'B32-T100-I32-H128'
    """

    B: int
    T: int
    I: int
    H: int

    def __str__(self) -> str:
        return f"B{self.B}-T{self.T}-I{self.I}-H{self.H}"


SHAPES: tuple[Shape, ...] = (
    Shape(1, 1, 32, 128),
    Shape(1, 100, 32, 128),
    Shape(1, 100, 128, 512),
    Shape(32, 100, 32, 64),
    Shape(32, 100, 32, 128),
    Shape(64, 100, 128, 256),
    Shape(64, 35, 192, 640),
    Shape(128, 50, 512, 512),
    Shape(256, 100, 8, 32),
)
"""The grid: from one step of one row to batches whose weights leave the caches."""

CELLS: tuple[str, ...] = ("lstm", "gru", "peephole", "coupled")
"""Cells of the grid: two that PyTorch has, two that it lacks."""

PASSES: tuple[str, ...] = ("forward", "forward+backward")
"""Inference, and the gradients of all parameters."""


def shape_named(name: str) -> Shape:
    """The shape of a name, on the grid or not.

    >>> shape_named("B2-T3-I4-H5")
    Shape(B=2, T=3, I=4, H=5)

    Errors: `ValueError` for a name of another form or with a size of zero.
    """
    found = re.fullmatch(r"B([1-9]\d*)-T([1-9]\d*)-I([1-9]\d*)-H([1-9]\d*)", name)
    if found is None:
        grid = ", ".join(map(str, SHAPES))
        raise ValueError(f"{name!r} is no shape; write it as B32-T100-I32-H128 (the grid: {grid})")
    return Shape(*map(int, found.groups()))


def operations(cell: Cell, shape: Shape, which: str) -> int:
    """Floating-point operations of the matrix products of one call, the only ones counted.

    The backward pass has the gradients of W and R and that of h; the input's is not asked for.
    """
    x_columns = sum(acc.x for acc in cell.accumulators) * shape.H
    h_columns = sum(acc.h for acc in cell.accumulators) * shape.H
    products = x_columns * shape.I + h_columns * shape.H
    if which == "forward+backward":
        products += products + h_columns * shape.H
    return 2 * shape.B * shape.T * products

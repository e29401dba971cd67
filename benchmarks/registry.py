"""What is measured: shapes, cells and passes, by the names that the command line takes."""

from __future__ import annotations

import re
from typing import NamedTuple


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


class Point(NamedTuple):
    """A shape with the setting in which it is measured, and where it comes from."""

    shape: Shape
    setting: str = "plain"
    source: str = ""


_FLASHRNN = "FlashRNN's grid"

GRIDS: dict[str, tuple[Point, ...]] = {
    "core": tuple(map(Point, SHAPES)),
    "wide": (
        Point(Shape(2, 256, 768, 768), source=_FLASHRNN),
        Point(Shape(16, 256, 768, 768), source=_FLASHRNN),
        Point(Shape(64, 256, 768, 768), source=_FLASHRNN),
        Point(Shape(128, 50, 1024, 1024), source="as in GNMT"),
        Point(Shape(32, 200, 800, 800), "bidirectional", "as in DeepSpeech 2"),
        Point(Shape(64, 168, 40, 40), "layers", "as in DeepAR"),
        Point(Shape(7, 33, 3, 50), source="odd sizes"),
        Point(Shape(32, 1, 32, 128), source="one step"),
    ),
    "large": (Point(Shape(256, 256, 768, 768), source=_FLASHRNN),),
}
"""Points by the name of their grid. What stands in `large` takes half a minute a round."""

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

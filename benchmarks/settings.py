"""Layers beyond the plain one: how they are made, and how much each of them computes.

A setting changes the layer and not the cell: the same cell with rows of unequal length, with a
projection, in float64, in both directions or in three layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from benchmarks.registry import Shape
from holdfast.compiler.cell import Cell
from holdfast.nn import Recurrent


def _nothing(shape: Shape) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Setting:
    """How a layer differs from the plain one.

    title: in words. options: of the layer at a shape, those that `torch.nn.LSTM` has, too. ragged:
    rows have lengths from T/2 to T. cells: for which cells it exists; all where empty.
    """

    name: str
    title: str
    options: Callable[[Shape], dict[str, Any]] = _nothing
    ragged: bool = False
    dtype: torch.dtype = torch.float32
    cells: tuple[str, ...] = ()

    def layer(self, cell: Cell, shape: Shape) -> Recurrent:
        """Our layer; its initial values are of no account, the global random state stays."""
        options = self.options(shape)
        with torch.random.fork_rng(devices=[]):
            return Recurrent(cell, shape.I, shape.H, **options, dtype=self.dtype)


def _projection(shape: Shape) -> dict[str, Any]:
    return {"proj_size": max(1, shape.H // 2)}


SETTINGS: dict[str, Setting] = {
    one.name: one
    for one in (
        Setting("plain", "one layer, float32"),
        Setting("ragged", "rows of T/2 to T steps", ragged=True),
        Setting("projection", "h projected to H/2 features", _projection, cells=("lstm",)),
        Setting("float64", "float64", dtype=torch.float64),
        Setting("bidirectional", "both directions", lambda shape: {"bidirectional": True}),
        Setting("layers", "three layers", lambda shape: {"num_layers": 3}),
    )
}
"""Settings by name."""


class Piece(NamedTuple):
    """One direction of one layer, in multiply-adds a row and step, which are its weights, too.

    x: of the input's product. h: of the products that the next step waits for. below: the gradient
    of the input is asked for.
    """

    x: int
    h: int
    below: bool


def pieces(cell: Cell, shape: Shape, setting: Setting) -> Iterator[Piece]:
    """Every direction of every layer.

    >>> from holdfast.cells import lstm
    >>> list(pieces(lstm, Shape(1, 1, 3, 5), SETTINGS["plain"]))
    [Piece(x=60, h=100, below=False)]
    """
    options = setting.options(shape)
    directions = 1 + bool(options.get("bidirectional", False))
    projected = options.get("proj_size", 0)
    features = projected or shape.H
    x_columns = sum(acc.x for acc in cell.accumulators) * shape.H
    h_columns = sum(acc.h for acc in cell.accumulators) * shape.H
    for layer in range(options.get("num_layers", 1)):
        inputs = directions * features if layer else shape.I
        h = h_columns * features + projected * shape.H
        for _ in range(directions):
            yield Piece(int(x_columns * inputs), int(h), layer > 0)


def operations(
    cell: Cell, shape: Shape, which: str, setting: Setting = SETTINGS["plain"], share: float = 1.0
) -> int:
    """Floating-point operations of the matrix products of one call, the only ones counted.

    The backward pass has the gradients of W and R and that of h; the gradient of x only between
    layers.

    Arguments:
        share: of the steps that are alive.
    """
    products = 0
    for piece in pieces(cell, shape, setting):
        products += piece.x + piece.h
        if which == "forward+backward":
            products += piece.x + 2 * piece.h + piece.below * piece.x
    return round(2 * shape.B * shape.T * share * products)

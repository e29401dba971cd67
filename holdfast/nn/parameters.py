"""The parameters of a stack: their names, order and shapes, and what they begin with."""

from __future__ import annotations

from dataclasses import dataclass, field

from holdfast.compiler.cell import Cell
from holdfast.nn.given import matrix_shape
from holdfast.nn.init import constants
from holdfast.nn.options import Options
from holdfast.nn.sizes import Sizes


@dataclass(frozen=True)
class Parameters:
    """What a layer registers.

    cells: of each layer and direction, the names that the cell gives its parameters, and the full
    ones. starts: of each layer and direction, the full names of the learned initial states. shapes:
    of every parameter, in order. units: H of the layer that each belongs to. constants: values of
    those that do not begin at random.
    """

    cells: list[dict[str, str]] = field(default_factory=list)
    starts: list[tuple[str, ...]] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    constants: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, cell: Cell, varied: Cell, options: Options, sizes: Sizes, bias: bool) -> Parameters:
        """The parameters of a stack of `varied`, which the options have made of `cell`.

        >>> from holdfast.cells import lstm
        >>> options = Options(learned_start=True)
        >>> found = Parameters.of(lstm, lstm, options, Sizes(3, (5, 7)), bias=True)
        >>> found.shapes["weight_ih_l1"], found.starts[1]
        ((28, 5), ('h_start_l1', 'c_start_l1'))
        """
        found = cls()
        fixed = constants(cell, varied)
        for layer, units in enumerate(sizes.hidden):
            shapes = _cell_shapes(varied, options, sizes, layer, bias)
            starts = _start_shapes(cell, options, sizes, layer)
            for direction in range(sizes.directions):
                suffix = f"_l{layer}_reverse" if direction else f"_l{layer}"
                found.cells.append({name: name + suffix for name in shapes})
                found.starts.append(tuple(name + suffix for name in starts))
                for name, shape in (shapes | starts).items():
                    found._add(name + suffix, shape, units)
                for name, value in (fixed | dict.fromkeys(starts, 0.0)).items():
                    found.constants[name + suffix] = value
            if options.highway and sizes.skips(layer):
                out = sizes.out(layer)
                found._add(f"weight_highway_l{layer}", (out, out), units)
                found._add(f"bias_highway_l{layer}", (out,), units)
                found.constants[f"bias_highway_l{layer}"] = -1.0
        return found

    def _add(self, name: str, shape: tuple[int, ...], units: int) -> None:
        self.shapes[name] = shape
        self.units[name] = units


def _cell_shapes(
    varied: Cell, options: Options, sizes: Sizes, layer: int, bias: bool
) -> dict[str, tuple[int, ...]]:
    units = sizes.hidden[layer]
    features = sizes.features(layer)
    shapes = varied.stored(features, units) | matrix_shape(varied, features, units)
    if not bias:
        shapes = {k: v for k, v in shapes.items() if k not in ("bias_ih", "bias_hh")}
    if sizes.projection:
        shapes["weight_hr"] = (sizes.projection, units)
    if "weight_hh" in shapes:
        shapes["weight_hh"] = (shapes["weight_hh"][0], sizes.width(layer) // options.heads)
    return shapes


def _start_shapes(
    cell: Cell, options: Options, sizes: Sizes, layer: int
) -> dict[str, tuple[int, ...]]:
    if not options.learned_start:
        return {}
    starts = {f"{state}_start": (sizes.hidden[layer],) for state in cell.states}
    return {"h_start": (sizes.width(layer),)} | starts

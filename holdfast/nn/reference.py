"""How a module carries its cell through pickle: by name, never by its code."""

from __future__ import annotations

import importlib
import pickle

from holdfast.cells import CELLS
from holdfast.compiler.cell import Cell
from holdfast.nn.checks import find_cell


def refer(cell: Cell) -> str | tuple[str, str]:
    """A cell's name in the catalogue, or else the module and the name it is found under.

    >>> from holdfast.cells import peephole
    >>> refer(peephole)
    'peephole'

    Errors: `pickle.PicklingError` for a cell that was not defined at the top of a module.
    """
    if CELLS.get(cell.name) is cell:
        return cell.name
    module, name = cell.function.__module__, cell.function.__qualname__
    try:
        if resolve((module, name)) is cell:
            return module, name
    except (ImportError, AttributeError):
        pass
    raise pickle.PicklingError(
        f"the cell {cell.name} cannot be found as {module}.{name}; define it at the top of a "
        "module, or save layer.state_dict() and build the layer anew"
    )


def resolve(reference: str | tuple[str, str]) -> Cell:
    """The cell that `refer` gave this reference for."""
    if isinstance(reference, str):
        return find_cell(reference)
    module, name = reference
    return getattr(importlib.import_module(module), name)

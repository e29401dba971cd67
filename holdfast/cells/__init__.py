"""The catalogue: one variant a file, its mathematics and its citation.

>>> from holdfast.cells import CELLS, peephole
>>> CELLS["peephole"] is peephole
True

Whatever cell stands in a file of this folder is in the catalogue. A file holds the cell of its
name, or cells whose names begin with its name and an underscore: `rnn_relu` in `rnn.py`. It is
imported when one of them is first asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING, Any

from holdfast.compiler.cell import Cell

if TYPE_CHECKING:
    from holdfast.cells.coupled import coupled as coupled
    from holdfast.cells.gru import gru as gru
    from holdfast.cells.gru_2014 import gru_2014 as gru_2014
    from holdfast.cells.lstm import lstm as lstm
    from holdfast.cells.lstm_1997 import lstm_1997 as lstm_1997
    from holdfast.cells.peephole import peephole as peephole
    from holdfast.cells.rnn import rnn as rnn
    from holdfast.cells.rnn import rnn_relu as rnn_relu


class Catalogue(Mapping[str, Cell]):
    """The cells of a package by name, in alphabetical order; their files are imported on demand.

    >>> from holdfast.cells import CELLS
    >>> CELLS["gru"].gates[0].name
    'r'
    >>> "lstm" in CELLS and "lsmt" not in CELLS
    True

    Errors: `KeyError` for a name that no file holds.
    """

    def __init__(self, package: str, path: Iterable[str]) -> None:
        self._package = package
        self._files = [found.name for found in iter_modules(path)]
        self._known: dict[str, Cell] = {}

    def __getitem__(self, name: str) -> Cell:
        if name not in self._known:
            holding = [file for file in self._files if f"{name}_".startswith(f"{file}_")]
            if holding:
                self._known |= self._cells(max(holding, key=len))
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"Catalogue({', '.join(self)})"

    @cached_property
    def _names(self) -> list[str]:
        return sorted(name for file in self._files for name in self._cells(file))

    def _cells(self, file: str) -> dict[str, Cell]:
        module = import_module(f"{self._package}.{file}")
        values = [value for value in vars(module).values() if isinstance(value, Cell)]
        return {one.name: one for one in values if one.function.__module__ == module.__name__}


class _Package(ModuleType):
    """Makes a file's name mean the cell in it: importing the file would bind it to the module."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, getattr(value, name, value) if _is_file(value) else value)


def _is_file(value: Any) -> bool:
    return isinstance(value, ModuleType) and value.__name__.startswith(f"{__name__}.")


def __getattr__(name: str) -> Cell:
    try:
        return CELLS[name]
    except KeyError:
        raise AttributeError(f"{__name__} has no cell {name}") from None


CELLS: Mapping[str, Cell] = Catalogue(__name__, __path__)
"""Every cell of the catalogue by name."""

sys.modules[__name__].__class__ = _Package

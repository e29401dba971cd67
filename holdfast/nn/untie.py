"""Parameters as a layer keeps them, made whole for the cell: the rows that ties leave out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import torch
from torch import Tensor

from holdfast.compiler.cell import PARTS, Cell
from holdfast.compiler.tie import rows
from holdfast.nn.tracing import untraced


def untie(cell: Cell, parameters: Mapping[str, Tensor], hidden_size: int) -> dict[str, Tensor]:
    """The parameters with H rows for every gate; the same tensors where nothing is tied.

    >>> from holdfast.cells import lstm
    >>> weights = {"weight_ih": torch.zeros(20, 3)}
    >>> untie(lstm, weights, 5)["weight_ih"] is weights["weight_ih"]
    True
    """
    if not cell.ties:
        return dict(parameters)
    return {
        name: value.index_select(0, _index(cell, PARTS[name], hidden_size).to(value.device))
        if name in PARTS
        else value
        for name, value in parameters.items()
    }


@cache
def _whole(cell: Cell, part: str, hidden_size: int) -> Tensor:
    ties = dict(cell.ties)
    starts: dict[str, int] = {}
    start = 0
    for acc, kept in cell.split(part, hidden_size):
        starts.setdefault(acc.gate, start)
        start += kept
    index = [
        starts[tie.source if tie and tie.source else acc.gate] + rows(tie, hidden_size)
        for acc, _ in cell.split(part, hidden_size)
        for tie in (ties.get(acc.gate),)
    ]
    # Kept for every later call, which may be one that autograd watches.
    with torch.inference_mode(False):
        return torch.from_numpy(np.concatenate(index))


_index = untraced(_whole)

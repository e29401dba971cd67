"""Which target runs a pass over a sequence, and the pass itself."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from holdfast.compiler.cell import Cell
from holdfast.compiler.emit import eager
from holdfast.compiler.emit.eager import Result


def select(cell: Cell, x: Tensor, parameters: Mapping[str, Tensor]) -> tuple[str, str]:
    """The target that will run, `llvm` or `eager`, and the reason."""
    return "eager", "the compiled target is not built yet"


def run(
    backend: str,
    cell: Cell,
    x: Tensor,
    parameters: Mapping[str, Tensor],
    h: Tensor,
    states: tuple[Tensor, ...] = (),
    *,
    lengths: Tensor | None = None,
    batch_sizes: Tensor | None = None,
    sequences: bool = False,
) -> Result:
    """One layer, one direction, over a sequence; arguments and result as `eager.run`."""
    return eager.run(
        cell,
        x,
        parameters,
        h,
        states,
        lengths=lengths,
        batch_sizes=batch_sizes,
        sequences=sequences,
    )

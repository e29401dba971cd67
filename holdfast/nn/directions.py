"""The directions of one layer, run and joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from holdfast.compiler.emit.eager import Result
from holdfast.nn import operators, truncate
from holdfast.nn.operators import Direction
from holdfast.nn.ragged import Rows


def run(
    directions: Sequence[Direction], rows: Rows, tbptt: int, *, summed: bool
) -> tuple[Tensor, list[Result]]:
    """The output of a layer and the result of each of its directions.

    Where nothing flows back, both write into halves of one output.

    Arguments:
        summed: outputs are added rather than joined.
    """
    if len(directions) == 2 and not summed and not tbptt:
        found = operators.infer_both(directions, rows)
        if found is not None:
            return found
    results = [_alone(one, rows, tbptt, backward=n == 1) for n, one in enumerate(directions)]
    return _join([result.out for result in results], summed), results


def _alone(one: Direction, rows: Rows, tbptt: int, *, backward: bool) -> Result:
    arguments = (one.backend, one.cell, one.x, one.parameters, one.h, one.states)
    if backward:
        return operators.run_backwards(*arguments, rows, **one.options)
    options: dict[str, Any] = {"lengths": rows.lengths, "batch_sizes": rows.batch_sizes}
    options |= one.options
    if tbptt:
        return truncate.run_truncated(tbptt, *arguments, **options)
    return operators.run(*arguments, **options)


def _join(outs: list[Tensor], summed: bool) -> Tensor:
    if len(outs) == 1:
        return outs[0]
    return outs[0] + outs[1] if summed else torch.cat(outs, -1)

"""All steps at once, where the recurrence is linear: a scan instead of a loop over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from holdfast.compiler.cell import Cell
from holdfast.compiler.emit import eager
from holdfast.compiler.emit.eager import Result
from holdfast.compiler.linear import coefficients
from holdfast.nn.ragged import Rows


def run(
    cell: Cell,
    x: Tensor,
    parameters: Mapping[str, Tensor],
    h: Tensor,
    states: tuple[Tensor, ...] = (),
    *,
    lengths: Tensor | None = None,
    sequences: bool = False,
) -> Result:
    """`eager.run` in log T operations on whole sequences, for cells whose recurrence is linear.

    >>> import torch
    >>> from holdfast.cells import CELLS
    >>> cell = CELLS["min_gru"]
    >>> parameters = {name: torch.rand(shape) for name, shape in cell.shapes(3, 5).items()}
    >>> x, start = torch.rand(7, 2, 3), torch.zeros(2, 5)
    >>> loop = eager.run(cell, x, parameters, start).out
    >>> bool(torch.allclose(run(cell, x, parameters, start).out, loop))
    True

    Arguments: those of `eager.run`.
    Source: Hillis & Steele 1986; Martin & Cundy 2018.
    """
    steps, batch = x.shape[:2]
    # Even a NaN in the padding stays out of the gradients.
    x = Rows(lengths).blank(x)
    units = cell.measure(parameters)[1]
    leaves = _leaves(cell, x.flatten(0, 1), parameters, units)
    starts = dict(zip(("h", *cell.states), (h, *states), strict=True))

    def leaf(op: str, name: str, number: float) -> Tensor:
        if op == "const":
            return torch.full((), number, dtype=x.dtype, device=x.device)
        return leaves[op, name]

    found = coefficients(cell, leaf, lambda op, *values: eager.SPELLINGS[op](*values))
    for name, new in found.items():
        b = new.b.expand(steps * batch, units).unflatten(0, (steps, batch))
        if new.state:
            a = new.a.expand(steps * batch, units).unflatten(0, (steps, batch))
            b = scan(a, b, starts[name])
        before = torch.cat([starts[name].unsqueeze(0), b[:-1]])
        leaves["state", name] = before.flatten(0, 1)
    results = eager.evaluate(cell, leaves, parameters)
    course = [value.expand(steps * batch, units).unflatten(0, (steps, batch)) for value in results]
    if "weight_hr" in parameters:
        course[0] = functional.linear(course[0], parameters["weight_hr"])
    pairs = zip(course, starts.values(), strict=True)
    first, *rest = (_last(values, start, lengths) for values, start in pairs)
    out, *kept = (Rows(lengths).blank(values) for values in course)
    return Result(out, first, tuple(rest), tuple(kept) if sequences else None)


def scan(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """Every `s_t = a_t * s_{t-1} + b_t`, `[T, B, H]`, from the s before the first step, `[B, H]`.

    >>> half = torch.full((4, 1, 1), 0.5)
    >>> scan(half, torch.zeros(4, 1, 1), torch.ones(1, 1)).flatten().tolist()
    [0.5, 0.25, 0.125, 0.0625]
    """
    b = torch.cat([(a[0] * start + b[0]).unsqueeze(0), b[1:]])
    distance = 1
    while distance < b.shape[0]:
        b = torch.cat([b[:distance], b[distance:] + a[distance:] * b[:-distance]])
        a = torch.cat([a[:distance], a[distance:] * a[:-distance]])
        distance *= 2
    return b


def _leaves(
    cell: Cell, x: Tensor, parameters: Mapping[str, Tensor], units: int
) -> dict[tuple[str, str], Any]:
    """What the step graph reads, for all steps as rows, but for the states."""
    leaves: dict[tuple[str, str], Any] = {
        ("weight", name): parameters[name] for name in cell.weights
    }
    leaves |= eager.given(cell, x, parameters, units)
    return leaves | eager.gates(cell, x, parameters, x)


def _last(values: Tensor, start: Tensor, lengths: Tensor | None) -> Tensor:
    """The last valid value of each row; the first one where a row has no step."""
    if lengths is None:
        return values[-1]
    counts = lengths.to(values.device, torch.int64)
    index = (counts - 1).clamp(min=0).view(1, -1, 1).expand(1, -1, values.shape[2])
    return torch.where((counts > 0).unsqueeze(1), values.gather(0, index)[0], start)

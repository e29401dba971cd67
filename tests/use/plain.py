"""An LSTM layer written out in plain PyTorch, with places where a test puts an option in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from holdfast.nn import Recurrent


class Course(NamedTuple):
    """Outputs and cell states of every step, `[T, B, H]`, and the last of both."""

    out: Tensor
    cells: Tensor
    h: Tensor
    c: Tensor


def keep(new: Tensor, old: Tensor, t: int) -> Tensor:
    """What a step makes of a new state where no option says otherwise."""
    return new


def lstm(
    layer: Recurrent,
    x: Tensor,
    start: tuple[Tensor, Tensor] | None = None,
    *,
    suffix: str = "_l0",
    weight_hh: Tensor | None = None,
    operand: Callable[[Tensor], Tensor] = lambda h: h,
    candidate: Callable[[Tensor, int], Tensor] = lambda g, t: g.tanh(),
    gate: Callable[[Tensor], Tensor] = torch.sigmoid,
    output: Callable[[Tensor], Tensor] = torch.tanh,
    new_h: Callable[[Tensor, Tensor, int], Tensor] = keep,
    new_c: Callable[[Tensor, Tensor, int], Tensor] = keep,
    before: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]] = lambda h, c, t: (h, c),
) -> Course:
    """One direction over `x`, `[T, B, I]`, with the parameters of a layer of that suffix.

    Arguments:
        operand: what R multiplies, from h. candidate, gate, output: the activations. new_h, new_c:
            from the new and the old value and the step. before: the states before each step.
    """
    p = {name: value for name, value in layer.named_parameters() if name.endswith(suffix)}
    matrix = p[f"weight_hh{suffix}"] if weight_hh is None else weight_hh
    units = p[f"weight_ih{suffix}"].shape[0] // 4
    zeros = x.new_zeros(x.shape[1], units)
    h, c = (zeros, zeros) if start is None else start
    course: list[tuple[Tensor, Tensor]] = []
    for t, x_t in enumerate(x):
        h, c = before(h, c, t)
        sums = nn.functional.linear(x_t, p[f"weight_ih{suffix}"], p.get(f"bias_ih{suffix}"))
        sums = sums + nn.functional.linear(operand(h), matrix, p.get(f"bias_hh{suffix}"))
        i, f, g, o = sums.split(units, 1)
        fresh = gate(f) * c + gate(i) * candidate(g, t)
        h, c = new_h(gate(o) * output(fresh), h, t), new_c(fresh, c, t)
        course.append((h, c))
    out, cells = (torch.stack(values) for values in zip(*course, strict=True))
    return Course(out, cells, h, c)


def both(results: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Output and the last states of a layer of one layer and direction, from what it returned."""
    out, (h, c) = results[:2]
    return out, h[0], c[0]

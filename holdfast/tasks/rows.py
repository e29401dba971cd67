"""Tables of which a step needs a few rows: gradients that are sparse, and Adam on these rows.

A table of 20,000 words with dense gradients costs as much in every step as a small LSTM. With
``nn.Embedding(..., sparse=True)`` a step costs what its own rows do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def clip_gradients(parameters: Sequence[nn.Parameter], most: float) -> None:
    """Make gradients smaller where their common norm is more than `most`, as `torch.nn.utils` does.

    Rows of a sparse gradient that stand there twice are added up first.
    """
    found = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            found.append(parameter.grad._values())
        else:
            found.append(parameter.grad)
    if not found:
        return
    norm = torch.nn.utils.get_total_norm(found)
    scale = torch.clamp(most / (norm + 1e-6), max=1.0)
    for grad in found:
        grad.mul_(scale)


class RowAdam(torch.optim.Adam):
    """Adam; of parameters with sparse gradients only the rows that have one move.

    >>> table = nn.Embedding(5, 2, sparse=True)
    >>> optimizer = RowAdam(table.parameters(), lr=0.1)
    >>> before = table.weight.detach().clone()
    >>> table(torch.tensor([1, 3])).sum().backward()
    >>> optimizer.step()
    >>> (table.weight != before).any(1).nonzero().flatten().tolist()
    [1, 3]

    The means of a row are those of the steps in which it had a gradient, corrected by the number of
    all steps, as in `torch.optim.SparseAdam`. A weight decay acts on dense parameters alone.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override] (no closure is used)
        """One step."""
        sparse = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    sparse.append((group, parameter, parameter.grad.coalesce()))
                    parameter.grad = None
        super().step(closure)
        for group, parameter, grad in sparse:
            self._move(group, parameter, grad.indices()[0], grad.values())
            parameter.grad = grad

    def _move(self, group: dict[str, Any], table: Tensor, rows: Tensor, grad: Tensor) -> None:
        state = self.state[table]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(table)
            state["exp_avg_sq"] = torch.zeros_like(table)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        count = float(state["step"])
        mean = state["exp_avg"].index_select(0, rows).lerp_(grad, 1 - beta1)
        square = state["exp_avg_sq"].index_select(0, rows)
        square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        state["exp_avg"].index_copy_(0, rows, mean)
        state["exp_avg_sq"].index_copy_(0, rows, square)
        rate = group["lr"] / (1 - beta1**count)
        spread = square.sqrt_().div_((1 - beta2**count) ** 0.5).add_(group["eps"])
        table.index_add_(0, rows, mean.div_(spread), alpha=-rate)

"""Several processes that train one network: each takes a share of every batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class Team:
    """The process `rank` of `size`; alone, it does nothing.

    >>> Team().share(np.zeros((5, 2))).shape, Team(1, 2).share(np.zeros((5, 2))).shape
    ((5, 2), (2, 2))
    """

    rank: int = 0
    size: int = 1

    def share(self, blocks: np.ndarray, joint: int = 1) -> np.ndarray:
        """This process' part of a batch; neighbors stay together in groups of `joint`."""
        if self.size == 1:
            return blocks
        grouped = blocks.reshape(-1, joint, blocks.shape[-1])
        return grouped[self.rank :: self.size].reshape(-1, blocks.shape[-1])

    def gather(self, net: nn.Module, weight: float) -> None:
        """Every gradient becomes that of the whole batch: the mean by the shares' `weight`."""
        if self.size == 1:
            return
        parameters = [p for p in net.parameters() if p.requires_grad]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([*(weight * grad.reshape(-1) for grad in grads), torch.tensor([weight])])
        torch.distributed.all_reduce(flat)
        flat = flat / flat[-1].clamp(min=1e-12)
        parts = flat[:-1].split([grad.numel() for grad in grads])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter).clone()

    def total(self, *values: float) -> list[float]:
        """The sums of `values` over all processes."""
        if self.size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(sums)
        return sums.tolist()

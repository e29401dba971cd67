"""Random masks as tensors: drawn by compiled code where that can be, else by the definition."""

from __future__ import annotations

import torch
from torch import Tensor

from holdfast.compiler import noise as definition
from holdfast.compiler.build import drawer
from holdfast.compiler.emit.llvm import FORMATS
from holdfast.compiler.noise import Noise, limits


def draw(
    noise: Noise, number: int, units: int, dtype: torch.dtype, step: int | None = None
) -> Tensor:
    """A mask for every row, `[B, units]`; arguments and values are those of `noise.draw`.

    >>> noise = Noise(torch.arange(2), torch.tensor([[0.5, 2.0, 0.0]], dtype=torch.float64))
    >>> torch.equal(draw(noise, 0, 9, torch.float32), definition.draw(noise, 0, 9, torch.float32))
    True
    """
    seeds = noise.seeds
    if not _plain(seeds) or dtype not in FORMATS:
        return definition.draw(noise, number, units, dtype, step)
    largest, *pair = limits(noise.table)[number]
    seeds = seeds.contiguous()
    counters: Tensor | None = None
    if step is not None:
        counters = torch.full_like(seeds, step)
        counters = counters if noise.steps is None else counters + noise.steps
    values = torch.tensor(pair, dtype=dtype)
    limit = torch.tensor([largest])
    out = torch.empty(seeds.shape[0], units, dtype=dtype)
    pointers = [seeds.data_ptr(), 0 if counters is None else counters.data_ptr()]
    pointers += [tensor.data_ptr() for tensor in (limit, values, out)]
    drawer(dtype)(*pointers, number, *out.shape)
    return out


def _plain(tensor: Tensor) -> bool:
    """Whether this is memory of the CPU that nothing watches."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return False
    if torch._C._are_functorch_transforms_active():
        return False
    return type(tensor) is Tensor and tensor.device.type == "cpu"

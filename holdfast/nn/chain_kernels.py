"""Compiled sums over the paths of linear chains, and best paths: tensors in, tensors out."""

from __future__ import annotations

import torch
from torch import Tensor

from holdfast.compiler import build, threads
from holdfast.compiler.build import Kernel
from holdfast.compiler.emit.llvm_chain import padded, scratch_size
from holdfast.nn.memory import borrow


def sums(
    emissions: Tensor, start: Tensor, ways: Tensor, end: Tensor, steps: Tensor, *, both: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Logarithms of sums over all paths, `[B]` float64, and if `both` the nodes and edges.

    >>> x, one, ways = torch.zeros(2, 1, 3), torch.ones(3), torch.ones(3, 3)
    >>> log_z, nodes, edges = sums(x, one, ways, one, torch.tensor([2]), both=True)
    >>> round(float(log_z.exp()), 4), tuple(nodes.shape), tuple(edges.shape)
    (9.0, (2, 1, 3), (1, 3, 3))

    Arguments:
        emissions: `[T, B, K]`, float32 or float64; the rest is of its format. start, end: `[K]`,
            and ways: `[K, K]`, the exponentials of scores. steps: of each row, `[B]` int64.
    """
    T, B, K = emissions.shape
    kind = "marginals" if both else "sums"
    kernel = build.chain(kind, emissions.dtype)
    given = (emissions, start, ways, end, steps)
    log_z = torch.empty(B, dtype=torch.float64)
    if not both:
        _launch(kernel, kind, given, [log_z])
        return log_z, None, None
    nodes, edges = emissions.new_empty(T, B, K), emissions.new_empty(B, K, K)
    _launch(kernel, kind, given, [log_z, nodes, edges])
    return log_z, nodes, edges


def best(
    emissions: Tensor, start: Tensor, ways: Tensor, end: Tensor, steps: Tensor
) -> tuple[Tensor, Tensor]:
    """The best path of each row, `[T, B]` int64 with -1 beyond its end, and its score, `[B]`.

    >>> x, none = torch.eye(3).unsqueeze(1), torch.zeros(3)
    >>> path, total = best(x, none, torch.zeros(3, 3), none, torch.tensor([2]))
    >>> path[:, 0].tolist(), total.tolist()
    ([0, 1, -1], [2.0])

    Arguments:
        emissions: `[T, B, K]`, float32 or float64; the rest is of its format. start, end: `[K]`,
            and ways: `[K, K]`, scores. steps: of each row, `[B]` int64.
    """
    T, B, _ = emissions.shape
    path, total = torch.empty(T, B, dtype=torch.int64), emissions.new_empty(B)
    kernel = build.chain("best", emissions.dtype)
    _launch(kernel, "best", (emissions, start, ways, end, steps), [path, total])
    return path, total


def _launch(kernel: Kernel, kind: str, given: tuple[Tensor, ...], found: list[Tensor]) -> None:
    """Run a kernel, with what it reads in whole vectors."""
    emissions, start, ways, end, steps = given
    T, B, K = emissions.shape
    lanes = kernel.tile.lanes
    width = padded(K, lanes)
    table = emissions.new_zeros(2 * width + 2, width)
    table[0, :K] = start
    table[1, :K] = end
    table[2 : 2 + K, :K] = ways
    table[2 + width : 2 + width + K, :K] = ways.t()
    count = max(1, min(B, threads.shared(4 * T * B * K * width)))
    (scratch,) = borrow(emissions, count * scratch_size(kind, T, K, lanes))
    emissions, steps = emissions.contiguous(), steps.contiguous()
    tensors = (emissions, table[0], table[2], table[2 + width], table[1], steps, *found, scratch)
    kernel([*(tensor.data_ptr() for tensor in tensors), T, B, K], count)

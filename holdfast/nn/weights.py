"""The products after the loop: gradients of the matrices, of x and of the first h."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from holdfast.compiler.cell import Cell
from holdfast.compiler.emit.llvm_loops import Sizes
from holdfast.nn.layout import Layout
from holdfast.nn.packing import dense, inner, rows_of, runs
from holdfast.nn.products import gradient_product, rows_product


@dataclass(frozen=True, eq=False)
class Matrices:
    """What the products multiply; `rows` counts live rows."""

    cell: Cell
    sizes: Sizes
    layout: Layout
    x: Tensor
    """`[rows, I]`"""
    recurrent: Tensor
    """What R multiplied, one step late: `[T * B, P or H]` as the user's rows lie, or live rows."""
    first: Tensor
    """What R multiplied in the first step, `[B, P or H]`."""
    d_gates: Tensor
    """`[rows, sums * H]`"""
    operands: Mapping[str, Tensor]
    """What the R of each called gate multiplied, `[rows, H]`."""

    def gradients(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gradients of W and R by name."""
        found: dict[str, Tensor] = {}
        if "weight_ih" in parameters:
            found["weight_ih"] = torch.empty_like(parameters["weight_ih"])
            self._fill(found["weight_ih"], "x", [(self.d_gates, self.x)])
        if "weight_hh" in parameters:
            result = found["weight_hh"] = torch.empty_like(parameters["weight_hh"])
            if runs(self.cell, "h"):
                self._fill(result, "h", self._previous())
            for name, n, position in inner(self.cell):
                target = rows_of(result, position, self.sizes.hidden)
                self._product(self._columns(n, n + 1), self.operands[name], target, add=False)
        return found

    def _columns(self, start: int, end: int) -> Tensor:
        return self.d_gates[:, start * self.sizes.hidden : end * self.sizes.hidden]

    def _fill(self, result: Tensor, part: str, pairs: list[tuple[Tensor, Tensor]]) -> None:
        hidden = self.sizes.hidden
        for start, end, first in runs(self.cell, part):
            columns = slice(start * hidden, end * hidden)
            target = result[first * hidden : (first + end - start) * hidden]
            for n, (left, right) in enumerate(pairs):
                self._product(left[:, columns], right, target, add=n > 0)

    def _product(self, left: Tensor, right: Tensor, target: Tensor, *, add: bool) -> None:
        """`left^T right`, or its diagonal blocks where the target has no more columns."""
        width = target.shape[1]
        if width == right.shape[1]:
            gradient_product(left, right, target, add=add)
            return
        heads = right.shape[1] // width
        blocks = target.view(-1, heads, width, width)  # [gates, heads, units, columns]
        gates = blocks.shape[0]
        parts = left.view(left.shape[0], gates, heads, width)
        for gate in range(gates):
            for head in range(heads):
                columns = right[:, head * width : (head + 1) * width]
                gradient_product(parts[:, gate, head], columns, blocks[gate, head], add=add)

    def _previous(self) -> list[tuple[Tensor, Tensor]]:
        """Rows of `d_gates` beside what R multiplied in their step."""
        batch = self.first.shape[0]
        counts = self.layout.counts
        if self.layout.rows == batch and counts is None:
            return [(self.d_gates, self.first)]
        if counts is None and self.layout.descending:
            last = self.layout.rows - batch
            return [
                (self.d_gates[:last], self.recurrent[batch:]),
                (self.d_gates[last:], self.first),
            ]
        if counts is None:
            later = (self.d_gates[batch:], self.recurrent[: self.layout.rows - batch])
            return [later, (self.d_gates[:batch], self.first)]
        alive = counts.numpy()
        first = int(alive[0])
        starts = np.cumsum(alive) - alive
        inside = np.arange(first)[None, :] < alive[1:, None]
        before = torch.from_numpy((starts[:-1, None] + np.arange(first)[None, :])[inside])
        if self.layout.index is not None and not self.cell.operand:
            before = self.layout.index.index_select(0, before)
        later = self.recurrent.index_select(0, before)
        return [(self.d_gates[first:], later), (self.d_gates[:first], self.first[:first])]

    def input_gradient(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """The gradient of x, `[rows, I]`."""
        if "weight_ih" not in parameters:
            return self.d_gates.new_empty(self.d_gates.shape[0], 0)
        return self._through(self.d_gates, parameters["weight_ih"], "x")

    def first_gradient(self, recurrent: Tensor) -> Tensor:
        """The gradient of what R multiplied in the first step, `[B, P or H]`."""
        alive = self.first.shape[0] if self.layout.counts is None else int(self.layout.counts[0])
        if self.sizes.heads > 1:
            recurrent = dense(recurrent, self.sizes.hidden)
        result = self.first.new_zeros(self.first.shape)
        rows = self.d_gates[-alive:] if self.layout.descending else self.d_gates[:alive]
        result[:alive] = self._through(rows, recurrent, "h")
        return result

    def _through(self, gradients: Tensor, weight: Tensor, part: str) -> Tensor:
        hidden = self.sizes.hidden
        total = gradients.new_empty(gradients.shape[0], weight.shape[1])
        spans = runs(self.cell, part)
        for n, (start, end, first) in enumerate(spans):
            columns = slice(start * hidden, end * hidden)
            rows = slice(first * hidden, (first + end - start) * hidden)
            rows_product(gradients[:, columns], weight[rows], total, add=n > 0)
        return total if spans else total.zero_()

"""The products after the loop: gradients of the matrices, of x and of the first h."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from holdfast.compiler.cell import Cell
from holdfast.compiler.emit.llvm_loops import Sizes
from holdfast.nn.packing import dense, inner, rows_of, runs
from holdfast.nn.products import gradient_product, rows_product


@dataclass(frozen=True, eq=False)
class Matrices:
    """What the products of some steps multiply; `rows` counts their live rows."""

    cell: Cell
    sizes: Sizes
    d_gates: Tensor
    """`[rows, sums * H]`"""

    def add_input(self, result: Tensor, x: Tensor, *, add: bool) -> None:
        """The gradient of W, written to the result or added; x is `[rows, I]`."""
        self._fill(result, "x", [(self.d_gates, x)], add=add)

    def add_recurrent(
        self,
        result: Tensor,
        pairs: Sequence[tuple[Tensor, Tensor]],
        operands: Mapping[str, Tensor],
        *,
        add: bool,
    ) -> None:
        """The gradient of R, written to the result or added.

        Arguments:
            pairs: rows of `d_gates` beside what R multiplied in their step, `[..., P or H]`.
            operands: what the R of each called gate multiplied, `[rows, H]`.
        """
        if runs(self.cell, "h"):
            self._fill(result, "h", pairs, add=add)
        for name, n, position in inner(self.cell):
            target = rows_of(result, position, self.sizes.hidden)
            self._product(self._columns(n, n + 1), operands[name], target, add=add)

    def _columns(self, start: int, end: int) -> Tensor:
        return self.d_gates[:, start * self.sizes.hidden : end * self.sizes.hidden]

    def _fill(
        self, result: Tensor, part: str, pairs: Sequence[tuple[Tensor, Tensor]], *, add: bool
    ) -> None:
        hidden = self.sizes.hidden
        for start, end, first in runs(self.cell, part):
            columns = slice(start * hidden, end * hidden)
            target = result[first * hidden : (first + end - start) * hidden]
            for n, (left, right) in enumerate(pairs):
                self._product(left[:, columns], right, target, add=add or n > 0)

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

    def input_gradient(self, weight: Tensor, result: Tensor) -> None:
        """The gradient of x, `[rows, I]`."""
        self._through(self.d_gates, weight, "x", result)

    def first_gradient(self, recurrent: Tensor, rows: Tensor, result: Tensor) -> None:
        """The gradient of what R multiplied in the first step; `rows` are those of that step."""
        if self.sizes.heads > 1:
            recurrent = dense(recurrent, self.sizes.hidden)
        self._through(rows, recurrent, "h", result)

    def _through(self, gradients: Tensor, weight: Tensor, part: str, result: Tensor) -> None:
        hidden = self.sizes.hidden
        spans = runs(self.cell, part)
        for n, (start, end, first) in enumerate(spans):
            columns = slice(start * hidden, end * hidden)
            rows = slice(first * hidden, (first + end - start) * hidden)
            rows_product(gradients[:, columns], weight[rows], result, add=n > 0)
        if not spans:
            result.zero_()

"""LSTMs over trees: a node's memory is made of those of its children."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

from holdfast.nn import checks
from holdfast.nn.forest import Forest, Level
from holdfast.nn.structure import Structure, calm, check_flags, check_place, check_tensor


class _TreeLSTM(Structure, ABC):
    """Runs a forest level by level; what a node makes of its children is the subclass's."""

    reason = "a node waits for its children, not for the step before, so there is no time loop"
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        columns: int,
        rows: int,
        bias: bool,
        device: torch.device | str | int | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            checks.check_size(name, size)
        check_flags(bias=bias)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        units = hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (4 * units, input_size),
            "weight_hh": (rows * units, columns * units),
        }
        if bias:
            shapes["bias_ih"] = (4 * units,)
        self._create_parameters(shapes, 1.0 / math.sqrt(units), device, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor, forest: Forest) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The output of every node, `[N, H]`, and the states `(h, c)` of the roots, `[R, H]`.

        Arguments:
            input: features of every node, `[N, I]`, in the order of the forest's numbers; zeros
                where a node has none.
            forest: the trees; its nodes are those of the whole batch.

        Errors: `TypeError` for what is not a tensor or a forest, `RuntimeError` for wrong sizes,
        `ValueError` for a wrong dtype.
        """
        name = self._get_name()
        check_tensor(name, "input", input)
        if not isinstance(forest, Forest):
            raise TypeError(
                f"{name}: expected forest to be a Forest, got {type(forest).__name__}; make one "
                "with holdfast.nn.Forest.from_parents(...)"
            )
        like = self.weight_ih
        check_place(name, "input", input, like)
        wanted = [len(forest), self.input_size]
        if list(input.shape) != wanted:
            raise RuntimeError(
                f"{name}: Expected input size {wanted}, a row of features for each node of the "
                f"forest, got {list(input.shape)}"
            )
        self._check_forest(forest)
        with calm(input):
            h, c = self._run(input.to(like.dtype), forest.to(input.device)).chunk(2, 1)
        roots = forest.roots.to(input.device)
        return h, (h.index_select(0, roots), c.index_select(0, roots))

    def _check_forest(self, forest: Forest) -> None:
        """Refuse a forest that the layer has no weights for."""

    def _run(self, x: Tensor, forest: Forest) -> Tensor:
        """Both states of every node, `[N, 2 H]`."""
        entered = functional.linear(x, self.weight_ih, self.bias_ih if self.bias else None)
        sizes = [level.size for level in forest.levels]
        steps = entered.index_select(0, forest.order).split(sizes)
        # Every state is copied once for each of its parents, when it is made: a buffer of all nodes
        # would be walked over at every level of the backward pass.
        waiting: list[list[Tensor]] = [[] for _ in sizes]
        done = []
        for number, (level, gates) in enumerate(zip(forest.levels, steps, strict=True)):
            came = waiting[number]
            state = self._join(gates, torch.cat(came) if came else None, level)
            done.append(state)
            if level.targets:
                pieces = state.index_select(0, level.sources).split(level.counts)
                for target, piece in zip(level.targets, pieces, strict=True):
                    waiting[target].append(piece)
        return torch.cat(done).index_select(0, forest.places)

    @abstractmethod
    def _join(self, gates: Tensor, below: Tensor | None, level: Level) -> Tensor:
        """The states of a level, `[n, 2 H]`, from its gates `[n, 4 H]` and its children's."""


class ChildSumTreeLSTM(_TreeLSTM):
    """Read trees whose nodes have any number of children, in no order: dependency trees, graphs.

    >>> import torch
    >>> layer = ChildSumTreeLSTM(input_size=3, hidden_size=5)
    >>> forest = Forest.join([Forest.from_parents([1, -1]), Forest.from_parents([2, 2, -1])])
    >>> out, (h, c) = layer(torch.randn(5, 3), forest)  # [N, I], all nodes of the batch
    >>> tuple(out.shape), tuple(h.shape)  # every node, and the two roots
    ((5, 5), (2, 5))

    With a sum over the children k of a node:
    s = sum_k h_k
    i = sigmoid(W_i x + R_i s + b_i);  g = tanh(W_g x + R_g s + b_g);  o as i
    f_k = sigmoid(W_f x + R_f h_k + b_f)
    c = i g + sum_k f_k c_k;  h = o tanh(c)

    Parameters: 4 H (I + H + 1)

    On a chain it is the plain LSTM.

    Runs on PyTorch: a node waits for its children, not for the step before. All nodes of one height
    over the whole batch are computed at once, and a node may be a child of several parents.

    Arguments:
        input_size: I, features of a node.
        hidden_size: H, units.
        bias: False leaves out b.

    Errors: `TypeError` and `ValueError` for impossible sizes.
    Source: Tai, Socher & Manning 2015, equations 2 to 8.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, 1, 4, bias, device, dtype)

    def _join(self, gates: Tensor, below: Tensor | None, level: Level) -> Tensor:
        i, f, g, o = gates.chunk(4, 1)
        if below is None:
            c = torch.sigmoid(i) * torch.tanh(g)
            return torch.cat([torch.sigmoid(o) * torch.tanh(c), c], 1)
        w_i, w_f, w_g, w_o = self.weight_hh.chunk(4)
        h_k, c_k = below.chunk(2, 1)  # [E, H], a row for each edge
        total = h_k.new_zeros(level.size, self.hidden_size).index_add(0, level.owners, h_k)
        sums = functional.linear(total, torch.cat([w_i, w_g, w_o])).chunk(3, 1)
        keep = torch.sigmoid(f.index_select(0, level.owners) + functional.linear(h_k, w_f))
        kept = torch.zeros_like(total).index_add(0, level.owners, keep * c_k)
        c = torch.sigmoid(i + sums[0]) * torch.tanh(g + sums[1]) + kept
        return torch.cat([torch.sigmoid(o + sums[2]) * torch.tanh(c), c], 1)


class NaryTreeLSTM(_TreeLSTM):
    """Read trees whose nodes have at most N children in order: constituency trees, expressions.

    >>> import torch
    >>> layer = NaryTreeLSTM(input_size=3, hidden_size=5, arity=2)
    >>> forest = Forest([[], [], [0, 1], [None, 2]])  # node 3 has no first child
    >>> out, (h, c) = layer(torch.randn(4, 3), forest)  # [N, I]
    >>> tuple(out.shape), tuple(h.shape)
    ((4, 5), (1, 5))

    With a sum over the places l = 1 .. N of a node's children, h_l = c_l = 0 for a missing one:
    i = sigmoid(W_i x + sum_l R_i^l h_l + b_i);  g = tanh(W_g x + sum_l R_g^l h_l + b_g);  o as i
    f_k = sigmoid(W_f x + sum_l R_f^kl h_l + b_f)  for each place k
    c = i g + sum_k f_k c_k;  h = o tanh(c)

    Parameters: 4 H (I + 1) + (3 + N) N H^2

    `weight_hh` holds R of i, f_1 .. f_N, g, o; its columns are the children one after another.

    Runs on PyTorch, all nodes of one height at once, as `ChildSumTreeLSTM`.

    Arguments:
        input_size: I, features of a node.
        hidden_size: H, units.
        arity: N, the most children of a node.
        bias: False leaves out b.

    Errors: `TypeError` and `ValueError` for impossible sizes; `ValueError` naming the node for a
    forest with more children than `arity`.
    Source: Tai, Socher & Manning 2015, equations 9 to 14.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        arity: int = 2,
        bias: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        checks.check_size("arity", arity)
        super().__init__(input_size, hidden_size, arity, 3 + arity, bias, device, dtype)
        self.arity = arity

    def _check_forest(self, forest: Forest) -> None:
        beyond = forest.child_beyond(self.arity)
        if beyond is not None:
            node, position = beyond
            raise ValueError(
                f"{self._get_name()}: node {node} has a child in position {position}, but with "
                f"arity={self.arity} positions go from 0 to {self.arity - 1}"
            )

    def _join(self, gates: Tensor, below: Tensor | None, level: Level) -> Tensor:
        i, f, g, o = gates.chunk(4, 1)
        if below is None:
            c = torch.sigmoid(i) * torch.tanh(g)
            return torch.cat([torch.sigmoid(o) * torch.tanh(c), c], 1)
        places = self.arity
        at = level.owners * places + level.positions
        empty = below.new_zeros(level.size * places, below.shape[1])
        h_l, c_l = empty.index_copy(0, at, below).view(level.size, places, -1).chunk(2, 2)
        sums = functional.linear(h_l.flatten(1), self.weight_hh)  # [n, (3 + N) H]
        widths = [self.hidden_size * count for count in (1, places, 1, 1)]
        s_i, s_f, s_g, s_o = sums.split(widths, 1)
        keep = torch.sigmoid(f.unsqueeze(1) + s_f.unflatten(1, (places, -1)))  # [n, N, H]
        c = torch.sigmoid(i + s_i) * torch.tanh(g + s_g) + (keep * c_l).sum(1)
        return torch.cat([torch.sigmoid(o + s_o) * torch.tanh(c), c], 1)

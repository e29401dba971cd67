"""Trees in the order in which their nodes can be computed: all nodes of one height at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Level:
    """The nodes of one height over the whole forest, and the edges that end and begin there.

    sources: for each edge that leaves this level, sorted by the level it goes to, the node within
    this level. targets: those levels, counts: how many edges go to each. owners: for each edge that
    comes in, in the order in which lower levels send them, the node within this level; positions:
    which child of its parent it is.
    """

    sources: Tensor
    targets: tuple[int, ...]
    counts: tuple[int, ...]
    owners: Tensor
    positions: Tensor
    size: int

    def to(self, device: torch.device) -> Level:
        """The same with its tensors elsewhere."""
        moved = {name: getattr(self, name).to(device) for name in ("sources", "owners")}
        return replace(self, positions=self.positions.to(device), **moved)


class Forest:
    """One or many trees, checked and sorted by height once, for `ChildSumTreeLSTM` and others.

    >>> forest = Forest.from_parents([2, 2, 4, 4, -1])  # 4 is the root
    >>> len(forest), forest.height, forest.roots.tolist()
    (5, 3, [4])
    >>> two = Forest.join([forest, Forest([[1], []])])
    >>> len(two), two.sizes, two.roots.tolist()
    (7, (5, 2), [4, 5])

    Nodes are numbered from 0, in any order, trees one after another. A node may be a child of
    several parents, which makes the tree a directed acyclic graph; a root is a child of none.

    Arguments:
        children: for each node its children in order; `None` in the place of a missing one.

    Errors: `TypeError` and `ValueError` naming the node: for a child that does not exist, two
    children in one place, and a node that is its own ancestor.
    """

    def __init__(self, children: Iterable[Sequence[int | None]]) -> None:
        rows = [list(row) for row in children]
        edges = [
            (child, parent, position)
            for parent, row in enumerate(rows)
            for position, child in enumerate(row)
            if child is not None
        ]
        child, parent, position = zip(*edges, strict=True) if edges else ((), (), ())
        self._build(len(rows), _whole(child), _whole(parent), _whole(position), (len(rows),))

    @classmethod
    def from_parents(cls, parents: Any) -> Forest:
        """A forest from the parent of each node, -1 for a root; children are in their own order.

        >>> Forest.from_parents([-1, 0, 0]).height
        2
        """
        parent = _whole(parents)
        child = np.flatnonzero(parent != -1)
        return cls.from_edges(len(parent), child, parent[child])

    @classmethod
    def from_edges(cls, nodes: int, child: Any, parent: Any, position: Any = None) -> Forest:
        """A forest from its edges, in any order.

        >>> Forest.from_edges(3, child=[0, 1], parent=[2, 2], position=[1, 0]).roots.tolist()
        [2]

        Arguments:
            nodes: how many there are.
            child, parent: the two nodes of each edge, `[E]`.
            position: which child of its parent it is, from 0; by default in the order of the edges.
        """
        child, parent = _whole(child), _whole(parent)
        if len(child) != len(parent):
            raise ValueError(
                f"child and parent should have one number for each edge, got {len(child)} and "
                f"{len(parent)}"
            )
        if position is None:
            order = np.argsort(parent, kind="stable")
            position = np.empty(len(parent), np.int64)
            position[order] = _running(parent[order])
        forest = cls.__new__(cls)
        forest._build(nodes, child, parent, _whole(position), (nodes,))
        return forest

    @classmethod
    def join(cls, forests: Iterable[Forest]) -> Forest:
        """Several forests as one batch, their nodes one after another.

        >>> Forest.join([Forest([[]]), Forest([[], [0]])]).sizes
        (1, 2)
        """
        given = list(forests)
        if not given:
            raise ValueError("there is no forest to join; give at least one")
        sizes = [size for forest in given for size in forest.sizes]
        starts = np.cumsum([0, *(len(forest) for forest in given)])
        pairs = list(zip(given, starts[:-1], strict=True))
        joined = cls.__new__(cls)
        joined._build(
            int(starts[-1]),
            np.concatenate([forest._child + start for forest, start in pairs]),
            np.concatenate([forest._parent + start for forest, start in pairs]),
            np.concatenate([forest._position for forest in given]),
            tuple(sizes),
        )
        return joined

    def _build(
        self,
        nodes: int,
        child: np.ndarray,
        parent: np.ndarray,
        position: np.ndarray,
        sizes: tuple[int, ...],
    ) -> None:
        _check(nodes, child, parent, position)
        self._child, self._parent, self._position = child, parent, position
        self.sizes = sizes
        """Nodes of each tree, or of each forest, that was joined."""
        self.arity = int(position.max()) + 1 if len(position) else 0
        """The most children that a node has a place for."""
        heights = _heights(nodes, child, parent)
        self.height = int(heights.max()) + 1
        """Levels from the lowest leaf to the highest root."""
        order = np.argsort(heights, kind="stable")
        self.order = torch.from_numpy(order)
        """The nodes from low to high, `[N]`."""
        self.places = torch.from_numpy(np.argsort(order, kind="stable"))
        """Where each node stands in `order`, `[N]`."""
        self.roots = torch.from_numpy(np.setdiff1d(np.arange(nodes), child))
        """The nodes that are nobody's child, `[R]`."""
        self.levels = self._levels(heights, order)

    def _levels(self, heights: np.ndarray, order: np.ndarray) -> tuple[Level, ...]:
        rank = np.empty(len(order), np.int64)
        rank[order] = _running(heights[order])
        below, above = heights[self._child], heights[self._parent]
        number = np.arange(len(below))
        sent = np.lexsort((number, above, below))
        got = np.lexsort((number, below, above))
        levels = range(self.height)
        starts = np.searchsorted(below[sent], [*levels, self.height])
        ends = np.searchsorted(above[got], [*levels, self.height])
        sizes = np.bincount(heights, minlength=self.height)
        made = []
        for level in levels:
            leaving = sent[starts[level] : starts[level + 1]]
            coming = got[ends[level] : ends[level + 1]]
            targets, counts = np.unique(above[leaving], return_counts=True)
            made.append(
                Level(
                    torch.from_numpy(rank[self._child[leaving]]),
                    tuple(targets.tolist()),
                    tuple(counts.tolist()),
                    torch.from_numpy(rank[self._parent[coming]]),
                    torch.from_numpy(self._position[coming]),
                    int(sizes[level]),
                )
            )
        return tuple(made)

    def __len__(self) -> int:
        return len(self.order)

    def __repr__(self) -> str:
        return f"Forest(nodes={len(self)}, roots={len(self.roots)}, height={self.height})"

    def child_beyond(self, places: int) -> tuple[int, int] | None:
        """A node with a child behind the first `places`, and the position of that child."""
        if self.arity <= places:
            return None
        found = np.flatnonzero(self._position >= places)
        return int(self._parent[found[0]]), int(self._position[found[0]])

    def to(self, device: torch.device | str) -> Forest:
        """The same forest with its tensors on a device; itself where they are there already."""
        device = torch.device(device)
        if self.order.device == device:
            return self
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        for name in ("order", "places", "roots"):
            setattr(twin, name, getattr(self, name).to(device))
        twin.levels = tuple(level.to(device) for level in self.levels)
        return twin


def _whole(numbers: Any) -> np.ndarray:
    """Whole numbers as `[E]` of int64."""
    found = np.asarray(numbers.cpu() if isinstance(numbers, Tensor) else numbers)
    if found.size == 0:
        return np.zeros(0, np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise TypeError(
            f"nodes should be whole numbers in one row, got {found.dtype} of shape {found.shape}"
        )
    return found.astype(np.int64)


def _running(keys: np.ndarray) -> np.ndarray:
    """For sorted keys the number of each among its equals: 0, 1, 2, 0, 1, ..."""
    if not len(keys):
        return np.zeros(0, np.int64)
    _, starts, counts = np.unique(keys, return_index=True, return_counts=True)
    return np.arange(len(keys)) - np.repeat(starts, counts)


def _check(nodes: int, child: np.ndarray, parent: np.ndarray, position: np.ndarray) -> None:
    if nodes < 1:
        raise ValueError("a forest needs at least one node, got none")
    for what, ends in (("child", child), ("parent", parent)):
        wrong = np.flatnonzero((ends < 0) | (ends >= nodes))
        if len(wrong):
            edge = int(wrong[0])
            raise ValueError(
                f"there is no node {ends[edge]}, the {what} in the edge {child[edge]} -> "
                f"{parent[edge]}; nodes are numbered from 0 to {nodes - 1}"
            )
    if len(position) != len(parent) or (len(position) and position.min() < 0):
        raise ValueError(
            f"position should have one number from 0 on for each of the {len(parent)} edges"
        )
    order = np.lexsort((position, parent))
    twice = np.flatnonzero((np.diff(parent[order]) == 0) & (np.diff(position[order]) == 0))
    if len(twice):
        edge = int(order[twice[0]])
        raise ValueError(f"node {parent[edge]} has two children in position {position[edge]}")


def _heights(nodes: int, child: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """How far each node is above its lowest leaf."""
    waits = np.bincount(parent, minlength=nodes)
    order = np.argsort(child, kind="stable")
    above = parent[order]
    starts = np.searchsorted(child[order], np.arange(nodes + 1))
    heights = np.full(nodes, -1, np.int64)
    ready, level = np.flatnonzero(waits == 0), 0
    while len(ready):
        heights[ready] = level
        counts = starts[ready + 1] - starts[ready]
        first = np.repeat(starts[ready] - (np.cumsum(counts) - counts), counts)
        parents = above[first + np.arange(len(first))]
        np.subtract.at(waits, parents, 1)
        ready, level = np.unique(parents[waits[parents] == 0]), level + 1
    if (heights < 0).any():
        raise ValueError(_cycle(heights, child, parent))
    return heights


def _cycle(heights: np.ndarray, child: np.ndarray, parent: np.ndarray) -> str:
    """What to say of a node that is below itself."""
    # Whatever was never ready has a child that was never ready either: going down meets a cycle.
    stuck = heights[child] < 0
    down = dict(zip(parent[stuck].tolist(), child[stuck].tolist(), strict=True))
    node = int(np.flatnonzero(heights < 0)[0])
    path: list[int] = []
    while node not in path:
        path.append(node)
        node = down[node]
    ring = [*path[path.index(node) :], node]
    shown = [*map(str, ring[:6]), *(["...", str(node)] if len(ring) > 7 else map(str, ring[6:]))]
    return (
        f"node {node} is its own ancestor, by way of {' above '.join(shown)}; a tree has no "
        "cycles, so leave out one of these edges"
    )

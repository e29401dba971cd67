"""The cheapest choice between keeping values and computing them again, found exactly.

Each value that is needed is either kept, at the price of storing and loading it, or computed again
at the price of the operation, for which its inputs must be there in turn. Choosing the cheapest set
is a closure problem, and so a minimum cut (Picard 1976), found by the shortest augmenting paths
(Dinic 1970).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

Value = TypeVar("Value", bound=Hashable)

_NEVER = 10**12


def choose(
    values: Sequence[Value],
    wanted: Iterable[Value],
    inputs: Callable[[Value], Iterable[Value]],
    keeping: Callable[[Value], int],
    again: Callable[[Value], int],
) -> set[Value]:
    """The values to keep.

    >>> chain = {"c": ["b"], "b": ["a"], "a": []}
    >>> cost = {"a": 100, "b": 3, "c": 3}
    >>> choose("abc", "bc", chain.__getitem__, lambda value: 5, cost.__getitem__)
    {'b'}

    Arguments:
        values: all that may be kept or computed, in an order that settles ties.
        wanted: those that must be there.
        inputs: what a value is computed from; what is not among `values` is there for nothing.
        keeping, again: what it costs to keep a value, and to compute it from its inputs.
    """
    place = {value: n for n, value in enumerate(values)}
    network = _Network(2 * len(values) + 2)
    source, sink = 2 * len(values), 2 * len(values) + 1
    for value, n in place.items():
        there, computed = 2 * n, 2 * n + 1
        network.add(there, sink, keeping(value))
        saving = keeping(value) - again(value)
        if saving > 0:
            network.add(source, computed, saving)
        else:
            network.add(computed, sink, -saving)
        network.add(computed, there, _NEVER)
        for child in inputs(value):
            if child in place:
                network.add(computed, 2 * place[child], _NEVER)
    for value in wanted:
        network.add(source, 2 * place[value], _NEVER)
    reached = network.cut(source, sink)
    return {value for value, n in place.items() if reached[2 * n] and not reached[2 * n + 1]}


class _Network:
    """A graph with capacities; edge e and its reverse e ^ 1 are neighbors in the lists."""

    def __init__(self, count: int) -> None:
        self.edges: list[list[int]] = [[] for _ in range(count)]
        self.ends: list[int] = []
        self.left: list[int] = []

    def add(self, start: int, end: int, capacity: int) -> None:
        for here, there, room in ((start, end, capacity), (end, start, 0)):
            self.edges[here].append(len(self.ends))
            self.ends.append(there)
            self.left.append(room)

    def cut(self, source: int, sink: int) -> list[bool]:
        """Which nodes lie on the source's side of a minimum cut, as few as possible."""
        while True:
            levels = self._levels(source)
            if levels[sink] < 0:
                return [level >= 0 for level in levels]
            following = [0] * len(self.edges)
            while self._augment(source, sink, levels, following):
                pass

    def _levels(self, source: int) -> list[int]:
        levels = [-1] * len(self.edges)
        levels[source] = 0
        queue = deque([source])
        while queue:
            node = queue.popleft()
            for edge in self.edges[node]:
                if self.left[edge] and levels[self.ends[edge]] < 0:
                    levels[self.ends[edge]] = levels[node] + 1
                    queue.append(self.ends[edge])
        return levels

    def _augment(self, source: int, sink: int, levels: list[int], following: list[int]) -> bool:
        """Send flow along one shortest path; False where there is none left."""
        path: list[int] = []
        node = source
        while node != sink:
            if following[node] == len(self.edges[node]):
                if not path:
                    return False
                node = self.ends[path.pop() ^ 1]
                following[node] += 1
                continue
            edge = self.edges[node][following[node]]
            if self.left[edge] and levels[self.ends[edge]] == levels[node] + 1:
                path.append(edge)
                node = self.ends[edge]
            else:
                following[node] += 1
        room = min(self.left[edge] for edge in path)
        for edge in path:
            self.left[edge] -= room
            self.left[edge ^ 1] += room
        return True

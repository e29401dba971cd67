"""Stage 4b, schedule: in how many sweeps over the units of a row a step is computed.

Most cells need one: every unit of the new h and the new states depends on the affine sums of that
unit alone. A mean over the units, or a product inside the step (a gate that is called), needs every
unit of its input first. Input: the results of a step graph, and which nodes are there from the
start. Output: a `Schedule`: what each sweep computes, sums, and keeps for the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from holdfast.compiler.graph import PASSES, REDUCTIONS, Node, reach
from holdfast.compiler.ops import OPS

_CHEAP = 4
"""Computing a value of up to this cost again costs less than storing and loading it."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """One pass over the units of a row."""

    products: tuple[Node, ...]
    """Products and scans of the whole row that come before."""
    means: tuple[Node, ...]
    """Means whose inputs are summed on the way, and peaks likewise."""
    keeps: tuple[Node, ...]
    """What is stored for a later sweep or a product."""
    gives: tuple[Node, ...]
    """Results that are stored for good."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """The sweeps of a step, and what is kept between them."""

    sweeps: tuple[Sweep, ...]
    kept: tuple[Node, ...]
    """Values with a place in a row's memory: affine sums, products, what is expensive."""
    means: tuple[Node, ...]
    """Means and peaks, one number a row each."""

    @property
    def single(self) -> bool:
        """Whether one sweep does it, and nothing needs to be kept."""
        return len(self.sweeps) == 1

    def lines(self, what: str, names: Mapping[Node, str]) -> list[str]:
        """What each sweep does, where there are several; nothing for a single one."""
        if self.single:
            return []
        found = []
        for number, sweep in enumerate(self.sweeps):
            parts = {
                "multiply": sweep.products,
                "sum for": sweep.means,
                "keep": sweep.keeps,
                "give": sweep.gives[:1],
            }
            told = [f"{verb} {_listed(nodes, names)}" for verb, nodes in parts.items() if nodes]
            told = [part if not part.startswith("give") else "give the results" for part in told]
            found.append(f"{what}, sweep {number + 1} over a row: {'; '.join(told)}")
        return found

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Neighboring sweeps that one loop over rows can do, as no product lies between them."""
        found: list[list[int]] = []
        for number, sweep in enumerate(self.sweeps):
            if found and not sweep.products:
                found[-1].append(number)
            else:
                found.append([number])
        return tuple(map(tuple, found))


def _listed(nodes: Iterable[Node], names: Mapping[Node, str]) -> str:
    return ", ".join(names[node] for node in nodes)


def schedule(results: Iterable[Node], there: Callable[[Node], bool]) -> Schedule:
    """The sweeps that compute `results`.

    >>> from holdfast.cells import lstm
    >>> schedule(lstm.graph.outputs.values(), lambda node: node.leaf).single
    True

    Arguments:
        there: says of a node whether it can be loaded at any time.
    """
    wanted = tuple(dict.fromkeys(results))
    needed = _needed(wanted, there)
    levels: dict[Node, int] = {}
    for node in needed:
        below = max((levels[child] for child in node.inputs if child in levels), default=0)
        levels[node] = 0 if there(node) or node.leaf else below + node.crossing
    last = max(levels.values(), default=0)
    return _Scheduler(wanted, needed, levels, last, there).schedule()


def _needed(roots: tuple[Node, ...], there: Callable[[Node], bool]) -> tuple[Node, ...]:
    """What the roots depend on, inputs before users, not going past what is there."""
    return reach(roots, stop=[node for node in reach(roots) if there(node)])


class _Scheduler:
    """Walks the sweeps in order and finds what must be kept."""

    def __init__(
        self,
        wanted: tuple[Node, ...],
        needed: tuple[Node, ...],
        levels: dict[Node, int],
        last: int,
        there: Callable[[Node], bool],
    ) -> None:
        self.wanted = wanted
        self.levels = levels
        self.last = last
        self.there = there
        self.crossing = [node for node in needed if node.crossing and not there(node)]
        self.sums = [node for node in needed if node.op == "gate" and not there(node)]
        self.first: dict[Node, int] = {}
        self.kept: dict[Node, None] = {}

    def schedule(self) -> Schedule:
        """The finished schedule."""
        if self.last == 0:
            return Schedule((Sweep((), (), (), self.wanted),), (), ())
        for node in (*self.sums, *self.crossing):
            if node.op not in REDUCTIONS:
                self.kept[node] = None
        for number in range(self.last + 1):
            for root in self._roots(number):
                self._visit(root, number)
            for node in self._at(number + 1, PASSES):
                self.kept[node.inputs[0]] = None
                # A leaf is not visited: an old state that is multiplied is copied by this sweep.
                self.first.setdefault(node.inputs[0], number)
        self._prune()
        sweeps = tuple(self._sweep(number) for number in range(self.last + 1))
        return Schedule(sweeps, tuple(self.kept), tuple(self._at(None, REDUCTIONS)))

    def _at(self, level: int | None, ops: tuple[str, ...]) -> list[Node]:
        nodes = [node for node in self.crossing if node.op in ops]
        return [node for node in nodes if level is None or self.levels[node] == level]

    def _roots(self, number: int) -> list[Node]:
        """What a sweep computes: inputs of the next level; at the end, the results."""
        inputs = [node.inputs[0] for node in self._at(number + 1, REDUCTIONS + PASSES)]
        return [*inputs, *self.wanted] if number == self.last else inputs

    def _visit(self, node: Node, number: int) -> None:
        if self.there(node) or node.leaf or node.crossing:
            return
        if self.first.get(node, number) < number:
            if not node.uniform and not self._ready(node, number):
                self.kept[node] = None
            if node in self.kept:
                return
        self.first.setdefault(node, number)
        for child in node.inputs:
            self._visit(child, number)

    def _prune(self) -> None:
        """Forget what is cheap to compute again from what is kept anyway."""
        operands = {node.inputs[0] for node in self._at(None, PASSES)}
        for node in reversed(list(self.kept)):
            if node.op == "gate" or node.crossing or node in operands:
                continue
            del self.kept[node]
            if not self._ready(node, self.first[node] + 1):
                self.kept[node] = None

    def _ready(self, node: Node, number: int) -> bool:
        """Whether a value is cheap to compute again from what can be loaded."""
        if self.there(node) or node.leaf or node.crossing:
            return True
        if node in self.kept and self.first[node] < number:
            return True
        cheap = OPS[node.op].cost <= _CHEAP
        return cheap and all(self._ready(child, number) for child in node.inputs)

    def _sweep(self, number: int) -> Sweep:
        return Sweep(
            tuple(self._at(number, PASSES)),
            tuple(self._at(number + 1, REDUCTIONS)),
            tuple(node for node in self.kept if self.first.get(node) == number),
            self.wanted if number == self.last else (),
        )

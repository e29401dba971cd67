"""What can be measured of the jobs on text, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from benchmarks.contests import Amount as Amount
from benchmarks.contests import Experiment, Registry
from benchmarks.contests import Row as Row

EXPERIMENTS = Registry("text")
"""By name, in the order of definition; filled when `catalogue` is imported."""

Run = Callable[[Amount], Iterable[Row]]


def experiment(
    name: str, title: str, kind: str = "scores", published: str = ""
) -> Callable[[Run], Run]:
    """Make a function an experiment: it takes an `Amount` and yields a `Row` a contender.

    Errors: `ValueError` where the name is taken.
    """

    def register(run: Run) -> Run:
        EXPERIMENTS.add(Experiment(name, title, kind, run, published))
        return run

    return register

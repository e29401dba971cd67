"""Experiments by name, and the rows that they yield."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How much of an experiment is run.

    seeds: as many as asked for, or None for the experiment's own number. quick: a moment only, to
    see that it runs; what comes out says nothing.
    """

    seeds: int | None = None
    quick: bool = False

    def range(self, usual: int) -> range:
        """The seeds of a row whose usual number of seeds is given.

        >>> Settings().range(3), Settings(seeds=5).range(3), Settings(quick=True).range(3)
        (range(0, 3), range(0, 5), range(0, 1))
        """
        return range(self.seeds or (1 if self.quick else usual))


@dataclass(frozen=True)
class Row:
    """One model on one task: what we saw over the seeds, beside what the paper says.

    task: the task and its sizes. model: cell, sizes, optimizer. seeds: how many were run.
    solved: in how many the paper's criterion was met, or None where there is no such criterion.
    sequences: training sequences up to success, one of each seed that solved it. measure, values:
    the name and the unit of another result, and one value of each seed. published: the paper's
    words or numbers, with the mark [K?] where we did not see the paper itself. reached: whether
    ours is as good as what is published, or None where nothing is to be compared. note: what
    differs from the paper, and what failed. seconds: of processor time, filled in by the runner.
    """

    task: str
    model: str
    seeds: int
    solved: int | None = None
    sequences: tuple[int, ...] = ()
    measure: str = ""
    values: tuple[float, ...] = ()
    published: str = ""
    reached: bool | None = None
    note: str = ""
    seconds: float = 0.0

    @property
    def success(self) -> float | None:
        """The share of seeds that met the criterion."""
        return None if self.solved is None else self.solved / self.seeds

    @property
    def mean_sequences(self) -> float | None:
        """Mean number of sequences of the seeds that succeeded."""
        return statistics.fmean(self.sequences) if self.sequences else None

    @property
    def median_sequences(self) -> float | None:
        """Median number of sequences of the seeds that succeeded."""
        return statistics.median(self.sequences) if self.sequences else None


Run = Callable[[Settings], Iterable[Row]]


@dataclass(frozen=True)
class Experiment:
    """An experiment: name on the command line, title with its source, and the function to run."""

    name: str
    title: str
    run: Run


EXPERIMENTS: dict[str, Experiment] = {}
"""Every experiment by name, in the order of definition; filled when its module is imported."""


def experiment(name: str, title: str) -> Callable[[Run], Run]:
    """Make a function an experiment: it takes `Settings` and yields a `Row` for every model.

    Errors: `ValueError` where the name is taken.
    """

    def register(run: Run) -> Run:
        if name in EXPERIMENTS:
            raise ValueError(f"there is an experiment {name!r} already; choose another name")
        EXPERIMENTS[name] = Experiment(name, title, run)
        return run

    return register


def chosen(names: Iterable[str]) -> Iterator[Experiment]:
    """The experiments of these names, or all of them without names.

    Errors: `ValueError` for a name that is not there.
    """
    for name in tuple(names) or tuple(EXPERIMENTS):
        if name not in EXPERIMENTS:
            raise ValueError(f"no experiment {name!r}; there are {', '.join(EXPERIMENTS)}")
        yield EXPERIMENTS[name]

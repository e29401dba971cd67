"""Contests on real data: experiments by name, and the rows that they yield."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Amount:
    """How much is run.

    seeds: how many, or None for the usual number. quick: a moment of each, to see that it runs.
    """

    seeds: int | None = None
    quick: bool = False

    def range(self, usual: int) -> range:
        """The seeds of what usually has so many.

        >>> Amount().range(3), Amount(seeds=5).range(3), Amount(quick=True).range(3)
        (range(0, 3), range(0, 5), range(0, 1))
        """
        return range(self.seeds or (1 if self.quick else usual))


@dataclass(frozen=True)
class Row:
    """One contender: its figures by the name of the column, one of each seed or round.

    note: its settings, what is the same and what is not, or why there are no figures.
    """

    contender: str
    figures: dict[str, tuple[float, ...]] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Experiment:
    """Something to measure: its name on the command line, its title, and how to run it.

    kind: `scores` or `speed`, which is the file and the page that a recorded run goes to. run: from
    the settings of its verb to rows. published: what others report, in words.
    """

    name: str
    title: str
    kind: str
    run: Callable[[Any], Iterable[Row]]
    published: str = ""


class Registry(dict[str, Experiment]):
    """The experiments of a verb by name, in the order of definition.

    >>> Registry("text").add(Experiment("a", "An experiment", "scores", lambda amount: [])).name
    'a'
    """

    def __init__(self, verb: str) -> None:
        super().__init__()
        self.verb = verb

    def add(self, experiment: Experiment) -> Experiment:
        """Make an experiment known.

        Errors: `ValueError` where the name is taken.
        """
        if experiment.name in self:
            raise ValueError(
                f"there is a {self.verb} {experiment.name!r} already; choose another name"
            )
        self[experiment.name] = experiment
        return experiment

    def chosen(self, names: Iterable[str]) -> Iterator[Experiment]:
        """The experiments of these names.

        Errors: `ValueError` for a name that is not there.
        """
        for name in names:
            if name not in self:
                raise ValueError(f"no {self.verb} {name!r}; there are {', '.join(self)}")
            yield self[name]

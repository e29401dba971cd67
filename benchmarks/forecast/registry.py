"""What can be measured, by name, and the rows that it yields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

PEERS = ("neuralforecast", "darts")
"""Libraries beside which ours is measured where they are installed."""


@dataclass(frozen=True)
class Settings:
    """How much is run, and beside whom.

    seeds: how many, or None for the usual number. quick: a moment of each, to see that it runs.
    peers: libraries, of `PEERS`. steps: gradient steps of the peers' models at most. peer_seeds:
    how many seeds of theirs, or None for as many as ours.
    """

    seeds: int | None = None
    quick: bool = False
    peers: tuple[str, ...] = PEERS
    steps: int = 1000
    peer_seeds: int | None = None

    def range(self, usual: int) -> range:
        """The seeds of what usually has so many.

        >>> Settings().range(3), Settings(seeds=5).range(3), Settings(quick=True).range(3)
        (range(0, 3), range(0, 5), range(0, 1))
        """
        return range(self.seeds or (1 if self.quick else usual))

    def range_of_peers(self, usual: int) -> range:
        """The seeds of peers.

        >>> Settings(peer_seeds=1).range_of_peers(3), Settings(seeds=5).range_of_peers(3)
        (range(0, 1), range(0, 5))
        """
        return range(self.peer_seeds) if self.peer_seeds else self.range(usual)


@dataclass(frozen=True)
class Row:
    """One contender: its figures by the name of the column, one of each seed or round.

    note: its settings, what is the same and what is not, or why there are no figures.
    """

    contender: str
    figures: dict[str, tuple[float, ...]] = field(default_factory=dict)
    note: str = ""


Run = Callable[[Settings], Iterable[Row]]


@dataclass(frozen=True)
class Experiment:
    """Something to measure: its name on the command line, its title, and how to run it.

    kind: `scores` or `speed`, which is the file and the page that a recorded run goes to.
    published: what others report, in words.
    """

    name: str
    title: str
    kind: str
    run: Run
    published: str = ""


EXPERIMENTS: dict[str, Experiment] = {}
"""By name, in the order of definition; filled when `catalogue` is imported."""


def add(experiment: Experiment) -> Experiment:
    """Make an experiment known.

    Errors: `ValueError` where the name is taken.
    """
    if experiment.name in EXPERIMENTS:
        raise ValueError(f"there is a forecast {experiment.name!r} already; choose another name")
    EXPERIMENTS[experiment.name] = experiment
    return experiment


def chosen(names: Iterable[str]) -> Iterator[Experiment]:
    """The experiments of these names.

    Errors: `ValueError` for a name that is not there.
    """
    for name in names:
        if name not in EXPERIMENTS:
            raise ValueError(f"no forecast {name!r}; there are {', '.join(EXPERIMENTS)}")
        yield EXPERIMENTS[name]

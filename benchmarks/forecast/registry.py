"""What can be measured of forecasting, by name, and how much of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from benchmarks.contests import Amount, Registry
from benchmarks.contests import Experiment as Experiment
from benchmarks.contests import Row as Row

PEERS = ("neuralforecast", "darts")
"""Libraries beside which ours is measured where they are installed."""


@dataclass(frozen=True)
class Settings(Amount):
    """How much is run, and beside whom.

    peers: libraries, of `PEERS`. steps: gradient steps of the peers' models at most. peer_seeds:
    how many seeds of theirs, or None for as many as ours.
    """

    peers: tuple[str, ...] = PEERS
    steps: int = 1000
    peer_seeds: int | None = None

    def range_of_peers(self, usual: int) -> range:
        """The seeds of peers.

        >>> Settings(peer_seeds=1).range_of_peers(3), Settings(seeds=5).range_of_peers(3)
        (range(0, 1), range(0, 5))
        """
        return range(self.peer_seeds) if self.peer_seeds else self.range(usual)


EXPERIMENTS = Registry("forecast")
"""By name, in the order of definition; filled when `catalogue` is imported."""


def add(experiment: Experiment) -> Experiment:
    """Make an experiment known. Errors: `ValueError` where the name is taken."""
    return EXPERIMENTS.add(experiment)


def chosen(names: Iterable[str]) -> Iterator[Experiment]:
    """The experiments of these names. Errors: `ValueError` for a name that is not there."""
    return EXPERIMENTS.chosen(names)

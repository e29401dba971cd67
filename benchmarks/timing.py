"""Alternating measurement: contenders take turns, so that what disturbs one disturbs all."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

SLOW = 1.0
"""Seconds a call from which a contender takes part in a few rounds only."""

FEWEST_ROUNDS = 3
"""Rounds that every contender takes part in."""

Call = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """The median of some values with the lowest and the highest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """The spread of at least one value.

        >>> Spread.of([3.0, 1.0, 2.0])
        Spread(median=2.0, low=1.0, high=3.0)
        """
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Timing:
    """Seconds a call of one contender, by the number of the round."""

    rounds: dict[int, float]
    calls: int
    """Calls of each round."""
    cores: float = 1.0
    """Processor time by time on the clock, over all turns: how many cores were really used."""

    @property
    def seconds(self) -> Spread:
        """Seconds a call over the rounds."""
        return Spread.of(list(self.rounds.values()))

    def ratio(self, other: Timing) -> Spread:
        """How many times as long `other` took, round by round, where both took part."""
        both = sorted(self.rounds.keys() & other.rounds.keys())
        return Spread.of([other.rounds[n] / self.rounds[n] for n in both])


def alternate(calls: Mapping[str, Call], rounds: int, seconds: float) -> dict[str, Timing]:
    """Measure contenders in turn; the order is reversed from round to round.

    >>> sorted(alternate({"a": lambda: None, "b": lambda: None}, rounds=3, seconds=0.001))
    ['a', 'b']

    Arguments:
        calls: what each contender does, by name.
        rounds: how often each takes its turn; at least three. A contender that needs more than a
            second a call takes three turns, at the beginning, in the middle and at the end.
        seconds: length of a turn; the number of calls in it is found beforehand.
    """
    rounds = max(rounds, FEWEST_ROUNDS)
    counts: dict[str, int] = {}
    turns: dict[str, set[int]] = {}
    found: dict[str, dict[int, float]] = {name: {} for name in calls}
    used = dict.fromkeys(calls, (0.0, 0.0))
    with _no_collection():
        for name, call in calls.items():
            counts[name], single = calibrate(call, seconds)
            few = {0, (rounds - 1) // 2, rounds - 1}
            turns[name] = few if single > SLOW else set(range(rounds))
        for number in range(rounds):
            order = list(calls)[:: 1 if number % 2 == 0 else -1]
            for name in order:
                if number in turns[name]:
                    before = time.process_time()
                    found[name][number] = _batch(calls[name], counts[name])
                    spent, passed = used[name]
                    passed += found[name][number] * counts[name]
                    used[name] = spent + time.process_time() - before, passed
    return {
        name: Timing(found[name], counts[name], used[name][0] / used[name][1]) for name in calls
    }


def calibrate(call: Call, seconds: float) -> tuple[int, float]:
    """How many calls fill a turn, and the seconds of one; the first call is not counted."""
    single = _batch(call, 1)
    if single > SLOW:
        return 1, single
    count = 1
    while True:
        single = _batch(call, count)
        if single * count >= seconds / 4:
            return max(1, round(seconds / single)), single
        count *= 4


def _batch(call: Call, count: int) -> float:
    """Seconds a call over some calls."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return max(time.perf_counter() - start, 1e-9) / count


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection in the middle of a turn."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

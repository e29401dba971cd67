"""Contenders on the tasks: trained for each seed, scored on the same origins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.forecast import ours, rival_darts, rival_neuralforecast
from benchmarks.forecast.baselines import BASELINES
from benchmarks.forecast.registry import Experiment, Row, Settings, add
from benchmarks.forecast.scores import scored
from benchmarks.forecast.task import Forecast, RefusalError, Task, checked
from benchmarks.forecast.tasks import SOURCES, Source
from benchmarks.papers.folder import find, missing

Contender = Callable[[Task, int, Settings], Forecast]

SEEDS = 3

OURS = "holdfast"

RIVALS: dict[str, dict[str, Contender]] = {
    "neuralforecast": {
        f"neuralforecast {name}": partial(rival_neuralforecast.run, name)
        for name in rival_neuralforecast.MODELS
    },
    "darts": {f"darts {name}": partial(rival_darts.run, name) for name in rival_darts.MODELS},
}
"""Models of other libraries, by library and name."""


def contest(source: Source, settings: Settings) -> Iterator[Row]:
    """A row for ours, one for each model of the peers, one for each baseline of the task."""
    path = find(source.data)
    if path is None:
        yield Row(OURS, note=missing(source.data))
        return
    task = source.read(path)
    seeds = settings.range(SEEDS)
    yield run(OURS, ours.run, task, seeds, settings)
    for name, changes in ours.variants(task).items():
        yield run(name, partial(ours.run, **changes), task, seeds, settings)
    theirs = settings.range_of_peers(SEEDS)
    for library in settings.peers:
        for name, contender in RIVALS[library].items():
            yield run(name, contender, task, theirs, settings)
    for name in task.baselines:
        baseline = BASELINES[name]
        yield run(name, lambda task, *_, rule=baseline: rule(task), task, range(1), settings)


def run(name: str, contender: Contender, task: Task, seeds: range, settings: Settings) -> Row:
    """One contender with every seed: its scores and seconds, or why there are none."""
    figures: dict[str, list[float]] = {}
    words: list[str] = []
    for seed in seeds:
        try:
            forecast = checked(contender(task, seed, settings), task)
        except RefusalError as refusal:
            return Row(name, note=str(refusal))
        found = scored(forecast, task)
        seconds = {"fit, CPU s": forecast.fit_s, "predict, CPU s": forecast.predict_s}
        found |= {column: value for column, value in seconds.items() if value is not None}
        for column, value in found.items():
            figures.setdefault(column, []).append(value)
        words.append(forecast.settings)
    kept = {column: tuple(values) for column, values in figures.items()}
    return Row(name, kept, " | ".join(dict.fromkeys(words)))


def _titled(source: Source) -> Experiment:
    return Experiment(
        source.name, source.title, "scores", partial(contest, source), source.published
    )


for _source in SOURCES.values():
    add(_titled(_source))

"""What was aimed at beside what was measured, from the recorded runs alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.layers_report import CORE, rows_of
from benchmarks.memory import by_torch
from benchmarks.registry import shape_named
from benchmarks.stream import lead

Rows = Sequence[Mapping[str, Any]]

FORWARD, BOTH = "forward", "forward+backward"

SMALL = 64
"""The most units of a small layer."""

LARGE = 128
"""The fewest units of a layer from which a share of the ceiling is asked for."""

BATCH = 32
"""The fewest rows from which it is asked for, and from which threads are."""


@dataclass(frozen=True)
class Records:
    """All recorded runs by verb, the oldest first."""

    layers: Rows = ()
    cells: Rows = ()
    options: Rows = ()
    variants: Rows = ()
    stream: Rows = ()
    memory: Rows = ()
    threads: Rows = ()


@dataclass(frozen=True)
class Aim:
    """What a set of figures should reach.

    least: of their geometric mean. each: of every single one. most: they may be at most so large,
    and each of them counts.
    """

    least: float = 0.0
    each: float = 0.0
    most: float = math.inf

    @property
    def text(self) -> str:
        """In words."""
        if self.most < math.inf:
            return f"≤ {self.most:g}"
        parts = [f"≥ {self.least:g}"] if self.least else []
        return ", ".join(parts + ([f"none below {self.each:g}"] if self.each else []))

    def met(self, values: Sequence[float]) -> bool:
        """Whether figures reach it.

        >>> Aim(least=1.3, each=1.0).met([1.0, 2.0]), Aim(least=1.3, each=1.0).met([0.9, 3.0])
        (True, False)
        """
        if max(values) > self.most:
            return False
        return mean(values) >= self.least and min(values) >= self.each


_BEYOND = "on one thread a seventh of the loop's time would be above the processor's peak"

CAUSES: dict[str, str] = {
    "plain LSTM, inference, onnxruntime": (
        "a call of a layer costs 20 to 30 µs, one of ONNX Runtime 12 to 15 (`stepper` "
        "6); from 64 rows on ours runs at 85 to 94 % of the ceiling, so 1.5 is out of "
        "reach there"
    ),
    "plain LSTM, inference, keras": (
        "Keras runs compiled by JAX here, at 62 to 74 % of the ceiling for large shapes"
    ),
    "plain LSTM, training, H ≤ 64, torch": (
        "the mathematics of a unit and what is kept for the backward pass weigh as much "
        "as the products"
    ),
    "ragged, inference, torch": (
        "the layout of the rows is made in Python in each call, which short sequences feel"
    ),
    "ragged, training, torch": (
        "the layout of the rows is made in Python in each call, which short sequences feel"
    ),
    "float64, inference, torch": ("both wait for weights of twice the bytes"),
    "peephole LSTM, training, its loop in PyTorch": _BEYOND,
    "coupled LSTM, training, its loop in PyTorch": _BEYOND,
    "layer norm, training, its loop in PyTorch": _BEYOND,
    "zoneout, training, its loop in PyTorch": _BEYOND,
    "variational dropout, training, its loop in PyTorch": _BEYOND,
    "plain LSTM, inference, B ≥ 32, H ≥ 128, the ceiling": (
        "at 32 rows of 128 units the mathematics of the units is a tenth of the time"
    ),
}
"""Why a line falls short, by what it says, where it is known; shown where it does."""


@dataclass(frozen=True)
class Line:
    """One line: its figures with what each belongs to, by the number of threads."""

    what: str
    against: str
    aim: Aim
    figures: Mapping[int, Mapping[str, float]]


def mean(values: Sequence[float]) -> float:
    """The geometric mean.

    >>> mean([1.0, 4.0])
    2.0
    """
    return math.exp(sum(map(math.log, values)) / len(values))


def table(records: Records) -> Iterator[str]:
    """Lines of Markdown: aim, measured, met."""
    yield "| what | against | aim | threads | measured: mean (least, where) | met |"
    yield "|---|---|---|---:|---|---|"
    for line in lines(records):
        if not line.figures:
            yield f"| {line.what} | {line.against} | {line.aim.text} | | not recorded | |"
        for threads, figures in sorted(line.figures.items()):
            values = list(figures.values())
            cause = CAUSES.get(f"{line.what}, {line.against}", "")
            short = f"**no**: {cause}" if cause else "**no**"
            met = "yes" if line.aim.met(values) else short
            cells = (line.what, line.against, line.aim.text, str(threads))
            yield f"| {' | '.join(cells)} | {_measured(line.aim, figures)} | {met} |"


def _measured(aim: Aim, figures: Mapping[str, float]) -> str:
    if len(figures) == 1:
        return f"{next(iter(figures.values())):.2f}"
    pick = max if aim.most < math.inf else min
    where = pick(figures, key=lambda name: figures[name])
    word = "most" if aim.most < math.inf else "least"
    return f"{mean(list(figures.values())):.2f} ({word} {figures[where]:.2f}, {where})"


def lines(records: Records) -> Iterator[Line]:
    """Every line of the table."""
    layers = rows_of(records.layers)
    yield from _plain(layers)
    yield from _streams(records.stream)
    yield from _others(layers)
    yield from _variants(records)
    yield from _precisions(records.stream)
    yield Line("the plain LSTM, B ≥ 32", "one thread", Aim(least=1.7), _gains(records.threads))
    share = _by_threads(layers, _wide_enough, lambda row: row.get("ceiling_share"))
    large = f"B ≥ {BATCH}, H ≥ {LARGE}"
    yield Line(f"plain LSTM, inference, {large}", "the ceiling", Aim(each=0.85), share)
    yield from _peaks(records.memory)


def _plain(rows: Rows) -> Iterator[Line]:
    what = "plain LSTM, inference"
    aims = {"torch": 1.3, "onnxruntime": 1.5, "jax": 2.0, "keras": 3.0}
    for name, least in aims.items():
        yield Line(what, name, Aim(least, 1.0), _ratios(rows, "lstm", "plain", FORWARD, name))
    both = _ratios(rows, "lstm", "plain", BOTH, "torch")
    yield Line("plain LSTM, training", "torch", Aim(1.4, 1.0), both)
    small = {
        threads: {name: value for name, value in found.items() if shape_named(name).H <= SMALL}
        for threads, found in both.items()
    }
    yield Line(f"plain LSTM, training, H ≤ {SMALL}", "torch", Aim(2.0), _filled(small))


def _others(rows: Rows) -> Iterator[Line]:
    passes = {FORWARD: "inference", BOTH: "training"}
    for which, title in passes.items():
        found = _ratios(rows, "gru", "plain", which, "torch")
        yield Line(f"GRU, {title}", "torch", Aim(2.0), found)
    for setting, least in (("ragged", 3.0), ("projection", 2.5), ("float64", 2.5)):
        for which, title in passes.items():
            found = _ratios(rows, "lstm", setting, which, "torch")
            yield Line(f"{setting}, {title}", "torch", Aim(least), found)


def _variants(records: Records) -> Iterator[Line]:
    cells = _newest(records.cells, ("cell", "pass"))
    options = _newest([*records.options, *records.variants], ("option", "pass"))
    layers = rows_of(records.layers)
    aim, against = Aim(least=7.0), "its loop in PyTorch"
    for name in ("peephole", "coupled"):
        found = _by_threads(
            [row for row in cells if row["cell"] == name and row["pass"] == BOTH],
            lambda row: True,
            lambda row: row["speedup"]["median"],
            "cell",
        )
        nearer = _ratios(layers, name, "plain", BOTH, "eager", frozenset({"B32-T100-I32-H128"}))
        yield Line(f"{name} LSTM, training", against, aim, found | nearer)
    titles = {"recurrent_dropout": "variational dropout"}
    for name in ("layer_norm", "zoneout", "recurrent_dropout"):
        found = _by_threads(
            [row for row in options if row["option"] == name and row["pass"] == BOTH],
            lambda row: True,
            lambda row: row["peer_ratio"]["median"],
            "option",
        )
        title = titles.get(name, name.replace("_", " "))
        yield Line(f"{title}, training", against, aim, found)


def _streams(runs: Rows) -> Iterator[Line]:
    what = "one carried-state step, B=1, H=128"
    for name, least in (("torch", 12.0), ("onnxruntime", 2.0)):
        yield Line(what, name, Aim(least), _stepped(runs, 128, name))


def _precisions(runs: Rows) -> Iterator[Line]:
    for name, least in (("bf16", 1.5), ("int8", 2.0)):
        mine = f"ours, stepper {name}"
        slower = _stepped(runs, 512, mine)
        found = {
            threads: {place: 1 / value for place, value in values.items()}
            for threads, values in slower.items()
        }
        yield Line(f"single stream, H=512, {name} weights", "our float32", Aim(least), found)


def _stepped(runs: Rows, units: int, other: str) -> dict[int, dict[str, float]]:
    """How many times as long another takes as our fastest way of stepping in float32."""
    found: dict[int, dict[str, float]] = {}
    for row in _newest(runs, ("shape", "contender")):
        run = [one for one in runs if one["threads"] == row["threads"]][-1]
        same = [one["contender"] for one in run["rows"] if one["shape"] == row["shape"]]
        wanted = shape_named(row["shape"])[-1] == units and row["contender"] == lead(same)
        if wanted and other in row["ratios"]:
            figures = found.setdefault(row["threads"], {})
            figures[row["shape"]] = row["ratios"][other]["median"]
    return found


def _gains(runs: Rows) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    for row in _newest(runs, ("shape", "pass", "contender")):
        if row["contender"] == "ours":
            name = f"{row['shape']} {row['pass']}"
            found.setdefault(row["threads"], {})[name] = row["gain"]["median"]
    return found


def _peaks(runs: Rows) -> Iterator[Line]:
    found: dict[str, dict[int, dict[str, float]]] = {"ours": {}, "ours, recompute": {}}
    rows = _newest(runs, ("shape", "contender"))
    for threads, shape in dict.fromkeys((row["threads"], row["shape"]) for row in rows):
        same = [row for row in rows if (row["threads"], row["shape"]) == (threads, shape)]
        for name, value in by_torch(same).items():
            if name in found:
                found[name].setdefault(threads, {})[shape] = value
    yield Line("peak memory in training", "torch", Aim(most=1.0), found["ours"])
    title = "peak memory in training, recomputed"
    yield Line(title, "torch", Aim(most=0.6), found["ours, recompute"])


def _wide_enough(row: Mapping[str, Any]) -> bool:
    shape = shape_named(row["shape"])
    plain = (row["cell"], row["setting"], row["contender"]) == ("lstm", "plain", "ours")
    return plain and row["pass"] == FORWARD and shape.B >= BATCH and shape.H >= LARGE


def _ratios(
    rows: Rows, cell: str, setting: str, which: str, other: str, shapes: frozenset[str] = CORE
) -> dict[int, dict[str, float]]:
    def wanted(row: Mapping[str, Any]) -> bool:
        place = row["cell"], row["setting"], row["pass"], row["contender"]
        return place == (cell, setting, which, "ours") and row["shape"] in shapes

    def value(row: Mapping[str, Any]) -> float | None:
        found = row["ratios"].get(other)
        return None if found is None else found["median"]

    return _by_threads(rows, wanted, value)


def _by_threads(
    rows: Rows,
    wanted: Callable[[Mapping[str, Any]], bool],
    value: Callable[[Mapping[str, Any]], float | None],
    name: str = "shape",
) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    for row in rows:
        if wanted(row) and (figure := value(row)) is not None:
            found.setdefault(row["threads"], {})[row[name]] = figure
    return found


def _filled(found: Mapping[int, dict[str, float]]) -> dict[int, dict[str, float]]:
    return {threads: values for threads, values in found.items() if values}


def _newest(runs: Iterable[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """The newest row of each combination of what stands under some names."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for run in runs:
        for row in run["rows"]:
            row = {**row, "threads": run["threads"]}
            found[(row["threads"], *(row[name] for name in names))] = row
    return list(found.values())

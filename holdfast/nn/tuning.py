"""Measure on this machine how a layer's kernels should cut their products, and remember it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from holdfast.compiler import build, choices
from holdfast.compiler.cell import Cell
from holdfast.compiler.choices import Choice
from holdfast.compiler.emit.llvm_loops import Sizes, Tile
from holdfast.compiler.noise import Noise
from holdfast.errors import TuneError, UnpreparedError
from holdfast.nn import operators, passes
from holdfast.nn.program import Part, parts

if TYPE_CHECKING:
    from holdfast.nn.recurrent import Recurrent

WORTH = 0.02
"""The part of the default's time that another tile must save to be taken."""

_ROUNDS = 5


@dataclass(frozen=True)
class Tuned:
    """What was measured of one kernel, and what was chosen."""

    cell: str
    mode: str
    seconds: dict[tuple[int, int], float]
    """Median of a call by rows and vectors of the tile; the default first."""
    choice: Choice | None
    """What is remembered; None where the default is as good."""

    @property
    def reason(self) -> str:
        """What was chosen, and why."""
        if self.choice is not None:
            return self.choice.reason
        rows, vectors = next(iter(self.seconds))
        return f"{rows} rows by {vectors} vectors, the default: nothing saves {WORTH:.0%} of it"


def tune(
    layer: Recurrent,
    steps: int,
    batch: int,
    *,
    training: bool = True,
    seconds: float = 0.1,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Tuned]:
    """Choose the tiles of a layer's kernels for inputs of T steps and B rows.

    >>> from holdfast.nn import LSTM
    >>> found = tune(LSTM(3, 5), steps=2, batch=2, training=False, seconds=0.001)
    >>> [one.mode for one in found]
    ['infer']

    Each kernel is built with several tiles and measured in turns; what saves at least 2 % is kept
    in the folder of the kernel cache, and every process takes it from then on. No result changes
    by a bit. `HOLDFAST_TILES=default` leaves it aside.

    Arguments:
        training: the kernels of training, too; those of the layer as it is in evaluation, which
            options that draw masks change little. seconds: how long a tile is measured.
        progress: is told what is measured.

    Errors: `TuneError` for a layer whose kernels cannot be measured, with the reason.
    """
    try:
        own = parts(layer, training=False)
    except UnpreparedError as error:
        raise TuneError(f"the layer has no plain kernels to measure: {error}") from error
    found: dict[str, Tuned] = {}
    modes = ["step" if steps == 1 else "infer"] + ["train", "backward"] * training
    for part in own:
        for mode in modes:
            kernel = _Kernel(part, mode, steps, batch)
            name = build.label(*kernel.about)
            if name not in found:
                progress(f"{part.cell.name}, {mode}, {kernel.shape}")
                found[name] = kernel.measure(seconds)
    layer._direct = type(layer._direct)()
    return list(found.values())


def table(found: list[Tuned]) -> str:
    """What was measured, as lines of text.

    >>> print(table([Tuned("lstm", "infer", {(6, 1): 2e-3, (5, 1): 1.5e-3}, None)]))
    lstm, infer
      6 x 1    2.000 ms
      5 x 1    1.500 ms
      6 rows by 1 vectors, the default: nothing saves 2% of it
    """
    lines = []
    for one in found:
        lines.append(f"{one.cell}, {one.mode}")
        for (rows, vectors), seconds in one.seconds.items():
            lines.append(f"  {rows} x {vectors} {1e3 * seconds:8.3f} ms")
        lines.append(f"  {one.reason}")
    return "\n".join(lines)


class _Kernel:
    """One kernel under measurement: a mode of a layer's part, on random numbers."""

    def __init__(self, part: Part, mode: str, steps: int, batch: int) -> None:
        call = part.call(steps, batch)
        self.part = part
        self.mode = mode
        self.sizes = passes.prepare(mode, call).sizes
        self.dtype = call.x.dtype
        self.shape = f"B{batch}-T{steps}-I{part.features}-H{self.sizes.hidden}"
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(call.x.shape, generator=generator, dtype=self.dtype)
        self.states = [torch.zeros(one.shape, dtype=self.dtype) for one in (call.h, *call.states)]
        self.parameters = {n: p.detach().clone() for n, p in part.parameters.items()}
        self.run = self._backward() if mode == "backward" else self._forward

    @property
    def about(self) -> tuple[Cell, str, torch.dtype, Sizes]:
        """What kernels are found by."""
        return self.part.cell, self.mode, self.dtype, self.sizes

    def _forward(self) -> Tensor:
        h, *states = self.states
        arguments = (self.part.cell, self.x, self.parameters, h, tuple(states))
        noise = None
        if self.part.table is not None:
            noise = Noise(torch.zeros(len(h), dtype=torch.int64), self.part.table)
        training = self.mode in ("train", "backward")
        for one in self.parameters.values():
            one.requires_grad_(training)
        with torch.set_grad_enabled(training):
            return operators.run("llvm", *arguments, noise=noise).out

    def _backward(self) -> Callable[[], object]:
        out = self._forward()
        weights, gradient = list(self.parameters.values()), torch.ones_like(out)
        return lambda: torch.autograd.grad([out], weights, [gradient], retain_graph=True)

    def measure(self, seconds: float) -> Tuned:
        """Every tile in turn, some rounds."""
        tiles = build.tiles(*self.about)
        kernels = [build.cut(tile, *self.about) for tile in tiles]
        found: list[list[float]] = [[] for _ in tiles]
        try:
            for turn in range(_ROUNDS):
                for n in range(len(tiles))[:: 1 if turn % 2 == 0 else -1]:
                    build.install(kernels[n], *self.about)
                    found[n].append(_seconds(self.run, seconds / _ROUNDS))
        finally:
            build.install(None, *self.about)
        medians = [statistics.median(one) for one in found]
        choice = self._choose(tiles, medians)
        choices.remember(build.label(*self.about), choice)
        by_tile = {(one.rows, one.vectors): s for one, s in zip(tiles, medians, strict=True)}
        return Tuned(self.part.cell.name, self.mode, by_tile, choice)

    def _choose(self, tiles: list[Tile], medians: list[float]) -> Choice | None:
        best = min(range(len(tiles)), key=medians.__getitem__)
        if medians[best] > (1.0 - WORTH) * medians[0]:
            return None
        tile = tiles[best]
        return Choice(tile.rows, tile.vectors, medians[best], medians[0], self.shape)


def _seconds(run: Callable[[], object], least: float) -> float:
    """Seconds of a call: the fastest of those that fit into some time, and of two at least."""
    run()
    fastest, end = math.inf, time.perf_counter() + least
    while True:
        start = time.perf_counter()
        run()
        now = time.perf_counter()
        fastest = min(fastest, now - start)
        if now >= end:
            return fastest

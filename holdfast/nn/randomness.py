"""What a layer draws: seeds for each sequence, masks on inputs, outputs and weights.

Every layer, direction and use has a stream of its own, folded from the seeds of the sequences; no
generator is touched once the seeds are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from holdfast.compiler.cell import Cell
from holdfast.compiler.noise import Noise, fold
from holdfast.nn.drawing import draw
from holdfast.nn.options import Options, dropout_row
from holdfast.nn.ragged import Rows

CELL, INPUT, OUTPUT, WEIGHT = range(4)
"""The uses of a stream; each layer and direction has one for each."""
USES = 4

_SIGNED = 1 << 63


@dataclass(frozen=True, eq=False)
class Mode:
    """What a layer runs and draws in training, or in evaluation; fixed when it is built.

    cell: the varied cell. table: a row for each of its masks, `[M, 3]`, or None where it has none.
    input, output, weight: probabilities of dropout. random: whether seeds matter.
    """

    cell: Cell
    table: Tensor | None
    input: float = 0.0
    output: float = 0.0
    weight: float = 0.0
    random: bool = False

    @classmethod
    def of(cls, cell: Cell, options: Options, bias: bool, training: bool) -> Mode:
        """The mode of a layer with these options over a cell."""
        varied = options.vary(cell, bias, training)
        table = None
        if varied.masks:
            rows = options.table(varied, training)
            table = torch.tensor(rows, dtype=torch.float64, device="cpu")
        if not training:
            return cls(varied, table)
        random = bool(varied.masks or options.input_dropout)
        random = random or bool(options.output_dropout or options.weight_dropout)
        dropouts = (options.input_dropout, options.output_dropout, options.weight_dropout)
        return cls(varied, table, *dropouts, random=random)

    @property
    def draws(self) -> bool:
        """Whether a pass needs a `Draws`."""
        return self.random or self.table is not None


@dataclass(frozen=True, eq=False)
class Draws:
    """Every random number of one call.

    seeds: one for each row, `[B]` int64. steps: the number of each row's first step, or None for 0.
    weights: the seed of the masks on weights, `[1]`, where there are any.
    """

    mode: Mode
    seeds: Tensor
    steps: Tensor | None
    weights: Tensor | None

    def sort(self, order: Tensor) -> Draws:
        """The draws of the rows in another order."""
        steps = None if self.steps is None else self.steps.index_select(0, order)
        return Draws(self.mode, self.seeds.index_select(0, order), steps, self.weights)

    def noise(self, index: int) -> Noise | None:
        """What the cell of a layer and direction draws its masks from."""
        if self.mode.table is None:
            return None
        if not self.mode.random:
            return Noise(self.seeds, self.mode.table, self.steps)
        return Noise(fold(self.seeds, index * USES + CELL), self.mode.table, self.steps)

    def features(self, x: Tensor, index: int, use: int, rows: Rows) -> Tensor:
        """`x`, `[T, B, F]` or packed `[N, F]`, with one mask for each sequence.

        Arguments:
            use: `INPUT` or `OUTPUT`.
        """
        p = self.mode.input if use == INPUT else self.mode.output
        if not p:
            return x
        mask = _dropout(fold(self.seeds, index * USES + use), p, x.shape[-1], x.dtype)  # [B, F]
        if rows.batch_sizes is not None:
            mask = mask.index_select(0, rows.members().to(mask.device))
        return x * mask

    def weight(self, weight: Tensor, index: int) -> Tensor:
        """A weight, `[R, C]`, with elements zeroed at random."""
        if self.weights is None:
            return weight
        rows = torch.arange(weight.shape[0], device=weight.device)
        seeds = fold(self.weights, index * USES + WEIGHT) + rows
        return weight * _dropout(seeds, self.mode.weight, weight.shape[1], weight.dtype)


def as_draws(
    mode: Mode, seed: int | Tensor | None, first_step: int | Tensor, rows: int, device: torch.device
) -> Draws | None:
    """The draws of a call with `rows` rows, or None where nothing is drawn.

    Arguments:
        seed: one int64 a row; or one number, from which every row gets its own; or None for seeds
            from the device's default generator.
        first_step: number of the first step of every row, or of each.

    Errors: `TypeError` for what is not an integer, `RuntimeError` for a wrong count, `ValueError`
    for a number beyond 64 bits, or seeds of rows where weights are dropped for all rows at once.
    """
    if seed is not None:
        seed = _as_integers("seed", seed, rows)
    first_step = _as_integers("first_step", first_step, rows)
    if not mode.draws:
        return None
    steps = None
    if isinstance(first_step, Tensor):
        steps = first_step.to(device, torch.int64)
    elif first_step:
        steps = torch.full((rows,), first_step, dtype=torch.int64, device=device)
    if not mode.random:
        return Draws(mode, torch.zeros(rows, dtype=torch.int64, device=device), steps, None)
    seeds, weights = _seeds(seed, rows, bool(mode.weight), device)
    return Draws(mode, seeds, steps, weights)


def _seeds(
    seed: int | Tensor | None, rows: int, weights: bool, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """Seeds of the rows, and that of the weights where it is needed."""
    if isinstance(seed, Tensor):
        if weights:
            raise ValueError(
                "weight_dropout draws one mask for all rows, so it cannot follow the seeds of "
                "single rows; give seed= one number"
            )
        return seed.to(device, torch.int64), None
    count = rows + 1 if weights else rows
    if seed is None:
        values = torch.randint(-_SIGNED, _SIGNED - 1, (count,), device=device)
    else:
        base = torch.full((count,), seed, dtype=torch.int64, device=device)
        # The seed of the weights comes first, so that a row's own does not move.
        numbers = torch.arange(-1 if weights else 0, rows, device=device)
        values = fold(fold(base, 0) + numbers, 0)
    return (values[1:], values[:1]) if weights else (values, None)


def _dropout(seeds: Tensor, p: float, units: int, dtype: torch.dtype) -> Tensor:
    """A mask for each seed, `[B, units]`: 0 with probability p, else 1 / (1 - p)."""
    table = torch.tensor([dropout_row(p)], dtype=torch.float64, device="cpu")
    return draw(Noise(seeds, table), 0, units, dtype)


def _as_integers(name: str, value: int | Tensor | Sequence[int], rows: int) -> int | Tensor:
    if isinstance(value, int) and not isinstance(value, bool):
        if not -_SIGNED <= value < _SIGNED:
            raise ValueError(f"{name} should be a number of 64 bits, got: {value}")
        return value
    if isinstance(value, (list, tuple)):
        value = torch.tensor(value)
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} should be an int or a tensor of one int64 for each row, got: "
            f"{type(value).__name__}"
        )
    if value.dtype == torch.bool or value.is_floating_point() or value.is_complex():
        raise TypeError(f"{name} should be integers, got: {value.dtype}")
    if value.shape != (rows,):
        raise RuntimeError(f"Expected {name} size ({rows},), got {list(value.shape)}")
    return value

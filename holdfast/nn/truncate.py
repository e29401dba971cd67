"""Truncated backpropagation through time: the state is carried, the gradient is cut.

Source: Williams & Peng 1990.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from holdfast.compiler.cell import Cell
from holdfast.compiler.emit.eager import Resets, Result
from holdfast.compiler.noise import Noise
from holdfast.nn import operators
from holdfast.nn.sizes import each

if TYPE_CHECKING:
    from holdfast.nn.recurrent import Recurrent


def check_steps(steps: Any, bidirectional: bool) -> None:
    """Refuse a number of steps after which no gradient can be cut."""
    if not isinstance(steps, int) or isinstance(steps, bool):
        raise TypeError(f"tbptt should be a number of steps, got: {type(steps).__name__}")
    if steps < 1:
        raise ValueError(f"tbptt should be at least 1 step, got: {steps}")
    if bidirectional:
        raise ValueError(
            "tbptt is not possible with bidirectional=True: the backward direction begins at the "
            "end of the sequence, so no state can be carried on"
        )


def run_truncated(
    steps: int,
    backend: str,
    cell: Cell,
    x: Tensor,
    parameters: Mapping[str, Tensor],
    h: Tensor,
    states: tuple[Tensor, ...],
    *,
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    sequences: bool,
    noise: Noise | None,
    resets: Resets | None,
    recompute: str,
    narrow: str = "",
) -> Result:
    """`operators.run` whose result is the same and whose gradient ends every `steps` steps."""
    counts = None if batch_sizes is None else batch_sizes.split(steps)
    sizes = steps if counts is None else [int(count.sum()) for count in counts]
    results = []
    for number, chunk in enumerate(x.split(sizes)):
        start = number * steps
        if number:
            h, states = h.detach(), tuple(state.detach() for state in states)
        alive = h.shape[0] if counts is None else int(counts[number][0])
        result = operators.run(
            backend,
            cell,
            chunk,
            parameters,
            h[:alive],
            tuple(state[:alive] for state in states),
            lengths=None if lengths is None else (lengths - start).clamp(0, chunk.shape[0]),
            batch_sizes=None if counts is None else counts[number],
            sequences=sequences,
            noise=_later(noise, start, alive),
            resets=resets and replace(resets, at=resets.at[start : start + steps]),
            recompute=recompute,
            narrow=narrow,
        )
        results.append(result)
        h, states = _carry(result, h, states, alive)
    out = torch.cat([result.out for result in results])
    if not sequences:
        return Result(out, h, states)
    kept = zip(*(result.sequences or () for result in results), strict=True)
    return Result(out, h, states, tuple(torch.cat(values) for values in kept))


def _later(noise: Noise | None, start: int, alive: int) -> Noise | None:
    """The noise of the rows alive, some steps later."""
    if noise is None:
        return None
    steps = torch.zeros_like(noise.seeds) if noise.steps is None else noise.steps
    return Noise(noise.seeds[:alive], noise.table, steps[:alive] + start)


def _carry(
    result: Result, h: Tensor, states: tuple[Tensor, ...], alive: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The states after a chunk: new where a row was alive, old where its packed data had ended."""
    if alive == h.shape[0]:
        return result.h, result.states
    pairs = zip((result.h, *result.states), (h, *states), strict=True)
    h, *rest = (torch.cat([new, old[alive:]]) for new, old in pairs)
    return h, tuple(rest)


class tbptt(Iterator[tuple[Any, ...]]):  # noqa: N801 - it is called like a function
    """Go through long sequences in chunks, for a training loop that steps after each.

    >>> import torch
    >>> from holdfast.nn import LSTM
    >>> layer, x, y = LSTM(3, 5), torch.randn(70, 4, 3), torch.randn(70, 4, 5)
    >>> optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    >>> chunks = tbptt(layer, x, y, steps=30)
    >>> for out, target in chunks:
    ...     (out - target).square().mean().backward()
    ...     optimizer.step()
    ...     optimizer.zero_grad()
    >>> tuple(out.shape), tuple(chunks.hx[0].shape)
    ((10, 4, 5), (1, 4, 5))

    Each item is `(output, *others)` of one chunk. `hx` is the detached state after the last chunk,
    to go on with.

    Arguments:
        layer: a `Recurrent`, not bidirectional.
        x: its input, `[T, B, I]`, `[B, T, I]` with `batch_first`, or `[T, I]`.
        others: tensors to be cut in the same places, such as targets: time is where it is in `x`.
        steps: steps of a chunk; the last one may be shorter.
        hx, lengths, resets, seed, first_step: as in `layer(x, ...)`, for the whole sequence.
            Without a seed one is drawn for all chunks, so masks of a sequence stay what they are.

    Errors: `ValueError` for a bidirectional layer, packed input, or others of another length.
    """

    def __init__(
        self,
        layer: Recurrent,
        x: Tensor,
        *others: Tensor,
        steps: int,
        hx: Any = None,
        lengths: Any = None,
        resets: Tensor | None = None,
        seed: int | Tensor | None = None,
        first_step: int | Tensor | Sequence[int] = 0,
    ) -> None:
        check_steps(steps, layer.bidirectional)
        if isinstance(x, PackedSequence):
            raise ValueError("tbptt cuts padded input only; pad it and give lengths=")
        self.hx = hx
        self._time = 1 if layer.batch_first and x.dim() == 3 else 0
        total = x.shape[self._time]
        checked = others if resets is None else (*others, resets)
        for number, other in enumerate(checked):
            if other.dim() <= self._time or other.shape[self._time] != total:
                raise ValueError(
                    f"tbptt: expected {total} steps in dimension {self._time} of every tensor, "
                    f"got {list(other.shape)} for number {number} after x"
                )
        if lengths is not None:
            lengths = torch.as_tensor(lengths)
            if bool(((lengths > total) | (lengths < 0)).any()):
                raise ValueError(
                    f"lengths should be in the range 0 to {total}, got {lengths.tolist()}"
                )
        if not isinstance(first_step, int):
            first_step = torch.as_tensor(first_step)
        if seed is None and layer.training and layer.random:
            seed = int(torch.randint(1 << 62, ()))
        common = {"seed": seed, "first_step": first_step}
        self._chunks = self._run(layer, (x, *others), steps, lengths, resets, common)

    def __next__(self) -> tuple[Any, ...]:
        return next(self._chunks)

    def _run(
        self,
        layer: Callable[..., Any],
        tensors: tuple[Tensor, ...],
        steps: int,
        lengths: Tensor | None,
        resets: Tensor | None,
        common: dict[str, Any],
    ) -> Iterator[tuple[Any, ...]]:
        chunks = zip(*(tensor.split(steps, self._time) for tensor in tensors), strict=True)
        cuts = None if resets is None else resets.split(steps, self._time)
        first = common.pop("first_step")
        for number, (x, *others) in enumerate(chunks):
            more = dict(common, first_step=first + number * steps)
            if lengths is not None:
                more["lengths"] = (lengths - number * steps).clamp(0, x.shape[self._time])
            if cuts is not None:
                more["resets"] = cuts[number]
            out, last = layer(x, self.hx, **more)
            states = last if isinstance(last, tuple) else (last,)
            detached = each(states, Tensor.detach)
            self.hx = detached if isinstance(last, tuple) else detached[0]
            yield out, *others

"""The one recurrent module: any cell over layers, directions, ragged rows and packed input."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from holdfast.compiler.cell import Cell
from holdfast.compiler.emit.eager import Resets, Result
from holdfast.nn import checks, directions, entry, init, operators, truncate
from holdfast.nn.direct import Direct
from holdfast.nn.given import as_extra, widen
from holdfast.nn.options import Options, described
from holdfast.nn.parameters import Parameters
from holdfast.nn.ragged import Rows, as_lengths, as_resets
from holdfast.nn.randomness import INPUT, OUTPUT, Draws, Mode, as_draws
from holdfast.nn.recompute import reason
from holdfast.nn.reference import refer, resolve
from holdfast.nn.sizes import Sizes, each, pick
from holdfast.nn.stepper import Stepper
from holdfast.nn.untie import untie


@dataclass(frozen=True, eq=False)
class Pass:
    """What all layers of one call share.

    resets: `[T, B]`, or None. tbptt: steps between cuts of the gradient; 0 for none. sequences:
    every cell state of the last layer is wanted. casts: autocast is on. extra: what every layer is
    given unit by unit, `[T, B, 1 or H]`. narrow: as `operators.run`.
    """

    rows: Rows
    batch: int
    draws: Draws | None
    resets: Tensor | None
    tbptt: int
    sequences: bool
    casts: bool
    extra: Mapping[str, Tensor]
    narrow: str = ""


class Recurrent(nn.Module):
    """Run a cell over sequences: layers, directions, initial states and rows of unequal length.

    >>> import torch
    >>> layer = Recurrent("peephole", input_size=3, hidden_size=5, num_layers=2, zoneout=0.1)
    >>> x = torch.randn(7, 4, 3)  # [T, B, I]
    >>> out, (h, c) = layer(x, lengths=[7, 5, 0, 2])
    >>> tuple(out.shape), tuple(h.shape), tuple(c.shape)
    ((7, 4, 5), (2, 4, 5), (2, 4, 5))

    Parameters have the names, order, layout and initial values of `torch.nn.LSTM`; a weight per
    unit such as `p_i` becomes `p_i_l0`.

    Arguments:
        cell: a `Cell` made with `@holdfast.cell`, or its name in the catalogue.
        input_size: I, features of the input.
        hidden_size: H, units of each layer and direction; or one number for each layer.
        num_layers: layers, each reading the output of the one before.
        bias: False leaves out `bias_ih` and `bias_hh`.
        batch_first: input and output are `[B, T, ...]` instead of `[T, B, ...]`; states are not.
        dropout: probability with which an output is zeroed on its way to the next layer, in
            training.
        bidirectional: a second set of weights reads each row backwards; outputs are joined.
        proj_size: P > 0 projects h to P features by `weight_hr`.
        options: those of `holdfast.nn.options.Options`, by name; kept as `layer.options`.

    Errors: `CellError` for an unknown name, `TypeError` and `ValueError` as `torch.nn.LSTM`,
    `ValueError` for options that do not go together.
    """

    def __init__(
        self,
        cell: Cell | str,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.options = Options.of(type(self).__name__, options)
        hidden = checks.as_hidden_sizes(hidden_size, num_layers)
        num_layers = len(hidden)
        checks.check_options(input_size, hidden, bias, batch_first, dropout, proj_size)
        self.cell = checks.find_cell(cell)
        self._sizes = Sizes(
            input_size, hidden, 1 + bool(bidirectional), proj_size, self.options.merge == "sum"
        )
        checks.check_combination(self.cell, self.options, self._sizes)
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout acts on the output of every layer but the last, so it needs num_layers "
                f"greater than 1, but got dropout={dropout} and num_layers={num_layers}",
                stacklevel=2 if type(self) is Recurrent else 3,
            )
        self.mode = self.cell.name
        self.input_size = input_size
        self.hidden_size = hidden[0] if self._sizes.equal else hidden
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self._create_modes()
        checks.check_cell(self.varied, self.options, bias, proj_size)
        self._create_parameters(device, dtype)
        self._direct = Direct()
        self.reset_parameters()

    def _create_modes(self) -> None:
        """What runs and is drawn in evaluation and in training."""
        self._modes = tuple(
            Mode.of(self.cell, self.options, self.bias, training) for training in (False, True)
        )

    def _create_parameters(
        self, device: torch.device | str | int | None, dtype: torch.dtype | None
    ) -> None:
        self._described = Parameters.of(
            self.cell, self.varied, self.options, self._sizes, self.bias
        )
        for name, shape in self._described.shapes.items():
            value = torch.empty(shape, device=device, dtype=dtype)
            self.register_parameter(name, nn.Parameter(value))

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def varied(self) -> Cell:
        """The cell that runs in the present mode: `cell` with its options."""
        return self._modes[self.training].cell

    @property
    def random(self) -> bool:
        """Whether a call in the present mode draws seeds."""
        return self._modes[self.training].random

    @property
    def recompute_reason(self) -> str:
        """What training keeps of the first layer for its backward pass, and why."""
        return reason(self)

    def reset_parameters(self) -> None:
        """Draw every parameter anew from U(-1/sqrt(H), 1/sqrt(H)), as `torch.nn.LSTM` does."""
        init.uniform_(self)
        if self.options.forget_bias is not None:
            init.forget_bias_(self, self.options.forget_bias)

    def stepper(self, batch: int | None = 1, precision: str | None = None) -> Stepper:
        """The layer as it is now, for streams: each call takes `[B, I]`, and carries the states.

        >>> stepper = Recurrent("gru", 3, 5).stepper(batch=2)
        >>> tuple(stepper(torch.randn(2, 3)).shape)
        (2, 5)

        See `holdfast.nn.stepper.Stepper`.
        """
        return Stepper(self, batch, precision)

    def flatten_parameters(self) -> None:
        """Nothing: the weights need no particular place in memory. Kept for code that calls it."""

    @property
    def all_weights(self) -> list[list[Any]]:
        """The parameters of each layer and direction, in the order of `parameters()`."""
        return [[getattr(self, name) for name in names.values()] for names in self._described.cells]

    @property
    def backend(self) -> str:
        """The target that runs the first layer as it is now: `llvm`, `scan` or `eager`."""
        return self._selection(0)[0]

    @property
    def backend_reason(self) -> str:
        """Why `backend` is the one it is."""
        return self._selection(0)[1]

    @property
    def backends(self) -> list[tuple[str, str]]:
        """The target of each layer and direction, and the reason."""
        return [self._selection(index) for index in range(len(self._described.cells))]

    def _layer(self, index: int) -> int:
        return index // self._directions

    def _selection(self, index: int) -> tuple[str, str]:
        parameters = self._parameters_at(index)
        features = self._sizes.features(self._layer(index))
        x = next(iter(parameters.values())).new_zeros(1, 1, features)
        return operators.select(self.varied, x, parameters)

    def _parameters_at(self, index: int) -> dict[str, Tensor]:
        return {name: getattr(self, full) for name, full in self._described.cells[index].items()}

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        resets: Tensor | None = None,
        seed: int | Tensor | None = None,
        first_step: int | Tensor = 0,
        tbptt: int | None = None,
        return_cells: bool = False,
        extra: Mapping[str, Tensor] | None = None,
    ) -> tuple[Any, ...]:
        """The output of the last layer at every step, and the last states of every layer.

        >>> layer = Recurrent("lstm", 3, 5, batch_first=True)
        >>> out, (h, c), cells = layer(torch.randn(2, 7, 3), lengths=[4, 7], return_cells=True)
        >>> tuple(out.shape), tuple(h.shape), tuple(cells.shape)
        ((2, 7, 5), (1, 2, 5), (2, 7, 5))

        Arguments:
            input: `[T, B, I]`, `[B, T, I]` with `batch_first`, `[T, I]` for a single sequence, or a
                `PackedSequence`.
            hx: initial states `(h, c)`, or `h` alone where the cell has no other; each is
                `[L * D, B, H]` for L layers and D directions, or, where layers have different
                sizes, a tuple of one `[D, B, H]` for each layer. By default zeros, or the learned
                start.
            lengths: number of valid steps of each row, `[B]`, in any order, zero allowed. Output is
                zero beyond; the last states are those of the last valid step.
            resets: `[T, B]` bool, `[B, T]` with `batch_first`, `[T]` for a single sequence; where
                true, the row begins anew: nothing passes between this step and the one before, in
                either direction.
            seed: what masks are drawn from: a number, or one for each row, `[B]` int64. A row with
                a seed gets the same masks beside whatever other rows. By default seeds come from
                PyTorch's generator.
            first_step: number of the first step, or that of each row, `[B]`, so that the chunks of
                a sequence draw what the whole would have drawn.
            tbptt: cut the gradient after every so many steps; the values stay what they are.
            return_cells: also return every value of the states besides h of the last layer, shaped
                as `out` (a tuple of them where the cell has several such states).
            extra: the sequences that the cell declares as `inputs`, by name: `[T, B]`, `[T, B, 1]`
                or `[T, B, H]`, with the dimensions in the order of the input's; every layer and
                direction is given them.

        Errors: `ValueError` for a wrong dtype or a length out of range, `RuntimeError` for wrong
        shapes, `TypeError` for what is not a tensor, as `torch.nn.LSTM`.
        """
        ordinary = type(first_step) is int and not first_step and not return_cells
        ordinary = ordinary and lengths is resets is seed is tbptt is extra is None
        if ordinary and not torch.compiler.is_compiling():
            found = self._direct(self, input, hx)
            if found is not None:
                return found
        if return_cells and not self.cell.states:
            raise ValueError(
                f"return_cells: the cell {self.cell.name} has no state besides h; "
                "its whole course is the output"
            )
        if tbptt is not None:
            truncate.check_steps(tbptt, self.bidirectional)
        if isinstance(input, PackedSequence):
            checks.check_packed(lengths, resets)
            return self._forward_packed(
                input, hx, seed, first_step, tbptt or 0, return_cells, extra
            )
        checks.check_kind(self._get_name(), input)
        batched = input.dim() == 3
        turned = batched and self.batch_first
        x = input if batched else input.unsqueeze(1)
        if turned:
            x = x.transpose(0, 1)
        initial = entry.given(self, hx, batched)
        steps, batch = x.shape[:2]
        x, initial, casts = entry.admit(self, x, initial, batch, packed=False)
        rows = Rows()
        if lengths is not None:
            counts = as_lengths(lengths, steps, batch, x)
            rows = Rows.from_lengths(counts, steps) if self.bidirectional else Rows(counts)
        if resets is not None:
            resets = as_resets(resets, steps, batch, x, turned=turned, batched=batched)
        mode = self._modes[self.training]
        draws = as_draws(mode, seed, first_step, batch, x.device)
        given = as_extra(self.cell, extra, x, turned=turned, batched=batched)
        call = Pass(rows, batch, draws, resets, tbptt or 0, return_cells, casts, given)
        out, last, cells = self._run(x, initial, call)
        if not batched:
            out, *cells = (value.squeeze(1) for value in (out, *cells))
            last = each(last, lambda state: state.squeeze(1))
        elif self.batch_first:
            out, *cells = (value.transpose(0, 1) for value in (out, *cells))
        return self._results(out, last, tuple(cells), return_cells)

    def _forward_packed(
        self,
        packed: PackedSequence,
        hx: Any,
        seed: int | Tensor | None,
        first_step: int | Tensor,
        tbptt: int,
        return_cells: bool,
        extra: Mapping[str, Tensor] | None,
    ) -> tuple[Any, ...]:
        x, batch_sizes, sorted_indices, unsorted_indices = packed
        initial = entry.given(self, hx, batched=True)
        batch = int(batch_sizes[0])
        x, initial, casts = entry.admit(self, x, initial, batch, packed=True)
        draws = as_draws(self._modes[self.training], seed, first_step, batch, x.device)
        if sorted_indices is not None:
            draws = draws and draws.sort(sorted_indices)
            if initial is not None:
                initial = each(initial, lambda state: state.index_select(1, sorted_indices))
        rows = Rows(batch_sizes=batch_sizes)
        if self.bidirectional:
            rows = Rows.from_batch_sizes(batch_sizes, x.device)
        given = as_extra(self.cell, extra, x, turned=False, batched=True)
        call = Pass(rows, batch, draws, None, tbptt, return_cells, casts, given)
        out, last, cells = self._run(x, initial, call)
        if unsorted_indices is not None:
            last = each(last, lambda state: state.index_select(1, unsorted_indices))
        out, *cells = (
            PackedSequence(value, batch_sizes, sorted_indices, unsorted_indices)
            for value in (out, *cells)
        )
        return self._results(out, last, tuple(cells), return_cells)

    def _run(
        self, x: Tensor, initial: tuple[Any, ...] | None, call: Pass
    ) -> tuple[Tensor, tuple[Any, ...], tuple[Tensor, ...]]:
        """Every layer in the dtype of the weights, which autocast leaves alone."""
        if not call.casts:
            return self._run_layers(x, initial, call)
        call = replace(call, narrow=entry.narrow(x))
        with torch.autocast(x.device.type, enabled=False):
            return self._run_layers(x, initial, call)

    def _run_layers(
        self, x: Tensor, initial: tuple[Any, ...] | None, call: Pass
    ) -> tuple[Tensor, tuple[Any, ...], tuple[Tensor, ...]]:
        last: list[tuple[Tensor, ...]] = []
        results: list[Result] = []
        if self.options.residual or self.options.highway:
            x = call.rows.blank(x)
        for layer in range(self.num_layers):
            first = layer * self._directions
            entered = x
            if call.draws is not None:
                entered = call.draws.features(x, first, INPUT, call.rows)
            prepared = [
                self._prepare(entered, first + direction, initial, call)
                for direction in range(self._directions)
            ]
            summed = self._sizes.summed
            out, results = directions.run(prepared, call.rows, call.tbptt, summed=summed)
            if call.draws is not None:
                out = call.draws.features(out, first, OUTPUT, call.rows)
            x = self._skip(layer, out, x)
            if self.dropout and layer < self.num_layers - 1:
                x = functional.dropout(x, self.dropout, self.training)
            last += [(result.h, *result.states) for result in results]
        cells = ()
        if call.sequences:
            pairs = zip(*(result.sequences or () for result in results), strict=True)
            cells = tuple(torch.cat(values, -1) for values in pairs)
        return x, self._stack(last), cells

    def _skip(self, layer: int, out: Tensor, x: Tensor) -> Tensor:
        """The output of a layer together with its input, where that is wanted and fits."""
        options = self.options
        if not (options.residual or options.highway) or not self._sizes.skips(layer):
            return out
        if options.residual:
            return out + x
        weight, bias = (getattr(self, f"{part}_highway_l{layer}") for part in ("weight", "bias"))
        gate = torch.sigmoid(functional.linear(x, weight, bias))
        return gate * out + (1.0 - gate) * x

    def _stack(self, last: list[tuple[Tensor, ...]]) -> tuple[Any, ...]:
        """The last states: one tensor each, or one for each layer where their sizes differ."""
        values = list(zip(*last, strict=True))
        if self._sizes.equal:
            return tuple(torch.stack(state) for state in values)
        two = self._directions
        starts = range(0, len(last), two)
        return tuple(tuple(torch.stack(s[n : n + two]) for n in starts) for s in values)

    def _prepare(
        self, x: Tensor, index: int, initial: tuple[Any, ...] | None, call: Pass
    ) -> operators.Direction:
        rows, draws = call.rows, call.draws
        backward = index % self._directions == 1
        parameters = self._parameters_at(index)
        units = self._sizes.hidden[self._layer(index)]
        x = widen(self.varied, x, parameters, call.extra, units)
        if draws is not None and draws.weights is not None:
            parameters["weight_hh"] = draws.weight(parameters["weight_hh"], index)
        parameters = untie(self.varied, parameters, units)
        learned = tuple(getattr(self, name) for name in self._described.starts[index])
        resets = None
        if call.resets is not None:
            at = rows.reverse_resets(call.resets) if backward else call.resets
            resets = Resets(at, learned)
        cell = self.varied
        backend, _ = operators.select(cell, x, parameters)
        h, *states = self._start(x, index, initial, learned, call.batch)
        options: dict[str, Any] = {
            "sequences": call.sequences and index >= len(self._described.cells) - self._directions,
            "noise": draws and draws.noise(index),
            "resets": resets,
            "recompute": self.options.recompute,
            "narrow": call.narrow,
        }
        return operators.Direction(backend, cell, x, parameters, h, tuple(states), options)

    def _start(
        self,
        x: Tensor,
        index: int,
        initial: tuple[Any, ...] | None,
        learned: tuple[Tensor, ...],
        batch: int,
    ) -> tuple[Tensor, ...]:
        """The initial states of a layer and direction, `[B, H]` each."""
        if initial is not None:
            return pick(initial, index, self._directions)
        if learned:
            return tuple(start.expand(batch, -1) for start in learned)
        layer = self._layer(index)
        shape = (batch, self._sizes.hidden[layer])
        h = x.new_zeros((batch, self._sizes.width(layer)))
        return h, *(x.new_zeros(shape) for _ in self.cell.states)

    def _results(
        self, out: Any, last: tuple[Any, ...], cells: tuple[Any, ...], return_cells: bool
    ) -> tuple[Any, ...]:
        states = last if self.cell.states else last[0]
        if not return_cells:
            return out, states
        return out, states, cells[0] if len(cells) == 1 else cells

    def extra_repr(self) -> str:
        """The options that differ from their defaults."""
        cell = [self.cell.name] if type(self) is Recurrent else []
        return ", ".join([*cell, *described(self)])

    def __deepcopy__(self, memo: dict[int, Any]) -> Recurrent:
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        # Immutable, so they are shared.
        memo |= {
            id(shared): shared for shared in (self.cell, self._modes, self.options, self._described)
        }
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__ | {"cell": refer(self.cell)}
        del state["_modes"], state["_direct"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state | {"cell": resolve(state["cell"])})
        self._direct = Direct()
        self._create_modes()

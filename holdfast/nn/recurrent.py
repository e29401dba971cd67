"""The one recurrent module: any cell over layers, directions, ragged rows and packed input."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from holdfast.compiler.cell import Cell
from holdfast.compiler.emit.eager import Result
from holdfast.nn import checks, operators
from holdfast.nn.ragged import Rows, as_lengths
from holdfast.nn.reference import refer, resolve


class Recurrent(nn.Module):
    """Run a cell over sequences: layers, directions, initial states and rows of unequal length.

    >>> import torch
    >>> layer = Recurrent("peephole", input_size=3, hidden_size=5, num_layers=2)
    >>> x = torch.randn(7, 4, 3)  # [T, B, I]
    >>> out, (h, c) = layer(x, lengths=[7, 5, 0, 2])
    >>> tuple(out.shape), tuple(h.shape), tuple(c.shape)
    ((7, 4, 5), (2, 4, 5), (2, 4, 5))

    Parameters have the names, order, layout and initial values of `torch.nn.LSTM`; a weight per
    unit such as `p_i` becomes `p_i_l0`.

    Arguments:
        cell: a `Cell` made with `@holdfast.cell`, or its name in the catalogue.
        input_size: I, features of the input.
        hidden_size: H, units of each layer and direction.
        num_layers: layers, each reading the output of the one before.
        bias: False leaves out `bias_ih` and `bias_hh`.
        batch_first: input and output are `[B, T, ...]` instead of `[T, B, ...]`; states are not.
        dropout: probability with which an output is zeroed on its way to the next layer, in
            training.
        bidirectional: a second set of weights reads each row backwards; outputs are joined.
        proj_size: P > 0 projects h to P features by `weight_hr`.

    Errors: `CellError` for an unknown name, `TypeError` and `ValueError` as `torch.nn.LSTM`.
    """

    def __init__(
        self,
        cell: Cell | str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        checks.check_options(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, proj_size
        )
        self.cell = checks.find_cell(cell)
        if proj_size:
            checks.check_projection(self.cell)
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout acts on the output of every layer but the last, so it needs num_layers "
                f"greater than 1, but got dropout={dropout} and num_layers={num_layers}",
                stacklevel=2 if type(self) is Recurrent else 3,
            )
        self.mode = self.cell.name
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self._names: list[dict[str, str]] = []
        self._create_parameters(device, dtype)
        self.reset_parameters()

    def _create_parameters(
        self, device: torch.device | str | int | None, dtype: torch.dtype | None
    ) -> None:
        for layer in range(self.num_layers):
            features = self._directions * self._width if layer else self.input_size
            shapes = self._shapes(features)
            for direction in range(self._directions):
                suffix = f"_l{layer}_reverse" if direction else f"_l{layer}"
                self._names.append({name: name + suffix for name in shapes})
                for name, shape in shapes.items():
                    value = torch.empty(shape, device=device, dtype=dtype)
                    self.register_parameter(name + suffix, nn.Parameter(value))

    def _shapes(self, features: int) -> dict[str, tuple[int, ...]]:
        shapes = self.cell.shapes(features, self.hidden_size)
        if not self.bias:
            shapes = {k: v for k, v in shapes.items() if k not in ("bias_ih", "bias_hh")}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
            if "weight_hh" in shapes:
                shapes["weight_hh"] = (shapes["weight_hh"][0], self.proj_size)
        return shapes

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def _width(self) -> int:
        return self.proj_size or self.hidden_size

    def reset_parameters(self) -> None:
        """Draw every parameter anew from U(-1/sqrt(H), 1/sqrt(H)), as `torch.nn.LSTM` does."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing: the weights need no particular place in memory. Kept for code that calls it."""

    @property
    def all_weights(self) -> list[list[Any]]:
        """The parameters of each layer and direction, in the order of `parameters()`."""
        return [[getattr(self, name) for name in names.values()] for names in self._names]

    @property
    def backend(self) -> str:
        """The target that runs this layer with its present parameters, `llvm` or `eager`."""
        return self._selection()[0]

    @property
    def backend_reason(self) -> str:
        """Why `backend` is the one it is."""
        return self._selection()[1]

    def _selection(self) -> tuple[str, str]:
        parameters = self._parameters_at(0)
        x = torch.zeros_like(parameters["weight_ih"][:1]).unsqueeze(0)  # [1, 1, I]
        return operators.select(self.cell, x, parameters)

    def _parameters_at(self, index: int) -> dict[str, Tensor]:
        return {name: getattr(self, full) for name, full in self._names[index].items()}

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | tuple[Tensor, ...] | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        return_cells: bool = False,
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
                `[L * D, B, H]` for L layers and D directions. Zeros by default.
            lengths: number of valid steps of each row, `[B]`, in any order, zero allowed. Output is
                zero beyond; the last states are those of the last valid step.
            return_cells: also return every value of the states besides h of the last layer, shaped
                as `out` (a tuple of them where the cell has several such states).

        Errors: `ValueError` for a wrong dtype or a length out of range, `RuntimeError` for wrong
        shapes, `TypeError` for what is not a tensor, as `torch.nn.LSTM`.
        """
        if return_cells and not self.cell.states:
            raise ValueError(
                f"return_cells: the cell {self.cell.name} has no state besides h; "
                "its whole course is the output"
            )
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("a PackedSequence brings its lengths; leave out lengths=")
            return self._forward_packed(input, hx, return_cells)
        checks.check_kind(self._get_name(), input)
        batched = input.dim() == 3
        x = input if batched else input.unsqueeze(1)
        if batched and self.batch_first:
            x = x.transpose(0, 1)
        initial = None
        if hx is not None:
            initial = checks.as_states(self._get_name(), hx, self.cell.states)
            checks.check_state_dims(initial, batched=batched)
            if not batched:
                initial = tuple(state.unsqueeze(1) for state in initial)
        x, initial, casts = self._admit(x, initial, batch=x.shape[1], packed=False)
        rows = Rows()
        if lengths is not None:
            counts = as_lengths(lengths, x.shape[0], x.shape[1], x)
            rows = Rows.from_lengths(counts, x.shape[0]) if self.bidirectional else Rows(counts)
        out, last, cells = self._run(x, initial, rows, return_cells, casts)
        if not batched:
            out, *cells = (value.squeeze(1) for value in (out, *cells))
            last = tuple(state.squeeze(1) for state in last)
        elif self.batch_first:
            out, *cells = (value.transpose(0, 1) for value in (out, *cells))
        return self._results(out, last, tuple(cells), return_cells)

    def _forward_packed(
        self, packed: PackedSequence, hx: Tensor | tuple[Tensor, ...] | None, return_cells: bool
    ) -> tuple[Any, ...]:
        x, batch_sizes, sorted_indices, unsorted_indices = packed
        initial = None
        if hx is not None:
            initial = checks.as_states(self._get_name(), hx, self.cell.states)
            checks.check_state_dims(initial, batched=True)
        x, initial, casts = self._admit(x, initial, batch=int(batch_sizes[0]), packed=True)
        if sorted_indices is not None:
            initial = tuple(state.index_select(1, sorted_indices) for state in initial)
        rows = Rows(batch_sizes=batch_sizes)
        if self.bidirectional:
            rows = Rows.from_batch_sizes(batch_sizes, x.device)
        out, last, cells = self._run(x, initial, rows, return_cells, casts)
        if unsorted_indices is not None:
            last = tuple(state.index_select(1, unsorted_indices) for state in last)
        out, *cells = (
            PackedSequence(value, batch_sizes, sorted_indices, unsorted_indices)
            for value in (out, *cells)
        )
        return self._results(out, last, tuple(cells), return_cells)

    def _admit(
        self, x: Tensor, initial: tuple[Tensor, ...] | None, batch: int, packed: bool
    ) -> tuple[Tensor, tuple[Tensor, ...], bool]:
        """Checked input and initial states in the dtype of the weights; is autocast on?"""
        weight = getattr(self, self._names[0]["weight_ih"])
        kind = x.device.type
        casts = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        checks.check_input(x, self.input_size, weight, packed=packed, casts=casts)
        x = x.to(weight.dtype)
        count = self.num_layers * self._directions
        shapes = [(count, batch, self._width)]
        shapes += [(count, batch, self.hidden_size)] * len(self.cell.states)
        if initial is None:
            return x, tuple(x.new_zeros(shape) for shape in shapes), casts
        checks.check_states(initial, shapes, x, casts=casts)
        return x, tuple(state.to(x.dtype) for state in initial), casts

    def _run(
        self, x: Tensor, initial: tuple[Tensor, ...], rows: Rows, sequences: bool, casts: bool
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Every layer in the dtype of the weights, which autocast leaves alone."""
        if not casts:
            return self._run_layers(x, initial, rows, sequences)
        with torch.autocast(x.device.type, enabled=False):
            return self._run_layers(x, initial, rows, sequences)

    def _run_layers(
        self, x: Tensor, initial: tuple[Tensor, ...], rows: Rows, sequences: bool
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        last: list[tuple[Tensor, ...]] = []
        cells: tuple[Tensor, ...] = ()
        for layer in range(self.num_layers):
            final = layer == self.num_layers - 1
            results = []
            for direction in range(self._directions):
                index = layer * self._directions + direction
                start = tuple(state[index] for state in initial)
                results.append(self._run_direction(x, index, start, rows, sequences and final))
            x = _join([result.out for result in results])
            if self.dropout and not final:
                x = functional.dropout(x, self.dropout, self.training)
            last += [(result.h, *result.states) for result in results]
            if sequences and final:
                pairs = zip(*(result.sequences or () for result in results), strict=True)
                cells = tuple(_join(list(values)) for values in pairs)
        return x, tuple(torch.stack(values) for values in zip(*last, strict=True)), cells

    def _run_direction(
        self, x: Tensor, index: int, start: tuple[Tensor, ...], rows: Rows, sequences: bool
    ) -> Result:
        backward = index % self._directions == 1
        parameters = self._parameters_at(index)
        backend, _ = operators.select(self.cell, x, parameters)
        result = operators.run(
            backend,
            self.cell,
            rows.reverse(x) if backward else x,
            parameters,
            start[0],
            start[1:],
            lengths=rows.lengths,
            batch_sizes=rows.batch_sizes,
            sequences=sequences,
        )
        if not backward:
            return result
        kept = result.sequences
        if kept is not None:
            kept = tuple(rows.reverse(values) for values in kept)
        return Result(rows.reverse(result.out), result.h, result.states, kept)

    def _results(
        self, out: Any, last: tuple[Tensor, ...], cells: tuple[Any, ...], return_cells: bool
    ) -> tuple[Any, ...]:
        states = last if self.cell.states else last[0]
        if not return_cells:
            return out, states
        return out, states, cells[0] if len(cells) == 1 else cells

    def extra_repr(self) -> str:
        """The options that differ from their defaults."""
        options = (
            ("proj_size", 0),
            ("num_layers", 1),
            ("bias", True),
            ("batch_first", False),
            ("dropout", 0),
            ("bidirectional", False),
        )
        changed = [
            f"{name}={getattr(self, name)}"
            for name, default in options
            if getattr(self, name) != default
        ]
        cell = [self.cell.name] if type(self) is Recurrent else []
        return ", ".join([*cell, str(self.input_size), str(self.hidden_size), *changed])

    def __deepcopy__(self, memo: dict[int, Any]) -> Recurrent:
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        memo[id(self.cell)] = self.cell  # immutable, so it is shared
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"cell": refer(self.cell)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state | {"cell": resolve(state["cell"])})


def _join(directions: list[Tensor]) -> Tensor:
    return directions[0] if len(directions) == 1 else torch.cat(directions, -1)

"""One step at a time: the cells of `torch.nn`, and any other cell, as modules."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.compiler.cell import Cell
from holdfast.nn import checks, operators
from holdfast.nn.given import as_extra, matrix_shape, widen
from holdfast.nn.reference import refer, resolve
from holdfast.nn.untie import untie


class RecurrentCell(nn.Module):
    """Run a cell for one step, for loops that look at every output before they go on.

    >>> import torch
    >>> step = RecurrentCell("peephole", input_size=3, hidden_size=5)
    >>> h, c = step(torch.randn(4, 3))  # [B, I]
    >>> h, c = step(torch.randn(4, 3), (h, c))
    >>> tuple(h.shape), tuple(c.shape)
    ((4, 5), (4, 5))

    Parameters have the names, order, layout and initial values of `torch.nn.LSTMCell`; a weight per
    unit such as `p_i` is called just that. A whole sequence runs faster through `Recurrent`.

    Arguments:
        cell: a `Cell` made with `@holdfast.cell`, or its name in the catalogue.
        input_size: I, features of the input.
        hidden_size: H, units.
        bias: False leaves out `bias_ih` and `bias_hh`.

    Errors: `CellError` for an unknown name, `TypeError` and `ValueError` for impossible sizes.
    """

    def __init__(
        self,
        cell: Cell | str,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.cell = checks.find_cell(cell)
        if self.cell.masks:
            raise ValueError(
                f"the cell {self.cell.name} draws random masks, which a single step cannot number; "
                "take holdfast.nn.Recurrent"
            )
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if not isinstance(size, int):
                raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
            if size <= 0:
                raise ValueError(f"{name} must be greater than zero, got: {size}")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        shapes = self.cell.stored(input_size, hidden_size)
        shapes |= matrix_shape(self.cell, input_size, hidden_size)
        self._names = tuple(shapes)
        for name, shape in shapes.items():
            wanted = bias or name not in ("bias_ih", "bias_hh")
            value = torch.empty(shape, device=device, dtype=dtype) if wanted else None
            self.register_parameter(name, None if value is None else nn.Parameter(value))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every parameter anew from U(-1/sqrt(H), 1/sqrt(H)), as `torch.nn.LSTMCell` does."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        fixed = dict(self.cell.initial)
        for name, parameter in self.named_parameters():
            if name in fixed:
                nn.init.constant_(parameter, fixed[name])
            else:
                nn.init.uniform_(parameter, -bound, bound)

    @property
    def backend(self) -> str:
        """The target that runs this cell with its present parameters, `llvm` or `eager`."""
        return self._selection()[0]

    @property
    def backend_reason(self) -> str:
        """Why `backend` is the one it is."""
        return self._selection()[1]

    def _selection(self) -> tuple[str, str]:
        weights = self._weights()
        x = next(iter(weights.values())).new_zeros(1, 1, self.input_size)
        return operators.select(self.cell, x, weights)

    def _weights(self) -> dict[str, Tensor]:
        named = {name: getattr(self, name) for name in self._names}
        return {name: weight for name, weight in named.items() if weight is not None}

    def forward(
        self,
        input: Tensor,
        hx: Tensor | tuple[Tensor, ...] | None = None,
        extra: Mapping[str, Tensor] | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        """The new states: `(h, c)`, or `h` alone where the cell has no other.

        Arguments:
            input: `[B, I]`, or `[I]` for a single row.
            hx: previous states, `[B, H]` each (`[H]` for a single row); zeros by default.
            extra: what the cell declares as `inputs`, by name: `[B]`, `[B, 1]` or `[B, H]` (without
                B for a single row).

        Errors: `ValueError` for a wrong number of dimensions, `RuntimeError` for wrong sizes,
        dtypes and devices, `TypeError` for what is not a tensor, as `torch.nn.LSTMCell`.
        """
        name = self._get_name()
        if not isinstance(input, Tensor):
            raise TypeError(f"{name}: expected input to be a Tensor, got {type(input).__name__}")
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        batched = input.dim() == 2
        x = input if batched else input.unsqueeze(0)
        weights = self._weights()
        kind = x.device.type
        casts = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        weight = next(iter(weights.values()))
        _check("input", x, self.input_size, weight, casts)
        x = x.to(weight.dtype)
        if hx is None:
            zeros = x.new_zeros(x.shape[0], self.hidden_size)
            states = (zeros,) * (1 + len(self.cell.states))
        else:
            states = self._admit(hx, x, batched, casts)
        rows = {k: v if batched else v.unsqueeze(0) for k, v in (extra or {}).items()}
        given = as_extra(self.cell, rows, x, turned=False, batched=True)
        x = widen(self.cell, x, weights, given, self.hidden_size).unsqueeze(0)
        weights = untie(self.cell, weights, self.hidden_size)
        backend, _ = operators.select(self.cell, x, weights)
        result = operators.run(backend, self.cell, x, weights, states[0], states[1:])
        new = (result.h, *result.states)
        new = new if batched else tuple(state.squeeze(0) for state in new)
        return new if self.cell.states else new[0]

    def _admit(self, hx: Any, x: Tensor, batched: bool, casts: bool) -> tuple[Tensor, ...]:
        """The given states as a tuple of `[B, H]`, checked."""
        name = self._get_name()
        states = checks.as_states(name, hx, self.cell.states)
        admitted = []
        for index, state in enumerate(states):
            if state.dim() not in (1, 2):
                which = f"hx[{index}]" if self.cell.states else "hidden"
                raise ValueError(
                    f"{name}: Expected {which} to be 1D or 2D, got {state.dim()}D instead"
                )
            if (state.dim() == 2) != batched:
                kind = "batched 2-D" if batched else "unbatched 1-D"
                raise RuntimeError(
                    f"{name}: for {kind} input, hidden{index} should have as many dimensions, got "
                    f"{state.dim()}-D"
                )
            state = state if batched else state.unsqueeze(0)
            if state.shape[0] != x.shape[0]:
                raise RuntimeError(
                    f"Input batch size {x.shape[0]} doesn't match hidden{index} batch size "
                    f"{state.shape[0]}"
                )
            _check(f"hidden{index}", state, self.hidden_size, x, casts)
            admitted.append(state.to(x.dtype))
        return tuple(admitted)

    def extra_repr(self) -> str:
        """The options that differ from their defaults."""
        words = [self.cell.name] if type(self) is RecurrentCell else []
        words += [str(self.input_size), str(self.hidden_size)]
        words += [f"bias={self.bias}"] if self.bias is not True else []
        return ", ".join(words)

    def __deepcopy__(self, memo: dict[int, Any]) -> RecurrentCell:
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        memo[id(self.cell)] = self.cell  # immutable, so it is shared
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"cell": refer(self.cell)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state | {"cell": resolve(state["cell"])})


def _check(name: str, value: Tensor, size: int, like: Tensor, casts: bool) -> None:
    """Refuse features, dtypes and devices that do not fit; autocast takes any dtype."""
    if value.shape[1] != size:
        # PyTorch writes a comma for states and none for the input.
        what, comma = ("input_size", "") if name == "input" else ("hidden_size", ",")
        raise RuntimeError(
            f"{name} has inconsistent {what}: got {value.shape[1]}{comma} expected {size}"
        )
    if value.dtype != like.dtype and not casts:
        raise RuntimeError(
            f"{name} is {value.dtype}, expected {like.dtype} as the weights; convert one"
        )
    if value.device != like.device:
        raise RuntimeError(f"{name} is on {value.device}, expected {like.device} as the weights")


class LSTMCell(RecurrentCell):
    """One step of an LSTM in the place of `torch.nn.LSTMCell`: same arguments, same checkpoints.

    >>> import torch
    >>> step = LSTMCell(3, 5)
    >>> h, c = step(torch.randn(4, 3))  # [B, I]
    >>> tuple(h.shape), tuple(c.shape)
    ((4, 5), (4, 5))

    Arguments and errors: those of `RecurrentCell`.
    Source: Hochreiter & Schmidhuber 1997; forget gate: Gers, Schmidhuber & Cummins 2000.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__("lstm", input_size, hidden_size, bias, device, dtype)


class GRUCell(RecurrentCell):
    """One step of gated recurrent units in the place of `torch.nn.GRUCell`.

    >>> import torch
    >>> h = GRUCell(3, 5)(torch.randn(3))  # [I], a single row
    >>> tuple(h.shape)
    (5,)

    Arguments and errors: those of `RecurrentCell`.
    Source: Cho et al. 2014, with the reset gate after the product.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__("gru", input_size, hidden_size, bias, device, dtype)


class RNNCell(RecurrentCell):
    """One step of a plain recurrent network in the place of `torch.nn.RNNCell`.

    >>> import torch
    >>> step = RNNCell(3, 5, nonlinearity="relu")
    >>> tuple(step(torch.randn(4, 3)).shape)
    (4, 5)

    Arguments and errors: those of `RecurrentCell`; `nonlinearity`, the fourth, is "tanh" or "relu",
    else `RuntimeError`.
    Source: Elman 1990.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        cells = {"tanh": "rnn", "relu": "rnn_relu"}
        if nonlinearity not in cells:
            raise RuntimeError(
                f"Unknown nonlinearity: {nonlinearity}. Select from 'tanh' or 'relu'."
            )
        super().__init__(cells[nonlinearity], input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def extra_repr(self) -> str:
        """The options that differ from their defaults."""
        more = "" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}"
        return super().extra_repr() + more

"""The LSTM of 1997 as it was published: cells in blocks, and gates that see gates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from holdfast.cells import CELLS
from holdfast.nn import checks, operators
from holdfast.nn.ragged import as_lengths
from holdfast.nn.structure import Structure, calm, check_flags

States = tuple[Tensor, Tensor, Tensor, Tensor]


class BlockLSTM(Structure):
    """Read sequences with the first LSTM: blocks of cells that share an input and an output gate.

    >>> import torch
    >>> layer = BlockLSTM(input_size=7, blocks=3, block_size=2, bias="gates")
    >>> out, (h, c, y_in, y_out) = layer(torch.randn(9, 4, 7))  # [T, B, I]
    >>> tuple(out.shape), tuple(c.shape), tuple(y_in.shape)
    ((9, 4, 6), (4, 6), (4, 3))
    >>> readout = torch.nn.Linear(6, 7, bias=False)
    >>> sum(one.numel() for part in (layer, readout) for one in part.parameters())  # Table 2
    276

    With u = [h; y_in; y_out] of the step before, for the cells v of block j:
    y_in_j = sigmoid(W_in_j x + R_in_j u + b_in_j);  y_out_j likewise
    c_v = c_v_prev + y_in_j g(W_v x + R_v u + b_v);  h_v = y_out_j k(c_v)
    g(a) = 4 sigmoid(a) - 2;  k(a) = 2 sigmoid(a) - 1

    Parameters: (H + G) (I + H + G + 1)
    with G = 2 H / S gates; rows and columns are first the cells, then the input gates, then the
    output gates. With `bias="gates"` H fewer, without biases H + G fewer. The weights of the
    paper's networks are these and those of a linear read-out. One count is another: the 10,504 of
    task 2a, one cell without output gate, 101 inputs and outputs, is 2 * 101 + 101 + 101 * 101, as
    without recurrent weights and with the inputs connected to the outputs.

    Runs compiled wherever `holdfast.nn.LSTM` does, as the cell `lstm_1997`. The gradient is whole;
    the paper cuts it where it would leave the cells. Initial values are those of every layer here;
    the paper draws from U(-0.2, 0.2) or U(-0.1, 0.1), with biases that keep the gates closed.

    Arguments:
        input_size: I, features of the input.
        blocks: memory blocks, each with its two gates.
        block_size: S, cells of a block; H = blocks * S.
        bias: True, False, or "gates" for those of the gates only.
        batch_first: input and output are `[B, T, ...]` instead of `[T, B, ...]`; states are not.

    Errors: `TypeError` and `ValueError` for impossible sizes.
    Source: Hochreiter & Schmidhuber 1997.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor

    def __init__(
        self,
        input_size: int,
        blocks: int,
        block_size: int = 1,
        bias: bool | str = True,
        batch_first: bool = False,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = {"input_size": input_size, "blocks": blocks, "block_size": block_size}
        for name, size in sizes.items():
            checks.check_size(name, size)
        check_flags(batch_first=batch_first)
        if not isinstance(bias, bool) and bias != "gates":
            raise ValueError(f"bias should be True, False or 'gates', got: {bias!r}")
        self.input_size = input_size
        self.blocks = blocks
        self.block_size = block_size
        self.bias = bias
        self.batch_first = batch_first
        self.hidden_size = blocks * block_size
        rows = self.hidden_size + 2 * blocks
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, input_size),
            "weight_hh": (rows, rows),
        }
        if bias:
            shapes["bias_ih"] = (2 * blocks if bias == "gates" else rows,)
        self._create_parameters(shapes, 1.0 / math.sqrt(self.hidden_size), device, dtype)
        self.reset_parameters()

    def _selection(self) -> tuple[str, str]:
        x = self.weight_ih.new_zeros(1, 1, 1)
        return operators.select(CELLS["lstm_1997"], x, {"weight_ih": self.weight_ih})

    def forward(
        self,
        input: Tensor,
        hx: States | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Tensor, States]:
        """The output of the cells at every step, and the last states `(h, c, y_in, y_out)`.

        Arguments:
            input: `[T, B, I]`, `[B, T, I]` with `batch_first`, `[T, I]` for a single row.
            hx: initial states h and c, `[B, H]`, and activations of the gates y_in and y_out,
                `[B, blocks]`; by default zeros.
            lengths: number of valid steps of each row, `[B]`; output is zero beyond.

        Errors: `ValueError` for a wrong dtype or number of dimensions, `RuntimeError` for wrong
        sizes, `TypeError` for what is not a tensor.
        """
        x, batched = self._admit(input, (self.input_size,))
        steps, batch = x.shape[:2]
        counts = None if lengths is None else as_lengths(lengths, steps, batch, x)
        cells, gates = (batch, self.hidden_size), (batch, self.blocks)
        names = ("h", "c", "y_in", "y_out")
        shapes = (cells, cells, gates, gates)
        h, c, *shared = self._states(hx, names, shapes, x, batched=batched, at=0)
        with calm(x):
            cell, parameters = CELLS["lstm_1997"], self._whole()
            backend, _ = operators.select(cell, x, parameters)
            states = (c, *(self._repeat(gate, 1) for gate in shared))
            result = operators.run(backend, cell, x, parameters, h, states, lengths=counts)
            c, *repeated = result.states
            last = [result.h, c, *(gate[:, :: self.block_size] for gate in repeated)]
        if not batched:
            last = [state.squeeze(0) for state in last]
        return self._deliver(result.out, batched), (
            last[0],
            last[1],
            last[2],
            last[3],
        )

    def _repeat(self, value: Tensor, dim: int) -> Tensor:
        """What belongs to blocks, once for each of their cells."""
        sizes = [-1] * (value.dim() + 1)
        sizes[dim + 1] = self.block_size
        return value.unsqueeze(dim + 1).expand(sizes).flatten(dim, dim + 1)

    def _rows(self, value: Tensor) -> dict[str, Tensor]:
        """The rows of each gate of the cell, H each."""
        g, i, o = value.split([self.hidden_size, self.blocks, self.blocks])
        return {"i": self._repeat(i, 0), "g": g, "o": self._repeat(o, 0)}

    def _whole(self) -> dict[str, Tensor]:
        """The parameters of the cell, where every cell has gates of its own.

        All cells of a block have the same gates, so what these are multiplied with stands at the
        first one; the others get zeros.
        """
        recurrent = {}
        kinds = self.weight_hh.split([self.hidden_size, self.blocks, self.blocks], 1)
        for kind, part in zip(("", "_i", "_o"), kinds, strict=True):
            if kind:
                part = functional.pad(part.unsqueeze(2), (0, self.block_size - 1)).flatten(1)
            recurrent |= {gate + kind: rows for gate, rows in self._rows(part).items()}
        members = [acc.leaf for acc in CELLS["lstm_1997"].accumulators if acc.h]
        inputs = self._rows(self.weight_ih)
        whole = {
            "weight_ih": torch.cat([inputs[gate] for gate in "igo"]),
            "weight_hh": torch.cat([recurrent[name] for name in members]),
        }
        if self.bias:
            bias = self.bias_ih
            if self.bias == "gates":
                bias = functional.pad(bias, (self.hidden_size, 0))
            biases = self._rows(bias)
            whole["bias_ih"] = torch.cat([biases[gate] for gate in "igo"])
            whole["bias_hh"] = torch.zeros_like(whole["bias_ih"])
        return whole

"""Networks with one hidden unit, many of them side by side as the units of one layer.

A network with one hidden unit is one unit of a layer whose recurrence is diagonal: units do not see
each other, so a layer of S units is S networks with a seed each, and one pass trains them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.papers.memory_cells import LAGS, TERMS, coefficients, mrnn, mrnnf
from holdfast.cells.fractional import memory_lstm, memory_lstm_fixed
from holdfast.compiler.cell import Cell
from holdfast.nn import Recurrent


@dataclass(frozen=True)
class Model:
    """A model of the paper: its cell, and how the authors draw its first values.

    filtered: the layer reads the filter of the series beside the series. states: how many states
    reach the read-out beside the output. draws: the parameters in the order in which the authors'
    code draws them, with the gate behind a point; the number of inputs behind a colon bounds them,
    as in `torch.nn.Linear`. `_` is a number that they draw and do not use. Parameters that are not
    named begin at 0.
    """

    cell: Callable[[], Cell] | str
    filtered: bool = False
    states: int = 0
    draws: str = ""


def _gate(name: str) -> str:
    return f"weight_ih.{name}:2 u_{name}:2 bias_ih.{name}:2"


_DRAWS = "r_m bias_m w_m r_h bias_h w_h weight bias weight"

MODELS = {
    "RNN": Model("rnn"),
    "LSTM": Model("lstm"),
    "MRNNF": Model(lambda: mrnnf, True, 1, f"_ _ _ _ {_DRAWS}"),
    "MRNN": Model(lambda: mrnn, True, 1, f"_ _ _ _ d_d bias_d h_d m_d x_d {_DRAWS}"),
    "MLSTMF": Model(
        partial(memory_lstm_fixed, LAGS),
        draws=f"{_gate('g')} {_gate('i')} _ _ _ _ {_gate('o')} weight bias",
    ),
    "MLSTM": Model(
        partial(memory_lstm, LAGS),
        draws=f"{_gate('g')} {_gate('i')} weight_ih.e:3 u_e:3 u_e_d:3 bias_ih.e:3 {_gate('o')} "
        "weight bias",
    ),
}
"""The models of Zhao et al. 2020, table 2, by the paper's names."""


class Networks(nn.Module):
    """S networks with one hidden unit each, of the same kind, one for each seed.

    >>> networks = Networks("LSTM", seeds=range(3))
    >>> predictions, state = networks(networks.prepare(torch.rand(7)))
    >>> tuple(predictions.shape)
    (7, 3)
    """

    def __init__(self, model: str, seeds: Sequence[int]) -> None:
        super().__init__()
        self.model = MODELS[model]
        self.size = len(seeds)
        self.twin = isinstance(self.model.cell, str)
        """Whether torch's layer of this kind has two biases, which move together."""
        features = 1 + TERMS if self.model.filtered else 1
        options: dict[str, Any] = {} if self.model.filtered else {"recurrence": "diagonal"}
        kind = self.model.cell
        chosen = kind if isinstance(kind, str) else kind()
        # The draws of the constructor are thrown away; each seed makes its own below.
        with torch.random.fork_rng(devices=[]):
            self.layer = Recurrent(chosen, features, self.size, **options)
        self.weight = nn.Parameter(torch.zeros(1 + self.model.states, self.size))
        self.bias = nn.Parameter(torch.zeros(1, self.size))
        if self.model.filtered:
            self._pass_on()
        found = [self._first_values(seed) for seed in seeds]
        self.load_columns({name: torch.stack([one[name] for one in found], 1) for name in found[0]})

    def prepare(self, x: Tensor) -> Tensor:
        """What the layer reads of a series `[T]`: `[T, 1, features]`."""
        features = x.unsqueeze(1)
        if self.model.filtered:
            features = torch.cat([features, coefficients(x).to(x.dtype)], 1)
        return features.unsqueeze(1)

    def forward(self, inputs: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Predictions `[T, S]` and the last state, for `[T, 1, features]`."""
        if not self.model.states:
            out, last = self.layer(inputs, state)
            return out[:, 0] * self.weight[0] + self.bias, last
        out, last, cells = self.layer(inputs, state, return_cells=True)
        read = [out, *(cells if isinstance(cells, tuple) else (cells,))][: len(self.weight)]
        parts = [value[:, 0] * weight for value, weight in zip(read, self.weight, strict=True)]
        return torch.stack(parts).sum(0) + self.bias, last

    def groups(self, rate: float) -> list[dict[str, Any]]:
        """Parameters for an optimizer: where torch has two biases, their sum moves twice as far."""
        named = {name: value for name, value in self.named_parameters() if value.requires_grad}
        biases = [named.pop("layer.bias_ih_l0")] if self.twin else []
        return [
            {"params": list(named.values()), "lr": rate},
            {"params": biases, "lr": 2 * rate},
        ]

    @torch.no_grad()
    def columns(
        self, chosen: Tensor | None = None, others: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """What is trained, a column for each network; those not chosen are taken from others."""
        found = {
            name: value.detach().reshape(-1, self.size).clone()
            for name, value in self.named_parameters()
            if value.requires_grad
        }
        if chosen is None or others is None:
            return found
        return {name: torch.where(chosen, found[name], others[name]) for name in found}

    @torch.no_grad()
    def load_columns(self, columns: Mapping[str, Tensor]) -> None:
        """Put back what `columns` gave."""
        for name, value in columns.items():
            parameter = self.get_parameter(name)
            parameter.copy_(value.reshape(parameter.shape))

    @torch.no_grad()
    def _pass_on(self) -> None:
        """Let every unit get the features as they are: its gates are the features."""
        weight = self.layer.get_parameter("weight_ih_l0")
        weight.copy_(torch.eye(weight.shape[1]).repeat_interleave(self.size, 0))
        weight.requires_grad_(False)

    def _first_values(self, seed: int) -> dict[str, Tensor]:
        """A column for one network: the values with which the authors' network of that seed begins.

        All come from U(-1, 1), as in modules of torch with one input and one unit, except where a
        linear map of the authors has more inputs.
        """
        generator = torch.Generator().manual_seed(seed)

        def draw(count: int = 1, bound: float = 1.0) -> Tensor:
            return torch.empty(count).uniform_(-bound, bound, generator=generator)

        if self.twin:
            gates = [gate.name for gate in self.layer.cell.gates]
            values = {"layer.weight_ih_l0": draw(len(gates))}
            recurrent = draw(len(gates)).unsqueeze(1)
            values |= {
                f"layer.u_{gate}_l0": one for gate, one in zip(gates, recurrent, strict=True)
            }
            values["layer.bias_ih_l0"] = draw(len(gates)) + draw(len(gates))
            return values | {"weight": draw(), "bias": draw()}
        values = {name: torch.zeros(len(value)) for name, value in self.columns().items()}
        gates = [one.gate for one in self.layer.varied.accumulators if one.x]
        after = {"weight": iter(range(len(self.weight)))}
        for one in self.model.draws.split():
            place, _, inputs = one.partition(":")
            value = draw(bound=int(inputs or 1) ** -0.5)
            name, _, gate = place.partition(".")
            row = gates.index(gate) if gate else next(after.get(name, iter((0,))))
            if name != "_":
                values[name if name in values else f"layer.{name}_l0"][row] = value
        return values

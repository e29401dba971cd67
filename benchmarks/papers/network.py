"""The network of a classic task: one recurrent layer, and a linear readout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.compiler.cell import Cell
from holdfast.nn import Recurrent, init


@dataclass(frozen=True)
class Model:
    """A cell with its size, and how it is trained.

    batch: sequences of an update. prepare: initial values beyond the layer's own, from the layer
    and a generator. about: what `prepare` does, for the row. lookup: inputs are symbol numbers,
    whose product with the input weights is a look-up. direct: inputs reach the outputs, too.
    slower: what the learning rate of the layer, but not of the readout, is multiplied by. falling:
    the learning rate goes down to 0 along the budget, in a straight line. memory: the share that
    Adam's mean of squared gradients keeps at each update. silent: the readout's weights begin at 0.
    """

    cell: Cell | str
    hidden: int
    lr: float = 0.01
    batch: int = 16
    prepare: Callable[[Recurrent, torch.Generator], None] | None = None
    about: str = ""
    lookup: bool = False
    direct: bool = False
    clip: float = 1.0
    slower: float = 1.0
    falling: bool = False
    memory: float = 0.999
    silent: bool = False

    def __str__(self) -> str:
        """The model in a row: cell, units, initial values, learning rate and batch.

        >>> str(Model("lstm", 4))
        'lstm, H=4, lr 0.01, batch 16'
        """
        name = self.cell if isinstance(self.cell, str) else self.cell.name
        rate = f"lr {self.lr:g}, batch {self.batch}"
        slower = "" if self.slower == 1 else f"{self.slower:g} of it in the layer"
        falling = "falling to 0" if self.falling else ""
        memory = "" if self.memory == 0.999 else f"β2 {self.memory:g}"
        silent = "readout from 0" if self.silent else ""
        parts = (f"{name}, H={self.hidden}", self.about, rate, slower, falling, memory, silent)
        return ", ".join(filter(None, parts))


def biases(bound: float | None = None, **gates: float | Sequence[float]) -> dict[str, Any]:
    """The options of a `Model` whose gates begin with these biases, one number for all or for each.

    >>> model = Model("lstm", 2, **biases(f=6.0, i=[-1, -3]))
    >>> str(model)
    'lstm, H=2, bias f 6 i -1 -3, lr 0.01, batch 16'

    Arguments:
        bound: all other weights are from U(-bound, bound) instead of the layer's own range.
    """

    def prepare(layer: Recurrent, generator: torch.Generator) -> None:
        if bound is not None:
            init.uniform_(layer, bound, generator)
        for gate, value in gates.items():
            init.bias_(layer, gate, value)

    words = " ".join(f"{gate} {_numbers(value)}" for gate, value in gates.items())
    about = (words and f"bias {words}", "" if bound is None else f"U(±{bound:g})")
    return {"prepare": prepare, "about": ", ".join(filter(None, about))}


class Network(nn.Module):
    """A recurrent layer and a readout, with initial values from a seed of its own.

    >>> network = Network(Model("lstm", 4), inputs=3, outputs=2, seed=0)
    >>> out, last = network(torch.zeros(7, 5, 3))
    >>> tuple(out.shape), tuple(last.shape)
    ((7, 5, 4), (5, 4))

    `forward` gives the layer's output `[T, B, H]` and its last h `[B, H]`; `readout` and `every`
    turn them into outputs. With `model.lookup` the input is `[T, B]` int64: a one-hot vector times
    a matrix is a column of it, so the columns stand in a table, and the layer's own input matrix is
    the identity and is not trained. The weights are the same ones, the work is less.
    """

    def __init__(self, model: Model, inputs: int, outputs: int, seed: int) -> None:
        super().__init__()
        # Modules draw their first values from the global generator, which is put back.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            plain = Recurrent(model.cell, inputs, model.hidden)
            if model.prepare is not None:
                model.prepare(plain, torch.Generator().manual_seed(seed))
            matrix = plain.get_parameter("weight_ih_l0").detach()
            self.layer = _over_table(plain, matrix) if model.lookup else plain
            self.table = nn.Parameter(matrix.T.clone()) if model.lookup else None  # [I, G * H]
            self.readout = nn.Linear(model.hidden, outputs)
            if model.silent:
                nn.init.zeros_(self.readout.weight)
            self.past = nn.Linear(inputs, outputs, bias=False) if model.direct else None

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Outputs of the layer at every step, and the last one of each row."""
        given = x if self.table is None else nn.functional.embedding(x, self.table)
        out, last = self.layer(given, lengths=lengths)
        h = last[0] if isinstance(last, tuple) else last
        return out, h[-1]

    def every(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What the readout says at every step, `[T, B, O]`."""
        said = self.readout(self(x, lengths)[0])
        if self.past is None:
            return said
        if self.table is not None:
            return said + nn.functional.embedding(x, self.past.weight.T)
        return said + self.past(x)

    def final(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What the readout says at the last step of each row, `[B, O]`."""
        return self.readout(self(x, lengths)[1])

    def recurrent(self) -> list[nn.Parameter]:
        """The parameters of the layer that are trained."""
        table = [] if self.table is None else [self.table]
        return [*table, *(one for one in self.layer.parameters() if one.requires_grad)]

    def outer(self) -> list[nn.Parameter]:
        """The parameters of the readout."""
        return [*self.readout.parameters(), *(self.past.parameters() if self.past else ())]

    def trained(self) -> list[nn.Parameter]:
        """All parameters that are trained."""
        return [*self.recurrent(), *self.outer()]


def _over_table(plain: Recurrent, matrix: Tensor) -> Recurrent:
    """The same layer with the columns of its input matrix `[G * H, I]` as inputs."""
    layer = Recurrent(plain.cell, len(matrix), plain.hidden_size)
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            if name != "weight_ih_l0":
                layer.get_parameter(name).copy_(parameter)
        layer.get_parameter("weight_ih_l0").copy_(torch.eye(len(matrix)))
    layer.get_parameter("weight_ih_l0").requires_grad_(False)
    return layer


def _numbers(value: float | Sequence[float]) -> str:
    each = [value] if isinstance(value, (int, float)) else list(value)
    return " ".join(f"{one:g}" for one in (each if len({*each}) > 1 else each[:1]))

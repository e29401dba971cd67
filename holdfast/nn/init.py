"""Initial values of a layer's parameters, beyond those of `torch.nn`.

>>> import torch
>>> from holdfast.nn import LSTM, init
>>> layer = LSTM(3, 5)
>>> init.chrono_(layer, longest=100, generator=torch.Generator().manual_seed(0))
>>> init.orthogonal_(layer)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from holdfast.compiler.cell import Cell

if TYPE_CHECKING:
    from holdfast.nn.recurrent import Recurrent


def constants(base: Cell, varied: Cell) -> dict[str, float]:
    """The weights that begin with a constant: those of the cell that say so, and the gains (1) and
    biases (0) that a variation has brought.

    >>> from holdfast.cells import rnn
    >>> from holdfast.nn.options import Options
    >>> constants(rnn, Options(layer_norm=True).vary(rnn, bias=True, training=False))
    {'gain_ih_a': 1.0, 'gain_hh_a': 1.0, 'bias_a': 0.0}
    """
    brought = [name for name in varied.weights if name not in base.weights]
    starts = {"gain_": 1.0, "bias_": 0.0}
    return dict(base.initial) | {
        name: value
        for name in brought
        for prefix, value in starts.items()
        if name.startswith(prefix)
    }


@torch.no_grad()
def uniform_(
    layer: Recurrent, bound: float | None = None, generator: torch.Generator | None = None
) -> None:
    """Draw every weight from U(-bound, bound), as a new layer does.

    Gains of a normalization become 1, its biases 0, learned initial states 0, highway biases -1.

    Arguments:
        bound: 1 / sqrt(H) by default, as in `torch.nn`.
    """
    for name, parameter in layer.named_parameters():
        # A parametrized weight is found as parametrizations.weight_hh_l0.original.
        key = name.split(".")[1] if name.startswith("parametrizations.") else name
        if key in layer._described.constants:
            parameter.fill_(layer._described.constants[key])
            continue
        width = 1.0 / math.sqrt(layer._described.units[key]) if bound is None else bound
        nn.init.uniform_(parameter, -width, width, generator=generator)


@torch.no_grad()
def bias_(layer: Recurrent, gate: str, value: float | Sequence[float] | Tensor) -> None:
    """Make the biases of a gate add up to a value, the same for all units or one for each.

    >>> from holdfast.nn import LSTM
    >>> layer = LSTM(3, 2)
    >>> bias_(layer, "i", [-1.0, -3.0])
    >>> (layer.bias_ih_l0 + layer.bias_hh_l0)[:2].tolist()
    [-1.0, -3.0]

    Errors: `ValueError` where there is no such gate, or it has no bias.
    """
    for units, parameters in _directions(layer):
        _set_bias(layer, parameters, units, gate, torch.as_tensor(value))


@torch.no_grad()
def forget_bias_(layer: Recurrent, value: float = 1.0) -> None:
    """Make the biases of the gate f add up to a value, so that the memory is kept at first.

    >>> from holdfast.nn import LSTM
    >>> layer = LSTM(3, 5)
    >>> forget_bias_(layer, 1.0)
    >>> (layer.bias_ih_l0 + layer.bias_hh_l0)[5:10].tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]

    Errors: `ValueError` where there is no gate f, or it has no bias.
    Source: Gers, Schmidhuber & Cummins 2000; Jozefowicz et al. 2015.
    """
    bias_(layer, "f", value)


@torch.no_grad()
def chrono_(layer: Recurrent, longest: int, generator: torch.Generator | None = None) -> None:
    """Spread the memory of the units over times up to `longest` steps.

    The bias of the gate f becomes log U(1, longest - 1), that of the gate i its negative.

    Errors: `ValueError` where there is no gate f or i or it has no bias, or for `longest` below 2.
    Source: Tallec & Ollivier 2018, equation 16.
    """
    if longest < 2:
        raise ValueError(f"longest should be at least 2 steps, got: {longest}")
    for units, parameters in _directions(layer):
        times = next(iter(parameters.values())).new_empty(units)
        times.uniform_(1, longest - 1, generator=generator)
        _set_bias(layer, parameters, units, "f", times.log())
        _set_bias(layer, parameters, units, "i", -times.log())


@torch.no_grad()
def orthogonal_(
    layer: Recurrent, gain: float = 1.0, generator: torch.Generator | None = None
) -> None:
    """Make the R of every gate orthogonal, with several heads each of its blocks.

    >>> from holdfast.nn import RNN
    >>> layer = RNN(3, 5)
    >>> orthogonal_(layer)
    >>> bool(torch.allclose(layer.weight_hh_l0 @ layer.weight_hh_l0.T, torch.eye(5), atol=1e-5))
    True

    Errors: `ValueError` where the recurrence has no matrix.
    Source: Saxe, McClelland & Ganguli 2014.
    """
    heads = layer.options.heads
    for units, parameters in _directions(layer):
        if "weight_hh" not in parameters:
            raise ValueError(f"orthogonal_: the recurrence of {layer.mode} has no matrix weight_hh")
        weight = parameters["weight_hh"]
        kept = [rows // heads for _, rows in layer.varied.split("h", units) for _ in range(heads)]
        for block in weight.split(kept):
            nn.init.orthogonal_(block, gain, generator=generator)


@torch.no_grad()
def phased_(
    layer: Recurrent,
    shortest: float = 1.0,
    longest: float = 6.0,
    opened: float = 0.05,
    generator: torch.Generator | None = None,
) -> None:
    """Give the units of a phased LSTM periods of many lengths, and phases anywhere in them.

    The periods tau become exp U(shortest, longest), the phases s U(0, tau).

    >>> from holdfast.nn import Recurrent
    >>> layer = Recurrent("phased", 3, 5)
    >>> phased_(layer, longest=3.0)
    >>> bool((layer.tau_l0 < 20.1).all())
    True

    Arguments:
        shortest, longest: natural logarithms of periods, in the unit of the times that are given.
        opened: part of its period for which a unit is open, above 0 and at most 1.

    Errors: `ValueError` where the cell has no periods, and for impossible numbers.
    Source: Neil, Pfeiffer & Liu 2016.
    """
    if not shortest <= longest:
        raise ValueError(f"longest should be at least shortest, {shortest}, got: {longest}")
    if not 0 < opened <= 1:
        raise ValueError(f"opened should be a part of a period in (0, 1], got: {opened}")
    for _, parameters in _directions(layer):
        if not {"tau", "s", "r_on"} <= parameters.keys():
            raise ValueError(f"phased_: the cell {layer.cell.name} has no periods; take phased")
        parameters["tau"].uniform_(shortest, longest, generator=generator).exp_()
        parameters["s"].uniform_(generator=generator).mul_(parameters["tau"])
        parameters["r_on"].fill_(opened)


def _directions(layer: Recurrent) -> Iterator[tuple[int, Mapping[str, Tensor]]]:
    """H and parameters of each layer and direction; refused where writing to them is in vain."""
    for index, names in enumerate(layer._described.cells):
        for name in names.values():
            if is_parametrized(layer, name):
                raise ValueError(f"{name} is parametrized; initialize it before that")
        yield layer._described.units[next(iter(names.values()))], layer._parameters_at(index)


def _set_bias(
    layer: Recurrent,
    parameters: Mapping[str, Tensor],
    units: int,
    gate: str,
    total: float | Tensor,
) -> None:
    """Give the first bias of a gate the total, and 0 to the others."""
    cell, varied = layer.cell, layer.varied
    if gate not in [one.name for one in cell.gates]:
        names = ", ".join(one.name for one in cell.gates)
        raise ValueError(f"the cell {cell.name} has no gate {gate} for a bias; it has {names}")
    found = []
    for name in ("bias_ih", "bias_hh"):
        if name in parameters:
            members = varied.split(name, units)
            parts = parameters[name].split([rows for _, rows in members])
            found += [p for p, (acc, _) in zip(parts, members, strict=True) if acc.gate == gate]
    own = {name for one in cell.gates for name in one.lowered}
    own |= set(varied.weights) - set(cell.weights)
    names = (f"bias_{gate}", f"b_{gate}", f"bias_hh_{gate}", f"b_hh_{gate}")
    found += [parameters[name] for name in names if name in own]
    if not found:
        raise ValueError(f"the gate {gate} of this layer has no bias; leave bias at True")
    for number, bias in enumerate(found):
        bias.copy_(torch.as_tensor(0.0 if number else total))

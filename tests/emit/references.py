"""One step of the catalogue's cells in plain PyTorch, from the equations of their papers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Split = tuple[Tensor, ...]


def _sums(x: Tensor, h: Tensor, p: Mapping[str, Tensor]) -> tuple[Split, Split]:
    """`W x + b_ih` and `R h + b_hh`, gate by gate."""
    size = h.shape[1]
    first = x @ p["weight_ih"].T + p["bias_ih"]
    second = h @ p["weight_hh"].T + p["bias_hh"]
    return first.split(size, 1), second.split(size, 1)


def _lstm(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> tuple[Tensor, Split]:
    i, f, g, o = (one + other for one, other in zip(*_sums(x, h, p), strict=True))
    new = torch.sigmoid(f) * c[0] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(new), (new,)


def _lstm_1997_plain(
    x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]
) -> tuple[Tensor, Split]:
    i, g, o = (one + other for one, other in zip(*_sums(x, h, p), strict=True))
    new = c[0] + (4 / (1 + torch.exp(-g)) - 2) / (1 + torch.exp(-i))
    return (2 / (1 + torch.exp(-new)) - 1) / (1 + torch.exp(-o)), (new,)


def _peephole(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> tuple[Tensor, Split]:
    i, f, g, o = (one + other for one, other in zip(*_sums(x, h, p), strict=True))
    i, f = torch.sigmoid(i + p["p_i"] * c[0]), torch.sigmoid(f + p["p_f"] * c[0])
    new = f * c[0] + i * torch.tanh(g)
    return torch.sigmoid(o + p["p_o"] * new) * torch.tanh(new), (new,)


def _coupled(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> tuple[Tensor, Split]:
    i, g, o = (one + other for one, other in zip(*_sums(x, h, p), strict=True))
    new = torch.lerp(c[0], torch.tanh(g), torch.sigmoid(i))
    return torch.sigmoid(o) * torch.tanh(new), (new,)


def _gru(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> tuple[Tensor, Split]:
    (x_r, x_z, x_n), (h_r, h_z, h_n) = _sums(x, h, p)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    n = torch.tanh(x_n + r * h_n)
    return torch.lerp(n, h, z), ()


def _gru_2014(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> tuple[Tensor, Split]:
    first, second = _sums(x, h, p)
    r, z = (torch.sigmoid(one + other) for one, other in zip(first[:2], second[:2], strict=True))
    n = torch.tanh(first[2] + _sums(x, r * h, p)[1][2])
    return torch.lerp(n, h, z), ()


def _rnn(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> tuple[Tensor, Split]:
    (first,), (second,) = _sums(x, h, p)
    return torch.tanh(first + second), ()


def _rnn_relu(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> tuple[Tensor, Split]:
    (first,), (second,) = _sums(x, h, p)
    return torch.clamp(first + second, min=0.0), ()


REFERENCES: dict[str, Callable[..., tuple[Tensor, Split]]] = {
    "lstm": _lstm,
    "lstm_1997_plain": _lstm_1997_plain,
    "peephole": _peephole,
    "coupled": _coupled,
    "gru": _gru,
    "gru_2014": _gru_2014,
    "rnn": _rnn,
    "rnn_relu": _rnn_relu,
}
"""A function of x, h, the further states and the parameters: the new h, and the new states."""

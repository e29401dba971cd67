"""The catalogue's cells for one step in plain PyTorch, with every option of a variation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from holdfast import Cell
from holdfast.compiler.vary import Variation
from tests.emit.problems import bent

Values = tuple[Tensor, ...]

TORCH: dict[Any, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "hard_sigmoid": lambda x: functional.relu6(x + 3) / 6,
    "hard_tanh": functional.hardtanh,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "elu": functional.elu,
    "leaky_relu": functional.leaky_relu,
    "silu": functional.silu,
    "exp": torch.exp,
    "identity": lambda x: x,
    bent: lambda x: 2 * x / (1 + x**2),
}


class Plain:
    """The parts of one step in PyTorch, with the options of a variation."""

    def __init__(
        self, made: Cell, options: Variation, p: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> None:
        self.gates = [gate.name for gate in made.gates]
        self.options, self.p, self.masks = options, p, masks
        self.chosen = dict(options.activations)

    def input(self, x: Tensor) -> list[Tensor]:
        """`W x` with its biases, gate by gate."""
        total = x @ self.p["weight_ih"].T
        if self.options.layer_norm:
            total = functional.layer_norm(total, total.shape[1:]) * self._all("gain_ih")
            if self.options.norm_bias:
                total = total + self._all("bias")
        else:
            total = total + self.p["bias_ih"]
        return list(total.chunk(len(self.gates), 1))

    def masked(self, h: Tensor) -> Tensor:
        return h * self.masks["recurrent"] if self.options.recurrent_mask else h

    def recurrent(self, h: Tensor) -> list[Tensor]:
        """`R h` with its biases, gate by gate."""
        if self.options.diagonal:
            return [self.p[f"u_{gate}"] * self.masked(h) for gate in self.gates]
        total = self.masked(h) @ self.p["weight_hh"].T
        if self.options.layer_norm:
            total = functional.layer_norm(total, total.shape[1:]) * self._all("gain_hh")
        else:
            total = total + self.p["bias_hh"]
        return list(total.chunk(len(self.gates), 1))

    def _all(self, kind: str) -> Tensor:
        return torch.cat([self.p[f"{kind}_{gate}"] for gate in self.gates])

    def _act(self, site: str, default: str, x: Tensor) -> Tensor:
        if self.options.clip:
            x = x.clamp(-self.options.clip, self.options.clip)
        return TORCH[self.chosen.get(site, default)](x)

    def gate(self, x: Tensor) -> Tensor:
        return self._act("gate", "sigmoid", x)

    def candidate(self, x: Tensor, default: str = "tanh") -> Tensor:
        value = self._act("candidate", default, x)
        return value * self.masks["candidate"] if self.options.candidate_mask else value

    def state(self, new: Tensor) -> Tensor:
        bound = self.options.state_clip
        return new.clamp(-bound, bound) if bound else new

    def output(self, new: Tensor, default: str = "tanh") -> Tensor:
        if self.options.layer_norm:
            new = functional.layer_norm(new, new.shape[1:]) * self.p["gain_c"]
            new = new + self.p["bias_c"] if self.options.norm_bias else new
        return self._act("output", default, new)

    def zoned(self, name: str, new: Tensor, old: Tensor) -> Tensor:
        if name not in self.options.zoneout:
            return new
        mask = self.masks[f"zoneout_{name}"]
        return mask * new + (1 - mask) * old


Step = Callable[[Plain, Tensor, Tensor, Values], tuple[Tensor, Values]]


def _sums(v: Plain, x: Tensor, h: Tensor) -> list[Tensor]:
    return [one + other for one, other in zip(v.input(x), v.recurrent(h), strict=True)]


def _lstm(v: Plain, x: Tensor, h: Tensor, c: Values) -> tuple[Tensor, Values]:
    i, f, g, o = _sums(v, x, h)
    new = v.state(v.gate(f) * c[0] + v.gate(i) * v.candidate(g))
    return v.gate(o) * v.output(new), (new,)


def _lstm_1997_plain(v: Plain, x: Tensor, h: Tensor, c: Values) -> tuple[Tensor, Values]:
    i, g, o = _sums(v, x, h)
    new = v.state(c[0] + v.gate(i) * (4 * v.gate(g) - 2))
    return v.gate(o) * (2 * v.output(new, "sigmoid") - 1), (new,)


def _peephole(v: Plain, x: Tensor, h: Tensor, c: Values) -> tuple[Tensor, Values]:
    i, f, g, o = _sums(v, x, h)
    first, forget = v.gate(i + v.p["p_i"] * c[0]), v.gate(f + v.p["p_f"] * c[0])
    new = v.state(forget * c[0] + first * v.candidate(g))
    return v.gate(o + v.p["p_o"] * new) * v.output(new), (new,)


def _coupled(v: Plain, x: Tensor, h: Tensor, c: Values) -> tuple[Tensor, Values]:
    i, g, o = _sums(v, x, h)
    new = v.state(torch.lerp(c[0], v.candidate(g), v.gate(i)))
    return v.gate(o) * v.output(new), (new,)


def _gru(v: Plain, x: Tensor, h: Tensor, c: Values) -> tuple[Tensor, Values]:
    (x_r, x_z, x_n), (h_r, h_z, h_n) = v.input(x), v.recurrent(h)
    if v.options.diagonal:
        h_n = h_n + v.p["b_hh_n"]
    if v.options.layer_norm and v.options.norm_bias:
        h_n = h_n + v.p["bias_hh_n"]
    n = v.candidate(x_n + v.gate(x_r + h_r) * h_n)
    return torch.lerp(n, h, v.gate(x_z + h_z)), ()


def _gru_2014(v: Plain, x: Tensor, h: Tensor, c: Values) -> tuple[Tensor, Values]:
    (x_r, x_z, x_n), (h_r, h_z, _) = v.input(x), v.recurrent(h)
    n = v.candidate(x_n + v.recurrent(v.gate(x_r + h_r) * h)[2])
    return torch.lerp(n, h, v.gate(x_z + h_z)), ()


def _rnn(v: Plain, x: Tensor, h: Tensor, c: Values) -> tuple[Tensor, Values]:
    return v.candidate(_sums(v, x, h)[0]), ()


def _rnn_relu(v: Plain, x: Tensor, h: Tensor, c: Values) -> tuple[Tensor, Values]:
    return v.candidate(_sums(v, x, h)[0], "relu"), ()


STEPS: dict[str, Step] = {
    "lstm": _lstm,
    "lstm_1997_plain": _lstm_1997_plain,
    "peephole": _peephole,
    "coupled": _coupled,
    "gru": _gru,
    "gru_2014": _gru_2014,
    "rnn": _rnn,
    "rnn_relu": _rnn_relu,
}

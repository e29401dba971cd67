"""One step of the catalogue's cells in plain PyTorch, from the equations of their papers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from tests.emit.references_more import MORE, Split, Step, rows, sigmoid, tanh


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


def _four(x: Tensor, h: Tensor, p: Mapping[str, Tensor]) -> list[Tensor]:
    """The first four gates, with W, R and both biases each."""
    W, R, b, d = rows(p, h.shape[1])
    return [x @ W[n].T + b[n] + h @ R[n].T + d[n] for n in range(4)]


def _peephole_2002(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    i, f, g, o = _four(x, h, p)
    new = sigmoid(f + p["p_f"] * c[0]) * c[0] + sigmoid(i + p["p_i"] * c[0]) * g
    return sigmoid(o + p["p_o"] * new) * new, (new,)


def _odyssey(missing: str) -> Callable[..., Step]:
    """V of the search space odyssey, less one thing."""

    def step(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
        absent = {"nig": "i", "nfg": "f", "nog": "o", "cifg": "f"}.get(missing, "")
        first, second = _sums(x, h, p)
        names = [name for name in "ifgo" if name != absent]
        v = {name: first[n] + second[n] for n, name in enumerate(names)}
        old, one = c[0], torch.ones_like(c[0])
        i = one if absent == "i" else sigmoid(v["i"] + p["p_i"] * old)
        if absent == "f":
            f = 1 - i if missing == "cifg" else one
        else:
            f = sigmoid(v["f"] + p["p_f"] * old)
        z = v["g"] if missing == "niaf" else tanh(v["g"])
        new = z * i + old * f
        o = one if absent == "o" else sigmoid(v["o"] + p["p_o"] * new)
        return (new if missing == "noaf" else tanh(new)) * o, (new,)

    return step


def _odyssey_fgr(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    i, f, g, o = _four(x, h, p)
    R = rows(p, h.shape[1])[1][4:]
    old, *before = c
    # R[3 * n + m] leads from the gate n of i, f, o to the gate m.
    i, f, o = (
        gate + sum(y @ R[3 * n + m].T for n, y in enumerate(before))
        for m, gate in enumerate((i, f, o))
    )
    i, f = sigmoid(i + p["p_i"] * old), sigmoid(f + p["p_f"] * old)
    new = i * tanh(g) + f * old
    o = sigmoid(o + p["p_o"] * new)
    return o * tanh(new), (new, i, f, o)


def _mgu(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    W, R, b, d = rows(p, h.shape[1])
    f = sigmoid(x @ W[0].T + h @ R[0].T + b[0] + d[0])
    n = tanh(x @ W[1].T + (f * h) @ R[1].T + b[1] + d[1])
    return torch.lerp(h, n, f), ()


def _janet(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    s, g = (one + other for one, other in zip(*_sums(x, h, p), strict=True))
    return sigmoid(s) * h + sigmoid(1 - s) * tanh(g), ()


def _ind_rnn(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    return torch.relu(x @ p["weight_ih"].T + p["bias_ih"] + p["u_a"] * h), ()


def _capped(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    i, f, g, o = _four(x, h, p)
    new = sigmoid(f) * c[0] + torch.minimum(sigmoid(i), sigmoid(-f)) * tanh(g)
    return sigmoid(o) * tanh(new), (new,)


def _multiplicative(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    W, R, b, d = rows(p, h.shape[1])
    # The R of a gate that is taken apart stands behind those of the others.
    m = (x @ W[0].T) * (h @ R[4].T)
    i, f, g, o = (x @ W[n + 1].T + m @ R[n].T + b[n] + d[n] for n in range(4))
    new = sigmoid(f) * c[0] + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(new), (new,)


def _nested(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    i, f, g, o = _four(x, h, p)
    _, R, _, d = rows(p, h.shape[1])
    new, old = sigmoid(i) * g, sigmoid(f) * c[0]
    inner = {"weight_ih": torch.cat(R[4:8]), "weight_hh": torch.cat(R[8:12])}
    inner |= {"bias_ih": torch.cat(d[4:8]), "bias_hh": torch.zeros_like(torch.cat(d[4:8]))}
    memory, (n,) = _lstm(new, old, c[1:], inner)
    return sigmoid(o) * tanh(memory), (memory, n)


def _slstm(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    i, f, g, o = _four(x, h, p)
    old, n, m = c
    new = torch.maximum(functional.logsigmoid(f) + m, i)
    i, f = torch.exp(i - new), torch.exp(functional.logsigmoid(f) + m - new)
    cell, norm = f * old + i * tanh(g), f * n + i
    return sigmoid(o) * cell / norm, (cell, norm, new)


def _highway(places: str) -> Callable[..., Step]:
    """An LSTM with highway networks on the memory, the output or both."""

    def step(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
        i, f, g, o = _four(x, h, p)
        _, R, _, d = rows(p, h.shape[1])

        def highway(u: Tensor, first: int) -> Tensor:
            t, n = (u @ R[k].T + d[k] for k in (first, first + 1))
            return torch.lerp(u, tanh(n), sigmoid(t))

        new = sigmoid(f) * c[0] + sigmoid(i) * tanh(g)
        new = highway(new, 4) if "c" in places else new
        out = sigmoid(o) * tanh(new)
        return (highway(out, 2 + 2 * len(places)) if "h" in places else out), (new,)

    return step


def _minimal(a: Tensor) -> Tensor:
    return torch.where(a >= 0, a + 0.5, sigmoid(a))


def _min_lstm(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    i, f, g = (x @ p["weight_ih"].T + p["bias_ih"]).chunk(3, 1)
    i, f = sigmoid(i), sigmoid(f)
    return f / (f + i) * h + i / (f + i) * _minimal(g), ()


def _min_gru(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    z, n = (x @ p["weight_ih"].T + p["bias_ih"]).chunk(2, 1)
    return torch.lerp(h, _minimal(n), sigmoid(z)), ()


def _qrnn(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    f, g, o = (x @ p["weight_ih"].T + p["bias_ih"]).chunk(3, 1)
    new = torch.lerp(tanh(g), c[0], sigmoid(f))
    return sigmoid(o) * new, (new,)


def _slim(kind: str) -> Callable[..., Step]:
    """A slim LSTM by its number."""

    def step(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
        _, R, _, d = rows(p, h.shape[1])

        def gate(name: str) -> Tensor:
            n = "ifo".index(name)
            total = torch.zeros_like(h)
            if kind in ("1", "2"):
                total = total + h @ R[n].T
            if kind in ("4", "4a", "5", "5a", "10", "11"):
                total = total + p[f"u_{name}"] * h
            if kind == "1":
                total = total + d[n]
            if kind in ("3", "5", "5a", "11"):
                total = total + p[f"b_{name}"]
            return sigmoid(total)

        z = x @ p["weight_ih"].T + p["bias_ih"]
        z = z + (p["u_g"] * h if kind in ("10", "11") else h @ R[-1].T + d[-1])
        f = {"4a": 0.96, "5a": 0.96, "6": 0.4}.get(kind)
        new = (gate("f") if f is None else f) * c[0]
        new = new + (1.0 if kind == "6" else gate("i")) * tanh(z)
        return (gate("o") if f is None else 1.0) * tanh(new), (new,)

    return step


def _norm(x: Tensor, gain: Tensor | float, bias: Tensor | float = 0.0) -> Tensor:
    return functional.layer_norm(x, x.shape[1:]) * gain + bias


def _layer_norm_lstm(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    gain_ih, gain_hh, bias = (
        torch.cat([p[f"{kind}_{gate}"] for gate in "ifgo"])
        for kind in ("gain_ih", "gain_hh", "bias")
    )
    total = _norm(h @ p["weight_hh"].T, gain_hh) + _norm(x @ p["weight_ih"].T, gain_ih, bias)
    i, f, g, o = total.chunk(4, 1)
    new = sigmoid(f) * c[0] + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(_norm(new, p["gain_c"], p["bias_c"])), (new,)


def _layer_norm_gru(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    W, R, _, _ = rows(p, h.shape[1])
    gain_ih, gain_hh, bias = (
        torch.cat([p[f"{kind}_{gate}"] for gate in "rz"]) for kind in ("gain_ih", "gain_hh", "bias")
    )
    total = _norm(h @ torch.cat(R[:2]).T, gain_hh) + _norm(x @ torch.cat(W[:2]).T, gain_ih, bias)
    r, z = sigmoid(total).chunk(2, 1)
    n = _norm(h @ R[2].T, p["gain_hh_n"], p["bias_hh_n"])
    n = tanh(_norm(x @ W[2].T, p["gain_ih_n"], p["bias_n"]) + r * n)
    return torch.lerp(h, n, z), ()


SLIM = ("1", "2", "3", "4", "4a", "5", "5a", "6", "10", "11")

REFERENCES: dict[str, Callable[..., tuple[Tensor, Split]]] = {
    "lstm": _lstm,
    "lstm_1997_plain": _lstm_1997_plain,
    "peephole": _peephole,
    "coupled": _coupled,
    "gru": _gru,
    "gru_2014": _gru_2014,
    "rnn": _rnn,
    "rnn_relu": _rnn_relu,
    "peephole_2002": _peephole_2002,
    **{f"odyssey_{one}": _odyssey(one) for one in ("nig", "nfg", "nog", "niaf", "noaf", "cifg")},
    "odyssey_fgr": _odyssey_fgr,
    "mgu": _mgu,
    "janet": _janet,
    "ind_rnn": _ind_rnn,
    "capped": _capped,
    "multiplicative": _multiplicative,
    "nested": _nested,
    "slstm": _slstm,
    **{f"highway_{one}": _highway(one) for one in ("c", "h", "ch")},
    "min_lstm": _min_lstm,
    "min_gru": _min_gru,
    "qrnn": _qrnn,
    **{f"slim_{one}": _slim(one) for one in SLIM},
    "layer_norm_lstm": _layer_norm_lstm,
    "layer_norm_gru": _layer_norm_gru,
    **MORE,
}
"""A function of x, h, the further states and the parameters that a layer keeps: the new h, and the
new states.

A row of x holds what W multiplies, then H numbers for each of the cell's inputs.
"""

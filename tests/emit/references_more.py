"""References whose equations are written in other terms than the cells': complex numbers, the gamma
function, one matrix for all units, lists of the past.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

Split = tuple[Tensor, ...]
Step = tuple[Tensor, Split]
sigmoid, tanh = torch.sigmoid, torch.tanh


def rows(p: Mapping[str, Tensor], size: int) -> tuple[Split, Split, Split, Split]:
    """The matrices W and R and the biases of both, each taken apart into those of its gates."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    W, R, b, d = (p[name].split(size) if name in p else () for name in names)
    return W, R, b, d


def _apart(x: Tensor, p: Mapping[str, Tensor]) -> Split:
    """What W multiplies, and what a step is given unit by unit."""
    width = p["weight_ih"].shape[1]
    return x[:, :width], x[:, width:]


def _all(x: Tensor, h: Tensor, p: Mapping[str, Tensor]) -> Tensor:
    """`[W R] [x; h] + b` of all gates, one below the other."""
    both = torch.cat([p["weight_ih"], p["weight_hh"]], 1)
    return torch.cat([x, h], 1) @ both.T + p["bias_ih"] + p["bias_hh"]


def _complex(values: Tensor) -> Tensor:
    """Neighboring numbers as one complex number."""
    return torch.view_as_complex(values.unflatten(-1, (-1, 2)).contiguous())


def _pairs(z: Tensor) -> Tensor:
    return torch.view_as_real(z).flatten(-2)


def _bound(z: Tensor) -> Tensor:
    return z / z.abs().clamp(min=1.0)


def _associative(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    """From the parameters that a layer keeps: gates of H / 2 values, keys of a single copy."""
    size = h.shape[1]
    i, f, o, *others = _all(x, h, p).split([size // 2] * 3 + [size] * 3, 1)
    i, f, o = sigmoid(i), sigmoid(f), sigmoid(o)
    u, write, read = (_bound(_complex(one)) for one in others)
    new, found = [], []
    for copy, old in enumerate(map(_complex, c)):
        order = np.arange(size // 2)
        if copy:
            order = np.random.default_rng(7 + copy).permutation(size // 2)
        memory = f * old + write[:, order] * (i * u)
        new.append(_pairs(memory))
        found.append(read[:, order] * memory)
    return _pairs(o * _bound(torch.stack(found).mean(0))), tuple(new)


def _rot_lstm(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    """From the parameters that a layer keeps: H / 2 angles."""
    size = h.shape[1]
    i, f, g, o, u = _all(x, h, p).split([size] * 4 + [size // 2], 1)
    d = sigmoid(f) * c[0] + sigmoid(i) * tanh(g)
    new = _pairs(_complex(d) * torch.exp(2j * math.pi * sigmoid(u)))
    return sigmoid(o) * tanh(new), (new,)


def _depth_gated(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    x, below = _apart(x, p)
    W, R, b, d = rows(p, h.shape[1])
    i, f, g, o = (W[n] @ x.T + R[n] @ h.T + (b[n] + d[n])[:, None] for n in range(4))
    i = sigmoid(i.T + p["p_i"] * c[0])
    f = sigmoid(f.T + p["p_f"] * c[0])
    depth = sigmoid((W[4] @ x.T).T + b[4] + p["w_c"] * c[0] + p["w_l"] * below)
    new = (torch.stack([depth, f, i]) * torch.stack([below, c[0], tanh(g.T)])).sum(0)
    return sigmoid(o.T + p["p_o"] * new) * tanh(new), (new,)


def _filtered(d: Tensor, past: Split) -> Tensor:
    """The sum of w_k(d) times the k-th of what is past, for k = 1, 2 ... 25.

    w_k(d) = gamma(k - d) / (gamma(-d) k!), where gamma(-d) = -gamma(1 - d) / d.
    """
    total = torch.zeros_like(past[0])
    for k, value in zip(range(1, 26), past, strict=True):
        ratio = torch.exp(torch.lgamma(k - d) - torch.lgamma(1 - d) - math.lgamma(k + 1))
        total = total - d * ratio * value
    return total


def _fractional_lstm(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    last, order, *before = c
    W, R, b, d = rows(p, h.shape[1])
    i, g, o, e = (x @ W[n].T + b[n] + h @ R[n].T + d[n] for n in range(4))
    order = sigmoid(e + order @ R[4].T) / 2
    new = sigmoid(i) * tanh(g) - _filtered(order, (last, *before))
    return sigmoid(o) * tanh(new), (new, order, last, *before[:-1])


def _fractional_lstm_fixed(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    i, g, o = _all(x, h, p).chunk(3, 1)
    new = sigmoid(i) * tanh(g) - _filtered(sigmoid(p["b_d"]) / 2, c)
    return sigmoid(o) * tanh(new), (new, *c[:-1])


def _fractional_rnn(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    x, now = _apart(x, p)
    m, order, *before = c
    (W_a, W_e), R, (b_a, b_e), (d_a, d_m, d_e) = rows(p, h.shape[1])
    R_a, W_m, R_m, R_e, D_e, M_e = R
    order = sigmoid(x @ W_e.T + h @ R_e.T + order @ D_e.T + m @ M_e.T + b_e + d_e) / 2
    m = tanh(_filtered(order, (now, *before)) @ W_m.T + m @ R_m.T + d_m)
    return tanh(x @ W_a.T + h @ R_a.T + b_a + d_a), (m, order, now, *before[:-1])


def _fractional_rnn_fixed(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    x, now = _apart(x, p)
    m, *before = c
    (W_a,), (R_a, W_m, R_m), (b_a,), (d_a, d_m) = rows(p, h.shape[1])
    seen = _filtered(sigmoid(p["b_d"]) / 2, (now, *before))
    m = tanh(seen @ W_m.T + m @ R_m.T + d_m)
    return tanh(x @ W_a.T + h @ R_a.T + b_a + d_a), (m, now, *before[:-1])


def _gamma(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    size, levels = h.shape[1], len(c)
    i, f, g, o, leak, score = _all(x, h, p).split(
        [size, size, size, size, (levels - 1) * size, levels * size], 1
    )
    old = torch.stack(c)
    leak = sigmoid(leak).unflatten(1, (levels - 1, size)).transpose(0, 1)
    first = sigmoid(f) * c[0] + sigmoid(i) * tanh(g)
    new = torch.cat([first[None], torch.lerp(old[:-1], old[1:], leak)])
    shares = torch.softmax(score.unflatten(1, (levels, size)), 1)
    mixed = torch.einsum("bkn,kbn->bn", shares, new)
    return sigmoid(o) * tanh(mixed), tuple(new)


def _lstm_1997(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    """One matrix leads from all units, cells and gates, to the three of a block."""
    memory, y_i, y_o = c
    _, R, _, _ = rows(p, h.shape[1])
    weights = [
        torch.cat([R[n], from_in, from_out], 1)
        for n, (from_in, from_out) in enumerate(zip(R[3::2], R[4::2], strict=True))
    ]
    whole = {**p, "weight_hh": torch.cat(weights)}
    net_in, net_c, net_out = _all(x, torch.cat([h, y_i, y_o], 1), whole).chunk(3, 1)
    y_i, y_o = sigmoid(net_in), sigmoid(net_out)
    # The logistic function is (1 + tanh(x / 2)) / 2, so those of [-2, 2] and [-1, 1] are these.
    memory = memory + y_i * 2 * tanh(net_c / 2)
    return y_o * tanh(memory / 2), (memory, y_i, y_o)


def _mogrifier(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    _, R, _, d = rows(p, h.shape[1])
    values = [x, h]
    for number, matrix in enumerate(R[:5]):
        gated, by = number % 2, 1 - number % 2
        values[gated] = 2 * sigmoid(values[by] @ matrix.T) * values[gated]
    i, f, g, o = (values[0] @ R[5 + n].T + values[1] @ R[9 + n].T + d[n] for n in range(4))
    i, f = torch.minimum(sigmoid(i), sigmoid(-f)), sigmoid(f)
    new = f * c[0] + i * tanh(g)
    return sigmoid(o) * tanh(new), (new,)


def _mut_1(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    x, units = _apart(x, p)
    (W_z, W_r), (R_r, R_n), (b_z, b_r), (d_r, d_n) = rows(p, h.shape[1])
    z = sigmoid(x @ W_z.T + b_z)
    r = sigmoid(x @ W_r.T + b_r + h @ R_r.T + d_r)
    return torch.lerp(h, tanh((r * h) @ R_n.T + tanh(units) + d_n), z), ()


def _mut_2(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    x, units = _apart(x, p)
    (W_z, W_n), (R_z, R_r, R_n), (b_z, b_n), (d_z, d_r, d_n) = rows(p, h.shape[1])
    z = sigmoid(x @ W_z.T + b_z + h @ R_z.T + d_z)
    r = sigmoid(units + h @ R_r.T + d_r)
    return torch.lerp(h, tanh((r * h) @ R_n.T + d_n + x @ W_n.T + b_n), z), ()


def _mut_3(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    (W_z, W_r, W_n), (R_z, R_r, R_n), b, d = rows(p, h.shape[1])
    z = sigmoid(x @ W_z.T + tanh(h) @ R_z.T + b[0] + d[0])
    r = sigmoid(x @ W_r.T + h @ R_r.T + b[1] + d[1])
    return torch.lerp(h, tanh((r * h) @ R_n.T + x @ W_n.T + b[2] + d[2]), z), ()


def _on_lstm(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    i, f, g, o, master_f, master_i = _all(x, h, p).chunk(6, 1)
    master_f = torch.softmax(master_f, 1).cumsum(1)
    master_i = 1 - torch.softmax(master_i, 1).cumsum(1)
    overlap = master_f * master_i
    f = sigmoid(f) * overlap + (master_f - overlap)
    i = sigmoid(i) * overlap + (master_i - overlap)
    new = f * c[0] + i * tanh(g)
    return sigmoid(o) * tanh(new), (new,)


def _phased(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    x, time = _apart(x, p)
    i, f, g, o = _all(x, h, p).chunk(4, 1)
    phi = torch.remainder(time - p["s"], p["tau"]) / p["tau"]
    # While it is open, the gate rises to 1 and falls back: a triangle.
    triangle = 1 - (2 * phi / p["r_on"] - 1).abs()
    k = torch.where(phi < p["r_on"], triangle, 0.001 * phi)
    new = sigmoid(f + p["p_f"] * c[0]) * c[0] + sigmoid(i + p["p_i"] * c[0]) * tanh(g)
    out = sigmoid(o + p["p_o"] * new) * tanh(new)
    return torch.lerp(h, out, k), (torch.lerp(c[0], new, k),)


def _sru(x: Tensor, h: Tensor, c: Split, p: Mapping[str, Tensor]) -> Step:
    x, units = _apart(x, p)
    (W, W_f, W_r), _, (b_f, b_r), _ = rows(p, h.shape[1])
    f = sigmoid(x @ W_f.T + p["v_f"] * c[0] + b_f)
    r = sigmoid(x @ W_r.T + p["v_r"] * c[0] + b_r)
    new = torch.lerp(x @ W.T, c[0], f)
    return torch.lerp(math.sqrt(3.0) * units, new, r), (new,)


MORE: dict[str, Callable[..., Step]] = {
    "associative": _associative,
    "rot_lstm": _rot_lstm,
    "depth_gated": _depth_gated,
    "fractional_lstm": _fractional_lstm,
    "fractional_lstm_fixed": _fractional_lstm_fixed,
    "fractional_rnn": _fractional_rnn,
    "fractional_rnn_fixed": _fractional_rnn_fixed,
    "gamma": _gamma,
    "lstm_1997": _lstm_1997,
    "mogrifier": _mogrifier,
    "mut_1": _mut_1,
    "mut_2": _mut_2,
    "mut_3": _mut_3,
    "on_lstm": _on_lstm,
    "phased": _phased,
    "sru": _sru,
}
"""As `REFERENCES`, of which they are a part."""

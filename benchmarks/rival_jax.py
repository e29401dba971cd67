"""JAX beside our layer: `jax.lax.scan` over the steps, jitted, and its gradient."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.problem import Absent, Contender, Foreign, Problem, missing
from holdfast.data.optional import require
from holdfast.errors import MissingExtraError

NAME = "jax"

PLAIN = ("plain", "bidirectional", "layers")
"""Settings that are written for it."""

_began: dict[str, int] = {}


def begin() -> str:
    """Import JAX, its threads limited to PyTorch's; says what limits were given.

    XLA reads its limits once, when a process first uses it. What it really used is measured.

    Errors: `MissingExtraError`.
    """
    wanted = torch.get_num_threads()
    if "threads" not in _began:
        os.environ.setdefault("NPROC", str(wanted))
        if wanted == 1:
            flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
            os.environ.setdefault("XLA_FLAGS", flags)
    jax = require("jax", "bench")
    if "threads" not in _began:
        jax.devices("cpu")
        _began["threads"] = wanted
    given = _began["threads"]
    return f"XLA limited to {given} thread{'s' if given > 1 else ''} by NPROC and XLA_FLAGS"


def make(problem: Problem) -> Contender | Absent:
    """The layer as a function of its weights and input, and its pullback."""
    kind = problem.cell.name
    if kind not in ("lstm", "gru") or problem.setting.name not in PLAIN:
        return Absent(NAME, f"no {kind}, {problem.setting.title}, is written for it")
    try:
        note = begin()
    except MissingExtraError as error:
        return missing(NAME, error)
    jax = require("jax", "bench")
    layers, both = problem.options.get("num_layers", 1), "bidirectional" in problem.options

    def forward(weights: Mapping[str, Any], x: Any) -> Any:
        return run(kind, weights, x, layers, both)

    def pull(weights: Mapping[str, Any], x: Any, weighting: Any) -> Any:
        return jax.vjp(lambda given: forward(given, x), weights)[1](weighting)[0]

    weights = {name: array(value) for name, value in problem.weights.items()}
    x, weighting = array(problem.x), array(problem.weighting)
    inferred, trained = jax.jit(forward), jax.jit(pull)
    return Foreign(
        lambda: inferred(weights, x).block_until_ready(),
        tensor,
        lambda: jax.block_until_ready(trained(weights, x, weighting)),
        lambda found: {name: tensor(value) for name, value in found.items()},
        note=f"lax.scan; {note}",
    )


def array(value: Tensor) -> Any:
    """A tensor as an array of JAX's own."""
    return require("jax.numpy", "bench").asarray(value.numpy().copy())


def tensor(value: Any) -> Tensor:
    """An array of JAX as a tensor."""
    numpy = require("numpy", "bench")
    return torch.from_numpy(numpy.array(value))


def run(kind: str, weights: Mapping[str, Any], x: Any, layers: int, both: bool) -> Any:
    """Layers over `x`, `[T, B, I]`; the input's product is made before the loop."""
    numpy = require("jax.numpy", "bench")
    for n in range(layers):
        outs = [_direction(kind, weights, x, f"_l{n}")]
        if both:
            outs.append(_direction(kind, weights, x[::-1], f"_l{n}_reverse")[::-1])
        x = numpy.concatenate(outs, -1)
    return x


def _direction(kind: str, weights: Mapping[str, Any], x: Any, suffix: str) -> Any:
    jax, numpy = require("jax", "bench"), require("jax.numpy", "bench")
    W, R, b_ih, b_hh = (
        weights[name + suffix] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    zeros = numpy.zeros((x.shape[1], R.shape[1]), x.dtype)
    if kind == "gru":
        first = x @ W.T + b_ih

        def step(h: Any, gates: Any) -> Any:
            h = gru(gates, h @ R.T + b_hh, h)
            return h, h

        return jax.lax.scan(step, zeros, first)[1]
    first = x @ W.T + (b_ih + b_hh)

    def steps(state: Any, gates: Any) -> Any:
        state = lstm(gates + state[0] @ R.T, state[1])
        return state, state[0]

    return jax.lax.scan(steps, (zeros, zeros), first)[1]


def lstm(gates: Any, c: Any) -> Any:
    """h and c after a step, from all four gates."""
    jax, numpy = require("jax", "bench"), require("jax.numpy", "bench")
    i, f, g, o = numpy.split(gates, 4, -1)
    sigmoid = jax.nn.sigmoid
    c = sigmoid(f) * c + sigmoid(i) * numpy.tanh(g)
    return sigmoid(o) * numpy.tanh(c), c


def gru(inputs: Any, hidden: Any, h: Any) -> Any:
    """h after a step, from the gates' two halves."""
    jax, numpy = require("jax", "bench"), require("jax.numpy", "bench")
    (r, z, n), (s, y, m) = numpy.split(inputs, 3, -1), numpy.split(hidden, 3, -1)
    z = jax.nn.sigmoid(z + y)
    return (1 - z) * numpy.tanh(n + jax.nn.sigmoid(r + s) * m) + z * h

"""Keras beside our layer: its LSTM or GRU on the JAX backend, compiled by `predict_on_batch`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks import rival_jax
from benchmarks.problem import Absent, Contender, Foreign, Problem, missing
from holdfast.data.optional import require
from holdfast.errors import MissingExtraError

NAME = "keras"


def make(problem: Problem) -> Contender | Absent:
    """A model of one layer; Keras reads its backend from the environment when first imported."""
    kind = problem.cell.name
    if kind not in ("lstm", "gru") or problem.setting.name != "plain":
        return Absent(NAME, f"no {kind}, {problem.setting.title}, is written for it")
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "jax")
    try:
        note = rival_jax.begin()
        keras = require("keras", "bench")
    except MissingExtraError as error:
        return missing(NAME, error)
    backend = keras.backend.backend()
    model = _model(keras, kind, problem)
    x = problem.x.transpose(0, 1).contiguous().numpy()
    return Foreign(
        lambda: model.predict_on_batch(x),
        lambda out: torch.from_numpy(out).transpose(0, 1),
        note=f"{backend} backend, predict_on_batch; {note}",
    )


def _model(keras: Any, kind: str, problem: Problem) -> Any:
    B, T, I, H = problem.shape
    make = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[kind]
    options = {"reset_after": True} if kind == "gru" else {}
    layer = make(H, return_sequences=True, **options)
    model = keras.Sequential([keras.Input((T, I), batch_size=B), layer])
    layer.set_weights([value.numpy() for value in arrays(kind, problem.weights)])
    return model


def arrays(kind: str, weights: Mapping[str, Tensor]) -> list[Tensor]:
    """Kernel, recurrent kernel and bias as Keras has them.

    An LSTM's gates are i, f, c, o, which is our order, and it has one bias; a GRU's are z, r, h,
    and with `reset_after` it has two.
    """

    def ordered(name: str) -> Tensor:
        value = weights[f"{name}_l0"]
        if kind == "gru":
            r, z, n = value.chunk(3)
            value = torch.cat([z, r, n])
        return value

    first, second = ordered("bias_ih"), ordered("bias_hh")
    bias = torch.stack([first, second]) if kind == "gru" else first + second
    kernels = [ordered(name).T.contiguous() for name in ("weight_ih", "weight_hh")]
    return [*kernels, bias]

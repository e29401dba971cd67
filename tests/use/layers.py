"""What the layer tests share: pairs of layers with equal weights, and all that a pass can show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from holdfast.nn import GRU, LSTM, RNN, Recurrent, operators
from tests.helpers import unequal_

KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "lstm": (LSTM, nn.LSTM, {}),
    "lstm_proj": (LSTM, nn.LSTM, {"proj_size": 3}),
    "gru": (GRU, nn.GRU, {}),
    "rnn_tanh": (RNN, nn.RNN, {}),
    "rnn_relu": (RNN, nn.RNN, {"nonlinearity": "relu"}),
}
"""Our layer, PyTorch's, and the options that make them the same."""


def pair(kind: str, *args: Any, generator: torch.Generator, **options: Any) -> tuple[Any, Any]:
    """Our layer and PyTorch's, with the same unequal weights."""
    ours, theirs, more = KINDS[kind]
    reference = unequal_(theirs(*args, **more, **options), generator)
    layer = ours(*args, **more, **options)
    layer.load_state_dict(reference.state_dict())
    return layer, reference


@contextmanager
def target(name: str) -> Iterator[None]:
    """Layers run on `eager` in here, or, with `default`, on what they choose themselves."""
    with pytest.MonkeyPatch.context() as patch:
        if name == "eager":
            patch.setattr(operators, "select", lambda *_: ("eager", "the test asks for it"))
        yield


def drawn(
    shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Values from the standard normal distribution."""
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64).to(dtype)


def initial(
    layer: Recurrent, rows: int | None, generator: torch.Generator, dtype: torch.dtype
) -> Any:
    """Initial states in the form the layer takes them: `(h, c)`, or `h` alone."""
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    batch = () if rows is None else (rows,)
    units = layer.hidden_size
    assert isinstance(units, int)
    h = drawn((count, *batch, layer.proj_size or units), generator, dtype)
    rest = [drawn((count, *batch, units), generator, dtype) for _ in layer.cell.states]
    return (h, *rest) if rest else h


def tensors(value: Any) -> list[Tensor]:
    """Every tensor of a nested result, the data of packed ones."""
    if isinstance(value, PackedSequence):
        return [value.data]
    if isinstance(value, Tensor):
        return [value]
    return [tensor for item in value for tensor in tensors(item)]


def observed(module: nn.Module, x: Any, hx: Any = None, **options: Any) -> dict[str, Any]:
    """The results of a pass, and the gradients of its input, initial states and parameters."""
    x = _leaf(x)
    if hx is not None:
        hx = tuple(map(_leaf, hx)) if isinstance(hx, tuple) else _leaf(hx)
    results = tensors(module(x, hx, **options))
    leaves: dict[str, Tensor] = {
        f"gradient of {name}": value for name, value in module.named_parameters()
    }
    leaves["gradient of the input"] = tensors(x)[0]
    for index, state in enumerate([] if hx is None else tensors(hx)):
        leaves[f"gradient of initial state {index}"] = state
    weights = torch.Generator().manual_seed(7)
    loss = torch.stack([(r * drawn(r.shape, weights, r.dtype)).sum() for r in results]).sum()
    wanted = list(leaves.values())
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    return {"results": results, **dict(zip(leaves, gradients, strict=True))}


def _leaf(value: Any) -> Any:
    if isinstance(value, PackedSequence):
        return value._replace(data=_leaf(value.data))
    return value.detach().clone().requires_grad_()

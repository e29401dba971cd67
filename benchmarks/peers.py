"""The options of our layer written with `torch.nn`, to be measured beside it.

Each peer is written as a user of PyTorch would write it: `torch.nn.LSTM` where that can do the job,
and else, in `loops.py`, a loop over `torch.nn.LSTMCell`, or over operations where the change lies
inside of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.registry import Shape

DROPOUT = 0.3
"""Probability of every dropout."""
ZONEOUT = 0.1
"""Probability of zoneout, of h and c."""
CLIP = 1.0
"""Bound of the arguments of activations."""
STATE_CLIP = 1.0
"""Bound of c."""
HEADS = 4


@dataclass(frozen=True, eq=False)
class Given:
    """What ours and its peer get: the same numbers.

    x: `[T, B, I]`. lengths: `[B]`. resets: `[T, B]`. weights: by our names, `weight_ih_l0`, ...
    training: whether masks are drawn.
    """

    shape: Shape
    x: Tensor
    lengths: Tensor
    resets: Tensor
    weights: Mapping[str, Tensor]
    training: bool


@dataclass(frozen=True, eq=False)
class Runner:
    """A contender, ready to run: `forward()` gives its outputs, `[T, B, ...]` each.

    parameters: by our names, where it has the very same tensor.
    """

    forward: Callable[[], tuple[Tensor, ...]]
    parameters: Mapping[str, Tensor]

    def call(self, which: str, weightings: tuple[Tensor, ...]) -> Callable[[], object]:
        """What is timed: one of `PASSES`; weightings are the gradients of the outputs."""
        if which == "forward":

            def forward() -> object:
                with torch.inference_mode():
                    return self.forward()

            return forward
        return lambda: self._gradients(self.forward(), weightings)

    def results(self, weightings: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Outputs of both passes and every gradient."""
        with torch.inference_mode():
            inferred = [out.clone() for out in self.forward()]
        outs = self.forward()
        gradients = self._gradients(outs, weightings)
        found = {f"inferred output {n}": out for n, out in enumerate(inferred)}
        found |= {f"output {n}": out.detach() for n, out in enumerate(outs)}
        named = zip(self.parameters, gradients, strict=True)
        return found | {f"gradient of {name}": value for name, value in named}

    def _gradients(
        self, outs: tuple[Tensor, ...], weightings: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Zeros for a parameter that a cell has and does not use."""
        parameters = list(self.parameters.values())
        return torch.autograd.grad(outs, parameters, weightings, materialize_grads=True)


Peer = Callable[[Given], Runner]


def _layer(given: Given, number: int = 0, *, inputs: int = 0, units: int = 0) -> nn.LSTM:
    """One layer of PyTorch with the weights of ours of that number."""
    layer = nn.LSTM(inputs or given.shape.I, units or given.shape.H)
    names = {name: name.replace("_l0", f"_l{number}") for name in layer.state_dict()}
    layer.load_state_dict({name: given.weights[ours] for name, ours in names.items()})
    return layer


def _parameters(layer: nn.LSTM, number: int = 0) -> dict[str, Tensor]:
    return {name.replace("_l0", f"_l{number}"): value for name, value in layer.named_parameters()}


def stock(options: Mapping[str, Any], change: Callable[[Tensor], Tensor] | None = None) -> Peer:
    """`torch.nn.LSTM` with its own options.

    Arguments:
        change: of its output.
    """

    def make(given: Given) -> Runner:
        layer = nn.LSTM(given.shape.I, given.shape.H, **options).train(given.training)
        layer.load_state_dict({name: given.weights[name] for name in layer.state_dict()})

        def forward() -> tuple[Tensor]:
            out = layer(given.x)[0]
            return (out if change is None else change(out),)

        return Runner(forward, dict(layer.named_parameters()))

    return make


def halves(out: Tensor) -> Tensor:
    """The sum of both directions, `[T, B, H]` from `[T, B, 2H]`."""
    forward, backward = out.chunk(2, -1)
    return forward + backward


def ragged(given: Given) -> Runner:
    """`pack_padded_sequence` before `torch.nn.LSTM`, `pad_packed_sequence` behind it."""
    layer = _layer(given)

    def forward() -> tuple[Tensor]:
        packed = pack_padded_sequence(given.x, given.lengths, enforce_sorted=False)
        return (pad_packed_sequence(layer(packed)[0], total_length=given.shape.T)[0],)

    return Runner(forward, _parameters(layer))


def locked(inputs: float = 0.0, outputs: float = 0.0) -> Peer:
    """`torch.nn.LSTM` between masks that hold for a whole sequence."""

    def make(given: Given) -> Runner:
        layer = _layer(given)

        def forward() -> tuple[Tensor]:
            x = _lock(given.x, inputs) if given.training else given.x
            out = layer(x)[0]
            return (_lock(out, outputs) if given.training else out,)

        return Runner(forward, _parameters(layer))

    return make


def _lock(x: Tensor, p: float) -> Tensor:
    return x * x.new_empty(1, *x.shape[1:]).bernoulli_(1 - p).div_(1 - p) if p else x


def dropped_weights(given: Given) -> Runner:
    """`torch.nn.LSTM` with a `weight_hh` that went through dropout."""
    layer = _layer(given)
    parameters = _parameters(layer)

    def forward() -> tuple[Tensor]:
        dropped = functional.dropout(parameters["weight_hh_l0"], DROPOUT, given.training)
        changed = parameters | {"weight_hh_l0": dropped}
        return (functional_call(layer, changed, (given.x,))[0],)

    return Runner(forward, parameters)


def learned_start(given: Given) -> Runner:
    """`torch.nn.LSTM` with initial states that are parameters."""
    layer = _layer(given)
    starts = {
        name: nn.Parameter(given.weights[name].clone()) for name in ("h_start_l0", "c_start_l0")
    }

    def forward() -> tuple[Tensor]:
        h, c = (start.expand(1, given.shape.B, -1).contiguous() for start in starts.values())
        return (layer(given.x, (h, c))[0],)

    return Runner(forward, _parameters(layer) | starts)


def truncated(steps: int) -> Peer:
    """`torch.nn.LSTM` in chunks, the state detached between them."""

    def make(given: Given) -> Runner:
        layer = _layer(given)

        def forward() -> tuple[Tensor]:
            outs, state = [], None
            for chunk in given.x.split(steps):
                out, (h, c) = layer(chunk, state)
                state = h.detach(), c.detach()
                outs.append(out)
            return (torch.cat(outs),)

        return Runner(forward, _parameters(layer))

    return make


def heads(given: Given) -> Runner:
    """A `torch.nn.LSTM` for each head, side by side."""
    units = given.shape.H // HEADS
    layers = [nn.LSTM(given.shape.I, units) for _ in range(HEADS)]
    for number, layer in enumerate(layers):
        rows = [slice(k + number * units, k + (number + 1) * units) for k in _gates(given)]
        names = list(layer.state_dict())
        parts = {name: torch.cat([given.weights[name][at] for at in rows]) for name in names}
        layer.load_state_dict(parts)
    own = {
        f"head {number} {name}": value
        for number, layer in enumerate(layers)
        for name, value in layer.named_parameters()
    }
    return Runner(lambda: (torch.cat([layer(given.x)[0] for layer in layers], -1),), own)


def _gates(given: Given) -> range:
    """Where the rows of each gate begin."""
    return range(0, 4 * given.shape.H, given.shape.H)


def residual(given: Given) -> Runner:
    """Two layers of `torch.nn.LSTM`; the second adds its input to its output."""
    first, second = _layer(given), _layer(given, 1, inputs=given.shape.H)

    def forward() -> tuple[Tensor]:
        x = first(given.x)[0]
        return (second(x)[0] + x,)

    return Runner(forward, _parameters(first) | _parameters(second, 1))


def highway(given: Given) -> Runner:
    """Two layers of `torch.nn.LSTM`, and a `torch.nn.Linear` for the gate around the second."""
    first, second = _layer(given), _layer(given, 1, inputs=given.shape.H)
    gate = nn.Linear(given.shape.H, given.shape.H)
    gate.load_state_dict({name: given.weights[f"{name}_highway_l1"] for name in ("weight", "bias")})

    def forward() -> tuple[Tensor]:
        x = first(given.x)[0]
        share = torch.sigmoid(gate(x))
        return (share * second(x)[0] + (1 - share) * x,)

    own = {f"{name}_highway_l1": value for name, value in gate.named_parameters()}
    return Runner(forward, _parameters(first) | _parameters(second, 1) | own)


def sizes(given: Given) -> Runner:
    """Two layers of `torch.nn.LSTM`, the second half as wide."""
    first = _layer(given)
    second = _layer(given, 1, inputs=given.shape.H, units=given.shape.H // 2)
    own = _parameters(first) | _parameters(second, 1)
    return Runner(lambda: (second(first(given.x)[0])[0],), own)

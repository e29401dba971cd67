"""Options of a layer as loops in PyTorch: over `torch.nn.LSTMCell`, or over operations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.peers import CLIP, DROPOUT, STATE_CLIP, ZONEOUT, Given, Peer, Runner

States = tuple[Tensor, Tensor]
Step = Callable[[nn.LSTMCell, Tensor, States, int], States]


def cells(begin: Callable[[Given], Step], *, keep: bool = False) -> Peer:
    """A loop over `torch.nn.LSTMCell`.

    Arguments:
        begin: gives what one step does, once for each pass.
        keep: every c is an output, too.
    """

    def make(given: Given) -> Runner:
        cell = nn.LSTMCell(given.shape.I, given.shape.H)
        cell.load_state_dict({name: given.weights[f"{name}_l0"] for name in cell.state_dict()})

        def forward() -> tuple[Tensor, ...]:
            step = begin(given)
            zeros = given.x.new_zeros(given.shape.B, given.shape.H)
            states: States = (zeros, zeros)
            course = []
            for t, x in enumerate(given.x.unbind()):
                states = step(cell, x, states, t)
                course.append(states)
            h, c = zip(*course, strict=True)
            return (torch.stack(h), torch.stack(c)) if keep else (torch.stack(h),)

        return Runner(forward, {f"{name}_l0": value for name, value in cell.named_parameters()})

    return make


def plain(given: Given) -> Step:
    """The step of the cell itself."""
    return lambda cell, x, states, t: cell(x, states)


def zoneout(given: Given) -> Step:
    """Some units keep their old values."""

    def mix(new: Tensor, old: Tensor) -> Tensor:
        # Dropout of the difference divides by 1 - p, which the factor undoes.
        return old + (1 - ZONEOUT) * functional.dropout(new - old, ZONEOUT, given.training)

    def step(cell: nn.LSTMCell, x: Tensor, states: States, t: int) -> States:
        h, c = cell(x, states)
        return mix(h, states[0]), mix(c, states[1])

    return step


def masked_h(given: Given) -> Step:
    """R sees h through a mask that holds for the sequence."""
    ones = given.x.new_ones(given.shape.B, given.shape.H)
    mask = functional.dropout(ones, DROPOUT, given.training)
    return lambda cell, x, states, t: cell(x, (states[0] * mask, states[1]))


def reset(given: Given) -> Step:
    """States are zero where a row begins anew."""
    kept = (~given.resets).to(given.x.dtype).unsqueeze(-1).unbind()  # [B, 1] each

    def step(cell: nn.LSTMCell, x: Tensor, states: States, t: int) -> States:
        h, c = states
        return cell(x, (h * kept[t], c * kept[t]))

    return step


def _same(value: Tensor) -> Tensor:
    return value


def operations(
    gate: Callable[[Tensor], Tensor] = torch.sigmoid,
    candidate: Callable[[Tensor], Tensor] = torch.tanh,
    output: Callable[[Tensor], Tensor] = torch.tanh,
    state: Callable[[Tensor], Tensor] = _same,
    dropout: float = 0.0,
) -> Peer:
    """A loop over PyTorch's operations; the products with W are made before it, in one.

    Arguments:
        gate, candidate, output: activations. state: what becomes of every new c. dropout: of the
            candidate, another mask each step.
    """

    def make(given: Given) -> Runner:
        p = _leaves(given, "weight_ih", "weight_hh", "bias_ih", "bias_hh")

        def forward() -> tuple[Tensor]:
            sums = functional.linear(given.x, p["weight_ih_l0"], p["bias_ih_l0"] + p["bias_hh_l0"])
            recurrent = p["weight_hh_l0"].t()
            h = c = given.x.new_zeros(given.shape.B, given.shape.H)
            outs = []
            for s in sums.unbind():
                i, f, g, o = torch.addmm(s, h, recurrent).chunk(4, 1)
                taken = candidate(g)
                if dropout:
                    taken = functional.dropout(taken, dropout, given.training)
                c = state(gate(f) * c + gate(i) * taken)
                h = gate(o) * output(c)
                outs.append(h)
            return (torch.stack(outs),)

        return Runner(forward, p)

    return make


def clipped() -> Peer:
    """Arguments of activations within a bound."""
    return operations(
        gate=lambda x: torch.sigmoid(x.clamp(-CLIP, CLIP)),
        candidate=lambda x: torch.tanh(x.clamp(-CLIP, CLIP)),
        output=lambda x: torch.tanh(x.clamp(-CLIP, CLIP)),
    )


def state_clipped() -> Peer:
    """Every c within a bound."""
    return operations(state=lambda c: c.clamp(-STATE_CLIP, STATE_CLIP))


def hard() -> Peer:
    """Activations of straight lines."""
    return operations(functional.hardsigmoid, functional.hardtanh, functional.hardtanh)


def layer_norm(given: Given) -> Runner:
    """`torch.nn.functional.layer_norm` of W x, R h and c."""
    p = _leaves(given, "weight_ih", "weight_hh", "gain_c", "bias_c")
    own = {f"{name} of all gates": _joined(given, name) for name in ("gain_ih", "gain_hh", "bias")}
    gain_ih, gain_hh, bias = own.values()
    wide, narrow = (4 * given.shape.H,), (given.shape.H,)

    def forward() -> tuple[Tensor]:
        sums = functional.linear(given.x, p["weight_ih_l0"])
        sums = functional.layer_norm(sums, wide, gain_ih, bias)
        recurrent = p["weight_hh_l0"].t()
        h = c = given.x.new_zeros(given.shape.B, given.shape.H)
        outs = []
        for s in sums.unbind():
            s = s + functional.layer_norm(h @ recurrent, wide, gain_hh)
            i, f, g, o = s.chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            normed = functional.layer_norm(c, narrow, p["gain_c_l0"], p["bias_c_l0"])
            h = torch.sigmoid(o) * torch.tanh(normed)
            outs.append(h)
        return (torch.stack(outs),)

    return Runner(forward, p | own)


def diagonal(given: Given) -> Runner:
    """One recurrent weight for each unit and gate."""
    p = _leaves(given, "weight_ih", "bias_ih")
    own = {"u of all gates": _joined(given, "u")}
    (recurrent,) = own.values()

    def forward() -> tuple[Tensor]:
        sums = functional.linear(given.x, p["weight_ih_l0"], p["bias_ih_l0"])
        h = c = given.x.new_zeros(given.shape.B, given.shape.H)
        outs = []
        for s in sums.unbind():
            i, f, g, o = torch.addcmul(s, h.repeat(1, 4), recurrent).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            outs.append(h)
        return (torch.stack(outs),)

    return Runner(forward, p | own)


def _leaves(given: Given, *names: str) -> dict[str, Tensor]:
    keys = (f"{name}_l0" for name in names)
    return {key: given.weights[key].clone().requires_grad_() for key in keys}


def _joined(given: Given, name: str) -> Tensor:
    """What we keep for each gate, in one `[4 H]`."""
    parts = [given.weights[f"{name}_{gate}_l0"] for gate in "ifgo"]
    return torch.cat(parts).requires_grad_()

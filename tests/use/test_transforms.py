"""Derivatives and mappings of layers with options: PyTorch's transforms against plain autograd."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vmap
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils.checkpoint import checkpoint

from tests.helpers import assert_same
from tests.use.layers import drawn, target, tensors
from tests.use.optioned import CALL, LENGTHS, RESETS, B, I, T, every, inputs, made

# torch.func scripts something of its own when it first makes a rule for forward mode.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")


@pytest.mark.parametrize("case", ["norm", "heads", "projection"])
def test_second_derivatives(case: str, generator: torch.Generator) -> None:
    layer = made(case, generator)
    x = inputs(generator).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda value: layer(value, **CALL)[0], (x,))


@pytest.mark.slow
@every()
def test_second_derivatives_by_every_tensor(case: str, generator: torch.Generator) -> None:
    layer = made(case, generator)
    x = inputs(generator)[:, :2].clone().requires_grad_()
    names = list(dict(layer.named_parameters()))

    def run(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        options = {"resets": RESETS[:, :2], "lengths": [4, 2], "seed": 3}
        given = dict(zip(names, values, strict=True))
        return tuple(tensors(functional_call(layer, given, (x,), options)))

    values = [value.detach().requires_grad_() for value in layer.parameters()]
    assert torch.autograd.gradgradcheck(run, (x, *values), fast_mode=True)


@every()
def test_a_penalty_on_the_gradient(case: str, generator: torch.Generator) -> None:
    """As in WGAN-GP: the norm of d out / d x, differentiated by every parameter."""
    layer = made(case, generator)
    found = []
    for name in ("default", "eager"):
        with target(name):
            x = inputs(torch.Generator().manual_seed(1)).requires_grad_()
            out = layer(x, **CALL)[0]
            (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
            penalty = (slope.flatten(1).norm(dim=1) - 1).square().sum()
            found.append(
                torch.autograd.grad(
                    out.square().sum() + penalty, list(layer.parameters()), materialize_grads=True
                )
            )
    assert_same(found[0], found[1])
    assert all(value.isfinite().all() for value in found[0])


def _pulled(layer: Any, x: Tensor, incoming: Tensor, **call: Any) -> tuple[Tensor, Tensor]:
    """The output, and the gradient of x by ordinary autograd."""
    x = x.clone().requires_grad_()
    out = layer(x, **call)[0]
    return out, torch.autograd.grad(out, x, incoming)[0]


@every()
def test_forward_mode(case: str, generator: torch.Generator) -> None:
    """The inner product with any gradient is that of the tangent with what autograd pulls back."""
    layer = made(case, generator)
    x, tangent = inputs(generator), inputs(generator)
    out, pushed, *_ = jvp(lambda value: layer(value, **CALL)[0], (x,), (tangent,))
    incoming = drawn(out.shape, generator)
    expected, pulled = _pulled(layer, x, incoming, **CALL)
    assert_same(out, expected)
    assert_same((pushed * incoming).sum(), (pulled * tangent).sum())
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, tangent)
        found = forward_ad.unpack_dual(layer(dual, **CALL)[0]).tangent
    assert_same(found, pushed, "dual numbers")


def test_forward_mode_by_the_parameters(generator: torch.Generator) -> None:
    layer = made("norm", generator)
    x = inputs(generator)
    given = {name: value.detach() for name, value in layer.named_parameters()}
    tangents = {name: drawn(value.shape, generator) for name, value in given.items()}

    def run(values: dict[str, Tensor]) -> Tensor:
        return functional_call(layer, values, (x,), CALL)[0]

    out, pushed, *_ = jvp(run, (given,), (tangents,))
    incoming = drawn(out.shape, generator)
    pulled = torch.autograd.grad(layer(x, **CALL)[0], list(layer.parameters()), incoming)
    products = zip(pulled, tangents.values(), strict=True)
    assert_same((pushed * incoming).sum(), sum((a * b).sum() for a, b in products))


@every()
def test_many_inputs_at_once(case: str, generator: torch.Generator) -> None:
    layer = made(case, generator)
    many = drawn((3, T, B, I), generator)
    mapped = vmap(lambda value: layer(value, **CALL))(many)
    one_by_one = [tensors(layer(value, **CALL)) for value in many]
    expected = [torch.stack(values) for values in zip(*one_by_one, strict=True)]
    assert_same(tensors(mapped), expected)


def test_many_lengths_resets_and_seeds_at_once(generator: torch.Generator) -> None:
    layer = made("masks", generator, bidirectional=True)
    x = inputs(generator)
    lengths = torch.tensor([[4, 0, 3], [1, 2, 4]])
    resets = torch.stack([RESETS, RESETS.flip(0)])
    seeds = torch.tensor([[1, 2, 3], [4, 5, 6]])

    def run(lengths: Tensor, resets: Tensor, seed: Tensor) -> Tensor:
        return layer(x, lengths=lengths, resets=resets, seed=seed, first_step=seed)[0]

    mapped = vmap(run)(lengths, resets, seeds)
    assert_same(mapped, torch.stack(list(map(run, lengths, resets, seeds))))
    found = vmap(lambda lengths: layer(x, lengths=lengths, seed=1)[0])(lengths + 1)
    clamped = (lengths + 1).clamp(max=T)
    assert_same(found, torch.stack([layer(x, lengths=one, seed=1)[0] for one in clamped]))


def test_without_a_seed_vmap_asks_how_to_draw(generator: torch.Generator) -> None:
    layer = made("masks", generator)
    many = inputs(generator).expand(3, -1, -1, -1)

    def run(x: Tensor) -> Tensor:
        return layer(x)[0]

    with pytest.raises(RuntimeError, match="randomness"):
        vmap(run)(many)
    with torch.random.fork_rng():
        apart = vmap(run, randomness="different")(many)
        same = vmap(run, randomness="same")(many)
    assert torch.equal(same[0], same[1])
    assert not torch.equal(apart[0], apart[1])


@every()
def test_an_ensemble(case: str, generator: torch.Generator) -> None:
    layers: Any = [made(case, generator) for _ in range(3)]
    x = inputs(generator)
    parameters, buffers = stack_module_state(layers)
    skeleton = copy.deepcopy(layers[0]).to("meta")

    def run(parameters: Any, buffers: Any) -> Tensor:
        return functional_call(skeleton, (parameters, buffers), (x,), CALL)[0]

    assert_same(vmap(run)(parameters, buffers), torch.stack([one(x, **CALL)[0] for one in layers]))


@every("candidate")
def test_gradients_of_single_samples(case: str, generator: torch.Generator) -> None:
    layer = made(case, generator)
    x, seeds = inputs(generator), torch.tensor([5, 6, 7])
    lengths = torch.tensor([4, 1, 3])
    given = {name: value.detach() for name, value in layer.named_parameters()}

    def loss(values: Any, x: Tensor, resets: Tensor, length: Tensor, seed: Tensor) -> Tensor:
        options = {"lengths": length[None], "resets": resets[:, None], "seed": seed[None]}
        return functional_call(layer, values, (x[:, None],), options)[0].square().sum()

    found = vmap(grad(loss), (None, 1, 1, 0, 0))(given, x, RESETS, lengths, seeds)
    for row in range(B):
        values = dict(layer.named_parameters())
        one = loss(values, x[:, row], RESETS[:, row], lengths[row], seeds[row])
        expected = torch.autograd.grad(one, list(values.values()), materialize_grads=True)
        assert_same([value[row] for value in found.values()], list(expected), f"row {row}")


@pytest.mark.parametrize("case", ["masks", "norm"])
def test_jacobians_and_hessians(case: str, generator: torch.Generator) -> None:
    layer = made(case, generator)
    x = inputs(generator)

    def out(x: Tensor) -> Tensor:
        return layer(x, **CALL)[0][-1]

    expected = torch.autograd.functional.jacobian(out, x)
    assert_same(jacrev(out)(x), expected, "jacrev")
    assert_same(jacfwd(out)(x), expected, "jacfwd")
    mapped = torch.autograd.functional.jacobian(out, x, vectorize=True)
    assert_same(mapped, expected, "vectorized")
    second = torch.autograd.functional.hessian(lambda x: out(x).sum(), x)
    assert_same(hessian(lambda x: out(x).sum())(x), second, "hessian")


@every()
def test_many_gradients_at_once(case: str, generator: torch.Generator) -> None:
    """`is_grads_batched` maps the backward pass of what ran forward as a kernel."""
    layer = made(case, generator)
    x = inputs(generator).requires_grad_()
    out = layer(x, **CALL)[0]
    incoming = drawn((2, *out.shape), generator)
    leaves = [x, *layer.parameters()]
    settings: Any = {"retain_graph": True, "materialize_grads": True}
    mapped = torch.autograd.grad(out, leaves, incoming, is_grads_batched=True, **settings)
    for index in range(2):
        expected = torch.autograd.grad(out, leaves, incoming[index], **settings)
        assert_same([value[index] for value in mapped], list(expected))


def test_packed_input_under_transforms(generator: torch.Generator) -> None:
    layer = made("masks", generator, bidirectional=True)
    packed = pack_padded_sequence(inputs(generator), LENGTHS.clamp(min=1), enforce_sorted=False)

    def run(data: Tensor) -> Tensor:
        return layer(PackedSequence(data, *packed[1:]), seed=3)[0].data

    many = drawn((2, *packed.data.shape), generator)
    assert_same(vmap(run)(many), torch.stack(list(map(run, many))))
    incoming = drawn(run(packed.data).shape, generator)
    tangent = drawn(packed.data.shape, generator)
    _, pushed, *_ = jvp(run, (packed.data,), (tangent,))
    pulled = torch.func.vjp(run, packed.data)[1](incoming)[0]
    data = packed.data.clone().requires_grad_()
    assert_same(pulled, torch.autograd.grad(run(data), data, incoming)[0])
    assert_same((pushed * incoming).sum(), (pulled * tangent).sum())


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("seed", [3, None], ids=["seed", "drawn"])
@pytest.mark.parametrize("case", ["masks", "candidate", "two"])
def test_checkpoints_draw_the_same_masks_again(
    case: str, seed: int | None, reentrant: bool, generator: torch.Generator
) -> None:
    layer = made(case, generator)
    x = inputs(generator)
    leaves = list(layer.parameters())
    options = {**CALL, "seed": seed}
    found = []
    with torch.random.fork_rng():
        before = torch.get_rng_state()
        for kept in (True, False):
            torch.set_rng_state(before)
            value = x.clone().requires_grad_()

            def run(value: Tensor) -> Tensor:
                return layer(value, **options)[0]

            out = run(value) if kept else checkpoint(run, value, use_reentrant=reentrant)
            torch.rand(7)  # what runs in between must not matter
            layer.zero_grad()
            out.square().sum().backward()  # the reentrant kind knows no torch.autograd.grad
            found.append([out.detach(), value.grad, *(leaf.grad for leaf in leaves)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True) if a is not None)


class Bounded(torch.nn.Module):
    """A parametrization of a user's."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight.tanh() / 2


PARAMETRIZATIONS: dict[str, Any] = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "custom": lambda layer, name: parametrize.register_parametrization(layer, name, Bounded()),
}


@pytest.mark.parametrize("weight", ["weight_hh_l0", "weight_ih_l0"])
@pytest.mark.parametrize("kind", PARAMETRIZATIONS)
@every("plain", "diagonal", "sizes")
def test_parametrized_weights(
    case: str, kind: str, weight: str, generator: torch.Generator
) -> None:
    layer = PARAMETRIZATIONS[kind](made(case, generator), weight).eval()
    x = inputs(generator)
    layer(x, **CALL)[0].square().sum().backward()
    below = [value for name, value in layer.named_parameters() if weight in name]
    assert below
    assert all(value.grad is not None for value in below)
    effective = {name: getattr(layer, name).detach() for name in made(case, generator).state_dict()}
    plain = made(case, generator).eval()
    plain.load_state_dict(effective)
    expected = plain(x, **CALL)
    assert_same(layer(x, **CALL), expected)
    again = PARAMETRIZATIONS[kind](made(case, generator), weight).eval()
    again.load_state_dict(layer.state_dict())
    assert_same(again(x, **CALL), expected, "loaded")
    assert_same(copy.deepcopy(layer)(x, **CALL), expected, "copied")
    parametrize.remove_parametrizations(layer, weight)
    assert_same(layer(x, **CALL), expected, "removed")


@every("diagonal")
def test_a_weight_may_be_any_tensor(case: str, generator: torch.Generator) -> None:
    """As the WeightDrop of AWD-LSTM does: the parameter has another name, and what the layer reads
    is a plain tensor that is set before each call."""
    layer = made(case, generator)
    x = inputs(generator)
    raw = torch.nn.Parameter(layer.weight_hh_l0.detach())
    del layer._parameters["weight_hh_l0"]
    layer.register_parameter("weight_hh_l0_raw", raw)
    layer.weight_hh_l0 = raw * 0.5
    layer(x, **CALL)[0].square().sum().backward()
    plain = made(case, generator)
    values = {**layer.state_dict(), "weight_hh_l0": raw.detach() * 0.5}
    del values["weight_hh_l0_raw"]
    plain.load_state_dict(values)
    plain(x, **CALL)[0].square().sum().backward()
    assert_same(raw.grad, plain.weight_hh_l0.grad * 0.5)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_the_old_weight_norm(generator: torch.Generator) -> None:
    layer = torch.nn.utils.weight_norm(made("norm", generator), "weight_hh_l0")
    x = inputs(generator)
    expected = layer(x, **CALL)[0].detach()
    layer(x, **CALL)[0].sum().backward()
    assert layer.weight_hh_l0_g.grad is not None
    torch.nn.utils.remove_weight_norm(layer, "weight_hh_l0")
    assert_same(layer(x, **CALL)[0], expected)


@every()
def test_functional_call(case: str, generator: torch.Generator) -> None:
    layer, other = made(case, generator), made(case, generator)
    x = inputs(generator)
    values = dict(other.named_parameters())
    assert_same(functional_call(layer, values, (x,), CALL), other(x, **CALL))

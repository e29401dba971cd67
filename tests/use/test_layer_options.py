"""Options of the cell in a layer: against plain PyTorch, refused combinations, copies."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from holdfast import cell, maximum, tanh
from holdfast.nn import GRU, LSTM, RNN, Recurrent
from holdfast.nn.options import Options
from tests.helpers import assert_same, unequal_
from tests.use.layers import drawn, observed, target, tensors
from tests.use.plain import both, lstm

TARGETS = pytest.mark.parametrize("name", ["eager", "default"])


@cell(gates="a")
def elman(a):
    """A cell that pickle finds here."""
    return tanh(a)


def steep(x: Any) -> Any:
    """An activation that pickle finds here."""
    return maximum(x, 0.25 * x)


def made(generator: torch.Generator, *args: Any, **options: Any) -> Any:
    sizes: Any = args or (3, 4)
    return unequal_(LSTM(*sizes, dtype=torch.float64, **options), generator)


def norm(values: Tensor, gain: Tensor) -> Tensor:
    """`torch.nn.functional.layer_norm` over all gates, and a gain."""
    return functional.layer_norm(values, values.shape[-1:]) * gain


@TARGETS
@pytest.mark.parametrize("bias", [False, True])
def test_layer_norm(name: str, bias: bool, generator: torch.Generator) -> None:
    layer = made(generator, layer_norm=True, bias=bias)
    x = drawn((5, 2, 3), generator)
    p = dict(layer.named_parameters())
    gains = {k: torch.cat([p[f"gain_{k}_{g}_l0"] for g in "ifgo"]) for k in ("ih", "hh")}
    assert ("bias_i_l0" in p) == bias
    h = c = torch.zeros(2, 4, dtype=torch.float64)
    outs = []
    for x_t in x:
        sums = norm(x_t @ p["weight_ih_l0"].T, gains["ih"])
        sums = sums + norm(h @ p["weight_hh_l0"].T, gains["hh"])
        inner_bias: Any = 0.0
        if bias:
            sums = sums + torch.cat([p[f"bias_{g}_l0"] for g in "ifgo"])
            inner_bias = p["bias_c_l0"]
        i, f, g, o = sums.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * torch.tanh(norm(c, p["gain_c_l0"]) + inner_bias)
        outs.append(h)
    with target(name):
        assert_same(both(layer(x)), (torch.stack(outs), h, c))


@TARGETS
def test_clips(name: str, generator: torch.Generator) -> None:
    layer = made(generator, clip=0.3)
    x = 3 * drawn((5, 2, 3), generator)

    def clip(x: Tensor) -> Tensor:
        return x.clamp(-0.3, 0.3)

    expected = lstm(
        layer,
        x,
        gate=lambda v: clip(v).sigmoid(),
        candidate=lambda v, t: clip(v).tanh(),
        output=lambda v: clip(v).tanh(),
    )
    with target(name):
        assert_same(both(layer(x)), (expected.out, expected.h, expected.c))
    layer = made(generator, state_clip=0.2)
    cells = layer(x, return_cells=True)[2]
    assert float(cells.detach().abs().max()) == 0.2


@TARGETS
def test_activations(name: str, generator: torch.Generator) -> None:
    chosen = {"gate": "hard_sigmoid", "candidate": "softsign", "output": steep}
    layer = made(generator, activations=chosen)
    x = drawn((5, 2, 3), generator)
    expected = lstm(
        layer,
        x,
        gate=lambda v: (v / 6 + 0.5).clamp(0, 1),
        candidate=lambda v, t: functional.softsign(v),
        output=lambda v: functional.leaky_relu(v, 0.25),
    )
    with target(name):
        assert_same(both(layer(x)), (expected.out, expected.h, expected.c))


@TARGETS
def test_heads_are_a_block_diagonal_matrix(name: str, generator: torch.Generator) -> None:
    layer = made(generator, recurrence=2)
    assert layer.weight_hh_l0.shape == (16, 2)
    gates = layer.weight_hh_l0.reshape(4, 2, 2, 2)
    dense = torch.cat([torch.block_diag(*gate) for gate in gates])
    x = drawn((5, 2, 3), generator)
    expected = lstm(layer, x, weight_hh=dense)
    with target(name):
        assert_same(both(layer(x)), (expected.out, expected.h, expected.c))


@TARGETS
def test_diagonal_is_a_diagonal_matrix(name: str, generator: torch.Generator) -> None:
    layer = made(generator, recurrence="diagonal")
    assert "weight_hh_l0" not in layer.state_dict()
    dense = torch.cat([torch.diag(getattr(layer, f"u_{gate}_l0")) for gate in "ifgo"])
    x = drawn((5, 2, 3), generator)
    expected = lstm(layer, x, weight_hh=dense)
    with target(name):
        assert_same(both(layer(x)), (expected.out, expected.h, expected.c))


@pytest.mark.parametrize("kind", [GRU, RNN])
def test_other_layers_take_the_options(kind: Any, generator: torch.Generator) -> None:
    options = {"zoneout": 0.25, "recurrence": 2, "clip": 1.0, "learned_start": True}
    layer: Any = unequal_(kind(3, 4, 2, bidirectional=True, **options), generator)
    same: Any = Recurrent(layer.cell, 3, 4, 2, bidirectional=True, **options)
    same.load_state_dict(layer.state_dict())
    x = drawn((5, 2, 3), generator, torch.float32)
    assert_same(layer(x, seed=1), same(x, seed=1))


def test_names_of_options_stand_in_one_place() -> None:
    fields = set(Options.__dataclass_fields__)
    for kind in (Recurrent, LSTM, GRU, RNN):
        assert not fields & set(inspect.signature(kind.__init__).parameters)
    page = inspect.getdoc(Options) or ""
    assert all(name in page for name in fields), "each is documented"


def test_text_shows_what_differs() -> None:
    layer = LSTM(3, [4, 6], layer_norm=True, zoneout={"c": 0.5}, recurrence=2)
    assert repr(layer) == (
        "LSTM(3, (4, 6), num_layers=2, recurrence=2, zoneout={'c': 0.5}, layer_norm=True)"
    )
    assert layer.options.changed == {"recurrence": 2, "zoneout": {"c": 0.5}, "layer_norm": True}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"zonout": 0.1}, TypeError, "argument 'zonout'; did you mean zoneout"),
        ({"nonsense": 0.1}, TypeError, "argument 'nonsense' The options are: merge, "),
        ({"zoneout": {"n": 0.1}}, ValueError, "zoneout of 'n': the cell lstm has the states h, c"),
        ({"zoneout": {"c": 2}}, ValueError, "zoneout of c should be a number in range .* got: 2"),
        ({"zoneout": -0.1}, ValueError, "zoneout should be a number in range .* got: -0.1"),
        ({"input_dropout": 1.5}, ValueError, "input_dropout should be .* got: 1.5"),
        ({"weight_dropout": True}, ValueError, "weight_dropout should be .* got: True"),
        ({"output_dropout": float("nan")}, ValueError, "output_dropout should be .* got: nan"),
        ({"recurrent_dropout_on": "c"}, ValueError, "'h' or 'candidate', got: 'c'"),
        ({"layer_norm": 1}, TypeError, "layer_norm should be of type bool, got: int"),
        ({"clip": 0}, ValueError, "clip should be a number above 0 or None, got: 0"),
        ({"state_clip": "1"}, ValueError, "state_clip should be a number above 0 .* got: '1'"),
        ({"forget_bias": "1"}, TypeError, "forget_bias should be a number or None, got: '1'"),
        ({"recurrence": "sparse"}, ValueError, "'dense' or 'diagonal', or a number of heads, got"),
        ({"recurrence": 1.5}, TypeError, "or a number of heads, got: float"),
        ({"recurrence": True}, TypeError, "or a number of heads, got: bool"),
        ({"recurrence": 0}, ValueError, "at least 1, got: 0"),
        ({"recurrence": 3}, ValueError, "recurrence=3 heads need a hidden_size .* got: 4"),
        ({"activations": "relu"}, TypeError, "a mapping from gate, candidate, output .* got: str"),
        ({"activations": {"h": "relu"}}, ValueError, "the place should be 'gate' or .* got: 'h'"),
        ({"activations": {"gate": 1}}, TypeError, "a name or a function for gate, got: int"),
        ({"activations": {"gate": "sine"}}, ValueError, "no activation named 'sine'; expected"),
        ({"layer_norm": True, "recurrence": "diagonal"}, ValueError, "layer_norm and recurrence="),
        (
            {"weight_dropout": 0.1, "recurrence": "diagonal"},
            ValueError,
            "weight_dropout and recurrence='diagonal'",
        ),
        ({"proj_size": 2, "recurrence": 2}, ValueError, r"proj_size and recurrence=2 \(heads\)"),
        (
            {"proj_size": 2, "recurrence": "diagonal"},
            ValueError,
            r"proj_size and recurrence='diagonal' \(diagonal\)",
        ),
        ({"proj_size": 2, "zoneout": 0.1}, ValueError, "proj_size and zoneout of h"),
        ({"cell": "gru_2014", "layer_norm": True}, ValueError, "layer_norm .* gru_2014"),
        (
            {"cell": "gru", "activations": {"output": "relu"}},
            ValueError,
            "activations with the cell gru: .* no place",
        ),
        (
            {"cell": "gru", "bias": False, "recurrence": "diagonal"},
            ValueError,
            "bias=False and recurrence='diagonal' .* b_hh_n would be left",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be(options: dict[str, Any], error: type[Exception], message: str) -> None:
    given: dict[str, Any] = {"cell": "lstm", "input_size": 3, "hidden_size": 4, **options}
    with pytest.raises(error, match=message):
        Recurrent(**given)


def test_projection_with_what_it_allows(generator: torch.Generator) -> None:
    options: dict[str, Any] = {"zoneout": {"c": 0.25}, "learned_start": True, "state_clip": 0.5}
    layer = made(generator, 3, 5, 2, proj_size=2, recurrent_dropout=0.5, **options)
    out, (h, c) = layer(drawn((5, 2, 3), generator), seed=1)
    assert (out.shape, h.shape, c.shape) == ((5, 2, 2), (2, 2, 2), (2, 2, 5))


FULL: dict[str, Any] = {
    "zoneout": 0.25,
    "layer_norm": True,
    "recurrence": 2,
    "activations": {"candidate": steep},
    "highway": True,
    "weight_dropout": 0.5,
    "input_dropout": 0.5,
    "learned_start": True,
    "forget_bias": 1.0,
}


def test_copies_and_checkpoints_do_the_same(generator: torch.Generator) -> None:
    layer: Any = unequal_(Recurrent("lstm", 4, [4, 4], **FULL), generator)
    x = drawn((5, 2, 4), generator, torch.float32)
    twins: list[Any] = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    twins.append(Recurrent("lstm", 4, [4, 4], **FULL))
    twins[-1].load_state_dict(layer.state_dict())
    for twin in twins:
        assert repr(twin) == repr(layer)
        assert_same(twin(x, seed=2), layer(x, seed=2))
        assert_same(twin.eval()(x), copy.deepcopy(layer).eval()(x))
        assert twin.weight_hh_l0 is not layer.weight_hh_l0
    own: Any = pickle.loads(pickle.dumps(Recurrent(elman, 3, 4, zoneout=0.1)))
    assert (own.cell, own.options.zoneout) == (elman, 0.1)
    text = pickle.dumps(layer)
    assert b"Variation" not in text
    assert b"Graph" not in text


def test_functional_call_and_gradients_of_other_weights(generator: torch.Generator) -> None:
    layer: Any = unequal_(LSTM(4, 4, dtype=torch.float64, **FULL), generator)
    other: Any = unequal_(LSTM(4, 4, dtype=torch.float64, **FULL), generator)
    x = drawn((5, 2, 4), generator)
    values = dict(other.named_parameters())
    assert_same(torch.func.functional_call(layer, values, (x,), {"seed": 1}), other(x, seed=1))


def test_weight_norm_goes_with_weight_dropout(generator: torch.Generator) -> None:
    layer: Any = unequal_(LSTM(3, 4, 2, weight_dropout=0.5, dtype=torch.float64), generator)
    x = drawn((5, 2, 3), generator)
    expected = tensors(layer(x, seed=1))
    normed: Any = layer
    for name in ("weight_hh_l0", "weight_hh_l1"):
        normed = parametrizations.weight_norm(normed, name)
    assert_same(tensors(normed(x, seed=1)), expected)
    gradients = observed(normed, x, seed=1)
    found = [name for name in gradients if "original0" in name]
    assert len(found) == 2
    assert all(bool(gradients[name].any()) for name in found)
    assert_same(tensors(copy.deepcopy(normed)(x, seed=1)), expected)
    normed.reset_parameters()


def test_every_layer_says_what_runs() -> None:
    layer = LSTM(3, [4, 6], bidirectional=True)
    assert [name for name, _ in layer.backends] == ["llvm"] * 4
    assert (layer.backend, layer.backend_reason) == layer.backends[0]


def test_masks_come_and_go_with_the_mode() -> None:
    layer = LSTM(3, 4, recurrent_dropout=0.5, zoneout={"c": 0.5})
    assert {mask.name for mask in layer.varied.masks} == {"recurrent", "zoneout_c"}
    assert layer.random
    assert [mask.name for mask in layer.eval().varied.masks] == ["zoneout_c"]
    assert not layer.random
    assert layer.cell.masks == ()
    assert LSTM(3, 4).varied is layer.cell, "without options the cell itself runs"


def test_meta_device_and_half_precision() -> None:
    with torch.device("meta"):
        layer: Any = LSTM(4, 4, **FULL)
        assert layer.weight_hh_l0.device.type == "meta"
    layer = layer.to_empty(device="cpu")
    layer.reset_parameters()
    assert layer(torch.zeros(5, 2, 4))[0].isfinite().all()
    half = LSTM(4, 4, dtype=torch.bfloat16, **FULL)
    assert half(torch.zeros(5, 2, 4, dtype=torch.bfloat16))[0].dtype == torch.bfloat16
    with torch.autocast("cpu"):
        out = LSTM(4, 4, **FULL)(torch.zeros(5, 2, 4, dtype=torch.bfloat16))[0]
    assert out.dtype == torch.float32
    assert isinstance(layer, nn.Module)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({"layer_norm": True, "highway": True, "learned_start": True}, {}),
        ({"zoneout": 0.25, "input_dropout": 0.5}, {"seed": torch.tensor([1, 2])}),
        ({"weight_dropout": 0.5}, {"seed": 3}),
        ({}, {"resets": torch.eye(5, 2, dtype=torch.bool)}),
        ({}, {"tbptt": 2}),
    ],
    ids=["norm", "masks", "weights", "resets", "tbptt"],
)
def test_options_compile_into_one_graph(
    options: dict[str, Any], call: dict[str, Any], generator: torch.Generator
) -> None:
    layer: Any = unequal_(LSTM(4, 4, 2, **options), generator)
    x = drawn((5, 2, 4), generator, torch.float32)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    results = []
    for module in (compiled, layer):
        found = tensors(module(x, **call))
        loss = torch.stack([value.square().sum() for value in found]).sum()
        results.append((found, torch.autograd.grad(loss, list(layer.parameters()))))
    assert_same(*results)


@pytest.mark.slow
def test_options_export_with_any_batch_and_time(generator: torch.Generator) -> None:
    layer: Any = unequal_(LSTM(4, [4, 4], bidirectional=True, merge="sum", **FULL), generator)
    sizes = {0: torch.export.Dim("T"), 1: torch.export.Dim("B")}
    exported = torch.export.export(layer.eval(), (torch.zeros(4, 2, 4),), dynamic_shapes=(sizes,))
    for shape in ((9, 6, 4), (2, 3, 4)):
        x = drawn(shape, generator, torch.float32)
        assert_same(exported.module()(x), layer(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_options_under_transforms(generator: torch.Generator) -> None:
    options = {k: v for k, v in FULL.items() if k != "highway"}
    layer: Any = unequal_(LSTM(3, 4, dtype=torch.float64, **options), generator)
    values = {name: value.detach() for name, value in layer.named_parameters()}
    x = drawn((4, 2, 3), generator)

    def run(values: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(layer, values, (x,), {"seed": 3})[0]

    def loss(values: dict[str, Tensor], x: Tensor) -> Tensor:
        return run(values, x.unsqueeze(1)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1))(values, x)
    alone = [torch.func.grad(loss)(values, x[:, b]) for b in range(2)]
    assert_same(each, {name: torch.stack([a[name] for a in alone]) for name in values})
    members = {n: torch.stack([v, 2 * v]) for n, v in values.items()}
    expected = [run({n: v[k] for n, v in members.items()}, x) for k in range(2)]
    assert_same(torch.func.vmap(run, in_dims=(0, None))(members, x), torch.stack(expected))
    leaf = x.clone().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: run(values, x), (leaf,), fast_mode=True)
    assert torch.autograd.gradcheck(
        lambda x: run(values, x), (leaf,), check_forward_ad=True, fast_mode=True
    )

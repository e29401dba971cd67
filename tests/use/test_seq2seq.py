"""Encoder, bridge and decoder: against plain loops of PyTorch, and whatever stands at padding."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from holdfast.nn.attention import Attention
from holdfast.nn.bridge import Bridge
from holdfast.nn.decoder import Decoder
from holdfast.nn.encoder import Encoded, Encoder, Regions
from holdfast.nn.readout import readout
from holdfast.nn.recurrent import Recurrent
from holdfast.nn.sampling import Sampling
from holdfast.nn.seq2seq import EncoderDecoder
from tests.helpers import assert_same, unequal_

V, W, E, H, B, S, T = 9, 11, 4, 6, 3, 5, 4
LENGTHS = [5, 1, 3]

WAYS: dict[str, dict[str, Any]] = {
    "after": {},
    "feeding": {"input_feeding": True},
    "before": {"attend": "before", "attention": "additive"},
    "stacked": {"num_layers": 2, "attention": "dot"},
    "gru-feeding": {"cell": "gru", "input_feeding": True, "num_layers": 2},
    "plain": {"attention": None, "bidirectional": False},
    "tied": {"tied": True, "attention": "concat"},
    "coverage": {"attention": {"score": "additive", "coverage": True}, "input_feeding": True},
    "window": {"attention": {"score": "general", "window": "monotonic", "width": 1}},
    "predictive": {"attention": {"score": "dot", "window": "predictive", "width": 2}},
}


def words(name: str, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Any:
    ways = dict(WAYS[name])
    if isinstance(ways.get("attention"), dict):
        ways["attention"] = Attention(H, H, **ways["attention"], dtype=dtype)
    model = EncoderDecoder.of_words(V, W, embedding_size=E, hidden_size=H, dtype=dtype, **ways)
    return unequal_(model, generator)


def tokens(generator: torch.Generator, *shape: int, below: int = V) -> Tensor:
    return torch.randint(below, shape, generator=generator)


def twin(layer: Recurrent) -> Any:
    """The same layer of PyTorch."""
    made = {"lstm": nn.LSTM, "gru": nn.GRU}[layer.cell.name](
        layer.input_size,
        layer.hidden_size,
        layer.num_layers,
        bidirectional=layer.bidirectional,
    ).double()
    made.load_state_dict(layer.state_dict())
    return made


def plainly(model: Any, source: Tensor, target: Tensor) -> Tensor:
    """Logits `[T, V]` of one source without padding, by PyTorch's layers, a step at a time."""
    encoder, decoder = model.encoder, model.decoder
    out, last = twin(encoder.layer)(encoder.embedding(source).unsqueeze(1))
    values = out[:, 0]  # [S, D]
    last = last if isinstance(last, tuple) else (last,)
    directions = 2 if encoder.layer.bidirectional else 1
    hx: Any = []
    for place, name in enumerate(model.bridge.names):
        joined = last[place].view(-1, directions, 1, last[place].shape[-1])
        rows = [
            model.bridge.maps[f"{name}_l{row}"](joined[row].transpose(0, 1).flatten(1))
            for row in range(decoder.layer.num_layers)
        ]
        hx.append(torch.stack(rows) if place else torch.stack(rows).tanh())
    step = twin(decoder.layer)
    attention: Any = decoder.attention
    fed, coverage = values.new_zeros(decoder.readout_size), None
    memory = attention and attention.remember(values.unsqueeze(0))
    logits = []
    for number, word in enumerate(decoder.embedding(target)):
        parts: list[Any] = [word]
        context: Any = None
        if decoder.attend == "before":
            context = decoder.attention(hx[0][-1], memory, coverage, number).context[0]
            parts.append(context)
        if decoder.input_feeding:
            parts.append(fed)
        out, hx = step(torch.cat(parts).view(1, 1, -1), tuple(hx) if len(hx) > 1 else hx[0])
        hx = hx if isinstance(hx, tuple) else (hx,)
        fed = out[0, 0]
        if attention is not None and context is None:
            context, _, coverage = attention(fed.unsqueeze(0), memory, coverage, number)
            fed = torch.tanh(decoder.readout(torch.cat([fed, context[0]])))
        elif attention is not None:
            fed = torch.tanh(decoder.readout(torch.cat([fed, context, word])))
        weight = decoder.embedding.weight if decoder.tied else decoder.weight_output
        logits.append(weight @ fed + decoder.bias_output)
    return torch.stack(logits)


@pytest.mark.parametrize("name", WAYS)
def test_a_model_is_plain_pytorch_step_by_step(name: str, generator: torch.Generator) -> None:
    model = words(name, generator)
    source, target = tokens(generator, B, S), tokens(generator, B, T, below=W)
    wanted, grads = [], []
    for row, length in enumerate(LENGTHS):
        wanted.append(plainly(model, source[row, :length], target[row]))
    logits = model(source, LENGTHS, target)
    assert_same(logits, torch.stack(wanted))
    for one in (logits, plainly(model, source[0], target[0]).unsqueeze(0)):
        model.zero_grad()
        one[:1].sin().sum().backward()
        # Layers of the twin have parameters of their own; those of the others are shared.
        own = ("encoder.layer", "decoder.layer")
        grads.append({n: p.grad for n, p in model.named_parameters() if not n.startswith(own)})
    assert_same(grads[0], grads[1], "gradients")


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, torch.float64) for name in WAYS), ("after", torch.float32), ("tied", torch.float32)],
)
def test_steps_are_the_whole(name: str, dtype: torch.dtype, generator: torch.Generator) -> None:
    model = words(name, generator, dtype).eval()
    source, target = tokens(generator, B, S), tokens(generator, B, T, below=W)
    found = model.decode(source, torch.tensor(LENGTHS), target)
    state = model.encode(source, LENGTHS)
    for step in range(T):
        logits, state = model.step(target[:, step], state)
        assert_same(logits, found.logits[:, step], f"step {step}")
        if found.weights is not None:
            assert_same(state.weights, found.weights[:, step])
    assert_same(state.hx, found.state.hx)
    first, rest = target[:, :1], target[:, 1:]
    part = model.decoder(first, model.encode(source, LENGTHS))
    rest = model.decoder(rest, part.state)
    assert_same(torch.cat([part.logits, rest.logits], 1), found.logits, "in two parts")


@pytest.mark.parametrize("name", WAYS)
def test_longer_padding_changes_nothing(name: str, generator: torch.Generator) -> None:
    model = words(name, generator)
    source, target = tokens(generator, B, S), tokens(generator, B, T, below=W)
    wanted = model(source, LENGTHS, target)
    for row, length in enumerate(LENGTHS):
        source[row, length:] = V - 1
    wide = torch.cat([source, source], 1)
    longer = torch.cat([target, target], 1)
    assert_same(model(wide, LENGTHS, longer)[:, :T], wanted)
    for row, length in enumerate(LENGTHS):
        alone = model(source[row : row + 1, :length], None, target[row : row + 1])
        assert_same(alone[0], wanted[row], f"source {row} alone")


def numbers(kind: str, generator: torch.Generator) -> EncoderDecoder:
    """A model of features: [B, S, 3] in, [B, T, 2] to 2 features."""
    encoder = Encoder(4, 3, cell="gru", embedding=nn.Linear(3, 4).double(), dtype=torch.float64)
    read = encoder if kind == "series" else Regions(6)
    decoder = Decoder(2, 5, 2, memory_size=6, input_feeding=kind == "series", dtype=torch.float64)
    return unequal_(EncoderDecoder(read, decoder), generator)


@pytest.mark.parametrize("kind", ["series", "regions"])
def test_nan_at_padding_reaches_nothing(kind: str, generator: torch.Generator) -> None:
    model = numbers(kind, generator)
    features = 3 if kind == "series" else 6
    source = torch.randn(B, S, features, generator=generator, dtype=torch.float64)
    target = torch.randn(B, T, 2, generator=generator, dtype=torch.float64)
    results = []
    for fill in (0.0, math.nan):
        given = source.clone()
        for row, length in enumerate(LENGTHS):
            given[row, length:] = fill
        given.requires_grad_()
        model.zero_grad()
        found = model(given, LENGTHS, target)
        found.sin().sum().backward()
        results.append((found, given.grad, {n: p.grad for n, p in model.named_parameters()}))
    assert_same(results[1], results[0])
    for row, length in enumerate(LENGTHS):
        alone = model(source[row : row + 1, :length], None, target[row : row + 1])
        assert_same(alone[0], results[0][0][row], f"source {row} alone")


@pytest.mark.parametrize("name", ["after", "feeding", "before"])
def test_gradients_of_a_tiny_model(name: str, generator: torch.Generator) -> None:
    decoder = Decoder(2, 2, 2, memory_size=2, dtype=torch.float64, **WAYS[name])
    encoder = Encoder(2, 1, dtype=torch.float64)
    model = unequal_(EncoderDecoder(encoder, decoder), generator)
    source = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64).requires_grad_()
    target = torch.randn(2, 2, 2, generator=generator, dtype=torch.float64).requires_grad_()

    def run(source: Tensor, target: Tensor, *_: Tensor) -> Tensor:
        return model(source, [3, 2], target)

    assert torch.autograd.gradcheck(run, (source, target, *model.parameters()), fast_mode=True)


def begun(bridge: Bridge, encoded: Encoded) -> tuple[Tensor, ...]:
    """The first states that a bridge gives."""
    first = bridge(encoded)
    assert first is not None
    return first


def test_the_mean_bridge_begins_from_the_mean_of_valid_regions(generator: torch.Generator) -> None:
    layer = Recurrent("lstm", 2, 5, 2, dtype=torch.float64)
    bridge = unequal_(Bridge("mean", layer, 6, None, dtype=torch.float64), generator)
    values = torch.randn(2, S, 6, generator=generator, dtype=torch.float64)
    h, c = begun(bridge, Encoded(values, torch.tensor([5, 2]), None))
    for row, length in enumerate([5, 2]):
        mean = values[row, :length].mean(0)
        for place in range(2):
            weight = {n: bridge.maps[f"{n}_l{place}"] for n in "hc"}
            assert_same(h[place, row], torch.tanh(weight["h"](mean)))
            assert_same(c[place, row], weight["c"](mean))


def test_the_copy_bridge_takes_the_states_themselves(generator: torch.Generator) -> None:
    encoder = unequal_(Encoder(3, 2, num_layers=2, dtype=torch.float64), generator)
    layer = Recurrent("lstm", 2, 4, 2, dtype=torch.float64)
    bridge = Bridge("copy", layer, 4, encoder.layer)
    found = encoder(torch.randn(B, S, 3, generator=generator, dtype=torch.float64), LENGTHS)
    h, c = begun(bridge, found)
    assert found.states is not None
    wanted = [torch.cat([one[0::2], one[1::2]], 2) for one in found.states]
    assert_same([h, c], wanted)


def test_bridges_between_depths_and_cells(generator: torch.Generator) -> None:
    encoder = Encoder(3, 2, num_layers=3, cell="gru")
    found = encoder(torch.randn(B, S, 3, generator=generator))
    bridge = Bridge("linear", Recurrent("lstm", 2, 5, 2), 4, encoder.layer)
    h, c = begun(bridge, found)
    assert h.shape == c.shape == (2, B, 5)
    assert found.states is not None
    top = torch.cat([found.states[0][4], found.states[0][5]], 1)
    assert_same(h[1], torch.tanh(bridge.maps["h_l1"](top)))
    assert_same(c[1], bridge.maps["c_l1"](top))
    deeper = Bridge("linear", Recurrent("lstm", 2, 5, 4), 4, encoder.layer)
    assert begun(deeper, found)[0].shape == (4, B, 5)


def test_a_decoder_without_a_bridge_begins_as_its_layer_does(generator: torch.Generator) -> None:
    decoder = Decoder(2, 5, 3, memory_size=4, num_layers=2, learned_start=True)
    model = unequal_(EncoderDecoder(Regions(4), decoder, "zero"), generator)
    state = model.encode(torch.randn(B, S, 4, generator=generator))
    x = torch.randn(T, B, 2, generator=generator)
    assert_same(decoder.layer(x, state.hx)[0], decoder.layer(x)[0])


def test_random_masks_stay_the_same_through_a_loop(generator: torch.Generator) -> None:
    decoder = Decoder(
        2, 5, 3, memory_size=4, input_feeding=True, recurrent_dropout=0.5, dtype=torch.float64
    )
    memory = decoder.attention.remember(  # pyright: ignore[reportOptionalMemberAccess] (it has one)
        torch.randn(B, S, 4, generator=generator, dtype=torch.float64)
    )
    seen = []
    whole = decoder.layer.forward

    def watch(*arguments: Any, **options: Any) -> Any:
        seen.append((options["seed"], options["first_step"]))
        return whole(*arguments, **options)

    decoder.layer.forward = watch
    target = torch.randn(B, T, 2, generator=generator, dtype=torch.float64)
    decoder(target, decoder.start(B, None, memory))
    assert len({seed for seed, _ in seen}) == 1
    assert [step for _, step in seen] == list(range(T))


def test_dropout_acts_in_training_only(generator: torch.Generator) -> None:
    model = EncoderDecoder.of_words(V, W, embedding_size=E, hidden_size=H, dropout=0.5)
    source, target = tokens(generator, B, S), tokens(generator, B, T, below=W)
    assert not torch.equal(model(source, None, target), model(source, None, target))
    model.eval()
    assert torch.equal(model(source, None, target), model(source, None, target))


def test_tied_weights_are_one_parameter(generator: torch.Generator) -> None:
    model = words("tied", generator)
    assert "decoder.weight_output" not in dict(model.named_parameters())
    other = copy.deepcopy(model)
    other.load_state_dict(model.state_dict())
    source, target = tokens(generator, B, S), tokens(generator, B, T, below=W)
    assert_same(other(source, LENGTHS, target), model(source, LENGTHS, target))
    assert model.decoder.readout_size == E


def test_a_training_target_without_feeding_is_one_call_of_the_layer(
    generator: torch.Generator,
) -> None:
    calls = []
    for name in ("after", "feeding"):
        model = words(name, generator)
        model.decoder.layer.register_forward_hook(lambda *_: calls.append(1))
        model(tokens(generator, B, S), LENGTHS, tokens(generator, B, T, below=W))
        assert model.decoder.layer.backend == "llvm"
        assert len(calls) == {"after": 1, "feeding": T}[name]
        calls.clear()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"attend": "between"}, ValueError, "attend should be 'after' or 'before'"),
        ({"attention": None, "input_feeding": True}, ValueError, "need an attention"),
        ({"attend": "before", "input_feeding": True}, ValueError, "leave out input_feeding"),
        ({"attention": Attention(4, 4)}, ValueError, "5 features, but it was made for 4"),
        ({"tied": True}, ValueError, "an embedding of class torch.nn.Embedding"),
        ({"tied": True, "embedding": nn.Embedding(7, 2)}, ValueError, "3 x 2, got: 7 x 2"),
        ({"bidirectional": True}, TypeError, "no option of a decoder's layer"),
        ({"memory_size": 0}, ValueError, "memory_size must be greater than zero"),
        ({"readout_size": 0}, ValueError, "readout_size must be greater than zero"),
    ],
)
def test_impossible_decoders_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    given: dict[str, Any] = {"memory_size": 4} | options
    with pytest.raises(error, match=message):
        Decoder(2, 5, 3, **given)


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"gives 6 features a position.*made for 4"):
        EncoderDecoder(Regions(6), Decoder(2, 5, 3, memory_size=4))
    with pytest.raises(ValueError, match="needs an encoder with states"):
        EncoderDecoder(Regions(4), Decoder(2, 5, 3, memory_size=4), "linear")
    with pytest.raises(ValueError, match="bridge 'copy' needs as many layers"):
        EncoderDecoder(Encoder(3, 2), Decoder(2, 5, 3, memory_size=4), "copy")
    with pytest.raises(ValueError, match="bridge should be one of"):
        EncoderDecoder(Regions(4), Decoder(2, 5, 3, memory_size=4), "bent")
    with pytest.raises(ValueError, match="should be even, got: 5"):
        EncoderDecoder.of_words(V, W, hidden_size=5)


def test_wrong_input_is_refused(generator: torch.Generator) -> None:
    model = words("after", generator)
    source, target = tokens(generator, B, S), tokens(generator, B, T, below=W)
    with pytest.raises(ValueError, match="source 1 has length 0"):
        model(source, [5, 0, 3], target)
    with pytest.raises(ValueError, match=r"range 0 to 5, .* got 6 for row 2"):
        model(source, [5, 1, 6], target)
    with pytest.raises(ValueError, match=r"expected source \[B, S\] of numbers of words"):
        model(source[0], None, target)
    with pytest.raises(ValueError, match=r"expected target \[B, T\] of numbers of words"):
        model(source, None, target[0])
    with pytest.raises(RuntimeError, match=r"Regions: expected source \[B, S, 4\]"):
        Regions(4)(torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match="this decoder attends to a source"):
        model.decoder.start(B, None, None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("biased", [True, False])
def test_the_compiled_readout_is_linear(
    biased: bool, dtype: torch.dtype, generator: torch.Generator
) -> None:
    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    x, weight, bias = drawn(2, 300, 7), drawn(13, 7), drawn(13) if biased else None
    upstream, results = drawn(2, 300, 13), []
    for function in (readout, torch.nn.functional.linear):
        given = [one.clone().requires_grad_() for one in (x, weight, bias) if one is not None]
        out = function(*given)
        assert ("_Readout" in str(getattr(out.grad_fn, "next_functions", ()))) == (
            function is readout
        )
        results.append((out, torch.autograd.grad(out, given, upstream)))
    assert_same(results[0], results[1])
    few = readout(x[:1, :9], weight, bias)
    assert_same(few, torch.nn.functional.linear(x[:1, :9], weight, bias))


def test_the_compiled_readout_has_second_derivatives_and_frozen_parts(
    generator: torch.Generator,
) -> None:
    x = torch.randn(256, 2, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.randn(3, 2, generator=generator, dtype=torch.float64).requires_grad_()
    results = []
    for function in (readout, torch.nn.functional.linear):
        (first,) = torch.autograd.grad(function(x, weight).sin().sum(), x, create_graph=True)
        results.append(torch.autograd.grad(first.square().sum(), [x, weight]))
    assert_same(results[0], results[1])
    frozen = weight.detach()
    (d_x,) = torch.autograd.grad(readout(x, frozen).sum(), x)
    assert_same(d_x, frozen.sum(0).expand(256, -1))


def test_searching_sees_a_weight_that_has_changed(generator: torch.Generator) -> None:
    model = EncoderDecoder.of_words(V, W, embedding_size=E, hidden_size=H).eval()
    source = tokens(generator, B, S)
    options: dict[str, Any] = {"begin": 0, "end": 1, "how": Sampling(temperature=0)}
    for word in (4, 7):
        assert model.decoder.weight_output is not None
        model.decoder.weight_output.data.zero_()
        model.decoder.bias_output.data.zero_()
        model.decoder.bias_output.data[word] = 9.0
        found = model.search(source, LENGTHS, max_length=2, **options)
        assert found.best() == [[word, word]] * B
    state = model.encode(source)
    with torch.no_grad():
        ready = model.decoder.prepared(state)
        assert ready.output is not None
        model.decoder.weight_output.data.normal_(generator=generator)
        ready = model.decoder.prepared(state)
        before = model.decoder.bias_output.clone()
        model.step(
            torch.zeros(1, dtype=torch.int64), model.decoder.prepared(model.encode(source[:1]))
        )
        assert_same(model.decoder.bias_output, before)
        word = torch.zeros(B, dtype=torch.int64)
        assert_same(model.step(word, ready)[0], model.step(word, state)[0])
    assert model.decoder.prepared(state).output is None


@pytest.mark.parametrize("ways", [{}, {"input_feeding": True}, {"num_layers": 2}])
def test_variational_masks_are_the_same_at_all_steps(
    ways: dict[str, Any], generator: torch.Generator
) -> None:
    """Without a recurrence, steps differ by nothing but their masks."""
    kind: dict[str, Any] = {"dtype": torch.float64, "dropout": 0.5, **ways}
    ids = torch.full((2, 6), 3)
    logits = torch.empty(0)
    for variational in (False, True):
        decoder = Decoder(
            E,
            H,
            W,
            attention="dot" if "input_feeding" in ways else None,
            memory_size=H,
            embedding=nn.Embedding(W, E, dtype=torch.float64),
            variational=variational,
            **kind,
        )
        unequal_(decoder, generator).train()
        with torch.no_grad():
            for layer in range(kind.get("num_layers", 1)):
                getattr(decoder.layer, f"weight_hh_l{layer}").zero_()
                bias: Any = getattr(decoder.layer, f"bias_ih_l{layer}")
                bias[H : 2 * H] = -100.0  # the forget gate is shut
        memory = None
        if decoder.attention is not None:
            memory = decoder.attention.remember(torch.randn(2, 1, H, dtype=torch.float64))
            weight: Any = decoder.layer.weight_ih_l0
            with torch.no_grad():
                weight[:, E:] = 0.0
        logits = decoder(ids, decoder.start(2, None, memory)).logits.detach()
        same = torch.allclose(logits, logits[:, :1].expand_as(logits))
        assert same is variational
    assert not torch.allclose(logits[0], logits[1])  # another row, another mask


def test_variational_dropout_is_refused_twice_and_off_in_evaluation() -> None:
    with pytest.raises(ValueError, match="give one of both"):
        Encoder(3, 4, variational=True, dropout=0.2, input_dropout=0.1)
    with pytest.raises(TypeError, match="variational"):
        Decoder(3, 4, 5, attention=None, variational="yes")  # pyright: ignore[reportArgumentType]
    encoder = Encoder(3, 4, variational=True, dropout=0.5)
    x = torch.randn(2, 5, 3)
    one, two = encoder(x).values, encoder(x).values
    assert not one.equal(two)
    encoder.eval()
    assert encoder(x).values.equal(encoder(x).values)

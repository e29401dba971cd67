"""Steppers: the layer fed step by step, bit for bit, with the states carried inside."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from holdfast import cell, tanh
from holdfast.nn import GRU, LSTM, RNN, Recurrent
from tests.helpers import assert_same, unequal_
from tests.use.layers import drawn

T, B, I, H = 6, 3, 5, 20
Make = Callable[[], Recurrent]


@cell(gates="g")
def gated_input(g, x):
    """A cell whose steps are given their input unit by unit."""
    return tanh(g) * x


CASES: dict[str, Make] = {
    "lstm": lambda: LSTM(I, H),
    "gru": lambda: GRU(I, H),
    "rnn": lambda: RNN(I, H),
    "one unit": lambda: LSTM(I, 1),
    "layers": lambda: LSTM(I, H, num_layers=3, dropout=0.5),
    "projection": lambda: LSTM(I, H, num_layers=2, proj_size=4),
    "no bias": lambda: LSTM(I, H, bias=False),
    "batch first": lambda: LSTM(I, H, batch_first=True),
    "float64": lambda: LSTM(I, H, dtype=torch.float64),
    "peephole": lambda: Recurrent("peephole", I, H),
    "layer norm": lambda: Recurrent("layer_norm_lstm", I, H),
    "tied": lambda: Recurrent("rot_lstm", I, H),
    "zoneout": lambda: LSTM(I, H, zoneout=0.3),
    "dropouts": lambda: LSTM(I, H, recurrent_dropout=0.3, input_dropout=0.2, output_dropout=0.1),
    "heads": lambda: LSTM(I, H, recurrence=4),
    "diagonal": lambda: LSTM(I, H, recurrence="diagonal"),
    "learned start": lambda: LSTM(I, H, learned_start=True),
    "residual": lambda: LSTM(H, H, num_layers=2, residual=True),
    "highway": lambda: LSTM(I, H, num_layers=2, highway=True),
    "sizes": lambda: LSTM(I, [H, 7]),
    "given": lambda: Recurrent(gated_input, I, H),
    "bfloat16": lambda: LSTM(I, H, dtype=torch.bfloat16),
}
PROGRAMS = ("lstm", "gru", "rnn", "layers", "projection", "peephole", "layer norm", "zoneout")


def _states(last: Any) -> list[Tensor]:
    if isinstance(last, Tensor):
        return [last]
    return [tensor for part in last for tensor in _states(part)]


def _made(case: str, generator: torch.Generator) -> Any:
    """A layer in training mode: steppers run it as in evaluation."""
    return unequal_(CASES[case](), generator).train()


def _by_hand(layer: Any, x: Tensor, hx: Any = None) -> tuple[list[Tensor], Any]:
    """The layer fed one step at a time; `x` is `[T, B, I]`."""
    layer = copy.deepcopy(layer).eval()
    time = int(layer.batch_first and x.dim() == 3)
    outs = []
    with torch.no_grad():
        for step in x:
            out, hx = layer(step.unsqueeze(time), hx)
            outs.append(out.squeeze(time))
    return outs, hx


def _same_bits(actual: list[Tensor], expected: list[Tensor]) -> None:
    for mine, theirs in zip(actual, expected, strict=True):
        assert mine.dtype == theirs.dtype
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("case", CASES)
def test_equals_the_layer_fed_step_by_step(case: str, generator: torch.Generator) -> None:
    layer = _made(case, generator)
    dtype = next(layer.parameters()).dtype
    x = drawn((T, B, layer.input_size), generator, dtype)
    stepper = layer.stepper(batch=B)
    outs, last = _by_hand(layer, x)
    _same_bits([stepper(step) for step in x], outs)
    _same_bits(_states(stepper.state), _states(last))
    assert isinstance(stepper.state, tuple) == isinstance(last, tuple)


@pytest.mark.parametrize("case", PROGRAMS)
def test_ordinary_layers_are_one_program(case: str, generator: torch.Generator) -> None:
    stepper = _made(case, generator).stepper()
    assert (stepper.backend, stepper.backend_reason) == ("llvm", "compiled for this processor")


def test_says_why_a_layer_is_no_program(generator: torch.Generator) -> None:
    stepper = _made("highway", generator).stepper()
    assert stepper.backend == "layer"
    assert "highway" in stepper.backend_reason
    assert "bfloat16" in _made("bfloat16", generator).stepper().backend_reason


@pytest.mark.parametrize("case", ["lstm", "layers", "projection", "learned start", "highway"])
def test_a_single_stream(case: str, generator: torch.Generator) -> None:
    layer = _made(case, generator)
    x = drawn((T, layer.input_size), generator, torch.float32)
    stepper = layer.stepper(batch=None)
    outs, last = _by_hand(layer, x.unsqueeze(1))
    _same_bits([stepper(step) for step in x], [out.squeeze(0) for out in outs])
    _same_bits(_states(stepper.state), [state.squeeze(1) for state in _states(last)])


@pytest.mark.parametrize("case", ["lstm", "layers", "batch first", "zoneout", "highway"])
@pytest.mark.parametrize("batch", [B, None])
def test_chunks_go_on_where_steps_ended(
    case: str, batch: int | None, generator: torch.Generator
) -> None:
    layer = _made(case, generator)
    lead = () if batch is None else (batch,)
    x = drawn((T, *lead, layer.input_size), generator, torch.float32)
    stepper = layer.stepper(batch=batch)
    expected = torch.stack([stepper(step) for step in x])
    after = stepper.state
    turned = layer.batch_first and batch is not None
    stepper.reset()
    found = []
    for chunk in (x[:1], x[1:4], x[4:]):
        out = stepper.run(chunk.transpose(0, 1) if turned else chunk)
        found.append(out.transpose(0, 1) if turned else out)
    assert_same(torch.cat(found), expected)
    assert_same(_states(stepper.state), _states(after))


@pytest.mark.parametrize("case", ["lstm", "highway"])
def test_arrays_of_numpy(case: str, generator: torch.Generator) -> None:
    layer = _made(case, generator)
    x = drawn((70, B, layer.input_size), generator, torch.float32)
    stepper, arrays = layer.stepper(B), layer.stepper(B)
    found = [arrays(step) for step in x.numpy()]
    assert all(type(one) is np.ndarray for one in found)
    expected = [stepper(step) for step in x]
    _same_bits([torch.from_numpy(one) for one in found], expected)
    stepper.reset()
    arrays.reset()
    assert_same(torch.from_numpy(arrays.run(x.numpy())), stepper.run(x))


def test_outputs_are_the_callers(generator: torch.Generator) -> None:
    """Writing to an output or an input changes no state and no other output."""
    layer = _made("lstm", generator)
    x = drawn((T, B, I), generator, torch.float32)
    outs, _ = _by_hand(layer, x)
    for source in (list(x.clone()), list(x.clone().numpy())):
        stepper = layer.stepper(B)
        found = []
        for step in source:
            out = stepper(step)
            found.append(torch.as_tensor(out).clone())
            out.fill(9.0) if isinstance(out, np.ndarray) else out.fill_(9.0)
            step.fill(9.0) if isinstance(step, np.ndarray) else step.fill_(9.0)
        _same_bits(found, outs)


def test_the_state_is_a_copy_and_can_be_given(generator: torch.Generator) -> None:
    layer = _made("layers", generator)
    x = drawn((T, B, I), generator, torch.float32)
    stepper = layer.stepper(B)
    stepper.run(x[:3])
    state = stepper.state
    expected = [stepper(step) for step in x[3:]]
    stepper.state = state
    state[0].zero_()
    _same_bits([stepper(step) for step in x[3:]], expected)
    outs, _ = _by_hand(layer, x[3:], tuple(one.clone() for one in stepper.state))
    _same_bits([stepper(step) for step in x[3:]], outs)


@pytest.mark.parametrize("case", ["lstm", "learned start", "sizes"])
@pytest.mark.parametrize("rows", [1, [0, 2], torch.tensor([True, False, True])])
def test_some_streams_begin_anew(case: str, rows: Any, generator: torch.Generator) -> None:
    layer = _made(case, generator)
    x = drawn((T, B, I), generator, torch.float32)
    stepper = layer.stepper(B)
    for step in x:
        stepper(step)
    whole = stepper(x[0])
    stepper.reset()
    fresh = stepper(x[0])
    stepper.reset()
    for step in x:
        stepper(step)
    stepper.reset(rows)
    chosen = torch.zeros(B, dtype=torch.bool)
    chosen[rows] = True
    expected = torch.where(chosen.unsqueeze(1), fresh, whole)
    _same_bits([stepper(x[0])], [expected])
    assert not torch.equal(fresh, whole)


@pytest.mark.parametrize("case", ["lstm", "highway"])
def test_a_copy_goes_its_own_way(case: str, generator: torch.Generator) -> None:
    layer = _made(case, generator)
    x = drawn((T, B, I), generator, torch.float32)
    stepper = layer.stepper(B)
    stepper.run(x[:3])
    for twin in (stepper.copy(), copy.deepcopy(stepper)):
        ahead = [twin(step) for step in x[3:]]
        other = stepper.copy()
        twin.reset()
        _same_bits([other(step) for step in x[3:]], ahead)


@pytest.mark.parametrize("case", ["lstm", "highway", "tied", "learned start"])
def test_weights_are_those_of_the_last_refresh(case: str, generator: torch.Generator) -> None:
    layer = _made(case, generator)
    x = drawn((T, B, layer.input_size), generator, torch.float32)
    stepper = layer.stepper(B)
    first, state = stepper(x[0]), stepper.state
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(0.5)
    stepper.state = state
    same = stepper(x[1])
    stepper.state = state
    stepper.refresh()
    _same_bits(_states(stepper.state), _states(state))
    outs, _ = _by_hand(layer, x[1:2], state)
    _same_bits([stepper(x[1])], outs)
    assert not torch.equal(same, outs[0])
    stepper.reset()
    assert not torch.equal(stepper(x[0]), first)


def test_refresh_follows_another_dtype(generator: torch.Generator) -> None:
    layer = _made("lstm", generator)
    stepper = layer.stepper(B)
    stepper(drawn((B, I), generator, torch.float32))
    state = stepper.state
    layer.double()
    stepper.refresh()
    assert_same(stepper.state, [one.double() for one in state])
    assert stepper(drawn((B, I), generator)).dtype == torch.float64


def test_nothing_is_recorded_and_modes_do_not_matter(generator: torch.Generator) -> None:
    layer = _made("lstm", generator)
    x = drawn((T, B, I), generator, torch.float32)
    expected, _ = _by_hand(layer, x)
    stepper = layer.stepper(B)
    found = []
    for number, step in enumerate(x):
        with torch.inference_mode(number % 2 == 0):
            found.append(stepper(step.clone().requires_grad_(number % 2 == 1)))
        if number == 2:
            stepper.state = stepper.state
    assert not any(out.requires_grad for out in found)
    _same_bits([out.clone() for out in found], expected)


def test_inputs_of_other_kinds(generator: torch.Generator) -> None:
    layer = _made("lstm", generator)
    x = drawn((B, I), generator, torch.float32)
    expected = layer.stepper(B)(x)
    wide = drawn((B, 2 * I), generator, torch.float32)
    wide[:, ::2] = x
    for other in (wide[:, ::2], x.t().contiguous().t(), torch.nn.Parameter(x)):
        assert torch.equal(layer.stepper(B)(other), expected)
    array = layer.stepper(B)(wide.numpy()[:, ::2])
    assert torch.equal(torch.from_numpy(array), expected)
    negative = torch.ops.aten._neg_view(-x)
    assert torch.equal(layer.stepper(B)(negative), expected)


def test_what_a_cell_is_given_beside_its_input(generator: torch.Generator) -> None:
    layer: Any = unequal_(Recurrent("phased", I, H), generator)
    x, time = drawn((T, B, I), generator), drawn((T, B), generator).cumsum(0)
    x, time = x.float(), time.float().abs()
    layer.eval()
    with torch.no_grad():
        expected = layer(x, extra={"time": time})[0]
    stepper = layer.stepper(B)
    pairs = zip(x, time, strict=True)
    found = [stepper(step, extra={"time": now}) for step, now in pairs]
    assert_same(torch.stack(found), expected)


def test_threads_of_large_batches(generator: torch.Generator) -> None:
    layer: Any = unequal_(LSTM(64, 128), generator)
    x = drawn((2, 128, 64), generator, torch.float32)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        stepper = layer.stepper(128)
        found = [stepper(step) for step in x]
    finally:
        torch.set_num_threads(before)
    outs, _ = _by_hand(layer, x)
    assert_same(found, outs)


def _refused(error: type[Exception], match: str, call: Callable[[], Any]) -> None:
    with pytest.raises(error, match=match):
        call()


def test_what_is_refused(generator: torch.Generator) -> None:
    layer = _made("lstm", generator)
    stepper = layer.stepper(B)
    before = stepper(torch.zeros(B, I))
    state = stepper.state
    _refused(ValueError, "bidirectional", LSTM(I, H, bidirectional=True).stepper)
    _refused(ValueError, "greater than zero", lambda: layer.stepper(0))
    _refused(TypeError, "type int", lambda: layer.stepper(2.0))
    _refused(RuntimeError, r"\[3, 5\], got \[3, 4\]", lambda: stepper(torch.zeros(B, 4)))
    _refused(RuntimeError, r"\[3, 5\], got \[5\]", lambda: stepper(torch.zeros(I)))
    _refused(RuntimeError, r"\[3, 5\], got \[5\]", lambda: stepper(np.zeros(I, np.float32)))
    _refused(ValueError, "float64", lambda: stepper(torch.zeros(B, I, dtype=torch.float64)))
    _refused(ValueError, "float64", lambda: stepper(np.zeros((B, I))))
    _refused(RuntimeError, "meta", lambda: stepper(torch.zeros(B, I, device="meta")))
    _refused(TypeError, "list", lambda: stepper([[0.0] * I] * B))
    _refused(ValueError, "no sequences", lambda: stepper(torch.zeros(B, I), extra={"a": before}))
    _refused(RuntimeError, "dimensions", lambda: stepper.run(torch.zeros(B, I)))
    _refused(RuntimeError, "larger than 0", lambda: stepper.run(torch.zeros(0, B, I)))
    _refused(RuntimeError, r"\[2, 3, 5\]", lambda: stepper.run(torch.zeros(2, 4, I)))
    _refused(TypeError, "tuple", lambda: setattr(stepper, "state", before))
    _refused(RuntimeError, "size", lambda: setattr(stepper, "state", (state[0][:, :2], state[1])))
    _refused(TypeError, "not pickled", lambda: pickle.dumps(stepper))
    _same_bits(list(stepper.state), list(state))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_narrow_weights_give_nearly_the_same(
    precision: str, batch: int, generator: torch.Generator
) -> None:
    layer: Any = unequal_(LSTM(12, 40, num_layers=2), generator)
    x = torch.randn(31, batch, 12, generator=generator)
    stepper = layer.stepper(batch, precision)
    exact = layer.stepper(batch)
    outs = torch.stack([stepper(one) for one in x])
    wanted = exact.run(x)
    assert 1e-6 < (outs - wanted).abs().max() < 0.05
    torch.testing.assert_close(layer.stepper(batch, precision).run(x), outs, rtol=0, atol=1e-5)
    before = stepper.state
    found = stepper.accuracy(x)
    assert 0 < found["mean"] <= found["largest"] < 0.05
    assert 0 < found["relative"] < 0.05
    assert_same(list(stepper.state), list(before))


def test_accuracy_of_the_layers_own_weights_is_exact(generator: torch.Generator) -> None:
    stepper = unequal_(LSTM(3, 5), generator).stepper()
    found = stepper.accuracy(torch.randn(9, 1, 3, generator=generator))
    assert set(found.values()) == {0.0}


def test_narrow_weights_are_refreshed(generator: torch.Generator) -> None:
    layer: Any = unequal_(LSTM(12, 40), generator)
    stepper = layer.stepper(precision="int8")
    with torch.no_grad():
        layer.get_parameter("weight_hh_l0").mul_(2.0)
    x = torch.randn(5, 1, 12, generator=generator)
    stale = stepper.run(x)
    stepper.refresh()
    stepper.reset()
    assert not torch.equal(stepper.run(x), stale)
    assert stepper.accuracy(x)["largest"] < 0.05


@pytest.mark.parametrize(
    ("layer", "precision", "words"),
    [
        (LSTM(3, 5), "int4", "bf16 or int8, got 'int4'"),
        (LSTM(3, 5, dtype=torch.float64), "bf16", "made of float32"),
        (LSTM(5, 5, residual=True), "int8", "residual"),
    ],
)
def test_what_cannot_be_narrow_is_refused(layer: LSTM, precision: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        layer.stepper(precision=precision)

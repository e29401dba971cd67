"""Our layers give what `torch.nn` gives: outputs, states, gradients, checkpoints, dropout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from holdfast.nn import LSTM, operators
from tests.helpers import assert_same
from tests.use.layers import KINDS, drawn, initial, observed, pair

# PyTorch says once that its own projected LSTM is a slow one.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")

SIZES = [(2, 3, 5), (1, 3, 100), (63, 2, 1), (2, 1, 1), (63, 1, 100)]
ARRANGEMENTS = [
    pytest.param(layers, two_way, batch_first, id=text)
    for layers, two_way, batch_first, text in (
        (1, False, True, "1-forward-batch_first"),
        (1, True, False, "1-bidirectional"),
        (3, False, False, "3-forward"),
        (2, True, True, "2-bidirectional-batch_first"),
    )
]
DTYPES = [
    pytest.param(torch.float64, id="float64"),
    pytest.param(torch.float32, id="float32"),
]
ALL_KINDS = pytest.mark.parametrize("kind", KINDS)


@ALL_KINDS
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("T", "B", "H"), SIZES, ids=lambda size: str(size))
@pytest.mark.usefixtures("two_threads")
def test_awkward_sizes(
    kind: str, T: int, B: int, H: int, dtype: torch.dtype, generator: torch.Generator
) -> None:
    if kind == "lstm_proj" and H <= 3:
        H = 4
    layer, reference = pair(kind, 3, H, dtype=dtype, generator=generator)
    x = drawn((T, B, 3), generator, dtype)
    hx = initial(layer, B, generator, dtype)
    assert_same(observed(layer, x, hx), observed(reference, x, hx))


@ALL_KINDS
@pytest.mark.parametrize(("layers", "two_way", "batch_first"), ARRANGEMENTS)
def test_arrangements(
    kind: str,
    layers: int,
    two_way: bool,
    batch_first: bool,
    generator: torch.Generator,
) -> None:
    layer, reference = pair(
        kind,
        10,
        5,
        layers,
        batch_first=batch_first,
        bidirectional=two_way,
        dtype=torch.float64,
        generator=generator,
    )
    for shape in ((3, 4, 10), (7, 10)):
        x = drawn(shape, generator)
        rows = None if len(shape) == 2 else shape[0 if batch_first else 1]
        hx = initial(layer, rows, generator, torch.float64)
        assert_same(observed(layer, x), observed(reference, x), f"{shape}, zero states")
        assert_same(observed(layer, x, hx), observed(reference, x, hx), f"{shape}, given states")


@ALL_KINDS
@pytest.mark.parametrize("two_way", [False, True], ids=["forward", "bidirectional"])
@pytest.mark.parametrize(
    "lengths",
    [[5, 5, 3, 1], [2, 6, 1, 6], [4, 4, 4], [1]],
    ids=["sorted", "unsorted", "equal", "one"],
)
def test_packed(kind: str, two_way: bool, lengths: list[int], generator: torch.Generator) -> None:
    layer, reference = pair(
        kind, 10, 5, 2, bidirectional=two_way, dtype=torch.float64, generator=generator
    )
    x = drawn((max(lengths), len(lengths), 10), generator)
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    hx = initial(layer, len(lengths), generator, torch.float64)
    assert_same(observed(layer, packed), observed(reference, packed), "zero states")
    assert_same(observed(layer, packed, hx), observed(reference, packed, hx), "given states")
    out, expected = layer(packed)[0], reference(packed)[0]
    assert isinstance(out, PackedSequence)
    assert_same(out[1:], expected[1:], "order of the rows")


@ALL_KINDS
def test_no_rows(kind: str, generator: torch.Generator) -> None:
    layer, reference = pair(kind, 2, 5, 2, bidirectional=True, generator=generator)
    x = torch.zeros(3, 0, 2)
    assert_same(layer(x), reference(x))
    assert_same(layer(x, lengths=[]), reference(x), "with lengths")


@ALL_KINDS
def test_same_seed_gives_the_same_parameters(kind: str) -> None:
    ours, theirs, more = KINDS[kind]
    made = []
    for module in (ours, theirs):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layer = module(3, 5, num_layers=2, bidirectional=True, **more)
        made.append(list(layer.named_parameters()))
    assert [name for name, _ in made[0]] == [name for name, _ in made[1]]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(*made, strict=True))


@ALL_KINDS
def test_state_dicts_load_both_ways(kind: str, generator: torch.Generator) -> None:
    layer, reference = pair(
        kind, 10, 5, 2, bidirectional=True, dtype=torch.float64, generator=generator
    )
    x = drawn((4, 2, 10), generator)
    _, theirs, more = KINDS[kind]
    fresh = theirs(10, 5, 2, bidirectional=True, dtype=torch.float64, **more)
    assert fresh.load_state_dict(layer.state_dict()).missing_keys == []
    assert_same(fresh(x), layer(x))
    assert_same(layer.all_weights, reference.all_weights)


@ALL_KINDS
@pytest.mark.parametrize("batch_first", [False, True], ids=["time_first", "batch_first"])
def test_dropout_draws_what_torch_draws(
    kind: str, batch_first: bool, generator: torch.Generator
) -> None:
    layer, reference = pair(
        kind,
        10,
        5,
        3,
        dropout=0.4,
        batch_first=batch_first,
        bidirectional=True,
        dtype=torch.float64,
        generator=generator,
    )
    x = drawn((6, 4, 10), generator)
    both = []
    for module in (layer, reference):
        with torch.random.fork_rng():
            torch.manual_seed(11)
            both.append(module(x))
    assert_same(*both)
    layer.eval()
    reference.eval()
    assert_same(layer(x), reference(x), "evaluation")


def test_dropout_is_between_layers(
    monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    run = operators.run

    def record(backend: str, cell: Any, x: Tensor, *args: Any, **options: Any) -> Any:
        result = run(backend, cell, x, *args, **options)
        seen.append((x, result.out))
        return result

    monkeypatch.setattr(operators, "run", record)
    layer = LSTM(3, 50, 2, dropout=0.3)
    x = drawn((40, 20, 3), generator, torch.float32)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        out, _ = layer(x)
    (_, below), (received, above) = seen
    kept = received != 0
    assert abs(kept.float().mean() - 0.7) < 0.01
    assert_same(received[kept], below[kept] / 0.7)
    assert_same(out, above)


def test_dropout_of_one_layer_warns() -> None:
    with pytest.warns(UserWarning, match=r"num_layers greater than 1, but got dropout=0\.5") as all:
        LSTM(3, 5, dropout=0.5)
    assert all[0].filename == __file__

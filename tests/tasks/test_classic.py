"""The classic tasks are what their papers say: grammars, lengths, places, targets."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.data import classic
from holdfast.data.classic.marked import SYMBOLS
from tests.helpers import assert_same

SEEDS = st.integers(0, 2**32)

# Reber's grammar as a regular expression, read off the graph and not off the code's table.
_LOWER = "T*V(?:PXT*V)*(?:V|PS)"
_INNER = re.compile(f"B(?:TS*X(?:S|X{_LOWER})|P{_LOWER})E")


def _given(function: Callable[..., None]) -> Callable[..., None]:
    return settings(max_examples=25, deadline=None)(given(seed=SEEDS)(function))


GENERATORS: dict[str, Callable[[int], Any]] = {
    "reber": lambda seed: classic.reber_steps(classic.embedded_reber_sets(seed, 5, 5)[1]),
    "continual": lambda seed: classic.continual_reber(30, 2, seed),
    "lag_2a": lambda seed: classic.noise_free_lag(3, 7, seed),
    "lag_2b": lambda seed: classic.random_filler_lag(3, 7, seed),
    "lag_2c": lambda seed: classic.very_long_lag(3, 7, 5, seed),
    "two_3a": lambda seed: classic.two_sequences(3, 20, 3, "3a", seed),
    "two_3c": lambda seed: classic.two_sequences(3, 20, 3, "3c", seed),
    "adding": lambda seed: classic.adding(3, 30, seed),
    "multiplication": lambda seed: classic.multiplication(3, 30, seed),
    "order": lambda seed: classic.temporal_order(3, 2, seed),
    "delay": lambda seed: classic.measure_spike_delay(40, 2, 5, generator=seed),
    "spikes": lambda seed: classic.generate_timed_spikes(40, 2, 5, generator=seed),
    "copy": lambda seed: classic.copy_memory(3, 5, seed),
    "adding_fixed": lambda seed: classic.adding_fixed(3, 8, seed),
    "parity": lambda seed: classic.parity(3, 2, 9, seed),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_a_seed_gives_the_same_again_and_another_seed_another(name: str) -> None:
    make, before = GENERATORS[name], torch.get_rng_state()
    first = make(3)
    assert_same(make(3), first)
    others = [make(seed) for seed in range(4, 8)]
    assert any(one.x.shape != first.x.shape or not one.x.equal(first.x) for one in others)
    assert torch.equal(torch.get_rng_state(), before), "the global random state was touched"


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("seed", range(5))
def test_shapes_fit_and_nothing_lies_beyond_a_row(name: str, seed: int) -> None:
    made = GENERATORS[name](seed)
    steps, batch, _ = made.x.shape
    assert (made.x.dtype, made.lengths.dtype) == (torch.float32, torch.int64)
    assert tuple(made.lengths.shape) == (batch,)
    assert int(made.lengths.max()) == steps
    beyond = torch.arange(steps).unsqueeze(1) >= made.lengths
    assert not made.x[beyond].any()
    if isinstance(made, classic.Answers):
        assert made.target.shape[0] == batch
    else:
        assert tuple(made.target.shape[:2]) == tuple(made.mask.shape) == (steps, batch)
        assert not made.mask[beyond].any()


@_given
def test_embedded_strings_are_of_the_grammar(seed: int) -> None:
    string = classic.embedded_reber(seed)
    assert string[0] + string[-1] == "BE"
    assert string[1] == string[-2] in "TP"
    assert _INNER.fullmatch(string[2:-2]), string


def test_every_edge_is_taken_about_half_the_time() -> None:
    generator = torch.Generator().manual_seed(0)
    strings = [classic.embedded_reber(generator) for _ in range(2000)]
    assert min(map(len, strings)) == 9
    assert 0.45 < sum(string[1] == "T" for string in strings) / 2000 < 0.55
    assert 0.45 < sum(string[3] == "P" for string in strings) / 2000 < 0.55
    # From T the way is S with probability 1/2, again and again; the shortest string is BTBTXSETE.
    assert 0.045 < sum(string == "BTBTXSETE" for string in strings) / 2000 < 0.08


@_given
def test_legal_symbols_are_those_after_which_a_string_can_go_on(seed: int) -> None:
    string = classic.embedded_reber(seed)
    x, target, lengths, mask = classic.reber_steps([string])
    assert lengths.tolist() == [len(string) - 1]
    assert mask.all()
    for step, symbol in enumerate(string[1:]):
        legal = {classic.REBER[k] for k in target[step, 0].nonzero().flatten().tolist()}
        assert symbol in legal
        assert legal == set(classic.legal_after(string[: step + 1]))
        assert x[step, 0].argmax() == classic.REBER.index(string[step])
    assert classic.legal_after(string) == ""


def test_no_string_is_in_both_sets_and_none_comes_twice() -> None:
    train, test = classic.embedded_reber_sets(1, 40, 60)
    assert (len(train), len(test), len({*train, *test})) == (40, 60, 100)


@pytest.mark.parametrize("wrong", ["T", "BS", "BTBE", "BTBTXSEPE", "BTBTXSETEB"])
def test_what_is_not_of_the_grammar_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"no string of the embedded grammar begins with 'B?"):
        classic.legal_after(wrong)


@_given
def test_a_stream_is_one_string_after_the_other(seed: int) -> None:
    x, target, _, _ = classic.continual_reber(80, 2, seed)
    stream = "".join(classic.REBER[k] for k in x[:, 1].argmax(1).tolist())
    place = 0
    while place < len(stream) - 40:
        after = stream.find("E", stream.find("E", place) + 1)
        assert _INNER.fullmatch(stream[place + 2 : after - 1]), stream[place : after + 1]
        assert classic.REBER[int(target[after, 1].argmax())] == "B"
        place = after + 1
    following = x[1:, 1].argmax(1)
    assert target[:-1, 1].gather(1, following.unsqueeze(1)).all()


@given(ns=st.lists(st.integers(1, 12), min_size=1, max_size=4), letters=st.sampled_from([2, 3]))
@settings(max_examples=25, deadline=None)
def test_counting_strings_and_what_is_legal_after_each_symbol(ns: list[int], letters: int) -> None:
    x, target, lengths, mask = classic.counting(ns, letters)
    for row, n in enumerate(ns):
        string = "S" + "".join(letter * n for letter in "abc"[:letters])
        assert int(lengths[row]) == len(string) == int(mask[:, row].sum())
        for step, symbol in enumerate(string):
            assert "Sabc"[int(x[step, row].argmax())] == symbol
            legal = {"Tabc"[k] for k in target[step, row].nonzero().flatten().tolist()}
            following = {(string + "T")[step + 1]}
            assert legal == (set("ab") if symbol == "a" else following)


@_given
def test_the_last_symbol_of_a_lag_is_the_first(seed: int) -> None:
    for make in (classic.noise_free_lag, classic.random_filler_lag):
        x, target, _, mask = make(4, 20, seed)
        symbols = x.argmax(2)
        assert torch.equal(target[-1], symbols[0])
        assert torch.equal(target[:-1], symbols[1:])
        assert ((symbols[0] == 19) | (symbols[0] == 20)).all()
        assert (symbols[1:] < 19).all()
        assert mask.all()
        assert torch.equal(make(4, 20, seed, one_hot=False).x, symbols)
    assert classic.noise_free_lag(4, 20, seed).x[1:].argmax(2)[:, 2].tolist() == list(range(19))


@_given
def test_a_very_long_lag(seed: int) -> None:
    x, target, lengths = classic.very_long_lag(6, q=9, p=5, generator=seed)
    assert x.shape[2] == 9
    for row, length in enumerate(lengths.tolist()):
        symbols = x[:length, row].argmax(1).tolist()
        assert length >= 12
        assert symbols[0] == 5
        assert symbols[1] - 7 == int(target[row])
        assert symbols[-1] == 6
        assert max(symbols[2:-1]) < 5


def test_lags_have_the_mean_length_of_their_distribution() -> None:
    lengths = classic.very_long_lag(4000, q=50, p=2, generator=0, one_hot=False).lengths
    # The last symbol, which is the target, is not an input: q + 12 of q + 13.
    assert abs(float(lengths.float().mean()) - 62) < 0.6


@pytest.mark.parametrize("variant", ["3a", "3b", "3c"])
def test_two_sequences(variant: str) -> None:
    x, target, lengths = classic.two_sequences(4000, 20, 3, variant, 0)
    clean = classic.two_sequences(4000, 20, 3, variant, 0, clean_targets=True).target
    first = (clean[:, 0] < 0.5) == (variant == "3c")
    tell = torch.where(first, 1.0, -1.0)
    spread = x[:3, :, 0] - tell
    assert abs(float(first.float().mean()) - 0.5) < 0.03
    assert abs(float(spread.var()) - (0.2 if variant == "3b" else 0.0)) < 0.02
    assert abs(float(x[3:20].var()) - 0.2) < 0.01
    assert abs(float((target - clean).var()) - (0.1 if variant == "3c" else 0.0)) < 0.01
    assert (int(lengths.min()), int(lengths.max())) == (20, 22)
    assert_same(clean.unique(), torch.tensor([0.2, 0.8] if variant == "3c" else [0.0, 1.0]))


@pytest.mark.parametrize("name", ["adding", "multiplication"])
def test_marked_numbers(name: str) -> None:
    make = {"adding": classic.adding, "multiplication": classic.multiplication}[name]
    x, target, lengths = make(3000, 40, 0)
    assert (int(lengths.min()), int(lengths.max())) == (40, 44)
    at_start = 0.0 if name == "adding" else 1.0
    seconds = set()
    for row in range(3000):
        markers = x[: lengths[row], row, 1]
        assert markers[0] == markers[-1] == -1
        marked = (markers == 1).nonzero().flatten().tolist()
        assert 1 <= len(marked) <= 2
        assert marked[0] <= 19
        seconds.add(marked[-1])
        numbers = [*x[marked, row, 0].tolist(), *[at_start] * (2 - len(marked))]
        expected = 0.5 + sum(numbers) / 4 if name == "adding" else math.prod(numbers)
        assert abs(float(target[row, 0]) - expected) < 1e-6
    # One of the first ten is taken away from the first T/2 - 1 = 19 that are not marked: 0 to 19.
    assert max(seconds) == 19
    low = -1.0 if name == "adding" else 0.0
    assert low <= float(x[..., 0].min()) < low + 0.01
    assert 0.99 < float(x[..., 0].max()) <= 1


@pytest.mark.parametrize(
    ("marks", "places"), [(2, [(10, 20), (50, 60)]), (3, [(10, 20), (33, 43), (66, 76)])]
)
def test_temporal_order(marks: int, places: list[tuple[int, int]]) -> None:
    x, target, lengths = classic.temporal_order(2000, marks, 0)
    assert (int(lengths.min()), int(lengths.max())) == (100, 110)
    seen: list[set[int]] = [set() for _ in places]
    for row, length in enumerate(lengths.tolist()):
        string = "".join(SYMBOLS[k] for k in x[:length, row].argmax(1).tolist())
        assert string[0] + string[-1] == "EB"
        marked = [place for place, symbol in enumerate(string) if symbol in "XY"]
        spelled = "".join(str("XY".index(string[place])) for place in marked)
        assert int(target[row]) == int(spelled, 2)
        assert set(string[1:-1]) <= set("abcdXY")
        for place, found in zip(marked, seen, strict=True):
            found.add(place)
    assert [(min(found), max(found)) for found in seen] == places
    assert target.unique().tolist() == list(range(2**marks))


@_given
def test_spikes_are_measured_and_made(seed: int) -> None:
    x, target, _, mask = classic.measure_spike_delay(200, 2, F=7, kinds=3, generator=seed)
    given_, spikes, _, everywhere = classic.generate_timed_spikes(200, 2, 7, 3, seed)
    assert torch.equal(x.bool(), spikes.bool())
    assert torch.equal(mask, x[..., 0].bool())
    assert everywhere.all()
    for row in range(2):
        times = mask[:, row].nonzero().flatten().tolist()
        delays = [later - earlier for earlier, later in zip([0, *times], times, strict=False)]
        assert [delay - 7 for delay in delays] == target[times, row, 0].int().tolist()
        for earlier, later, delay in zip([0, *times], times, delays, strict=False):
            assert (given_[earlier + (earlier > 0) : later + 1, row, 0] == delay - 7).all()


@pytest.mark.parametrize("shape", ["cos", "triangle", "rectangle"])
def test_periodic_functions_repeat(shape: str) -> None:
    x, target, _, mask = classic.periodic_function(30, 2, period=10, shape=shape)
    assert not x.any()
    assert mask.all()
    assert_same(target[10:], target[:-10])
    assert (float(target[0, 0, 0]), float(target[5, 0, 0])) == (0.0, 1.0)
    assert 0 <= float(target.min()) <= float(target.max()) <= 1


@_given
def test_parity_counts_ones(seed: int) -> None:
    x, target, lengths, mask = classic.parity(4, 2, 9, seed)
    assert ((lengths >= 2) & (lengths <= 9)).all()
    for row, length in enumerate(lengths.tolist()):
        ones = 0
        for step in range(length):
            ones += int(x[step, row, 1])
            assert int(target[step, row]) == ones % 2
        assert int(mask[:, row].sum()) == length


@_given
def test_copying(seed: int) -> None:
    x, target, _, _ = classic.copy_memory(3, 12, seed)
    symbols = x.argmax(2)
    assert torch.equal(target[-10:], symbols[:10])
    assert (target[:-10] == 8).all()
    assert (symbols[10:21] == 8).all()
    assert (symbols[21] == 9).all()
    assert (symbols[22:] == 8).all()
    assert int(symbols[:10].max()) < 8


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: classic.adding(0), "batch should be at least 1, got: 0"),
        (lambda: classic.adding(3, T=19), "T should be at least 20, got: 19"),
        (lambda: classic.two_sequences(3, variant="3d"), "variant should be '3a', '3b' or '3c'"),
        (lambda: classic.two_sequences(3, T=2), "T should be at least 3, got: 2"),
        (lambda: classic.temporal_order(3, marks=4), "marks should be 2"),
        (lambda: classic.counting([0]), "n should be at least 1, got: 0"),
        (lambda: classic.parity(1, 9, 8), "longest should be at least 9, got: 8"),
        (lambda: classic.periodic_function(9, 1, shape="saw"), "shape should be one of cos, "),
    ],
)
def test_what_cannot_be_is_refused(wrong: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        wrong()

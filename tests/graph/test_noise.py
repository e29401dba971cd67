"""Masks from counters: exact numbers, right rates, and no relation between any two streams.

Everything here is drawn from fixed seeds, so a bound that holds once holds always. Bounds are five
standard deviations of what independent numbers would show.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from holdfast.compiler.noise import Noise, bits, draw, fold, values
from tests.helpers import assert_same

BOUND = 5.0
"""Standard deviations; one of two million independent statistics lies further out."""

WORD = 1 << 64


def _mix(x: int) -> int:
    """splitmix64's finalizer on Python's integers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % WORD
    return x ^ (x >> 31)


def _key(seed: int, number: int, step: int | None) -> int:
    counters = (number + 1) * 0x9E3779B97F4A7C15
    counters += 0 if step is None else (step + 1) * 0xD1342543DE82EF95
    return _mix((seed + counters) % WORD)


def _bits(seed: int, number: int, step: int | None, unit: int) -> int:
    """The hash on Python's integers, which know no overflow."""
    key = _key(seed, number, step)
    high, low = key >> 32, key % 2**32
    x = (low + unit * 0x9E3779B1) % 2**32
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) % 2**32
    x ^= high
    x = ((x ^ (x >> 15)) * 0xD35A2D97) % 2**32
    return x ^ (x >> 15)


SEEDS = (0, 1, 2, 12345, -1, -(2**63), 2**63 - 1, 0x0123456789ABCDEF, -98765432109876543)


@pytest.mark.parametrize("step", [None, 0, 1, 999, 2**40])
@pytest.mark.parametrize("number", [0, 1, 7])
def test_bits_are_those_of_unbounded_integers(number: int, step: int | None) -> None:
    seeds = torch.tensor(SEEDS)
    counters = None if step is None else torch.full_like(seeds, step)
    found = bits(seeds, number, counters, 9)
    assert found.tolist() == [
        [_bits(seed % WORD, number, step, unit) for unit in range(9)] for seed in SEEDS
    ]


GOLDEN = {
    (0, 0, None): [591494443, 1108132738, 3103801077, 662357481],
    (1, 0, None): [810448480, 1673182244, 2982081269, 3922677836],
    (-1, 0, None): [464627443, 3453302945, 2958880923, 2470539761],
    (0, 2, 0): [1720856773, 2992401763, 3371797078, 2243345732],
    (1, 2, 5): [1972598604, 4234791040, 3411927737, 4218207656],
    (-1, 2, 2**40): [705508389, 745559883, 3906121282, 2696391927],
}
"""Bits of the first units by seed, number and step, on which every resumed run relies."""


@pytest.mark.parametrize(("seed", "number", "step"), GOLDEN)
def test_bits_never_change(seed: int, number: int, step: int | None) -> None:
    counters = None if step is None else torch.tensor([step])
    found = bits(torch.tensor([seed]), number, counters, 4)
    assert found.tolist() == [GOLDEN[seed, number, step]]


def test_folded_seeds_never_change() -> None:
    seeds = torch.tensor([0, 1, -1])
    for number in (0, 3):
        wanted = [_mix((seed + (number + 1) * 0x9E3779B97F4A7C15) % WORD) for seed in (0, 1, -1)]
        assert [seed % WORD for seed in fold(seeds, number).tolist()] == wanted
    assert fold(torch.tensor([0]), 0).item() == -2152535657050944081


def _table(*rows: tuple[float, float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def _ordinary(p: float, first: float = 1.0, second: float = 0.0) -> Noise:
    """Consecutive seeds, as anybody would number their rows."""
    return Noise(torch.arange(100), _table((p, first, second)))


@pytest.mark.parametrize("step", [None, 0, 3])
@pytest.mark.parametrize("p", [0.0, 0.001, 0.05, 0.3, 0.5, 0.75, 0.99, 1.0])
def test_the_second_value_has_its_rate(p: float, step: int | None) -> None:
    mask = draw(_ordinary(p), 0, 2000, torch.float32, step)
    rate = (mask == 0.0).double().mean().item()
    assert abs(rate - p) <= BOUND * math.sqrt(p * (1 - p) / mask.numel())


def _uninvert(y: int, multiplier: int, shift: int) -> int:
    """The x with (x ^ x >> shift) * multiplier == y modulo 2^32."""
    y = y * pow(multiplier, -1, 2**32) % 2**32
    x = y
    for _ in range(32 // shift + 1):
        x = y ^ (x >> shift)
    return x


def _largest_bits() -> int:
    """A seed whose unit 0 draws 2^32 - 1 for mask 0, once a row: the hash backwards."""
    last = 2**32 - 1
    x = last
    for _ in range(3):
        x = last ^ (x >> 15)
    low = _uninvert(_uninvert(x, 0xD35A2D97, 15), 0x21F0AAAD, 16)  # with a high half of 0
    key = low
    for shift, multiplier in ((31, 0x94D049BB133111EB), (27, 0xBF58476D1CE4E5B9), (30, 1)):
        y, found = key, key
        for _ in range(3):
            found = y ^ (found >> shift)
        key = found * pow(multiplier, -1, WORD) % WORD
    seed = (key - 0x9E3779B97F4A7C15) % WORD
    return seed - WORD if seed >= WORD // 2 else seed


def test_a_probability_of_zero_is_certain() -> None:
    found = draw(_ordinary(0.0), 0, 2000, torch.float32)
    assert found.all()
    assert values(_table((0.0, 1.0, 0.0)))[0][0] == 0, "no bits are below zero"


def test_a_probability_of_one_is_certain() -> None:
    seeds = torch.tensor([_largest_bits()])
    assert bits(seeds, 0, None, 1).item() == 2**32 - 1
    assert draw(Noise(seeds, _table((1.0, 1.0, 0.0))), 0, 1, torch.float32).item() == 0.0


def test_the_smallest_bits_take_the_second_value_only_where_it_is_possible() -> None:
    """Zero bits are below every threshold but that of probability zero."""
    (zero, _, _), (rare, _, _) = values(_table((0.0, 1.0, 0.0), (2.0**-32, 1.0, 0.0)))
    assert (zero, rare) == (0, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_are_those_of_the_table_in_full_precision(dtype: torch.dtype) -> None:
    first, second = 1 / 0.9, -1 / 3
    mask = draw(_ordinary(0.1, first, second), 0, 50, dtype)
    assert mask.shape == (100, 50)
    assert mask.dtype == dtype
    wanted = torch.tensor([second, first], dtype=dtype)
    assert torch.equal(mask.unique(), wanted)


def _units(noise: Noise, number: int, steps: int, units: int) -> Tensor:
    """Coins of +1 and -1, `[B, T, H]`."""
    drawn = [draw(noise, number, units, torch.float64, step) for step in range(steps)]
    return 2 * torch.stack(drawn, 1) - 1


COINS = _units(_ordinary(0.5), 0, 60, 40)
"""100 consecutive seeds, 60 steps, 40 units."""


def _unrelated(one: Tensor, other: Tensor, what: str) -> None:
    """The sum of products of independent coins is normal with variance one per product."""
    score = ((one * other).sum() / math.sqrt(one.numel())).item()
    assert abs(score) < BOUND, f"{what}: {score:.1f} standard deviations"


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["sequences", "steps", "units"])
@pytest.mark.parametrize("lag", [1, 2, 3, 4, 7, 8, 16, 31, 32])
def test_no_serial_correlation(axis: int, lag: int) -> None:
    length = COINS.shape[axis] - lag
    _unrelated(COINS.narrow(axis, 0, length), COINS.narrow(axis, lag, length), f"lag {lag}")


def test_no_correlation_of_neighbors_along_several_axes() -> None:
    for shifts in itertools.product((-1, 0, 1), repeat=3):
        if any(shifts):
            moved = COINS.roll(shifts, (0, 1, 2))
            _unrelated(COINS, moved, f"moved by {shifts}")


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["sequences", "steps", "units"])
def test_every_sequence_step_and_unit_alone_is_fair(axis: int) -> None:
    """Chi-square of the sums of all slices: neither too far apart nor too even."""
    others = [other for other in range(3) if other != axis]
    count = COINS.numel() // COINS.shape[axis]
    scores = COINS.sum(others) / math.sqrt(count)
    degrees = len(scores)
    chi = scores.square().sum().item()
    assert abs(chi - degrees) < BOUND * math.sqrt(2 * degrees)
    assert scores.abs().max() < BOUND


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["sequences", "steps", "units"])
def test_runs_have_their_number(axis: int) -> None:
    """Wald and Wolfowitz: independent fair coins change at half of the places."""
    changes = COINS.diff(dim=axis).ne(0).double()
    score = (changes.mean() - 0.5) / math.sqrt(0.25 / changes.numel())
    assert abs(score.item()) < BOUND


def test_triples_of_units_are_even() -> None:
    """All eight patterns of three neighbors, along each axis."""
    for axis in range(3):
        length = COINS.shape[axis] - 2
        digits = [COINS.narrow(axis, start, length).gt(0).long() for start in range(3)]
        pattern = (4 * digits[0] + 2 * digits[1] + digits[2]).flatten()
        counts = torch.bincount(pattern, minlength=8).double()
        expected = pattern.numel() / 8
        spread = BOUND * math.sqrt(3 * expected)  # patterns overlap, hence more than binomial
        assert (counts - expected).abs().max() < spread, f"axis {axis}: {counts.tolist()}"


def test_every_bit_is_fair_and_unrelated_to_the_others() -> None:
    words = torch.stack([bits(torch.arange(64), 1, torch.full((64,), t), 64) for t in range(8)])
    coins = torch.stack([(words >> place) & 1 for place in range(32)], -1).flatten(0, 2)
    coins = 2 * coins.double() - 1  # [N, 32]
    scores = coins.T @ coins / math.sqrt(len(coins))
    scores.fill_diagonal_(0.0)
    assert (coins.sum(0).abs() / math.sqrt(len(coins))).max() < BOUND
    assert scores.abs().max() < BOUND


def test_one_bit_of_a_counter_changes_half_of_the_bits() -> None:
    """Avalanche: of the seed's 64 bits, of the step and of the unit."""
    seeds = torch.arange(256) * 7919
    counters = torch.zeros_like(seeds)
    before = bits(seeds, 0, counters, 4)
    changed = [bits(seeds ^ (1 << place), 0, counters, 4) for place in range(63)]
    changed.append(bits(seeds ^ -(2**63), 0, counters, 4))
    changed += [bits(seeds, 0, counters ^ (1 << place), 4) for place in range(40)]
    for other in changed:
        flipped = torch.stack([((before ^ other) >> place) & 1 for place in range(32)])
        rates = flipped.double().mean((1, 2))
        assert (rates - 0.5).abs().max() < BOUND * math.sqrt(0.25 / before.numel())


def test_masks_of_other_numbers_are_unrelated() -> None:
    noise = Noise(torch.arange(100), _table(*[(0.5, 1.0, 0.0)] * 4))
    drawn = [_units(noise, number, 20, 40) for number in range(4)]
    for one, other in itertools.combinations(drawn, 2):
        _unrelated(one, other, "two masks")
        _unrelated(one[1:], other[:-1], "two masks, one sequence apart")
        _unrelated(one[:, 1:], other[:, :-1], "two masks, one step apart")


def test_a_mask_once_a_row_is_unrelated_to_those_of_steps() -> None:
    noise = Noise(torch.arange(300), _table((0.5, 1.0, 0.0)))
    once = 2 * draw(noise, 0, 40, torch.float64) - 1
    for step in range(5):
        _unrelated(once, 2 * draw(noise, 0, 40, torch.float64, step) - 1, f"step {step}")


@pytest.mark.parametrize("base", [0, 1, 2**31, -50])
def test_folded_streams_are_unrelated(base: int) -> None:
    """Layers and directions fold the seeds of their rows, each with a number of its own."""
    seeds = base + torch.arange(100)
    streams = [seeds, *(fold(seeds, number) for number in range(4))]
    assert torch.cat(streams).unique().numel() == 500
    table = _table((0.5, 1.0, 0.0), (0.5, 1.0, 0.0))
    drawn = [_units(Noise(one, table), number, 20, 40) for one in streams for number in range(2)]
    for one, other in itertools.combinations(drawn, 2):
        _unrelated(one, other, "two streams")
        _unrelated(one[1:], other[:-1], "two streams, one sequence apart")
    again = fold(fold(seeds, 0), 0)
    _unrelated(_units(Noise(again, table), 0, 20, 40), drawn[2], "folded twice")


def test_no_two_rows_share_their_bits() -> None:
    """A hundred thousand rows, steps and numbers: no key meets another one."""
    seeds = torch.arange(1000)
    keys = []
    for number in range(4):
        for step in range(25):
            first, second = bits(seeds, number, torch.full_like(seeds, step), 2).unbind(1)
            keys.append(first << 32 | second)
    assert torch.cat(keys).unique().numel() == 100_000


def test_units_do_not_depend_on_how_many_there_are() -> None:
    noise = _ordinary(0.5)
    wide = draw(noise, 0, 100, torch.float32, 2)
    assert_same(draw(noise, 0, 7, torch.float32, 2), wide[:, :7])


def test_rows_draw_what_they_drew_in_the_batch() -> None:
    noise = Noise(torch.arange(6) * 11, _table((0.5, 1.0, 0.0)), torch.arange(6) * 3)
    index = torch.tensor([4, 0, 4, 5])
    for step in (None, 0, 9):
        whole = draw(noise, 0, 30, torch.float64, step)
        assert_same(draw(noise.rows(index), 0, 30, torch.float64, step), whole[index])
    without = Noise(noise.seeds, noise.table).rows(index)
    assert without.steps is None
    assert without.seeds.tolist() == [44, 0, 44, 55]


def test_steps_count_on() -> None:
    """Each row begins at its own step, so a sequence in chunks draws what it drew in one piece."""
    whole = Noise(torch.tensor([5, 6]), _table((0.5, 1.0, 0.0)))
    later = Noise(whole.seeds, whole.table, torch.tensor([10, 3]))
    for step in range(4):
        found = draw(later, 0, 30, torch.float32, step)
        assert_same(found[0], draw(whole, 0, 30, torch.float32, 10 + step)[0])
        assert_same(found[1], draw(whole, 0, 30, torch.float32, 3 + step)[1])
    assert_same(draw(later, 0, 30, torch.float32), draw(whole, 0, 30, torch.float32), "once a row")


def test_nothing_is_drawn_from_a_generator() -> None:
    state = torch.get_rng_state()
    first = draw(_ordinary(0.5), 0, 20, torch.float32, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert_same(draw(_ordinary(0.5), 0, 20, torch.float32, 1), first)

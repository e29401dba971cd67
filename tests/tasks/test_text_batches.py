"""Batches by length: the bound on padding always holds, and every sentence is there once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.data.text import LengthBatches, pad
from holdfast.errors import DataError

LENGTHS = st.lists(st.integers(0, 60), max_size=80)


@given(
    lengths=LENGTHS,
    sentences=st.none() | st.integers(1, 20),
    tokens=st.none() | st.integers(1, 200),
    padding=st.sampled_from([0.0, 0.05, 0.15, 1.0]),
    window=st.integers(1, 5),
    epoch=st.integers(0, 3),
    shuffle=st.booleans(),
)
def test_the_bound_always_holds(
    lengths: list[int],
    sentences: int | None,
    tokens: int | None,
    padding: float,
    window: int,
    epoch: int,
    shuffle: bool,
) -> None:
    if sentences is None and tokens is None:
        tokens = 100
    batches = LengthBatches(
        lengths, sentences, tokens, padding=padding, window=window, shuffle=shuffle
    )
    found = batches.epoch(epoch)
    assert sorted(number for batch in found for number in batch) == list(range(len(lengths)))
    for batch in found:
        sizes = [lengths[number] for number in batch]
        full = len(sizes) * max(sizes)
        assert len(sizes) >= 1
        assert full - sum(sizes) <= padding * full
        assert sentences is None or len(sizes) <= sentences
        assert tokens is None or full <= tokens or len(sizes) == 1
        assert batches.padding_of([batch]) <= padding + 1e-12


def test_seed_and_epoch_determine_everything() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 300).tolist()

    def order(seed: int, epoch: int) -> list[list[int]]:
        batches = LengthBatches(lengths, sentences=8, window=4, seed=seed)
        return [batch.tolist() for batch in batches.epoch(epoch)]

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_without_shuffling_the_longest_come_first() -> None:
    batches = LengthBatches([2, 9, 2, 9, 0], sentences=2, shuffle=False)
    assert [batch.tolist() for batch in batches.epoch(0)] == [[1, 3], [0, 2], [4]]
    assert batches.epoch(0)[0].tolist() == batches.epoch(7)[0].tolist()


def test_batches_are_full_where_lengths_allow_it() -> None:
    lengths = np.random.default_rng(0).integers(5, 40, 4000)
    batches = LengthBatches(lengths.tolist(), sentences=32)
    found = batches.epoch(0)
    assert len(found) <= 1.1 * 4000 / 32
    assert batches.padding_of(found) < 0.05
    assert batches.padding_of(np.split(np.arange(4000), 125)) > 0.35


def test_a_line_of_50000_tokens_is_alone() -> None:
    batches = LengthBatches([50_000, 10, 10], tokens=100)
    assert sorted(map(len, batches.epoch(0))) == [1, 2]


def test_nothing() -> None:
    batches = LengthBatches([], sentences=3)
    assert batches.epoch(0) == []
    assert batches.padding_of([]) == 0.0


@pytest.mark.parametrize(
    ("lengths", "options", "message"),
    [
        ([1], {}, "sentences=, tokens= or both"),
        ([1], {"sentences": 0}, "sentences should be at least 1, got 0"),
        ([1], {"tokens": 0}, "tokens should be at least 1"),
        ([1], {"tokens": 5, "window": 0}, "window should be"),
        ([1], {"tokens": 5, "padding": 1.5}, "padding should be a share"),
        ([-1], {"tokens": 5}, "a length should be at least 0, got -1"),
    ],
)
def test_what_is_refused(lengths: list[int], options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        LengthBatches(lengths, **options)


def test_rows_side_by_side() -> None:
    ids, lengths = pad([[1, 2, 3], [], [4]], value=9)
    assert ids.T.tolist() == [[1, 2, 3], [9, 9, 9], [4, 9, 9]]
    assert lengths.tolist() == [3, 0, 1]
    assert pad([[]])[0].shape == (1, 1)
    assert pad([])[0].shape == (1, 0)

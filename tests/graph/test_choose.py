"""The choice between keeping and computing again, beside every choice there is."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.compiler.choose import choose


def _price(
    kept: set[int], wanted: set[int], inputs: list[list[int]], keeping: list[int], again: list[int]
) -> int:
    """What a choice costs: what is kept, and what must be computed for all that is wanted."""
    total, done, stack = sum(keeping[n] for n in kept), set(kept), list(wanted)
    while stack:
        value = stack.pop()
        if value not in done:
            done.add(value)
            total += again[value]
            stack.extend(inputs[value])
    return total


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_choice_is_cheaper(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 7))
    inputs = [
        data.draw(st.lists(st.integers(0, n - 1), max_size=2, unique=True)) if n else []
        for n in range(count)
    ]
    prices = st.lists(st.integers(1, 30), min_size=count, max_size=count)
    keeping, again = data.draw(prices), data.draw(prices)
    wanted = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
    found = choose(
        range(count),
        wanted,
        inputs.__getitem__,
        keeping.__getitem__,
        again.__getitem__,
    )
    every = itertools.chain.from_iterable(
        itertools.combinations(range(count), size) for size in range(count + 1)
    )
    best = min(_price(set(one), wanted, inputs, keeping, again) for one in every)
    assert _price(found, wanted, inputs, keeping, again) == best


def test_what_nobody_wants_is_not_kept() -> None:
    assert choose("ab", "a", lambda value: [], lambda value: 1, lambda value: 9) == {"a"}
    assert choose("ab", "", lambda value: [], lambda value: 1, lambda value: 9) == set()

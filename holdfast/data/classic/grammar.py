"""Strings of grammars: embedded Reber, its endless concatenation, counting languages.

>>> legal_after("BTBTSXSET")
'E'
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from holdfast.data.classic.batches import Steps, alive, as_generator, at_least

REBER = "BTPSXVE"
"""The seven symbols, in the order of inputs and targets."""

_EDGES: dict[int, dict[str, int]] = {
    0: {"B": 1},
    1: {"T": 2, "P": 3},
    2: {"S": 2, "X": 4},
    3: {"T": 3, "V": 5},
    4: {"X": 3, "S": 6},
    5: {"P": 4, "V": 6},
    6: {"E": 7},
}
"""Reber's grammar: from a node, by a symbol, to a node."""

_INNER = 2


def embedded_reber(generator: torch.Generator | int) -> str:
    """One string of the embedded grammar; of two edges each is taken with probability 1/2.

    >>> embedded_reber(0)
    'BTBPTVVETE'

    The second symbol comes again as the last but one; at least 9 symbols.
    """
    generator = as_generator(generator)
    outer = "TP"[int(torch.randint(2, (), generator=generator))]
    inner, node = "", 0
    while node in _EDGES:
        edges = list(_EDGES[node])
        # The draw is made where there is nothing to choose, too: one number for each symbol.
        symbol = edges[int(torch.randint(2, (), generator=generator)) % len(edges)]
        inner += symbol
        node = _EDGES[node][symbol]
    return f"B{outer}{inner}{outer}E"


def embedded_reber_sets(
    generator: torch.Generator | int, train: int = 256, test: int = 256, distinct: bool = False
) -> tuple[list[str], list[str]]:
    """Random strings to train on, and others to test on, none of which is a training string.

    >>> train, test = embedded_reber_sets(0)
    >>> len(train), len(test), {*train} & {*test}
    (256, 256, set())

    Within a set short strings come up often; `distinct` leaves repetitions out, which makes the
    training strings longer and the task harder.
    Source: Hochreiter & Schmidhuber 1997, experiment 1.
    """
    generator = as_generator(generator)
    at_least(0, train=train, test=test)
    sets: tuple[list[str], list[str]] = ([], [])
    for strings, wanted, others in ((sets[0], train, sets[1]), (sets[1], test, sets[0])):
        barred = {*others}
        while len(strings) < wanted:
            string = embedded_reber(generator)
            if string not in barred:
                strings.append(string)
                barred |= {string} if distinct else set()
    return sets


def legal_after(prefix: str) -> str:
    """The symbols that may come after the beginning of an embedded string.

    >>> legal_after(""), legal_after("BT"), legal_after("BTBP"), legal_after("BTBTXSETE")
    ('B', 'B', 'TV', '')

    Errors: `ValueError` where no embedded string begins so.
    """
    node, outer, state = 0, "", 0
    for place, symbol in enumerate(prefix):
        if symbol not in _legal(state, node, outer):
            raise ValueError(
                f"no string of the embedded grammar begins with {prefix[: place + 1]!r}; "
                f"after {prefix[:place]!r} comes one of {_legal(state, node, outer)!r}"
            )
        if state == 1:
            outer = symbol
        if state == _INNER:
            node = _EDGES[node][symbol]
        if state != _INNER or node not in _EDGES:
            state += 1
    return _legal(state, node, outer)


def _legal(state: int, node: int, outer: str) -> str:
    """What may come: 0 before B, 1 before T or P, 2 inside, 3 before its repetition, 4 before E."""
    return "".join(_EDGES[node]) if state == _INNER else ("B", "TP", "", outer, "E", "")[state]


def reber_steps(strings: Sequence[str]) -> Steps:
    """Embedded strings as sequences; at each step the target is the set of legal next symbols.

    >>> x, target, lengths, mask = reber_steps(["BTBTXSETE", "BPBPVVEPE"])
    >>> tuple(x.shape), tuple(target.shape), lengths.tolist(), mask.all().item()
    ((8, 2, 7), (8, 2, 7), [8, 8], True)
    >>> [REBER[k] for k in target[2, 0].nonzero().flatten().tolist()]
    ['T', 'P']

    The last symbol E is never an input, for nothing comes after it. The symbol that does come next
    is `x[1:]`, and E at the last step; x and target `[T, B, 7]`.
    """
    lengths = torch.tensor([len(string) - 1 for string in strings], dtype=torch.int64)
    steps = int(lengths.max()) if strings else 0
    x = torch.zeros(steps, len(strings), len(REBER))
    target = torch.zeros(steps, len(strings), len(REBER))
    for row, string in enumerate(strings):
        _write(x[:, row], string[:-1])
        _write(target[:, row], _legal_along(string))
    return Steps(x, target, lengths, alive(lengths, steps))


def _write(row: Tensor, sets: Iterable[str]) -> None:
    """Put a 1 at every symbol of the set of each step; `row` is `[T, 7]`."""
    vectors = [[float(symbol in one) for symbol in REBER] for one in sets]
    row[: len(vectors)] = torch.tensor(vectors)


def _legal_along(string: str) -> list[str]:
    """What is legal after each symbol of a whole string but its last."""
    outer, inner = string[1], string[2:-2]
    node, legal = 0, ["TP", "B"]
    for symbol in inner:
        node = _EDGES[node][symbol]
        legal.append("".join(_EDGES.get(node, outer)))
    return [*legal, "E"]


def continual_reber(steps: int, batch: int, generator: torch.Generator | int) -> Steps:
    """Endless streams of embedded strings, one after the other with nothing between them.

    >>> x, target, lengths, mask = continual_reber(100, batch=4, generator=0)
    >>> tuple(x.shape), tuple(target.shape), lengths.tolist()
    ((100, 4, 7), (100, 4, 7), [100, 100, 100, 100])

    The targets are the legal next symbols: after the E of a string the B of the next one.
    Source: Gers, Schmidhuber & Cummins 2000, section 3 (CERG).
    """
    generator = as_generator(generator)
    at_least(1, steps=steps, batch=batch)
    x = torch.zeros(steps, batch, len(REBER))
    target = torch.zeros(steps, batch, len(REBER))
    for row in range(batch):
        stream, legal = "", []
        while len(stream) < steps:
            string = embedded_reber(generator)
            stream += string
            legal += [*_legal_along(string), "B"]
        _write(x[:, row], stream[:steps])
        _write(target[:, row], legal[:steps])
    lengths = torch.full((batch,), steps, dtype=torch.int64)
    return Steps(x, target, lengths, alive(lengths, steps))


def counting(ns: Iterable[int], letters: int = 2) -> Steps:
    """The strings a^n b^n (2 letters) or a^n b^n c^n (3) for each n, with the legal next symbols.

    >>> x, target, lengths, mask = counting([1, 2])
    >>> tuple(x.shape), lengths.tolist()
    ((5, 2, 3), [3, 5])
    >>> x[:, 1].argmax(1).tolist()  # S a a b b
    [0, 1, 1, 2, 2]
    >>> target[:, 1].int().tolist()  # T a b: after S a; after a both a and b; after the last b T
    [[0, 1, 0], [0, 1, 1], [0, 1, 1], [0, 0, 1], [1, 0, 0]]

    Inputs are the start S and the letters, targets the end T and the letters: x and target
    `[T, B, letters + 1]` with T = letters * n + 1.
    Source: Gers & Schmidhuber 2001, "LSTM recurrent networks learn simple context-free and
    context-sensitive languages". n = 0 is left out.
    """
    counts = torch.tensor(list(ns), dtype=torch.int64)
    at_least(2, letters=letters)
    at_least(1, n=int(counts.min()) if len(counts) else 1)
    lengths = letters * counts + 1
    steps = int(lengths.max()) if len(counts) else 0
    step = torch.arange(steps).unsqueeze(1)
    mask = alive(lengths, steps)
    letter = torch.where(step > 0, (step - 1) // counts + 1, 0)  # [T, B]: 0 for S, then 1, 2, ...
    x = (letter.unsqueeze(2) == torch.arange(letters + 1)) & mask.unsqueeze(2)
    return Steps(x.float(), _legal_counts(step, counts, letters, mask), lengths, mask)


def _legal_counts(step: Tensor, counts: Tensor, letters: int, mask: Tensor) -> Tensor:
    target = torch.zeros(*mask.shape, letters + 1)
    target[..., 1] = step <= counts
    # How many a there are is not known before the first b: until then both are legal.
    target[..., 2] = (step > 0) & (step < 2 * counts)
    for letter in range(2, letters + 1):
        target[..., (letter + 1) % (letters + 1)] += step == letter * counts
        if letter > 2:
            target[..., letter] += (step > (letter - 1) * counts) & (step < letter * counts)
    return target * mask.unsqueeze(2)

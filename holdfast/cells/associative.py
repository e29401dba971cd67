"""A memory of complex numbers in which keys find values, kept in several shuffled copies."""

from __future__ import annotations

from typing import Any

from holdfast.compiler.cell import Cell, cell
from holdfast.compiler.ops import maximum, real, sigmoid, sqrt, square, turn
from holdfast.compiler.tie import permuted, shared


def _bound(z: Any) -> Any:
    """Complex numbers in pairs of units, with a modulus of 1 at most."""
    return z / sqrt(maximum(square(z) + square(turn(z)), 1.0))


def _times(z: Any, w: Any) -> Any:
    """Complex products, pair by pair."""
    first, second = real(z), real(turn(z))
    return (first + turn(first)) * w - (second + turn(second)) * turn(w)


_FIRST = 7
"""Before the first seed. The seeds 1 and 2 leave up to four and two pairs in their order."""


def associative_lstm(copies: int) -> Cell:
    """The associative LSTM with so many copies of its memory.

    >>> associative_lstm(3).states
    ('c_0', 'c_1', 'c_2')
    """
    ties = dict.fromkeys("ifo", shared(2))
    for kind in ("w", "r"):
        ties |= {
            f"{kind}_{n}": permuted(f"{kind}_0", _FIRST + n, width=2) for n in range(1, copies)
        }

    @cell(gates=f"i f o u w*{copies} r*{copies}", state=f"c*{copies}", ties=ties)
    def associative(i, f, o, u, w, r, c):
        """Associative LSTM, two copies: Danihelka, Wayne, Uria, Kalchbrenner & Graves 2016.

        Units are pairs, complex numbers; i, f and o have one value a pair. w and r are the keys of
        writing and reading, P_s shuffles pairs in copy s (P_0 not at all):
        c_s = f * c_s_prev + P_s bound(w) x (i * bound(u))
        h = o * bound(mean over s of P_s bound(r) x c_s)
        bound(z) = z / max(1, |z|); x is the complex product.

        H must be even.

        Parameters: 9 (I H + H^2 + H) / 2
        """
        value = sigmoid(i) * _bound(u)
        pairs = zip(w, c, strict=True)
        new = [sigmoid(f) * old + _times(_bound(key), value) for key, old in pairs]
        found = sum(_times(_bound(key), memory) for key, memory in zip(r, new, strict=True))
        return sigmoid(o) * _bound(found / copies), new

    return associative


associative = associative_lstm(2)

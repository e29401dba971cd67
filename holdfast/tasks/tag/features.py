"""Hand-made features of tokens as numbers: what the spelling shows, and n-grams around a token.

A feature is a hash of 64 bits. Those that training has seen often enough are kept, sorted, and a
feature's number is its place among them; 0 stands for every other.

Source: Huang, Xu & Yu 2015, section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from holdfast.tasks.tag.words import Forms, hashed, spelling

KINDS = ("spelling", "words", "inputs")
UNIGRAMS = ((-2,), (-1,), (0,), (1,), (2,))
BIGRAMS = ((-1, 0), (0, 1))
MORE_BIGRAMS = ((-2, -1), (-1, 0), (0, 1), (1, 2))
TRIGRAMS = ((-2, -1, 0), (-1, 0, 1), (0, 1, 2))
WINDOWS = {"words": (*UNIGRAMS, *BIGRAMS), "inputs": (*UNIGRAMS, *MORE_BIGRAMS, *TRIGRAMS)}
"""Which tokens around one make a feature together: of words, and of further columns."""

REACH = 2


def spelling_keys(forms: Forms) -> np.ndarray:
    """The hashes of what the spelling of each word shows, `[F, S]` uint64, 0 behind them."""
    rows = [[hashed(text) for text in spelling(name)] for name in forms.names]
    found = np.zeros((len(rows), max([1, *map(len, rows)])), np.uint64)
    for row, keys in zip(found, rows, strict=True):
        row[: len(keys)] = keys
    return found


def context_keys(columns: dict[str, np.ndarray], starts: np.ndarray) -> np.ndarray:
    """The hashes of n-grams around each token, `[N, X]` uint64.

    Arguments:
        columns: by name the hash of every token, `[N]`; `""` is the one of the words.
        starts: where sentences begin, `[S + 1]`.
    """
    lengths = np.diff(starts)
    count = int(starts[-1])
    place = np.arange(count) - np.repeat(starts[:-1], lengths)
    length = np.repeat(lengths, lengths)
    found = []
    for name, column in columns.items():
        windows = WINDOWS["inputs" if name else "words"]
        shifted = {step: _shift(column, place, length, step) for step in range(-REACH, REACH + 1)}
        for window in windows:
            key = np.full(count, hashed(f"{name}{window}"), np.uint64)
            for step in window:
                key = mix(key, shifted[step])
            found.append(key)
    return np.stack(found, 1) if found else np.zeros((count, 0), np.uint64)


def _shift(column: np.ndarray, place: np.ndarray, length: np.ndarray, step: int) -> np.ndarray:
    """What stands so many tokens after each, and beyond a sentence how far beyond it is."""
    at = place + step
    inside = (at >= 0) & (at < length)
    there = np.where(inside, np.arange(len(column)) + step, 0)
    beyond = np.where(at < 0, -at, at - length + 1 + REACH).astype(np.uint64)
    return np.where(inside, column[there], beyond)


def mix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One hash of two, in which their order counts."""
    with np.errstate(over="ignore"):
        x = a * np.uint64(0x9E3779B97F4A7C15) + b
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def frequent(keys: Sequence[tuple[np.ndarray, np.ndarray | None]], least: int) -> np.ndarray:
    """The keys that occur at least so often, sorted, `[M]`.

    Arguments:
        keys: arrays of keys, each with how often its rows occur, or None for once.
    """
    kept = []
    for found, times in keys:
        weights = None if times is None else np.repeat(times, found.shape[1])
        distinct, at, counts = np.unique(found.ravel(), return_inverse=True, return_counts=True)
        if weights is not None:
            counts = np.bincount(at.ravel(), weights, len(distinct))
        kept.append(distinct[(counts >= least) & (distinct != 0)])
    return np.unique(np.concatenate(kept)) if kept else np.zeros(0, np.uint64)


def numbers_of(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The numbers of features, from 1, in the shape of their keys; 0 for what is not known."""
    if not len(known):
        return np.zeros(keys.shape, np.int64)
    at = np.searchsorted(known, keys)
    at[at == len(known)] = 0
    return np.where(known[at] == keys, at + 1, 0)

"""Small sentences with chunks, and settings with which a tagger learns them in a moment."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

SMALL: dict[str, Any] = {
    "hidden_size": 8,
    "word_size": 8,
    "characters": None,
    "batch_size": 8,
    "max_epochs": 4,
    "averaging": 0.0,
    "dropout": 0.1,
    "learning_rate": 0.03,
}
NOUNS = ("dog", "cat", "tree", "house", "river")
VERBS = ("sees", "likes", "finds")
ADJECTIVES = ("old", "Big", "small2")


def sentences(count: int = 40, seed: int = 0) -> list[tuple[list[str], list[str], list[str]]]:
    """Words, parts of speech and chunks in BIO of made-up sentences."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        words, pos, chunks = [], [], []
        for side in range(2):
            phrase = ["the", *draw.sample(ADJECTIVES, draw.randrange(3)), draw.choice(NOUNS)]
            words += phrase
            pos += ["DT", *["JJ"] * (len(phrase) - 2), "NN"]
            chunks += ["B-NP", *["I-NP"] * (len(phrase) - 1)]
            if side == 0:
                words.append(draw.choice(VERBS))
                pos.append("VB")
                chunks.append("B-VP")
        words.append(".")
        pos.append(".")
        chunks.append("O")
        found.append((words, pos, chunks))
    return found


def columns(count: int = 40, seed: int = 0) -> dict[str, list[list[str]]]:
    """The same as a mapping of columns."""
    made = sentences(count, seed)
    names = ("word", "pos", "chunk")
    return {name: [row[at] for row in made] for at, name in enumerate(names)}


def conll(path: Path, count: int = 40, seed: int = 0) -> str:
    """The same as a file with a token a line; its path."""
    made = sentences(count, seed)
    path.write_text(
        "\n".join("".join(f"{w} {p} {c}\n" for w, p, c in zip(*row, strict=True)) for row in made)
    )
    return str(path)

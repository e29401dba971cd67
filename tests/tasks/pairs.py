"""Small pairs of texts for the tests of the translator: words of six letters, backwards."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from holdfast.tasks import Translator

TINY: dict[str, Any] = {
    "level": "characters",
    "embedding_size": 8,
    "hidden_size": 16,
    "dropout": 0.1,
    "batch_size": 16,
    "max_epochs": 2,
}


def backwards(count: int = 60, seed: int = 0) -> tuple[list[str], list[str]]:
    """Sources and targets."""
    random_ = random.Random(seed)
    sources = ["".join(random_.choices("abcdef", k=random_.randint(1, 5))) for _ in range(count)]
    return sources, [source[::-1] for source in sources]


def sentences(count: int = 60, seed: int = 0) -> tuple[list[str], list[str]]:
    """Short sentences with a rare name in each tenth, and the same in capital letters."""
    random_ = random.Random(seed)
    words = ["red", "green", "cat", "dog", "runs", "sees", "a", "the"]
    sources = [" ".join(random_.choices(words, k=random_.randint(2, 5))) for _ in range(count)]
    sources = [f"{s} nn{n}" if n % 10 == 0 else s for n, s in enumerate(sources)]
    return sources, [source.upper() for source in sources]


def tiny(**changes: Any) -> Translator:
    """A translator, trained for a moment."""
    return Translator(**{**TINY, **changes}).fit(*backwards())


def write_pairs(folder: Path, name: str, count: int = 60, seed: int = 0) -> tuple[str, str]:
    """Two files with a text a line; their paths."""
    paths = folder / f"{name}.src", folder / f"{name}.tgt"
    for path, texts in zip(paths, backwards(count, seed), strict=True):
        path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return str(paths[0]), str(paths[1])

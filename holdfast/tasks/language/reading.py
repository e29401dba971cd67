"""Texts from files, folders, strings and lists: a part to train on, and one to watch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.data.text.lines import read_lines
from holdfast.errors import DataError

LONGEST_PATH = 1000
PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Text:
    """A text and what it is called in messages."""

    text: str
    name: str

    @property
    def is_file(self) -> bool:
        """Whether the name is that of a file."""
        return not self.name.startswith("the ")


@dataclass(frozen=True)
class Parts:
    """What is trained on, what is watched meanwhile, and whether both came from a folder."""

    train: Text
    valid: Text
    folder: bool = False


def read_text(X: Any, encoding: str = "utf-8") -> Text:
    """The text that `X` holds, or is the path of.

    >>> read_text(["one", "two"]).text
    'one\\ntwo\\n'

    A string with a line end in it, or of more than 1000 characters, is a text; any other string is
    a path, as is every `Path`. A list holds texts, which follow each other line by line. Lines end
    with one character, ``\\n``, whatever they end with in the file; the last one ends, too.

    Errors: `DataError` for a file that is not there, is empty, or is in another encoding.
    """
    if isinstance(X, Text):
        return X
    path = _as_path(X)
    if path is not None:
        return _read_file(path, encoding)
    if isinstance(X, str):
        return _filled(_ended(X.split("\n")), "the text")
    if isinstance(X, Iterable) and not isinstance(X, (bytes, bytearray)):
        texts = list(X)
        for place, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(
                    f"text {place + 1} of the list is a {type(text).__name__}, expected a str"
                )
        return _filled(_ended("\n".join(texts).split("\n")), "the list of texts")
    raise DataError(
        f"got a {type(X).__name__}, expected the path of a text file, a text, or a list of texts"
    )


def read_parts(X: Any, share: float, encoding: str = "utf-8", valid: Any = None) -> Parts:
    """The text to train on and the one to watch: `valid`, a folder's, or the last `share` of X.

    Errors: as `read_text`; `DataError` for a folder without its files.
    """
    path = _as_path(X)
    if path is not None and _is(path, Path.is_dir):
        if valid is not None:
            raise DataError(f"{X}: the folder has a valid.txt; leave out valid")
        return Parts(*(read_part(path, part, encoding) for part in PARTS[:2]), folder=True)
    whole = read_text(X, encoding)
    if valid is not None:
        return Parts(whole, read_text(valid, encoding))
    at = round(len(whole.text) * (1 - share))
    if not 0 < at < len(whole.text):
        raise DataError(
            f"{whole.name}: {len(whole.text)} characters are too few to keep a share of {share:g} "
            "of them to watch; give more text"
        )
    return Parts(
        Text(whole.text[:at], whole.name), Text(whole.text[at:], f"the end of {whole.name}")
    )


def read_part(folder: str | os.PathLike[str], part: str, encoding: str = "utf-8") -> Text:
    """One of the three texts of a folder in Penn Treebank form."""
    file = Path(folder) / f"{part}.txt"
    if not file.is_file():
        wanted = ", ".join(f"{name}.txt" for name in PARTS)
        raise DataError(
            f"{folder}: there is no {file.name} in this folder, expected {wanted}; give the text "
            "to train on as one file to have its end watched instead"
        )
    return _read_file(file, encoding)


def _as_path(X: Any) -> Path | None:
    """What X is the path of, if it is one."""
    if isinstance(X, str) and ("\n" in X or len(X) > LONGEST_PATH):
        return None
    return Path(X) if isinstance(X, (str, os.PathLike)) else None


def _is(path: Path, what: Callable[[Path], bool]) -> bool:
    """Whether there is such a thing; a name too long for the system is that of nothing."""
    try:
        return what(path)
    except OSError:
        return False


def _read_file(path: Path, encoding: str) -> Text:
    if _is(path, Path.is_dir):
        return read_part(path, "test", encoding)
    if not _is(path, Path.exists):
        raise DataError(
            f"{path}: there is no such file; check the path, or give a text of one line as a list"
        )
    return _filled(_ended(read_lines(path, encoding=encoding)), str(path))


def _ended(lines: Sequence[str]) -> str:
    """Lines as a text in which each of them ends."""
    if lines and not lines[-1]:
        lines = lines[:-1]
    return "".join(f"{line.removesuffix(chr(13))}\n" for line in lines)


def _filled(text: str, name: str) -> Text:
    if not text.strip():
        raise DataError(f"{name}: there is no text in it; give one with words")
    return Text(text, name)

"""Every exception Holdfast raises on purpose: what was got, what was expected, what to do.

HoldfastError
├── CellError          a cell definition the language cannot say; names the user's line
├── BuildError         a kernel that could not be emitted or assembled
├── DataError          a table, column, row or series that cannot be used     (a ValueError too)
├── ModelError         a model folder that cannot be read or written          (a ValueError too)
└── MissingExtraError  an optional library that is not installed              (an ImportError too)

HoldfastWarning        something works, but not as the user may expect
├── CacheWarning       the kernel cache on disk is not used, and why
├── BaselineWarning    a simple forecast is at least as good as the model
├── TransferWarning    a part of a model did not fit into the one that goes on from it
├── RareLabelWarning   a class has too few examples to be measured
├── DiagnosisWarning   a layer's gradients vanish or explode, and what helps
├── ShortHistoryWarning  a forecast rests on fewer rows than its window, or a series did not train
└── LongTextWarning    a text is longer than a model reads
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


class HoldfastError(Exception):
    """Catch everything Holdfast raises on purpose."""


class HoldfastWarning(UserWarning):
    """Filter everything Holdfast warns about."""


class CacheWarning(HoldfastWarning):
    """The kernel cache on disk is not used; the message says why and what to do."""


class BaselineWarning(HoldfastWarning):
    """A simple forecast is at least as good as a model's; the message says which, and by what."""


class TransferWarning(HoldfastWarning):
    """Some weights of a model could not be taken over; the message names them."""


class RareLabelWarning(HoldfastWarning):
    """A class has fewer than two examples, so that nothing can be said of how well it is told."""


class DiagnosisWarning(HoldfastWarning):
    """A layer's gradients vanish or explode; the message says where and what to do."""


class ShortHistoryWarning(HoldfastWarning):
    """A forecast rests on fewer rows than its window, or a series was too short to train on."""


class LongTextWarning(HoldfastWarning):
    """A text is longer than a model reads; the message says which, and what becomes of it."""


@dataclass(frozen=True)
class Place:
    """Where in the user's source something was written: file, line, columns and the line's text.

    Columns count from 0 in UTF-8 bytes, as in Python's own tracebacks.

    >>> str(Place("peephole.py", 7))
    'peephole.py:7'
    """

    file: str
    line: int
    column: int | None = None
    end_column: int | None = None
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    def excerpt(self) -> str:
        """The source line with a caret under the expression, or nothing when there is no source."""
        if not self.text:
            return ""
        stripped = self.text.lstrip()
        shown = f"\n    {stripped}"
        if self.column is None:
            return shown
        indent = len(self.text) - len(stripped)
        start = max(0, self._characters(self.column) - indent)
        width = self._characters(self.end_column or self.column + 1) - start - indent
        width = max(1, width)
        return f"{shown}\n    {' ' * start}{'^' * min(width, max(1, len(stripped) - start))}"

    def _characters(self, column: int) -> int:
        """Python counts columns in bytes; a caret stands under characters."""
        return len(self.text.encode()[:column].decode(errors="ignore"))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known names that are most like an unknown one, in a question; nothing if none is.

    >>> did_you_mean("lsmt", ["gru", "lstm", "slstm"])
    ' (did you mean lstm or slstm?)'
    >>> did_you_mean("conv", ["gru", "lstm"])
    ''
    """
    close = get_close_matches(name.lower(), known)
    if not close:
        return ""
    *others, last = close
    return f" (did you mean {', '.join(others)}{' or ' if others else ''}{last}?)"


class CellError(HoldfastError):
    """A cell definition was refused; the message names the user's file and line and a remedy."""

    def __init__(self, message: str, place: Place | None = None) -> None:
        self.place = place
        super().__init__(f"{place}: {message}{place.excerpt()}" if place else message)


class BuildError(HoldfastError):
    """A kernel could not be emitted or assembled for the processor that was asked for."""


class UnpreparedError(HoldfastError):
    """What is not prepared as one program or pass, with the reason; the general way runs it."""


class TuneError(HoldfastError, ValueError):
    """A layer whose kernels cannot be measured."""


class DataError(HoldfastError, ValueError):
    """The user's data cannot be used as it is; the message names the file, column or row."""


class ModelError(HoldfastError, ValueError):
    """A model folder cannot be read or written; the message names the file and what to do."""


class MissingExtraError(HoldfastError, ImportError):
    """An optional library is missing; the message names the extra that brings it.

    >>> raise MissingExtraError("forecast", "polars")
    Traceback (most recent call last):
    holdfast.errors.MissingExtraError: polars is not installed; ...
    """

    def __init__(self, extra: str, package: str) -> None:
        self.extra = extra
        self.package = package
        super().__init__(
            f'{package} is not installed; run: pip install "holdfast[{extra}]"', name=package
        )

"""What every verb's parser shares: refusals of one line, and the kinds of values.

>>> counts("24,168")
(24, 168)
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, NoReturn

from holdfast.errors import did_you_mean

REFUSED = 2


class Parser(argparse.ArgumentParser):
    """A parser that refuses in one line, with a guess at what was meant."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        """Say what is wrong on one line and leave with exit status 2."""
        print(f"holdfast: error: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(REFUSED)

    # The overloads of argparse say the same in four ways.
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Refuse options that this verb does not have, naming the nearest one."""
        known, rest = super().parse_known_args(args, namespace)
        wrong = [word for word in rest if word.startswith("-")]
        if wrong:
            option = wrong[0].partition("=")[0]
            names = [name for name in self._option_string_actions if name.startswith("--")]
            self.error(f"{option} is no option here{did_you_mean(option, names)}")
        return known, rest


def count(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 1 on")
    return int(text)


def whole(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number") from None


def number(text: str) -> float:
    """A number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number") from None


def decay(text: str) -> float | str:
    """A number, or the word ``triggered`` or ``mean``."""
    return text if text in ("triggered", "mean") else number(text)


def share_or_rows(text: str) -> float | int:
    """A share below 1, or a whole number of rows.

    >>> share_or_rows("0.2"), share_or_rows("48")
    (0.2, 48)
    """
    return int(text) if text.isdecimal() and int(text) else number(text)


def number_or_word(text: str) -> float | str:
    """A number, or a word as it is.

    >>> number_or_word("0.3"), number_or_word("best")
    (0.3, 'best')
    """
    try:
        return float(text)
    except ValueError:
        return text


def names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers from 1 on with commas between them."""
    return tuple(count(name) for name in names(text))


def numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    return tuple(number(name) for name in names(text))


def pair(text: str) -> tuple[str, Any]:
    """``KEY=VALUE``; the value is read as JSON where it is some, else as text.

    >>> pair("segment=24"), pair("score=dot"), pair("calendar=false")
    (('segment', 24), ('score', 'dot'), ('calendar', False))
    """
    key, sign, value = text.partition("=")
    if not key or not sign:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected KEY=VALUE")
    if value.lower() in ("true", "false"):
        value = value.lower()
    try:
        return key.replace("-", "_"), json.loads(value)
    except ValueError:
        return key.replace("-", "_"), value

"""What the commands of every task share: suffixes, warnings that are kept, interruptions."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from holdfast.errors import DataError, HoldfastWarning
from holdfast.tasks.attempt import Attempt

INTERRUPTED = 130
NOTHING_LEFT = "{}: the training is finished; nothing to resume"


def check_suffix(path: str | None, option: str, known: tuple[str, ...]) -> None:
    """Refuse, before anything is computed, a file of a kind that is not written."""
    if path is not None and Path(path).suffix.lower() not in known:
        raise DataError(f"{option} {path}: expected a name that ends in {' or '.join(known)}")


def uninterrupted(attempt: Attempt, train: Callable[[], Any]) -> bool:
    """Train; False where the user interrupted it, who is told how to go on."""
    try:
        train()
    except KeyboardInterrupt:
        hint = "; run the same command with --resume to go on" if attempt.begun() else ""
        print(f"holdfast: interrupted{hint}", file=sys.stderr)
        return False
    return True


@contextmanager
def kept_warnings() -> Iterator[list[str]]:
    """What Holdfast warns about within the block: said as ever, and kept as a list of texts."""
    kept: list[str] = []
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, HoldfastWarning):
                kept.append(str(message))
            usual(message, category, *place, **more)

        warnings.showwarning = show
        yield kept

"""A compiler that remembers nothing, for tests of what it builds and where it keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from holdfast.compiler import build, cache
from holdfast.compiler.emit.target import Target


def forget(patch: pytest.MonkeyPatch) -> None:
    """Empty what the compiler keeps in memory, so that the next kernel comes from disk or is built.

    Call it again after the test; `fresh` does.
    """
    patch.setattr(build, "_kernels", {})
    for value in list(vars(build).values()):
        if getattr(value, "__module__", "") == build.__name__ and hasattr(value, "cache_clear"):
            value.cache_clear()


@contextmanager
def fresh(folder: Path | str, target: Target | None = None) -> Iterator[pytest.MonkeyPatch]:
    """A compiler without memory whose entries lie in `folder`, for `target` in the host's place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLDFAST_CACHE_DIR", str(folder))
        patch.setattr(cache, "_warned", set())
        if target is not None:
            patch.setattr(build, "host", lambda: target)
        forget(patch)
        yield patch
        forget(patch)

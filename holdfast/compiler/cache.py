"""Machine code on disk: checked on reading, written whole or not at all, refused where unsafe.

An entry is one object file behind a digest of its content; a damaged one counts as missing and is
built again. Entries are written to a temporary name and renamed, so processes that build the same
kernel at once do not disturb each other. A folder that other users can write to is refused: its
content would run as the user's own code.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
import time
import warnings
from functools import cache
from pathlib import Path

from holdfast.errors import CacheWarning

_MAGIC = b"holdfast 1\n"
_MOST_ENTRIES = 2000
_STALE = 3600.0
"""Seconds after which a temporary file belongs to nobody."""
_warned: set[str] = set()


def folder() -> Path | None:
    """The folder of the kernel cache, made if need be; None where it must not be used.

    `HOLDFAST_CACHE_DIR` names another folder; empty, it turns the cache on disk off.
    """
    named = os.environ.get("HOLDFAST_CACHE_DIR")
    if named == "":
        return None
    path = Path(named) if named else _default()
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        problem = unsafe(path)
    except OSError as error:
        problem = f"it cannot be made: {error.strerror}"
    if problem:
        _warn(
            f"kernels are not cached in {path}, because {problem}; they are compiled again in each "
            "process. Name another folder in HOLDFAST_CACHE_DIR, or set it to nothing"
        )
        return None
    return path


def unsafe(path: Path) -> str:
    """Why code in a folder cannot be trusted; empty where it can."""
    if sys.platform == "win32":
        return ""
    status = path.stat()
    if status.st_uid != os.geteuid():
        return f"it belongs to user {status.st_uid}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others can write to it (mode {stat.S_IMODE(status.st_mode):o}; run chmod 700)"
    return ""


def read(key: str) -> bytes | None:
    """The object code of a kernel, or None where there is none or it is damaged."""
    path = folder()
    if path is None:
        return None
    try:
        content = (path / f"{key}.o").read_bytes()
    except OSError:
        return None
    head = len(_MAGIC) + 32
    code = content[head:]
    whole = (
        content.startswith(_MAGIC) and hashlib.sha256(code).digest() == content[len(_MAGIC) : head]
    )
    return code if whole else None


def write(key: str, code: bytes) -> None:
    """Keep the object code of a kernel; a disk that cannot take it is a warning, not an error."""
    path = folder()
    if path is None:
        return
    name = None
    try:
        with tempfile.NamedTemporaryFile(dir=path, prefix=f".{key[:16]}-", delete=False) as file:
            name = file.name
            file.write(_MAGIC + hashlib.sha256(code).digest() + code)
        os.replace(name, path / f"{key}.o")
        _prune(path)
    except OSError as error:
        if name:
            Path(name).unlink(missing_ok=True)
        _warn(
            f"a kernel could not be cached in {path}: {error.strerror}; it will be compiled again"
        )


def _prune(path: Path) -> None:
    """Drop the oldest entries when there are too many, and what killed writers left behind."""
    entries = _aged(path, "*.o")
    if len(entries) > _MOST_ENTRIES:
        for _, entry in entries[: len(entries) // 4]:
            entry.unlink(missing_ok=True)
    for age, left in _aged(path, ".*-*"):
        if time.time() - age > _STALE:
            left.unlink(missing_ok=True)


def _aged(path: Path, pattern: str) -> list[tuple[float, Path]]:
    """Files with the time they were written, oldest first; another process may drop some."""
    found: list[tuple[float, Path]] = []
    for entry in path.glob(pattern):
        with contextlib.suppress(FileNotFoundError):
            found.append((entry.stat().st_mtime, entry))
    return sorted(found)


@cache
def emitter_digest() -> str:
    """A digest of the compiler's own source: other emitters, other code."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for source in sorted([*here.glob("*.py"), *(here / "emit").glob("*.py")]):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _default() -> Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home())
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "holdfast"


def _warn(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, CacheWarning, stacklevel=2)

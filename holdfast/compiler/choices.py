"""Tiles that were measured to be the fastest on this machine, remembered from process to process.

A tile says how many rows and vectors of units a kernel accumulates together. It changes no bit of
any result: each number is summed in the same order. So a choice may differ from machine to machine,
and may change between two runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from holdfast.compiler import cache as disk
from holdfast.compiler.emit.llvm_loops import Tile

FILE = "tiles.json"
"""The name of the file in the folder of the kernel cache."""

SWITCH = "HOLDFAST_TILES"
"""The variable that, set to `default`, leaves what is remembered aside."""

_MOST_ROWS = 14

_lock = threading.Lock()
_loaded: dict[Path, dict[str, Choice]] = {}
_forced: dict[str, tuple[int, int]] = {}


@dataclass(frozen=True)
class Choice:
    """A remembered tile, with the seconds that it and the default took."""

    rows: int
    vectors: int
    seconds: float
    default_seconds: float
    shape: str
    """What was measured, such as `B32-T100-I32-H128`."""

    @property
    def reason(self) -> str:
        """Why this tile."""
        gain = 100.0 * (1.0 - self.seconds / self.default_seconds)
        return (
            f"{self.rows} rows by {self.vectors} vectors, measured at {self.shape}: "
            f"{gain:.1f} % less time than the default"
        )


def name(*parts: str) -> str:
    """The name of a kernel among the choices, from everything that it is made of."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def candidates(default: Tile, sums: int) -> list[Tile]:
    """The default tile, then others that fit the registers and cover H with as many vectors.

    >>> [(one.rows, one.vectors) for one in candidates(Tile(16, 1, 6, 8), sums=4)]
    [(6, 1), (5, 1), (7, 1), (3, 2), (2, 2), (1, 4)]

    Arguments:
        sums: accumulators for each row and vector.
    """
    vectors = default.blocks * default.vectors
    found = [default]
    for count in (1, 2, 3, 4):
        if vectors % count or count * sums > default.budget:
            continue
        most = min(_MOST_ROWS, default.budget // (count * sums))
        wide = min(_MOST_ROWS, default.budget * 7 // 6 // (count * sums))
        for rows in (most, most - 1, wide):
            tile = replace(default, vectors=count, rows=max(1, rows), blocks=vectors // count)
            if tile not in found:
                found.append(tile)
    return found


def pick(key: str, default: Tile) -> Tile:
    """The tile of a kernel: the one being tried, the one remembered, or the default."""
    if key in _forced:
        return _with(default, *_forced[key])
    if os.environ.get(SWITCH) == "default":
        return default
    found = _read().get(key)
    return default if found is None else _with(default, found.rows, found.vectors)


def find(key: str) -> Choice | None:
    """What is remembered of a kernel."""
    return _read().get(key)


@contextlib.contextmanager
def trying(key: str, tile: Tile) -> Iterator[None]:
    """Let kernels of that name be made with a tile, in this process."""
    _forced[key] = (tile.rows, tile.vectors)
    try:
        yield
    finally:
        del _forced[key]


def remember(key: str, choice: Choice | None) -> None:
    """Keep a choice, or with None forget it; without a folder, for this process alone."""
    with _lock:
        path = disk.folder()
        found = dict(_read(fresh=True))
        found.pop(key, None)
        if choice is not None:
            found[key] = choice
        _loaded[path or Path()] = found
        if path is None:
            return
        text = json.dumps({k: asdict(v) for k, v in sorted(found.items())}, indent=1)
        with tempfile.NamedTemporaryFile("w", dir=path, prefix=".tiles-", delete=False) as file:
            file.write(text + "\n")
        os.replace(file.name, path / FILE)


def _with(default: Tile, rows: int, vectors: int) -> Tile:
    whole = default.blocks * default.vectors
    if rows < 1 or vectors < 1 or whole % vectors:
        return default
    return replace(default, rows=min(rows, _MOST_ROWS), vectors=vectors, blocks=whole // vectors)


def _read(*, fresh: bool = False) -> dict[str, Choice]:
    """What is remembered; a damaged file counts as none."""
    path = disk.folder() or Path()
    found = _loaded.get(path)
    if found is None or (fresh and path != Path()):
        found = {}
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            content = json.loads((path / FILE).read_text(encoding="utf-8"))
            found = {key: Choice(**entry) for key, entry in content.items()}
        _loaded[path] = found
    return found

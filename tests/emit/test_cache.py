"""The kernel cache on disk: found again, checked, repaired, shared, and refused where unsafe."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest
import torch
from torch import Tensor

from holdfast.cells import CELLS
from holdfast.compiler import build, cache
from holdfast.compiler.emit.llvm_loops import Sizes
from holdfast.compiler.emit.target import host
from holdfast.errors import CacheWarning
from holdfast.nn import operators
from tests.conftest import ROOT
from tests.emit.fresh import forget, fresh
from tests.helpers import assert_same

posix = pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")


def _run(backend: str = "llvm", H: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """A small pass whose numbers depend on nothing but the arguments."""
    cell = CELLS["rnn"]
    generator = torch.Generator().manual_seed(3)

    def values(*size: int) -> Tensor:
        return torch.rand(size, generator=generator, dtype=dtype) - 0.4

    parameters = {name: values(*size) for name, size in cell.shapes(3, H).items()}
    with torch.inference_mode():
        return operators.run(backend, cell, values(4, 2, 3), parameters, values(2, H)).out


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.o"))


def _refuse(*_: object, **__: object) -> NoReturn:
    raise AssertionError("LLVM was asked to assemble, although the entry is on disk")


@pytest.fixture
def patch(tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """A compiler without memory, with an empty cache in `tmp_path`."""
    tmp_path.chmod(0o700)
    with fresh(tmp_path) as found:
        yield found


class Stock(NamedTuple):
    """What one run of `_run` gives: its numbers, and its entries by file name."""

    numbers: Tensor
    entries: dict[str, bytes]


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    """Entries that are built once, for tests that only need some."""
    folder = tmp_path_factory.mktemp("stock")
    with fresh(folder):
        numbers = _run()
    return Stock(numbers, {entry.name: entry.read_bytes() for entry in _entries(folder)})


@pytest.fixture
def filled(patch: pytest.MonkeyPatch, tmp_path: Path, stock: Stock) -> pytest.MonkeyPatch:
    """A compiler without memory, whose cache in `tmp_path` has the entries of the stock."""
    for name, content in stock.entries.items():
        (tmp_path / name).write_bytes(content)
    return patch


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows with each assembly."""
    found: list[str] = []
    real = build.assemble

    def assemble(*arguments: object, **options: object) -> bytes:
        found.append("assembled")
        return real(*arguments, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(build, "assemble", assemble)
    return found


SCRIPT = """
import sys
import torch
from holdfast.compiler import build
from tests.emit.test_cache import _run, _refuse
if sys.argv[1] == "read":
    build.assemble = _refuse
torch.set_num_threads(1)
if sys.argv[1] == "wait":
    print("ready", flush=True)
    sys.stdin.readline()
print(_run().flatten().tolist())
"""


def _process(verb: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SCRIPT, verb],
        cwd=ROOT,
        env=os.environ | {"HOLDFAST_CACHE_DIR": str(folder), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _numbers(line: str) -> Tensor:
    return torch.tensor([float(number) for number in line.strip(" []\n").split(", ")])


def test_another_process_reads_the_entry_and_assembles_nothing(
    patch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mine = _run()
    entries = _entries(tmp_path)
    assert entries
    assert all(stat.S_IMODE(entry.stat().st_mode) == 0o600 for entry in entries)
    out, errors = _process("read", tmp_path).communicate(timeout=120)
    assert not errors
    assert torch.equal(_numbers(out), mine.flatten())
    assert _entries(tmp_path) == entries


@pytest.mark.slow
def test_without_an_entry_the_other_process_would_have_assembled(tmp_path: Path) -> None:
    """The check above can fail."""
    _, errors = _process("read", tmp_path).communicate(timeout=120)
    assert "although the entry is on disk" in errors


def test_a_kernel_in_memory_needs_no_disk(filled: pytest.MonkeyPatch, tmp_path: Path) -> None:
    filled.setattr(build, "assemble", _refuse)
    first = _run()
    for entry in _entries(tmp_path):
        entry.unlink()
    assert torch.equal(_run(), first)
    assert not _entries(tmp_path)


def _flip(place: int) -> Callable[[bytes], bytes]:
    def flip(content: bytes) -> bytes:
        at = place % len(content)
        return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]

    return flip


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "head_only": lambda content: content[:11],
    "truncated": lambda content: content[: len(content) // 2],
    "one_byte_short": lambda content: content[:-1],
    "one_byte_more": lambda content: content + b"\0",
    "other_magic": _flip(9),
    "flipped_in_digest": _flip(20),
    "flipped_in_code": _flip(500),
    "flipped_at_end": _flip(-1),
    "no_code": lambda content: content[:43],
    "something_else": lambda _: b"\x7fELF" + b"\x90" * 4000,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_counts_as_missing(
    damage: str, filled: pytest.MonkeyPatch, tmp_path: Path, stock: Stock
) -> None:
    for name, content in stock.entries.items():
        assert cache.read(name.removesuffix(".o")) is not None
        (tmp_path / name).write_bytes(DAMAGES[damage](content))
        assert cache.read(name.removesuffix(".o")) is None


@pytest.mark.parametrize(
    "damage",
    [
        name if name == "truncated" else pytest.param(name, marks=pytest.mark.slow)
        for name in DAMAGES
    ],
)
def test_a_damaged_entry_is_built_again_and_repaired(
    damage: str, filled: pytest.MonkeyPatch, tmp_path: Path, stock: Stock, built: list[str]
) -> None:
    for name, content in stock.entries.items():
        damaged = DAMAGES[damage](content)
        assert damaged != content
        (tmp_path / name).write_bytes(damaged)
    assert torch.equal(_run(), stock.numbers)
    assert len(built) == len(stock.entries)
    assert {entry.name: entry.read_bytes() for entry in _entries(tmp_path)} == stock.entries
    del built[:]
    forget(filled)
    assert torch.equal(_run(), stock.numbers)
    assert not built


def test_code_without_the_kernel_is_built_again(
    patch: pytest.MonkeyPatch, stock: Stock, built: list[str]
) -> None:
    """A digest that fits does not make the content the kernel."""
    strange = build.assemble("define void @strange() { ret void }", host())
    for name in stock.entries:
        cache.write(name.removesuffix(".o"), strange)
    del built[:]
    assert torch.equal(_run(), stock.numbers)
    assert len(built) == len(stock.entries)


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_that_build_at_once_leave_whole_entries(
    count: int, tmp_path: Path, stock: Stock
) -> None:
    tmp_path.chmod(0o700)
    started = [_process("wait", tmp_path) for _ in range(count)]
    for process in started:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate(timeout=120) for process in started]
    assert [errors for _, errors in results] == [""] * count
    entries = _entries(tmp_path)
    assert sorted(tmp_path.iterdir()) == entries, "temporary files were left"
    assert {entry.name: entry.read_bytes() for entry in entries} == stock.entries
    assert all(torch.equal(_numbers(out), stock.numbers.flatten()) for out, _ in results)


def _works_without_disk(expected: str, folder: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mine = _run()
        _run(H=6)
    assert [warning.category for warning in caught] == [CacheWarning]
    message = str(caught[0].message)
    assert expected in message
    assert str(folder) in message
    assert_same(mine, _run("eager"))


MODES = (0o770, 0o702, 0o1777)


@posix
@pytest.mark.parametrize("mode", MODES, ids=oct)
def test_a_folder_that_others_can_write_to_is_unsafe(mode: int, tmp_path: Path) -> None:
    tmp_path.chmod(mode)
    assert "others can write to it" in cache.unsafe(tmp_path)
    tmp_path.chmod(0o755)
    assert not cache.unsafe(tmp_path)


@posix
@pytest.mark.parametrize(
    "mode", [MODES[0], *(pytest.param(mode, marks=pytest.mark.slow) for mode in MODES[1:])], ids=oct
)
def test_a_folder_that_others_can_write_to_is_refused(
    mode: int, filled: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = _entries(tmp_path)
    tmp_path.chmod(mode)
    _works_without_disk("others can write to it", tmp_path)
    assert _entries(tmp_path) == before
    assert cache.read(before[0].stem) is None, "an entry of an unsafe folder was read"
    tmp_path.chmod(0o700)
    assert cache.read(before[0].stem) is not None


@posix
def test_a_folder_of_someone_else_is_refused(patch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    owner = os.geteuid()
    patch.setattr(os, "geteuid", lambda: owner + 1)
    _works_without_disk(f"it belongs to user {owner}", tmp_path)
    assert not list(tmp_path.iterdir())


@posix
def test_a_folder_that_is_made_belongs_to_the_user_alone(
    patch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "kernels"
    patch.setenv("HOLDFAST_CACHE_DIR", str(folder))
    before = os.umask(0)
    try:
        assert cache.folder() == folder
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made(patch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    patch.setenv("HOLDFAST_CACHE_DIR", str(file / "kernels"))
    _works_without_disk("it cannot be made", file / "kernels")


def test_an_empty_name_turns_the_disk_off(
    patch: pytest.MonkeyPatch, tmp_path: Path, built: list[str]
) -> None:
    patch.setenv("HOLDFAST_CACHE_DIR", "")
    patch.setenv("XDG_CACHE_HOME", str(tmp_path))
    patch.setenv("HOME", str(tmp_path))
    assert cache.folder() is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = _run()
        count = len(built)
        forget(patch)
        assert torch.equal(_run(), first)
    assert len(built) == 2 * count > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other folders")
def test_the_folder_without_a_name(patch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    patch.delenv("HOLDFAST_CACHE_DIR")
    patch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder() == tmp_path / "xdg" / "holdfast"
    patch.delenv("XDG_CACHE_HOME")
    patch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / ".cache" / "holdfast"


def test_a_full_disk_is_a_warning(patch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(os, "replace", full)
    _works_without_disk("No space left", tmp_path)
    assert not list(tmp_path.iterdir()), "a temporary file was left"


def test_a_kernel_has_a_name_of_its_own(
    patch: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that makes machine code differ makes its name differ."""
    written: list[str] = []
    code = build.assemble(
        "define void @whole() { ret void } define void @part() { ret void }", host()
    )
    monkeypatch.setattr(build, "team", lambda: None)
    monkeypatch.setattr(build, "assemble", lambda *_: code)
    monkeypatch.setattr(build.emit, "emit", lambda *_: "")
    monkeypatch.setattr(cache, "read", lambda _: None)
    monkeypatch.setattr(cache, "write", lambda key, _: written.append(key))

    def keys(
        cell: str = "rnn",
        mode: str = "infer",
        dtype: torch.dtype = torch.float32,
        I: int = 3,
        H: int = 5,
    ) -> list[str]:
        del written[:]
        forget(patch)
        build.kernel(CELLS[cell], mode, dtype, Sizes(I, H))
        return list(written)

    seen = keys()
    assert len(seen) == 1
    assert keys() == seen, "the same kernel, another name"
    changes: tuple[dict[str, Any], ...] = (
        {"cell": "rnn_relu"},
        {"mode": "train"},
        {"mode": "backward"},
        {"dtype": torch.float64},
        {"I": 4},
        {"H": 6},
    )
    for change in changes:
        seen += keys(**change)
    target = host()
    for other in (replace(target, registers=15), replace(target, cpu="x86-64-v2")):
        with monkeypatch.context() as inner:
            inner.setattr(build, "host", lambda other=other: other)
            seen += keys()
    with monkeypatch.context() as inner:
        inner.setattr(cache, "emitter_digest", lambda: "other emitters")
        seen += keys()
    with monkeypatch.context() as inner:
        inner.setattr(build.llvm, "llvm_version_info", (0, 0, 1))
        seen += keys()
    assert len(set(seen)) == len(seen) == 11


def test_the_digest_of_the_emitters_follows_their_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def digest() -> str:
        cache.emitter_digest.cache_clear()
        return cache.emitter_digest()

    real = digest()
    (tmp_path / "emit").mkdir()
    for name in ("build.py", "emit/llvm.py"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "cache.py"))
    seen = [real, digest()]
    for name in ("build.py", "emit/llvm.py"):
        (tmp_path / name).write_text("changed")
        seen.append(digest())
    monkeypatch.undo()
    assert digest() == real
    assert len(set(seen)) == len(seen)


def test_the_oldest_entries_are_dropped(patch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    patch.setattr(cache, "_MOST_ENTRIES", 8)
    for number in range(8):
        cache.write(f"{number:064}", b"code")
        os.utime(tmp_path / f"{number:064}.o", (1000 - number, 1000 - number))
    (tmp_path / "notes.txt").write_text("not an entry")
    assert len(_entries(tmp_path)) == 8
    cache.write("f" * 64, b"code")
    left = [entry.stem for entry in _entries(tmp_path)]
    assert left == [*(f"{number:064}" for number in range(6)), "f" * 64]
    assert (tmp_path / "notes.txt").exists()


def test_an_entry_that_another_process_dropped_is_no_trouble(
    patch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two processes may prune at once; a name that is listed may be gone a moment later."""
    patch.setattr(cache, "_MOST_ENTRIES", 2)
    for number in range(2):
        cache.write(f"{number:064}", b"code")
    gone = tmp_path / ("e" * 64 + ".o")
    real = Path.glob

    def glob(self: Path, pattern: str) -> list[Path]:
        return [*real(self, pattern), gone]

    patch.setattr(Path, "glob", glob)
    cache.write("f" * 64, b"code")
    assert cache.read("f" * 64) == b"code"


def test_what_a_killed_writer_left_is_dropped(patch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A temporary file goes once it is too old to belong to a process that is writing it."""
    left = tmp_path / ".deadbeef-1234"
    left.write_bytes(b"half")
    fresh = tmp_path / ".deadbeef-5678"
    fresh.write_bytes(b"half")
    os.utime(left, (0.0, 0.0))
    cache.write("a" * 64, b"code")
    assert not left.exists()
    assert fresh.exists()

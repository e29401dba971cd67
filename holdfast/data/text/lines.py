"""Lines of text files, also of .gz and .xz, each with the place it comes from."""

from __future__ import annotations

import gzip
import lzma
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from holdfast.errors import DataError

Source = str | os.PathLike[str]


def read_lines(path: Source, *, encoding: str = "utf-8") -> list[str]:
    """The lines of a text file, one text each, without their ends.

    >>> from pathlib import Path
    >>> _ = Path("two.txt").write_bytes(b"one\\r\\n\\nthree")
    >>> read_lines("two.txt")
    ['one', '', 'three']

    Lines end with `\\n` or `\\r\\n` and with nothing else; the last one may do without. An empty
    line is an empty text. A mark of the byte order at the beginning is left out.

    Arguments:
        path: a text file, or one packed as .gz or .xz.
        encoding: how characters are written; a file in another encoding is refused.

    Errors: `DataError`, with file and line, where the file cannot be read or decoded.
    """
    return [text for _, text in numbered(path, encoding=encoding)]


def numbered(path: Source, *, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Each line with its number, from 1, while the file is being read.

    Errors: as `read_lines`.
    """
    number = 0
    try:
        if "\n".encode(encoding) != b"\n":
            raise DataError(f"{path}: {encoding} has no lines of bytes; convert the file to utf-8")
        with opened(path) as file:
            for number, raw in enumerate(file, 1):
                text = raw.decode(encoding)
                if number == 1:
                    text = text.removeprefix("\ufeff")
                yield number, text.removesuffix("\n").removesuffix("\r")
    except LookupError:
        raise DataError(f"there is no encoding {encoding!r}; try utf-8 or latin-1") from None
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise DataError(
            f"{path}:{number}: byte {error.start + 1} of the line, 0x{byte:02x}, is not "
            f"{encoding}; give the encoding that the file was written in, such as 'latin-1'"
        ) from None
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise DataError(
            f"{path}:{number + 1}: cannot be unpacked ({error}); the file is damaged or cut off"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def opened(path: Source) -> IO[bytes]:
    """A file to read bytes from, unpacked where its name ends in .gz or .xz."""
    name = Path(path).name.lower()
    if name.endswith(".gz"):
        return cast("IO[bytes]", gzip.open(path, "rb"))
    if name.endswith(".xz"):
        return lzma.open(path, "rb")
    return open(path, "rb")


def read_parallel(*paths: Source, encoding: str = "utf-8") -> list[tuple[str, ...]]:
    """Lines that belong together, one from each file: a sentence and its translation.

    >>> from pathlib import Path
    >>> _ = Path("a.en").write_text("yes\\nno\\n"), Path("a.de").write_text("ja\\nnein\\n")
    >>> read_parallel("a.en", "a.de")
    [('yes', 'ja'), ('no', 'nein')]

    Blank lines at the end of a file are left out, elsewhere they are empty texts.

    Errors: as `read_lines`; `DataError` with the counts where the files have unequal numbers of
    lines.
    """
    if len(paths) < 2:
        raise DataError(f"got {len(paths)} file, expected at least two that belong together")
    found = []
    for path in paths:
        lines = read_lines(path, encoding=encoding)
        while lines and not lines[-1].strip():
            lines.pop()
        found.append(lines)
    counts = [len(lines) for lines in found]
    if len(set(counts)) > 1:
        told = " and ".join(f"{path} has {n} lines" for path, n in zip(paths, counts, strict=True))
        raise DataError(f"{told}; each line needs one in every file, so correct the files")
    return list(zip(*found, strict=True))

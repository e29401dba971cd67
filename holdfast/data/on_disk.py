"""Arrays that live in files without a name: larger than memory, and gone with the process."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Any

import numpy as np

from holdfast.errors import DataError


def disk_array(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of zeros in a temporary file, which the system removes when the array is gone.

    The file lies in the folder of temporary files, ``TMPDIR``. Raises `DataError` when it is full.

    >>> float(disk_array((2, 3), np.float32).sum())
    0.0
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if not size:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile() as file:
        try:
            # A file with holes would fail only when a page of it is written, and with a signal.
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise full(error) from error
        return np.asarray(np.memmap(file, dtype, mode="r+", shape=shape))


class Growing:
    """An array on disk to which rows are added: (n, C), or (n,) where `width` is None."""

    def __init__(self, dtype: Any, width: int | None = None) -> None:
        self.dtype, self.width, self.rows = np.dtype(dtype), width, 0
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)

    def add(self, values: np.ndarray) -> None:
        """Add rows at the end."""
        self.rows += len(values)
        try:
            self.file.write(np.array(values, self.dtype).reshape(-1).view(np.uint8).data)
        except OSError as error:
            raise full(error) from error

    def finish(self) -> np.ndarray:
        """All rows, as an array in the file, which stays when this is closed."""
        shape = (self.rows,) if self.width is None else (self.rows, self.width)
        if not int(np.prod(shape)):
            return np.zeros(shape, self.dtype)
        try:
            self.file.flush()
        except OSError as error:
            raise full(error) from error
        return np.asarray(np.memmap(self.file, self.dtype, mode="r+", shape=shape))

    def close(self) -> None:
        """Let go of the file; the system removes it with the last array in it."""
        # What could not be written is told by `add`; closing would only try it again.
        with contextlib.suppress(OSError):
            self.file.close()


def full(error: OSError) -> DataError:
    """What is said when a temporary file cannot be written."""
    return DataError(
        f"{tempfile.gettempdir()}: cannot hold the table ({error.strerror}); free some space, or "
        "name another folder in the environment variable TMPDIR"
    )

"""A training that may be interrupted: its files, and whether to begin or to go on."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import ModelError
from holdfast.tasks.model_folder import CONFIG


@dataclass(frozen=True)
class Attempt:
    """A model folder to be written, and the files beside it while training is under way.

    The first network's checkpoint is ``OUT.checkpoint``; those of further ones, and what an
    automatic choice has found, have names that go on from it.
    """

    out: Path
    resume: bool = False
    restart: bool = False

    @property
    def checkpoint(self) -> Path:
        """The first network's checkpoint."""
        return self.out.with_name(self.out.name + ".checkpoint")

    def files(self) -> list[Path]:
        """The files of this attempt that are there."""
        found = [self.checkpoint, *self.out.parent.glob(f"{glob.escape(self.checkpoint.name)}.*")]
        return [file for file in found if file.is_file()]

    def begun(self) -> bool:
        """Whether there is something to go on from."""
        return bool(self.files())

    def finished(self) -> bool:
        """Whether there is nothing left to do.

        Raises `ModelError` where going on, or beginning again, would need the user's word.
        """
        if self.restart:
            if self.out.exists() and not (self.out / CONFIG).is_file():
                raise ModelError(f"{self.out}: exists and is no model folder; choose another --out")
            self.clear()
            return False
        if self.begun() and not self.resume:
            raise ModelError(
                f"{self.files()[0]}: holds an unfinished training; pass --resume to go on with it, "
                "or --restart to begin again"
            )
        if self.out.exists():
            if self.resume and (self.out / CONFIG).is_file():
                return True
            raise ModelError(f"{self.out}: exists already; choose another --out, or pass --restart")
        return False

    def clear(self) -> None:
        """Remove the files beside the model."""
        for file in self.files():
            try:
                file.unlink()
            except OSError as error:
                raise ModelError(f"{file}: cannot be removed ({error.strerror})") from error

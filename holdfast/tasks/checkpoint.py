"""Training that can be killed: all that an epoch leaves behind, in one file without pickles.

The file is in safetensors format: tensors of the network, of its running average, of the best epoch
and of the optimizer; the rest is JSON in the header. Random numbers need no saving: those of an
epoch come from a generator seeded with (seed, epoch).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from holdfast.data.atomic import write_file
from holdfast.errors import ModelError

FORMAT = "holdfast.checkpoint"
VERSION = 1


@dataclass
class Progress:
    """Where training stands after an epoch.

    `history` holds a dict an epoch (``epoch``, ``train_loss``, ``valid_loss`` and what a task
    measures beside), `best_loss` is the error of the best, `identity` what must be the same for
    training to go on: settings and the hash of the data.
    """

    identity: dict[str, Any]
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_loss: float = float("inf")
    steps: int = 0
    module: dict[str, Tensor] = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Tensor] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """How many epochs are done."""
        return len(self.history)


@dataclass(frozen=True)
class Run:
    """How a training is kept: its checkpoint, whether it goes on from it, and who is told."""

    checkpoint: Path | None = None
    resume: bool = False
    report: Callable[[Progress], None] | None = None

    def file(self, member: int = 0) -> Path | None:
        """The checkpoint of one of several networks."""
        if self.checkpoint is None or not member:
            return self.checkpoint
        return self.checkpoint.with_name(f"{self.checkpoint.name}.{member}")

    def progress(self, identity: dict[str, Any], member: int = 0) -> Progress:
        """Where a training stands: at its beginning, or at the checkpoint to go on from.

        Errors: `ModelError` for a checkpoint of other settings or data.
        """
        file = self.file(member)
        if self.resume and file is not None and file.exists():
            return load_progress(file, identity)
        return Progress(identity)


GROUPS = ("module", "average", "best", "optimizer")
PLAIN = ("history", "best_epoch", "best_loss", "steps", "identity")


def save_progress(progress: Progress, path: Path) -> None:
    """Write the checkpoint in one step. Raises `ModelError` when the disk is full."""
    tensors = {
        f"{group}/{name}": tensor.detach().cpu().contiguous()
        for group in GROUPS
        for name, tensor in getattr(progress, group).items()
    }
    header = {name: getattr(progress, name) for name in PLAIN}
    metadata = {"format": FORMAT, "version": str(VERSION), "progress": json.dumps(header)}
    write_file(path, safetensors.torch.save(tensors, metadata))


def load_progress(path: Path, identity: dict[str, Any]) -> Progress:
    """The checkpoint at `path`, if it belongs to the same settings and data.

    Raises `ModelError` when the file is damaged, or was made from other settings or data.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if metadata.get("format") != FORMAT or metadata.get("version") != str(VERSION):
            raise ModelError(
                f"{path}: not a checkpoint of format {FORMAT} {VERSION}; pass --restart to begin "
                "again"
            )
        header = json.loads(metadata["progress"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"{path}: the checkpoint is damaged ({error}); pass --restart to begin again"
        ) from error
    mine, theirs = json.loads(json.dumps(identity)), header["identity"]
    for key in sorted(mine.keys() | theirs.keys()):
        if mine.get(key) != theirs.get(key):
            raise ModelError(
                f"{path}: made with {key} = {theirs.get(key)!r}, now {mine.get(key)!r}; use the "
                "same settings and data, or pass --restart to begin again"
            )
    groups: dict[str, dict[str, Tensor]] = {group: {} for group in GROUPS}
    for name, tensor in tensors.items():
        group, _, key = name.partition("/")
        groups[group][key] = tensor
    return Progress(
        history=header["history"],
        best_epoch=header["best_epoch"],
        best_loss=header["best_loss"],
        steps=header.get("steps", 0),
        identity=theirs,
        **groups,
    )

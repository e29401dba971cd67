"""A model on disk: `model.safetensors`, `config.json`, `card.md` and what a task adds.

Nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from holdfast.data.atomic import write_folder
from holdfast.errors import ModelError

FORMAT_VERSION = 1
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "card.md"


def save_model(
    path: Path,
    format: str,
    config: dict[str, Any],
    module: nn.Module,
    card: str,
    more: dict[str, bytes] | None = None,
) -> None:
    """Write the folder in one step: it is whole or not there.

    `more` are further files by name, such as vocabularies.

    Raises `ModelError` when the disk is full or the place cannot be written.
    """
    tensors = {name: t.detach().cpu().contiguous() for name, t in module.state_dict().items()}
    written = {"format": format, "format_version": FORMAT_VERSION, **config}
    files = {
        WEIGHTS: safetensors.torch.save(tensors, {"format": "pt"}),
        CONFIG: (json.dumps(written, indent=2, allow_nan=False) + "\n").encode(),
        CARD: card.encode(),
        **(more or {}),
    }
    write_folder(path, files)


@contextmanager
def whole(folder: Path) -> Iterator[None]:
    """Make a model of its configuration in here: `ModelError` where something is not there."""
    try:
        yield
    except ModelError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelError(
            f"{folder / CONFIG}: incomplete ({error}); train or copy the model again"
        ) from error


def load_config(path: Path, format: str) -> dict[str, Any]:
    """The checked configuration of the model folder at `path`.

    Raises `ModelError` for a folder that is missing, is no model of this kind, or is too new.
    """
    if not path.is_dir():
        raise ModelError(
            f"{path}: there is no such model folder; check the path, or train one first"
        )
    file = path / CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"{path}: not a model folder ({CONFIG}: {error.strerror}); give the folder that fit "
            "wrote"
        ) from error
    except ValueError as error:
        raise ModelError(f"{file}: damaged ({error}); train or copy the model again") from error
    found = config.get("format") if isinstance(config, dict) else None
    if found != format:
        raise ModelError(f"{file}: holds format {found!r}, expected {format!r}; give another model")
    version = config.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ModelError(
            f"{file}: format version {version}, this Holdfast reads up to {FORMAT_VERSION}; "
            "upgrade Holdfast, or train the model again"
        )
    return config


def load_weights(path: Path, module: nn.Module) -> None:
    """Put the weights of the model folder at `path` into `module`.

    Raises `ModelError` when they are missing, truncated or of another network.
    """
    file = path / WEIGHTS
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(file.read_bytes())
    except OSError as error:
        raise ModelError(
            f"{file}: cannot be read ({error.strerror}); train or copy the model again"
        ) from error
    except (SafetensorError, ValueError) as error:
        raise ModelError(
            f"{file}: truncated or damaged ({error}); train or copy the model again"
        ) from error
    own = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    theirs = {name: tuple(t.shape) for name, t in tensors.items()}
    for name in sorted(own.keys() | theirs.keys()):
        if own.get(name) != theirs.get(name):
            raise ModelError(
                f"{file}: {name} has shape {theirs.get(name)}, {CONFIG} asks for {own.get(name)}; "
                "weights and configuration belong to different models"
            )
    module.load_state_dict(tensors)
